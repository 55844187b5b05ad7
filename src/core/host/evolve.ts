/** How events change the state: the fold of the journal. What becomes of a GPU's hold is in hold-changes.ts. */

import type { EpochMs } from "../base/time.ts";
import type {
  EndedAllocation,
  EndReason,
  HoldingAllocation,
  Lease,
  LeasedAllocation,
  LeasedGpu,
  LiveAllocation,
  Notice,
  QueuedAllocation,
} from "../model/allocation.ts";
import { bookedAt } from "../model/booking.ts";
import type { Gpu, Share } from "../model/gpu.ts";
import { type SharedHold, useBy } from "../model/holds.ts";
import type { AllocationId } from "../model/ids.ts";
import { nominalMs } from "../model/leases.ts";
import { type GpuUse, NO_USE, spansUntil, type UsedGpu, useBegun, useEnded, wasUsed } from "../model/use.ts";
import { withAllocation, withBookings, withCordon, withGpus, withoutGpu, withSuccessor } from "./changes.ts";
import type { Event } from "./events.ts";
import { cleared, FREE, holdAfterEnd, watchedFrom, withOneMore } from "./hold-changes.ts";
import type { HostState } from "./state.ts";

/** What the books say of a GPU that was never seen before. */
const NEWCOMER = {
  hold: FREE,
  cordon: null,
  fault: null,
  answeredUpTo: 0,
  lostSince: null,
  foreignSince: null,
} as const;

/**
 * Folds one event into the state: the only place where an allocation or a GPU changes.
 *
 * @throws Error when the event does not follow from the state: a broken journal, or a bug.
 */
