/** What accounts under a quota of GPU-time have used of their present periods, read from the archive. */
import type { EpochMs } from "../core/model.ts";
import {
  type AccountKey,
  everyQuota,
  limitedAccounts,
  periodStart,
  type Spent,
  takenOf,
} from "../core/queue/accounts.ts";
import type { HostState } from "../core/state.ts";
import type { EndedLeaseCursor, Store } from "./ports.ts";
import { hadEnded, runningLeases } from "./usage.ts";

/** Leases read at a time, in about a millisecond. */
const PAGE_LEASES = 100;

/**
 * Sums up the leases that had ended in `state`, whatever ends while they are read.
 *
 * @param now the time of `state`; the periods are those in which it lies.
 * @throws StorageUnavailableError
 */
export async function countSpent(
  store: Store,
  state: HostState,
  now: EpochMs,
): Promise<ReadonlyMap<AccountKey, Spent>> {
  const { quotas } = state.policy;
  const spent = new Map<AccountKey, Spent>();
  const running = runningLeases(state, now);
  const endedAfter = Math.min(...periodsOf(state).map((periodMs) => periodStart(now, periodMs)));
  for (let after: EndedLeaseCursor | null = null; ; ) {
    const { leases, next } = store.endedLeases({ endedAfter, submittedBefore: Infinity, after, limit: PAGE_LEASES });
    for (const lease of leases) {
      if (!hadEnded(lease, state, running)) continue;
      for (const { key, quota } of limitedAccounts(lease, quotas)) {
        if (quota.gpuTime === null) continue;
        const { periodMs } = quota.gpuTime;
        const since = periodStart(now, periodMs);
        const taken = takenOf(since, periodMs, lease.gpus.length, lease.grantedAt, lease.endedAt);
        spent.set(key, { since, ms: (spent.get(key)?.ms ?? 0) + taken });
      }
    }
    if (next === null) return spent;
    after = next;
    // Others come in between, and the simulated event loop too.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function periodsOf({ policy }: HostState): number[] {
  return everyQuota(policy.quotas).flatMap(({ gpuTime }) => (gpuTime === null ? [] : [gpuTime.periodMs]));
}
