/**
 * The event loop of a simulated program. The scheduler puts its turns off with `setImmediate`; here that is a queue of
 * ours, so that a step ends when, and only when, nothing is left to do, and in the same order in every run.
 */
export class EventLoop {
  readonly #due: (() => void)[] = [];
  readonly #real = globalThis.setImmediate;

  constructor() {
    const queue = (callback: (...args: unknown[]) => void, ...args: unknown[]): void => {
      this.#due.push(() => callback(...args));
    };
    globalThis.setImmediate = queue as unknown as typeof setImmediate;
  }

  /** Runs what there is to run, and all that follows from it. */
  async settle(): Promise<void> {
    await microtasks();
    for (let callback = this.#due.shift(); callback !== undefined; callback = this.#due.shift()) {
      callback();
      await microtasks();
    }
  }

  /** Gives the real event loop a turn: signals, output and time limits depend on it. */
  breathe(): Promise<void> {
    return new Promise((resolve) => void this.#real(resolve));
  }

  /** Gives `setImmediate` back. */
  close(): void {
    globalThis.setImmediate = this.#real;
  }
}

/** Until no promise has anything left to tell: ticks run when the queue of microtasks is empty. */
function microtasks(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}
