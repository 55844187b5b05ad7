/** Times and durations as people read them. */

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** At most two units, rounded down: `43 s`, `12 min`, `2 h 14 min`, `3 d 4 h`. Seconds only below ten minutes. */
export function lasting(ms: number): string {
  const whole = Math.max(0, ms);
  if (whole < MINUTE) return `${Math.floor(whole / SECOND)} s`;
  if (whole < 10 * MINUTE) return pair(whole, MINUTE, "min", SECOND, "s");
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} min`;
  return whole < DAY ? pair(whole, HOUR, "h", MINUTE, "min") : pair(whole, DAY, "d", HOUR, "h");
}

/** How long something has been so, or will be: as {@link lasting}, but without seconds from a minute on. */
export function aged(ms: number): string {
  return lasting(ms < MINUTE || ms >= 10 * MINUTE ? ms : Math.floor(ms / MINUTE) * MINUTE);
}

function pair(ms: number, big: number, bigName: string, small: number, smallName: string): string {
  const rest = Math.floor((ms % big) / small);
  return `${Math.floor(ms / big)} ${bigName}${rest === 0 ? "" : ` ${rest} ${smallName}`}`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const WEEKDAY = new Intl.DateTimeFormat("en-GB", { weekday: "short", hour: "2-digit", minute: "2-digit" });
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const WHOLE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** The time of day; with the weekday or the date when it is not near `now`. */
export function clock(at: number, now: number): string {
  const away = Math.abs(at - now);
  if (away < DAY / 2 || (away < DAY && new Date(at).getDate() === new Date(now).getDate())) return CLOCK.format(at);
  return (away < 6 * DAY ? WEEKDAY : DATE).format(at).replace(",", "");
}

const SECONDS = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** The time of day to the second. */
export function exactClock(at: number): string {
  return SECONDS.format(at);
}

/** For a title: everything, to the second. */
export function exactly(at: number): string {
  return WHOLE.format(at);
}

/** When a request can expect to be granted: `in 12 to 25 min`, `any moment`, `14:10 to 15:30`. */
export function expected(earliest: number, latest: number, now: number): string {
  const [soonest, last] = [Math.max(0, earliest - now), Math.max(0, latest - now)];
  if (last < MINUTE) return "any moment";
  if (last < HOUR) {
    const [from, to] = [Math.floor(soonest / MINUTE), Math.ceil(last / MINUTE)];
    return from === to ? `in ${to} min` : `in ${from} to ${to} min`;
  }
  const [from, to] = [clock(now + soonest, now), clock(now + last, now)];
  return from === to ? `at ${to}` : `${from} to ${to}`;
}
