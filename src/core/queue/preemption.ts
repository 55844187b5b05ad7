/**
 * Taking leases back for a waiting request of higher priority.
 *
 *  1. Both sides have agreed: the settings allow it, and the lease's request said `preemptible`.
 *  2. Only priorities as asked for are compared. If waiting counted, two requests of one priority would take the GPUs
 *     from each other in turns, since each ages while the other runs.
 *  3. Leases are preempted only if their GPUs, with those that come free anyway, are enough for the request to start.
 *     There are as few victims as possible; of sets of the same size, the one is taken that spares the lease granted
 *     first, then the second, and so on. A lease counts only by how many GPUs it brings, so the choice is exact.
 *  4. A lease that has its notice already is preferred to one that has none. Its notice is withdrawn as soon as the
 *     others are enough.
 *  5. From the first notice on, GPUs are held for the request: those that it would be given if all that come to it were
 *     free. Which they are is settled anew in every decision.
 *  6. Only exclusive leases are victims, and only exclusive requests preempt.
 */

import type { FutureCandidate } from "../allocator/candidates.ts";
import { together, usable } from "../allocator/fit.ts";
import { place } from "../allocator/place.ts";
import type { EpochMs } from "../base/time.ts";
import { staleness } from "../host/condition.ts";
import type { Event } from "../host/events.ts";
import type { Candidate } from "../host/free-gpus.ts";
import { entanglementOf, sharersOf } from "../host/mig.ts";
import type { HostState } from "../host/state.ts";
import type { HoldingAllocation, QueuedAllocation } from "../model/allocation.ts";
import type { AllocationId, GpuUuid } from "../model/ids.ts";
import { hardEndOf } from "../model/leases.ts";
import type { PreemptionPolicy } from "../model/policy.ts";

/** For how many requests leases are preempted at once: each is planned anew in every decision. */
export const MAX_PREEMPTIONS = 16;

/** A lease that is, or could be, preempted. */
export interface Victim {
  readonly allocation: HoldingAllocation;
  /** How many GPUs that the request can use come free with it. */
  readonly gpus: number;
}

/** What preemption has for a request. */
export interface Preemption {
  /** Its beginning, and the notices that it gives and withdraws. */
  readonly events: readonly Event[];
  /** Held for the request. */
  readonly gpus: ReadonlySet<GpuUuid>;
  /** Whose leases end for it. */
  readonly leaving: ReadonlySet<AllocationId>;
}

/**
 * Plans anew which leases leave for a request that does not fit now.
 *
 * @param unheld what there will be once today's leases have ended, less what is held for those before it.
 * @param settled those before it in line for whom leases are preempted: what they need has been seen to.
 * @returns `null`: enough will come without anybody being told, or enough cannot be had that way.
 */
export function preempt(
  waiting: QueuedAllocation,
  unheld: readonly FutureCandidate[],
  settled: ReadonlySet<AllocationId>,
  state: HostState,
  now: EpochMs,
): Preemption | null {
  const { preemption } = state.policy;
  const { request, preemptingSince } = waiting;
  if (preemption === null || request.sharing === "shared") return null;
  if (preemptingSince === null && state.line.preempting.size >= MAX_PREEMPTIONS) return null;
  const wanted = usable(request, unheld, state.gpus.models()).map((gpu) => asItStands(gpu, state));
  const { coming, told, others } = classify(waiting, wanted, settled, state, now, preemption);
  const need = request.requirement.gpus - coming.length;
  if (need <= 0 && preemptingSince === null) return null;
  const victims = choose(told, others, need);
  if (victims === null) return null;
  const events: Event[] = [];
  if (preemptingSince === null) events.push({ type: "preemption-begun", id: request.id, at: now });
  for (const { allocation } of victims) {
    const { notice } = allocation;
    if (notice?.kind === "preempt" && notice.for === request.id) continue;
    const until = notice?.kind === "preempt" ? notice.until : now + preemption.graceMs;
    events.push({ type: "preempting", id: allocation.request.id, at: now, until, for: request.id });
  }
  const leaving = new Set(victims.map(({ allocation }) => allocation.request.id));
  for (const [id, beneficiary] of preempted(state)) {
    if (beneficiary === request.id && !leaving.has(id)) events.push(withdrawn(id, now, "it is not needed any more"));
  }
  const freed = wanted.filter((gpu) => leaving.has(holderOf(gpu) ?? ""));
  const placed = place(request, [...coming, ...freed].map(asFree), state.gpus.models(), state.sight.closeness);
  if (placed === null) throw new Error(`${request.id} would not fit on what was to be freed for it`);
  // Memory that is shared is held with all that could take it.
  const gpus = placed.flatMap(({ gpu }) => [gpu.uuid, ...sharersOf(gpu, state).map(({ uuid }) => uuid)]);
  return { events, gpus: new Set(gpus), leaving };
}

