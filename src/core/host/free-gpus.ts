/**
 * The GPUs that may be granted, in buckets of GPUs that are alike.
 *
 *  1. Of the GPUs of one bucket any can stand for any other, whatever is asked for: they differ in their UUIDs, and in
 *     the memory level to which they must return. So a decision looks at buckets, which do not grow with the GPUs.
 *  2. The members of a bucket stand by UUID, the order in which they are granted.
 *  3. MIG instances share memory and silicon with others, and no two are alike: each is a bucket of its own.
 *  4. A bucket is kept beyond the age at which its readings are too old; {@link FreeGpus.at} leaves it out then.
 */
import { compareText } from "../base/order.ts";
import type { EpochMs } from "../base/time.ts";
import type { Gpu } from "../model/gpu.ts";
import type { GpuUuid } from "../model/ids.ts";

/** A GPU that may be granted, whole or a part of it. */
export interface Candidate {
  readonly gpu: Gpu;
  /** MiB that a new lease finds there: an exclusive one, until `fit.ts` asks for a shared one. */
  readonly availableMib: number;
  /** MiB that a new shared lease finds there. */
  readonly shareableMib: number;
  /** It has shares already, so nobody gets it alone. */
  readonly shared: boolean;
  /** Why it takes no more shares for now; `null`: it does. */
  readonly closed: "settling" | "crowded" | null;
  readonly utilizationPercent: number | null;
  /** The driver slows it for heat or power, or it is degraded: taken last. */
  readonly strained: boolean;
  /** It cannot work together with others. */
  readonly isolated: boolean;
  /** MiB in use now: the level to which it must return after a lease. */
  readonly baselineMib: number;
  /** The longest that a lease granted there now may last; Infinity: it is held for nobody. */
  readonly longestMs: number;
  /** Of GPUs of one kind each is connected alike with all others (closeness.ts); -1: nothing is known. */
  readonly kind: number;
  /** When its reading is too old to grant it. */
  readonly freshUntil: EpochMs;
}

/** Candidates that are alike; at least one, by UUID. See 1. */
export interface Bucket {
  readonly first: Candidate;
  readonly members: readonly Candidate[];
}

/** By all but which one it is. */
function areAlike(a: Candidate, b: Candidate): boolean {
  return (
    a.availableMib === b.availableMib &&
    a.shareableMib === b.shareableMib &&
    a.shared === b.shared &&
    a.strained === b.strained &&
    a.isolated === b.isolated &&
    a.closed === b.closed &&
    a.utilizationPercent === b.utilizationPercent &&
    a.longestMs === b.longestMs &&
    a.kind === b.kind &&
    a.freshUntil === b.freshUntil &&
    a.gpu.mig === null &&
    b.gpu.mig === null &&
    a.gpu.name === b.gpu.name
  );
}

/** The same for those that {@link areAlike} finds so, and for no others. */
export function keyOf(candidate: Candidate): string {
  const { gpu, availableMib, shareableMib, shared, closed, utilizationPercent, strained, isolated } = candidate;
  const { longestMs, kind, freshUntil } = candidate;
  const flags = (shared ? 1 : 0) + (strained ? 2 : 0) + (isolated ? 4 : 0);
  const facts = `${availableMib}|${shareableMib}|${flags}|${closed}|${utilizationPercent}|${longestMs}|${kind}|${freshUntil}`;
  return `${facts}|${gpu.mig === null ? "" : gpu.uuid}|${gpu.name}`;
}

/** Buckets in the making. */
class Buckets {
  readonly list: Bucket[];

  constructor(list: Bucket[]) {
    this.list = list;
  }

  add(candidate: Candidate): void {
    const at = this.list.findIndex(({ first }) => areAlike(first, candidate));
    if (at < 0) {
      this.list.push({ first: candidate, members: [candidate] });
      return;
    }
    const members = (this.list[at] as Bucket).members.slice();
    members.splice(placeIn(members, candidate.gpu.uuid), 0, candidate);
    this.list[at] = { first: members[0] as Candidate, members };
  }

  /** Whether it was there. Looked for in each of the few buckets. */
  remove(uuid: GpuUuid): boolean {
    for (let at = 0; at < this.list.length; at++) if (this.#removeFrom(at, uuid)) return true;
    return false;
  }

  #removeFrom(at: number, uuid: GpuUuid): boolean {
    const bucket = this.list[at];
    if (bucket === undefined) return false;
    const place = placeIn(bucket.members, uuid);
    if (bucket.members[place]?.gpu.uuid !== uuid) return false;
    const members = bucket.members.slice();
    members.splice(place, 1);
    const [first] = members;
    if (first === undefined) this.list.splice(at, 1);
    else this.list[at] = { first, members };
    return true;
  }
}

