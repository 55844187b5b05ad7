/**
 * The calendar's part of reserved windows: when each of them is open, as data for the core, which knows no calendar.
 *
 *  1. A schedule follows the wall clock, everything else the daemon's steady clock. So each span is moved by the
 *     difference between the two, and all spans are computed anew when the difference changes.
 *  2. Every span that begins within {@link NEAR_MS}, or before the last booking is over, is listed: a booking is a window of
 *     its own, and opens once. A clock that was set back has it further ahead than one can be made. Of later spans, only
 *     the first time that a certain set of windows is open together: the second time limits a lease no further than the
 *     first already does.
 *  3. A list is used for {@link FRESH_MS}, which is far less than {@link NEAR_MS}.
 */
import type { EpochMs, Span } from "../core/base/time.ts";
import { segmentsOf, type WindowSet } from "../core/host/window-plan.ts";
import type { Booking } from "../core/model/booking.ts";
import type { Policy, ReservedWindow } from "../core/model/policy.ts";
import { beginnings } from "../platform/calendar.ts";

const DAY_MS = 86_400_000;
const FRESH_MS = DAY_MS;
/** The API shows a week of it, and a booking may end two weeks ahead (booking.ts). */
const NEAR_MS = 15 * DAY_MS;
/** More than a year: a window that opens once a year is listed. */
const HORIZON_MS = 370 * DAY_MS;
/** For a booking that is further ahead: listing the minutes of a life would keep everybody waiting. */
const MOST_HORIZON_MS = 3 * HORIZON_MS;
/** The difference between the clocks is rounded to this, so that a window of nine o'clock is shown to open at nine exactly. */
const STEP_MS = 1_000;

export class WindowCalendar {
  readonly #wallAheadMs: () => number;
  #told: readonly ReservedWindow[] = [];
  #toldAt: EpochMs = 0;
  #aheadMs = 0;

  /** @param wallAheadMs by how much the wall clock is ahead of the daemon's, now. */
  constructor(wallAheadMs: () => number) {
    this.#wallAheadMs = wallAheadMs;
  }

  /** Whether the spans in `policy` are not those of the last {@link fill}, or are out of date. */
  isStale({ windows }: Policy, now: EpochMs): boolean {
    if (windows.length === 0) return false;
    if (windows !== this.#told || now - this.#toldAt >= FRESH_MS) return true;
    return Math.abs(this.#wallAheadMs() - this.#aheadMs) >= STEP_MS;
  }

  /** The policy with the spans of its windows, beside `bookings`, as they are from `now` on. */
  fill(policy: Policy, bookings: readonly Booking[], now: EpochMs): Policy {
    if (policy.windows.length === 0) return policy;
    this.#toldAt = now;
    this.#aheadMs = aheadInSteps(this.#wallAheadMs);
    const booked = Math.max(now, ...bookings.map(({ to }) => to));
    const horizonMs = Math.min(MOST_HORIZON_MS, Math.max(HORIZON_MS, booked - now));
    const spans = policy.windows.map((window) => spansOf(window, now, this.#aheadMs, horizonMs));
    const telling = tellingOf(spans, Math.max(now + NEAR_MS, booked));
    const windows = policy.windows.map((window, at) => ({ ...window, spans: telling[at] as readonly Span[] }));
    this.#told = windows;
    return { ...policy, windows };
  }
}

/** By how much the wall clock is ahead, as it is reckoned with: an instant that somebody names is shown as he named it. */
export function aheadInSteps(wallAheadMs: () => number = () => 0): number {
  return Math.round(wallAheadMs() / STEP_MS) * STEP_MS;
}

/** All spans of a window that end after `now`; those that touch or overlap are one. */
function spansOf(
  { schedule, timeZone, durationMs }: ReservedWindow,
  now: EpochMs,
  aheadMs: number,
  horizonMs: number,
): readonly Span[] {
  const wall = now + aheadMs;
  const spans: { from: EpochMs; to: EpochMs }[] = [];
  for (const at of beginnings(schedule, timeZone, wall - durationMs + 1, wall + horizonMs)) {
    const from = at - aheadMs;
    const last = spans.at(-1);
    if (last !== undefined && from <= last.to) last.to = from + durationMs;
    else spans.push({ from, to: from + durationMs });
  }
  return spans;
}

/** See 2: the spans that begin before `near`, and those open when a set of windows is open together for the first time. */
function tellingOf(spans: readonly (readonly Span[])[], near: EpochMs): readonly (readonly Span[])[] {
  const kept = spans.map((all) => new Set(all.filter(({ from }) => from < near)));
  const seen = new Set<WindowSet>();
  for (const { open, span } of segmentsOf(spans)) {
    if (span.from < near || seen.has(open)) continue;
    seen.add(open);
    for (const [window, all] of spans.entries()) {
      const covering = all.find(({ from, to }) => from <= span.from && span.to <= to);
      if (covering !== undefined) kept[window]?.add(covering);
    }
  }
  return kept.map((all) => [...all].sort((a, b) => a.from - b.from));
}
