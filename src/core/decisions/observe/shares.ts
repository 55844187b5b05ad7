/** What a reading says of a shared GPU, lease by lease. */

import type { EpochMs } from "../../base/time.ts";
import type { Event } from "../../host/events.ts";
import {
  hasReturned,
  type MemoryUse,
  memoryUseOf,
  READINGS_TO_SETTLE,
  SETTLED_SLACK_MIB,
} from "../../host/shared-memory.ts";
import type { GpuSight } from "../../host/sight.ts";
import type { HostState } from "../../host/state.ts";
import type { Share } from "../../model/gpu.ts";
import type { SharedHold } from "../../model/holds.ts";
import type { GpuUuid } from "../../model/ids.ts";
import type { Policy } from "../../model/policy.ts";
import type { GpuReading } from "../../model/reading.ts";
import { idleCeilingMib, occupying } from "../../readings/use.ts";

/**
 * The events that the latest reading of a shared GPU brings, which is in `state` already.
 *
 * @param startedAt when the reading began: only what began after a lease's begin or end tells of it.
 */
export function shareEvents(
  uuid: GpuUuid,
  hold: SharedHold,
  state: HostState,
  startedAt: EpochMs,
  now: EpochMs,
): readonly Event[] {
  const sight = state.sight.gpus.get(uuid);
  if (sight === undefined) return [];
  const { reading, owners } = sight;
  const events: Event[] = [];
  const memoryUse = memoryUseOf(hold, reading, owners);
  for (const share of hold.shares) {
    if (startedAt < share.since) continue;
    const { allocationId, use } = share;
    const inUse = useOfShare(share, hold, sight, state);
    if (inUse === true && use.since === null) events.push({ type: "use-seen", uuid, allocationId, at: now });
    if (inUse === false && use.since !== null) events.push({ type: "use-gone", uuid, allocationId, at: now });
    if (hasSettled(share, inUse === true, sight, startedAt, state.policy)) {
      events.push({ type: "memory-settled", uuid, allocationId, at: now, seen: true });
    }
    if (memoryUse !== null) events.push(...outgrowth(uuid, share, memoryUse, now));
  }
  const levelMib = emptyLevelMib(reading, hold.baselineMib);
  let left = hold;
  for (const { allocationId, since } of hold.remains) {
    // Only a reading that began after the end can prove that nothing is left.
    if (startedAt < since || levelMib === null || !hasReturned(allocationId, left, reading, owners, levelMib)) continue;
    left = { ...left, remains: left.remains.filter((one) => one.allocationId !== allocationId) };
    events.push({ type: "memory-returned", uuid, allocationId, at: now });
  }
  return events;
}

/** MiB up to which a GPU counts as empty; `null`: its size is not known. */
export function emptyLevelMib(reading: GpuReading, baselineMib: number): number | null {
  if (reading.memoryTotalMib === null) return null;
  return Math.max(baselineMib + SETTLED_SLACK_MIB, idleCeilingMib(reading.memoryTotalMib, reading));
}

/**
 * Whether a lease uses its part of a GPU: a process is known to be its, or, while none is, more memory is in use than
 * at its grant, which may be its. `null`: that cannot be read.
 */
function useOfShare({ allocationId }: Share, hold: SharedHold, sight: GpuSight, state: HostState): boolean | null {
  const { reading, owners } = sight;
  if (reading.processes.some(({ pid }) => owners.get(pid) === allocationId)) return true;
  const allocation = state.allocations.get(allocationId);
  const lease = allocation === undefined || allocation.status === "queued" ? null : allocation.lease;
  const baselineMib = lease?.gpus.find(({ uuid }) => uuid === reading.uuid)?.baselineMib ?? hold.baselineMib;
  const unknown = occupying(reading).some(({ pid }) => !owners.has(pid));
  if (hold.shares.length === 1 && hold.remains.length === 0 && unknown) return true;
  return reading.memoryUsedMib === null ? null : reading.memoryUsedMib > baselineMib + SETTLED_SLACK_MIB;
}

/** Whether a lease that is in use has stopped to take more. */
function hasSettled(
  share: Share,
  inUse: boolean,
  { stillness }: GpuSight,
  startedAt: EpochMs,
  { sharing }: Policy,
): boolean {
  if (share.settledAt !== null || share.startedAt === null || !inUse || stillness === null) return false;
  // What stood still before it started tells nothing of it.
  const since = Math.max(stillness.since, share.startedAt, share.use.since ?? startedAt);
  return stillness.readings >= READINGS_TO_SETTLE && startedAt - since >= sharing.settleAfterMs;
}

/**
 * Flagged beyond the reservation and some slack, and cleared within the reservation: no flapping in between. Flagged by
 * what is known to be its; and cleared when it cannot be more than that, which all unknown memory might be.
 */
function outgrowth(uuid: GpuUuid, share: Share, { ownMib, restMib }: MemoryUse, now: EpochMs): Event[] {
  const { allocationId: id, memoryMib: reservedMib, overSince } = share;
  const usedMib = ownMib.get(id);
  if (overSince !== null) {
    return (usedMib ?? restMib) <= reservedMib ? [{ type: "went-within-memory", id, uuid, at: now }] : [];
  }
  if (usedMib === undefined || usedMib <= reservedMib + SETTLED_SLACK_MIB) return [];
  return [{ type: "went-over-memory", id, uuid, at: now, usedMib, reservedMib }];
}
