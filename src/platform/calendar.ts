/**
 * When a schedule begins, by the clock on the wall of a time zone.
 *
 * The expressions are node-cron's (https://nodecron.com/cron-syntax.html), of five fields: minute, hour, day of month,
 * month, day of week. Unlike in cron(8), a day must match both its day of the month and its day of the week. What
 * node-cron finds by itself is only what follows the present second, and nothing in an hour that summer time leaves
 * out; here any span of time can be asked for, and
 *
 *  1. a beginning in the part of an hour that is skipped comes when the clock has jumped: the first instant at which
 *     it shows that time or a later one, as in cron(8) of Debian;
 *  2. a beginning in the part that comes twice comes once, the first time;
 *  3. but a schedule that names every hour goes by the hours as they pass: nothing in the skipped part, and twice in
 *     the doubled one.
 */
import cron from "node-cron";

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const HOURS_OF_A_DAY = 24;

/**
 * Every beginning in `[from, to)`, ascending.
 *
 * @param from, to instants of the wall clock, in ms since the epoch.
 * @param timeZone an IANA name.
 * @throws Error, RangeError when the expression or the zone means nothing.
 */
export function beginnings(schedule: string, timeZone: string, from: number, to: number): number[] {
  const { minute, hour } = cron.parse(schedule);
  const goesByHours = hour.length === HOURS_OF_A_DAY;
  const times = hour.flatMap((h) => minute.map((m) => (h * 60 + m) * MINUTE_MS));
  const offsets = offsetsOf(timeZone);
  const found = new Set<number>();
  const onDay = dayMatcher(schedule);
  // A day of the zone begins within a day of the UTC day of the same date.
  for (let day = startOfDay(from) - DAY_MS; day < to + DAY_MS; day += DAY_MS) {
    if (!onDay.matches(day)) continue;
    for (const time of times) {
      for (const at of instantsOf(day + time, offsets, goesByHours)) if (at >= from && at < to) found.add(at);
    }
  }
  onDay.close();
  return [...found].sort((a, b) => a - b);
}

function startOfDay(at: number): number {
  return Math.floor(at / DAY_MS) * DAY_MS;
}

/**
 * Which dates a schedule names; a date is the beginning of its day in UTC. What `L`, `W` and `#` mean, node-cron knows:
 * it is asked only about schedules with one of these, since a year of its answers takes 20 ms.
 */
function dayMatcher(schedule: string): { matches(day: number): boolean; close(): void } {
  const { dayOfMonth, month, dayOfWeek } = cron.parse(schedule);
  if ([...dayOfMonth, ...dayOfWeek].every((one) => typeof one === "number")) {
    const matches = (day: number) => {
      const date = new Date(day);
      const isInMonth = month.includes(date.getUTCMonth() + 1);
      return isInMonth && dayOfMonth.includes(date.getUTCDate()) && dayOfWeek.includes(date.getUTCDay());
    };
    return { matches, close: () => undefined };
  }
  const atNoon = `0 12 ${dayOfMonth.join(",")} ${month.join(",")} ${dayOfWeek.join(",")}`;
  // Never started: it is only asked.
  const task = cron.createTask(atNoon, () => undefined, { timezone: "UTC" });
  return {
    matches: (day) => task.match(new Date(day + DAY_MS / 2)),
    close: () => void task.destroy(),
  };
}

/** Local time less UTC, in ms, at an instant. */
type Offsets = (at: number) => number;

/** The instants at which the clock shows `local`, which is that time as if it were UTC. */
function instantsOf(local: number, offsetAt: Offsets, goesByHours: boolean): readonly number[] {
  const before = offsetAt(local - DAY_MS);
  const after = offsetAt(local + DAY_MS);
  if (before === after) return [local - before];
  const shown = [local - before, local - after].filter((at) => offsetAt(at) === local - at).sort((a, b) => a - b);
  if (shown.length === 0) return goesByHours ? [] : [changeBetween(local - DAY_MS, local + DAY_MS, offsetAt)];
  return goesByHours ? shown : shown.slice(0, 1);
}

/** The first instant with the offset of `to`. */
function changeBetween(from: number, to: number, offsetAt: Offsets): number {
  const after = offsetAt(to);
  let [early, late] = [from, to];
  while (late - early > 1) {
    const middle = Math.floor((early + late) / 2);
    if (offsetAt(middle) === after) late = middle;
    else early = middle;
  }
  return late;
}

/** Time zones change their offset at whole quarters of an hour only, so one look-up serves a quarter. */
const STEP_MS = 15 * MINUTE_MS;
const FIELDS = ["year", "month", "day", "hour", "minute", "second"] as const;

function offsetsOf(timeZone: string): Offsets {
  const numeric = { year: "numeric", month: "numeric", day: "numeric" } as const;
  const clock = { hour: "numeric", minute: "numeric", second: "numeric", hourCycle: "h23", era: "short" } as const;
  const format = new Intl.DateTimeFormat("en-US", { timeZone, calendar: "gregory", ...numeric, ...clock });
  const known = new Map<number, number>();
  return (at) => {
    const step = Math.floor(at / STEP_MS) * STEP_MS;
    let offset = known.get(step);
    if (offset === undefined) {
      const parts = new Map(format.formatToParts(step).map(({ type, value }) => [type, Number(value)]));
      const [year, month, day, hour, minute, second] = FIELDS.map((field) => parts.get(field) as number);
      offset = Date.UTC(year as number, (month as number) - 1, day, hour, minute, second) - step;
      known.set(step, offset);
    }
    return offset;
  };
}
