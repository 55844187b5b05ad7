import type { AllocationId, EpochMs, Gpu, Policy, QueuedAllocation, Request } from "../model.ts";
import { OrderedMap, type Ordering } from "../ordered-map.ts";

/**
 * The waiting line: who is next, found in a time that does not grow with the number waiting but by its logarithm.
 *
 *  1. `order` holds every waiting request once, in serving order; it gives positions.
 *  2. `families` hold the same requests again, apart by everything that decides which GPUs they can use except
 *     memory. Within a family the first that a set of GPUs can serve is the first that asks for no more than a
 *     certain amount of memory, and each subtree knows its smallest ask.
 *  3. The number of families is bounded by the host (GPU counts x utilisation limits x sets of models), not by
 *     the number waiting.
 */

/**
 * A place in the line. A request gains one level of priority per ageing interval, so two requests' order never
 * changes while both wait, and the key can be fixed at submission.
 */
export interface QueueKey {
  /** Submission, brought forward by one ageing interval per level of priority. */
  readonly rank: number;
  readonly submittedAt: EpochMs;
  /** The sortable end of the id, which tells the order within a millisecond; then the whole id. */
  readonly sequence: string;
  readonly id: AllocationId;
}

/** What all requests of a family have in common. */
export interface FamilyShape {
  readonly gpus: number;
  readonly maxUtilizationPercent: number;
  readonly maxUtilizationExplicit: boolean;
  /** Product names that are acceptable; `null` for any. */
  readonly names: ReadonlySet<string> | null;
}

export interface Waiting {
  readonly key: QueueKey;
  readonly familyKey: string;
  readonly allocation: QueuedAllocation;
}

interface Family {
  readonly shape: FamilyShape;
  readonly line: OrderedMap<QueueKey, Waiting, number>;
}

export interface WaitingLine {
  readonly order: OrderedMap<QueueKey, Waiting, undefined>;
  readonly families: ReadonlyMap<string, Family>;
}

/** What follows the service's name in an id. */
const SEQUENCE_CHARACTERS = 26;

export function compareKeys(a: QueueKey, b: QueueKey): number {
  if (a.rank !== b.rank) return a.rank - b.rank;
  if (a.submittedAt !== b.submittedAt) return a.submittedAt - b.submittedAt;
  if (a.sequence !== b.sequence) return a.sequence < b.sequence ? -1 : 1;
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}

const ORDER: Ordering<QueueKey, Waiting, undefined> = { compare: compareKeys, measure: () => undefined };
const SMALLEST_ASK: Ordering<QueueKey, Waiting, number> = {
  compare: compareKeys,
  measure: (_key, waiting, left, right) =>
    Math.min(waiting.allocation.request.requirement.memoryMib, left ?? Infinity, right ?? Infinity),
};

export const EMPTY_LINE: WaitingLine = { order: OrderedMap.empty(ORDER), families: new Map() };

export function queueKey(request: Request, policy: Policy): QueueKey {
  return {
    rank: request.submittedAt - request.requirement.priority * policy.agingIntervalMs,
    submittedAt: request.submittedAt,
    sequence: request.id.slice(-SEQUENCE_CHARACTERS),
    id: request.id,
  };
}

/** Which product names a request's `gpu_model` accepts, of those on this host; `null` when it accepts any. */
export function acceptableNames(gpuModel: string | null, gpus: Iterable<Gpu>): ReadonlySet<string> | null {
  if (gpuModel === null) return null;
  const wanted = gpuModel.toLowerCase();
  const names = new Set<string>();
  for (const gpu of gpus) if (gpu.name.toLowerCase().includes(wanted)) names.add(gpu.name);
  return names;
}

export function shapeOf(request: Request, gpus: Iterable<Gpu>): FamilyShape {
  return {
    gpus: request.requirement.gpus,
    // Readings are whole percents, so limits that differ by a fraction are the same limit.
    maxUtilizationPercent: Math.floor(request.requirement.maxUtilizationPercent),
    maxUtilizationExplicit: request.requirement.maxUtilizationExplicit,
    names: acceptableNames(request.gpuModel, gpus),
  };
}

function familyKey(shape: FamilyShape): string {
  const names = shape.names === null ? "" : JSON.stringify([...shape.names].sort());
  return `${shape.gpus}|${shape.maxUtilizationPercent}|${shape.maxUtilizationExplicit ? "x" : "d"}|${names}`;
}

export function enqueue(
  line: WaitingLine,
  allocation: QueuedAllocation,
  policy: Policy,
  gpus: Iterable<Gpu>,
): WaitingLine {
  const key = queueKey(allocation.request, policy);
  const shape = shapeOf(allocation.request, gpus);
  const waiting: Waiting = { key, familyKey: familyKey(shape), allocation };
  const family = line.families.get(waiting.familyKey) ?? { shape, line: OrderedMap.empty(SMALLEST_ASK) };
  return {
    order: line.order.set(key, waiting),
    families: new Map(line.families).set(waiting.familyKey, { shape, line: family.line.set(key, waiting) }),
  };
}

export function dequeue(line: WaitingLine, request: Request, policy: Policy): WaitingLine {
  const key = queueKey(request, policy);
  const waiting = line.order.get(key);
  if (waiting === undefined) return line;
  const families = new Map(line.families);
  const family = families.get(waiting.familyKey);
  if (family !== undefined) {
    const rest = family.line.delete(key);
    if (rest.size === 0) families.delete(waiting.familyKey);
    else families.set(waiting.familyKey, { shape: family.shape, line: rest });
  }
  return { order: line.order.delete(key), families };
}

/** From 1: how many stand before it, and itself. */
export function positionOf(line: WaitingLine, request: Request, policy: Policy): number {
  return line.order.rank(queueKey(request, policy)) + 1;
}

/**
 * The first waiting request that passes, over all families.
 *
 * @param largestAskMib for a family, the most memory per GPU that it can be served with; `null` when it cannot be
 *   served at all. Exact: a member fits if and only if it asks for no more.
 */
export function firstWaiting(
  line: WaitingLine,
  largestAskMib: (shape: FamilyShape) => number | null,
): Waiting | undefined {
  let best: Waiting | undefined;
  for (const family of line.families.values()) {
    const limit = largestAskMib(family.shape);
    if (limit === null) continue;
    const found = family.line.find(
      (smallest) => smallest <= limit,
      (waiting) => waiting.allocation.request.requirement.memoryMib <= limit,
    );
    if (found !== undefined && (best === undefined || compareKeys(found.key, best.key) < 0)) best = found;
  }
  return best;
}
