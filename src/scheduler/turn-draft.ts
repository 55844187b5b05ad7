import type { Command } from "../core/decisions/commands.ts";
import type { Decision } from "../core/decisions/decide.ts";
import type { Event } from "../core/host/events.ts";
import type { HostState } from "../core/host/state.ts";
import type { Allocation, EndedAllocation } from "../core/model/allocation.ts";
import type { AllocationId } from "../core/model/ids.ts";
import type { KeptKey } from "../ports/store.ts";
import type { DeliverySettlement, Notification } from "../ports/webhooks.ts";

/** What a turn gathers until its commit. */
export interface Draft {
  readonly events: Event[];
  /** What the first decision found. */
  readonly begun: HostState;
  /** Those that changed something. */
  readonly commands: Command[];
  /** How many of them it takes to tell what the events came of. */
  telling: number;
  /** Clients that wait, and showed that they do. */
  readonly seen: AllocationId[];
  readonly changed: Map<AllocationId, Allocation>;
  readonly notifications: Notification[];
  readonly settlements: DeliverySettlement[];
  readonly withdrawn: AllocationId[];
  readonly outdated: Set<AllocationId>;
  readonly keys: KeptKey[];
  readonly redeliveries: string[];
}

/** Takes down what a later look at this turn must know of a command that was accepted in `before`. */
export function noteCommand(draft: Draft, command: Command, before: HostState, { events, state }: Decision): void {
  if (state === before) return;
  draft.commands.push(command);
  // What comes after the last event led to none.
  if (events.length > 0) draft.telling = draft.commands.length;
  if (command.type === "touch" || command.type === "renew") draft.seen.push(command.id);
}

/** Whether what a lease was told of its end no longer holds: it has ended, may stay, or is told anew. */
export function outdatesNotice({ type }: Event, before: Allocation | undefined): boolean {
  if (type === "ended") return before !== undefined && "notice" in before && before.notice !== null;
  return type === "notice-withdrawn" || type === "preempting" || type === "draining";
}

export function outdate(draft: Draft, id: AllocationId): void {
  draft.outdated.add(id);
  const standing = draft.notifications.filter((one) => one.allocationId !== id || one.status !== "preempting");
  draft.notifications.splice(0, draft.notifications.length, ...standing);
}

/** By the client's own doing; whatever else ended in the same decision was due. */
export function isLetGo({ outcome }: EndedAllocation): boolean {
  return outcome.reason === "released" || outcome.reason === "cancelled";
}

/** The allocations that a client's command changed; empty when it changed nothing. */
export function changedBy(
  command: Command,
  events: readonly Event[],
  ended: readonly EndedAllocation[],
): readonly AllocationId[] {
  switch (command.type) {
    case "allocate":
      return [command.id];
    case "renew":
      return events.some((event) => event.type === "renewed" && event.id === command.id) ? [command.id] : [];
    case "release":
      return ended.filter(isLetGo).map(({ request }) => request.id);
    default:
      return [];
  }
}
