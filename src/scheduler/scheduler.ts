/**
 * The only writer. Commands are decided one by one, and everything they change is committed in one transaction
 * before anybody is answered.
 *
 *  1. One turn at a time: commands that arrive while one is committed are decided and committed together in the next
 *     (group commit). The event loop is free meanwhile.
 *  2. The state that others see is always a committed one.
 *  3. When a commit fails, the state before the turn stands, every command of the turn is refused, and only the
 *     figures of the readings are kept.
 *  4. Time in which the daemon stood still, or could store nothing, counts as absence: what fell due in it gets its
 *     grace before it expires. Every turn looks for itself, so it does not matter what runs first after a pause.
 *  5. Observers hear of a turn after its commit, in order; the first of them is the feed of events.
 */
import type { EpochMs } from "../core/base/time.ts";
import { gpuNamed } from "../core/decisions/admin.ts";
import type { AdoptionAsk, AllocateAsk, Command } from "../core/decisions/commands.ts";
import { type Decision, decide } from "../core/decisions/decide.ts";
import { owns } from "../core/decisions/lifecycle.ts";
import { withInstances } from "../core/decisions/observe/instances.ts";
import { withSight } from "../core/decisions/observe/sight.ts";
import { type HostState, nextDeadline, nextWindowChange, restoredHost, withPolicy } from "../core/host/state.ts";
import type { Allocation, EndedAllocation, LiveAllocation } from "../core/model/allocation.ts";
import {
  AllocationEndedError,
  AllocationNotFoundError,
  DomainError,
  FencingTokenMismatchError,
  NotOwnerError,
} from "../core/model/errors.ts";
import type { Gpu } from "../core/model/gpu.ts";
import type { Actor, AllocationId, GpuUuid } from "../core/model/ids.ts";
import type { Policy } from "../core/model/policy.ts";
import type { Observation } from "../core/model/reading.ts";
import type { KernelNews } from "../core/readings/xid.ts";
import { type Captured, TurnRecorder } from "../core/replay/capture.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import type { IdSource } from "../platform/ids.ts";
import type { Observer } from "../ports/observer.ts";
import {
  DeliveryNotFoundError,
  DeliveryWithdrawnError,
  OverloadedError,
  ShuttingDownError,
  StorageUnavailableError,
} from "../ports/refusals.ts";
import {
  type AllocationQuery,
  type IdempotencyKey,
  KEY_LIFE_MS,
  type KeptKey,
  type Store,
  type StoredState,
} from "../ports/store.ts";
import type { DeliveryQuery, DeliveryRecord, DeliverySettlement } from "../ports/webhooks.ts";
import { notificationOf, operatorNotificationOf } from "../wire/webhooks/bodies.ts";
import { countUse } from "./counting.ts";
import { EventFeed } from "./event-feed.ts";
import { BEAT_MS, PAUSE_MS } from "./pulse.ts";
import { changedBy, type Draft, isLetGo, noteCommand, outdate, outdatesNotice } from "./turn-draft.ts";
import { type Answer, type Enclosed, isDue, type Letter, MAX_COMMANDS_PER_TURN, MAX_MAILBOX } from "./turns.ts";
import { type Period, type Usage, UsageReports } from "./usage.ts";
import { Waiters } from "./waiters.ts";
import { WindowCalendar } from "./window-calendar.ts";

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

/** What a command did: the record it was about, and the state with it in place. */
export interface Reply<A extends Allocation = Allocation> {
  readonly allocation: A;
  readonly state: HostState;
  readonly at: EpochMs;
}

export class Scheduler {
  /** What was committed, for those who follow it. */
  readonly events: EventFeed;
  readonly #parts: SchedulerParts;
  readonly #observers: Observer[];
  #state: HostState;
  #lastSeq: number;
  #mailbox: Letter[] = [];
  /** A turn runs, or is about to. */
  #working = false;
  readonly #waiters: Waiters;
  readonly #usage: UsageReports;
  readonly #calendar: WindowCalendar;
  readonly #capture = new TurnRecorder();
  /** The owners' looks at records that are under way. */
  readonly #touches = new Map<AllocationId, { readonly waitMs: number; readonly reply: Promise<Reply> }>();
  #storageFailed = false;
  #stopping = false;
  #wake: { readonly at: EpochMs; readonly cancel: Cancel } | null = null;
  #safetyNet: Cancel | null = null;
  #nextBeat: Cancel | null = null;
  #bootId = "";
  /** When the daemon was last seen to run; `null` until it serves. */
  #lastBeat: EpochMs | null = null;
  /** The next turn begins with a resumption: nobody could renew or claim for a while. */
  #resumptionDue = false;
  #tickIntervalMs: number;
  #counting = false;

