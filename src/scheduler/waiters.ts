import type { AllocationId, EpochMs } from "../core/model.ts";
import type { Clock } from "../platform/clock.ts";

export type WaitEnd = "changed" | "timeout" | "aborted";

export interface Waiter {
  readonly ended: Promise<WaitEnd>;
  /** It waits no longer, whatever becomes of the allocation. */
  leave(): void;
}

interface Waiting {
  readonly wake: () => void;
  /** Its client is known to be alive until then; `null`: it is not the allocation's. */
  readonly aliveUntil: EpochMs | null;
}

/** Who waits for a change of which allocation. */
export class Waiters {
  readonly #clock: Clock;
  readonly #waiting = new Map<AllocationId, Set<Waiting>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Waits for the next change of `id`, for `waitMs`, or until `signal` says that nobody waits any more.
   *
   * @param isOwner whether the waiting is a sign of life of the allocation's client.
   */
  add(id: AllocationId, waitMs: number, isOwner: boolean, signal: AbortSignal): Waiter {
    const waiters = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, waiters);
    let resolve: (how: WaitEnd) => void = () => undefined;
    const ended = new Promise<WaitEnd>((settle) => {
      resolve = settle;
    });
    const end = (how: WaitEnd) => {
      cancel();
      signal.removeEventListener("abort", aborted);
      waiters.delete(waiting);
      if (waiters.size === 0 && this.#waiting.get(id) === waiters) this.#waiting.delete(id);
      resolve(how);
    };
    const aborted = () => end("aborted");
    const cancel = this.#clock.after(waitMs, () => end("timeout"));
    const aliveUntil = isOwner ? this.#clock.now() + waitMs : null;
    const waiting: Waiting = { wake: () => end("changed"), aliveUntil };
    waiters.add(waiting);
    signal.addEventListener("abort", aborted);
    if (signal.aborted) aborted();
    return { ended, leave: () => end("aborted") };
  }

  wake(id: AllocationId): void {
    for (const { wake } of this.#waiting.get(id) ?? []) wake();
  }

  /** How long the client of `id` will go on waiting, in ms; 0 when it does not wait. */
  patienceMs(id: AllocationId): number {
    const now = this.#clock.now();
    let longestMs = 0;
    for (const { aliveUntil } of this.#waiting.get(id) ?? [])
      longestMs = Math.max(longestMs, (aliveUntil ?? now) - now);
    return longestMs;
  }
}
