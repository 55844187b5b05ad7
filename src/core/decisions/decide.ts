/**
 * The decisions: one command in, what happened out.
 *
 *  1. What is due by `now` happens before the command does, so nobody acts on a lease that has ended.
 *  2. A command is accepted whole or refused with a {@link DomainError}; a refused command changes nothing.
 *  3. Whatever a command freed or brought is scheduled in the same decision, newcomers included: a newcomer is
 *     considered as if it had queued.
 */
import type { EpochMs } from "../base/time.ts";
import type { Event } from "../host/events.ts";
import { type HostState, withAllocation, withCount, withoutCount, withPolicy, withRenewals } from "../host/state.ts";
import type { EndedAllocation } from "../model/allocation.ts";
import { claimPatience } from "../model/leases.ts";
import { schedule } from "../queue/schedule.ts";
import { drain, govern, gpuNamed, tellWhoIsDrained } from "./admin.ts";
import { adopt } from "./adopt.ts";
import type { Command } from "./commands.ts";
import { Drafting, end } from "./drafting.ts";
import { expireDue, noteIdleness } from "./due.ts";
import { liveOf, release, renew } from "./lifecycle.ts";
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
  const turn = new Drafting(withRenewals(before, now));
  // The absence of the daemon is dealt with first: what fell due in it gets its grace.
  if (command.type !== "resume") expireDue(turn, now);
  accept(turn, command, now);
  const newcomer = command.type === "allocate" ? command.id : null;
  const scheduled = schedule(turn.state, now, newcomer);
  if (command.type === "allocate") refuseUnserved(command, scheduled, turn.state, now);
  return { events: [...turn.events, ...scheduled.events], ended: turn.ended, state: scheduled.state };
}

function accept(turn: Drafting, command: Command, now: EpochMs): void {
  switch (command.type) {
    case "allocate":
      submit(turn, command, now);
      return;
    case "release":
      release(turn, command, now);
      return;
    case "renew":
      renew(turn, command, now);
      return;
    case "touch": {
      const allocation = liveOf(turn.state, command.id);
      // An admin who looks is not its client.
      if (command.actor.principal !== allocation.request.principal) return;
      if (allocation.status === "queued") {
        turn.state = withAllocation(turn.state, { ...allocation, seenAt: now + command.waitMs });
      } else if (allocation.status === "offered") turn.write({ type: "claimed", id: command.id, at: now });
      return;
    }
    case "hang-up": {
      const allocation = turn.state.allocations.get(command.id);
      if (allocation?.status !== "leased") return;
      const claimBy = now + claimPatience(allocation.request, turn.state.policy);
      turn.write({ type: "reoffered", id: command.id, at: now, claimBy });
      return;
    }
    case "claim":
      if (turn.state.allocations.get(command.id)?.status === "offered") {
        turn.write({ type: "claimed", id: command.id, at: now });
      }
      return;
    case "cordon":
    case "uncordon":
    case "clear-quarantine":
    case "remove-gpu":
      govern(turn, command, now);
      return;
    case "drain":
      drain(turn, command, now);
      return;
    case "undrain":
      if (turn.state.cordon === null) return;
      turn.write({ type: "host-uncordoned", at: now, by: command.actor.principal, reason: command.reason });
      tellWhoIsDrained(turn, now);
      return;
    case "adopt":
      for (const event of adopt(turn.state, gpuNamed(turn.state, command.gpu), command, now)) turn.write(event);
      return;
    case "revoke":
      end(turn, liveOf(turn.state, command.id), "revoked", now, `${command.reason} (${command.actor.principal})`);
      return;
    case "observe": {
      const { events, state } = observe(turn.state, command.observation, now);
      turn.events.push(...events);
      turn.state = state;
      if (command.observation.ok) noteIdleness(turn, command.observation.startedAt, now);
      return;
    }
    case "read-kernel-log": {
      const { events, state } = readKernelLog(turn.state, command.news, now);
      turn.events.push(...events);
      turn.state = state;
      return;
    }
    case "resume":
      resume(turn, command, now);
      return;
    case "reconfigure":
      turn.state = withPolicy(turn.state, command.policy);
      return;
    case "recount":
      turn.state = withoutCount(turn.state);
      return;
    case "counted":
      turn.state = withCount(turn.state, command);
      return;
    case "tick":
      return;
    default:
      command satisfies never;
  }
}