  constructor(parts: SchedulerParts, stored: StoredState) {
    this.#parts = parts;
    this.#waiters = new Waiters(parts.clock);
    this.#usage = new UsageReports(parts.store);
    this.#calendar = new WindowCalendar(parts.wallAheadMs ?? (() => 0));
    this.#tickIntervalMs = parts.tickIntervalMs;
    this.#state = restoredHost(stored, parts.policy);
    this.#lastSeq = stored.lastSeq;
    this.events = new EventFeed(parts.store, parts.clock, stored.lastSeq);
    this.#observers = [this.events, ...(parts.observers ?? [])];
  }

  /** The committed state. */
  get state(): HostState {
    return this.#state;
  }

  get storageHealthy(): boolean {
    return !this.#storageFailed;
  }

  now(): EpochMs {
    return this.#parts.clock.now();
  }

  observeWith(observer: Observer): void {
    this.#observers.push(observer);
  }

  /**
   * Begins to serve: deadlines run from here on.
   *
   * @param bootId tells one boot of the host from another.
   * @param wallClockMs floor of the fencing tokens, so that they grow even over a restored backup.
   */
  async start(bootId: string, wallClockMs: EpochMs): Promise<void> {
    this.#bootId = bootId;
    await this.#send({ type: "resume", bootId, fencingFloor: wallClockMs });
    this.#lastBeat = this.now();
    await this.#count();
    this.#armSafetyNet();
    this.#armBeat();
  }

  /** Refuses new commands, and returns once what was accepted is committed. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#safetyNet?.();
    this.#nextBeat?.();
    this.#wake?.cancel();
    while (this.#working) await new Promise((resolve) => setImmediate(resolve));
  }

  /**
   * @param key is kept with the change; see {@link recall}.
   * @throws DomainError when it is refused.
   */
  async allocate(ask: AllocateAsk, actor: Actor, key: IdempotencyKey | null = null): Promise<Reply<LiveAllocation>> {
    const id = `${ask.serviceName}-${this.#parts.newId(this.now())}`;
    const { state, at } = await this.#send({ type: "allocate", id, ask, actor }, { key });
    return { allocation: state.allocations.get(id) as LiveAllocation, state, at };
  }

  /**
   * Ends leases and cancels waiting requests. Ending what has already ended is not an error.
   *
   * @returns what the call is about and has ended: by it, or before it when an id was given.
   * @throws AllocationNotFoundError when the id never existed, or is not that service's.
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
      const { ended } = await this.#send({ type: "release", ...target, actor }, { key });
      return ended.filter(isLetGo);
    } catch (error) {
      if (!(error instanceof AllocationNotFoundError) || target.id === null) throw error;
      const archived = await this.#archived(target.id);
      if (archived === undefined) throw error;
      const { serviceName, fencingToken } = target;
      if (serviceName !== null && archived.request.serviceName !== serviceName) throw error;
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
    try {
      const { state, at } = await this.#send({ type: "renew", id, fencingToken, actor }, { key });
      return { allocation: state.allocations.get(id) as Allocation, state, at };
    } catch (error) {
      if (!(error instanceof AllocationNotFoundError)) throw error;
      const archived = await this.#archived(id);
      if (archived === undefined) throw error;
      throw owns(actor, archived) ? new AllocationEndedError(id) : new NotOwnerError(`allocation ${id}`);
    }
  }

  /**
   * One record once it is other than queued or has changed from offered, or after `waitMs`, whichever is first. While
   * its owner waits it is alive; what it is granted meanwhile it has claimed.
   *
   * @param signal ends the wait early: the client has gone.
   * @throws AllocationNotFoundError
   */
  async wait(id: AllocationId, actor: Actor, waitMs: number, signal: AbortSignal): Promise<Reply> {
    const live = this.#state.allocations.get(id);
    // Before it is asked: a change later in the same turn must wake it.
    const waiter = this.#waiters.add(id, waitMs, live !== undefined && isOwner(actor, live), signal);
    try {
      const first = await this.#touch(id, actor);
      if (first.allocation.status !== "queued") return first;
      const end = await waiter.ended;
      // A client that has gone is alive no longer; one that waited its time has just asked.
      return end === "aborted" ? await this.#touch(id, actor).catch(() => first) : await this.read(id, actor);
    } finally {
      waiter.leave();
    }
  }

