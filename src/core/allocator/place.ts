import { compareText, first } from "../base/order.ts";
import { type Device, type FamilyShape, shapeOf } from "../host/demand.ts";
import type { Bucket, Candidate, FreeGpus } from "../host/free-gpus.ts";
import type { Request } from "../model/allocation.ts";
import { boardOf } from "../model/mig.ts";
import type { Closeness } from "../readings/closeness.ts";
import { bestSet, tornFrom } from "./best-set.ts";
import { asOfferedToShare, offeredTo, passedOver, roomIn, together } from "./fit.ts";

/**
 * Chooses GPUs for `request` out of `free`. Of the sets that fit, that one is taken
 *
 *  1. which has most of the preferred GPUs, those named first before those named later;
 *  2. then the fewest strained ones;
 *  3. of a shared request then those with fewest GPUs that nobody has a part of: they are left for who needs them whole;
 *  4. then the best connections: the fewest pairs with the worst link, then with the next (`closeness.ts`);
 *  5. then the least memory, to keep large GPUs whole: of a shared request the tightest fit;
 *  6. then the one that tears the fewest good connections to GPUs that stay free: small requests go where sets are
 *     broken already;
 *  7. then by UUID, because an index can change across reboots.
 *
 * MIG instances have no connections; of several alike, those of one GPU are taken together. One GPU alone has no
 * connections, so 4 says nothing of it; with nothing known of the topology 4 and 6 say nothing of
 * anybody. The same GPUs in any order give the same placement.
 *
 * @param closeness `null`: not known.
 * @returns the chosen GPUs in ascending index order, or `null` when too few fit. No fit is not an error.
 */
export function place(
  request: Request,
  free: readonly Candidate[],
  gpus: Iterable<Device>,
  closeness: Closeness | null,
): readonly Candidate[] | null {
  const shape = shapeOf(request, gpus);
  const better = preference(request);
  const offered = offeredTo(shape, free);
  const suiting = offered.filter((candidate) => passedOver(request, shape, candidate) === null);
  const fitting = [...together(suiting, request.requirement.memoryMib, better)];
  if (fitting.length < shape.gpus) return null;
  const chosen =
    closeness === null || fitting.length === shape.gpus || request.migProfile !== null
      ? first(
          fitting,
          shape.gpus,
          (a, b) =>
            better(a, b) ||
            a.availableMib - b.availableMib ||
            compareText(boardOf(a.gpu), boardOf(b.gpu)) ||
            compareText(a.gpu.uuid, b.gpu.uuid),
        )
      : closest(fitting, shape.gpus, better, offered, closeness);
  return inOrder(chosen);
}

/**
 * Which of two GPUs is taken first whatever else is taken: one that was wished for, one that is not strained, and by who
 * takes a part one that others have a part of.
 */
function preference({ preferredGpus }: Request): (a: Candidate, b: Candidate) => number {
  const strain = (a: Candidate, b: Candidate) =>
    Number(a.strained) - Number(b.strained) || Number(b.shared) - Number(a.shared);
  if (preferredGpus.length === 0) return strain;
  const wish = new Map(preferredGpus.map((name, order) => [name, order]));
  const wishOf = ({ gpu }: Candidate) => wish.get(gpu.uuid) ?? wish.get(String(gpu.index)) ?? wish.size;
  return (a, b) => wishOf(a) - wishOf(b) || strain(a, b);
}

/** Takes those that are preferred to others, and of the last kind, which need not all be taken, the best set. */
function closest(
  fitting: readonly Candidate[],
  count: number,
  better: (a: Candidate, b: Candidate) => number,
  free: readonly Candidate[],
  closeness: Closeness,
): Candidate[] {
  const sorted = [...fitting].sort((a, b) => better(a, b) || compareText(a.gpu.uuid, b.gpu.uuid));
  const last = sorted[count - 1] as Candidate;
  const taken = sorted.filter((candidate) => better(candidate, last) < 0);
  const options = sorted.filter((candidate) => better(candidate, last) === 0);
  // Nothing is torn from an instance.
  const whole = free.filter(({ gpu }) => gpu.mig === null).map((one) => ({ first: one, members: [one] }));
  return bestSet(taken, options, count - taken.length, options.length, whole, closeness);
}

