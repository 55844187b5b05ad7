/**
 * What those under a quota wait for, hold and have used. An account is a principal or a service; every request is one
 * of each.
 *
 *  1. Only accounts that the policy limits are kept, and only while they have something.
 *  2. `waiting` and `leases` are derived from the allocations: whatever changes one of these changes them too.
 *  3. What ended leases have used is not durable. It is counted from the archive after a start or a change of quotas,
 *     and goes on from there with every lease that ends; until then `counted` is false, and nothing that depends on it
 *     is granted.
 *  4. Periods are aligned: they follow each other without gaps from one instant on, so that everybody knows when the
 *     next begins, and what is used in one is a sum that only grows.
 */

import { canonicalJson } from "../base/json.ts";
import { OrderedMap, type Ordering } from "../base/ordered-map.ts";
import type { EpochMs } from "../base/time.ts";
import type { Allocation, LiveAllocation, Request } from "../model/allocation.ts";
import type { AllocationId } from "../model/ids.ts";
import { partsOf } from "../model/leases.ts";
import type { Policy, Quota, Quotas } from "../model/policy.ts";

export const ACCOUNT_KINDS = ["principal", "service"] as const;
export type AccountKind = (typeof ACCOUNT_KINDS)[number];
/** Its kind and its name: `principal team-a`. */
export type AccountKey = `${AccountKind} ${string}`;

/** A lease, as far as quotas are concerned. */
export interface Charge {
  readonly gpus: number;
  /** What of them it is charged for: less than all where it shares them. */
  readonly parts: number;
  readonly grantedAt: EpochMs;
  /** When it ends at the latest; `null`: nobody knows. */
  readonly hardEnd: EpochMs | null;
}

export interface Account {
  readonly kind: AccountKind;
  readonly name: string;
  readonly quota: Quota;
  readonly waiting: number;
  /** Offers and leases, with the sum of their GPUs. */
  readonly leases: OrderedMap<AllocationId, Charge, number>;
  readonly spent: Spent;
}

/** What leases that have ended used of the period that began at `since`. */
export interface Spent {
  readonly since: EpochMs;
  /** GPU-milliseconds. */
  readonly ms: number;
}

export interface Accounts {
  readonly byKey: OrderedMap<AccountKey, Account>;
  /** When periods end, the next first. */
  readonly renewals: OrderedMap<Renewal, Renewal>;
  readonly counted: boolean;
  /** Tells a count that is under way from those before it. */
  readonly round: number;
}

export interface Renewal {
  readonly at: EpochMs;
  readonly key: AccountKey;
}

const GPUS: Ordering<AllocationId, Charge, number> = {
  compare: (a, b) => (a < b ? -1 : a > b ? 1 : 0),
  measure: (_id, { gpus }, left, right) => gpus + (left ?? 0) + (right ?? 0),
};
const NO_LEASES = OrderedMap.empty(GPUS);
const BY_KEY: Ordering<AccountKey, Account, undefined> = {
  compare: (a, b) => (a < b ? -1 : a > b ? 1 : 0),
  measure: () => undefined,
};
const BY_TIME: Ordering<Renewal, Renewal, undefined> = {
  compare: (a, b) => a.at - b.at || (a.key < b.key ? -1 : a.key > b.key ? 1 : 0),
  measure: () => undefined,
};

export function noAccounts(policy: Policy): Accounts {
  return {
    byKey: OrderedMap.empty(BY_KEY),
    renewals: OrderedMap.empty(BY_TIME),
    counted: !needsCount(policy),
    round: 0,
  };
}

/** Whether what ended leases have used matters to anybody. */
export function needsCount({ quotas, fairShare }: Policy): boolean {
  return fairShare !== null || everyQuota(quotas).some(({ gpuTime }) => gpuTime !== null);
}

export function everyQuota({ principals, services, defaultPrincipal, defaultService }: Quotas): Quota[] {
  return [...Object.values(principals), ...Object.values(services), defaultPrincipal, defaultService];
}

export function accountKey(kind: AccountKind, name: string): AccountKey {
  return `${kind} ${name}`;
}

/** The kind and the name of a key. */
export function accountNamed(key: AccountKey): { readonly kind: AccountKind; readonly name: string } {
  const space = key.indexOf(" ");
  return { kind: key.slice(0, space) as AccountKind, name: key.slice(space + 1) };
}

export function quotaOf(quotas: Quotas, kind: AccountKind, name: string): Quota {
  const named = kind === "principal" ? quotas.principals : quotas.services;
  const own = Object.hasOwn(named, name) ? named[name] : undefined;
  return own ?? (kind === "principal" ? quotas.defaultPrincipal : quotas.defaultService);
}

/** Whether an account under `quota` is kept: its priority alone needs no books. */
function isKept({ maxGpus, maxQueued, gpuTime }: Quota): boolean {
  return maxGpus !== null || maxQueued !== null || gpuTime !== null;
}

