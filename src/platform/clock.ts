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
/** The kernel tells the uptime in hundredths of a second, rounded down: this limits how exact a difference is. */
const UPTIME_STEP_MS = 10;
const UPTIME_ERROR_MS = 3 * UPTIME_STEP_MS;
/** The wall clock counts as set only when it is off the measured time by this much, in ms. */
const LEAST_SETTING_MS = 1_000;

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
 * A clock that starts at `startAt`, or at the wall clock's time, and from then on follows the monotonic clock and the
 * sleep of the host: a jump of the wall clock moves no deadline. The first call of `now` after a sleep counts it, and
 * timers that fell due in it run then.
 */
export function steadyClock(startAt?: number, time: TimeSources = SYSTEM_TIME): Clock {
  return new SteadyClock(startAt ?? time.wallMs(), time);
}

interface SteadyTimer {
  readonly at: number;
  readonly callback: () => void;
  handle: NodeJS.Timeout | null;
}

class SteadyClock implements Clock {
  readonly #time: TimeSources;
  readonly #timers = new Set<SteadyTimer>();
  /** Its time less the monotonic clock's: grows by every sleep. */
  #origin: number;
  #checkedAt: number;
  /** Uptime less monotonic time: grows by every sleep. */
  #lead: number | null;
  /** Wall clock less monotonic time: grows by every sleep, and changes whenever the wall clock is set. */
  #wallLead: number;

  constructor(startAt: number, time: TimeSources) {
    const monotonic = time.monotonicMs();
    this.#time = time;
    this.#origin = startAt - monotonic;
    this.#checkedAt = monotonic;
    this.#lead = this.#leadOf(monotonic);
    this.#wallLead = time.wallMs() - monotonic;
  }

  now(): number {
    return Math.floor(this.#read());
  }

  after(delayMs: number, callback: () => void): Cancel {
    const now = this.#read();
    const timer: SteadyTimer = { at: now + Math.max(0, delayMs), callback, handle: null };
    this.#timers.add(timer);
    this.#set(timer, now);
    return () => {
      this.#timers.delete(timer);
      if (timer.handle !== null) clearTimeout(timer.handle);
    };
  }

  #read(): number {
    const monotonic = this.#time.monotonicMs();
    const wallLead = this.#time.wallMs() - monotonic;
    // A sleep shows in the wall clock too, whose jump alone proves nothing; the uptime is slow to read.
    if (Math.abs(wallLead - this.#wallLead) >= LEAST_SLEEP_MS || monotonic - this.#checkedAt >= SLEEP_CHECK_MS) {
      this.#wallLead = wallLead;
      this.#checkedAt = monotonic;
      this.#countSleep(monotonic);
    }
    return this.#origin + monotonic;
  }

  #countSleep(monotonic: number): void {
    const lead = this.#leadOf(monotonic);
    if (lead === null || this.#lead === null) return;
    const slept = lead - this.#lead;
    if (slept < LEAST_SLEEP_MS) return;
    this.#lead = lead;
    this.#origin += slept;
    for (const timer of this.#timers) this.#set(timer, this.#origin + monotonic);
  }

  #leadOf(monotonic: number): number | null {
    const uptime = this.#time.uptimeMs();
    return uptime === null ? null : uptime - monotonic;
  }

  #set(timer: SteadyTimer, now: number): void {
    if (timer.handle !== null) clearTimeout(timer.handle);
    const delayMs = Math.min(Math.max(0, timer.at - now), LONGEST_TIMER_MS);
    timer.handle = setTimeout(() => {
      // What is further off than the longest timer is set once more, for the rest.
      if (delayMs === LONGEST_TIMER_MS) return this.#set(timer, this.#read());
      this.#timers.delete(timer);
      timer.callback();
    }, delayMs);
  }
}

/** What was written down of the daemon's time: enough to measure how long it was away. */
export interface TimeRecord {
  /** The latest instant that was written down. */
  readonly lastAt: number;
  /** The boot of the host in which the daemon last ran. */
  readonly bootId: string;
  /** What its clock would have shown when the host booted; `null` when the system does not tell the uptime. */
  readonly bootedAt: number | null;
}

export interface TimeAtStart {
  readonly clock: Clock;
  /** For the next record. */
  readonly bootedAt: number | null;
  /**
   * By how much instants of before must be moved, in ms, so that they are as long ago, or as far off, on this clock as
   * they really are. Mostly 0: not so when the wall clock was set, or was wrong before.
   */
  readonly movedMs: number;
}

/**
 * The clock of a start of the daemon. It shows what the wall clock shows, so that people and programs understand its
 * instants; how long the daemon was away is measured without it where that can be done.
 *
 *  1. Within one boot of the host its uptime has measured the time away.
 *  2. Over a reboot only the wall clock has. If it is behind, no time is taken to have passed.
 *
 * @param last `null`: the daemon has not run before.
 */
export function clockAtStart(last: TimeRecord | null, bootId: string, time: TimeSources = SYSTEM_TIME): TimeAtStart {
  const wall = time.wallMs();
  const uptime = time.uptimeMs();
  const measured = last === null ? wall : timeOn(last, bootId, wall, uptime);
  const aheadMs = wall - measured;
  const isSet = Math.abs(aheadMs) >= LEAST_SETTING_MS;
  const isExact = aheadMs >= 0 && aheadMs <= UPTIME_ERROR_MS;
  const startAt = isSet || isExact ? wall : measured;
  return {
    clock: steadyClock(startAt, time),
    // Rather too early than too late: it must not make the next time away too long.
    bootedAt: uptime === null ? null : Math.floor(startAt - uptime - UPTIME_STEP_MS),
    movedMs: isSet ? aheadMs : 0,
  };
}

/** What the clock of `last` would show now. */
function timeOn(last: TimeRecord, bootId: string, wall: number, uptime: number | null): number {
  if (uptime !== null && last.bootedAt !== null && last.bootId === bootId) {
    const continued = Math.floor(last.bootedAt + uptime);
    // Less than it was: the uptime of a container that has been started again, which is none of the host's.
    if (continued > last.lastAt - LEAST_SETTING_MS) return Math.max(continued, last.lastAt);
  }
  return Math.max(wall, last.lastAt);
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
