/** What leases that have ended used, as far as quotas and fair shares go by it: read from the archive. */

import type { EpochMs } from "../core/base/time.ts";
import {
  type AccountKey,
  type EndedUse,
  everyQuota,
  limitedAccounts,
  periodStart,
  type Spent,
  takenOf,
} from "../core/host/accounts.ts";
import { fadedUse, HALF_LIVES_THAT_COUNT } from "../core/host/fair-share.ts";
import type { HostState } from "../core/host/state.ts";
import { DomainError } from "../core/model/errors.ts";
import { partsOf } from "../core/model/leases.ts";
import type { EndedLease, EndedLeaseCursor, Store } from "../ports/store.ts";
import type { Turns } from "./turns.ts";
import { hadEnded, runningLeases } from "./usage.ts";

/** Leases read at a time, in about a millisecond. */
const PAGE_LEASES = 100;

/** Finds out what accounts have used so far, if their quotas depend on it. */
export class UseCounter {
  readonly #turns: Pick<Turns, "state" | "send">;
  readonly #store: Store;
  readonly #onBug: (error: unknown) => void;
  #counting = false;

  constructor(turns: Pick<Turns, "state" | "send">, store: Store, onBug: (error: unknown) => void) {
    this.#turns = turns;
    this.#store = store;
    this.#onBug = onBug;
  }

  /** Counts if the state lacks a count, once at a time. What fails is tried again by the next call. Never rejects. */
  async run(): Promise<void> {
    if (this.#counting) return;
    this.#counting = true;
    try {
      while (!this.#turns.state.accounts.counted) {
        const { state, at } = await this.#turns.send({ type: "recount" });
        const count = await countUse(this.#store, state, at);
        await this.#turns.send({ type: "counted", round: state.accounts.round, ...count });
      }
    } catch (error) {
      if (!(error instanceof DomainError)) this.#onBug(error);
    } finally {
      this.#counting = false;
    }
  }
}

/**
 * Sums up the leases that had ended in `state`, whatever ends while they are read.
 *
 * @param now the time of `state`.
 * @throws StorageUnavailableError
 */
async function countUse(store: Store, state: HostState, now: EpochMs): Promise<EndedUse> {
  const sums = new UseSums(state, now);
  const running = runningLeases(state, now);
  const endedAfter = sums.from;
  for (let after: EndedLeaseCursor | null = null; ; ) {
    const { leases, next } = store.endedLeases({ endedAfter, submittedBefore: Infinity, after, limit: PAGE_LEASES });
    for (const lease of leases) if (hadEnded(lease, state, running)) sums.add(lease);
    if (next === null) return sums;
    after = next;
    // Requests are served between two pages. The global function, because the simulation replaces it.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export class UseSums implements EndedUse {
  readonly at: EpochMs;
  readonly spent = new Map<AccountKey, Spent>();
  readonly faded = new Map<string, number>();
  readonly #policy: HostState["policy"];

  constructor({ policy }: HostState, now: EpochMs) {
    this.at = now;
    this.#policy = policy;
  }

  /** Leases that ended before this instant count towards no quota and no fair share. */
  get from(): EpochMs {
    const { quotas, fairShare } = this.#policy;
    const begins = everyQuota(quotas).map(({ gpuTime }) =>
      gpuTime === null ? this.at : periodStart(this.at, gpuTime.periodMs),
    );
    const faded = fairShare === null ? this.at : this.at - HALF_LIVES_THAT_COUNT * fairShare.halfLifeMs;
    return begins.reduce((first, begin) => Math.min(first, begin), faded);
  }

  add(lease: EndedLease): void {
    const { quotas, fairShare } = this.#policy;
    const { principal, grantedAt, endedAt } = lease;
    const parts = partsOf(lease);
    for (const { key, quota } of limitedAccounts(lease, quotas)) {
      if (quota.gpuTime === null) continue;
      const { periodMs } = quota.gpuTime;
      const since = periodStart(this.at, periodMs);
      const taken = takenOf(since, periodMs, parts, grantedAt, endedAt);
      this.spent.set(key, { since, ms: (this.spent.get(key)?.ms ?? 0) + taken });
    }
    if (fairShare === null) return;
    const ms = fadedUse(parts, grantedAt, endedAt, this.at, fairShare.halfLifeMs);
    this.faded.set(principal, (this.faded.get(principal) ?? 0) + ms);
  }
}
