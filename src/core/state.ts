/**
 * The state of a host: what the events fold to, the latest readings, and the settings.
 *
 *  1. `allocations`, `gpus`, `nextFencingToken`, `bootId` and `cordon` are exactly the fold of the journal's events.
 *  2. `line`, `preempted`, `deadlines` and `accounts` are derived from `allocations` and `gpus` (but for what ended
 *     leases have used: see queue/accounts.ts); only `withAllocation`, `withGpu` and `rederive` touch them, so they
 *     cannot drift.
 *  3. `sight`, `policy` and `lasted` are not durable: what the monitor sees now, what the operator has set, and what
 *     estimates go by.
 */

import type { Closeness } from "./allocator/closeness.ts";
import type { Ailment } from "./allocator/health.ts";
import type { Groups } from "./allocator/ownership.ts";
import { settlingShare } from "./holds.ts";
import { Inventory } from "./inventory.ts";
import type {
  Allocation,
  AllocationId,
  Cordon,
  EpochMs,
  Gpu,
  GpuReading,
  GpuUuid,
  HoldingAllocation,
  LiveAllocation,
  Policy,
  ProbeFailure,
} from "./model.ts";
import { byText, OrderedMap, type Ordering } from "./ordered-map.ts";
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
} from "./queue/accounts.ts";
import { dequeue, EMPTY_LINE, enqueue, type WaitingLine } from "./queue/line.ts";
import { NO_SHARES, type Shares, sharesOf, withTurn, withUse } from "./queue/shares.ts";
import { planOfWindows, type WindowPlan } from "./queue/windows.ts";

/** The latest reading of one GPU. */
export interface GpuSight {
  readonly reading: GpuReading;
  /** When the probe that gave it began. */
  readonly startedAt: EpochMs;
  readonly finishedAt: EpochMs;
  /** What the reading says against new leases, gravest first. */
  readonly ailments: readonly LastingAilment[];
  /** It was sick or missing, and its readings have been good since; `null`: there is nothing to recover from. */
  readonly recovery: Recovery | null;
  /** Readings in a row that show the GPU used without a lease, and such that show it busy for nobody. */
  readonly foreignReadings: number;
  readonly ghostReadings: number;
  /** The leases that processes belong to, by pid; one of no lease is left out. */
  readonly owners: ReadonlyMap<number, AllocationId>;
  /** The present series of readings that tell use from none; `null` when there has been none. */
  readonly watch: Watch | null;
  /** How long its memory has stood still; `null` when it cannot be read. */
  readonly stillness: Stillness | null;
}

/** Memory in use at one level, within {@link SETTLED_SLACK_MIB}. */
export interface Stillness {
  readonly mib: number;
  /** The first reading at this level. */
  readonly since: EpochMs;
  /** Up to {@link READINGS_TO_SETTLE}. */
  readonly readings: number;
}

/** Readings of one GPU with no gap longer than `staleAfterMs` between them: what was not seen in it did not last. */
export interface Watch {
  /** When the first of them ended: by then it had looked. */
  readonly since: EpochMs;
  /** When the latest of them was taken. */
  readonly until: EpochMs;
}

export interface LastingAilment extends Ailment {
  /** Since when readings have said so. */
  readonly since: EpochMs;
}

/** A GPU must be seen well several times in a row before it is granted again, or it would be granted between two fits. */
export interface Recovery {
  /** Since the first good reading. */
  readonly since: EpochMs;
  readonly goodReadings: number;
  /** What it recovers from. */
  readonly from: Ailment;
}

/** A GPU of the inventory that good readings do not show. */
export interface Absence {
  readonly since: EpochMs;
  /** Good readings without it, in a row. */
  readonly readings: number;
}

/** Since the kernel's ring of records begins; at most since the boot. */
export interface XidCount {
  readonly count: number;
  readonly lastAt: EpochMs;
  /** Number of the last record. */
  readonly sequence: number;
}

export interface KernelLogSight {
  /** Why it cannot be read; `null`: it can. */
  readonly problem: string | null;
  /** How often records were overwritten before they could be read. */
  readonly missed: number;
  /** Number of the last record that mattered. */
  readonly sequence: number;
}

/** What the monitor sees. */
export interface Sight {
  readonly gpus: ReadonlyMap<GpuUuid, GpuSight>;
  /** The latest probe's failure; `null` after a good one, or before the first. */
  readonly failure: ProbeFailure | null;
  readonly lastProbeAt: EpochMs | null;
  readonly lastGoodProbeAt: EpochMs | null;
  readonly simulated: boolean;
  readonly driverVersion: string | null;
  readonly cudaVersion: string | null;
  readonly warnings: readonly string[];
  /** Processes of others may be missing from the readings. */
  readonly processesHidden: boolean;
  /** How the GPUs are connected, as far as the latest reading knows; `null`: not known. */
  readonly closeness: Closeness | null;
  readonly missing: ReadonlyMap<GpuUuid, Absence>;
  /** The errors that the kernel's log tells of, by their number. */
  readonly xids: ReadonlyMap<GpuUuid, ReadonlyMap<number, XidCount>>;
  /** `null`: nothing has been heard of it. */
  readonly kernelLog: KernelLogSight | null;
  readonly groups: Groups;
}

