/**
 * What a forecast takes to be given out: a slot for each of those before, from when it has its GPUs until it gives them
 * back, under one assumption of how long leases last.
 *
 *  1. A slot keeps from who stands behind it every GPU that both can use until it begins, and as many as its claimant
 *     asked for until it ends. So a start is the first instant at which so many GPUs have come free, less what is kept.
 *  2. A further slot only takes away, whatever the instant. So where every slot counts, the start for a number of GPUs
 *     out of a set never moves back, and is looked for from where it was last ({@link Front}).
 */

import type { EpochMs } from "../base/time.ts";
import { firstIndex } from "../host/window-plan.ts";
import type { GpuSet, GpuSets } from "./gpu-sets.ts";

/** A waiting request, as far as it matters to those behind it. */
export interface Claimant {
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

/** Where the first `wanted` GPUs of a set are free of all slots so far. */
interface Front {
  readonly among: GpuSet;
  readonly wanted: number;
  /** Everything up to this instant is counted in `free`. */
  at: number;
  /** Below `wanted` only if there are never so many. */
  free: number;
  /** How many of `among` have come free by `at`, by their order. */
  nextGpu: number;
}

export class Slots {
  readonly #sets: GpuSets;
  /** By place; Infinity: never for sure. */
  readonly #freeFrom: readonly number[];
  /** Places by that instant. */
  readonly #byTime: readonly number[];
  /** Of the slots, in the order of the line. Flat lists of numbers here and below: they are gone through for each start. */
  readonly #claimants: Claimant[] = [];
  readonly #gpus: number[] = [];
  /** Who lasts at least so long cannot pass it; -Infinity: nobody can, see {@link add}. */
  readonly #firmFrom: number[] = [];
  /** The GPUs that the slots' claimants can use: few different sets. */
  readonly #suitings = new Set<GpuSet>();
  /** When a slot begins or ends, in order. */
  readonly #times: number[] = [];
  /** Of each of these instants: twice the place of the slot, and one more for its end. */
  readonly #changes: number[] = [];
  readonly #fronts: Front[] = [];
  /** Per change, how many GPUs come free by it for the one whose start is looked for. */
  readonly #gains: number[] = [];
  #severalAsked = false;

  /** @param freeFrom for each GPU when it is free of today's leases. */
  constructor(sets: GpuSets, freeFrom: readonly number[]) {
    this.#sets = sets;
    this.#freeFrom = freeFrom;
    this.#byTime = [...freeFrom.keys()].sort((a, b) => (freeFrom[a] as number) - (freeFrom[b] as number));
  }

  /** The first instant at which so many of the GPUs in `among` are free of all slots; Infinity: there is none. */
  startBehindAll(wanted: number, among: GpuSet, now: EpochMs): number {
    const front = this.#front(among, wanted);
    this.#advance(front);
    return front.free < wanted ? Infinity : Math.max(now, front.at);
  }

