/**
 * Keeps a lease: renews it, watches it, and tells when it is lost.
 *
 *  1. Time is measured by the caller's monotonic clock, from when a renewal was sent: the daemon counts from when it
 *     came, which is later. So `LeaseLost` is told before the daemon can grant the GPUs to somebody else.
 *  2. A daemon on this host that refuses connections is down, and grants nothing: that alone ends no lease.
 *  3. The first thing after a pause of the process (SIGSTOP, a laptop's lid) is to look at the clock, not to renew.
 */
import { type Client, pause } from "./client.ts";
import { ApiProblem, LeaseLost, Unreachable } from "./errors.ts";
import type { Allocation, Granted } from "./types.ts";

/** Renewed this many times within a TTL. */
const RENEWALS_PER_TTL = 3;
const RETRY_MS = 1_000;
const SHORTEST_CALL_MS = 250;
const LONGEST_CALL_MS = 10_000;
/** How early before the end of what is certain a lease counts as lost: a part of the TTL, and no more than this. */
const LONGEST_MARGIN_MS = 5_000;
const MARGIN_PARTS = 10;
/** Refusals that say that the lease is not ours any more. */
const ENDED: ReadonlySet<string> = new Set([
  "allocation-ended",
  "allocation-not-found",
  "fencing-token-mismatch",
  "not-owner",
]);

export interface RenewalOptions {
  readonly client: Client;
  readonly lease: Granted | Allocation;
  /** By {@link now}: when the call was sent whose answer showed the lease as held. */
  readonly heldAt: number;
  /** Whether the daemon is on this host (2). */
  readonly isLocal: boolean;
  /** How often the record is looked at between renewals, for a notice to leave; `null`: not at all. */
  readonly watchMs?: number | null;
  readonly onLost: (lost: LeaseLost) => void;
  readonly onRecord?: (record: Allocation) => void;
  /** Told once when renewals begin to fail, and with `null` when they work again. */
  readonly onTrouble?: (words: string | null) => void;
  readonly now?: () => number;
}

export class Renewal {
  readonly #options: RenewalOptions;
  readonly #ttlMs: number | null;
  readonly #stop = new AbortController();
  #certainUntil: number;
  /** Nobody listened at the last try, on this host (2). */
  #isDown = false;
  #isTroubled = false;
  #lost: LeaseLost | null = null;

  constructor(options: RenewalOptions) {
    this.#options = options;
    const { ttl_seconds: ttl } = options.lease;
    this.#ttlMs = ttl === null ? null : ttl * 1_000;
    this.#certainUntil = this.#ttlMs === null ? Number.POSITIVE_INFINITY : options.heldAt + this.#ttlMs;
  }

  start(): void {
    void this.#run();
  }

  /** No more renewals, and nothing more is told. */
  stop(): void {
    this.#stop.abort();
  }

  /** Why the lease is lost; `null`: it is held. Looks at the clock, so that it is right also after a pause (3). */
  get lost(): LeaseLost | null {
    if (this.#lost === null && !this.#stop.signal.aborted && this.leftMs <= 0) {
      this.#lose("silence", "no renewal was confirmed in time; the GPUs may be granted to others");
    }
    return this.#lost;
  }

  /** Until the lease counts as lost unless a renewal is confirmed. */
  get leftMs(): number {
    if (this.#ttlMs === null || this.#isDown) return Number.POSITIVE_INFINITY;
    const marginMs = Math.min(LONGEST_MARGIN_MS, this.#ttlMs / MARGIN_PARTS);
    return this.#certainUntil - marginMs - this.#now();
  }

  #now(): number {
    return (this.#options.now ?? (() => performance.now()))();
  }

  async #run(): Promise<void> {
    const renewEveryMs = this.#ttlMs === null ? null : this.#ttlMs / RENEWALS_PER_TTL;
    let renewAt = renewEveryMs === null ? Number.POSITIVE_INFINITY : this.#options.heldAt + renewEveryMs;
    for (;;) {
      const untilMs = Math.min(renewAt - this.#now(), this.#options.watchMs ?? Number.POSITIVE_INFINITY, this.leftMs);
      if (untilMs === Number.POSITIVE_INFINITY) return;
      await pause(Math.max(0, untilMs), this.#stop.signal).catch(() => {});
      if (this.#stop.signal.aborted || this.lost !== null) return;
      const isRenewal = this.#now() >= renewAt;
      const isDone = await this.#try(isRenewal);
      if (this.#stop.signal.aborted || this.#lost !== null) return;
      if (isRenewal && renewEveryMs !== null)
        renewAt = this.#now() + (isDone ? renewEveryMs : Math.min(RETRY_MS, renewEveryMs / 4));
    }
  }

  async #try(isRenewal: boolean): Promise<boolean> {
    const { client, lease, onRecord } = this.#options;
    const sentAt = this.#now();
    const longestMs = Math.min(LONGEST_CALL_MS, (this.#ttlMs ?? Number.POSITIVE_INFINITY) / RENEWALS_PER_TTL);
    const signal = AbortSignal.any([
      this.#stop.signal,
      AbortSignal.timeout(Math.max(SHORTEST_CALL_MS, Math.ceil(longestMs))),
    ]);
    try {
      const record = isRenewal
        ? await client.renew(lease.id, lease.fencing_token, { signal })
        : await client.record(lease.id, { signal });
      if (this.#stop.signal.aborted) return false;
      if (record.status === "ended") return this.#loseTo(record);
      if (isRenewal && this.#ttlMs !== null) this.#certainUntil = sentAt + this.#ttlMs;
      this.#isDown = false;
      this.#settle();
      onRecord?.(record);
      return true;
    } catch (error) {
      if (this.#stop.signal.aborted) return false;
      return this.#failed(error);
    }
  }

  async #failed(error: unknown): Promise<boolean> {
    const { client, lease, isLocal } = this.#options;
    if (error instanceof ApiProblem && ENDED.has(error.code)) {
      const record = await client.record(lease.id).catch(() => null);
      return record?.status === "ended" ? this.#loseTo(record) : this.#lose(error.code, error.message);
    }
    this.#isDown = isLocal && error instanceof Unreachable && error.refused;
    if (!this.#isTroubled) this.#options.onTrouble?.(error instanceof Error ? error.message : String(error));
    this.#isTroubled = true;
    return false;
  }

  #settle(): void {
    if (this.#isTroubled) this.#options.onTrouble?.(null);
    this.#isTroubled = false;
  }

  #loseTo({ end_reason, end_detail: detail }: Allocation): false {
    const reason = end_reason ?? "ended";
    return this.#lose(
      reason,
      detail === undefined ? `the lease has ended: ${reason}` : `the lease has ended: ${reason}, ${detail}`,
    );
  }

  #lose(reason: string, detail: string): false {
    if (this.#lost !== null) return false;
    this.#lost = new LeaseLost(this.#options.lease.id, reason, detail);
    this.#options.onLost(this.#lost);
    return false;
  }
}