/**
 * The same as {@link place} where nobody is preferred and GPUs can be counted: it looks at buckets, and at as many GPUs
 * of each as are asked for.
 */
export function placeByBucket(
  request: Request,
  shape: FamilyShape,
  free: FreeGpus,
  closeness: Closeness | null,
): readonly Candidate[] | null {
  const fitting = free.buckets.filter(({ first: one }) => passedOver(request, shape, one) === null);
  const all = sizeOf(fitting);
  if (all < shape.gpus) return null;
  if (shape.gpus === 1 && fitting.length === 1) return [(fitting[0] as Bucket).first];
  const better = preference(request);
  if (shape.gpus === 1) {
    return [bestOne(shape, fitting, better, free, closeness)];
  }
  const isAnySet = closeness === null || all === shape.gpus;
  const compare = (a: Bucket, b: Bucket) =>
    better(a.first, b.first) || (isAnySet ? roomIn(shape, a.first) - roomIn(shape, b.first) : 0);
  if (fitting.length > 1) fitting.sort(compare);
  const taken: Candidate[] = [];
  for (let from = 0, to = 0; taken.length < shape.gpus; from = to) {
    while (to < fitting.length && compare(fitting[to] as Bucket, fitting[from] as Bucket) === 0) to++;
    const level = from === 0 && to === fitting.length ? fitting : fitting.slice(from, to);
    const count = shape.gpus - taken.length;
    const size = sizeOf(level);
    const options = firstByUuid(level, Math.min(count, size));
    if (isAnySet || size <= count) {
      for (const one of options.slice(0, count)) taken.push(one);
      continue;
    }
    const seen = shape.shared ? options.map(asOfferedToShare) : options;
    return inOrder(bestSet(taken, seen, count, size, offeredBuckets(shape, free), closeness));
  }
  return inOrder(taken);
}

function offeredBuckets({ shared }: FamilyShape, { buckets }: FreeGpus): readonly Bucket[] {
  const areAllOffered = shared || !buckets.some(({ first: one }) => one.shared);
  return areAllOffered ? buckets : buckets.filter(({ first: one }) => !one.shared);
}

/** Of one GPU no set has to be weighed: the first of the best bucket is taken. */
function bestOne(
  shape: FamilyShape,
  fitting: readonly Bucket[],
  better: (a: Candidate, b: Candidate) => number,
  free: FreeGpus,
  closeness: Closeness | null,
): Candidate {
  let offered: readonly Bucket[] | null = null;
  const compareTorn = (a: Candidate, b: Candidate) => {
    if (closeness === null || a.kind === b.kind) return 0;
    offered ??= offeredBuckets(shape, free);
    return tornFrom(offered, a, closeness) - tornFrom(offered, b, closeness);
  };
  let best = (fitting[0] as Bucket).first;
  for (const { first: one } of fitting) {
    if (one === best) continue;
    const side =
      better(one, best) ||
      roomIn(shape, one) - roomIn(shape, best) ||
      compareTorn(one, best) ||
      compareText(one.gpu.uuid, best.gpu.uuid);
    if (side < 0) best = one;
  }
  return best;
}

function sizeOf(buckets: readonly Bucket[]): number {
  let size = 0;
  for (const { members } of buckets) size += members.length;
  return size;
}

/** The first `count` of each bucket, all together by UUID. */
function firstByUuid(buckets: readonly Bucket[], count: number): readonly Candidate[] {
  if (buckets.length === 1) return (buckets[0] as Bucket).members.slice(0, count);
  const firsts = buckets.flatMap(({ members }) => members.slice(0, count));
  return firsts.sort((a, b) => compareText(a.gpu.uuid, b.gpu.uuid));
}

function inOrder(chosen: Candidate[]): readonly Candidate[] {
  if (chosen.length === 1) return chosen;
  return chosen.sort((a, b) => a.gpu.index - b.gpu.index || compareText(a.gpu.uuid, b.gpu.uuid));
}
