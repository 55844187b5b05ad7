/** Time that only the test lets pass, and processes that can be killed between any two steps. */
import type { Cancel, Clock } from "../../../src/platform/clock.ts";

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

/** What a killed process was about to do does not happen. */
export class Killed extends Error {}

export class VirtualTime {
  now = 1_700_000_000_000;
  readonly #timers = new Set<Timer>();
  #made = 0;
  #chance = 1;

  after(ms: number, run: () => void): Cancel {
    const timer = { at: this.now + ms, order: ++this.#made, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** From 0 to 1, the same in every run of a history. */
  chance(): number {
    this.#chance = (Math.imul(this.#chance, 1_664_525) + 1_013_904_223) >>> 0;
    return this.#chance / 2 ** 32;
  }

  async advance(ms: number): Promise<void> {
    const end = this.now + ms;
    for (;;) {
      await settled();
      const next = this.#next();
      if (next === null || next.at > end) break;
      this.#timers.delete(next);
      this.now = Math.max(this.now, next.at);
      next.run();
    }
    this.now = end;
    await settled();
  }

  #next(): Timer | null {
    let first: Timer | null = null;
    for (const timer of this.#timers) {
      if (first === null || timer.at < first.at || (timer.at === first.at && timer.order < first.order)) first = timer;
    }
    return first;
  }
}

/** All promises that wait for nothing but each other. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export class SimProcess implements Clock {
  readonly #time: VirtualTime;
  readonly #timers = new Set<Cancel>();
  readonly #dying: (() => void)[] = [];
  alive = true;

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  now(): number {
    return this.#time.now;
  }

  after(ms: number, run: () => void): Cancel {
    if (!this.alive) return () => undefined;
    const cancel = this.#time.after(ms, () => {
      this.#timers.delete(cancel);
      try {
        run();
      } catch (error) {
        if (!(error instanceof Killed)) throw error;
      }
    });
    this.#timers.add(cancel);
    return () => {
      this.#timers.delete(cancel);
      cancel();
    };
  }

  onDeath(listener: () => void): void {
    this.#dying.push(listener);
  }

  kill(): void {
    if (!this.alive) return;
    this.alive = false;
    for (const cancel of this.#timers) cancel();
    for (const listener of this.#dying) listener();
  }
}
