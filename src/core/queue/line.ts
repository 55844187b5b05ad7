import { isOfKind } from "../mig.ts";
import type { AllocationId, EpochMs, Gpu, Policy, QueuedAllocation, Request } from "../model.ts";
import { byText, OrderedMap, type Ordering } from "../ordered-map.ts";
import { type LimitedAccount, limitedAccounts } from "./accounts.ts";
import { memberOf, type WindowSet } from "./windows.ts";

/**
 * The waiting line: who is next, found in a time that does not grow with the number waiting but by its logarithm.
 *
 *  1. `order` holds every waiting request once, in serving order; it gives positions.
 *  2. `families` hold the same requests again, apart by everything that decides which GPUs they can use except memory
 *     and how long they can last. A set of GPUs serves a member if and only if it asks for no more than one of a few
 *     {@link Limit}s; each subtree knows its smallest asks.
 *  3. Within a family, members stand apart by the power of two that their `max_duration` lies in. A limit on duration
 *     is sure of every class but the one that it cuts through, where a search may have to pass over members whose
 *     subtree has one that is small enough and another that is short enough. Only there, and only if the line is made
 *     for it, does a search look at more than a logarithm of the members.
 *  4. The number of families is bounded by the host (GPU counts x utilisation limits x sets of models, twice) and by the
 *     accounts that have a quota and the reserved windows (sets of them that somebody may use), not by the number
 *     waiting; of classes there are as many as powers of two up to the longest duration, and one.
 *
 * Where a further rule hooks in:
 *  - one that keeps somebody from all GPUs, as quotas do: what it goes by (the account, and only one that has a
 *    quota, or there would be as many families as accounts) goes into {@link FamilyShape} and `familyKey`, and the
 *    callers' `limitsOf` give such a family no limits while its account has used up what it may;
 *  - one that lets somebody have fewer GPUs from some instant on, as reserved windows do (windows.ts): the family's
 *    limits say it (`limitsNow` in place.ts): less memory for the longer durations, since fewer GPUs are left for those;
 *  - one on a quantity that each request asks for, such as shared memory: another figure in {@link Ask} and in
 *    {@link Limit}, with its smallest in every subtree.
 */

/**
 * A place in the line. A request gains one level of priority per ageing interval, so two requests' order never
 * changes while both wait, and the key can be fixed at submission; so can what a fair share puts it off by.
 */
export interface QueueKey {
  /** Submission, put off by a fair share, brought forward by one ageing interval per level of priority. */
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
  /** A part of each of them will do, beside other leases. */
  readonly shared: boolean;
  /** Product names that are acceptable; `null` for any. */
  readonly names: ReadonlySet<string> | null;
  /** Whose quotas its members count for; `null`: nobody's. */
  readonly quotas: FamilyQuotas | null;
  /** The reserved windows whose GPUs its members may use. */
  readonly memberOf: WindowSet;
}

/** Only accounts that have a quota of what leases take keep their requests apart: there are few of them. */
export interface FamilyQuotas {
  readonly accounts: readonly LimitedAccount[];
  /** Its members have no `max_duration`; only told apart where GPU-time is limited. */
  readonly endless: boolean;
}

export interface Waiting {
  readonly key: QueueKey;
  readonly familyKey: string;
  readonly allocation: QueuedAllocation;
}

/** What a request asks for that limits are put on. */
export interface Ask {
  /** MiB that each of its GPUs must have. */
  readonly memoryMib: number;
  /** The longest that its lease can last; Infinity: it has no `max_duration`. */
  readonly durationMs: number;
}

/** The most that a request can ask for and be served. */
export type Limit = Ask;

interface Family {
  readonly shape: FamilyShape;
  /** By {@link classOf} the durations of those in them. */
  readonly classes: ReadonlyMap<number, OrderedMap<QueueKey, Waiting, Ask>>;
}