export interface LimitedAccount {
  readonly key: AccountKey;
  readonly quota: Quota;
}

const NOBODY: readonly LimitedAccount[] = [];

/** The accounts under a quota that a request counts for. */
export function limitedAccounts(
  request: Pick<Request, "principal" | "serviceName">,
  quotas: Quotas,
): readonly LimitedAccount[] {
  let found: LimitedAccount[] | null = null;
  for (const kind of ACCOUNT_KINDS) {
    const name = kind === "principal" ? request.principal : request.serviceName;
    const quota = quotaOf(quotas, kind, name);
    if (!isKept(quota)) continue;
    found ??= [];
    found.push({ key: accountKey(kind, name), quota });
  }
  return found ?? NOBODY;
}

/** An account, also one that has nothing. */
export function accountOf({ byKey }: Accounts, key: AccountKey, quota: Quota): Account {
  return byKey.get(key) ?? { ...accountNamed(key), quota, waiting: 0, leases: NO_LEASES, spent: NOTHING_SPENT };
}

const NOTHING_SPENT: Spent = { since: 0, ms: 0 };

/** Periods begin here, a Monday (1970-01-05T00:00:00Z), so that those of a week begin on one, and those of a day at midnight. */
const FIRST_PERIOD: EpochMs = 4 * 24 * 3_600_000;

/** When the period of length `periodMs` began in which `at` lies. */
export function periodStart(at: EpochMs, periodMs: number): EpochMs {
  return FIRST_PERIOD + Math.floor((at - FIRST_PERIOD) / periodMs) * periodMs;
}

/** GPU-milliseconds that a lease from `from` to `to` takes of the period that began at `since`, in whole ones. */
export function takenOf(since: EpochMs, periodMs: number, parts: number, from: EpochMs, to: EpochMs): number {
  return Math.floor(parts * Math.max(0, Math.min(to, since + periodMs) - Math.max(from, since)));
}

/** The accounts after one allocation has become `next`. */
export function withCharge(
  accounts: Accounts,
  before: LiveAllocation | undefined,
  next: Allocation,
  { quotas }: Policy,
): Accounts {
  const isAsBefore = stageOf(before) === stageOf(next);
  if (isAsBefore && before?.request.maxDurationMs === next.request.maxDurationMs) return accounts;
  let after = accounts;
  for (const { key, quota } of limitedAccounts(next.request, quotas)) {
    after = withAccount(after, key, changed(accountOf(accounts, key, quota), before, next), instantOf(next));
  }
  return after;
}

/** What an allocation is to its accounts. */
function stageOf(allocation: Allocation | undefined): "nothing" | "waits" | "holds" {
  if (allocation === undefined || allocation.status === "ended") return "nothing";
  return allocation.status === "queued" ? "waits" : "holds";
}

function changed(account: Account, before: LiveAllocation | undefined, next: Allocation): Account {
  const { id, maxDurationMs } = next.request;
  const waiting = account.waiting + Number(next.status === "queued") - Number(before?.status === "queued");
  if (next.status === "queued") return { ...account, waiting };
  if (next.status !== "ended") {
    const { gpus, grantedAt } = next.lease;
    const hardEnd = maxDurationMs === null ? null : grantedAt + maxDurationMs;
    const charge = { gpus: gpus.length, parts: partsOf(next.lease), grantedAt, hardEnd };
    return { ...account, waiting, leases: account.leases.set(id, charge) };
  }
  const charge = account.leases.get(id);
  if (charge === undefined) return { ...account, waiting };
  return { ...account, waiting, leases: account.leases.delete(id), spent: spentWith(account, charge, next.outcome.at) };
}

function spentWith({ quota: { gpuTime }, spent }: Account, { parts, grantedAt }: Charge, endedAt: EpochMs): Spent {
  if (gpuTime === null) return spent;
  const since = periodStart(endedAt, gpuTime.periodMs);
  const before = spent.since === since ? spent.ms : 0;
  return { since, ms: before + takenOf(since, gpuTime.periodMs, parts, grantedAt, endedAt) };
}

/** Something happened to the allocation then, or later. */
function instantOf(allocation: Allocation): EpochMs {
  switch (allocation.status) {
    case "queued":
      return allocation.request.submittedAt;
    case "offered":
    case "leased":
      return allocation.lease.grantedAt;
    case "ended":
      return allocation.outcome.at;
    default:
      return allocation satisfies never;
  }
}

/** @param at lies in the period that is under way, or in one before it. */
function withAccount(accounts: Accounts, key: AccountKey, account: Account, at: EpochMs): Accounts {
  const { gpuTime } = account.quota;
  const has = account.waiting > 0 || account.leases.size > 0 || account.spent.ms > 0;
  if (!has) return { ...accounts, byKey: accounts.byKey.delete(key) };
  const byKey = accounts.byKey.set(key, account);
  if (gpuTime === null || accounts.byKey.get(key) !== undefined) return { ...accounts, byKey };
  return { ...accounts, byKey, renewals: renewing(accounts.renewals, key, at, gpuTime.periodMs) };
}