  /** The first instant at which `claimant` has enough GPUs beside those who cannot be passed; Infinity: there is none. */
  startPassing(claimant: Claimant, now: EpochMs): number {
    const { gpus: wanted, suiting } = claimant;
    const [times, changes, gains] = [this.#times, this.#changes, this.#gains];
    let free = -this.#keepBack(claimant);
    let next = 0;
    for (let i = 0; i <= this.#byTime.length; i++) {
      const place = this.#byTime[i];
      if (place !== undefined && suiting.has[place] === 0) continue;
      // After the last GPU come the slots that are left.
      const freeFrom = place === undefined ? Infinity : (this.#freeFrom[place] as number);
      while (free < wanted && next < times.length && (times[next] as number) < freeFrom) {
        free += gains[changes[next++] as number] as number;
      }
      if (free >= wanted) return Math.max(now, times[next - 1] as number);
      free++;
      if (free >= wanted && place !== undefined) return Math.max(now, freeFrom);
    }
    return Infinity;
  }

  /**
   * The GPUs that go to nobody behind `claimant` while it waits, but to those who give them back in time: those that
   * nobody before it can use, if they are enough, and those that everybody before it can use who can use any of its.
   */
  keptFor({ gpus, suiting }: Claimant): readonly GpuSet[] {
    let own = suiting;
    let common = suiting;
    for (const other of this.#suitings) {
      if (this.#sets.overlap(other, suiting) === 0) continue;
      own = this.#sets.without(own, other);
      common = this.#sets.both(common, other);
    }
    return own.size >= gpus ? [own, common] : [common];
  }

  add(claimant: Claimant, begin: number, end: number): void {
    const place = this.#claimants.push(claimant) - 1;
    this.#gpus.push(claimant.gpus);
    // Somebody before it that asks for several may hold GPUs that are free, but not for those who are short.
    this.#firmFrom.push(this.#severalAsked ? claimant.durationMs : -Infinity);
    this.#severalAsked ||= claimant.gpus > 1;
    this.#suitings.add(claimant.suiting);
    this.#note(begin, 2 * place);
    this.#note(end, 2 * place + 1);
    for (const front of this.#fronts) {
      const both = this.#sets.overlap(claimant.suiting, front.among);
      if (front.at < begin) front.free -= both;
      else if (front.at < end) front.free -= Math.min(both, claimant.gpus);
    }
  }

  #front(among: GpuSet, wanted: number): Front {
    let front = this.#fronts.find((one) => one.among === among && one.wanted === wanted);
    if (front === undefined) {
      front = { among, wanted, at: -Infinity, free: 0, nextGpu: 0 };
      for (const { suiting } of this.#claimants) front.free -= this.#sets.overlap(suiting, among);
      this.#fronts.push(front);
    }
    return front;
  }

  /** To the first instant from where it stands at which enough are free: all that happens at one instant counts there. */
  #advance(front: Front): void {
    const { among, wanted } = front;
    if (front.free >= wanted) return;
    let next = firstIndex(this.#times, (time) => time > front.at);
    while (front.free < wanted) {
      const at = Math.min(this.#nextGpuAt(front), this.#times[next] ?? Infinity);
      if (at === Infinity) return;
      front.at = at;
      for (; this.#nextGpuAt(front) === at; front.nextGpu++) front.free++;
      for (; this.#times[next] === at; next++) {
        const change = this.#changes[next] as number;
        const { suiting, gpus } = this.#claimants[change >> 1] as Claimant;
        front.free += gained(this.#sets.overlap(suiting, among), gpus, (change & 1) === 1);
      }
    }
  }

  /** When the next of its GPUs comes free. */
  #nextGpuAt(front: Front): number {
    const { has } = front.among;
    while (front.nextGpu < this.#byTime.length && has[this.#byTime[front.nextGpu] as number] === 0) front.nextGpu++;
    return this.#freeFrom[this.#byTime[front.nextGpu] ?? -1] ?? Infinity;
  }

  /** Notes what each slot that `claimant` cannot pass keeps until it begins, and returns the sum. */
  #keepBack(claimant: Claimant): number {
    const { gpus, durationMs, suiting } = claimant;
    const [asked, firmFrom, gains] = [this.#gpus, this.#firmFrom, this.#gains];
    let sum = 0;
    for (let place = 0; place < asked.length; place++) {
      const isBetter = (asked[place] as number) <= gpus && (firmFrom[place] as number) <= durationMs;
      const keeps = isBetter && this.#keepsFrom(this.#claimants[place] as Claimant, claimant) ? suiting.size : 0;
      const taken = Math.min(keeps, asked[place] as number);
      gains[2 * place] = keeps - taken;
      gains[2 * place + 1] = taken;
      sum += keeps;
    }
    return sum;
  }

  /** Whether `before`, which asks for no more than `claimant`, can use all that it can, and is not let past. */
  #keepsFrom(before: Claimant, claimant: Claimant): boolean {
    const { suiting } = claimant;
    if (before.suiting !== suiting && this.#sets.overlap(before.suiting, suiting) < suiting.size) return false;
    if (before.shares && claimant.shares) return false;
    const isEqual = claimant.durationMs === Infinity && claimant.priority === before.priority;
    return !(before.isPassable && isEqual && claimant.gpus > before.gpus);
  }

  #note(at: number, change: number): void {
    // Nothing is waited for that never comes.
    if (at === Infinity) return;
    const [times, changes] = [this.#times, this.#changes];
    let place = times.push(at) - 1;
    changes.push(change);
    for (; place > 0 && (times[place - 1] as number) > at; place--) {
      times[place] = times[place - 1] as number;
      changes[place] = changes[place - 1] as number;
    }
    times[place] = at;
    changes[place] = change;
  }
}

/** How many GPUs come free when a slot begins or ends that kept so many until it began. */
function gained(keeps: number, asked: number, isEnd: boolean): number {
  const taken = Math.min(keeps, asked);
  return isEnd ? taken : keeps - taken;
}
