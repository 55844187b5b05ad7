/**
 * What a forecast takes to be given out: a slot for each of those before, from when it has its GPUs until it gives them
 * back, with every lease lasting as long as it may.
 *
 *  1. A slot keeps from who stands behind it every GPU that both can use until it begins, and as many as its claimant
 *     asked for until it ends. So a start is the first instant at which so many GPUs have come free, less what is kept.
 *  2. A further slot only takes away, whatever the instant. So the start for a number of GPUs out of a set never moves
 *     back, and is looked for from where it was last ({@link Front}).
 *
 * Where leases are taken to be short, some pass others: passing.ts.
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

/** When GPUs are free of today's leases. */
export class FreeTimes {
  readonly #byPlace: readonly number[];
  /** By the set's number. */
  readonly #known: (readonly number[] | undefined)[] = [];

  /** @param byPlace for each GPU; Infinity: never for sure. */
  constructor(byPlace: readonly number[]) {
    this.#byPlace = byPlace;
  }

  /** The instants at which one of a set comes free, in order; of those that never do there is none. */
  of({ number, has }: GpuSet): readonly number[] {
    let times = this.#known[number];
    if (times === undefined) {
      times = this.#byPlace.filter((at, place) => has[place] === 1 && at !== Infinity).sort((a, b) => a - b);
      this.#known[number] = times;
    }
    return times;
  }
}

/** Where the first `wanted` GPUs of a set are free of all slots so far. */
interface Front {
  readonly among: GpuSet;
  readonly wanted: number;
  /** When the GPUs of the set come free. */
  readonly comeFree: readonly number[];
  /** Everything up to this instant is counted in `free`. */
  at: number;
  /** Below `wanted` only if there are never so many. */
  free: number;
  /** How many of `comeFree` lie up to `at`. */
  nextGpu: number;
}

export class Slots {
  readonly #sets: GpuSets;
  readonly #freeTimes: FreeTimes;
  /** Of the slots, in the order of the line. */
  readonly #claimants: Claimant[] = [];
  /** The GPUs that the slots' claimants can use: few different sets. */
  readonly #suitings = new Set<GpuSet>();
  /** When a slot begins or ends, in order. Flat lists of numbers, since they are gone through for each front. */
  readonly #times: number[] = [];
  /** Of each of these instants: twice the place of the slot, and one more for its end. */
  readonly #changes: number[] = [];
  readonly #fronts: Front[] = [];

  constructor(sets: GpuSets, freeTimes: FreeTimes) {
    this.#sets = sets;
    this.#freeTimes = freeTimes;
  }

  /** The first instant at which so many of the GPUs in `among` are free of all slots; Infinity: there is none. */
  startBehindAll(wanted: number, among: GpuSet, now: EpochMs): number {
    const front = this.#front(among, wanted);
    if (front.free < wanted) this.#advance(front);
    return front.free < wanted ? Infinity : Math.max(now, front.at);
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
    this.#suitings.add(claimant.suiting);
    this.#note(begin, 2 * place);
    this.#note(end, 2 * place + 1);
    for (const front of this.#fronts) {
      if (front.at >= end) continue;
      const both = this.#sets.overlap(claimant.suiting, front.among);
      if (front.at < begin) front.free -= both;
      else front.free -= Math.min(both, claimant.gpus);
    }
  }

  #front(among: GpuSet, wanted: number): Front {
    for (const front of this.#fronts) if (front.among === among && front.wanted === wanted) return front;
    const front = { among, wanted, comeFree: this.#freeTimes.of(among), at: -Infinity, free: 0, nextGpu: 0 };
    for (const { suiting } of this.#claimants) front.free -= this.#sets.overlap(suiting, among);
    this.#fronts.push(front);
    return front;
  }

  /** To the first instant from where it stands at which enough are free: all that happens at one instant counts there. */
  #advance(front: Front): void {
    const { among, wanted, comeFree } = front;
    const times = this.#times;
    let next = firstIndex(times, (time) => time > front.at);
    while (front.free < wanted) {
      const at = Math.min(comeFree[front.nextGpu] ?? Infinity, times[next] ?? Infinity);
      if (at === Infinity) return;
      front.at = at;
      for (; comeFree[front.nextGpu] === at; front.nextGpu++) front.free++;
      for (; times[next] === at; next++) {
        const change = this.#changes[next] as number;
        const { suiting, gpus } = this.#claimants[change >> 1] as Claimant;
        front.free += gained(this.#sets.overlap(suiting, among), gpus, (change & 1) === 1);
      }
    }
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
