/** How one state becomes another: whatever indexes what has changed is changed with it (state.ts, 2). */
import { OrderedMap } from "../base/ordered-map.ts";
import type { EpochMs } from "../base/time.ts";
import type { Allocation, LiveAllocation } from "../model/allocation.ts";
import { type Booking, windowOf } from "../model/booking.ts";
import type { Cordon, Gpu } from "../model/gpu.ts";
import type { AllocationId, GpuUuid } from "../model/ids.ts";
import type { Policy } from "../model/policy.ts";
import {
  counted,
  type EndedUse,
  isCountedElse,
  noAccounts,
  renewed,
  requoted,
  uncounted,
  withCharge,
} from "./accounts.ts";
import { Allocations } from "./allocations.ts";
import { candidatesAfter, candidatesOf } from "./candidates.ts";
import { allocationDeadline, BY_TIME, type Deadlines, gpuDeadline, moveDeadline } from "./deadlines.ts";
import { fairSharesOf, NO_FAIR_SHARES, withDueTime, withUse } from "./fair-share.ts";
import { Candidates } from "./free-gpus.ts";
import { Inventory } from "./inventory.ts";
import { dequeue, EMPTY_LINE, enqueue, type WaitingLine } from "./line.ts";
import { NOTHING_SEEN, type Sight } from "./sight.ts";
import type { DurableState, HostState } from "./state.ts";
import { planOfWindows } from "./window-plan.ts";

/** In the making, and known to nobody else. */
type Made<T> = { -readonly [field in keyof T]: T[field] };

export function emptyHost(policy: Policy): HostState {
  return {
    policy,
    bookings: [],
    ...windowsOf(policy, []),
    allocations: Allocations.none,
    gpus: Inventory.empty,
    nextFencingToken: 1,
    bootId: null,
    cordon: null,
    line: EMPTY_LINE,
    accounts: noAccounts(policy),
    preempted: new Map(),
    fairShares: NO_FAIR_SHARES,
    deadlines: OrderedMap.empty(BY_TIME),
    sight: NOTHING_SEEN,
    candidates: Candidates.none,
    lasted: [],
    longest: [],
  };
}

/** The state that was stored, of which nothing is seen yet. */
export function restoredHost(stored: DurableState, policy: Policy): HostState {
  let state = withGpus(withBookings(emptyHost(policy), stored.bookings), stored.gpus);
  for (const allocation of stored.allocations) state = withAllocation(state, allocation);
  const { nextFencingToken, bootId, cordon } = stored;
  return lookedAtAnew({ ...state, nextFencingToken, bootId, cordon });
}

/** The state with one allocation as given; an ended one leaves it. */
export function withAllocation(state: HostState, next: Allocation): HostState {
  return withSuccessor(state, state.allocations.get(next.request.id), next);
}

/** The same where it is known already what it was; `undefined`: it was not there. Nobody else has the state yet. */
export function withSuccessor(state: HostState, before: LiveAllocation | undefined, next: Allocation): Made<HostState> {
  const { id } = next.request;
  const live = next.status === "ended" ? undefined : next;
  let { line } = state;
  if (before?.status === "queued") line = dequeue(line, before.request, state.policy);
  if (live?.status === "queued") line = enqueue(line, live, state, state.gpus.models());
  return {
    ...state,
    line,
    accounts: withCharge(state.accounts, before, next, state.policy),
    preempted: movePreempted(state.preempted, id, beneficiaryOf(before), beneficiaryOf(live)),
    fairShares: withDueTime(state.fairShares, before, next, state.policy),
    allocations: allocationsAfter(state.allocations, before, live),
    deadlines: moveDeadline(
      state.deadlines,
      { of: "allocation", name: id },
      before === undefined ? null : allocationDeadline(before, state.policy),
      live === undefined ? null : allocationDeadline(live, state.policy),
    ),
  };
}

function allocationsAfter(
  allocations: Allocations,
  before: LiveAllocation | undefined,
  live: LiveAllocation | undefined,
): Allocations {
  if (live !== undefined) return allocations.with(before, live);
  return before === undefined ? allocations : allocations.without(before);
}

/** The request that a lease is preempted for; `null`: it is not. */
function beneficiaryOf(allocation: LiveAllocation | undefined): AllocationId | null {
  const notice = allocation === undefined || allocation.status === "queued" ? null : allocation.notice;
  return notice?.kind === "preempt" ? notice.for : null;
}

function movePreempted(
  preempted: HostState["preempted"],
  id: AllocationId,
  from: AllocationId | null,
  to: AllocationId | null,
): HostState["preempted"] {
  if (from === to) return preempted;
  const next = new Map(preempted);
  if (to === null) next.delete(id);
  else next.set(id, to);
  return next;
}