export function evolve(state: HostState, event: Event): HostState {
  switch (event.type) {
    case "submitted":
      return withAllocation(state, {
        status: "queued",
        request: event.request,
        preemptingSince: null,
        headSince: null,
        seenAt: event.request.submittedAt,
      });
    case "granted":
      return granted(state, event);
    case "reoffered": {
      const { request, lease, notice } = holding(state, event.id);
      const next = withAllocation(state, { status: "offered", request, lease, claimBy: event.claimBy, notice });
      // Until it is claimed nobody starts anything.
      return withShares(next, event.id, lease, (share) =>
        share.settledAt === null ? { ...share, startedAt: null } : share,
      );
    }
    case "claimed":
      return claimed(state, event.id, event.at);
    case "renewed": {
      // A renewal is a sign of life: what was offered is claimed by it.
      const next = claimed(state, event.id, event.at);
      const lease = leased(holding(next, event.id));
      return withAllocation(next, { ...lease, lease: { ...lease.lease, expiresAt: event.expiresAt } });
    }
    case "end-moved": {
      const { ttlMs, maxDurationMs, expiresAt } = event;
      const next = claimed(state, event.id, event.at);
      const { request, lease, ...standing } = leased(holding(next, event.id));
      return withAllocation(next, {
        ...standing,
        // With a TTL it is no longer looked at whether it is idle.
        idleSince: ttlMs === null ? standing.idleSince : null,
        request: { ...request, ttlMs, maxDurationMs },
        lease: { ...lease, expiresAt },
      });
    }
    case "extended": {
      const before = holding(state, event.id);
      const { request, notice } = before;
      const lease = { ...before.lease, expiresAt: event.expiresAt };
      return withAllocation(
        state,
        before.status === "offered"
          ? { status: "offered", request, lease, claimBy: event.claimBy ?? before.claimBy, notice }
          : { ...before, lease },
      );
    }
    case "preempting": {
      const { until } = event;
      const told = holding(state, event.id).notice;
      // For somebody else now, and to the same end: its grace is what it was.
      const at = told?.kind === "preempt" && told.until === until ? told.at : event.at;
      return withNotice(state, event.id, { kind: "preempt", at, until, for: event.for });
    }
    case "draining": {
      const { at, until, reason } = event;
      return withNotice(state, event.id, { kind: "drain", at, until, reason });
    }
    case "notice-withdrawn":
      return withNotice(state, event.id, null);
    case "nudged": {
      const { at, by, message } = event;
      const before = holding(state, event.id);
      return withAllocation(state, { ...before, lease: { ...before.lease, nudge: { at, by, message } } });
    }
    case "became-head":
      return withAllocation(state, { ...waiting(state, event.id), headSince: event.at });
    case "preemption-begun":
      return withPreemption(state, event.id, event.at);
    case "preemption-called-off":
      return withPreemption(state, event.id, null);
    case "ended":
      return ended(state, event);
    case "gpu-seen": {
      const { hold, cordon, fault, answeredUpTo, lostSince, foreignSince } = state.gpus.get(event.gpu.uuid) ?? NEWCOMER;
      return withGpus(state, [{ ...event.gpu, hold, cordon, fault, answeredUpTo, lostSince, foreignSince }]);
    }
    case "use-seen":
      return withUse(state, event, (use) => useBegun(use, event.at));
    case "use-gone":
      return withUse(state, event, (use) => useEnded(use, event.at));
    case "memory-settled":
      return withShare(state, event.uuid, event.allocationId, (share) => ({ ...share, settledAt: event.at }));
    case "went-over-memory":
      return withShare(state, event.uuid, event.id, (share) => ({ ...share, overSince: event.at }));
    case "went-within-memory":
      return withShare(state, event.uuid, event.id, (share) => ({ ...share, overSince: null }));
    case "memory-returned": {
      const gpu = known(state, event.uuid);
      const hold = sharedHold(gpu);
      const remains = hold.remains.filter(({ allocationId }) => allocationId !== event.allocationId);
      const overdueSince = remains.length === 0 ? null : hold.overdueSince;
      return withGpus(state, [{ ...gpu, hold: { ...hold, remains, overdueSince } }]);
    }
    case "went-idle":
      return withIdleness(state, event.id, event.since);
    case "went-busy":
      return withIdleness(state, event.id, null);
    case "gpu-quarantined": {
      const gpu = known(state, event.uuid);
      // Those who share it go on.
      if (gpu.hold.kind === "shared") {
        return withGpus(state, [{ ...gpu, hold: { ...gpu.hold, overdueSince: event.at } }]);
      }
      const baselineMib = gpu.hold.kind === "reclaiming" ? gpu.hold.baselineMib : 0;
      // The event need not say it: only a GPU that is being reclaimed can be overdue.
      const cause = gpu.hold.kind === "reclaiming" ? "overdue" : "ghost";
      return withGpus(state, [
        { ...gpu, hold: { kind: "quarantined", cause, since: event.at, baselineMib, reason: event.reason } },
      ]);
    }
    case "gpu-freed":
      return withGpus(state, [{ ...known(state, event.uuid), hold: FREE }]);
    case "quarantine-cleared": {
      const gpu = known(state, event.uuid);
      const hold = cleared(gpu.hold);
      return withGpus(state, [{ ...gpu, hold, fault: null, answeredUpTo: event.answeredUpTo ?? gpu.answeredUpTo }]);
    }
    case "gpu-faulted": {
      const { at, reason, scope, sequence } = event;
      return withGpus(state, [{ ...known(state, event.uuid), fault: { at, reason, scope, sequence } }]);
    }
    case "gpu-fault-answered":
      return withGpus(state, [{ ...known(state, event.uuid), fault: null, answeredUpTo: event.answeredUpTo }]);
    case "gpu-foreign-use":
      return withGpus(state, [{ ...known(state, event.uuid), foreignSince: event.since }]);
    case "gpu-foreign-use-over":
      return withGpus(state, [{ ...known(state, event.uuid), foreignSince: null }]);
    case "gpu-lost":
      return withGpus(state, [{ ...known(state, event.uuid), lostSince: event.at }]);
    case "gpu-back":
      return withGpus(state, [{ ...known(state, event.uuid), lostSince: null }]);
    case "gpu-cordoned": {
      const { at, by, reason, drainBy = null } = event;
      return withGpus(state, [{ ...known(state, event.uuid), cordon: { at, by, reason, drainBy } }]);
    }
    case "gpu-uncordoned":
      return withGpus(state, [{ ...known(state, event.uuid), cordon: null }]);
    case "gpu-gone":
    case "gpu-removed":
      return withoutGpu(state, event.uuid);
    case "host-cordoned": {
      const { at, by, reason, drainBy = null } = event;
      return withCordon(state, { at, by, reason, drainBy });
    }
    case "host-uncordoned":
      return withCordon(state, null);
    case "reserved":
      return withBookings(state, [...bookedAt(state.bookings, event.at), event.booking]);
    case "reservation-cancelled":
      return withBookings(
        state,
        bookedAt(state.bookings, event.at).filter(({ id }) => id !== event.bookingId),
      );
    case "resumed":
      return resumed(state, event);
    default:
      return event satisfies never;
  }
}

