/** Which candidates fit a request, and what any request of a family could ask for and be served. */

import { compareText, first } from "../base/order.ts";
import { type Device, type FamilyShape, type Limit, shapeOf } from "../host/demand.ts";
import type { Bucket, Candidate, FreeGpus } from "../host/free-gpus.ts";
import type { Request } from "../model/allocation.ts";
import type { Gpu } from "../model/gpu.ts";
import type { GpuUuid } from "../model/ids.ts";
import { isOfKind, memoryPoolOf } from "../model/mig.ts";
import { type Allowance, allowanceFor, isLimited, withinAllowance } from "./allowance.ts";
import type { FutureCandidate, PassReason } from "./candidates.ts";

/**
 * What members of a family can ask for and be served from `free`: the more memory, the shorter they must be where the
 * large GPUs are held for others, or windows keep GPUs from some instant on. None when too few GPUs suit it. A member
 * fits now if and only if it is within one.
 *
 * @param allowances what windows leave to the family, now.
 */
export function limitsNow(shape: FamilyShape, free: FreeGpus, allowances: readonly Allowance[]): Limit[] {
  const [only] = allowances;
  const isAny = shape.only === null;
  if (isAny && allowances.length === 1 && only !== undefined && !isLimited(only) && free.areCountable) {
    return limitsByBucket(shape, free.buckets);
  }
  const suiting = offeredTo(shape, free.all()).filter((candidate) => objection(shape, candidate) === null);
  if (suiting.length < shape.gpus) return [];
  const limits: Limit[] = [];
  const durations = [...suiting.map(({ longestMs }) => longestMs), ...allowances.map(({ durationMs }) => durationMs)];
  for (const durationMs of new Set(durations.sort((a, b) => b - a))) {
    const lasting = suiting.filter(({ longestMs }) => longestMs >= durationMs);
    const had = withinAllowance(
      lasting,
      allowanceFor(allowances, durationMs),
      shape.gpus,
      ({ availableMib }) => availableMib,
    );
    const memoryMib = kthLargest(
      roomsOf(had, ({ availableMib }) => availableMib),
      shape.gpus,
    );
    if (memoryMib === null || memoryMib <= (limits.at(-1)?.memoryMib ?? -1)) continue;
    limits.push({ memoryMib, durationMs });
  }
  return limits;
}

/** The same by counting, where nothing depends on how long a lease lasts. */
function limitsByBucket(shape: FamilyShape, buckets: readonly Bucket[]): Limit[] {
  if (shape.gpus === 1) {
    let memoryMib = -1;
    for (const { first: one } of buckets) {
      if (objection(shape, one) === null) memoryMib = Math.max(memoryMib, roomIn(shape, one));
    }
    return memoryMib < 0 ? [] : [{ memoryMib, durationMs: Infinity }];
  }
  const suiting = buckets.filter(({ first: candidate }) => objection(shape, candidate) === null);
  if (suiting.length > 1) suiting.sort((a, b) => roomIn(shape, b.first) - roomIn(shape, a.first));
  let count = 0;
  for (const bucket of suiting) {
    count += bucket.members.length;
    if (count >= shape.gpus) return [{ memoryMib: roomIn(shape, bucket.first), durationMs: Infinity }];
  }
  return [];
}

/** MiB that a member of a family finds on a free GPU. */
export function roomIn({ shared }: FamilyShape, { availableMib, shareableMib }: Candidate): number {
  return shared ? shareableMib : availableMib;
}

/**
 * What members of a family can ask for and be served, some time, from `gpus` less those `held`; none when there are
 * too few that suit it.
 *
 * @param allowances what windows leave to the family, were today's leases over.
 */
export function limitsLater(
  shape: FamilyShape,
  gpus: readonly FutureCandidate[],
  held: ReadonlySet<GpuUuid>,
  allowances: readonly Allowance[],
): Limit[] {
  const suiting = gpus.filter((coming) => !held.has(coming.gpu.uuid) && suits(shape, coming));
  const limits: Limit[] = [];
  for (const allowance of [...allowances].reverse()) {
    const had = withinAllowance(suiting, allowance, shape.gpus, (coming) => memoryLater(shape, coming));
    const memoryMib = kthLargest(
      roomsOf(had, (coming) => memoryLater(shape, coming)),
      shape.gpus,
    );
    if (memoryMib === null || memoryMib <= (limits.at(-1)?.memoryMib ?? -1)) continue;
    limits.push({ memoryMib, durationMs: allowance.durationMs });
  }
  return limits;
}

