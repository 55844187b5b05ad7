/**
 * When those who wait can expect their GPUs, as far as it can be said: from the ends of today's leases and of those that
 * are given to the ones before them in line.
 *
 *  1. `latest` counts on nothing but `max_duration`: every lease lasts as long as it may, every GPU takes as long as it
 *     may to be seen empty, and of GPUs that suit several, those who stand before have had whichever hurts most. It is
 *     a bound for a request that it finds in line, unless somebody more urgent comes, somebody is let past before
 *     `reserve_after`, or a GPU falls sick. One that a wider request may pass (patience.ts, 4) has no bound either, and
 *     the GPUs that it could use are counted on by nobody behind it. Without a `max_duration` there is no bound, and no estimate; nor is there one for a request
 *     that its own quota may keep, that may meet a reserved window, or that stands behind one which may.
 *  2. `earliest` takes leases to last no longer than the short ones of late have ({@link HostState.lasted}), and leaves
 *     out everybody who could be passed: who needs more GPUs, other ones, or them for longer.
 *  3. Nobody stands before `MAX_FORECASTS` others without a bound on the work: those behind get no estimate. One pass
 *     is linear in the GPUs and the square of those looked at.
 */

import { allowanceFor, isLimited } from "../allocator/allowance.ts";
import { futureCandidates } from "../allocator/candidates.ts";
import type { EpochMs } from "../base/time.ts";
import { type AccountKey, accountOf, limitedAccounts } from "../host/accounts.ts";
import { candidates } from "../host/candidates.ts";
import { type Family, positionOf } from "../host/line.ts";
import type { HostState } from "../host/state.ts";
import { holderOf } from "../host/state.ts";
import type { HoldingAllocation, QueuedAllocation, Request } from "../model/allocation.ts";
import type { Gpu } from "../model/gpu.ts";
import { holdersOf, settlingShare } from "../model/holds.ts";
import type { AllocationId } from "../model/ids.ts";
import { hardEndOf, nominalMs, settlingMs } from "../model/leases.ts";
import type { Policy } from "../model/policy.ts";
import { Budgets } from "../queue/budgets.ts";
import { isOutOfPatience } from "../queue/patience.ts";
import { remainingOf } from "../queue/quotas.ts";
import { WindowAllowances } from "../queue/window-allowances.ts";
import { GpuSets } from "./gpu-sets.ts";
import { PassableSlots } from "./passing.ts";
import { type Claimant, FreeTimes, Slots } from "./slots.ts";

/** The range in which a request is expected to be granted. */
export interface Eta {
  readonly earliest: EpochMs;
  readonly latest: EpochMs;
}

/** So many of the line, from its head, are looked at. */
export const MAX_FORECASTS = 100;

/** Of those that ended of late, this part of the leases lasted shorter than `earliest` goes by. */
const SHORT_PART = 0.1;
/** With fewer to go by, a lease is taken to end at any moment. */
const FEW_LEASES = 10;

/** The estimate for one that waits; `null`: there is none. */
export function etaOf(request: Request, state: HostState, now: EpochMs): Eta | null {
  const position = positionOf(state.line, request, state.policy);
  return position > MAX_FORECASTS ? null : (forecast(state, now, position).get(request.id) ?? null);
}

