import type { Event } from "./events.ts";
import type { EndedAllocation, Gpu, GpuHold, HoldingAllocation, LiveAllocation, Outcome } from "./model.ts";
import { type HostState, withAllocation, withGpus, withoutGpu } from "./state.ts";

const FREE: GpuHold = { kind: "free" };

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
        seenAt: event.request.submittedAt,
      });
    case "granted":
      return granted(state, event);
    case "reoffered": {
      const { request, lease } = holding(state, event.id);
      return withAllocation(state, { status: "offered", request, lease, claimBy: event.claimBy });
    }
    case "claimed": {
      const { request, lease } = holding(state, event.id);
      return withAllocation(state, { status: "leased", request, lease });
    }
    case "renewed": {
      const { request, lease } = holding(state, event.id);
      // A renewal is a sign of life: what was offered is claimed by it.
      return withAllocation(state, { status: "leased", request, lease: { ...lease, expiresAt: event.expiresAt } });
    }
    case "extended": {
      const before = holding(state, event.id);
      const { request } = before;
      const lease = { ...before.lease, expiresAt: event.expiresAt };
      return withAllocation(
        state,
        before.status === "offered"
          ? { status: "offered", request, lease, claimBy: event.claimBy ?? before.claimBy }
          : { status: "leased", request, lease },
      );
    }
    case "ended":
      return ended(state, event);
    case "gpu-seen": {
      const before = state.gpus.get(event.gpu.uuid);
      return withGpus(state, [{ ...event.gpu, hold: before?.hold ?? FREE, cordon: before?.cordon ?? null }]);
    }
    case "use-seen": {
      const gpu = known(state, event.uuid);
      if (gpu.hold.kind !== "leased") throw new Error(`use-seen on ${event.uuid}, which is ${gpu.hold.kind}`);
      return withGpus(state, [{ ...gpu, hold: { ...gpu.hold, useSeen: true } }]);
    }
    case "gpu-quarantined": {
      const gpu = known(state, event.uuid);
      const baselineMib = gpu.hold.kind === "reclaiming" ? gpu.hold.baselineMib : 0;
      return withGpus(state, [
        { ...gpu, hold: { kind: "quarantined", since: event.at, baselineMib, reason: event.reason } },
      ]);
    }
    case "gpu-freed":
    case "quarantine-cleared":
      return withGpus(state, [{ ...known(state, event.uuid), hold: FREE }]);
    case "gpu-cordoned": {
      const { at, by, reason } = event;
      return withGpus(state, [{ ...known(state, event.uuid), cordon: { at, by, reason } }]);
    }
    case "gpu-uncordoned":
      return withGpus(state, [{ ...known(state, event.uuid), cordon: null }]);
    case "gpu-removed":
      return withoutGpu(state, event.uuid);
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
  const next = withAllocation(
    state,
    claimBy === null ? { status: "leased", request, lease } : { status: "offered", request, lease, claimBy },
  );
  return withGpus(
    { ...next, nextFencingToken: Math.max(state.nextFencingToken, lease.fencingToken + 1) },
    lease.gpus.map(({ uuid }) => {
      const gpu = known(state, uuid);
      // Invariant 1: no GPU is in two exclusive leases.
      if (gpu.hold.kind !== "free") throw new Error(`invariant 1: granted ${uuid}, which is ${gpu.hold.kind}`);
      return {
        ...gpu,
        hold: { kind: "leased", allocationId: event.id, since: lease.grantedAt, useSeen: false },
      } satisfies Gpu;
    }),
  );
}

/** The record that an allocation leaves behind. */
export function endedRecord(before: LiveAllocation, outcome: Outcome): EndedAllocation {
  const lease = before.status === "queued" ? null : before.lease;
  return { status: "ended", request: before.request, lease, outcome };
}

function ended(state: HostState, event: Extract<Event, { type: "ended" }>): HostState {
  const before = state.allocations.get(event.id);
  if (before === undefined) throw new Error(`ended ${event.id}, which is not live`);
  const record = endedRecord(before, event.outcome);
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