/**
 * Whether it cannot be told now which leases to preempt, since the state of a GPU is unknown. Notices that were given
 * stand meanwhile: losing the monitor changes nothing for any lease.
 */
export function cannotTell(state: HostState, now: EpochMs): boolean {
  if (state.policy.preemption === null) return false;
  return state.gpus.values().some(({ uuid }) => staleness(uuid, state, now)?.block === "unknown");
}

/** Ends the preemption for a request that waits on. */
export function callOff(id: AllocationId, state: HostState, now: EpochMs): readonly Event[] {
  const reason =
    state.policy.preemption === null ? "the settings do not allow it any more" : "it would not help any more";
  const events: Event[] = [{ type: "preemption-called-off", id, at: now, reason }];
  for (const [victim, beneficiary] of preempted(state)) {
    if (beneficiary === id) events.push(withdrawn(victim, now, "the preemption was called off"));
  }
  return events;
}

/** Withdraws the notices that were given for requests which no longer wait. */
export function withdrawStale(state: HostState, now: EpochMs): readonly Event[] {
  const events: Event[] = [];
  for (const [victim, beneficiary] of preempted(state)) {
    if (state.allocations.get(beneficiary)?.status === "queued") continue;
    events.push(withdrawn(victim, now, "the request that it was for does not wait any more"));
  }
  return events;
}

/** By id: the order in which they were preempted is lost at a restart, so it must not matter. */
function preempted(state: HostState): readonly (readonly [victim: AllocationId, beneficiary: AllocationId])[] {
  return [...state.preempted].sort(([a], [b]) => (a < b ? -1 : 1));
}

function withdrawn(id: AllocationId, at: EpochMs, reason: string): Event {
  return { type: "notice-withdrawn", id, at, reason };
}

/** The GPUs that a request wants, by what it takes to have them. */
interface Classified {
  /** Free, or to be free without another notice. */
  readonly coming: readonly FutureCandidate[];
  /** Leases that have a notice already, for this request or for one behind it. */
  readonly told: readonly Victim[];
  readonly others: readonly Victim[];
}

function classify(
  waiting: QueuedAllocation,
  wanted: readonly FutureCandidate[],
  settled: ReadonlySet<AllocationId>,
  state: HostState,
  now: EpochMs,
  policy: PreemptionPolicy,
): Classified {
  const { id, requirement } = waiting.request;
  const coming: FutureCandidate[] = [...freeOf(wanted, requirement.memoryMib)];
  const brought = new Map<HoldingAllocation, number>();
  for (const gpu of wanted) {
    const { kind } = gpu.gpu.hold;
    if (kind === "free" || kind === "shared" || isEntangled(gpu, state)) continue;
    const holder = holderOf(gpu);
    const allocation = holder === null ? undefined : state.allocations.get(holder);
    if (allocation === undefined || allocation.status === "queued") {
      coming.push(gpu);
      continue;
    }
    const { notice } = allocation;
    const isLeaving = notice?.kind === "preempt" && notice.for !== id && settled.has(notice.for);
    if (isLeaving || (hardEndOf(allocation) ?? Infinity) <= now + policy.graceMs) coming.push(gpu);
    else brought.set(allocation, (brought.get(allocation) ?? 0) + 1);
  }
  const told: Victim[] = [];
  const others: Victim[] = [];
  for (const [allocation, gpus] of brought) {
    const { notice } = allocation;
    if (notice?.kind === "preempt" && notice.for === id) told.push({ allocation, gpus });
    else if (!isPreemptible(allocation, waiting, now, policy)) continue;
    else if (notice === null) others.push({ allocation, gpus });
    else if (notice.kind === "preempt") told.push({ allocation, gpus });
  }
  return { coming, told, others };
}

