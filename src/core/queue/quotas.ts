/**
 * What quotas allow: to ask for, to wait for and to be granted.
 *
 *  1. What can never be is refused; what only has to wait waits, in its place, and nothing is held for it.
 *  2. A lease with a `max_duration` is charged for all of it when it begins, up to one period, and for what it has really
 *     taken once it has ended. So leases that all have one never take more of any period than the quota has; one without
 *     is charged as time goes by, and may run over: nothing ends for a quota's sake.
 */
import type { EpochMs } from "../base/time.ts";
import {
  type Account,
  type AccountKey,
  accountOf,
  type Charge,
  limitedAccounts,
  periodStart,
} from "../host/accounts.ts";
import type { HostState } from "../host/state.ts";
import type { Request } from "../model/allocation.ts";
import type { GpuTimeQuota, Policy } from "../model/policy.ts";

const MS_PER_HOUR = 3_600_000;

/** Why quotas will never let the request be granted, whatever ends; `null` when they may. */
export function neverAllowed(request: Request, { quotas }: Policy): string | null {
  const { gpus } = request.requirement;
  for (const { key, quota } of limitedAccounts(request, quotas)) {
    const { maxGpus, gpuTime } = quota;
    if (maxGpus !== null && gpus > maxGpus) {
      return `asked for ${gpus} GPUs; ${key} may have ${maxGpus === 0 ? "none" : maxGpus} at once`;
    }
    if (gpuTime === null) continue;
    if (gpuTime.limitMs === 0) return `${key} may use no GPU-hours`;
    const needMs = needOf(request, gpuTime);
    if (needMs > gpuTime.limitMs) {
      const { limitMs, periodMs } = gpuTime;
      return `needs ${hours(needMs)} GPU-hours within ${hours(periodMs)} h; ${key} may use ${hours(limitMs)}`;
    }
  }
  return null;
}

/** What a lease takes of one period at most, in GPU-milliseconds; 0 when nobody knows. */
export function needOf({ requirement, maxDurationMs }: Request, { periodMs }: GpuTimeQuota): number {
  return maxDurationMs === null ? 0 : requirement.gpus * Math.min(maxDurationMs, periodMs);
}

/** Why the request, which waits, is one too many for its accounts; `null` when it is not. */
export function crowded(request: Request, { accounts, policy }: HostState): string | null {
  for (const { key, quota } of limitedAccounts(request, policy.quotas)) {
    const { waiting } = accountOf(accounts, key, quota);
    if (quota.maxQueued !== null && waiting > quota.maxQueued) {
      return `${key} may have ${quota.maxQueued} ${quota.maxQueued === 1 ? "request" : "requests"} waiting, and has them`;
    }
  }
  return null;
}

/** GPU-milliseconds that count in the period in which `now` lies: used, and promised to leases that have an end. */
export function chargedMs({ leases, spent }: Account, { periodMs }: GpuTimeQuota, now: EpochMs): number {
  const since = periodStart(now, periodMs);
  let ms = spent.since === since ? spent.ms : 0;
  for (const charge of leases.values()) ms += chargeOf(charge, since, periodMs, now);
  return ms;
}

/** See 2. What a graceful end adds to a hard one counts once it is there. */
function chargeOf({ parts, grantedAt, hardEnd }: Charge, since: EpochMs, periodMs: number, now: EpochMs): number {
  const from = Math.max(grantedAt, since);
  const until = hardEnd === null ? now : Math.max(now, hardEnd);
  return Math.floor(parts * Math.min(until - from, periodMs));
}

/** What an account has left to be granted. */
export interface Remaining {
  /** `Infinity`: no limit. */
  readonly gpus: number;
  /** GPU-milliseconds; `Infinity`: no limit. 0 until what was used is counted. */
  readonly gpuMs: number;
}

export function remainingOf(account: Account, { accounts }: HostState, now: EpochMs): Remaining {
  const { maxGpus, gpuTime } = account.quota;
  return {
    gpus: maxGpus === null ? Infinity : maxGpus - gpusOf(account),
    gpuMs:
      gpuTime === null
        ? Infinity
        : accounts.counted
          ? Math.max(0, gpuTime.limitMs - chargedMs(account, gpuTime, now))
          : 0,
  };
}

/** GPUs that its offers and leases hold. */
export function gpusOf({ leases }: Account): number {
  return leases.measure ?? 0;
}

/** Why a request has to wait for its own quota. */
export interface OverQuota {
  readonly key: AccountKey;
  /** In words, with the facts. */
  readonly reason: string;
  /** When the period ends, if that is what it waits for. */
  readonly renewsAt: EpochMs | null;
}

/** Why the quotas of a request do not let it be granted at `now`, one by one; none when they do. */
export function overQuotas(request: Request, state: HostState, now: EpochMs): readonly OverQuota[] {
  const found: OverQuota[] = [];
  for (const { key, quota } of limitedAccounts(request, state.policy.quotas)) {
    const account = accountOf(state.accounts, key, quota);
    const remaining = remainingOf(account, state, now);
    const { gpus } = request.requirement;
    const { gpuTime } = quota;
    if (gpus > remaining.gpus) {
      const asks = gpus > 1 ? `, and this asks for ${gpus}` : "";
      found.push({ key, reason: `${key} runs ${gpusOf(account)} of ${quota.maxGpus} GPUs${asks}`, renewsAt: null });
    } else if (gpuTime !== null && !isEnough(remaining.gpuMs, needOf(request, gpuTime))) {
      found.push({ key, ...shortOfTime(key, gpuTime, remaining, state.accounts.counted, now) });
    }
  }
  return found;
}

/** One whose need nobody knows is granted while there is something left. */
function isEnough(leftMs: number, needMs: number): boolean {
  return leftMs > 0 && needMs <= leftMs;
}

function shortOfTime(
  key: AccountKey,
  { limitMs, periodMs }: GpuTimeQuota,
  remaining: Remaining,
  counted: boolean,
  now: EpochMs,
) {
  if (!counted) return { reason: `the GPU-hours that ${key} has used are being counted`, renewsAt: null };
  const renewsAt = periodStart(now, periodMs) + periodMs;
  const reason = `${key} has ${hours(remaining.gpuMs)} of ${hours(limitMs)} GPU-hours left, for another ${hours(renewsAt - now)} h`;
  return { reason, renewsAt };
}

/** To three digits, rounded down: 3.6 s. */
function hours(ms: number): number {
  return Math.floor((ms / MS_PER_HOUR) * 1_000) / 1_000;
}