function renewing(renewals: Accounts["renewals"], key: AccountKey, at: EpochMs, periodMs: number) {
  const renewal = { at: periodStart(at, periodMs) + periodMs, key };
  return renewals.set(renewal, renewal);
}

/** The accounts at `now`: what was used in periods that are over is forgotten. */
export function renewed(accounts: Accounts, now: EpochMs): Accounts {
  let { byKey, renewals } = accounts;
  for (let due = renewals.first()?.[0]; due !== undefined && due.at <= now; due = renewals.first()?.[0]) {
    renewals = renewals.delete(due);
    const account = byKey.get(due.key);
    const periodMs = account?.quota.gpuTime?.periodMs;
    // It has had nothing for a while.
    if (account === undefined || periodMs === undefined) continue;
    const since = periodStart(now, periodMs);
    const spent = account.spent.since === since ? account.spent : { since, ms: 0 };
    if (account.waiting === 0 && account.leases.size === 0 && spent.ms === 0) byKey = byKey.delete(due.key);
    else {
      byKey = byKey.set(due.key, { ...account, spent });
      renewals = renewing(renewals, due.key, now, periodMs);
    }
  }
  return renewals === accounts.renewals ? accounts : { ...accounts, byKey, renewals };
}

/** The accounts under other quotas; what was counted stays if the quotas did. */
export function requoted(
  accounts: Accounts,
  before: Policy,
  policy: Policy,
  allocations: Iterable<LiveAllocation>,
): Accounts {
  let next: Accounts = { ...noAccounts(policy), round: accounts.round + 1 };
  for (const allocation of allocations) next = withCharge(next, undefined, allocation, policy);
  if (isCountedElse(before, policy)) return next;
  for (const { kind, name, quota, spent } of accounts.byKey.values()) {
    const key = accountKey(kind, name);
    next = withAccount(next, key, { ...accountOf(next, key, quota), spent }, spent.since);
  }
  return { ...next, counted: accounts.counted, round: accounts.round };
}

/** Whether other things are counted under one policy than under another. */
export function isCountedElse(a: Policy, b: Policy): boolean {
  const counts = ({ quotas, fairShare }: Policy) => canonicalJson([quotas, fairShare?.halfLifeMs]);
  return counts(a) !== counts(b);
}

/** The accounts from where on what leases use is summed up anew: what ended before is to be read from the archive. */
export function uncounted(accounts: Accounts, policy: Policy, allocations: Iterable<LiveAllocation>): Accounts {
  let next: Accounts = { ...noAccounts(policy), round: accounts.round + 1 };
  for (const allocation of allocations) next = withCharge(next, undefined, allocation, policy);
  return next;
}

/** What leases had used that had ended at an instant. */
export interface EndedUse {
  readonly at: EpochMs;
  /** By account: of the period in which the instant lies. */
  readonly spent: ReadonlyMap<AccountKey, Spent>;
  /** By principal, as it counts for a fair share at that instant; see fair-share.ts. */
  readonly faded: ReadonlyMap<string, number>;
}

/** The accounts with what had ended before {@link uncounted}. */
export function counted(accounts: Accounts, spent: EndedUse["spent"], policy: Policy): Accounts {
  let next: Accounts = { ...accounts, counted: true };
  for (const [key, { since, ms }] of spent) {
    const { kind, name } = accountNamed(key);
    const account = accountOf(next, key, quotaOf(policy.quotas, kind, name));
    // Of a period that has ended meanwhile nothing matters any more.
    if (account.spent.since > since) continue;
    const ended = account.spent.since === since ? account.spent.ms : 0;
    next = withAccount(next, key, { ...account, spent: { since, ms: ms + ended } }, since);
  }
  return next;
}

/** What of the accounts does not follow from the allocations. */
export interface Counted {
  readonly counted: boolean;
  readonly round: number;
  readonly spent: ReadonlyMap<AccountKey, Spent>;
}

export function countedOf({ counted, round, byKey }: Accounts, policy: Policy): Counted {
  const spent = new Map<AccountKey, Spent>();
  if (needsCount(policy)) {
    for (const account of byKey.values()) {
      if (account.spent.ms > 0) spent.set(accountKey(account.kind, account.name), account.spent);
    }
  }
  return { counted, round, spent };
}

/** The accounts of which {@link countedOf} said so. */
export function accountsWith(known: Counted, policy: Policy, allocations: Iterable<LiveAllocation>): Accounts {
  const empty = { ...noAccounts(policy), round: known.round - 1 };
  return {
    ...counted(uncounted(empty, policy, allocations), known.spent, policy),
    counted: known.counted,
  };
}
