import { compareText, first } from "../base/order.ts";
import { shapeOf } from "../host/demand.ts";
import type { Request } from "../model/allocation.ts";
import type { Gpu } from "../model/gpu.ts";
import { boardOf } from "../model/mig.ts";
import type { Closeness } from "../readings/closeness.ts";
import { bestSet } from "./best-set.ts";
import type { Candidate } from "./candidates.ts";
import { offeredTo, passedOver, together } from "./fit.ts";

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
  gpus: Iterable<Gpu>,
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
  return chosen.sort((a, b) => a.gpu.index - b.gpu.index || compareText(a.gpu.uuid, b.gpu.uuid));
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
  const whole = free.filter(({ gpu }) => gpu.mig === null);
  return bestSet(taken, options, count - taken.length, whole, closeness);
}
