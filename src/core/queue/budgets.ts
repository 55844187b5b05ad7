/**
 * What quotas leave to be granted in one pass over the line.
 *
 *  1. Grants of the pass use it up: it is looked up in the state that they have led to. What a head will need, for which
 *     GPUs are held, is set aside for it.
 *  2. Once a request has been kept waiting by its own quota for `reserveAfterMs`, nobody behind it in that account is
 *     served before it: or small requests, each of which finds a little left, could keep a large one waiting for ever.
 *     Nobody else is concerned. A request that the quota could never allow any more, or that will not find enough GPUs,
 *     keeps nobody.
 */

import { type FutureCandidate, futureCandidates } from "../allocator/candidates.ts";
import { limitsLater } from "../allocator/fit.ts";
import type { EpochMs } from "../base/time.ts";
import { type AccountKey, accountOf, limitedAccounts } from "../host/accounts.ts";
import { candidates } from "../host/candidates.ts";
import type { FamilyShape, Limit } from "../host/demand.ts";
import { compareKeys, firstsWaiting, type QueueKey, queueKey, type Waiting } from "../host/line.ts";
import type { HostState } from "../host/state.ts";
import type { Request } from "../model/allocation.ts";
import type { AllocationId } from "../model/ids.ts";
import type { Quota } from "../model/policy.ts";
import { needOf, overQuotas, type Remaining, remainingOf } from "./quotas.ts";
import type { Reservation } from "./reservation.ts";
import { WindowAllowances } from "./window-allowances.ts";

const NOTHING_HELD: ReadonlySet<never> = new Set();
const NOTHING: Remaining = { gpus: 0, gpuMs: 0 };

export class Budgets {
  readonly #now: EpochMs;
  readonly #later: () => readonly FutureCandidate[];
  /** Made when something is set aside. */
  #aside: Map<AccountKey, Remaining> | null = null;
  #heads: Set<AllocationId> | null = null;
  #state: HostState;
  #remaining: Map<AccountKey, Remaining> | null = null;
  /** See 2: the first of those who wait for an account's quota; not yet found out when `null`. */
  #first: ReadonlyMap<AccountKey, QueueKey> | null = null;

  /** @param later what there will be once today's leases have ended. */
  constructor(state: HostState, later: () => readonly FutureCandidate[], now: EpochMs) {
    this.#state = state;
    this.#later = later;
    this.#now = now;
  }

  /** The pass has come to `state`. */
  follow(state: HostState): void {
    if (state.accounts !== this.#state.accounts) {
      this.#remaining = null;
      this.#first = null;
    }
    this.#state = state;
  }

