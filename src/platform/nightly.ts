import cron from "node-cron";
import type { Cancel, Clock } from "./clock.ts";

/** Where summer time begins or ends at that hour, it does not come or comes twice: the second run finds little to do. */
const SCHEDULE = "17 3 * * *";
/** In autumn 25 h lie between two nights. */
const LONGEST_PAUSE_MS = 26 * 3_600_000;

/**
 * Runs `work` at night, by the wall clock; and at the latest {@link LONGEST_PAUSE_MS} after its last run, since the
 * host may sleep at night, and a wall clock that is set may skip the hour or put it off for a year.
 */
export function everyNight(clock: Clock, work: () => void): Cancel {
  let cancelLatest: Cancel = () => undefined;
  const run = () => {
    arm();
    work();
  };
  const arm = () => {
    cancelLatest();
    cancelLatest = clock.after(LONGEST_PAUSE_MS, run);
  };
  arm();
  const nights = cron.schedule(SCHEDULE, run, { suppressMissedWarning: true });
  return () => {
    cancelLatest();
    void nights.destroy();
  };
}