function granted(state: HostState, event: Extract<Event, { type: "granted" }>): HostState {
  const before = state.allocations.get(event.id);
  if (before?.status !== "queued") throw new Error(`granted ${event.id}, which is ${before?.status ?? "unknown"}`);
  const { request } = before;
  const { lease, claimBy } = event;
  const instances = lease.gpus.filter(({ mig }) => mig !== null).length;
  if (instances !== 0 && instances !== lease.gpus.length) throw new Error(`${event.id} mixes GPUs and MIG instances`);
  const next = withSuccessor(
    state,
    before,
    claimBy === null
      ? { status: "leased", request, lease, idleSince: null, notice: null }
      : { status: "offered", request, lease, claimBy, notice: null },
  );
  next.nextFencingToken = Math.max(state.nextFencingToken, lease.fencingToken + 1);
  return withGpus(
    next,
    lease.gpus.map(({ uuid, baselineMib }): Gpu => {
      const gpu = known(state, uuid);
      const since = lease.grantedAt;
      if (lease.sharedMib !== null) {
        const startedAt = claimBy === null ? since : null;
        const share: Share = {
          allocationId: event.id,
          since,
          memoryMib: lease.sharedMib,
          startedAt,
          settledAt: null,
          overSince: null,
          use: NO_USE,
        };
        return { ...gpu, hold: withOneMore(gpu, share, baselineMib) };
      }
      // Invariant 1: no GPU is in two exclusive leases, nor in an exclusive and a shared one.
      if (gpu.hold.kind !== "free") throw new Error(`invariant 1: granted ${uuid}, which is ${gpu.hold.kind}`);
      return { ...gpu, hold: { kind: "leased", allocationId: event.id, since, use: NO_USE } };
    }),
  );
}

/** The record that an allocation leaves behind when it ends by `event`, as the state stands just before it. */
export function endedRecord(state: HostState, event: Extract<Event, { type: "ended" }>): EndedAllocation {
  return recordOf(state, ending(state, event), event);
}

function ending(state: HostState, { id }: Extract<Event, { type: "ended" }>): LiveAllocation {
  const before = state.allocations.get(id);
  if (before === undefined) throw new Error(`ended ${id}, which is not live`);
  return before;
}

function recordOf(
  state: HostState,
  before: LiveAllocation,
  { id, outcome }: Extract<Event, { type: "ended" }>,
): EndedAllocation {
  const lease = before.status === "queued" ? null : before.lease;
  return {
    status: "ended",
    request: before.request,
    lease,
    used: usedGpus(state, id, lease?.gpus ?? [], outcome.at),
    outcome,
  };
}

function usedGpus(state: HostState, id: AllocationId, gpus: readonly LeasedGpu[], at: EpochMs): readonly UsedGpu[] {
  const used: UsedGpu[] = [];
  for (const { uuid } of gpus) {
    const use = useBy(known(state, uuid).hold, id);
    if (use !== null && wasUsed(use)) used.push({ uuid, spans: spansUntil(use, at) });
  }
  return used;
}

function ended(state: HostState, event: Extract<Event, { type: "ended" }>): HostState {
  const before = ending(state, event);
  const record = recordOf(state, before, event);
  const next = withSuccessor(state, before, record);
  next.lasted = withLength(state.lasted, record);
  next.longest = withLongest(state, record);
  return withGpus(
    next,
    (record.lease?.gpus ?? []).map((leased) => {
      const gpu = known(state, leased.uuid);
      const verify = event.verify.includes(gpu.uuid);
      return { ...gpu, hold: holdAfterEnd(gpu.hold, record, leased.baselineMib, verify) };
    }),
  );
}

/** What estimates go by: as much as tells how leases end here these days. */
const LEASES_REMEMBERED = 50;

const OF_ITS_OWN: ReadonlySet<EndReason> = new Set(["released", "expired", "max_duration", "idle", "process-gone"]);

function withLength(lasted: HostState["lasted"], { request, lease, outcome }: EndedAllocation): HostState["lasted"] {
  const nominal = nominalMs(request);
  if (lease === null || nominal === null || !OF_ITS_OWN.has(outcome.reason)) return lasted;
  return [...lasted.slice(1 - LEASES_REMEMBERED), Math.min(1, (outcome.at - lease.grantedAt) / nominal)];
}

/** A lease is the new longest when it lasted this many times the one before: so few need be kept. */
const CLEARLY_LONGER = 1.05;
/** A lease shorter than this tells nothing. */
const SHORTEST_MS = 60_000;

/** Services count for nothing: nobody waits for them. */
function withLongest({ longest, policy }: HostState, { request, lease, outcome }: EndedAllocation) {
  if (lease === null) return longest;
  const lastedMs = outcome.at - lease.grantedAt;
  const known = longest.at(-1)?.lastedMs ?? 0;
  if (lastedMs < Math.max(SHORTEST_MS, known * CLEARLY_LONGER)) return longest;
  if (request.maxDurationMs === null && lastedMs > policy.endlessAfterMs) return longest;
  return [...longest, { endedAt: outcome.at, lastedMs }];
}

