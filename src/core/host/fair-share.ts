/**
 * Fair share: who used less GPU-time lately is served earlier.
 *
 *  1. A request is put off when it is submitted, by its principal's part of all that was used lately, times
 *     `maxDelayMs`. It is never put off again: so two that wait keep their order, and nobody waits longer for it than
 *     `maxDelayMs` more.
 *  2. What was used counts half after each half-life: a GPU held for an hour is an hour now, and half an hour then.
 *  3. Requests of one principal never pass each other: the later one is due no sooner.
 *  4. `leases` and `dueTimes` are derived from the allocations. What ended leases have used is counted from the archive, as
 *     it is for quotas (accounts.ts), and is there for the order alone: until it is counted nobody is put off for it.
 */

import { byText, OrderedMap, type Ordering } from "../base/ordered-map.ts";
import type { EpochMs } from "../base/time.ts";
import type { Allocation, LiveAllocation } from "../model/allocation.ts";
import type { AllocationId } from "../model/ids.ts";
import { partsOf } from "../model/leases.ts";
import type { FairShare, Policy } from "../model/policy.ts";

interface Running {
  readonly principal: string;
  readonly parts: number;
  readonly from: EpochMs;
}

/** GPU-milliseconds as they counted at an instant. */
export interface Faded {
  readonly ms: number;
  readonly at: EpochMs;
}

interface FadedOf extends Faded {
  readonly principal: string;
}

/** When a request is due, and the latest of several. */
type DueTimes = OrderedMap<AllocationId, EpochMs, EpochMs>;

export interface FairShares {
  readonly leases: OrderedMap<AllocationId, Running>;
  /** By principal: what leases used that have ended. */
  readonly ended: OrderedMap<string, FadedOf>;
  /** Of all principals together. */
  readonly total: Faded;
  /** By principal: those who wait. */
  readonly dueTimes: OrderedMap<string, DueTimes>;
}

const LATEST: Ordering<AllocationId, EpochMs, EpochMs> = {
  compare: (a, b) => (a < b ? -1 : a > b ? 1 : 0),
  measure: (_id, due, left, right) => Math.max(due, left ?? -Infinity, right ?? -Infinity),
};

const NOTHING: Faded = { ms: 0, at: 0 };

export const NO_FAIR_SHARES: FairShares = {
  leases: OrderedMap.empty(byText()),
  ended: OrderedMap.empty(byText()),
  total: NOTHING,
  dueTimes: OrderedMap.empty(byText()),
};

/** What was used longer ago, less than a thousandth of it counts: it is not looked for in the archive. */
export const HALF_LIVES_THAT_COUNT = 10;

/** What a lease from `from` to `to` counts at `at`, in GPU-milliseconds: the time of it, each instant faded by its age. */
export function fadedUse(parts: number, from: EpochMs, to: EpochMs, at: EpochMs, halfLifeMs: number): number {
  const meanLifeMs = halfLifeMs / Math.LN2;
  // A clock that was set back leaves ends in its future.
  const weight = (instant: EpochMs) => Math.exp(Math.min(0, instant - at) / meanLifeMs);
  return parts * meanLifeMs * (weight(to) - weight(from));
}

function fade({ ms, at }: Faded, now: EpochMs, halfLifeMs: number): number {
  return ms * 2 ** (Math.min(0, at - now) / halfLifeMs);
}

function plus(faded: Faded, ms: number, now: EpochMs, halfLifeMs: number): Faded {
  return { ms: fade(faded, now, halfLifeMs) + ms, at: now };
}

/** The shares after one allocation has become `next`. */
export function withDueTime(
  shares: FairShares,
  before: LiveAllocation | undefined,
  next: Allocation,
  { fairShare }: Policy,
): FairShares {
  if (fairShare === null) return shares;
  const { id, principal, submittedAt, fairShareDelayMs } = next.request;
  let after = shares;
  if (before?.status === "queued" && next.status !== "queued") after = withoutDueTime(after, principal, id);
  if (before === undefined && next.status === "queued") {
    const own: DueTimes = after.dueTimes.get(principal) ?? OrderedMap.empty(LATEST);
    after = { ...after, dueTimes: after.dueTimes.set(principal, own.set(id, submittedAt + fairShareDelayMs)) };
  }
  if (next.status === "queued") return after;
  const running = after.leases.get(id);
  if (next.status !== "ended") {
    if (running !== undefined) return after;
    const { lease } = next;
    return { ...after, leases: after.leases.set(id, { principal, parts: partsOf(lease), from: lease.grantedAt }) };
  }
  if (running === undefined) return after;
  const { at } = next.outcome;
  const ms = fadedUse(running.parts, running.from, at, at, fairShare.halfLifeMs);
  return withEnded({ ...after, leases: after.leases.delete(id) }, principal, ms, at, fairShare);
}