/** The estimates for the first `count` of the line, in its order; `null`: there is none. */
export function forecast(
  state: HostState,
  now: EpochMs,
  count: number = MAX_FORECASTS,
): ReadonlyMap<AllocationId, Eta | null> {
  const etas = new Map<AllocationId, Eta | null>();
  const gpus = futureCandidates(state, candidates(state, now), now);
  const part = shortPart(state.lasted);
  const sets = new GpuSets(gpus);
  const surely = new FreeTimes(gpus.map(({ gpu }) => surelyFreeFrom(gpu, state, now)));
  const perhaps = new FreeTimes(gpus.map(({ gpu }) => perhapsFreeFrom(gpu, state, now, part)));
  const latest = new Slots(sets, surely);
  const earliest = new PassableSlots(sets, perhaps);
  const budgets = new Budgets(state, () => gpus, now);
  const quotas = new QuotasAhead(state, now);
  const windows = new WindowAllowances(state, () => gpus, now);
  const allowances = windows.beside(windows.occupancies(state));
  let meetsWindow = false;
  for (const { allocation, familyKey } of state.line.order.values()) {
    if (etas.size >= Math.min(count, MAX_FORECASTS)) break;
    const { request } = allocation;
    const { shape } = state.line.families.get(familyKey) as Family;
    const suiting = sets.usable(familyKey, shape, request.requirement.memoryMib);
    const claimant: Claimant = {
      gpus: request.requirement.gpus,
      suiting,
      durationMs: request.maxDurationMs ?? Infinity,
      shares: request.sharing === "shared",
      priority: request.requirement.priority,
      isPassable: isPassable(allocation, gpus.length, state.policy, now),
    };
    const mayExceed = shape.quotas !== null;
    if (suiting.size < claimant.gpus || (mayExceed && budgets.objection(request) !== null)) {
      // It waits for a GPU to get well, or for its own quota, and nobody waits for it.
      etas.set(request.id, null);
      continue;
    }
    const starts = latest.keptFor(claimant).map((kept) => latest.startBehindAll(claimant.gpus, kept, now));
    const last = claimant.isPassable ? Infinity : Math.min(...starts);
    const first = earliest.start(claimant, now);
    latest.add(claimant, last, last + claimant.durationMs + settlingMs(state.policy));
    earliest.add(claimant, first, first + part * (nominalMs(request) ?? 0));
    // Whom a window may keep longer comes when it closes, and nobody behind can count on a time any more.
    const until = last - now + claimant.durationMs;
    meetsWindow ||= isLimited(allowanceFor(allowances(shape.memberOf), until));
    const isBounded = !(mayExceed && quotas.mayKeep(request)) && last !== Infinity && !meetsWindow;
    etas.set(request.id, !isBounded ? null : { earliest: Math.floor(Math.min(first, last)), latest: last });
  }
  return etas;
}

/** What the requests before one may leave of its quotas. */
class QuotasAhead {
  readonly #state: HostState;
  readonly #now: EpochMs;
  readonly #asked = new Map<AccountKey, number>();

  constructor(state: HostState, now: EpochMs) {
    this.#state = state;
    this.#now = now;
  }

  /** Whether `request` may have to wait for its own quota once those before it are served. Counts it as one of them. */
  mayKeep(request: Request): boolean {
    const { accounts, policy } = this.#state;
    let may = false;
    for (const { key, quota } of limitedAccounts(request, policy.quotas)) {
      const before = this.#asked.get(key) ?? 0;
      const all = before + request.requirement.gpus;
      this.#asked.set(key, all);
      if (quota.gpuTime !== null && before > 0) may = true;
      if (remainingOf(accountOf(accounts, key, quota), this.#state, this.#now).gpus < all) may = true;
    }
    return may;
  }
}

function isPassable(allocation: QueuedAllocation, hostGpus: number, policy: Policy, now: EpochMs): boolean {
  const { requirement, maxDurationMs } = allocation.request;
  if (!policy.preferWide || maxDurationMs !== null || requirement.gpus >= hostGpus) return false;
  return !isOutOfPatience(allocation, policy, now);
}

/** From when on nothing of today's leases can be left on a GPU; Infinity: nobody knows. */
function surelyFreeFrom({ hold }: Gpu, state: HostState, now: EpochMs): number {
  switch (hold.kind) {
    case "leased":
    case "shared": {
      const ends = holdersOf(hold).map(({ allocationId }) => surelyEndedBy(holderOf(allocationId, state)));
      return Math.max(now, ...ends) + settlingMs(state.policy);
    }
    case "reclaiming":
      return Math.max(now, hold.since + state.policy.reclaimTimeoutMs);
    case "free":
    case "quarantined":
      return now;
    default:
      return hold satisfies never;
  }
}

/** One that is taken back for somebody is only let stay when that one can do without. */
function surelyEndedBy(holder: HoldingAllocation): number {
  const takenBack = holder.notice?.kind === "preempt" ? holder.notice.until : Infinity;
  return Math.min(hardEndOf(holder) ?? Infinity, takenBack);
}

/**
 * From when on a GPU, or a share of it, is free if one of today's leases is a short one. A share may be had as soon as the
 * memory of the others is seen to stand still.
 */
function perhapsFreeFrom({ hold }: Gpu, state: HostState, now: EpochMs, part: number): number {
  if (hold.kind === "shared" && settlingShare(hold) !== null) return now;
  const ends = holdersOf(hold).map(({ allocationId }) => {
    const { request, lease } = holderOf(allocationId, state);
    return lease.grantedAt + part * (nominalMs(request) ?? 0);
  });
  return ends.length === 0 ? now : Math.max(now, Math.min(...ends));
}

/** The part of what they may last that only {@link SHORT_PART} of the leases stay below; 0 with too few to go by. */
function shortPart(lasted: readonly number[]): number {
  if (lasted.length < FEW_LEASES) return 0;
  return [...lasted].sort((a, b) => a - b)[Math.floor(lasted.length * SHORT_PART)] as number;
}
