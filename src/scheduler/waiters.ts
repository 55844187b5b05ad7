import type { EpochMs } from "../core/base/time.ts";
import type { AllocationId } from "../core/model/ids.ts";
import type { Clock } from "../platform/clock.ts";

export type WaitEnd = "changed" | "timeout" | "aborted";

export interface Waiter {
  readonly ended: Promise<WaitEnd>;
  /** Ends the wait, whatever becomes of the allocation. */
  leave(): void;
}

interface Waiting {
  readonly wake: () => void;
  /** Until when the allocation's client is known to be alive; `null`: another client waits here. */
  readonly aliveUntil: EpochMs | null;
}

/** All clients that wait for one allocation. There may be a thousand, so `aliveUntil` is not computed anew for each. */
interface Group {
  readonly members: Set<Waiting>;
  /** The latest `aliveUntil` of the members; `undefined` when it must be computed. */
  aliveUntil: EpochMs | null | undefined;
}

/** The clients that wait, by the allocation whose change they wait for. */
export class Waiters {
  readonly #clock: Clock;
  readonly #waiting = new Map<AllocationId, Group>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Waits for the next change of `id`, for `waitMs`, or until `signal` says that the client has gone.
   *
   * @param isOwner whether the waiting is a sign of life of the allocation's client.
   */
  add(id: AllocationId, waitMs: number, isOwner: boolean, signal: AbortSignal): Waiter {
    const group: Group = this.#waiting.get(id) ?? { members: new Set(), aliveUntil: null };
    this.#waiting.set(id, group);
    let resolve: (how: WaitEnd) => void = () => undefined;
    const ended = new Promise<WaitEnd>((settle) => {
      resolve = settle;
    });
    const end = (how: WaitEnd) => {
      cancel();
      signal.removeEventListener("abort", aborted);
      group.members.delete(waiting);
      if (waiting.aliveUntil === group.aliveUntil) group.aliveUntil = undefined;
      if (group.members.size === 0 && this.#waiting.get(id) === group) this.#waiting.delete(id);
      resolve(how);
    };
    const aborted = () => end("aborted");
    const cancel = this.#clock.after(waitMs, () => end("timeout"));
    const aliveUntil = isOwner ? this.#clock.now() + waitMs : null;
    const waiting: Waiting = { wake: () => end("changed"), aliveUntil };
    group.members.add(waiting);
    if (group.aliveUntil !== undefined) group.aliveUntil = latest(group.aliveUntil, aliveUntil);
    signal.addEventListener("abort", aborted);
    if (signal.aborted) aborted();
    return { ended, leave: () => end("aborted") };
  }

  wake(id: AllocationId): void {
    for (const { wake } of this.#waiting.get(id)?.members ?? []) wake();
  }

  /** How long the client of `id` will go on waiting, in ms; 0 when it does not wait. */
  patienceMs(id: AllocationId): number {
    const group = this.#waiting.get(id);
    if (group === undefined) return 0;
    if (group.aliveUntil === undefined) {
      group.aliveUntil = null;
      for (const { aliveUntil } of group.members) group.aliveUntil = latest(group.aliveUntil, aliveUntil);
    }
    return group.aliveUntil === null ? 0 : Math.max(0, group.aliveUntil - this.#clock.now());
  }
}

function latest(a: EpochMs | null, b: EpochMs | null): EpochMs | null {
  if (a === null || b === null) return a ?? b;
  return Math.max(a, b);
}
