/** What a turn gathers until its commit. */
import type { EpochMs } from "../core/base/time.ts";
import type { Command } from "../core/decisions/commands.ts";
import type { Decision } from "../core/decisions/decide.ts";
import type { Event } from "../core/host/events.ts";
import { indexNow } from "../core/host/indices.ts";
import type { HostState } from "../core/host/state.ts";
import type { Allocation, EndedAllocation } from "../core/model/allocation.ts";
import type { Gpu } from "../core/model/gpu.ts";
import type { AllocationId, GpuUuid } from "../core/model/ids.ts";
import type { IdSource } from "../platform/ids.ts";
import { type AuditEntry, doneBy, type Sender } from "../ports/audit.ts";
import type { IdempotencyKey, KeptKey, Turn } from "../ports/store.ts";
import type { DeliverySettlement, Notification } from "../ports/webhooks.ts";
import { notificationOf, operatorNotificationOf } from "../wire/webhooks/bodies.ts";
import type { GpuChanges } from "./gpu-changes.ts";

/** What comes with a command, to be stored with what the command changes. */
export interface Attachments {
  readonly settlement?: DeliverySettlement | null;
  /** Kept only if the command changes something. */
  readonly key?: IdempotencyKey | null;
  /** A webhook to be sent again. */
  readonly redelivery?: string | null;
  /** An admin's word, where the command has none. */
  readonly reason?: string | null;
  /** Who sends it, where the command does not say and it is not the daemon itself. */
  readonly sender?: Sender | null;
}

type Came = Required<Pick<Attachments, "redelivery" | "reason">>;

/** What an audit entry is about that is about no single GPU. */
const HOST = "host";

export class TurnDraft {
  /** What the first decision finds. */
  readonly begun: HostState;
  readonly events: Event[] = [];
  /** Waiting clients that showed in this turn that they are alive. */
  readonly seen: AllocationId[] = [];
  readonly #before: HostState;
  readonly #now: EpochMs;
  readonly #messageId: () => string;
  #state: HostState;
  /** Those that changed something. */
  readonly #commands: Command[] = [];
  /** How many of them, from the first, the events came of. */
  #telling = 0;
  readonly #changed = new Map<AllocationId, Allocation>();
  #notifications: Notification[] = [];
  readonly #settlements: DeliverySettlement[] = [];
  readonly #withdrawn: AllocationId[] = [];
  readonly #outdated = new Set<AllocationId>();
  readonly #keys: KeptKey[] = [];
  readonly #redeliveries: string[] = [];
  readonly #audit: AuditEntry[] = [];

  /**
   * @param before the committed state.
   * @param begun the same with the spans of its windows as they are now.
   */
  constructor(before: HostState, begun: HostState, now: EpochMs, newId: IdSource) {
    this.#before = before;
    this.begun = begun;
    this.#state = begun;
    this.#now = now;
    this.#messageId = () => `msg_${newId(now)}`;
  }

  /** The state after the decisions so far. */
  get state(): HostState {
    return this.#state;
  }

  /** Whether there is anything to commit. */
  get writesSomething(): boolean {
    return this.events.length > 0 || this.#settlements.length > 0 || this.#redeliveries.length > 0;
  }

  get changedIds(): Iterable<AllocationId> {
    return this.#changed.keys();
  }

  /** How many webhooks the turn puts into the outbox, or makes due again. */
  get dueWebhooks(): number {
    return this.#notifications.length + this.#redeliveries.length;
  }

  /** The commands that the events came of: what follows the last event led to none. */
  get tellingCommands(): readonly Command[] {
    return this.#commands.slice(0, this.#telling);
  }

  get redelivers(): boolean {
    return this.#redeliveries.length > 0;
  }

  /** Takes in a command that was accepted, what was decided, and what came with it. */
  add(command: Command, decision: Decision, attachments: Attachments): void {
    const { settlement = null, key = null, redelivery = null, reason = null, sender = null } = attachments;
    this.#noteEvents(decision);
    this.#noteCommand(command, decision);
    if (settlement !== null) this.#settlements.push(settlement);
    if (redelivery !== null) this.#redeliveries.push(redelivery);
    if (sender !== null) this.#noteDone(sender, command, decision, { redelivery, reason });
    const ids = key === null ? [] : changedBy(command, decision.events, decision.ended);
    if (key !== null && ids.length > 0) this.#keys.push({ ...key, at: this.#now, ids });
    this.#state = decision.state;
  }

