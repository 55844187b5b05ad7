import type { Candidate } from "../host/free-gpus.ts";
import type { Closeness } from "../readings/closeness.ts";

/** Sets that are looked at one by one, at most: all halves of 16 GPUs. Beyond, sets are grown. */
export const MAX_SETS = 12_870;

/** Sets that are grown at most: a bound for hosts larger than there are. */
const MAX_GROWN = 16;

/** The GPUs of which some are to be taken, by their places in the list of them. */
interface Options {
  readonly size: number;
  /** Where their figures stand in {@link Closeness}. */
  readonly places: readonly number[];
  readonly memoryMib: readonly number[];
  /** What each adds with the GPUs that are taken in any case. */
  readonly within: readonly number[];
  /** What each adds with all that are free. Between sets that are connected alike the pairs within make no difference. */
  readonly across: readonly number[];
  /** The option before it that could stand in its place, and nothing would change but the UUID; -1: none could. */
  readonly twins: readonly number[];
}

/** GPUs that can be had, one of which stands for all that are connected alike. */
export interface AlikeGpus {
  readonly first: Candidate;
  readonly members: readonly Candidate[];
}

/** How good a set is, in the order in which that counts; see {@link Closeness}. Less is better. */
interface Score {
  within: number;
  memoryMib: number;
  across: number;
}

function isBetter(a: Score, b: Score): boolean {
  if (a.within !== b.within) return a.within < b.within;
  if (a.memoryMib !== b.memoryMib) return a.memoryMib < b.memoryMib;
  return a.across < b.across;
}

/**
 * Chooses `count` of `options`, to be taken together with those in `taken`: the set that is connected best, then the
 * one with the least memory, then the one that tears the fewest good connections to those left, then that which comes
 * first in the order of `options`.
 *
 * Exact up to {@link MAX_SETS} sets. Beyond, the best of {@link MAX_GROWN} that grow from one option by the one that
 * goes best with all before it.
 *
 * @param options at least `count`, in an order that does not depend on chance. Of some that are alike it is enough to
 *   give the first `count`.
 * @param all how many there are, with those that were left out.
 * @param free every GPU that can be had now, those that do not fit included.
 */
export function bestSet(
  taken: readonly Candidate[],
  options: readonly Candidate[],
  count: number,
  all: number,
  free: readonly AlikeGpus[],
  closeness: Closeness,
): Candidate[] {
  const priced = price(taken, options, free, closeness);
  const choose = setsOf(all, count) <= MAX_SETS ? search : grow;
  return [...taken, ...choose(priced, count, closeness).map((at) => options[at] as Candidate)];
}

/** How many sets of `count` there are of `n`, or some number above {@link MAX_SETS}. */
function setsOf(n: number, count: number): number {
  let sets = 1;
  for (let i = 0; i < Math.min(count, n - count) && sets <= MAX_SETS; i++) sets = (sets * (n - i)) / (i + 1);
  return sets;
}

function price(
  taken: readonly Candidate[],
  candidates: readonly Candidate[],
  free: readonly AlikeGpus[],
  closeness: Closeness,
): Options {
  const held = taken.map(({ gpu }) => placeIn(closeness, gpu));
  const places = candidates.map(({ gpu }) => placeIn(closeness, gpu));
  const options = {
    size: candidates.length,
    places,
    memoryMib: candidates.map(({ availableMib }) => availableMib),
    within: places.map((place) => sumOver(held, closeness.within, place * closeness.width)),
    across: tornEach(places, free, closeness),
  };
  return { ...options, twins: twinsOf(options, closeness) };
}

/** Those of one kind add the same: it is summed up once for each. */
function tornEach(places: readonly number[], free: readonly AlikeGpus[], closeness: Closeness): number[] {
  /** By kind. */
  const known: (number | undefined)[] = [];
  return places.map((place) => {
    const kind = closeness.kinds[place] as number;
    const sum = known[kind] ?? tornBy(place, free, closeness);
    known[kind] = sum;
    return sum;
  });
}

function placeIn({ places, stranger }: Closeness, { uuid }: Candidate["gpu"]): number {
  return places.get(uuid) ?? stranger;
}

/** What a GPU adds with all that are free but itself. */
export function tornFrom(free: readonly AlikeGpus[], { gpu }: Candidate, closeness: Closeness): number {
  return tornBy(placeIn(closeness, gpu), free, closeness);
}

