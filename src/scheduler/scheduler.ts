/**
 * What the rooms around ask of the scheduler: each verb here is a command, or a look at what is committed. How commands
 * are decided and stored: turns.ts. What happens by itself: pulse.ts.
 */
import type { EpochMs } from "../core/base/time.ts";
import { gpuNamed } from "../core/decisions/admin.ts";
import type { AdoptionAsk, AllocateAsk, BookingAsk, Command } from "../core/decisions/commands.ts";
import { owns } from "../core/decisions/lifecycle.ts";
import type { HostState } from "../core/host/state.ts";
import type { Allocation, EndedAllocation, LiveAllocation } from "../core/model/allocation.ts";
import type { Booking } from "../core/model/booking.ts";
import {
  AllocationEndedError,
  AllocationNotFoundError,
  FencingTokenMismatchError,
  NotOwnerError,
  ReservationNotFoundError,
} from "../core/model/errors.ts";
import type { Actor, AllocationId, GpuUuid } from "../core/model/ids.ts";
import type { Policy } from "../core/model/policy.ts";
import type { Observation } from "../core/model/reading.ts";
import type { KernelNews } from "../core/readings/xid.ts";
import type { Clock } from "../platform/clock.ts";
import type { IdSource } from "../platform/ids.ts";
import type { Sender } from "../ports/audit.ts";
import type { Observer } from "../ports/observer.ts";
import { DeliveryNotFoundError, DeliveryWithdrawnError } from "../ports/refusals.ts";
import {
  type AllocationQuery,
  type IdempotencyKey,
  KEY_LIFE_MS,
  type KeptKey,
  type Store,
  type StoredState,
} from "../ports/store.ts";
import type { DeliveryQuery, DeliveryRecord, DeliverySettlement } from "../ports/webhooks.ts";
import { UseCounter } from "./counting.ts";
import { EventFeed } from "./event-feed.ts";
import { GpuChanges } from "./gpu-changes.ts";
import { Observers } from "./observers.ts";
import { Pulse } from "./pulse.ts";
import { Reads, type Reply } from "./reads.ts";
import { isLetGo } from "./turn-draft.ts";
import { Turns } from "./turns.ts";
import { type Period, type Usage, UsageReports } from "./usage.ts";
import { Waiters } from "./waiters.ts";
import { aheadInSteps, WindowCalendar } from "./window-calendar.ts";

export type { Reply } from "./reads.ts";

export interface SchedulerParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly newId: IdSource;
  readonly policy: Policy;
  /** How often to look for due deadlines even if no timer fired: a safety net. */
  readonly tickIntervalMs: number;
  /** By how much the wall clock is ahead of `clock`, now: reserved windows go by the former. 0 when left out. */
  readonly wallAheadMs?: () => number;
  readonly observers?: readonly Observer[];
  /** Hears of bugs: exceptions that no command should raise. */
  readonly onBug?: (error: unknown) => void;
}

export class Scheduler {
  /** What was committed, for those who follow it. */
  readonly events: EventFeed;
  /** What the turns have written down of the GPUs, for who keeps their history. */
  readonly gpuChanges = new GpuChanges();
  readonly #parts: SchedulerParts;
  readonly #observers: Observers;
  readonly #pulse: Pulse;
  readonly #turns: Turns;
  readonly #reads: Reads;
  readonly #counter: UseCounter;
  readonly #usage: UsageReports;

  constructor(parts: SchedulerParts, stored: StoredState) {
    const { store, clock, newId, policy } = parts;
    const onBug = parts.onBug ?? (() => undefined);
    const waiters = new Waiters(clock);
    const calendar = new WindowCalendar(parts.wallAheadMs ?? (() => 0));
    this.#parts = parts;
    this.events = new EventFeed(store, clock, stored.lastSeq, (id) => this.ownerOf(id));
    const observers = new Observers([this.events, ...(parts.observers ?? [])], onBug);
    const pulse = new Pulse({
      clock,
      intervalMs: parts.tickIntervalMs,
      tick: () => void this.#turns.send({ type: "tick" }).catch(() => undefined),
      storageFailed: () => this.#turns.storageFailed,
      windowsAreStale: (now) => calendar.isStale(this.state.policy, now),
      onRound: () => void this.#counter.run(),
    });
    this.#observers = observers;
    this.#pulse = pulse;
    const history = this.gpuChanges;
    const turnsParts = { store, history, clock, newId, policy, calendar, pulse, waiters, observers, onBug };
    this.#turns = new Turns(turnsParts, stored);
    this.#reads = new Reads({ turns: this.#turns, store, waiters, clock });
    this.#counter = new UseCounter(this.#turns, store, onBug);
    this.#usage = new UsageReports(store);
  }

