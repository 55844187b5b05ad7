/**
 * What a part of the waiting line asks for at the least, so that a search can skip it whole.
 *
 *  1. The smallest memory and the shortest duration are known at once. Who is small and who is short may be two
 *     members, though: then a search enters a part where nobody is within its limit.
 *  2. The corners say it more finely: no member lies below all of them, so a limit that reaches none reaches nobody. They
 *     are up to {@link MAX_CORNERS}, which are exact while there are no more kinds of asks that others do not undercut.
 *  3. Corners are made when a search asks for them, once per subtree, and cost more than a look: a search asks for them
 *     only when it has become long. A change of the line makes a logarithm of them anew.
 */
import { type Ask, isWithin, type Limit } from "./demand.ts";

const MAX_CORNERS = 4;

/** Subtrees that a search looks at by their smallest figures alone. */
const PLAIN_LOOKS = 64;

export class SmallestAsks implements Ask {
  readonly memoryMib: number;
  readonly durationMs: number;
  readonly #own: Ask;
  readonly #left: SmallestAsks | undefined;
  readonly #right: SmallestAsks | undefined;
  #corners: readonly Ask[] | null = null;

  constructor(own: Ask, left?: SmallestAsks, right?: SmallestAsks) {
    this.memoryMib = Math.min(own.memoryMib, left?.memoryMib ?? Infinity, right?.memoryMib ?? Infinity);
    this.durationMs = Math.min(own.durationMs, left?.durationMs ?? Infinity, right?.durationMs ?? Infinity);
    this.#own = own;
    this.#left = left;
    this.#right = right;
  }

  /** See 2; by memory, and so by falling durations. */
  get corners(): readonly Ask[] {
    this.#corners ??= cornersOf([this.#own, ...(this.#left?.corners ?? []), ...(this.#right?.corners ?? [])]);
    return this.#corners;
  }
}

function cornersOf(asks: readonly Ask[]): readonly Ask[] {
  if (asks.length === 1) return asks;
  const sorted = [...asks].sort((a, b) => a.memoryMib - b.memoryMib || a.durationMs - b.durationMs);
  const corners: Ask[] = [];
  for (const ask of sorted) {
    const last = corners.at(-1);
    if (last === undefined || ask.durationMs < last.durationMs) corners.push(ask);
  }
  while (corners.length > MAX_CORNERS) mergeNearest(corners);
  return corners;
}

/** Puts one corner in the place of two that stand side by side: those between which it lets the least in. */
function mergeNearest(corners: Ask[]): void {
  let nearest = 0;
  let least = Infinity;
  for (let i = 0; i + 1 < corners.length; i++) {
    const [small, short] = [corners[i] as Ask, corners[i + 1] as Ask];
    const letIn = (short.memoryMib - small.memoryMib) * (small.durationMs - short.durationMs);
    if (letIn < least) [nearest, least] = [i, letIn];
  }
  const { memoryMib } = corners[nearest] as Ask;
  const { durationMs } = corners[nearest + 1] as Ask;
  corners.splice(nearest, 2, { memoryMib, durationMs });
}

/** One search for somebody within `limits`. */
export class LongSearch {
  readonly #limits: readonly Limit[];
  #looks = 0;

  constructor(limits: readonly Limit[]) {
    this.#limits = limits;
  }

  /** Whether somebody in a subtree may be within the limits. */
  isPromising(smallest: SmallestAsks): boolean {
    if (!isWithin(smallest, this.#limits)) return false;
    this.#looks++;
    return this.#looks <= PLAIN_LOOKS || smallest.corners.some((corner) => isWithin(corner, this.#limits));
  }
}