  /** Those of `limits` within which a family's quotas are too. They are not asked for where it has nothing left. */
  within(shape: FamilyShape, limits: () => readonly Limit[]): readonly Limit[] {
    if (shape.quotas === null) return limits();
    const longestMs = longestWithin(shape, (key, quota) => this.#remainingBeside(key, quota));
    return longestMs === null ? NO_LIMITS : narrowed(limits(), longestMs);
  }

  /** Whether nobody of its account who waits for their quota stands before it. */
  isOpen({ key, isLimited, allocation: { request } }: Waiting): boolean {
    return !isLimited || this.#closedBy(request, key) === null;
  }

  /** GPUs are held for a head: its quota is too. */
  setAside(head: Request): void {
    this.#heads ??= new Set();
    this.#aside ??= new Map();
    this.#heads.add(head.id);
    for (const { key, quota } of limitedAccounts(head, this.#state.policy.quotas)) {
      const { gpus, gpuMs } = this.#aside.get(key) ?? NOTHING;
      const needMs = quota.gpuTime === null ? 0 : needOf(head, quota.gpuTime);
      this.#aside.set(key, { gpus: gpus + head.requirement.gpus, gpuMs: gpuMs + needMs });
    }
  }

  /** Why quotas keep a request waiting, in words; `null`: they do not. */
  objection(request: Request): string | null {
    const over = overQuotas(request, this.#state, this.#now)[0];
    if (over !== undefined) return over.reason;
    const key = this.#closedBy(request, queueKey(request, this.#state.policy)) ?? this.#setAsideIn(request);
    return key === null ? null : `what ${key} has left is kept for a request before this one`;
  }

  /** The account in which too little is left for a request beside what is set aside for others. */
  #setAsideIn(request: Request): AccountKey | null {
    if (this.#aside === null || this.#heads?.has(request.id)) return null;
    for (const { key, quota } of limitedAccounts(request, this.#state.policy.quotas)) {
      if (!this.#aside.has(key)) continue;
      const { gpus, gpuMs } = this.#remainingBeside(key, quota);
      if (request.requirement.gpus > gpus) return key;
      if (quota.gpuTime !== null && (gpuMs <= 0 || needOf(request, quota.gpuTime) > gpuMs)) return key;
    }
    return null;
  }

  #closedBy(request: Request, place: QueueKey): AccountKey | null {
    const accounts = limitedAccounts(request, this.#state.policy.quotas);
    if (accounts.length === 0) return null;
    this.#first ??= this.#whoWaitsForQuota();
    for (const { key } of accounts) {
      const first = this.#first.get(key);
      if (first !== undefined && compareKeys(first, place) < 0) return key;
    }
    return null;
  }

  #remainingBeside(key: AccountKey, quota: Quota): Remaining {
    this.#remaining ??= new Map();
    let remaining = this.#remaining.get(key);
    if (remaining === undefined) {
      remaining = remainingOf(accountOf(this.#state.accounts, key, quota), this.#state, this.#now);
      this.#remaining.set(key, remaining);
    }
    const aside = this.#aside?.get(key) ?? NOTHING;
    return { gpus: remaining.gpus - aside.gpus, gpuMs: remaining.gpuMs - aside.gpuMs };
  }

  /** Whether a member of a family could find too little left of a quota. */
  #isTight({ gpus, quotas }: FamilyShape): boolean {
    return (quotas?.accounts ?? []).some(({ key, quota }) => {
      const remaining = this.#remainingBeside(key, quota);
      return gpus > remaining.gpus || (quota.gpuTime !== null && remaining.gpuMs < gpus * quota.gpuTime.periodMs);
    });
  }

  #whoWaitsForQuota(): ReadonlyMap<AccountKey, QueueKey> {
    const first = new Map<AccountKey, QueueKey>();
    const { policy, line } = this.#state;
    const allowances = new WindowAllowances(this.#state, this.#later, this.#now).beside([]);
    const hopeful = (shape: FamilyShape) => {
      const longestMs = this.#isTight(shape) ? longestWithin(shape, everything) : null;
      if (longestMs === null) return NO_LIMITS;
      return narrowed(limitsLater(shape, this.#later(), NOTHING_HELD, allowances(shape.memberOf)), longestMs);
    };
    for (const { key: place, allocation } of firstsWaiting(line, hopeful)) {
      const { request } = allocation;
      if (this.#now - request.submittedAt < policy.reserveAfterMs || this.#heads?.has(request.id)) continue;
      for (const { key } of overQuotas(request, this.#state, this.#now)) {
        const other = first.get(key);
        if (other === undefined || compareKeys(place, other) < 0) first.set(key, place);
      }
    }
    return first;
  }
}

/** Of the host as it stands, beside what is held for those who wait. */
export function budgetsOf(
  state: HostState,
  held: readonly Reservation[],
  now: EpochMs,
  later: () => readonly FutureCandidate[] = () => futureCandidates(state, candidates(state, now), now),
): Budgets {
  const budgets = new Budgets(state, later, now);
  for (const { head } of held) {
    const waiting = state.allocations.get(head);
    if (waiting !== undefined) budgets.setAside(waiting.request);
  }
  return budgets;
}

/** What an account that has nothing has left. */
function everything(_key: AccountKey, { maxGpus, gpuTime }: Quota): Remaining {
  return { gpus: maxGpus ?? Infinity, gpuMs: gpuTime?.limitMs ?? Infinity };
}

/**
 * The longest that a lease of a family may last within its quotas; `null`: none may begin. Exact: a member whose accounts
 * have enough left asks for no more than that, and no other does.
 */
function longestWithin(
  { gpus, quotas }: FamilyShape,
  remaining: (key: AccountKey, quota: Quota) => Remaining,
): number | null {
  let longestMs = Infinity;
  for (const { key, quota } of quotas?.accounts ?? []) {
    const { gpus: leftGpus, gpuMs } = remaining(key, quota);
    if (gpus > leftGpus) return null;
    if (quota.gpuTime === null) continue;
    if (gpuMs <= 0) return null;
    const eachMs = Math.floor(gpuMs / gpus);
    // A lease is charged for one period at most.
    if (quotas?.endless === false && eachMs < quota.gpuTime.periodMs) longestMs = Math.min(longestMs, eachMs);
  }
  return longestMs;
}

const NO_LIMITS: readonly Limit[] = [];

function narrowed(limits: readonly Limit[], longestMs: number): readonly Limit[] {
  if (longestMs === Infinity) return limits;
  return limits.map(({ memoryMib, durationMs }) => ({ memoryMib, durationMs: Math.min(durationMs, longestMs) }));
}