  /** The committed state. */
  get state(): HostState {
    return this.#turns.state;
  }

  get storageHealthy(): boolean {
    return !this.#turns.storageFailed;
  }

  now(): EpochMs {
    return this.#parts.clock.now();
  }

  observeWith(observer: Observer): void {
    this.#observers.add(observer);
  }

  /**
   * Begins to serve: deadlines run from here on.
   *
   * @param bootId tells one boot of the host from another.
   * @param wallClockMs floor of the fencing tokens, so that they grow even over a restored backup.
   */
  async start(bootId: string, wallClockMs: EpochMs): Promise<void> {
    await this.#turns.begin(bootId, wallClockMs);
    this.#pulse.serve();
    await this.#counter.run();
    this.#pulse.start();
  }

  /** Until `start` succeeds, shows what is stored and refuses every change. */
  startReadOnly(): void {
    this.#turns.beginReadOnly();
  }

  /** Takes what is stored anew, before `start`: its instants may have moved. */
  restore(stored: StoredState): void {
    this.#turns.restore(stored);
  }

  /** Refuses new commands, and returns once what was accepted is committed. */
  stop(): Promise<void> {
    this.#pulse.stop();
    return this.#turns.stop();
  }

  /**
   * @param key is kept with the change; see {@link recall}.
   * @throws DomainError when it is refused.
   */
  async allocate(ask: AllocateAsk, actor: Actor, key: IdempotencyKey | null = null): Promise<Reply<LiveAllocation>> {
    const arrivedAt = this.now();
    const id = `${ask.serviceName}-${this.#parts.newId(arrivedAt)}`;
    const { state, at } = await this.#turns.send({ type: "allocate", id, ask, actor, arrivedAt }, { key });
    return { allocation: state.allocations.get(id) as LiveAllocation, state, at };
  }

  /**
   * Ends leases and cancels waiting requests. Ending what has already ended is not an error.
   *
   * @returns what the call is about and has ended: by it, or before it when an id was given.
   * @throws AllocationNotFoundError when the id never existed.
   */
  async release(
    target: {
      readonly id: AllocationId | null;
      readonly serviceName: string | null;
      readonly fencingToken: number | null;
    },
    actor: Actor,
    key: IdempotencyKey | null = null,
  ): Promise<readonly EndedAllocation[]> {
    try {
      const { ended } = await this.#turns.send({ type: "release", ...target, actor }, { key });
      return ended.filter(isLetGo);
    } catch (error) {
      if (!(error instanceof AllocationNotFoundError) || target.id === null) throw error;
      const archived = await this.#reads.archived(target.id);
      if (archived === undefined) throw error;
      const { serviceName, fencingToken } = target;
      if (serviceName !== null && archived.request.serviceName !== serviceName) return [];
      if (!owns(actor, archived)) throw new NotOwnerError(`allocation ${target.id}`);
      if (fencingToken !== null && archived.lease !== null && archived.lease.fencingToken !== fencingToken) {
        throw new FencingTokenMismatchError(target.id, fencingToken);
      }
      return [archived];
    }
  }

  /** @throws AllocationEndedError when it has ended; nothing revives it. */
  async renew(
    id: AllocationId,
    fencingToken: number | null,
    actor: Actor,
    key: IdempotencyKey | null = null,
  ): Promise<Reply> {
    return this.#changeLease(id, { type: "renew", id, fencingToken, actor }, actor, key);
  }

