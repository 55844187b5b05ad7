import type { Event } from "./events.ts";
import type {
  AllocationId,
  EndedAllocation,
  EpochMs,
  Gpu,
  GpuHold,
  GpuUse,
  HoldingAllocation,
  LeasedAllocation,
  LeasedGpu,
  LiveAllocation,
  Notice,
  UsedGpu,
} from "./model.ts";
import { type HostState, withAllocation, withGpus, withoutGpu } from "./state.ts";
import { NO_USE, spansUntil, useBegun, useEnded, wasUsed } from "./use.ts";

const FREE: GpuHold = { kind: "free" };
/** What the books say of a GPU that was never seen before. */
const NEWCOMER = { hold: FREE, cordon: null, fault: null, answeredUpTo: 0, lostSince: null } as const;

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
        seenAt: event.request.submittedAt,
      });
    case "granted":
      return granted(state, event);
    case "reoffered": {
      const { request, lease, notice } = holding(state, event.id);
      return withAllocation(state, { status: "offered", request, lease, claimBy: event.claimBy, notice });
    }
    case "claimed": {
      return withAllocation(state, leased(holding(state, event.id)));
    }
    case "renewed": {
      // A renewal is a sign of life: what was offered is claimed by it.
      const before = leased(holding(state, event.id));
      return withAllocation(state, { ...before, lease: { ...before.lease, expiresAt: event.expiresAt } });
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
      const { at, until } = event;
      return withNotice(state, event.id, { kind: "preempt", at, until, for: event.for });
    }
    case "draining": {
      const { at, until, reason } = event;
      return withNotice(state, event.id, { kind: "drain", at, until, reason });
    }
    case "notice-withdrawn":
      return withNotice(state, event.id, null);
    case "preemption-begun":
      return withPreemption(state, event.id, event.at);
    case "preemption-called-off":
      return withPreemption(state, event.id, null);
    case "ended":
      return ended(state, event);
    case "gpu-seen": {
      // The device first, then what the books say of it, as records.ts writes them: a replay gives the same bytes.
      const { hold, cordon, fault, answeredUpTo, lostSince } = state.gpus.get(event.gpu.uuid) ?? NEWCOMER;
      return withGpus(state, [{ ...event.gpu, hold, cordon, fault, answeredUpTo, lostSince }]);
    }
    case "use-seen":
      return withUse(state, event, (use) => useBegun(use, event.at));
    case "use-gone":
      return withUse(state, event, (use) => useEnded(use, event.at));
    case "went-idle":
      return withIdleness(state, event.id, event.since);
    case "went-busy":
      return withIdleness(state, event.id, null);
    case "gpu-quarantined": {
      const gpu = known(state, event.uuid);
      const baselineMib = gpu.hold.kind === "reclaiming" ? gpu.hold.baselineMib : 0;
      return withGpus(state, [
        { ...gpu, hold: { kind: "quarantined", since: event.at, baselineMib, reason: event.reason } },
      ]);
    }
    case "gpu-freed":
      return withGpus(state, [{ ...known(state, event.uuid), hold: FREE }]);
    case "quarantine-cleared": {
      const gpu = known(state, event.uuid);
      const hold = gpu.hold.kind === "quarantined" ? FREE : gpu.hold;
      return withGpus(state, [{ ...gpu, hold, fault: null, answeredUpTo: event.answeredUpTo ?? gpu.answeredUpTo }]);
    }
    case "gpu-faulted": {
      const { at, reason, scope, sequence } = event;
      return withGpus(state, [{ ...known(state, event.uuid), fault: { at, reason, scope, sequence } }]);
    }
    case "gpu-fault-answered":
      return withGpus(state, [{ ...known(state, event.uuid), fault: null, answeredUpTo: event.answeredUpTo }]);
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
      return { ...state, cordon: { at, by, reason, drainBy } };
    }
    case "host-uncordoned":
      return { ...state, cordon: null };
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
  const next = withAllocation(
    state,
    claimBy === null
      ? { status: "leased", request, lease, idleSince: null, notice: null }
      : { status: "offered", request, lease, claimBy, notice: null },
  );
  return withGpus(
    { ...next, nextFencingToken: Math.max(state.nextFencingToken, lease.fencingToken + 1) },
    lease.gpus.map(({ uuid }) => {
      const gpu = known(state, uuid);
      // Invariant 1: no GPU is in two exclusive leases.
      if (gpu.hold.kind !== "free") throw new Error(`invariant 1: granted ${uuid}, which is ${gpu.hold.kind}`);
      return {
        ...gpu,
        hold: { kind: "leased", allocationId: event.id, since: lease.grantedAt, use: NO_USE },
      } satisfies Gpu;
    }),
  );
}

/** The record that an allocation leaves behind when it ends by `event`, as the state stands just before it. */
export function endedRecord(state: HostState, { id, outcome }: Extract<Event, { type: "ended" }>): EndedAllocation {
  const before = state.allocations.get(id);
  if (before === undefined) throw new Error(`ended ${id}, which is not live`);
  const lease = before.status === "queued" ? null : before.lease;
  return {
    status: "ended",
    request: before.request,
    lease,
    used: usedGpus(state, lease?.gpus ?? [], outcome.at),
    outcome,
  };
}

function usedGpus(state: HostState, gpus: readonly LeasedGpu[], at: EpochMs): readonly UsedGpu[] {
  const used: UsedGpu[] = [];
  for (const { uuid } of gpus) {
    const { hold } = known(state, uuid);
    if (hold.kind === "leased" && wasUsed(hold.use)) used.push({ uuid, spans: spansUntil(hold.use, at) });
  }
  return used;
}

function ended(state: HostState, event: Extract<Event, { type: "ended" }>): HostState {
  const record = endedRecord(state, event);
  const next = withAllocation(state, record);
  return withGpus(
    next,
    (record.lease?.gpus ?? []).map(({ uuid, baselineMib }) => ({
      ...known(state, uuid),
      hold: event.verify.includes(uuid)
        ? { kind: "reclaiming", allocationId: event.id, since: event.outcome.at, baselineMib }
        : FREE,
    })),
  );
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
  const reclaiming: Gpu[] = [];
  for (const gpu of state.gpus.values()) {
    if (gpu.hold.kind === "reclaiming") reclaiming.push({ ...gpu, hold: { ...gpu.hold, since: event.at } });
  }
  return withGpus(next, reclaiming);
}

type UseEvent = Extract<Event, { type: "use-seen" | "use-gone" }>;

function withUse(state: HostState, event: UseEvent, change: (use: GpuUse) => GpuUse): HostState {
  const gpu = known(state, event.uuid);
  const { hold } = gpu;
  if (hold.kind !== "leased" || hold.allocationId !== event.allocationId) {
    throw new Error(`${event.type} on ${event.uuid}, which ${event.allocationId} does not hold`);
  }
  return withGpus(state, [{ ...gpu, hold: { ...hold, use: change(hold.use) } }]);
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
  const before = state.allocations.get(id);
  if (before?.status !== "queued")
    throw new Error(`${id} is ${before?.status ?? "not live"}: nothing is preempted for it`);
  return withAllocation(state, { ...before, preemptingSince });
}

/** A claimed one: what was offered becomes a lease, and a lease stays as it is. */
function leased(before: HoldingAllocation): LeasedAllocation {
  const { request, lease, notice } = before;
  return before.status === "leased" ? before : { status: "leased", request, lease, idleSince: null, notice };
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
