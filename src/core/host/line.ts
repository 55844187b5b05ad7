/**
 * The waiting line: who is next, found in a time that does not grow with the number waiting but by its logarithm.
 *
 *  1. `order` holds every waiting request once, in serving order; it gives positions.
 *  2. `families` hold the same requests again, apart by everything that decides which GPUs they can use except memory
 *     and how long they can last. A set of GPUs serves a member if and only if it asks for no more than one of a few
 *     {@link Limit}s; each subtree knows its smallest asks.
 *  3. Within a family, members stand apart by the power of two that their `max_duration` lies in; those without one by
 *     their priority, since a wide request may pass only its equals (patience.ts). A limit on duration is sure of every
 *     class but the one that it cuts through, where a search may have to pass over members whose subtree has one that
 *     is small enough and another that is short enough. A search that gets long there looks at finer figures of the
 *     subtrees (smallest-asks.ts). Only if the line is made for it does it look at more than a logarithm of the members.
 *  4. The number of families is bounded by the host (GPU counts x utilisation limits x sets of models, twice), by the accounts
 *     that have a quota, and by the reserved windows (sets of them that somebody may use). Requests that name their GPUs
 *     add a family for each set that they name; however many of the others wait, they add none. Of classes there are as
 *     many as powers of two up to the longest duration, and as priorities.
 *
 * Where a further rule hooks in:
 *  - one that keeps somebody from all GPUs, as quotas do: what it goes by (the account, and only one that has a
 *    quota, or there would be as many families as accounts) goes into {@link FamilyShape} and `familyKey`, and the
 *    callers' `limitsOf` give such a family no limits while its account has used up what it may;
 *  - one that lets somebody have fewer GPUs from some instant on, as reserved windows do (window-allowances.ts):
 *    the family's limits say it (`limitsNow` in fit.ts): less memory for the longer durations, since fewer GPUs are left for those;
 *  - one on a quantity that each request asks for, such as shared memory: another figure in {@link Ask} and in
 *    {@link Limit}, with its smallest in every subtree.
 */
import { byText, OrderedMap, type Ordering } from "../base/ordered-map.ts";
import type { EpochMs } from "../base/time.ts";
import type { QueuedAllocation, Request } from "../model/allocation.ts";
import type { AllocationId } from "../model/ids.ts";
import type { KeptWindow, Policy } from "../model/policy.ts";
import { limitedAccounts } from "./accounts.ts";
import {
  type Ask,
  askOf,
  type Device,
  type FamilyQuotas,
  type FamilyShape,
  isWithin,
  type Limit,
  shapeOf,
} from "./demand.ts";
import { LongSearch, SmallestAsks } from "./smallest-asks.ts";
import { memberOf } from "./window-plan.ts";

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

export interface Waiting {
  readonly key: QueueKey;
  readonly familyKey: string;
  /** Quotas may keep it from being granted: those of its family. */
  readonly isLimited: boolean;
  readonly ask: Ask;
  readonly allocation: QueuedAllocation;
}

export interface Family {
  readonly shape: FamilyShape;
  /** Those that have members. They are few: to look each of them up by its key takes less than to copy a map. */
  readonly classes: readonly FamilyClass[];
}

interface FamilyClass {
  /** See {@link classOf}. */
  readonly key: number;
  readonly members: Members;
}

type Members = OrderedMap<QueueKey, Waiting, SmallestAsks>;

export interface WaitingLine {
  readonly order: OrderedMap<QueueKey, Waiting, undefined>;
  readonly families: OrderedMap<string, Family>;
  /** Those for whom leases are preempted; each has told somebody to leave, or holds GPUs, so they are few. */
  readonly preempting: OrderedMap<QueueKey, Waiting, undefined>;
  /** Those that have been the head: few, since each was the first that GPUs could come to. */
  readonly heads: OrderedMap<QueueKey, Waiting, undefined>;
}

/** What follows the service's name in an id. */
const SEQUENCE_CHARACTERS = 26;

export function compareKeys(a: QueueKey, b: QueueKey): number {
  if (a.rank !== b.rank) return a.rank - b.rank;
  if (a.submittedAt !== b.submittedAt) return a.submittedAt - b.submittedAt;
  if (a.sequence < b.sequence) return -1;
  if (a.sequence > b.sequence) return 1;
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}

const ORDER: Ordering<QueueKey, Waiting, undefined> = { compare: compareKeys, measure: () => undefined };

const SMALLEST_ASKS: Ordering<QueueKey, Waiting, SmallestAsks> = {
  compare: compareKeys,
  measure: (_key, { ask }, left, right) => new SmallestAsks(ask, left, right),
};

export const EMPTY_LINE: WaitingLine = {
  order: OrderedMap.empty(ORDER),
  families: OrderedMap.empty(byText()),
  preempting: OrderedMap.empty(ORDER),
  heads: OrderedMap.empty(ORDER),
};