export interface WaitingLine {
  readonly order: OrderedMap<QueueKey, Waiting, undefined>;
  readonly families: OrderedMap<string, Family>;
  /** Those for whom leases are preempted; each has told somebody to leave, or holds GPUs, so they are few. */
  readonly preempting: OrderedMap<QueueKey, Waiting, undefined>;
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
const SMALLEST_ASKS: Ordering<QueueKey, Waiting, Ask> = {
  compare: compareKeys,
  measure: (_key, { allocation }, left, right) => {
    const { memoryMib, durationMs } = askOf(allocation.request);
    return {
      memoryMib: Math.min(memoryMib, left?.memoryMib ?? Infinity, right?.memoryMib ?? Infinity),
      durationMs: Math.min(durationMs, left?.durationMs ?? Infinity, right?.durationMs ?? Infinity),
    };
  },
};

export const EMPTY_LINE: WaitingLine = {
  order: OrderedMap.empty(ORDER),
  families: OrderedMap.empty(byText()),
  preempting: OrderedMap.empty(ORDER),
};

function classOf(durationMs: number): number {
  return durationMs === Infinity ? Infinity : Math.floor(Math.log2(Math.max(1, durationMs)));
}

export function askOf({ requirement, maxDurationMs }: Request): Ask {
  return { memoryMib: requirement.memoryMib, durationMs: maxDurationMs ?? Infinity };
}

export function queueKey(request: Request, policy: Policy): QueueKey {
  return {
    rank: request.submittedAt + request.fairShareDelayMs - request.requirement.priority * policy.agingIntervalMs,
    submittedAt: request.submittedAt,
    sequence: request.id.slice(-SEQUENCE_CHARACTERS),
    id: request.id,
  };
}

/** The part of a request that tells which devices will do. */
export type KindAsked = Pick<Request, "gpuModel" | "migProfile" | "sharing"> & {
  readonly requirement: { readonly gpus: number };
};

/**
 * Which product names a request accepts, of those on this host; `null` when it accepts any. The name of a MIG instance
 * has its profile in it, so that a set of names is one of whole GPUs, or of instances, where either alone will do.
 */
export function acceptableNames(asked: KindAsked, gpus: Iterable<Gpu>): ReadonlySet<string> | null {
  const { gpuModel, migProfile, sharing, requirement } = asked;
  const isAny = gpuModel === null && migProfile === null;
  if (isAny && requirement.gpus === 1 && sharing === "exclusive") return null;
  const wanted = gpuModel?.toLowerCase() ?? null;
  const names = new Set<string>();
  let all = true;
  for (const gpu of gpus) {
    if (isOfKind(asked, gpu) && (wanted === null || gpu.name.toLowerCase().includes(wanted))) names.add(gpu.name);
    else all = false;
  }
  return isAny && all ? null : names;
}

/** @param quotas, member left out where they do not matter. */
export function shapeOf(
  request: Request,
  gpus: Iterable<Gpu>,
  quotas: FamilyQuotas | null = null,
  member: WindowSet = 0,
): FamilyShape {
  return {
    gpus: request.requirement.gpus,
    // Readings are whole percents, so limits that differ by a fraction are the same limit.
    maxUtilizationPercent: Math.floor(request.requirement.maxUtilizationPercent),
    maxUtilizationExplicit: request.requirement.maxUtilizationExplicit,
    shared: request.sharing === "shared",
    names: acceptableNames(request, gpus),
    quotas,
    memberOf: member,
  };
}

function familyQuotas(request: Request, { quotas }: Policy): FamilyQuotas | null {
  const accounts = limitedAccounts(request, quotas).filter(
    ({ quota }) => quota.maxGpus !== null || quota.gpuTime !== null,
  );
  if (accounts.length === 0) return null;
  const endless = request.maxDurationMs === null && accounts.some(({ quota }) => quota.gpuTime !== null);
  return { accounts, endless };
}

function familyKey(shape: FamilyShape): string {
  const { gpus, maxUtilizationPercent, maxUtilizationExplicit, shared, names, quotas } = shape;
  const models = names === null ? "" : JSON.stringify([...names].sort());
  const accounts = quotas === null ? "" : JSON.stringify([quotas.endless, ...quotas.accounts.map(({ key }) => key)]);
  const utilization = `${maxUtilizationPercent}|${maxUtilizationExplicit ? "x" : "d"}`;
  return `${gpus}${shared ? "s" : ""}|${utilization}|${shape.memberOf}|${models}|${accounts}`;
}

export function enqueue(
  line: WaitingLine,
  allocation: QueuedAllocation,
  policy: Policy,
  gpus: Iterable<Gpu>,
): WaitingLine {
  const key = queueKey(allocation.request, policy);
  const { request } = allocation;
  const shape = shapeOf(request, gpus, familyQuotas(request, policy), memberOf(request, policy.windows));
  const waiting: Waiting = { key, familyKey: familyKey(shape), allocation };
  const classKey = classOf(askOf(allocation.request).durationMs);
  const classes = new Map(line.families.get(waiting.familyKey)?.classes);
  classes.set(classKey, (classes.get(classKey) ?? OrderedMap.empty(SMALLEST_ASKS)).set(key, waiting));
  return {
    order: line.order.set(key, waiting),
    families: line.families.set(waiting.familyKey, { shape, classes }),
    preempting: allocation.preemptingSince === null ? line.preempting : line.preempting.set(key, waiting),
  };
}

export function dequeue(line: WaitingLine, request: Request, policy: Policy): WaitingLine {
  const key = queueKey(request, policy);
  const waiting = line.order.get(key);
  if (waiting === undefined) return line;
  const order = line.order.delete(key);
  const preempting = line.preempting.delete(key);
  const family = line.families.get(waiting.familyKey);
  if (family === undefined) return { ...line, order, preempting };
  const classKey = classOf(askOf(request).durationMs);
  const classes = new Map(family.classes);
  const rest = classes.get(classKey)?.delete(key);
  if (rest === undefined || rest.size === 0) classes.delete(classKey);
  else classes.set(classKey, rest);
  const families =
    classes.size === 0
      ? line.families.delete(waiting.familyKey)
      : line.families.set(waiting.familyKey, { shape: family.shape, classes });
  return { order, families, preempting };
}

/** From 1: how many stand before it, and itself. */
export function positionOf(line: WaitingLine, request: Request, policy: Policy): number {
  return line.order.rank(queueKey(request, policy)) + 1;
}

/**
 * The first waiting request that can be served, over all families.
 *
 * @param limitsOf for a family, what its members can ask for and be served; none when it cannot be served at all.
 *   Exact: a member can be served if and only if it is within one of them.
 * @param isOpen false for a member behind which nobody of its family can be served either.
 */
export function firstWaiting(
  line: WaitingLine,
  limitsOf: (shape: FamilyShape) => readonly Limit[],
  isOpen: (waiting: Waiting) => boolean = () => true,
): Waiting | undefined {
  let best: Waiting | undefined;
  for (const found of firstsWaiting(line, limitsOf)) {
    if ((best === undefined || compareKeys(found.key, best.key) < 0) && isOpen(found)) best = found;
  }
  return best;
}

/** Of every family, and in it of every class of durations, the first waiting request that can be served. */
export function* firstsWaiting(
  line: WaitingLine,
  limitsOf: (shape: FamilyShape) => readonly Limit[],
): Generator<Waiting, void, undefined> {
  for (const { shape, classes } of line.families.values()) {
    const limits = limitsOf(shape);
    if (limits.length === 0) continue;
    for (const members of classes.values()) {
      const found = members.find(
        (smallest) => isWithin(smallest, limits),
        ({ allocation }) => isWithin(askOf(allocation.request), limits),
      );
      if (found !== undefined) yield found;
    }
  }
}

export function isWithin(ask: Ask, limits: readonly Limit[]): boolean {
  return limits.some((limit) => ask.memoryMib <= limit.memoryMib && ask.durationMs <= limit.durationMs);
}