function tornBy(place: number, free: readonly AlikeGpus[], closeness: Closeness): number {
  const { kinds, width, across, stranger } = closeness;
  const row = place * width;
  let sum = 0;
  // The GPU itself is one of its kind, and is not torn from itself. Any two of a kind are as close.
  let ofItsKind = -1;
  let neighbour = place === stranger ? stranger : null;
  for (const { first, members } of free) {
    const other = placeIn(closeness, first.gpu);
    if (kinds[other] === kinds[place]) {
      ofItsKind += members.length;
      const another = other === place ? members[1] : first;
      if (another !== undefined) neighbour ??= placeIn(closeness, another.gpu);
    } else sum += members.length * (across[row + other] as number);
  }
  return neighbour === null ? sum : sum + ofItsKind * (across[row + neighbour] as number);
}

function sumOver(places: readonly number[], figures: Float64Array, row: number): number {
  let sum = 0;
  for (const place of places) sum += figures[row + place] as number;
  return sum;
}

function twinsOf({ places, memoryMib }: Pick<Options, "places" | "memoryMib">, { kinds }: Closeness): number[] {
  return places.map((place, at) => {
    let before = at - 1;
    while (before >= 0) {
      if (kinds[places[before] as number] === kinds[place] && memoryMib[before] === memoryMib[at]) break;
      before--;
    }
    return before;
  });
}

/** Looks at every set but those that begin worse than one that was seen, or that pass over a twin of one they take. */
function search(options: Options, count: number, { width, within }: Closeness): readonly number[] {
  const { size, places, memoryMib, twins } = options;
  const set: number[] = [];
  const isIn: boolean[] = places.map(() => false);
  const least: Score = { within: Infinity, memoryMib: Infinity, across: Infinity };
  let best: readonly number[] = [];
  const visit = (from: number, depth: number, far: number, memory: number, torn: number): void => {
    for (let at = from; at <= size - count + depth; at++) {
      const twin = twins[at] as number;
      if (twin >= 0 && !isIn[twin]) continue;
      const row = (places[at] as number) * width;
      let nextFar = far + (options.within[at] as number);
      for (let i = 0; i < depth; i++) nextFar += within[row + (places[set[i] as number] as number)] as number;
      if (nextFar > least.within) continue;
      const nextMemory = memory + (memoryMib[at] as number);
      const nextTorn = torn + (options.across[at] as number);
      set[depth] = at;
      if (depth + 1 < count) {
        isIn[at] = true;
        visit(at + 1, depth + 1, nextFar, nextMemory, nextTorn);
        isIn[at] = false;
      } else if (isBetter({ within: nextFar, memoryMib: nextMemory, across: nextTorn }, least)) {
        least.within = nextFar;
        least.memoryMib = nextMemory;
        least.across = nextTorn;
        best = [...set];
      }
    }
  };
  visit(0, 0, 0, 0, 0);
  return best;
}

/** The best of the sets that grow from the first {@link MAX_GROWN} options without a twin: those would grow alike. */
function grow(options: Options, count: number, closeness: Closeness): readonly number[] {
  let best: readonly number[] = [];
  let least: Score = { within: Infinity, memoryMib: Infinity, across: Infinity };
  const seeds = [...options.places.keys()].filter((at) => (options.twins[at] as number) < 0);
  for (const seed of seeds.slice(0, MAX_GROWN)) {
    const { set, score } = grownFrom(seed, options, count, closeness);
    if (!isBetter(score, least)) continue;
    least = score;
    best = set;
  }
  return best;
}

function grownFrom(
  seed: number,
  { size, places, memoryMib, across, within: withTaken }: Options,
  count: number,
  { width, within }: Closeness,
): { readonly set: readonly number[]; readonly score: Score } {
  // What each would add as the next. Compared in place, since so many are: as isBetter does it.
  const far = withTaken.slice();
  const isNearer = (a: number, b: number): boolean => {
    if (far[a] !== far[b]) return (far[a] as number) < (far[b] as number);
    if (memoryMib[a] !== memoryMib[b]) return (memoryMib[a] as number) < (memoryMib[b] as number);
    return (across[a] as number) < (across[b] as number);
  };
  const isIn: boolean[] = places.map(() => false);
  const set: number[] = [];
  const score: Score = { within: 0, memoryMib: 0, across: 0 };
  let next = seed;
  for (;;) {
    score.within += far[next] as number;
    score.memoryMib += memoryMib[next] as number;
    score.across += across[next] as number;
    set.push(next);
    isIn[next] = true;
    if (set.length === count) return { set, score };
    const row = (places[next] as number) * width;
    let nearest = -1;
    for (let at = 0; at < size; at++) {
      if (isIn[at]) continue;
      (far[at] as number) += within[row + (places[at] as number)] as number;
      if (nearest < 0 || isNearer(at, nearest)) nearest = at;
    }
    next = nearest;
  }
}
