/**
 * Records, live and ended, as callers ask for them.
 *
 *  1. To read one's own record is a sign of life, and claims what was offered: a command, unless the record is a lease,
 *     which needs neither.
 *  2. Records are those of the committed state, or of the archive once they have ended. An allocation that is due and
 *     not ended yet is ended first, so that no id is unknown in between.
 */
import type { EpochMs } from "../core/base/time.ts";
import type { HostState } from "../core/host/state.ts";
import type { Allocation, EndedAllocation, LiveAllocation } from "../core/model/allocation.ts";
import { AllocationNotFoundError } from "../core/model/errors.ts";
import type { Actor, AllocationId } from "../core/model/ids.ts";
import type { Clock } from "../platform/clock.ts";
import type { Store } from "../ports/store.ts";
import type { Turns } from "./turns.ts";
import type { Waiters } from "./waiters.ts";

/** A record, and the state with it in place. */
export interface Reply<A extends Allocation = Allocation> {
  readonly allocation: A;
  readonly state: HostState;
  readonly at: EpochMs;
}

export interface ReadsParts {
  readonly turns: Pick<Turns, "state" | "send">;
  readonly store: Pick<Store, "findEnded">;
  readonly waiters: Pick<Waiters, "add" | "patienceMs">;
  readonly clock: Clock;
}

export class Reads {
  readonly #parts: ReadsParts;
  /** The `touch` commands under way, by allocation. */
  readonly #touches = new Map<AllocationId, { readonly waitMs: number; readonly reply: Promise<Reply> }>();

  constructor(parts: ReadsParts) {
    this.#parts = parts;
  }

  /** As `Scheduler.read` has it. */
  async read(id: AllocationId, actor: Actor): Promise<Reply> {
    const live = this.#live(id);
    // A lease needs no sign of life, so reading it needs no command.
    return live?.status === "leased" ? this.#reply(live) : this.#touch(id, actor);
  }

  /** As `Scheduler.wait` has it. */
  async wait(id: AllocationId, actor: Actor, waitMs: number, signal: AbortSignal): Promise<Reply> {
    const live = this.#live(id);
    // Before the `touch`: a change later in the same turn must end the wait.
    const waiter = this.#parts.waiters.add(id, waitMs, live !== undefined && isOwner(actor, live), signal);
    try {
      const first = await this.#touch(id, actor);
      if (first.allocation.status !== "queued") return first;
      const end = await waiter.ended;
      // The last sign of life promised `waitMs` more: a client that has gone takes that back.
      return end === "aborted" ? await this.#touch(id, actor).catch(() => first) : await this.read(id, actor);
    } finally {
      waiter.leave();
    }
  }

  /** As `Scheduler.peek` has it. */
  peek(id: AllocationId): Reply {
    const allocation = this.#live(id) ?? this.#parts.store.findEnded(id);
    if (allocation === undefined) throw new AllocationNotFoundError(id);
    return this.#reply(allocation);
  }

  /** The record of an ended allocation. One that is still live, although a command did not find it, is due: see 2. */
  async archived(id: AllocationId): Promise<EndedAllocation | undefined> {
    if (this.#live(id) !== undefined) await this.#parts.turns.send({ type: "tick" });
    return this.#parts.store.findEnded(id);
  }

  /** A sign of life from the owner. It lasts as long as the longest of the waits that the client has under way. */
  async #touch(id: AllocationId, actor: Actor): Promise<Reply> {
    const live = this.#live(id);
    if (live !== undefined && !isOwner(actor, live)) return this.#reply(live);
    if (live !== undefined) {
      try {
        return await this.#touchOnce(id, actor);
      } catch (error) {
        // It ended in the meantime: the archive has it.
        if (!(error instanceof AllocationNotFoundError)) throw error;
      }
    }
    const archived = await this.archived(id);
    if (archived === undefined) throw new AllocationNotFoundError(id);
    return this.#reply(archived);
  }

  /** Many may wait for one record, and look at it together when it changes: one command and one reply serve them all. */
  #touchOnce(id: AllocationId, owner: Actor): Promise<Reply> {
    const waitMs = this.#parts.waiters.patienceMs(id);
    const underWay = this.#touches.get(id);
    if (underWay !== undefined && underWay.waitMs >= waitMs) return underWay.reply;
    const reply = this.#parts.turns.send({ type: "touch", id, actor: owner, waitMs }).then(({ state, at }) => ({
      allocation: state.allocations.get(id) as LiveAllocation,
      state,
      at,
    }));
    const touch = { waitMs, reply };
    this.#touches.set(id, touch);
    const over = () => {
      if (this.#touches.get(id) === touch) this.#touches.delete(id);
    };
    reply.then(over, over);
    return reply;
  }

  #live(id: AllocationId): LiveAllocation | undefined {
    return this.#parts.turns.state.allocations.get(id);
  }

  /** As the record stands in the committed state. */
  #reply(allocation: Allocation): Reply {
    return { allocation, state: this.#parts.turns.state, at: this.#parts.clock.now() };
  }
}

function isOwner(actor: Actor, allocation: LiveAllocation): boolean {
  return actor.principal === allocation.request.principal;
}