/** Where a candidate stands, or would: members are by UUID. */
function placeIn(members: readonly Candidate[], uuid: GpuUuid): number {
  let from = 0;
  let to = members.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if ((members[middle] as Candidate).gpu.uuid < uuid) from = middle + 1;
    else to = middle;
  }
  return from;
}

export class FreeGpus {
  readonly buckets: readonly Bucket[];
  /** Made when it is first asked for. */
  #all: readonly Candidate[] | null = null;

  private constructor(buckets: readonly Bucket[]) {
    this.buckets = buckets;
  }

  static readonly none = new FreeGpus([]);

  static of(candidates: readonly Candidate[]): FreeGpus {
    const members = new Map<string, Candidate[]>();
    for (const candidate of candidates) {
      const key = keyOf(candidate);
      const alike = members.get(key);
      if (alike === undefined) members.set(key, [candidate]);
      else alike.push(candidate);
    }
    const buckets = [...members.values()].map((alike): Bucket => {
      alike.sort((a, b) => compareText(a.gpu.uuid, b.gpu.uuid));
      return { first: alike[0] as Candidate, members: alike };
    });
    return new FreeGpus(buckets);
  }

  get isEmpty(): boolean {
    return this.buckets.length === 0;
  }

  /** One by one, in no order that counts. */
  all(): readonly Candidate[] {
    this.#all ??=
      this.buckets.length === 1 ? (this.buckets[0] as Bucket).members : this.buckets.flatMap(({ members }) => members);
    return this.#all;
  }

  /** Whether neither MIG instances nor GPUs that are lent for a time are among them: then 1 holds, and counting does. */
  get areCountable(): boolean {
    for (const { first } of this.buckets) if (first.gpu.mig !== null || first.longestMs !== Infinity) return false;
    return true;
  }

  /** Those whose readings are not too old at `now`. */
  at(now: EpochMs): FreeGpus {
    const isOld = ({ first }: Bucket) => now > first.freshUntil;
    return this.buckets.some(isOld) ? new FreeGpus(this.buckets.filter((bucket) => !isOld(bucket))) : this;
  }

  without(uuids: readonly GpuUuid[]): FreeGpus {
    const buckets = new Buckets(this.buckets.slice());
    for (const uuid of uuids) buckets.remove(uuid);
    return new FreeGpus(buckets.list);
  }

  /** Less some of them, and with others. */
  with(gone: readonly Candidate[], come: readonly Candidate[] = []): FreeGpus {
    const buckets = new Buckets(this.buckets.slice());
    for (const { gpu } of gone) if (!buckets.remove(gpu.uuid)) throw new Error(`${gpu.uuid} is in no bucket`);
    for (const candidate of come) buckets.add(candidate);
    return new FreeGpus(buckets.list);
  }
}

/** What each GPU of the inventory is to those who wait, as of the latest reading. A value, like the inventory. */
export class Candidates {
  /** By the GPU's place in the inventory; `null`: it may not be granted. */
  readonly #byPlace: readonly (Candidate | null)[];
  readonly free: FreeGpus;
  /** Some GPU is seen to be cut into MIG instances, or to be ready for it. */
  readonly areSomeCut: boolean;

  private constructor(byPlace: readonly (Candidate | null)[], free: FreeGpus, areSomeCut: boolean) {
    this.#byPlace = byPlace;
    this.free = free;
    this.areSomeCut = areSomeCut;
  }

  static readonly none = new Candidates([], FreeGpus.none, false);

  static of(byPlace: readonly (Candidate | null)[], areSomeCut: boolean): Candidates {
    return new Candidates(byPlace, FreeGpus.of(byPlace.filter((candidate) => candidate !== null)), areSomeCut);
  }

  with(changed: readonly { readonly place: number; readonly candidate: Candidate | null }[]): Candidates {
    const byPlace = this.#byPlace.slice();
    const gone: Candidate[] = [];
    const come: Candidate[] = [];
    for (const { place, candidate } of changed) {
      const before = byPlace[place] ?? null;
      byPlace[place] = candidate;
      if (before !== null) gone.push(before);
      if (candidate !== null) come.push(candidate);
    }
    const free = gone.length === 0 && come.length === 0 ? this.free : this.free.with(gone, come);
    return new Candidates(byPlace, free, this.areSomeCut);
  }
}
