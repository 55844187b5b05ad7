import type { Cancel, Clock } from "./clock.ts";

/** 03:17, local time. Where summer time begins or ends at that hour, it may come a bit later. */
const HOUR = 3;
const MINUTE = 17;
/** A timer may be early by the wall clock, which is being put right: that night is over all the same. */
const EARLY_MS = 3_600_000;
/** In autumn 25 h lie between two nights. */
const LONGEST_PAUSE_MS = 26 * 3_600_000;

/**
 * Runs `work` at night, by the wall clock; and at the latest {@link LONGEST_PAUSE_MS} after its last run, since the
 * host may sleep at night, and a wall clock that is set may skip the hour or put it off for a year.
 */
export function everyNight(clock: Clock, work: () => void): Cancel {
  let cancelLatest: Cancel = () => undefined;
  let night: NodeJS.Timeout;
  const run = () => {
    arm(Date.now() + EARLY_MS);
    work();
  };
  const arm = (from: number) => {
    cancelLatest();
    clearTimeout(night);
    cancelLatest = clock.after(LONGEST_PAUSE_MS, run);
    night = setTimeout(run, nextNight(new Date(from)) - Date.now());
  };
  arm(Date.now());
  return () => {
    cancelLatest();
    clearTimeout(night);
  };
}

/** When it is {@link HOUR}:{@link MINUTE} next, after `now`; not by node-cron, whose first answer takes 10 ms of the start. */
function nextNight(now: Date): number {
  const [year, month, day] = [now.getFullYear(), now.getMonth(), now.getDate()];
  const today = new Date(year, month, day, HOUR, MINUTE).getTime();
  return today > now.getTime() ? today : new Date(year, month, day + 1, HOUR, MINUTE).getTime();
}
