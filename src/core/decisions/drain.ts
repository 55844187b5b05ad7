/**
 * GPUs that are being emptied. A cordon with an instant to be empty by ends the leases that are still there then; their
 * clients are told when it is put up, and may leave by themselves.
 *
 *  1. A lease leaves with the first of its GPUs: it cannot go on with the rest.
 *  2. The last word counts: another cordon of the same GPU replaces the instant, and one without any takes it away.
 *  3. A cordon of the host and that of a GPU stand beside each other; the earlier instant counts, and lifting one leaves
 *     the other.
 */
import type { EpochMs } from "../base/time.ts";
import { cordonReason, cordonsOf, withItsInstances } from "../host/cordons.ts";
import type { Event } from "../host/events.ts";
import type { HostState } from "../host/state.ts";
import type { HoldingAllocation } from "../model/allocation.ts";
import type { Cordon, Gpu } from "../model/gpu.ts";
import { holdersOf } from "../model/holds.ts";
import type { AllocationId } from "../model/ids.ts";

/** The cordon that ends a lease, and when; of several the first, and the GPU's own before the host's. */
function urgent(gpu: Gpu, state: HostState): { readonly until: EpochMs; readonly reason: string } | null {
  let found: { until: EpochMs; reason: string } | null = null;
  for (const cordon of cordonsOf(gpu, state)) {
    const until = cordon.drainBy;
    if (until !== null && until < (found?.until ?? Infinity)) found = { until, reason: cordonReason(cordon) };
  }
  return found;
}

/** What the leases must be told, now that cordons are as they are in `state`. */
export function drainNotices(state: HostState, now: EpochMs): readonly Event[] {
  const due = new Map<AllocationId, { readonly until: EpochMs; readonly reason: string } | null>();
  for (const gpu of state.gpus.values()) {
    for (const { allocationId: id } of holdersOf(gpu.hold)) {
      const here = urgent(gpu, state);
      const before = due.get(id) ?? null;
      due.set(id, here !== null && (before === null || here.until < before.until) ? here : before);
    }
  }
  const events: Event[] = [];
  for (const [id, wanted] of due) {
    const { notice } = state.allocations.get(id) as HoldingAllocation;
    const told = notice?.kind === "drain" ? notice : null;
    if (wanted === null) {
      if (told !== null)
        events.push({ type: "notice-withdrawn", id, at: now, reason: "its GPUs are not drained any more" });
    } else if (told?.until !== wanted.until || told.reason !== wanted.reason) {
      events.push({ type: "draining", id, at: now, ...wanted });
    }
  }
  return events;
}

/** The cordons that would end leases before `earliest`, with that as their instant. */
export function drainsPutOff(state: HostState, earliest: EpochMs): readonly Event[] {
  const events: Event[] = [];
  let leased = false;
  for (const gpu of state.gpus.values()) {
    if (withItsInstances(gpu, state).every((one) => holdersOf(one.hold).length === 0)) continue;
    leased = true;
    if (isDueBefore(gpu.cordon, earliest)) {
      const { at, by, reason } = gpu.cordon;
      events.push({ type: "gpu-cordoned", uuid: gpu.uuid, at, by, reason, drainBy: earliest });
    }
  }
  if (leased && isDueBefore(state.cordon, earliest)) {
    const { at, by, reason } = state.cordon;
    events.push({ type: "host-cordoned", at, by, reason, drainBy: earliest });
  }
  return events;
}

function isDueBefore(cordon: Cordon | null, instant: EpochMs): cordon is Cordon {
  return cordon !== null && cordon.drainBy !== null && cordon.drainBy < instant;
}
