import { expect, test } from "vitest";
import {
  JITTER,
  MAX_RETRY_AFTER_MS,
  nextAttemptAt,
  parseRetryAfter,
  RETRY_DELAYS_MS,
} from "../../src/webhooks/backoff.ts";

const HOUR_MS = 3_600_000;
const START = 1_800_000_000_000;
const first = { attempts: 1, now: START, createdAt: START, giveUpAfterMs: 72 * HOUR_MS, retryAfterMs: null };
const noJitter = (): number => 0.5;

test("delays grow from a second to four hours and stay there", () => {
  const seconds = Array.from({ length: 11 }, (_, index) => {
    const at = nextAttemptAt({ ...first, attempts: index + 1 }, noJitter);
    return ((at ?? 0) - START) / 1000;
  });
  expect(seconds).toEqual([1, 5, 30, 120, 600, 1800, 3600, 7200, 14_400, 14_400, 14_400]);
});

test("jitter moves a delay by no more than its share, both ways", () => {
  const delay = RETRY_DELAYS_MS[4] as number;
  const attempt = { ...first, attempts: 5 };
  expect(nextAttemptAt(attempt, () => 0)).toBe(START + delay * (1 - JITTER));
  expect(nextAttemptAt(attempt, () => 0.999_999)).toBeLessThanOrEqual(START + delay * (1 + JITTER));
  expect(nextAttemptAt(attempt, () => 0.999_999)).toBeGreaterThan(START + delay * (1 + JITTER * 0.99));
});

test("attempts go on over days until the notification is as old as it may get, with a last one then", () => {
  let now = START;
  let attempts = 0;
  for (;;) {
    attempts++;
    const next = nextAttemptAt({ ...first, attempts, now }, noJitter);
    if (next === null) break;
    expect(next).toBeGreaterThan(now);
    now = next;
  }
  expect(now).toBe(START + 72 * HOUR_MS);
  // Nine delays up to four hours, then one each four hours, then the last.
  expect(attempts).toBe(27);
});

test("an attempt after the time is over is the last", () => {
  expect(nextAttemptAt({ ...first, now: START + 100 * HOUR_MS }, noJitter)).toBeNull();
});

test("Retry-After puts an attempt off, never brings it forward, and has a bound", () => {
  expect(nextAttemptAt({ ...first, retryAfterMs: 90_000 }, noJitter)).toBe(START + 90_000);
  expect(nextAttemptAt({ ...first, attempts: 5, retryAfterMs: 0 }, noJitter)).toBe(START + 600_000);
  expect(nextAttemptAt({ ...first, retryAfterMs: 1e12 }, noJitter)).toBe(START + MAX_RETRY_AFTER_MS);
});

test("Retry-After beyond the end leaves a last attempt at the end", () => {
  expect(nextAttemptAt({ ...first, giveUpAfterMs: HOUR_MS, retryAfterMs: 2 * HOUR_MS }, noJitter)).toBe(
    START + HOUR_MS,
  );
});

test("Retry-After is read as seconds or as a date", () => {
  const wall = Date.parse("2027-01-15T08:00:00Z");
  expect(parseRetryAfter("120", wall)).toBe(120_000);
  expect(parseRetryAfter(" 0 ", wall)).toBe(0);
  expect(parseRetryAfter("Fri, 15 Jan 2027 08:00:30 GMT", wall)).toBe(30_000);
  expect(parseRetryAfter("Fri, 15 Jan 2027 07:00:00 GMT", wall)).toBe(0);
});

test.each(["", "soon", "-5", "1.5", "1e3", "2027-01-15", "9999999999", "Foo, 99 Bar 2027 08:00:30 GMT"])(
  "the Retry-After %j asks for nothing",
  (field) => {
    expect(parseRetryAfter(field, START)).toBeNull();
  },
);