  /** @param inputs see {@link Turn}. */
  asTurn(inputs: string | null, history: Pick<GpuChanges, "ofTurn">): Turn {
    const [before, after] = [this.#before, this.#state];
    const gpus: Gpu[] = [];
    const removedGpus: GpuUuid[] = [];
    if (after.gpus !== before.gpus) {
      for (const gpu of after.gpus.values()) if (before.gpus.get(gpu.uuid) !== gpu) gpus.push(gpu);
      for (const { uuid } of before.gpus.values()) if (!after.gpus.has(uuid)) removedGpus.push(uuid);
    }
    const turn = {
      at: this.#now,
      events: this.events,
      inputs,
      allocations: [...this.#changed.values()],
      gpus,
      removedGpus,
      nextFencingToken: after.nextFencingToken,
      bootId: after.bootId,
      cordon: after.cordon,
      bookings: after.bookings,
      notifications: this.#notifications,
      settlements: this.#settlements,
      withdrawn: this.#withdrawn,
      outdated: [...this.#outdated],
      keys: this.#keys,
      redeliveries: this.#redeliveries,
      audit: this.#audit,
    };
    return { ...turn, gpuChanges: history.ofTurn(turn, before, after) };
  }

  /** Takes down what a decision changed, and the webhooks that tell of it. */
  #noteEvents({ events, ended, state }: Decision): void {
    // As many as there are `ended` events, in their order.
    const records = ended.values();
    for (const event of events) {
      this.events.push(event);
      const notice = operatorNotificationOf(event, state, this.#messageId, this.#now);
      if (notice !== null) this.#notifications.push(notice);
      const id = event.type === "submitted" ? event.request.id : "id" in event ? event.id : null;
      if (id === null) continue;
      const allocation = event.type === "ended" ? records.next().value : state.allocations.get(id);
      if (allocation === undefined) continue;
      if (outdatesNotice(event, this.#changed.get(id) ?? this.#before.allocations.get(id))) this.#outdate(id);
      this.#changed.set(id, allocation);
      if (allocation.status === "ended" && allocation.lease !== null && allocation.request.webhookUrl !== null) {
        this.#withdrawn.push(id);
      }
      const notification = notificationOf(event, allocation, indexNow(state), this.#messageId, this.#now);
      if (notification !== null) this.#notifications.push(notification);
    }
  }

  /** Takes down what a later look at this turn must know of a command. */
  #noteCommand(command: Command, { events, state }: Decision): void {
    if (state === this.#state) return;
    this.#commands.push(command);
    if (events.length > 0) this.#telling = this.#commands.length;
    if (command.type === "touch" || command.type === "renew") this.seen.push(command.id);
  }

  /** Takes down who did it, if the command changed anything. */
  #noteDone(sender: Sender, command: Command, decision: Decision, came: Came): void {
    const { redelivery } = came;
    const objects = redelivery === null ? changedObjects(command, decision) : [redelivery];
    const otherwise = redelivery === null ? command.type : "redeliver";
    const own = "reason" in command ? command.reason : command.type === "adopt" ? command.adoption.reason : null;
    const reason = own ?? came.reason;
    for (const object of objects) this.#audit.push(doneBy(sender, this.#now, { otherwise, object, reason }));
  }

  #outdate(id: AllocationId): void {
    this.#outdated.add(id);
    this.#notifications = this.#notifications.filter((one) => one.allocationId !== id || one.status !== "preempting");
  }
}

/** Whether what a lease was told of its end no longer holds: it has ended, may stay, or is told anew. */
function outdatesNotice({ type }: Event, before: Allocation | undefined): boolean {
  if (type === "ended") return before !== undefined && "notice" in before && before.notice !== null;
  return type === "notice-withdrawn" || type === "preempting" || type === "draining";
}

/** By the client's own doing; whatever else ended in the same decision was due. */
export function isLetGo({ outcome }: EndedAllocation): boolean {
  return outcome.reason === "released" || outcome.reason === "cancelled";
}

/** The allocations that a client's command changed; empty when it changed nothing. */
function changedBy(
  command: Command,
  events: readonly Event[],
  ended: readonly EndedAllocation[],
): readonly AllocationId[] {
  switch (command.type) {
    case "allocate":
      return [command.id];
    case "renew":
    case "extend": {
      const type = command.type === "renew" ? "renewed" : "end-moved";
      return events.some((event) => event.type === type && event.id === command.id) ? [command.id] : [];
    }
    case "release":
      return ended.filter(isLetGo).map(({ request }) => request.id);
    default:
      return [];
  }
}

/**
 * What somebody's command changed, as the audit names it. Renewals and signs of life are left out: a client sends them as
 * often as it likes, and would fill the audit.
 */
function changedObjects(command: Command, { events, ended }: Decision): readonly string[] {
  if (command.type === "release") return ended.filter(isLetGo).map(({ request }) => request.id);
  if (events.length === 0 || command.type === "renew" || command.type === "touch") return [];
  if ("id" in command) return [command.id];
  return ["gpu" in command ? (command.gpu ?? HOST) : HOST];
}