/** A GPU that is free and suits a family in nothing but memory now does not get better by anybody's release. */
function suits(shape: FamilyShape, { gpu, isolated, now }: FutureCandidate): boolean {
  if (now !== null) return objection(shape, now) === null;
  if (shape.only?.has(gpu.uuid) === false) return false;
  return (shape.names === null || shape.names.has(gpu.name)) && !(isolated && shape.gpus > 1);
}

/**
 * The most that each of some GPUs can give if as many are taken as give so much. Those that share their memory
 * (instances.ts, 3) have the same: one can give all of it, the second half of it, the third a third.
 */
export function roomsOf<T extends { readonly gpu: Pick<Gpu, "mig"> }>(
  gpus: readonly T[],
  mibOf: (gpu: T) => number,
): number[] {
  let sharers: Map<string, number> | null = null;
  return gpus.map((one) => {
    const pool = memoryPoolOf(one.gpu);
    if (pool === null) return mibOf(one);
    sharers ??= new Map();
    const share = (sharers.get(pool) ?? 0) + 1;
    sharers.set(pool, share);
    return Math.floor(mibOf(one) / share);
  });
}

/** Those of `fitting` that can be taken together, each with so much: of those that share memory as many as it holds. */
export function together(
  fitting: readonly Candidate[],
  askedMib: number,
  better: (a: Candidate, b: Candidate) => number = () => 0,
): readonly Candidate[] {
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

function memoryLater({ shared }: FamilyShape, { memoryMib, shareableMib }: FutureCandidate): number {
  return shared ? shareableMib : memoryMib;
}

export function asOfferedToShare(candidate: Candidate): Candidate {
  return { ...candidate, availableMib: candidate.shareableMib };
}

/** What there is for a family: who takes a part finds other memory than who takes the whole. */
export function offeredTo(shape: FamilyShape, free: readonly Candidate[]): readonly Candidate[] {
  if (shape.shared) return free.map(asOfferedToShare);
  return free.some(({ shared }) => shared) ? free.filter(({ shared }) => !shared) : free;
}

function kthLargest(values: number[], k: number): number | null {
  return first(values, k, (a, b) => b - a)[k - 1] ?? null;
}

function objection(shape: FamilyShape, candidate: Candidate): PassReason | null {
  const { gpu, utilizationPercent, isolated, shared, closed } = candidate;
  if (shape.only?.has(gpu.uuid) === false) return "named";
  if (shared && !shape.shared) return "held";
  if (closed !== null) return closed;
  if (shape.names !== null && !shape.names.has(gpu.name)) return "model";
  if (isolated && shape.gpus > 1) return "isolated";
  // Without a reading of utilisation, only a limit that the caller stated excludes the GPU.
  if (utilizationPercent === null) return shape.maxUtilizationExplicit ? "utilization" : null;
  return utilizationPercent > shape.maxUtilizationPercent ? "utilization" : null;
}

/** Why a free GPU is passed over for one request; `null` when it suits. */
export function passedOver(request: Request, shape: FamilyShape, candidate: Candidate): PassReason | null {
  if (!isOfKind(request, candidate.gpu)) return "kind";
  const isTooSmall = roomIn(shape, candidate) < request.requirement.memoryMib;
  return objection(shape, candidate) ?? (isTooSmall ? "memory" : null);
}

/** Those of `gpus` that a request can use once they are free. */
export function usable(
  request: Request,
  gpus: readonly FutureCandidate[],
  inventory: Iterable<Device>,
): readonly FutureCandidate[] {
  const shape = shapeOf(request, inventory);
  const { memoryMib: askedMib } = request.requirement;
  return gpus.filter((coming) => memoryLater(shape, coming) >= askedMib && suits(shape, coming));
}

/** Those of `gpus` that suit a family, each with what its members find on it once it is free. */
export function suiting(
  shape: FamilyShape,
  gpus: readonly FutureCandidate[],
): { readonly place: number; readonly memoryMib: number }[] {
  const found: { readonly place: number; readonly memoryMib: number }[] = [];
  for (const [place, coming] of gpus.entries()) {
    if (suits(shape, coming)) found.push({ place, memoryMib: memoryLater(shape, coming) });
  }
  return found;
}