  /**
   * An admin ends a lease, or cancels a waiting request, with a reason that its record keeps.
   *
   * @throws AllocationEndedError when it has ended already.
   */
  async revoke(id: AllocationId, reason: string, actor: Actor): Promise<EndedAllocation> {
    try {
      const { ended } = await this.#send({ type: "revoke", id, reason, actor });
      return ended.find(({ request }) => request.id === id) as EndedAllocation;
    } catch (error) {
      if (!(error instanceof AllocationNotFoundError)) throw error;
      throw this.#parts.store.findEnded(id) === undefined ? error : new AllocationEndedError(id);
    }
  }

  /**
   * An admin's word about a GPU, named by UUID or index: no new leases there, again some, empty whatever it looks
   * like, or gone for good.
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
    const { uuid } = gpuNamed(this.#state, gpu);
    await this.#send({ type, gpu: uuid, reason, actor });
    return uuid;
  }

  /**
   * An admin wants one GPU empty, or all of the host: no new leases there, and those that are there have `leaveMs` to
   * end; `null`: as long as they take.
   *
   * @param gpu by UUID or index; `null`: the host.
   * @returns its UUID; `null` for the host.
   * @throws GpuNotFoundError
   */
  async drain(gpu: string | null, leaveMs: number | null, reason: string, actor: Actor): Promise<GpuUuid | null> {
    const uuid = gpu === null ? null : gpuNamed(this.#state, gpu).uuid;
    await this.#send({ type: "drain", gpu: uuid, leaveMs, reason, actor });
    return uuid;
  }

  /** An admin lets the host have new leases again; what is said of single GPUs stays. */
  async undrain(reason: string, actor: Actor): Promise<void> {
    await this.#send({ type: "undrain", reason, actor });
  }

  /**
   * An admin makes a lease of somebody's use of a GPU, named by UUID or index.
   *
   * @throws GpuNotFoundError, AdoptionDisabledError, GpuInUseError, GpusUnavailableError, NothingToAdoptError
   */
  async adopt(gpu: string, adoption: AdoptionAsk, actor: Actor): Promise<Reply> {
    const id = `${adoption.serviceName}-${this.#parts.newId(this.now())}`;
    const { state, at } = await this.#send({ type: "adopt", id, gpu, adoption, actor });
    return { allocation: state.allocations.get(id) as Allocation, state, at };
  }

  /** The client of a grant was seen to hang up before its answer was written. */
  async hangUp(id: AllocationId): Promise<void> {
    await this.#send({ type: "hang-up", id });
  }

  /**
   * One record, live or ended. Read by its owner, it counts as a sign of life, and claims what was offered.
   *
   * @throws AllocationNotFoundError
   */
  async read(id: AllocationId, actor: Actor): Promise<Reply> {
    const live = this.#state.allocations.get(id);
    // A lease needs no sign of life: reading it is no business of the writer's.
    if (live?.status === "leased") return { allocation: live, state: this.#state, at: this.now() };
    return this.#touch(id, actor);
  }

  /** A glance at a record shortens no wait: its client is alive as long as any of its waits goes on. */
  async #touch(id: AllocationId, actor: Actor): Promise<Reply> {
    const live = this.#state.allocations.get(id);
    if (live !== undefined && !isOwner(actor, live)) return { allocation: live, state: this.#state, at: this.now() };
    if (live !== undefined) {
      try {
        return await this.#touchOnce(id, actor);
      } catch (error) {
        // It ended in the meantime: the archive has it.
        if (!(error instanceof AllocationNotFoundError)) throw error;
      }
    }
    const archived = await this.#archived(id);
    if (archived === undefined) throw new AllocationNotFoundError(id);
    return { allocation: archived, state: this.#state, at: this.now() };
  }

  /** Many may wait for one record, and look at it together when it changes: one command and one reply serve them all. */
  #touchOnce(id: AllocationId, owner: Actor): Promise<Reply> {
    const waitMs = this.#waiters.patienceMs(id);
    const underWay = this.#touches.get(id);
    if (underWay !== undefined && underWay.waitMs >= waitMs) return underWay.reply;
    const reply = this.#send({ type: "touch", id, actor: owner, waitMs }).then(({ state, at }) => ({
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

  /** The record of what has ended. What lives and was not found all the same is due: its end is written down first. */
  async #archived(id: AllocationId): Promise<EndedAllocation | undefined> {
    if (this.#state.allocations.get(id) !== undefined) await this.#send({ type: "tick" });
    return this.#parts.store.findEnded(id);
  }

  /**
   * One record as it stands: no sign of anybody's life, and no claim. So it can be had when nothing can be stored.
   *
   * @throws AllocationNotFoundError
   */
  peek(id: AllocationId): Reply {
    const allocation = this.#state.allocations.get(id) ?? this.#parts.store.findEnded(id);
    if (allocation === undefined) throw new AllocationNotFoundError(id);
    return { allocation, state: this.#state, at: this.now() };
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
   * Has a webhook sent again, whatever came of it before.
   *
   * @throws DeliveryNotFoundError, or DeliveryWithdrawnError when it tells of a grant that is over.
   */
  async redeliver(deliveryId: string): Promise<DeliveryRecord> {
    const find = () => {
      const found = this.#parts.store.findDelivery(deliveryId);
      if (found === undefined) throw new DeliveryNotFoundError(deliveryId);
      return found;
    };
    const { state, status, allocationId } = find();
    const isOver = status === "allocated" && this.#state.allocations.get(allocationId ?? "") === undefined;
    if (state === "withdrawn" || isOver) throw new DeliveryWithdrawnError(deliveryId);
    await this.#send({ type: "tick" }, { redelivery: deliveryId });
    return find();
  }

  list(query: AllocationQuery): readonly Allocation[] {
    return this.#parts.store.list(query);
  }

  /**
   * What was held and used in a period, as the committed state has it now.
   *
   * @throws UsageBusyError, PeriodTooLargeError
   */
  usage(period: Period): Promise<Usage> {
    return this.#usage.make(period, this.#state, this.now());
  }

  async observe(observation: Observation): Promise<void> {
    try {
      await this.#send({ type: "observe", observation });
    } finally {
      // A reading that could not be stored was seen all the same.
      this.#tell((observer) => observer.observed?.(observation, this.#state));
    }
  }

  /** Takes in what the kernel's log says of GPUs. */
  async readKernelLog(news: KernelNews): Promise<void> {
    await this.#send({ type: "read-kernel-log", news });
  }

  /** Takes down what came of a webhook; a delivered grant is claimed by it. */
  async settle(settlement: DeliverySettlement): Promise<void> {
    const { allocationId: id, outcome, status } = settlement;
    const claims = outcome === "delivered" && status === "allocated" && id !== null;
    await this.#send(claims ? { type: "claim", id } : { type: "tick" }, { settlement });
  }

  async reconfigure(policy: Policy, tickIntervalMs: number): Promise<void> {
    await this.#send({ type: "reconfigure", policy });
    this.#tickIntervalMs = tickIntervalMs;
    await this.#count();
  }

  /** Finds out what accounts have used so far, if their quotas depend on it. What fails is tried again. */
  async #count(): Promise<void> {
    if (this.#counting) return;
    this.#counting = true;
    try {
      while (!this.#state.accounts.counted) {
        const { state, at } = await this.#send({ type: "recount" });
        const count = await countUse(this.#parts.store, state, at);
        await this.#send({ type: "counted", round: state.accounts.round, ...count });
      }
    } catch (error) {
      if (!(error instanceof DomainError)) this.#parts.onBug?.(error);
    } finally {
      this.#counting = false;
    }
  }

  #send(command: Command, { settlement = null, key = null, redelivery = null }: Enclosed = {}): Promise<Answer> {
    if (this.#stopping) return Promise.reject(new ShuttingDownError());
    if (this.#mailbox.length >= MAX_MAILBOX) return Promise.reject(new OverloadedError());
    return new Promise((resolve, reject) => {
      this.#mailbox.push({ command, settlement, key, redelivery, resolve, reject });
      this.#queueTurn();
    });
  }

  #queueTurn(): void {
    if (this.#working) return;
    this.#working = true;
    setImmediate(() => void this.#work());
  }

  async #work(): Promise<void> {
    while (this.#mailbox.length > 0) await this.#turn(this.#mailbox.splice(0, MAX_COMMANDS_PER_TURN));
    this.#working = false;
  }

  /** Never rejects: whatever goes wrong is the answer to somebody. */
  async #turn(arrived: readonly Letter[]): Promise<void> {
    const now = this.now();
    this.#stoodStill(now);
    const before = this.#state;
    // What falls due while nothing can be stored has had no chance to be renewed.
    const resumes = this.#resumptionDue || (this.#storageFailed && isDue(before, now));
    const letters = resumes ? [this.#resumption(now), ...arrived] : arrived;
    this.#resumptionDue = false;
    const begun = this.#calendar.isStale(before.policy, now)
      ? withPolicy(before, this.#calendar.fill(before.policy, now))
      : before;
    const draft: Draft = {
      events: [],
      begun,
      commands: [],
      telling: 0,
      seen: [],
      changed: new Map(),
      notifications: [],
      settlements: [],
      withdrawn: [],
      outdated: new Set(),
      keys: [],
      redeliveries: [],
    };
    let state = begun;
    const answers: (() => void)[] = [];
    for (const letter of letters) {
      try {
        const command = this.#complete(letter.command, now);
        const decision = decide(state, command, now);
        this.#note(draft, decision, now);
        noteCommand(draft, command, state, decision);
        if (letter.settlement !== null) draft.settlements.push(letter.settlement);
        if (letter.redelivery !== null) draft.redeliveries.push(letter.redelivery);
        const ids = letter.key === null ? [] : changedBy(letter.command, decision.events, decision.ended);
        if (letter.key !== null && ids.length > 0) draft.keys.push({ ...letter.key, at: now, ids });
        state = decision.state;
        const answer = { state, at: now, ended: decision.ended };
        answers.push(() => letter.resolve(answer));
      } catch (error) {
        if (!(error instanceof DomainError)) this.#parts.onBug?.(error);
        answers.push(() => letter.reject(error));
      }
    }
    if (draft.events.length > 0 || draft.settlements.length > 0 || draft.redeliveries.length > 0) {
      try {
        await this.#commit(draft, before, state, now);
      } catch (error) {
        this.#undo(letters, before, error);
        return;
      }
    }
    this.#capture.saw(draft.seen);
    this.#state = state;
    this.#lastSeq += draft.events.length;
    for (const answer of answers) answer();
    if (draft.events.length > 0 || draft.redeliveries.length > 0) {
      for (const id of draft.changed.keys()) this.#waiters.wake(id);
      const notifications = draft.notifications.length + draft.redeliveries.length;
      const committed = { at: now, events: draft.events, lastSeq: this.#lastSeq, notifications, state, before };
      this.#tell((observer) => observer.committed?.(committed));
    }
    this.#armTimer();
  }

  /** New settings come without the calendar's part. */
  #complete(command: Command, now: EpochMs): Command {
    return command.type === "reconfigure" ? { ...command, policy: this.#calendar.fill(command.policy, now) } : command;
  }

  /** Writes down what a decision changed. */
  #note(draft: Draft, { events, ended, state }: Decision, now: EpochMs): void {
    // As many as there are `ended` events, in their order.
    const records = ended.values();
    for (const event of events) {
      draft.events.push(event);
      const notice = operatorNotificationOf(event, state, () => `msg_${this.#parts.newId(now)}`, now);
      if (notice !== null) draft.notifications.push(notice);
      const id = event.type === "submitted" ? event.request.id : "id" in event ? event.id : null;
      if (id === null) continue;
      const allocation = event.type === "ended" ? records.next().value : state.allocations.get(id);
      if (allocation === undefined) continue;
      if (outdatesNotice(event, draft.changed.get(id) ?? this.#state.allocations.get(id))) outdate(draft, id);
      draft.changed.set(id, allocation);
      if (allocation.status === "ended" && allocation.lease !== null && allocation.request.webhookUrl !== null) {
        draft.withdrawn.push(id);
      }
      const notification = notificationOf(event, allocation, () => `msg_${this.#parts.newId(now)}`, now);
      if (notification !== null) draft.notifications.push(notification);
    }
  }

  async #commit(draft: Draft, before: HostState, after: HostState, now: EpochMs): Promise<void> {
    const gpus: Gpu[] = [];
    const removedGpus: GpuUuid[] = [];
    if (after.gpus !== before.gpus) {
      for (const gpu of after.gpus.values()) if (before.gpus.get(gpu.uuid) !== gpu) gpus.push(gpu);
      for (const { uuid } of before.gpus.values()) if (!after.gpus.has(uuid)) removedGpus.push(uuid);
    }
    const captured = draft.events.length === 0 ? null : this.#captured(draft, now);
    await this.#parts.store.commit({
      at: now,
      events: draft.events,
      inputs: captured?.text ?? null,
      allocations: [...draft.changed.values()],
      gpus,
      removedGpus,
      nextFencingToken: after.nextFencingToken,
      bootId: after.bootId,
      cordon: after.cordon,
      notifications: draft.notifications,
      settlements: draft.settlements,
      withdrawn: draft.withdrawn,
      outdated: [...draft.outdated],
      keys: draft.keys,
      redeliveries: draft.redeliveries,
    });
    if (captured !== null) this.#capture.kept(captured);
    if (this.#storageFailed) {
      this.#storageFailed = false;
      this.#tell((observer) => observer.storage?.(true, null));
    }
  }

  /** Only for later questions: what goes wrong here must not keep a turn from being committed. */
  #captured({ begun, commands, telling }: Draft, now: EpochMs): Captured | null {
    try {
      return this.#capture.take(begun, commands.slice(0, telling), now);
    } catch (error) {
      this.#parts.onBug?.(error);
      this.#capture.beginAnew();
      return null;
    }
  }

  #undo(letters: readonly Letter[], before: HostState, error: unknown): void {
    this.#capture.beginAnew();
    const refusal =
      error instanceof DomainError ? error : new StorageUnavailableError("the change could not be stored");
    if (refusal !== error) this.#parts.onBug?.(error);
    if (!this.#storageFailed) {
      this.#storageFailed = true;
      this.#tell((observer) => observer.storage?.(false, refusal.message));
    }
    // What can be seen does not depend on what can be stored.
    this.#state = letters.reduce(
      (state, { command }) =>
        command.type === "observe" ? withSight(state, withInstances(command.observation, state)) : state,
      before,
    );
    for (const letter of letters) letter.reject(refusal);
  }

  #tell(about: (observer: Observer) => void): void {
    for (const observer of this.#observers) {
      try {
        about(observer);
      } catch (error) {
        this.#parts.onBug?.(error);
      }
    }
  }

  #armTimer(): void {
    if (this.#stopping) return;
    const due = nextDeadline(this.#state) ?? Infinity;
    // What a window kept, others may have when it closes.
    const change = nextWindowChange(this.#state, this.now()) ?? Infinity;
    const at = Math.min(due, change) === Infinity ? null : Math.min(due, change);
    if (at === (this.#wake?.at ?? null)) return;
    this.#wake?.cancel();
    this.#wake = null;
    if (at === null) return;
    const cancel = this.#parts.clock.after(at - this.now(), () => {
      this.#wake = null;
      this.#tick();
    });
    this.#wake = { at, cancel };
  }

  #armSafetyNet(): void {
    if (this.#stopping) return;
    this.#safetyNet = this.#parts.clock.after(this.#tickIntervalMs, () => {
      // With something to write down the tick finds out whether the store takes changes again.
      if (this.#storageFailed) this.#resumptionDue = true;
      this.#tick();
      void this.#count();
      this.#armSafetyNet();
    });
  }

  #armBeat(): void {
    if (this.#stopping) return;
    this.#nextBeat = this.#parts.clock.after(BEAT_MS, () => {
      const now = this.now();
      const paused = this.#stoodStill(now);
      if (paused || this.#calendar.isStale(this.#state.policy, now)) this.#tick();
      this.#armBeat();
    });
  }

  /** A refused tick is not lost: the safety net comes again. */
  #tick(): void {
    this.#send({ type: "tick" }).catch(() => undefined);
  }

  /** Whether the daemon stood still until `now` since it was last seen to run. */
  #stoodStill(now: EpochMs): boolean {
    const last = this.#lastBeat;
    if (last === null) return false;
    this.#lastBeat = now;
    if (now - last <= PAUSE_MS) return false;
    this.#resumptionDue = true;
    return true;
  }

  #resumption(now: EpochMs): Letter {
    const command = { type: "resume", bootId: this.#bootId, fencingFloor: now } as const;
    const ignore = () => undefined;
    return { command, settlement: null, key: null, redelivery: null, resolve: ignore, reject: ignore };
  }
}

function isOwner(actor: Actor, allocation: LiveAllocation): boolean {
  return actor.principal === allocation.request.principal;
}
