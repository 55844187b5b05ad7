/** Time as a simulated host has it: it passes when it is told to. */
import type { Cancel, Clock, TimeSources } from "../../src/platform/clock.ts";

/** Where the wall clock stands at the beginning, in ms since 1970. */
const BEGINNING = 1_800_000_000_000;

export class VirtualTime {
  /** Since the beginning, whatever clocks show. */
  #trueMs = 0;
  #asleepMs = 0;
  #wallAheadMs = 0;
  #bootedAtMs = 0;
  #boots = 1;

  /** Milliseconds that have really passed since the beginning. */
  get trueMs(): number {
    return this.#trueMs;
  }

  get wallMs(): number {
    return BEGINNING + this.#trueMs + this.#wallAheadMs;
  }

  get bootId(): string {
    return `boot-${this.#boots}`;
  }

  readonly sources: TimeSources = {
    wallMs: () => this.wallMs,
    monotonicMs: () => this.#trueMs - this.#asleepMs,
    uptimeMs: () => this.#trueMs - this.#bootedAtMs,
  };

  pass(ms: number): void {
    this.#trueMs += ms;
  }

  /** The whole host stands still, and no program notices until it looks at the uptime. */
  sleep(ms: number): void {
    this.#trueMs += ms;
    this.#asleepMs += ms;
  }

  /** Sets the wall clock so far ahead of the true time; a negative number is behind it. */
  setWallAhead(ms: number): void {
    this.#wallAheadMs = ms;
  }

  /** Sets the wall clock forward, if it is not past `ms` already. */
  setWallBeyond(ms: number): void {
    this.#wallAheadMs += Math.max(0, ms + 1 - this.wallMs);
  }

  reboot(): void {
    this.#bootedAtMs = this.#trueMs;
    this.#boots += 1;
  }
}

interface Timer {
  readonly at: number;
  readonly callback: () => void;
}

/** The clock of one life of the program: its timers die with it. */
export class ProgramClock implements Clock {
  readonly #now: () => number;
  /** Soonest first; those of one instant in the order in which they were set. */
  readonly #timers: Timer[] = [];

  constructor(now: () => number) {
    this.#now = now;
  }

  now(): number {
    return this.#now();
  }

  after(delayMs: number, callback: () => void): Cancel {
    const timer: Timer = { at: this.#now() + Math.max(0, delayMs), callback };
    let place = this.#timers.length;
    while (place > 0 && (this.#timers[place - 1] as Timer).at > timer.at) place -= 1;
    this.#timers.splice(place, 0, timer);
    return () => {
      const found = this.#timers.indexOf(timer);
      if (found >= 0) this.#timers.splice(found, 1);
    };
  }

  /** How long until the next timer, in ms; `null` when there is none. */
  untilNextMs(): number | null {
    const first = this.#timers[0];
    return first === undefined ? null : Math.max(0, first.at - this.#now());
  }

  /** Runs what is due now. */
  runDue(): void {
    const now = this.#now();
    for (let first = this.#timers[0]; first !== undefined && first.at <= now; first = this.#timers[0]) {
      this.#timers.shift();
      first.callback();
    }
  }
}