/** Something that falls due: an allocation's next change by time, or the end of a GPU's patience. */
export interface Deadline {
  readonly at: EpochMs;
  /** `a:` and an allocation's id, or `g:` and a GPU's UUID. */
  readonly key: string;
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
  /** Leases that are to be taken back for others, with the requests that they are taken back for. */
  readonly preempted: ReadonlyMap<AllocationId, AllocationId>;
  /** Of principals, where fair share is on. */
  readonly shares: Shares;
  readonly deadlines: OrderedMap<Deadline, Deadline>;
  readonly sight: Sight;
  /** Of the last leases that ended by a release or in their time: the part, up to 1, of what they might have lasted. */
  readonly lasted: readonly number[];
}

const BY_TIME: Ordering<Deadline, Deadline, undefined> = {
  compare: (a, b) => a.at - b.at || (a.key < b.key ? -1 : a.key > b.key ? 1 : 0),
  measure: () => undefined,
};

const NOTHING_SEEN: Sight = {
  gpus: new Map(),
  failure: null,
  lastProbeAt: null,
  lastGoodProbeAt: null,
  simulated: false,
  driverVersion: null,
  cudaVersion: null,
  warnings: [],
  processesHidden: false,
  closeness: null,
  missing: new Map(),
  xids: new Map(),
  kernelLog: null,
  groups: new Map(),
};

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
    shares: NO_SHARES,
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

/** When an allocation changes by time alone; `null` when it does not. */
export function allocationDeadline(allocation: LiveAllocation, policy: Policy): EpochMs | null {
  const { request } = allocation;
  switch (allocation.status) {
    case "queued": {
      const timeout = request.queueTimeoutMs === null ? Infinity : request.submittedAt + request.queueTimeoutMs;
      // A webhook is a sign of life: its receiver is told when the turn comes.
      const silence = request.webhookUrl === null ? allocation.seenAt + policy.abandonAfterMs : Infinity;
      return finite(Math.min(timeout, silence));
    }
    case "offered":
      return Math.min(allocation.claimBy, heldUntil(allocation) ?? Infinity);
    case "leased":
      return heldUntil(allocation);
    default:
      return allocation satisfies never;
  }
}

/** When a lease ends unless it is renewed or what it was told is withdrawn; `null`: it has no end. */
export function heldUntil({ lease, notice }: HoldingAllocation): EpochMs | null {
  return notice === null ? lease.expiresAt : Math.min(notice.until, lease.expiresAt ?? Infinity);
}

function finite(at: number): EpochMs | null {
  return at === Infinity ? null : at;
}

function gpuDeadline({ hold }: Gpu, policy: Policy): EpochMs | null {
  if (hold.kind === "reclaiming") return hold.since + policy.reclaimTimeoutMs;
  if (hold.kind !== "shared") return null;
  const startedAt = settlingShare(hold)?.startedAt ?? null;
  const settles = startedAt === null ? Infinity : startedAt + policy.sharing.settleTimeoutMs;
  const [oldest] = hold.remains;
  const overdue =
    oldest === undefined || hold.overdueSince !== null ? Infinity : oldest.since + policy.reclaimTimeoutMs;
  return finite(Math.min(settles, overdue));
}

function moveDeadline(
  deadlines: HostState["deadlines"],
  key: string,
  from: EpochMs | null,
  to: EpochMs | null,
): HostState["deadlines"] {
  if (from === to) return deadlines;
  const without = from === null ? deadlines : deadlines.delete({ at: from, key });
  return to === null ? without : without.set({ at: to, key }, { at: to, key });
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
    shares: withTurn(state.shares, before, next, state.policy),
    allocations: live === undefined ? state.allocations.delete(id) : state.allocations.set(id, live),
    deadlines: moveDeadline(
      state.deadlines,
      `a:${id}`,
      before === undefined ? null : allocationDeadline(before, state.policy),
      live === undefined ? null : allocationDeadline(live, state.policy),
    ),
  };
}

/** For whom a lease is to be taken back; `null`: for nobody. */
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
      `g:${gpu.uuid}`,
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
  const deadlines = moveDeadline(state.deadlines, `g:${uuid}`, gpuDeadline(gpu, state.policy), null);
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
  let deadlines: HostState["deadlines"] = OrderedMap.empty(BY_TIME);
  for (const allocation of state.allocations.values()) {
    deadlines = moveDeadline(deadlines, `a:${allocation.request.id}`, null, allocationDeadline(allocation, policy));
  }
  for (const gpu of state.gpus.values()) {
    deadlines = moveDeadline(deadlines, `g:${gpu.uuid}`, null, gpuDeadline(gpu, policy));
  }
  const accounts = requoted(state.accounts, state.policy, policy, state.allocations.values());
  const shares = isCountedElse(state.policy, policy) ? sharesOf(state.allocations.values(), policy) : state.shares;
  return { ...next, deadlines, accounts, shares, line: lineUp(next) };
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
    shares: sharesOf(allocations.values(), policy),
  };
}

/** The state with what had ended before {@link withoutCount}; a count of an earlier round is void. */
export function withCount(state: HostState, count: EndedUse & { readonly round: number }): HostState {
  if (count.round !== state.accounts.round) return state;
  const { policy } = state;
  return {
    ...state,
    accounts: counted(state.accounts, count.spent, policy),
    shares: withUse(state.shares, count.faded, count.at, policy),
  };
}

/** The next instant at which something changes by time alone. */
export function nextDeadline(state: HostState): EpochMs | null {
  const deadline = state.deadlines.first()?.[0].at ?? Infinity;
  return finite(Math.min(deadline, state.accounts.renewals.first()?.[0].at ?? Infinity));
}
