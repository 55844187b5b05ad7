/** A decision in the making. */

import type { EpochMs } from "../base/time.ts";
import type { Event } from "../host/events.ts";
import { endedRecord, evolve } from "../host/evolve.ts";
import type { HostState } from "../host/state.ts";
import type { EndedAllocation, EndReason, HoldingAllocation, LiveAllocation } from "../model/allocation.ts";
import { useBy } from "../model/holds.ts";
import type { GpuUuid } from "../model/ids.ts";
import { wasUsed } from "../model/use.ts";

/** A lease younger than this at its end was not used long enough to dirty a GPU unseen. */
const TOO_YOUNG_TO_VERIFY_MS = 1_000;

/** A state in the making: every event is folded as it is written down. */
export class Drafting {
  readonly events: Event[] = [];
  readonly ended: EndedAllocation[] = [];
  state: HostState;
  constructor(state: HostState) {
    this.state = state;
  }
  write(event: Event): void {
    this.events.push(event);
    if (event.type === "ended") this.ended.push(endedRecord(this.state, event));
    this.state = evolve(this.state, event);
  }
}

/** Ends one allocation, and says which of its GPUs must be seen empty before they are granted again. */
export function end(
  draft: Drafting,
  allocation: LiveAllocation,
  reason: EndReason,
  now: EpochMs,
  detail: string | null = null,
): void {
  const verify: GpuUuid[] = [];
  if (allocation.status !== "queued") {
    for (const { uuid } of allocation.lease.gpus) {
      if (mustVerify(draft.state, uuid, allocation, now)) verify.push(uuid);
    }
  }
  draft.write({ type: "ended", id: allocation.request.id, outcome: { reason, at: now, detail }, verify });
}

function mustVerify(state: HostState, uuid: GpuUuid, { request, lease }: HoldingAllocation, now: EpochMs): boolean {
  const { verifyRelease, refreshIntervalMs } = state.policy;
  if (verifyRelease !== "when_used") return verifyRelease === "always";
  const gpu = state.gpus.get(uuid);
  const use = gpu === undefined ? null : useBy(gpu.hold, request.id);
  if (use !== null && wasUsed(use)) return true;
  if (now - lease.grantedAt < TOO_YOUNG_TO_VERIFY_MS) return false;
  // No use seen, but was anybody looking, and since the grant?
  const sight = state.sight.gpus.get(uuid);
  if (sight === undefined || sight.startedAt < lease.grantedAt) return true;
  return now - sight.finishedAt > refreshIntervalMs;
}
