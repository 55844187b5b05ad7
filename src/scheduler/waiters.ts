import type { AllocationId } from "../core/model.ts";
import type { Clock } from "../platform/clock.ts";

export type WaitEnd = "changed" | "timeout" | "aborted";

/** Who waits for a change of which allocation. */
export class Waiters {
  readonly #clock: Clock;
  readonly #waiting = new Map<AllocationId, Set<() => void>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves at the next change of `id`, after `waitMs`, or when `signal` says that nobody waits any more. */
  until(id: AllocationId, waitMs: number, signal: AbortSignal): Promise<WaitEnd> {
    return new Promise((resolve) => {
      const waiters = this.#waiting.get(id) ?? new Set();
      this.#waiting.set(id, waiters);
      const end = (how: WaitEnd) => {
        cancel();
        signal.removeEventListener("abort", aborted);
        waiters.delete(changed);
        if (waiters.size === 0 && this.#waiting.get(id) === waiters) this.#waiting.delete(id);
        resolve(how);
      };
      const changed = () => end("changed");
      const aborted = () => end("aborted");
      const cancel = this.#clock.after(waitMs, () => end("timeout"));
      waiters.add(changed);
      signal.addEventListener("abort", aborted);
    });
  }

  wake(id: AllocationId): void {
    for (const changed of this.#waiting.get(id) ?? []) changed();
  }
}
