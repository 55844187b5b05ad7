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

/**
 * A clock that starts at the wall clock's time, or at `notBefore` when the wall clock has fallen behind it, and
 * from then on follows the monotonic clock: a jump of the wall clock moves no deadline.
 */
export function steadyClock(notBefore = 0): Clock {
  const origin = Math.max(Date.now(), notBefore) - performance.now();
  return {
    now: () => Math.floor(origin + performance.now()),
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
