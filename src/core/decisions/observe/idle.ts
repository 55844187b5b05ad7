/**
 * Leases without a TTL that hold GPUs which nobody uses. With a TTL, a lease ends by itself unless somebody renews it.
 *
 *  1. Unknown is not idle: only what unbroken series of readings have shown counts, and a change is made on a reading,
 *     never by a timer.
 *  2. A flag stays until use is seen or the lease becomes an offer again, over restarts and silence of the monitor too;
 *     afterwards the lease can go idle again.
 */

import type { EpochMs } from "../../base/time.ts";
import type { HostState } from "../../host/state.ts";
import type { LeasedAllocation } from "../../model/allocation.ts";
import type { Gpu, GpuHold } from "../../model/gpu.ts";
import { holdersOf, useBy } from "../../model/holds.ts";
import type { AllocationId } from "../../model/ids.ts";
import { lastUseEnd } from "../../model/use.ts";

export type IdleChange =
  /** To be flagged, or to be ended: none of its GPUs has been in use since `since`. */
  | { readonly kind: "idle" | "reclaim"; readonly allocation: LeasedAllocation; readonly since: EpochMs }
  /** Flagged, and in use. */
  | { readonly kind: "busy"; readonly allocation: LeasedAllocation };

/**
 * What a good reading, which is in `state` already, changes for those leases.
 *
 * @param seenAt when the reading began.
 */
export function idleChanges(state: HostState, seenAt: EpochMs): readonly IdleChange[] {
  const { idleAfterMs, reclaimIdleAfterMs } = state.policy;
  const changes: IdleChange[] = [];
  for (const [allocation, gpus] of leasesWithoutTtl(state)) {
    if (allocation.idleSince !== null && gpus.some(({ hold }) => isInUse(hold, allocation))) {
      changes.push({ kind: "busy", allocation });
      continue;
    }
    const since = unusedSince(allocation, gpus, state, seenAt);
    if (since === null) continue;
    const unusedMs = seenAt - since;
    if (reclaimIdleAfterMs !== null && unusedMs >= idleAfterMs + reclaimIdleAfterMs) {
      changes.push({ kind: "reclaim", allocation, since });
    } else if (allocation.idleSince === null && unusedMs >= idleAfterMs) {
      changes.push({ kind: "idle", allocation, since });
    }
  }
  return changes;
}

/** By their GPUs, of which there are few, rather than by all that is live. */
function leasesWithoutTtl(state: HostState): Map<LeasedAllocation, readonly Gpu[]> {
  const found = new Map<AllocationId, readonly [LeasedAllocation, Gpu[]]>();
  for (const gpu of state.gpus.values()) {
    for (const { allocationId } of holdersOf(gpu.hold)) {
      const known = found.get(allocationId);
      const allocation = known?.[0] ?? state.allocations.get(allocationId);
      if (allocation?.status !== "leased" || allocation.request.ttlMs !== null) continue;
      if (known === undefined) found.set(allocationId, [allocation, [gpu]]);
      else known[1].push(gpu);
    }
  }
  return new Map(found.values());
}

function isInUse(hold: GpuHold, { request }: LeasedAllocation): boolean {
  return (useBy(hold, request.id)?.since ?? null) !== null;
}

/** Since when it has been seen that nobody uses any GPU of a lease; `null` when that cannot be said. */
function unusedSince(
  { request, lease }: LeasedAllocation,
  gpus: readonly Gpu[],
  state: HostState,
  seenAt: EpochMs,
): EpochMs | null {
  let latest = lease.grantedAt;
  for (const { uuid, hold } of gpus) {
    const use = useBy(hold, request.id);
    if (use === null || use.since !== null) return null;
    const sight = state.sight.gpus.get(uuid);
    // Missing from this reading, or there without telling whether it is used.
    if (sight?.watch === undefined || sight.watch === null || sight.watch.until < seenAt) return null;
    latest = Math.max(latest, sight.watch.since, lastUseEnd(use) ?? latest);
  }
  return latest;
}
