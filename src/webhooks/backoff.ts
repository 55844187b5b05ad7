import type { EpochMs } from "../core/base/time.ts";

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

/** How long to wait after the first, second, ... failed attempt; the last figure stays. */
export const RETRY_DELAYS_MS: readonly number[] = [
  SECOND_MS,
  5 * SECOND_MS,
  30 * SECOND_MS,
  2 * MINUTE_MS,
  10 * MINUTE_MS,
  30 * MINUTE_MS,
  HOUR_MS,
  2 * HOUR_MS,
  4 * HOUR_MS,
];

/** A delay is up to this part longer or shorter, so that what failed together does not come back together. */
export const JITTER = 0.2;

/** The longest that a receiver can put us off by `Retry-After`. */
export const MAX_RETRY_AFTER_MS = 6 * HOUR_MS;

/** An IMF-fixdate of RFC 9110, section 5.6.7; the two obsolete forms are not written any more. */
const HTTP_DATE = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/;

export interface FailedAttempt {
  /** Attempts made, this one included: from 1. */
  readonly attempts: number;
  readonly now: EpochMs;
  readonly createdAt: EpochMs;
  readonly giveUpAfterMs: number;
  /** What the receiver asked for, see {@link parseRetryAfter}; `null` when it asked for nothing. */
  readonly retryAfterMs: number | null;
}

/**
 * When to try again, or `null` to give up. The last attempt is made at `createdAt + giveUpAfterMs`, or at once when
 * that has passed (the daemon was down); its failure is the end.
 *
 * @param random uniform in [0, 1).
 */
export function nextAttemptAt(failed: FailedAttempt, random: () => number): EpochMs | null {
  const giveUpAt = failed.createdAt + failed.giveUpAfterMs;
  if (failed.now >= giveUpAt) return null;
  const index = Math.min(failed.attempts, RETRY_DELAYS_MS.length) - 1;
  const delayMs = (RETRY_DELAYS_MS[index] as number) * (1 - JITTER + 2 * JITTER * random());
  const waitMs = Math.max(delayMs, Math.min(failed.retryAfterMs ?? 0, MAX_RETRY_AFTER_MS));
  return Math.min(failed.now + Math.ceil(waitMs), giveUpAt);
}

/**
 * The wait that a `Retry-After` field asks for (RFC 9110, section 10.2.3), in milliseconds from `wallMs`.
 *
 * @returns `null` when it cannot be read. A date that has passed is 0.
 */
export function parseRetryAfter(field: string, wallMs: number): number | null {
  const text = field.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * SECOND_MS;
  if (!HTTP_DATE.test(text)) return null;
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : Math.max(0, at - wallMs);
}
