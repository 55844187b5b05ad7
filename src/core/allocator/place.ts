import { boardOf, isOfKind, isSplit, memoryPoolOf, namelessInstances } from "../mig.ts";
import type { Gpu, GpuUuid, Request } from "../model.ts";
import { acceptableNames, type FamilyShape, type Limit, shapeOf } from "../queue/line.ts";
import { type Leave, leaveFor, left } from "../queue/windows.ts";
import type { HostState } from "../state.ts";
import { bestSet } from "./best-set.ts";
import type { Closeness } from "./closeness.ts";
import { headroomMib } from "./sharing.ts";
import type { ComingGpu, FreeGpu, PassReason } from "./survey.ts";

/**
 * What members of a family can ask for and be served from `free`: the more memory, the shorter they must be where the
 * large GPUs are held for others, or windows keep GPUs from some instant on. None when too few GPUs suit it. A member
 * fits now if and only if it is within one.
 *
 * @param leaves what windows leave to the family, now.
 */
export function limitsNow(shape: FamilyShape, free: readonly FreeGpu[], leaves: readonly Leave[]): Limit[] {
  const suiting = offeredTo(shape, free).filter((candidate) => objection(shape, candidate) === null);
  if (suiting.length < shape.gpus) return [];
  const limits: Limit[] = [];
  const durations = [...suiting.map(({ longestMs }) => longestMs), ...leaves.map(({ durationMs }) => durationMs)];
  for (const durationMs of new Set(durations.sort((a, b) => b - a))) {
    const lasting = suiting.filter(({ longestMs }) => longestMs >= durationMs);
    const had = left(lasting, leaveFor(leaves, durationMs), shape.gpus, ({ availableMib }) => availableMib);
    const memoryMib = kthLargest(
      roomsOf(had, ({ availableMib }) => availableMib),
      shape.gpus,
    );
    if (memoryMib === null || memoryMib <= (limits.at(-1)?.memoryMib ?? -1)) continue;
    limits.push({ memoryMib, durationMs });
  }
  return limits;
}

/**
 * What members of a family can ask for and be served, some time, from `gpus` less those `held`; none when there are
 * too few that suit it.
 *
 * @param leaves what windows leave to the family, were today's leases over.
 */
export function limitsLater(
  shape: FamilyShape,
  gpus: readonly ComingGpu[],
  held: ReadonlySet<GpuUuid>,
  leaves: readonly Leave[],
): Limit[] {
  const suiting = gpus.filter((coming) => !held.has(coming.gpu.uuid) && suits(shape, coming));
  const limits: Limit[] = [];
  for (const leave of [...leaves].reverse()) {
    const had = left(suiting, leave, shape.gpus, (coming) => memoryLater(shape, coming));
    const memoryMib = kthLargest(
      roomsOf(had, (coming) => memoryLater(shape, coming)),
      shape.gpus,
    );
    if (memoryMib === null || memoryMib <= (limits.at(-1)?.memoryMib ?? -1)) continue;
    limits.push({ memoryMib, durationMs: leave.durationMs });
  }
  return limits;
}

/** A GPU that is free and suits a family in nothing but memory now does not get better by anybody's release. */
function suits(shape: FamilyShape, { gpu, isolated, now }: ComingGpu): boolean {
  if (now !== null) return objection(shape, now) === null;
  return (shape.names === null || shape.names.has(gpu.name)) && !(isolated && shape.gpus > 1);
}

/**
 * The most that each of some GPUs can give if as many are taken as give so much. Those that share their memory
 * (mig.ts, 3) have the same: one can give all of it, the second half of it, the third a third.
 */
function roomsOf<T extends { readonly gpu: Pick<Gpu, "mig"> }>(
  gpus: readonly T[],
  mibOf: (gpu: T) => number,
): number[] {
  const sharers = new Map<string, number>();
  return gpus.map((one) => {
    const pool = memoryPoolOf(one.gpu);
    if (pool === null) return mibOf(one);
    const share = (sharers.get(pool) ?? 0) + 1;
    sharers.set(pool, share);
    return Math.floor(mibOf(one) / share);
  });
}

/** Those of `fitting` that can be taken together, each with so much: of those that share memory as many as it holds. */
export function together(
  fitting: readonly FreeGpu[],
  askedMib: number,
  better: (a: FreeGpu, b: FreeGpu) => number = () => 0,
): readonly FreeGpu[] {
  if (fitting.every(({ gpu }) => gpu.mig === null)) return fitting;
  const left = new Map<string, number>();
  const sorted = [...fitting].sort((a, b) => better(a, b) || compareText(a.gpu.uuid, b.gpu.uuid));
  return sorted.filter(({ gpu, availableMib }) => {
    const pool = memoryPoolOf(gpu);
    if (pool === null) return true;
    const room = (left.get(pool) ?? availableMib) - askedMib;
    if (room < 0) return false;
    left.set(pool, room);
    return true;
  });
}

function memoryLater({ shared }: FamilyShape, { memoryMib, shareableMib }: ComingGpu): number {
  return shared ? shareableMib : memoryMib;
}

/** What there is for a family: who takes a part finds other memory than who takes the whole. */
function offeredTo(shape: FamilyShape, free: readonly FreeGpu[]): readonly FreeGpu[] {
  if (shape.shared) return free.map((candidate) => ({ ...candidate, availableMib: candidate.shareableMib }));
  return free.some(({ shared }) => shared) ? free.filter(({ shared }) => !shared) : free;
}

function kthLargest(values: number[], k: number): number | null {
  return first(values, k, (a, b) => b - a)[k - 1] ?? null;
}

