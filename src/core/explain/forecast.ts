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
import { type FutureCandidate, futureCandidates } from "../allocator/candidates.ts";
import { usable } from "../allocator/fit.ts";
import type { EpochMs } from "../base/time.ts";
import { type AccountKey, accountOf, limitedAccounts } from "../host/accounts.ts";
import { candidates } from "../host/candidates.ts";
import { positionOf } from "../host/line.ts";
import type { HostState } from "../host/state.ts";
import { holderOf } from "../host/state.ts";
import { memberOf } from "../host/window-plan.ts";
import type { HoldingAllocation, QueuedAllocation, Request } from "../model/allocation.ts";
import type { Gpu } from "../model/gpu.ts";
import { holdersOf, settlingShare } from "../model/holds.ts";
import type { AllocationId, GpuUuid } from "../model/ids.ts";
import { hardEndOf, nominalMs, settlingMs } from "../model/leases.ts";
import type { Policy } from "../model/policy.ts";
import { Budgets } from "../queue/budgets.ts";
import { isOutOfPatience } from "../queue/patience.ts";
import { remainingOf } from "../queue/quotas.ts";
import { WindowAllowances } from "../queue/window-allowances.ts";

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
  const latest = new Outlook(gpus.map(({ gpu }) => surelyFreeFrom(gpu, state, now)));
  const earliest = new Outlook(gpus.map(({ gpu }) => perhapsFreeFrom(gpu, state, now, part)));
  const sets = new GpuSets(gpus);
  const budgets = new Budgets(state, () => gpus, now);
  const quotas = new QuotasAhead(state, now);
  const windows = new WindowAllowances(state, () => gpus, now);
  const allowances = windows.beside(windows.occupancies(state));
  let meetsWindow = false;
  for (const { allocation } of state.line.order.values()) {
    if (etas.size >= Math.min(count, MAX_FORECASTS)) break;
    const { request } = allocation;
    const suiting = sets.of(usable(request, gpus, state.gpus.models()));
    const claimant: Claimant = {
      gpus: request.requirement.gpus,
      suiting,
      durationMs: request.maxDurationMs ?? Infinity,
      shares: request.sharing === "shared",
      priority: request.requirement.priority,
      isPassable: isPassable(allocation, gpus.length, state.policy, now),
    };
    if (suiting.size < claimant.gpus || budgets.objection(request) !== null) {
      // It waits for a GPU to get well, or for its own quota, and nobody waits for it.
      etas.set(request.id, null);
      continue;
    }
    const starts = latest.keptFor(claimant, sets).map((kept) => latest.startOf(claimant, kept, now, () => true));
    const last = claimant.isPassable ? Infinity : Math.min(...starts);
    const first = earliest.startOf(claimant, suiting, now, (slot, shared) => cannotPass(claimant, slot, shared));
    latest.add(claimant, last, last + claimant.durationMs + settlingMs(state.policy));
    earliest.add(claimant, first, first + part * (nominalMs(request) ?? 0));
    // Whom a window may keep longer comes when it closes, and nobody behind can count on a time any more.
    const until = last - now + claimant.durationMs;
    meetsWindow ||= isLimited(allowanceFor(allowances(memberOf(request, state.policy.windows)), until));
    const isBounded = !quotas.mayKeep(request) && last !== Infinity && !meetsWindow;
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

/** A waiting request, as far as it matters to those behind it. */
interface Claimant {
  /** How many it asks for. */
  readonly gpus: number;
  readonly suiting: GpuSet;
  readonly durationMs: number;
  /** It asks for a part of a GPU. `latest` takes it to have a GPU for itself. */
  readonly shares: boolean;
  /** The stated one. */
  readonly priority: number;
  /** Wider equals may go before it. */
  readonly isPassable: boolean;
}

function isPassable(allocation: QueuedAllocation, hostGpus: number, policy: Policy, now: EpochMs): boolean {
  const { requirement, maxDurationMs } = allocation.request;
  if (!policy.preferWide || maxDurationMs !== null || requirement.gpus >= hostGpus) return false;
  return !isOutOfPatience(allocation, policy, now);
}

interface Slot {
  readonly claimant: Claimant;
  /** Somebody before it asks for several GPUs, and may hold some that are free, but not for those who are short. */
  readonly behindSeveral: boolean;
}

/**
 * Whether `claimant` has to wait for `before`: that one asks for no more GPUs, can use all that `claimant` can, and would be
 * lent whatever `claimant` would be.
 */
function cannotPass(claimant: Claimant, before: Slot, shared: number): boolean {
  const { gpus, durationMs, shares, priority, isPassable: lets } = before.claimant;
  if (shares && claimant.shares) return false;
  if (lets && claimant.durationMs === Infinity && claimant.priority === priority && claimant.gpus > gpus) return false;
  if (gpus > claimant.gpus || shared < claimant.suiting.size) return false;
  return !before.behindSeveral || durationMs <= claimant.durationMs;
}

/** The beginning or the end of a slot. */
interface Moment {
  readonly at: number;
  /** Which slot's, by its place in the line. */
  readonly slot: number;
  readonly isEnd: boolean;
}

/** The GPUs, and the slots that were given out on them, under one assumption of how long leases last. */
class Outlook {
  /** By place; Infinity: never for sure. */
  readonly #freeFrom: readonly number[];
  /** Places by that instant. */
  readonly #byTime: readonly number[];
  readonly #slots: Slot[] = [];
  /** The GPUs that the slots' claimants can use: few different sets. */
  readonly #suitings = new Set<GpuSet>();
  readonly #moments: Moment[] = [];
  /** Per slot, how many GPUs it keeps until it begins from the one whose start is looked for. */
  readonly #kept: number[] = [];

  constructor(freeFrom: readonly number[]) {
    this.#freeFrom = freeFrom;
    this.#byTime = [...freeFrom.keys()].sort((a, b) => (freeFrom[a] as number) - (freeFrom[b] as number));
  }

  /**
   * The first instant at which `claimant` has enough of the GPUs in `among`; Infinity: there is none.
   *
   * Each slot before it that must be waited for keeps every GPU that both can use until it begins, and as many as its
   * claimant asked for until it ends.
   */
  startOf(claimant: Claimant, among: GpuSet, now: EpochMs, waitsFor: (slot: Slot, shared: number) => boolean): number {
    const wanted = claimant.gpus;
    const shared = this.#sharedWith(among);
    const kept = this.#kept;
    let free = 0;
    for (const [place, slot] of this.#slots.entries()) {
      const both = shared[slot.claimant.suiting.number] as number;
      const keeps = both > 0 && waitsFor(slot, both) ? both : 0;
      kept[place] = keeps;
      free -= keeps;
    }
    let at = now;
    let next = 0;
    for (const place of this.#byTime) {
      if (among.has[place] === 0) continue;
      const freeFrom = this.#freeFrom[place] as number;
      for (; free < wanted && next < this.#moments.length; next++) {
        const moment = this.#moments[next] as Moment;
        if (moment.at >= freeFrom) break;
        at = moment.at;
        free += this.#gainedAt(moment);
      }
      if (free >= wanted) break;
      at = freeFrom;
      free++;
    }
    for (; free < wanted && next < this.#moments.length; next++) {
      const moment = this.#moments[next] as Moment;
      at = moment.at;
      free += this.#gainedAt(moment);
    }
    return free < wanted ? Infinity : Math.max(now, at);
  }

  /** By the numbers of the sets that claimants can use, how many GPUs of each are `among` these. */
  #sharedWith(among: GpuSet): readonly number[] {
    const shared: number[] = [];
    for (const suiting of this.#suitings) shared[suiting.number] = overlap(suiting, among);
    return shared;
  }

  /**
   * The GPUs that go to nobody behind `claimant` while it waits, but to those who give them back in time: those that
   * nobody before it can use, if they are enough, and those that everybody before it can use who can use any of its.
   */
  keptFor({ gpus, suiting }: Claimant, sets: GpuSets): readonly GpuSet[] {
    let own = suiting;
    let common = suiting;
    for (const other of this.#suitings) {
      if (overlap(other, suiting) === 0) continue;
      own = sets.without(own, other);
      common = sets.both(common, other);
    }
    return own.size >= gpus ? [own, common] : [common];
  }

  #gainedAt({ slot, isEnd }: Moment): number {
    const keeps = this.#kept[slot] as number;
    if (keeps === 0) return 0;
    const taken = Math.min(keeps, (this.#slots[slot] as Slot).claimant.gpus);
    return isEnd ? taken : keeps - taken;
  }

  add(claimant: Claimant, start: number, end: number): void {
    const last = this.#slots.at(-1);
    const behindSeveral = last !== undefined && (last.behindSeveral || last.claimant.gpus > 1);
    this.#slots.push({ claimant, behindSeveral });
    this.#suitings.add(claimant.suiting);
    const slot = this.#slots.length - 1;
    this.#note({ at: start, slot, isEnd: false });
    this.#note({ at: end, slot, isEnd: true });
  }

  #note(moment: Moment): void {
    // Nothing is waited for that never comes.
    if (moment.at === Infinity) return;
    let place = this.#moments.length;
    while (place > 0 && (this.#moments[place - 1] as Moment).at > moment.at) place--;
    this.#moments.splice(place, 0, moment);
  }
}

/** GPUs by their places in a list. Equal sets are the same object. */
interface GpuSet {
  /** In the order in which sets came up. */
  readonly number: number;
  /** 1 for each that is in it. */
  readonly has: Uint8Array;
  readonly size: number;
}

/** Few sets come up, and the same ones again and again. */
class GpuSets {
  readonly #places: ReadonlyMap<GpuUuid, number>;
  readonly #known: GpuSet[] = [];
  /** By the numbers of the two. */
  readonly #both = new Map<number, GpuSet>();
  readonly #without = new Map<number, GpuSet>();

  constructor(gpus: readonly FutureCandidate[]) {
    this.#places = new Map(gpus.map(({ gpu }, place) => [gpu.uuid, place]));
  }

  of(gpus: readonly FutureCandidate[]): GpuSet {
    const has = new Uint8Array(this.#places.size);
    for (const { gpu } of gpus) has[this.#places.get(gpu.uuid) as number] = 1;
    return this.#one(has);
  }

  both(a: GpuSet, b: GpuSet): GpuSet {
    if (a === b) return a;
    return this.#made(this.#both, a, b, (one, other) => one & other);
  }

  without(a: GpuSet, b: GpuSet): GpuSet {
    return this.#made(this.#without, a, b, (one, other) => one & ~other);
  }

  #made(made: Map<number, GpuSet>, a: GpuSet, b: GpuSet, join: (one: number, other: number) => number): GpuSet {
    const pair = a.number * MAX_SETS + b.number;
    let set = made.get(pair);
    if (set === undefined) {
      set = this.#one(a.has.map((one, place) => join(one, b.has[place] as number)));
      made.set(pair, set);
    }
    return set;
  }

  #one(has: Uint8Array): GpuSet {
    let size = 0;
    for (const one of has) size += one;
    for (const known of this.#known) if (known.size === size && isSame(known.has, has)) return known;
    const set = { number: this.#known.length, has, size };
    this.#known.push(set);
    return set;
  }
}

/** More than come up: each of {@link MAX_FORECASTS} requests brings few. */
const MAX_SETS = 2 ** 20;

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  for (let place = 0; place < a.length; place++) if (a[place] !== b[place]) return false;
  return true;
}

function overlap(a: GpuSet, b: GpuSet): number {
  if (a === b) return a.size;
  let shared = 0;
  for (let place = 0; place < a.has.length; place++) shared += (a.has[place] as number) & (b.has[place] as number);
  return shared;
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