/** Those that can be had now, all together. */
function freeOf(wanted: readonly FutureCandidate[], askedMib: number): readonly FutureCandidate[] {
  const free = wanted.flatMap(({ now }) => (now === null || now.availableMib < askedMib ? [] : [now]));
  const fitting = new Set(together(free, askedMib).map(({ gpu }) => gpu.uuid));
  return wanted.filter(({ gpu, now }) => now !== null && fitting.has(gpu.uuid));
}

/** Whether more than the end of its lease stands in the way: another instance on the same silicon. */
function isEntangled({ gpu }: FutureCandidate, state: HostState): boolean {
  return entanglementOf(gpu, state) !== null || sharersOf(gpu, state).length > 0;
}

/** Whether a lease may be taken back for a request. */
export function isPreemptible(
  { request, lease }: HoldingAllocation,
  waiting: QueuedAllocation,
  now: EpochMs,
  { minPriorityGap, minRuntimeMs }: PreemptionPolicy,
): boolean {
  const gap = waiting.request.requirement.priority - request.requirement.priority;
  return request.preemptible && gap >= minPriorityGap && now - lease.grantedAt >= minRuntimeMs;
}

/** See 3 and 4; `null`: all together do not bring enough. */
function choose(told: readonly Victim[], others: readonly Victim[], need: number): readonly Victim[] | null {
  const kept = fewest(told, need);
  if (kept !== null) return kept;
  const toldBring = told.reduce((sum, { gpus }) => sum + gpus, 0);
  const added = fewest(others, need - toldBring);
  if (added === null) return null;
  let spare = added.reduce((sum, { gpus }) => sum + gpus, toldBring) - need;
  const needed = oldestFirst(told).filter(({ gpus }) => {
    const isSpared = gpus <= spare;
    if (isSpared) spare -= gpus;
    return !isSpared;
  });
  return [...needed, ...added];
}

/**
 * The fewest candidates that bring `need` GPUs together, and of sets as small that which spares the oldest.
 *
 * @returns `null`: all together do not bring enough.
 */
export function fewest(victims: readonly Victim[], need: number): readonly Victim[] | null {
  const byGpus = new Map<number, number>();
  for (const { gpus } of victims) byGpus.set(gpus, (byGpus.get(gpus) ?? 0) + 1);
  const sizes = [...byGpus.keys()].sort((a, b) => b - a);
  /** What the `count` of those left that bring most bring. */
  const most = (count: number): number => {
    let sum = 0;
    let left = count;
    for (const size of sizes) {
      const taken = Math.min(left, byGpus.get(size) ?? 0);
      sum += taken * size;
      left -= taken;
    }
    return sum;
  };
  let count = 0;
  while (count <= victims.length && most(count) < need) count++;
  if (count > victims.length) return null;
  const chosen: Victim[] = [];
  let missing = need;
  for (const victim of oldestFirst(victims)) {
    byGpus.set(victim.gpus, (byGpus.get(victim.gpus) ?? 0) - 1);
    if (most(count - chosen.length) >= missing) continue;
    chosen.push(victim);
    missing -= victim.gpus;
  }
  return chosen;
}

/** Fencing tokens grow with every grant, and no two are the same. */
function oldestFirst(victims: readonly Victim[]): Victim[] {
  return [...victims].sort((a, b) => a.allocation.lease.fencingToken - b.allocation.lease.fencingToken);
}

/** As the GPU stands now: it may have been granted since `unheld` was made. */
function asItStands({ gpu, now, ...rest }: FutureCandidate, state: HostState): FutureCandidate {
  const live = state.gpus.get(gpu.uuid) ?? gpu;
  return { ...rest, gpu: live, now: live.hold.kind === "free" ? now : null };
}

function holderOf({ gpu }: FutureCandidate): AllocationId | null {
  return gpu.hold.kind === "leased" ? gpu.hold.allocationId : null;
}

/** A GPU as it will be once whatever is there has gone. */
function asFree({ gpu, memoryMib, isolated, now }: FutureCandidate): Candidate {
  if (now !== null) return now;
  return {
    gpu,
    availableMib: memoryMib,
    shareableMib: 0,
    shared: false,
    closed: null,
    utilizationPercent: 0,
    strained: false,
    isolated,
    baselineMib: 0,
    kind: -1,
    freshUntil: Infinity,
    longestMs: Infinity,
  };
}
