import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";

export type Cancel = () => void;

/** Time as the program sees it: an instant that never goes back, and timers on it. */
export interface Clock {
  /** Milliseconds since the epoch; never decreases, whatever happens to the wall clock. */
  now(): number;
  /** Runs `callback` once, `delayMs` from now. */
  after(delayMs: number, callback: () => void): Cancel;
}

const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** How often to look whether the host has slept, and from how much sleep on it counts, in ms. */
const SLEEP_CHECK_MS = 1_000;
const LEAST_SLEEP_MS = 500;
const UPTIME_FILE = "/proc/uptime";

/**
 * Milliseconds since the host booted, sleep included (proc(5)); `null` where the system does not tell. The monotonic
 * clock of the process stands still while the host sleeps.
 */
function readUptimeMs(): number | null {
  try {
    return Number.parseFloat(readFileSync(UPTIME_FILE, "utf8")) * 1_000;
  } catch {
    return null;
  }
}

/** What a steady clock is made of; tests put their own in. */
export interface TimeSources {
  readonly wallMs: () => number;
  readonly monotonicMs: () => number;
  readonly uptimeMs: () => number | null;
}

const SYSTEM_TIME: TimeSources = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  uptimeMs: readUptimeMs,
};

/**
 * A clock that starts at the wall clock's time, or at `notBefore` when the wall clock has fallen behind it, and
 * from then on follows the monotonic clock and the sleep of the host: a jump of the wall clock moves no deadline.
 */
export function steadyClock(notBefore = 0, time: TimeSources = SYSTEM_TIME): Clock {
  let origin = Math.max(time.wallMs(), notBefore) - time.monotonicMs();
  let checkedAt = time.monotonicMs();
  /** Uptime less monotonic time: it grows by every sleep. */
  let lead = aheadBy();

  function aheadBy(): number | null {
    const uptime = time.uptimeMs();
    return uptime === null ? null : uptime - time.monotonicMs();
  }

  function countSleep(monotonic: number): void {
    if (monotonic - checkedAt < SLEEP_CHECK_MS) return;
    checkedAt = monotonic;
    const ahead = aheadBy();
    if (ahead === null || lead === null) return;
    if (ahead - lead < LEAST_SLEEP_MS) return;
    origin += ahead - lead;
    lead = ahead;
  }

  return {
    now() {
      const monotonic = time.monotonicMs();
      countSleep(monotonic);
      return Math.floor(origin + monotonic);
    },
    after(delayMs, callback) {
      const timer = setTimeout(callback, Math.min(Math.max(0, delayMs), LONGEST_TIMER_MS));
      return () => clearTimeout(timer);
    },
  };
}

/** A clock that moves only when told to: for tests and simulation. */
export class ManualClock implements Clock {
  #now: number;
  #timers: { at: number; order: number; callback: () => void }[] = [];
  #order = 0;

  constructor(startMs = 1_800_000_000_000) {
    this.#now = startMs;
  }

  now(): number {
    return this.#now;
  }

  after(delayMs: number, callback: () => void): Cancel {
    const timer = { at: this.#now + Math.max(0, delayMs), order: this.#order++, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Moves time on, running every timer that falls due on the way, in order. */
  advance(ms: number): void {
    const target = this.#now + ms;
    for (;;) {
      const due = this.#timers
        .filter((timer) => timer.at <= target)
        .sort((a, b) => a.at - b.at || a.order - b.order)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== due);
      this.#now = Math.max(this.#now, due.at);
      due.callback();
    }
    this.#now = target;
  }
}