function withoutDueTime(shares: FairShares, principal: string, id: AllocationId): FairShares {
  const rest = shares.dueTimes.get(principal)?.delete(id);
  const isLast = rest === undefined || rest.size === 0;
  return { ...shares, dueTimes: isLast ? shares.dueTimes.delete(principal) : shares.dueTimes.set(principal, rest) };
}

function withEnded(
  shares: FairShares,
  principal: string,
  ms: number,
  at: EpochMs,
  { halfLifeMs }: FairShare,
): FairShares {
  const own = plus(shares.ended.get(principal) ?? NOTHING, ms, at, halfLifeMs);
  return {
    ...shares,
    ended: shares.ended.set(principal, { principal, ...own }),
    total: plus(shares.total, ms, at, halfLifeMs),
  };
}

/** The shares anew, under a policy; of what has ended nothing is known yet. */
export function fairSharesOf(allocations: Iterable<LiveAllocation>, policy: Policy): FairShares {
  let shares = NO_FAIR_SHARES;
  for (const allocation of allocations) shares = withDueTime(shares, undefined, allocation, policy);
  return shares;
}

/** The shares with what had been used, as it counted at `at`, by leases that had ended before they were made anew. */
export function withUse(
  shares: FairShares,
  used: ReadonlyMap<string, number>,
  at: EpochMs,
  { fairShare }: Policy,
): FairShares {
  if (fairShare === null) return shares;
  let after = shares;
  for (const [principal, ms] of used) {
    // What has ended since counts from later on: it is brought to one instant.
    const since = Math.max(at, after.ended.get(principal)?.at ?? at, after.total.at);
    after = withEnded(after, principal, fade({ ms, at }, since, fairShare.halfLifeMs), since, fairShare);
  }
  return after;
}

/** What of the shares does not follow from the allocations. */
export interface FadedUse {
  readonly ended: ReadonlyMap<string, Faded>;
  readonly total: Faded;
}

export function fadedUseOf({ ended, total }: FairShares): FadedUse {
  return { ended: new Map([...ended.values()].map(({ principal, ms, at }) => [principal, { ms, at }])), total };
}

/** The shares of which {@link fadedUseOf} said so. */
export function fairSharesWith(
  { ended, total }: FadedUse,
  allocations: Iterable<LiveAllocation>,
  policy: Policy,
): FairShares {
  let byPrincipal = NO_FAIR_SHARES.ended;
  for (const [principal, { ms, at }] of ended) byPrincipal = byPrincipal.set(principal, { principal, ms, at });
  return { ...fairSharesOf(allocations, policy), ended: byPrincipal, total };
}

/** The part of all that was used lately that a principal used, from 0 to 1. Linear in the host's leases. */
export function shareOf(shares: FairShares, principal: string, { halfLifeMs }: FairShare, now: EpochMs): number {
  let own = fade(shares.ended.get(principal) ?? NOTHING, now, halfLifeMs);
  let total = fade(shares.total, now, halfLifeMs);
  for (const running of shares.leases.values()) {
    const ms = fadedUse(running.parts, running.from, now, now, halfLifeMs);
    total += ms;
    if (running.principal === principal) own += ms;
  }
  // Sums of the same figures in another order may differ in their last digit.
  return total > 0 ? Math.min(1, own / total) : 0;
}

/** By how much a request is put off that `principal` submits at `now`, in whole ms. See 1 and 3. */
export function delayOf(shares: FairShares, principal: string, { fairShare }: Policy, now: EpochMs): number {
  if (fairShare === null) return 0;
  const delayMs = Math.round(fairShare.maxDelayMs * shareOf(shares, principal, fairShare, now));
  const latest = shares.dueTimes.get(principal)?.measure ?? now;
  return Math.max(delayMs, latest - now);
}
