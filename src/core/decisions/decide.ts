/**
 * The decisions: one command in, what happened out.
 *
 *  1. What is due by `now` happens before the command does, so nobody acts on a lease that has ended.
 *  2. A command is accepted whole or refused with a {@link DomainError}; a refused command changes nothing.
 *  3. Whatever a command freed or brought is scheduled in the same decision, newcomers included: a newcomer is
 *     considered as if it had queued.
 */
import type { EpochMs } from "../base/time.ts";
import { withAllocation, withCount, withoutCount, withPolicy, withRenewals } from "../host/changes.ts";
import type { Event } from "../host/events.ts";
import type { HostState } from "../host/state.ts";
import type { EndedAllocation } from "../model/allocation.ts";
import { claimPatience } from "../model/leases.ts";
import { schedule } from "../queue/schedule.ts";
import { drain, govern, gpuNamed, tellWhoIsDrained } from "./admin.ts";
import { adopt } from "./adopt.ts";
import { book, cancelBooking } from "./book.ts";
import type { Command } from "./commands.ts";
import { Drafting, end } from "./drafting.ts";
import { expireDue, noteIdleness } from "./due.ts";
import { extend } from "./extend.ts";
import { liveOf, release, renew } from "./lifecycle.ts";
import { nudge } from "./nudge.ts";
import { readKernelLog } from "./observe/kernel-log.ts";
import { observe } from "./observe/observe.ts";
import { resume } from "./resume.ts";
import { refuseUnserved, submit } from "./submit.ts";

export interface Decision {
  readonly events: readonly Event[];
  /** The records of those that ended by it. */
  readonly ended: readonly EndedAllocation[];
  /** `events` folded over the old state, with what is not durable brought up to date. */
  readonly state: HostState;
}

/**
 * Answers one command: what happened, and the state that follows. Pure.
 *
 * @throws {DomainError} when the command is refused; nothing has changed then, what was due by `now` included:
 *   a `tick` will make that happen.
 */
export function decide(before: HostState, command: Command, now: EpochMs): Decision {
  const draft = new Drafting(withRenewals(before, now));
  // The absence of the daemon is dealt with first: what fell due in it gets its grace.
  if (command.type !== "resume") expireDue(draft, now);
  accept(draft, command, now);
  const newcomer = command.type === "allocate" ? command.id : null;
  const scheduled = schedule(draft.state, now, newcomer);
  if (command.type === "allocate") refuseUnserved(command, scheduled, draft.state, now);
  return { events: [...draft.events, ...scheduled.events], ended: draft.ended, state: scheduled.state };
}

function accept(draft: Drafting, command: Command, now: EpochMs): void {
  switch (command.type) {
    case "allocate":
      submit(draft, command, now);
      return;
    case "release":
      release(draft, command, now);
      return;
    case "renew":
      renew(draft, command, now);
      return;
    case "extend":
      extend(draft, command, now);
      return;
    case "nudge":
      nudge(draft, command, now);
      return;
    case "touch": {
      const allocation = liveOf(draft.state, command.id);
      // An admin who looks is not its client.
      if (command.actor.principal !== allocation.request.principal) return;
      if (allocation.status === "queued") {
        draft.state = withAllocation(draft.state, { ...allocation, seenAt: now + command.waitMs });
      } else if (allocation.status === "offered") draft.write({ type: "claimed", id: command.id, at: now });
      return;
    }
    case "process-gone": {
      const allocation = draft.state.allocations.get(command.id);
      if (allocation?.request.boundTo === undefined) return;
      end(draft, allocation, "process-gone", now, `process ${allocation.request.boundTo.pid} has ended`);
      return;
    }
    case "hang-up": {
      const allocation = draft.state.allocations.get(command.id);
      if (allocation?.status !== "leased") return;
      const claimBy = now + claimPatience(allocation.request, draft.state.policy);
      draft.write({ type: "reoffered", id: command.id, at: now, claimBy });
      return;
    }
    case "claim":
      if (draft.state.allocations.get(command.id)?.status === "offered") {
        draft.write({ type: "claimed", id: command.id, at: now });
      }
      return;
    case "cordon":
    case "uncordon":
    case "clear-quarantine":
    case "remove-gpu":
      govern(draft, command, now);
      return;
    case "drain":
      drain(draft, command, now);
      return;
    case "undrain":
      if (draft.state.cordon === null) return;
      draft.write({ type: "host-uncordoned", at: now, by: command.actor.principal, reason: command.reason });
      tellWhoIsDrained(draft, now);
      return;
    case "adopt":
      for (const event of adopt(draft.state, gpuNamed(draft.state, command.gpu), command, now)) draft.write(event);
      return;
    case "revoke":
      end(draft, liveOf(draft.state, command.id), "revoked", now, `${command.reason} (${command.actor.principal})`);
      return;
    case "book":
      book(draft, command, now);
      return;
    case "cancel-booking":
      cancelBooking(draft, command, now);
      return;
    case "observe": {
      const { events, state } = observe(draft.state, command.observation, now);
      draft.events.push(...events);
      draft.state = state;
      if (command.observation.ok) noteIdleness(draft, command.observation.startedAt, now);
      return;
    }
    case "read-kernel-log": {
      const { events, state } = readKernelLog(draft.state, command.news, now);
      draft.events.push(...events);
      draft.state = state;
      return;
    }
    case "resume":
      resume(draft, command, now);
      return;
    case "reconfigure":
      draft.state = withPolicy(draft.state, command.policy);
      return;
    case "recount":
      draft.state = withoutCount(draft.state);
      return;
    case "counted":
      draft.state = withCount(draft.state, command);
      return;
    case "tick":
      return;
    default:
      command satisfies never;
  }
}