function resumed(state: HostState, event: Extract<Event, { type: "resumed" }>): HostState {
  let next: HostState = {
    ...state,
    bootId: event.bootId,
    nextFencingToken: Math.max(state.nextFencingToken, event.fencingFloor),
  };
  // Nobody could be seen to wait while the daemon was away: silence counts from now. Who waits on is alive until later.
  for (const allocation of state.allocations.values()) {
    if (allocation.status !== "queued") continue;
    next = withAllocation(next, { ...allocation, seenAt: Math.max(allocation.seenAt, event.at) });
  }
  // Nor could anybody see whether a GPU was given back.
  const watchedAnew: Gpu[] = [];
  for (const gpu of state.gpus.values()) {
    const { hold } = gpu;
    if (hold.kind === "reclaiming") watchedAnew.push({ ...gpu, hold: { ...hold, since: event.at } });
    if (hold.kind === "shared") watchedAnew.push({ ...gpu, hold: watchedFrom(hold, event.at) });
  }
  return withGpus(next, watchedAnew);
}

type UseEvent = Extract<Event, { type: "use-seen" | "use-gone" }>;

function withUse(state: HostState, event: UseEvent, change: (use: GpuUse) => GpuUse): HostState {
  const gpu = known(state, event.uuid);
  const { hold } = gpu;
  if (hold.kind === "shared") {
    return withShare(state, event.uuid, event.allocationId, (share) => ({ ...share, use: change(share.use) }));
  }
  if (hold.kind !== "leased" || hold.allocationId !== event.allocationId) {
    throw new Error(`${event.type} on ${event.uuid}, which ${event.allocationId} does not hold`);
  }
  return withGpus(state, [{ ...gpu, hold: { ...hold, use: change(hold.use) } }]);
}

function withShare(state: HostState, uuid: string, id: AllocationId, change: (share: Share) => Share): HostState {
  const gpu = known(state, uuid);
  const hold = sharedHold(gpu);
  if (useBy(hold, id) === null) throw new Error(`${id} has no share of ${uuid}`);
  const shares = hold.shares.map((share) => (share.allocationId === id ? change(share) : share));
  return withGpus(state, [{ ...gpu, hold: { ...hold, shares } }]);
}

/** The state with all shares of one lease changed; an exclusive one has none. */
function withShares(state: HostState, id: AllocationId, lease: Lease, change: (share: Share) => Share): HostState {
  if (lease.sharedMib === null) return state;
  return lease.gpus.reduce((next, { uuid }) => withShare(next, uuid, id, change), state);
}

function sharedHold({ uuid, hold }: Gpu): SharedHold {
  if (hold.kind !== "shared") throw new Error(`${uuid} is ${hold.kind}, and so not shared`);
  return hold;
}

/** The state with what was offered claimed; a lease stays as it is. */
function claimed(state: HostState, id: AllocationId, at: EpochMs): HostState {
  const before = holding(state, id);
  if (before.status === "leased") return state;
  const next = withAllocation(state, leased(before));
  return withShares(next, id, before.lease, (share) =>
    share.startedAt === null ? { ...share, startedAt: at } : share,
  );
}

function withIdleness(state: HostState, id: AllocationId, idleSince: EpochMs | null): HostState {
  const lease = holding(state, id);
  if (lease.status !== "leased") throw new Error(`${id} is ${lease.status}, and so neither idle nor busy`);
  return withAllocation(state, { ...lease, idleSince });
}

function withNotice(state: HostState, id: AllocationId, notice: Notice | null): HostState {
  return withAllocation(state, { ...holding(state, id), notice });
}

function withPreemption(state: HostState, id: AllocationId, preemptingSince: EpochMs | null): HostState {
  return withAllocation(state, { ...waiting(state, id), preemptingSince });
}

/** A claimed one: what was offered becomes a lease, and a lease stays as it is. */
function leased(before: HoldingAllocation): LeasedAllocation {
  const { request, lease, notice } = before;
  return before.status === "leased" ? before : { status: "leased", request, lease, idleSince: null, notice };
}

function waiting(state: HostState, id: string): QueuedAllocation {
  const allocation = state.allocations.get(id);
  if (allocation?.status !== "queued")
    throw new Error(`${id} does not wait: it is ${allocation?.status ?? "not live"}`);
  return allocation;
}

function holding(state: HostState, id: string): HoldingAllocation {
  const allocation: LiveAllocation | undefined = state.allocations.get(id);
  if (allocation === undefined || allocation.status === "queued") {
    throw new Error(`${id} holds nothing: it is ${allocation?.status ?? "not live"}`);
  }
  return allocation;
}

function known(state: HostState, uuid: string): Gpu {
  const gpu = state.gpus.get(uuid);
  if (gpu === undefined) throw new Error(`no GPU ${uuid} in the inventory`);
  return gpu;
}
