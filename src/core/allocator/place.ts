import type { Gpu, GpuUuid, Request } from "../model.ts";
import { acceptableNames, type FamilyShape, shapeOf } from "../queue/line.ts";
import type { HostState } from "../state.ts";
import type { ComingGpu, FreeGpu, PassReason } from "./survey.ts";

/**
 * The most memory per GPU that a family can be served with from `free`; `null` when too few GPUs suit it.
 * A member of the family fits now if and only if it asks for no more.
 */
export function largestAskNow(shape: FamilyShape, free: readonly FreeGpu[]): number | null {
  const suiting: number[] = [];
  for (const candidate of free) {
    if (objection(shape, candidate) === null) suiting.push(candidate.availableMib);
  }
  return kthLargest(suiting, shape.gpus);
}

/**
 * The most memory per GPU that a family will be served with from `gpus` less those `held`; `null` when there are too
 * few of its model.
 */
export function largestAskLater(
  shape: FamilyShape,
  gpus: readonly ComingGpu[],
  held: ReadonlySet<GpuUuid>,
): number | null {
  const suiting: number[] = [];
  for (const { gpu, memoryMib } of gpus) {
    if (held.has(gpu.uuid)) continue;
    if (shape.names === null || shape.names.has(gpu.name)) suiting.push(memoryMib);
  }
  return kthLargest(suiting, shape.gpus);
}

function kthLargest(values: number[], k: number): number | null {
  return first(values, k, (a, b) => b - a)[k - 1] ?? null;
}

/** The `count` first of `items` in the order of `compare`; one, which is asked for most, takes one pass. */
function first<T>(items: T[], count: number, compare: (a: T, b: T) => number): T[] {
  if (count !== 1 || items.length === 0) return items.sort(compare).slice(0, count);
  return [items.reduce((best, item) => (compare(item, best) < 0 ? item : best))];
}

function objection(shape: FamilyShape, { gpu, utilizationPercent }: FreeGpu): PassReason | null {
  if (shape.names !== null && !shape.names.has(gpu.name)) return "model";
  // Without a reading of utilisation, only a limit that the caller stated excludes the GPU.
  if (utilizationPercent === null) return shape.maxUtilizationExplicit ? "utilization" : null;
  return utilizationPercent > shape.maxUtilizationPercent ? "utilization" : null;
}

/**
 * Chooses GPUs for `request` out of `free`.
 *
 * Takes preferred GPUs first, then those that are not strained, then the smallest that fit, to keep large ones
 * whole; equal GPUs go by UUID, because an index can change across reboots. The same GPUs in any order give the
 * same placement.
 *
 * @returns the chosen GPUs in ascending index order, or `null` when too few fit. No fit is not an error.
 */
export function place(request: Request, free: readonly FreeGpu[], gpus: Iterable<Gpu>): readonly FreeGpu[] | null {
  const shape = shapeOf(request, gpus);
  const wish = new Map(request.preferredGpus.map((name, order) => [name, order]));
  const wishOf = ({ gpu }: FreeGpu) => wish.get(gpu.uuid) ?? wish.get(String(gpu.index)) ?? wish.size;
  const fitting = free.filter((candidate) => passedOver(request, shape, candidate) === null);
  if (fitting.length < shape.gpus) return null;
  const chosen = first(
    fitting,
    shape.gpus,
    (a, b) =>
      (wish.size === 0 ? 0 : wishOf(a) - wishOf(b)) ||
      Number(a.strained) - Number(b.strained) ||
      a.availableMib - b.availableMib ||
      compareText(a.gpu.uuid, b.gpu.uuid),
  );
  return chosen.sort((a, b) => a.gpu.index - b.gpu.index || compareText(a.gpu.uuid, b.gpu.uuid));
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Why a free GPU is passed over for one request; `null` when it suits. */
export function passedOver(request: Request, shape: FamilyShape, candidate: FreeGpu): PassReason | null {
  return objection(shape, candidate) ?? (candidate.availableMib < request.requirement.memoryMib ? "memory" : null);
}

/** Those of `gpus` that a request can use once they are free. */
export function usable(request: Request, gpus: readonly ComingGpu[]): readonly ComingGpu[] {
  const names = acceptableNames(
    request.gpuModel,
    gpus.map(({ gpu }) => gpu),
  );
  return gpus.filter(
    ({ gpu, memoryMib }) => (names === null || names.has(gpu.name)) && memoryMib >= request.requirement.memoryMib,
  );
}

/**
 * Why this host could never hold the request, whatever is free and whoever is healthy; `null` when it could.
 * Judged on the inventory: every GPU seen and not removed.
 */
export function neverFits(request: Request, state: HostState): string | null {
  const { gpus: count, memoryMib } = request.requirement;
  const names = acceptableNames(request.gpuModel, state.gpus.values());
  const model: Gpu[] = [];
  let large = 0;
  for (const gpu of state.gpus.values()) {
    if (names !== null && !names.has(gpu.name)) continue;
    model.push(gpu);
    if ((gpu.memoryTotalMib ?? 0) >= memoryMib) large++;
  }
  if (large >= count) return null;
  const of = request.gpuModel === null ? "" : ` of a model like ${JSON.stringify(request.gpuModel)}`;
  if (model.length < count) {
    return `asked for ${count} GPUs${of}; this host has ${model.length === 0 ? "none" : model.length}`;
  }
  const largest = model.reduce((most, gpu) => Math.max(most, gpu.memoryTotalMib ?? 0), 0);
  return large === 0
    ? `asked for ${memoryMib} MiB per GPU; the largest${of} here has ${largest} MiB`
    : `asked for ${count} GPUs${of} with ${memoryMib} MiB each; this host has ${large}`;
}
