/** Sets of the GPUs that there will be, as a forecast weighs them: few come up, and the same ones again and again. */

import type { FutureCandidate } from "../allocator/candidates.ts";
import { suiting } from "../allocator/fit.ts";
import type { FamilyShape } from "../host/demand.ts";
import { firstIndex } from "../host/window-plan.ts";

/** GPUs by their places in a list. Equal sets are the same object. */
export interface GpuSet {
  /** In the order in which sets came up. */
  readonly number: number;
  /** 1 for each that is in it. */
  readonly has: Uint8Array;
  readonly size: number;
}

/** What members of one family can use: the GPUs that suit it, those with the most memory first. */
interface Suiting {
  readonly places: readonly number[];
  /** MiB of each of `places`. */
  readonly memoryMib: readonly number[];
  /** By how many of `places` a member can use. */
  readonly sets: (GpuSet | undefined)[];
}

/** What is known of two sets, by the numbers of both. */
type ByPair<T> = ((T | undefined)[] | undefined)[];

export class GpuSets {
  readonly #gpus: readonly FutureCandidate[];
  readonly #known: GpuSet[] = [];
  readonly #suiting = new Map<string, Suiting>();
  readonly #both: ByPair<GpuSet> = [];
  readonly #without: ByPair<GpuSet> = [];
  readonly #overlaps: ByPair<number> = [];

  constructor(gpus: readonly FutureCandidate[]) {
    this.#gpus = gpus;
  }

  /** Those that a member of a family can use which asks for so much memory. */
  usable(familyKey: string, shape: FamilyShape, askedMib: number): GpuSet {
    let family = this.#suiting.get(familyKey);
    if (family === undefined) {
      family = this.#suitingTo(shape);
      this.#suiting.set(familyKey, family);
    }
    const count = firstIndex(family.memoryMib, (mib) => mib < askedMib);
    let set = family.sets[count];
    if (set === undefined) {
      const has = new Uint8Array(this.#gpus.length);
      for (const place of family.places.slice(0, count)) has[place] = 1;
      set = this.#one(has);
      family.sets[count] = set;
    }
    return set;
  }

  both(a: GpuSet, b: GpuSet): GpuSet {
    if (a === b) return a;
    return this.#made(this.#both, a, b, (one, other) => one & other);
  }

  without(a: GpuSet, b: GpuSet): GpuSet {
    return this.#made(this.#without, a, b, (one, other) => one & ~other);
  }

  /** How many GPUs are in both. */
  overlap(a: GpuSet, b: GpuSet): number {
    if (a === b) return a.size;
    const row = rowOf(this.#overlaps, a);
    let shared = row[b.number];
    if (shared === undefined) {
      shared = 0;
      for (const [place, one] of a.has.entries()) shared += one & (b.has[place] as number);
      row[b.number] = shared;
    }
    return shared;
  }

  #suitingTo(shape: FamilyShape): Suiting {
    const found = suiting(shape, this.#gpus);
    found.sort((a, b) => b.memoryMib - a.memoryMib);
    return {
      places: found.map(({ place }) => place),
      memoryMib: found.map(({ memoryMib }) => memoryMib),
      sets: [],
    };
  }

  #made(made: ByPair<GpuSet>, a: GpuSet, b: GpuSet, join: (one: number, other: number) => number): GpuSet {
    const row = rowOf(made, a);
    let set = row[b.number];
    if (set === undefined) {
      set = this.#one(a.has.map((one, place) => join(one, b.has[place] as number)));
      row[b.number] = set;
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

function rowOf<T>(pairs: ByPair<T>, { number }: GpuSet): (T | undefined)[] {
  let row = pairs[number];
  if (row === undefined) {
    row = [];
    pairs[number] = row;
  }
  return row;
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  for (let place = 0; place < a.length; place++) if (a[place] !== b[place]) return false;
  return true;
}