  async #changeLease(
    id: AllocationId,
    command: Extract<Command, { type: "renew" | "extend" }>,
    actor: Actor,
    key: IdempotencyKey | null,
  ): Promise<Reply> {
    try {
      const { state, at } = await this.#turns.send(command, { key });
      return { allocation: state.allocations.get(id) as Allocation, state, at };
    } catch (error) {
      if (!(error instanceof AllocationNotFoundError)) throw error;
      const archived = await this.#reads.archived(id);
      if (archived === undefined) throw error;
      throw owns(actor, archived) ? new AllocationEndedError(id) : new NotOwnerError(`allocation ${id}`);
    }
  }

  /**
   * Its client moves a lease's end.
   *
   * @throws ExtensionRefusedError when that would take from others what they were promised.
   * @throws AllocationEndedError when it has ended; nothing revives it.
   */
  async extend(
    id: AllocationId,
    to: {
      readonly ttlMs: number | null;
      readonly maxDurationMs: number | null;
      readonly fencingToken: number | null;
    },
    actor: Actor,
    key: IdempotencyKey | null = null,
  ): Promise<Reply> {
    return this.#changeLease(id, { type: "extend", id, ...to, actor }, actor, key);
  }

  /**
   * One record once it is other than queued or has changed from offered, or after `waitMs`, whichever is first. While
   * its owner waits it is alive; what it is granted meanwhile it has claimed.
   *
   * @param signal ends the wait early: the client has gone.
   * @throws AllocationNotFoundError
   */
  wait(id: AllocationId, actor: Actor, waitMs: number, signal: AbortSignal): Promise<Reply> {
    return this.#reads.wait(id, actor, waitMs, signal);
  }

  /**
   * An admin ends a lease, or cancels a waiting request, with a reason that its record keeps.
   *
   * @throws AllocationEndedError when it has ended already.
   */
  async revoke(id: AllocationId, reason: string, actor: Actor): Promise<EndedAllocation> {
    try {
      const { ended } = await this.#turns.send({ type: "revoke", id, reason, actor });
      return ended.find(({ request }) => request.id === id) as EndedAllocation;
    } catch (error) {
      throw this.#orEnded(id, error);
    }
  }

  /**
   * Somebody writes to whoever holds a lease.
   *
   * @throws AllocationEndedError, NudgeRefusedError when it waits, NudgedLatelyError
   */
  async nudge(id: AllocationId, message: string, actor: Actor): Promise<Reply> {
    try {
      const { state, at } = await this.#turns.send({ type: "nudge", id, message, actor });
      return { allocation: state.allocations.get(id) as Allocation, state, at };
    } catch (error) {
      throw this.#orEnded(id, error);
    }
  }

  /** Of a command to a live allocation: that there is none by this id may mean that it has ended. */
  #orEnded(id: AllocationId, error: unknown): unknown {
    if (!(error instanceof AllocationNotFoundError)) return error;
    return this.#parts.store.findEnded(id) === undefined ? error : new AllocationEndedError(id);
  }

  /**
   * An admin cordons a GPU (named by UUID or index), ends its cordon or its quarantine, or removes it for good.
   *
   * @returns its UUID.
   * @throws GpuNotFoundError, or GpuInUseError when a GPU to be removed is not gone.
   */
  async govern(
    type: "cordon" | "uncordon" | "clear-quarantine" | "remove-gpu",
    gpu: string,
    reason: string,
    actor: Actor,
  ): Promise<GpuUuid> {
    // A removed GPU cannot be looked up afterwards.
    const { uuid } = gpuNamed(this.state, gpu);
    await this.#turns.send({ type, gpu: uuid, reason, actor });
    return uuid;
  }

  /**
   * An admin drains one GPU, or the host: no new leases there, and running ones have a time to end, or until an instant.
   *
   * @param gpu by UUID or index; `null`: the host.
   * @param leave `ms` of `null`: as long as they take.
   * @returns its UUID; `null` for the host.
   * @throws GpuNotFoundError
   */
  async drain(
    gpu: string | null,
    leave: { readonly ms: number | null } | { readonly untilWall: EpochMs },
    reason: string,
    actor: Actor,
  ): Promise<GpuUuid | null> {
    const uuid = gpu === null ? null : gpuNamed(this.state, gpu).uuid;
    const until =
      "ms" in leave
        ? { leaveMs: leave.ms }
        : { leaveMs: null, until: leave.untilWall - aheadInSteps(this.#parts.wallAheadMs) };
    await this.#turns.send({ type: "drain", gpu: uuid, ...until, reason, actor });
    return uuid;
  }

  /** An admin lets the host have new leases again; cordons of single GPUs stay. */
  async undrain(reason: string, actor: Actor): Promise<void> {
    await this.#turns.send({ type: "undrain", reason, actor });
  }

  /**
   * An admin makes a lease of somebody's use of a GPU, named by UUID or index.
   *
   * @throws GpuNotFoundError, AdoptionDisabledError, GpuInUseError, GpusUnavailableError, NothingToAdoptError
   */
  async adopt(gpu: string, adoption: AdoptionAsk, actor: Actor): Promise<Reply> {
    const id = `${adoption.serviceName}-${this.#parts.newId(this.now())}`;
    const { state, at } = await this.#turns.send({ type: "adopt", id, gpu, adoption, actor });
    return { allocation: state.allocations.get(id) as Allocation, state, at };
  }

  /**
   * GPUs are to be kept for a principal from a time for a while.
   *
   * @throws GpuNotFoundError, NotOwnerError, ReservationRefusedError
   */
  async book(ask: BookingAsk, actor: Actor): Promise<Booking> {
    const id = `reservation-${this.#parts.newId(this.now())}`;
    const { state } = await this.#turns.send({ type: "book", id, ask, actor });
    return state.bookings.find((one) => one.id === id) as Booking;
  }

  /**
   * Its principal or an admin gives up what is left of a booking.
   *
   * @returns what it was.
   * @throws ReservationNotFoundError, NotOwnerError
   */
  async cancelBooking(id: string, actor: Actor): Promise<Booking> {
    const before = this.state.bookings.find((one) => one.id === id);
    await this.#turns.send({ type: "cancel-booking", id, actor });
    if (before === undefined) throw new ReservationNotFoundError(id);
    return before;
  }

  /** The process that a lease or a waiting request is bound to has ended, with all that came from it. */
  async processGone(id: AllocationId): Promise<void> {
    await this.#turns.send({ type: "process-gone", id });
  }

  /** The client of a grant was seen to hang up before its answer was written. */
  async hangUp(id: AllocationId): Promise<void> {
    await this.#turns.send({ type: "hang-up", id });
  }

  /**
   * One record, live or ended. Read by its owner, it counts as a sign of life, and claims what was offered.
   *
   * @throws AllocationNotFoundError
   */
  read(id: AllocationId, actor: Actor): Promise<Reply> {
    return this.#reads.read(id, actor);
  }

  /**
   * One record as it stands, without a sign of life or a claim: it works even when nothing can be stored.
   *
   * @throws AllocationNotFoundError
   */
  peek(id: AllocationId): Reply {
    return this.#reads.peek(id);
  }

  /** Whose an allocation is or was; `null`: there is none of this id. */
  ownerOf(id: AllocationId): string | null {
    return (this.state.allocations.get(id) ?? this.#parts.store.findEnded(id))?.request.principal ?? null;
  }

  /** What `key` stands for, if its request changed something and has not been forgotten since. */
  recall(principal: string, key: string): KeptKey | undefined {
    const kept = this.#parts.store.findKey(principal, key);
    return kept !== undefined && this.now() - kept.at < KEY_LIFE_MS ? kept : undefined;
  }

  listDeliveries(query: DeliveryQuery): readonly DeliveryRecord[] {
    return this.#parts.store.listDeliveries(query);
  }

  /**
   * Has a webhook sent again, whatever came of it before. The reason is kept in the audit.
   *
   * @throws DeliveryNotFoundError, or DeliveryWithdrawnError when it tells of a grant that is over.
   */
  async redeliver(deliveryId: string, reason: string | null, sender: Sender): Promise<DeliveryRecord> {
    const find = () => {
      const found = this.#parts.store.findDelivery(deliveryId);
      if (found === undefined) throw new DeliveryNotFoundError(deliveryId);
      return found;
    };
    const { state, status, allocationId } = find();
    const isOver = status === "allocated" && this.state.allocations.get(allocationId ?? "") === undefined;
    if (state === "withdrawn" || isOver) throw new DeliveryWithdrawnError(deliveryId);
    await this.#turns.send({ type: "tick" }, { redelivery: deliveryId, reason, sender });
    return find();
  }

  list(query: AllocationQuery): readonly Allocation[] {
    const { allocations } = this.state;
    return this.#parts.store.list(query, (id) => allocations.get(id));
  }

  /**
   * What was held and used in a period, as the committed state has it now.
   *
   * @throws UsageBusyError, PeriodTooLargeError
   */
  usage(period: Period): Promise<Usage> {
    return this.#usage.make(period, this.state, this.now());
  }

  async observe(observation: Observation): Promise<void> {
    try {
      await this.#turns.send({ type: "observe", observation });
    } finally {
      // A reading that could not be stored was seen all the same.
      this.#observers.tell((observer) => observer.observed?.(observation, this.state));
    }
  }

  /** Takes in what the kernel's log says of GPUs. */
  async readKernelLog(news: KernelNews): Promise<void> {
    await this.#turns.send({ type: "read-kernel-log", news });
  }

  /** Takes down what came of a webhook; a delivered grant is claimed by it. */
  async settle(settlement: DeliverySettlement): Promise<void> {
    const { allocationId: id, outcome, status } = settlement;
    const claims = outcome === "delivered" && status === "allocated" && id !== null;
    await this.#turns.send(claims ? { type: "claim", id } : { type: "tick" }, { settlement });
  }

  async reconfigure(policy: Policy, tickIntervalMs: number): Promise<void> {
    await this.#turns.send({ type: "reconfigure", policy });
    this.#pulse.setInterval(tickIntervalMs);
    await this.#counter.run();
  }
}
