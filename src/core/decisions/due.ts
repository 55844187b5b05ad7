/** What time brings, and readings that show for how long nothing has happened. */

import type { EpochMs } from "../base/time.ts";
import { staleness } from "../host/condition.ts";
import { allocationDeadline } from "../host/deadlines.ts";
import type { Event } from "../host/events.ts";
import { leftovers } from "../host/leftovers.ts";
import type { HostState } from "../host/state.ts";
import type { EndReason, HoldingAllocation, LiveAllocation } from "../model/allocation.ts";
import type { Gpu } from "../model/gpu.ts";
import { overdueRemains, settlingShare } from "../model/holds.ts";
import { type Drafting, end } from "./drafting.ts";
import { idleChanges } from "./observe/idle.ts";

/** Ends everything whose time has come. */
export function expireDue(draft: Drafting, now: EpochMs): void {
  for (;;) {
    const due = draft.state.deadlines.first()?.[0];
    if (due === undefined || due.at > now) return;
    if (due.of === "gpu") {
      draft.write(overdueOf(draft.state.gpus.get(due.name) as Gpu, draft.state, now));
      continue;
    }
    const allocation = draft.state.allocations.get(due.name);
    if (allocation === undefined) throw new Error(`a deadline of ${due.name}, which is not live`);
    if (isForNobody(allocation, draft.state, now)) {
      const id = allocation.request.id;
      draft.write({ type: "notice-withdrawn", id, at: now, reason: "the request that it was for has gone" });
      continue;
    }
    const again = putOff(allocation, draft.state, now);
    if (again !== null) {
      draft.write(again);
      continue;
    }
    const reason = overdueReason(allocation, now);
    end(draft, allocation, reason, now, takenBackFor(allocation, reason, draft.state));
  }
}

/** What the end of the patience with a GPU brings. */
function overdueOf(gpu: Gpu, state: HostState, now: EpochMs): Event {
  const { uuid, hold } = gpu;
  if (hold.kind !== "shared") {
    const endedAt = hold.kind === "reclaiming" ? hold.since : now;
    return { type: "gpu-quarantined", uuid, at: now, reason: leftovers(gpu, endedAt, state) };
  }
  const settling = settlingShare(hold);
  const { settleTimeoutMs } = state.policy.sharing;
  if (settling !== null && settling.startedAt !== null && settling.startedAt + settleTimeoutMs <= now) {
    return { type: "memory-settled", uuid, allocationId: settling.allocationId, at: now, seen: false };
  }
  return { type: "gpu-quarantined", uuid, at: now, reason: overdueRemains(hold) };
}

function overdueReason(allocation: LiveAllocation, now: EpochMs): EndReason {
  const { request } = allocation;
  switch (allocation.status) {
    case "queued": {
      const timedOut = request.queueTimeoutMs !== null && request.submittedAt + request.queueTimeoutMs <= now;
      return timedOut ? "timed_out" : "abandoned";
    }
    case "offered":
      return allocation.claimBy <= now ? "unclaimed" : leaseEndReason(allocation, now);
    case "leased":
      return leaseEndReason(allocation, now);
    default:
      return allocation satisfies never;
  }
}

function leaseEndReason({ request, lease, notice }: HoldingAllocation, now: EpochMs): EndReason {
  // A notice is the reason only if it cut the lease short of its own end.
  if (notice !== null && notice.until <= now && notice.until < (lease.expiresAt ?? Infinity)) {
    return notice.kind === "preempt" ? "preempted" : "revoked";
  }
  const hardEnd = request.maxDurationMs !== null && lease.grantedAt + request.maxDurationMs <= now;
  return hardEnd ? "max_duration" : "expired";
}

/** Whether it would be preempted for a request that waits no longer: one that has ended in this decision, or will. */
function isForNobody(allocation: LiveAllocation, state: HostState, now: EpochMs): boolean {
  const notice = allocation.status === "queued" ? null : allocation.notice;
  if (notice?.kind !== "preempt") return false;
  const waiting = state.allocations.get(notice.for);
  return waiting?.status !== "queued" || (allocationDeadline(waiting, state.policy) ?? Infinity) <= now;
}

/** A new grace for a lease whose end would serve nobody now: its GPUs could not be granted, since they are unknown. */
function putOff(allocation: LiveAllocation, state: HostState, now: EpochMs): Event | null {
  const notice = allocation.status === "queued" ? null : allocation.notice;
  if (notice?.kind !== "preempt" || overdueReason(allocation, now) !== "preempted") return null;
  const { id } = allocation.request;
  const gpus = allocation.status === "queued" ? [] : allocation.lease.gpus;
  if (gpus.every(({ uuid }) => staleness(uuid, state, now)?.block !== "unknown")) return null;
  return { type: "preempting", id, at: now, until: now + notice.until - notice.at, for: notice.for };
}

/** Why a lease that has been told so is taken back, in words; `null`: it ends by itself. */
function takenBackFor(allocation: LiveAllocation, reason: EndReason, state: HostState): string | null {
  const notice = allocation.status === "queued" ? null : allocation.notice;
  if (notice === null || (reason !== "preempted" && reason !== "revoked")) return null;
  if (notice.kind === "drain") return notice.reason;
  const urgent = state.allocations.get(notice.for)?.request.requirement.priority;
  return urgent === undefined ? "for a more urgent request" : `for a request of priority ${urgent}`;
}

/** Flags the leases that a good reading begun at `seenAt` shows idle, and ends those that have been so for too long. */
export function noteIdleness(draft: Drafting, seenAt: EpochMs, now: EpochMs): void {
  for (const change of idleChanges(draft.state, seenAt)) {
    const { id } = change.allocation.request;
    if (change.kind === "busy") draft.write({ type: "went-busy", id, at: now });
    else if (change.kind === "idle") draft.write({ type: "went-idle", id, at: now, since: change.since });
    else end(draft, change.allocation, "idle", now, `its GPUs were not used for ${inSeconds(seenAt - change.since)}`);
  }
}

function inSeconds(ms: number): string {
  return `${Math.floor(ms / 1_000)} s`;
}