/** Unlike for any two durations of different powers of two, and for any priority of those that state none. */
function classOf({ maxDurationMs, requirement }: Request): number {
  return maxDurationMs === null ? -requirement.priority : Math.floor(Math.log2(Math.max(1, maxDurationMs)));
}

export function queueKey(request: Request, policy: Policy): QueueKey {
  return {
    rank: request.submittedAt + request.fairShareDelayMs - request.requirement.priority * policy.agingIntervalMs,
    submittedAt: request.submittedAt,
    sequence: request.id.slice(-SEQUENCE_CHARACTERS),
    id: request.id,
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
  const { gpus, maxUtilizationPercent, maxUtilizationExplicit, shared, names, only, quotas } = shape;
  const models = names === null ? "" : JSON.stringify([...names].sort());
  const accounts = quotas === null ? "" : JSON.stringify([quotas.endless, ...quotas.accounts.map(({ key }) => key)]);
  const utilization = `${maxUtilizationPercent}|${maxUtilizationExplicit ? "x" : "d"}`;
  const exact = only === null ? "" : JSON.stringify([...only].sort());
  return `${gpus}${shared ? "s" : ""}|${utilization}|${shape.memberOf}|${models}|${accounts}|${exact}`;
}

/** What decides beside the request itself where it stands. */
interface Rules {
  readonly policy: Policy;
  readonly windows: readonly KeptWindow[];
}

export function enqueue(
  line: WaitingLine,
  allocation: QueuedAllocation,
  { policy, windows }: Rules,
  gpus: Iterable<Device>,
): WaitingLine {
  const key = queueKey(allocation.request, policy);
  const { request } = allocation;
  const shape = shapeOf(request, gpus, familyQuotas(request, policy), memberOf(request, windows));
  const isLimited = shape.quotas !== null;
  const waiting: Waiting = { key, familyKey: familyKey(shape), isLimited, ask: askOf(request), allocation };
  const classes = withMembers(line.families.get(waiting.familyKey)?.classes ?? [], classOf(request), (members) =>
    members.set(key, waiting),
  );
  return {
    order: line.order.set(key, waiting),
    families: line.families.set(waiting.familyKey, { shape, classes }),
    preempting: allocation.preemptingSince === null ? line.preempting : line.preempting.set(key, waiting),
    heads: allocation.headSince === null ? line.heads : line.heads.set(key, waiting),
  };
}

export function dequeue(line: WaitingLine, request: Request, policy: Policy): WaitingLine {
  const key = queueKey(request, policy);
  const taken = line.order.take(key);
  if (taken === undefined) return line;
  const { familyKey } = taken.value;
  const preempting = line.preempting.delete(key);
  const heads = line.heads.delete(key);
  const family = line.families.get(familyKey);
  if (family === undefined) return { ...line, order: taken.rest, preempting, heads };
  const classes = withMembers(family.classes, classOf(request), (members) => members.delete(key));
  const families =
    classes.length === 0
      ? line.families.delete(familyKey)
      : line.families.set(familyKey, { shape: family.shape, classes });
  return { order: taken.rest, families, preempting, heads };
}

function withMembers(
  classes: readonly FamilyClass[],
  key: number,
  change: (members: Members) => Members,
): readonly FamilyClass[] {
  const at = classes.findIndex((one) => one.key === key);
  const members = change(classes[at]?.members ?? OrderedMap.empty(SMALLEST_ASKS));
  const next = classes.slice();
  if (members.size > 0) next[at < 0 ? next.length : at] = { key, members };
  else if (at >= 0) next.splice(at, 1);
  return next;
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
  return earliest(firstsWaiting(line, limitsOf), isOpen);
}

/** The first in line of `some`, of those that `isOpen` lets through. */
export function earliest(
  some: Iterable<Waiting>,
  isOpen: (waiting: Waiting) => boolean = () => true,
): Waiting | undefined {
  let best: Waiting | undefined;
  for (const one of some) {
    if ((best === undefined || compareKeys(one.key, best.key) < 0) && isOpen(one)) best = one;
  }
  return best;
}

/** Of every family, and in it of every class, the first waiting request that can be served. */
export function firstsWaiting(
  line: WaitingLine,
  limitsOf: (shape: FamilyShape) => readonly Limit[],
): readonly Waiting[] {
  const firsts: Waiting[] = [];
  line.families.forEach(({ shape, classes }) => {
    const limits = limitsOf(shape);
    if (limits.length === 0) return;
    for (const { members } of classes) {
      const found = firstWithin(members, limits);
      if (found !== undefined) firsts.push(found);
    }
  });
  return firsts;
}

function firstWithin(members: Members, limits: readonly Limit[]): Waiting | undefined {
  // Mostly it is the very first: GPUs are alike.
  const first = members.first()?.[1];
  if (first === undefined || isWithin(first.ask, limits)) return first;
  const search = new LongSearch(limits);
  return members.find(
    (smallest) => search.isPromising(smallest),
    ({ ask }) => isWithin(ask, limits),
  );
}