/** The `count` first of `items` in the order of `compare`; one, which is asked for most, takes one pass. */
function first<T>(items: T[], count: number, compare: (a: T, b: T) => number): T[] {
  if (count !== 1 || items.length === 0) return items.sort(compare).slice(0, count);
  return [items.reduce((best, item) => (compare(item, best) < 0 ? item : best))];
}

function objection(shape: FamilyShape, candidate: FreeGpu): PassReason | null {
  const { gpu, utilizationPercent, isolated, shared, closed } = candidate;
  if (shared && !shape.shared) return "held";
  if (closed !== null) return closed;
  if (shape.names !== null && !shape.names.has(gpu.name)) return "model";
  if (isolated && shape.gpus > 1) return "isolated";
  // Without a reading of utilisation, only a limit that the caller stated excludes the GPU.
  if (utilizationPercent === null) return shape.maxUtilizationExplicit ? "utilization" : null;
  return utilizationPercent > shape.maxUtilizationPercent ? "utilization" : null;
}

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
  free: readonly FreeGpu[],
  gpus: Iterable<Gpu>,
  closeness: Closeness | null,
): readonly FreeGpu[] | null {
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
function preference({ preferredGpus }: Request): (a: FreeGpu, b: FreeGpu) => number {
  const strain = (a: FreeGpu, b: FreeGpu) =>
    Number(a.strained) - Number(b.strained) || Number(b.shared) - Number(a.shared);
  if (preferredGpus.length === 0) return strain;
  const wish = new Map(preferredGpus.map((name, order) => [name, order]));
  const wishOf = ({ gpu }: FreeGpu) => wish.get(gpu.uuid) ?? wish.get(String(gpu.index)) ?? wish.size;
  return (a, b) => wishOf(a) - wishOf(b) || strain(a, b);
}

/** Takes those that are preferred to others, and of the last kind, which need not all be taken, the best set. */
function closest(
  fitting: readonly FreeGpu[],
  count: number,
  better: (a: FreeGpu, b: FreeGpu) => number,
  free: readonly FreeGpu[],
  closeness: Closeness,
): FreeGpu[] {
  const sorted = [...fitting].sort((a, b) => better(a, b) || compareText(a.gpu.uuid, b.gpu.uuid));
  const last = sorted[count - 1] as FreeGpu;
  const taken = sorted.filter((candidate) => better(candidate, last) < 0);
  const options = sorted.filter((candidate) => better(candidate, last) === 0);
  // Nothing is torn from an instance.
  const whole = free.filter(({ gpu }) => gpu.mig === null);
  return bestSet(taken, options, count - taken.length, whole, closeness);
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Why a free GPU is passed over for one request; `null` when it suits. */
export function passedOver(request: Request, shape: FamilyShape, candidate: FreeGpu): PassReason | null {
  if (!isOfKind(request, candidate.gpu)) return "kind";
  const availableMib = shape.shared ? candidate.shareableMib : candidate.availableMib;
  return objection(shape, candidate) ?? (availableMib < request.requirement.memoryMib ? "memory" : null);
}

/** Those of `gpus` that a request can use once they are free. */
export function usable(request: Request, gpus: readonly ComingGpu[], inventory: Iterable<Gpu>): readonly ComingGpu[] {
  const shape = shapeOf(request, inventory);
  const { memoryMib: askedMib } = request.requirement;
  return gpus.filter((coming) => memoryLater(shape, coming) >= askedMib && suits(shape, coming));
}

/**
 * Why this host could never hold the request, whatever is free and whoever is healthy; `null` when it could.
 * Judged on the inventory: every GPU seen and not removed, and MIG instances that are seen and not named.
 */
export function neverFits(request: Request, state: HostState): string | null {
  const { gpus: count, memoryMib } = request.requirement;
  if (request.sharing === "shared" && request.migProfile !== null) {
    return "asked to share a MIG instance: shared leases have whole GPUs only";
  }
  const names = acceptableNames(request, state.gpus.values());
  const model: { readonly gpu: Pick<Gpu, "mig">; readonly memoryMib: number }[] = [];
  for (const gpu of state.gpus.values()) {
    if ((names !== null && !names.has(gpu.name)) || !isOfKind(request, gpu) || isSplit(gpu, state)) continue;
    const totalMib = gpu.memoryTotalMib ?? 0;
    // Head-room is left by all who share a GPU together.
    const mostMib = request.sharing === "shared" ? totalMib - headroomMib(totalMib, state.policy.sharing) : totalMib;
    model.push({ gpu, memoryMib: mostMib });
  }
  // What has no name yet may turn out to be what is asked for.
  if (request.sharing === "exclusive" && (request.migProfile !== null || count === 1)) {
    for (const gpu of namelessInstances(state)) model.push({ gpu, memoryMib: gpu.memoryTotalMib ?? 0 });
  }
  const large = roomsOf(model, (one) => one.memoryMib).filter((roomMib) => roomMib >= memoryMib).length;
  if (large >= count) return null;
  const whole = names !== null && request.gpuModel === null ? "whole GPU" : "GPU";
  const device = `${request.migProfile === null ? whole : "MIG instance"}${count === 1 ? "" : "s"}`;
  const kind = request.migProfile === null ? device : `${device} ${request.migProfile}`;
  const of = request.gpuModel === null ? "" : ` of a model like ${JSON.stringify(request.gpuModel)}`;
  if (model.length < count) {
    return `asked for ${count} ${kind}${of}; this host has ${model.length === 0 ? "none" : model.length}`;
  }
  const largest = model.reduce((most, one) => Math.max(most, one.memoryMib), 0);
  const toShare = request.sharing === "shared" ? " to share" : "";
  return large === 0
    ? `asked for ${memoryMib} MiB per GPU; the largest${of} here has ${largest} MiB${toShare}`
    : `asked for ${count} ${kind}${of} with ${memoryMib} MiB each; this host has ${large}`;
}
