/**
 * The state of a host: what the events fold to, the latest readings, and the settings.
 *
 *  1. `allocations`, `gpus`, `nextFencingToken`, `bootId` and `cordon` are exactly the fold of the journal's events.
 *  2. `line`, `preempted`, `deadlines`, `accounts` and `fairShares` are indexes of `allocations` and `gpus`, and
 *     `windowPlan` of `policy.windows`. Only the `with...` functions below change them, each together with what it
 *     indexes, so they cannot drift. What ended leases have used is the exception: it comes from the archive
 *     (accounts.ts, 3).
 *  3. `sight`, `policy` and `lasted` are not durable: what the monitor sees now, what the operator has set, and what
 *     estimates go by.
 */
import { byText, OrderedMap } from "../base/ordered-map.ts";
import type { EpochMs } from "../base/time.ts";
import type { Allocation, HoldingAllocation, LiveAllocation } from "../model/allocation.ts";
import type { Cordon, Gpu } from "../model/gpu.ts";
import type { AllocationId, GpuUuid } from "../model/ids.ts";
import type { Policy } from "../model/policy.ts";
import {
  type Accounts,
  counted,
  type EndedUse,
  isCountedElse,
  noAccounts,
  renewed,
  requoted,
  uncounted,
  withCharge,
} from "./accounts.ts";
import { allocationDeadline, BY_TIME, type Deadlines, finite, gpuDeadline, moveDeadline } from "./deadlines.ts";
import { type FairShares, fairSharesOf, NO_FAIR_SHARES, withDueTime, withUse } from "./fair-share.ts";
import { Inventory } from "./inventory.ts";
import { dequeue, EMPTY_LINE, enqueue, type WaitingLine } from "./line.ts";
import { NOTHING_SEEN, type Sight } from "./sight.ts";
import { firstIndex, planOfWindows, type WindowPlan } from "./window-plan.ts";

/** When a window next opens or closes after `now`: only then does the calendar alone change what may be granted. */
export function nextWindowChange({ windowPlan: { changes } }: HostState, now: EpochMs): EpochMs | null {
  return changes[firstIndex(changes, (at) => at > now)] ?? null;
}

export interface HostState {
  readonly policy: Policy;
  /** What follows from the policy's windows. */
  readonly windowPlan: WindowPlan;
  readonly allocations: OrderedMap<AllocationId, LiveAllocation>;
  readonly gpus: Inventory;
  readonly nextFencingToken: number;
  readonly bootId: string | null;
  /** Of all GPUs, those that are yet to come included. */
  readonly cordon: Cordon | null;
  readonly line: WaitingLine;
  /** Of those under a quota. */
  readonly accounts: Accounts;
  /** The leases that have a notice of preemption, each with the request that it is for. */
  readonly preempted: ReadonlyMap<AllocationId, AllocationId>;
  /** Of principals, where fair share is on. */
  readonly fairShares: FairShares;
  readonly deadlines: Deadlines;
  readonly sight: Sight;
  /** Of the last leases that ended by a release or in their time: the part, up to 1, of what they might have lasted. */
  readonly lasted: readonly number[];
}

export function emptyHost(policy: Policy): HostState {
  return {
    policy,
    windowPlan: planOfWindows(policy.windows),
    allocations: OrderedMap.empty(byText()),
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
    lasted: [],
  };
}

/** What is durable of a state. */
export interface DurableState {
  readonly allocations: readonly LiveAllocation[];
  readonly gpus: readonly Gpu[];
  readonly nextFencingToken: number;
  readonly bootId: string | null;
  readonly cordon: Cordon | null;
}

/** The state that was stored, of which nothing is seen yet. */
export function restoredHost(stored: DurableState, policy: Policy): HostState {
  let state = withGpus(emptyHost(policy), stored.gpus);
  for (const allocation of stored.allocations) state = withAllocation(state, allocation);
  const { nextFencingToken, bootId, cordon } = stored;
  return { ...state, nextFencingToken, bootId, cordon };
}

/** The state with one allocation as given; an ended one leaves it. */
export function withAllocation(state: HostState, next: Allocation): HostState {
  const { id } = next.request;
  const before = state.allocations.get(id);
  const live = next.status === "ended" ? undefined : next;
  let { line } = state;
  if (before?.status === "queued") line = dequeue(line, before.request, state.policy);
  if (live?.status === "queued") line = enqueue(line, live, state.policy, state.gpus.values());
  return {
    ...state,
    line,
    accounts: withCharge(state.accounts, before, next, state.policy),
    preempted: movePreempted(state.preempted, id, beneficiaryOf(before), beneficiaryOf(live)),
    fairShares: withDueTime(state.fairShares, before, next, state.policy),
    allocations: live === undefined ? state.allocations.delete(id) : state.allocations.set(id, live),
    deadlines: moveDeadline(
      state.deadlines,
      { of: "allocation", name: id },
      before === undefined ? null : allocationDeadline(before, state.policy),
      live === undefined ? null : allocationDeadline(live, state.policy),
    ),
  };
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
  const next = { ...state, gpus: state.gpus.with(changed), deadlines };
  // Which models a waiting request accepts was settled when it queued; a new model settles it anew.
  return newModel && state.line.order.size > 0 ? { ...next, line: lineUp(next) } : next;
}

/** The state without a GPU that nothing holds. */
export function withoutGpu(state: HostState, uuid: GpuUuid): HostState {
  const gpu = state.gpus.get(uuid);
  if (gpu === undefined) return state;
  const deadlines = moveDeadline(state.deadlines, { of: "gpu", name: uuid }, gpuDeadline(gpu, state.policy), null);
  const missing = new Map(state.sight.missing);
  missing.delete(uuid);
  const next = { ...state, deadlines, gpus: state.gpus.without(uuid), sight: { ...state.sight, missing } };
  return { ...next, line: lineUp(next) };
}

function lineUp(state: HostState): WaitingLine {
  let line = EMPTY_LINE;
  for (const allocation of state.allocations.values()) {
    if (allocation.status === "queued") line = enqueue(line, allocation, state.policy, state.gpus.values());
  }
  return line;
}

/** The state under other settings: the line and the deadlines are built anew. */
export function withPolicy(state: HostState, policy: Policy): HostState {
  const next = { ...state, policy, windowPlan: planOfWindows(policy.windows) };
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
  return { ...next, deadlines, accounts, fairShares, line: lineUp(next) };
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

/** The next instant at which something changes by time alone. */
export function nextDeadline(state: HostState): EpochMs | null {
  const deadline = state.deadlines.first()?.[0].at ?? Infinity;
  return finite(Math.min(deadline, state.accounts.renewals.first()?.[0].at ?? Infinity));
}

export function holderOf(id: AllocationId, state: HostState): HoldingAllocation {
  const holder = state.allocations.get(id);
  if (holder === undefined || holder.status === "queued") throw new Error(`${id} holds nothing`);
  return holder;
}
