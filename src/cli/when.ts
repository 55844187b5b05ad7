/** Times as people say them, by this machine's clock and time zone. */
import { durationOf } from "./ask.ts";
import { UsageError } from "./exits.ts";

const DAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"] as const;
/** The clock is what is left out of a day: its beginning. */
const SAID = /^(?:(today|tomorrow|[a-z]{3,9})(?:\s+|$))?(?:(\d{1,2}):(\d{2}))?$/;

/**
 * `now`, `14:00` (the next), `tomorrow 14:00`, `monday 9:00` (the next), `2h` (from now), `2026-12-01 14:00`, RFC 3339.
 *
 * @param after what a time without a day is the next after.
 * @throws UsageError
 */
export function timeSaid(flag: string, text: string, now: Date, after = now): Date {
  const said = text.trim().toLowerCase();
  if (said === "now") return now;
  if (/^\d{4}-\d{2}-\d{2}/.test(said)) return dated(flag, text);
  const [, day, hour, minute] = SAID.exec(said) ?? [];
  if (day === undefined && hour === undefined) return new Date(now.getTime() + durationOf(flag, said).ms);
  const since = day === undefined ? after : now;
  const ahead = daysAhead(day, now);
  const [h, m] = [Number(hour ?? 0), Number(minute ?? 0)];
  if (ahead === null || h > 23 || m > 59) throw notUnderstood(flag, text);
  const at = (days: number) => new Date(since.getFullYear(), since.getMonth(), since.getDate() + days, h, m);
  // A day of the week, or a clock alone, is the next such: today only while that is still to come.
  if (at(ahead).getTime() > since.getTime() || day === "today") return at(ahead);
  return at(ahead + (day === undefined ? 1 : 7));
}

/** How many days from today; `null`: no day's name. */
function daysAhead(day: string | undefined, now: Date): number | null {
  if (day === undefined || day === "today") return 0;
  if (day === "tomorrow") return 1;
  const named = DAYS.findIndex((name) => name === day || name.slice(0, 3) === day);
  return named === -1 ? null : (named - now.getDay() + 7) % 7;
}

/** Without a time zone it is this machine's. */
function dated(flag: string, text: string): Date {
  const given = text.trim().replace(" ", "T");
  const at = new Date(given.length === "2026-12-01".length ? `${given}T00:00` : given);
  if (Number.isNaN(at.getTime())) throw notUnderstood(flag, text);
  return at;
}

function notUnderstood(flag: string, text: string): UsageError {
  return new UsageError(
    `${flag} ${text}: expected a time such as 'tomorrow 14:00', 'mon 9:00', 14:00, 2h or 2026-12-01 14:00`,
  );
}