/** The state with these GPUs as given. */
export function withGpus(state: HostState, changed: readonly Gpu[]): HostState {
  if (changed.length === 0) return state;
  let { deadlines } = state;
  let newModel = false;
  for (const gpu of changed) {
    const before = state.gpus.get(gpu.uuid);
    newModel ||= before?.name !== gpu.name;
    deadlines = moveDeadline(
      deadlines,
      { of: "gpu", name: gpu.uuid },
      before === undefined ? null : gpuDeadline(before, state.policy),
      gpuDeadline(gpu, state.policy),
    );
  }
  const next: Made<HostState> = { ...state, gpus: state.gpus.with(changed), deadlines };
  next.candidates = candidatesAfter(next, changed);
  // Which models a waiting request accepts was settled when it queued; a new model settles it anew.
  return newModel && state.line.order.size > 0 ? { ...next, line: lineUp(next) } : next;
}

/** The state without a GPU that nothing holds. */
export function withoutGpu(state: HostState, uuid: GpuUuid): HostState {
  const gpu = state.gpus.get(uuid);
  if (gpu === undefined) return state;
  const deadlines = moveDeadline(state.deadlines, { of: "gpu", name: uuid }, gpuDeadline(gpu, state.policy), null);
  const missing = new Map(state.sight.missing);
  const newcomers = new Map(state.sight.newcomers);
  const unseenSinceBoot = new Set(state.sight.unseenSinceBoot);
  for (const seen of [missing, newcomers, unseenSinceBoot]) seen.delete(uuid);
  const sight = { ...state.sight, missing, newcomers, unseenSinceBoot };
  const next = { ...state, deadlines, gpus: state.gpus.without(uuid), sight };
  return lookedAtAnew({ ...next, line: lineUp(next) });
}

function lineUp(state: HostState): WaitingLine {
  let line = EMPTY_LINE;
  for (const allocation of state.allocations.values()) {
    if (allocation.status === "queued") line = enqueue(line, allocation, state, state.gpus.models());
  }
  return line;
}

/** The state in which this is what the monitor sees. */
export function withSight(state: HostState, sight: Sight): HostState {
  return lookedAtAnew({ ...state, sight });
}

/** The state with the whole host cordoned, or not. */
export function withCordon(state: HostState, cordon: Cordon | null): HostState {
  return lookedAtAnew({ ...state, cordon });
}

/** The state with these bookings: which windows a waiting request may use is settled anew. */
export function withBookings(state: HostState, bookings: readonly Booking[]): HostState {
  const next = { ...state, bookings, ...windowsOf(state.policy, bookings) };
  return next.line.order.size > 0 ? { ...next, line: lineUp(next) } : next;
}

function windowsOf(policy: Policy, bookings: readonly Booking[]): Pick<HostState, "windows" | "windowPlan"> {
  const windows = bookings.length === 0 ? policy.windows : [...policy.windows, ...bookings.map(windowOf)];
  return { windows, windowPlan: planOfWindows(windows) };
}

function lookedAtAnew(state: HostState): HostState {
  return { ...state, candidates: candidatesOf(state) };
}

/** The state under other settings: the line and the deadlines are built anew. */
export function withPolicy(state: HostState, policy: Policy): HostState {
  const next = { ...state, policy, ...windowsOf(policy, state.bookings) };
  let deadlines: Deadlines = OrderedMap.empty(BY_TIME);
  for (const allocation of state.allocations.values()) {
    deadlines = moveDeadline(
      deadlines,
      { of: "allocation", name: allocation.request.id },
      null,
      allocationDeadline(allocation, policy),
    );
  }
  for (const gpu of state.gpus.values()) {
    deadlines = moveDeadline(deadlines, { of: "gpu", name: gpu.uuid }, null, gpuDeadline(gpu, policy));
  }
  const accounts = requoted(state.accounts, state.policy, policy, state.allocations.values());
  const fairShares = isCountedElse(state.policy, policy)
    ? fairSharesOf(state.allocations.values(), policy)
    : state.fairShares;
  return lookedAtAnew({ ...next, deadlines, accounts, fairShares, line: lineUp(next) });
}

/** The state at `now`, as far as periods of quotas have ended by then. */
export function withRenewals(state: HostState, now: EpochMs): HostState {
  const accounts = renewed(state.accounts, now);
  return accounts === state.accounts ? state : { ...state, accounts };
}

/** The state in which what leases use is summed up from now on; what ended before is still to be told. */
export function withoutCount(state: HostState): HostState {
  const { policy, allocations } = state;
  return {
    ...state,
    accounts: uncounted(state.accounts, policy, allocations.values()),
    fairShares: fairSharesOf(allocations.values(), policy),
  };
}

/** The state with what had ended before {@link withoutCount}; a count of an earlier round is void. */
export function withCount(state: HostState, count: EndedUse & { readonly round: number }): HostState {
  if (count.round !== state.accounts.round) return state;
  const { policy } = state;
  return {
    ...state,
    accounts: counted(state.accounts, count.spent, policy),
    fairShares: withUse(state.fairShares, count.faded, count.at, policy),
  };
}
