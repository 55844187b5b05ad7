/**
 * The decisions: one command in, what happened out.
 *
 *  1. What is due by `now` happens before the command does, so nobody acts on a lease that has ended.
 *  2. A command is accepted whole or refused with a {@link DomainError}; a refused command changes nothing.
 *  3. Whatever a command freed or brought is scheduled in the same decision, newcomers included: a newcomer is
 *     considered as if it had queued.
 */

import { adopt } from "./adopt.ts";
import { neverFits } from "./allocator/place.ts";
import { staleness } from "./allocator/survey.ts";
import type { AllocateAsk, Command } from "./commands.ts";
import { Drafting, end } from "./drafting.ts";
import { expireDue, noteIdleness } from "./due.ts";
import { MAX_DURATION_MS } from "./duration.ts";
import {
  AllocationNotFoundError,
  FencingTokenMismatchError,
  GpusUnavailableError,
  NoGpuFreeError,
  NotOwnerError,
  QueueFullError,
  QuotaError,
  RequestNeverFitsError,
} from "./errors.ts";
import type { Event } from "./events.ts";
import { drain, govern, gpuNamed, tellWhoIsDrained } from "./govern.ts";
import { readKernelLog } from "./kernel-log.ts";
import type { Actor, AllocationId, EndedAllocation, EpochMs, LiveAllocation, Policy, Request } from "./model.ts";
import { observe } from "./observe.ts";
import { budgetsOf } from "./queue/budgets.ts";
import { analysisFor, crowded, neverAllowed, overQuotas } from "./queue/quotas.ts";
import { claimPatience, endOf, type Scheduled, schedule } from "./queue/schedule.ts";
import { delayOf } from "./queue/shares.ts";
import { resume } from "./resume.ts";
import { type HostState, withAllocation, withCount, withoutCount, withPolicy, withRenewals } from "./state.ts";

/** When to ask again for what another lease or request of one's own keeps. */
const ASK_AGAIN_AFTER_MS = 10_000;

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

type Allocate = Extract<Command, { type: "allocate" }>;

/** What is asked, with all that the analyzer and the settings add. */
export function requestOf({ id, ask, actor }: Allocate, { policy, shares }: HostState, now: EpochMs): Request {
  return {
    id,
    serviceName: ask.serviceName,
    principal: actor.principal,
    workloadType: ask.workloadType,
    workloadData: ask.workloadData,
    webhookUrl: ask.webhookUrl,
    requirement: analysisFor(ask, { principal: actor.principal, serviceName: ask.serviceName }, policy).requirement,
    preferredGpus: ask.preferredGpus,
    gpuModel: ask.gpuModel,
    ttlMs: ttlOf(ask, policy),
    maxDurationMs: ask.maxDurationMs ?? policy.defaultMaxDurationMs,
    preemptible: ask.preemptible,
    queueTimeoutMs: ask.queueTimeoutMs ?? policy.queueTimeoutMs,
    migProfile: ask.migProfile,
    sharing: ask.sharing,
    fairShareDelayMs: delayOf(shares, actor.principal, policy, now),
    submittedAt: now,
  };
}

function submit(turn: Drafting, command: Allocate, now: EpochMs): void {
  const request = requestOf(command, turn.state, now);
  if (!anyCurrentReading(turn.state, now)) {
    const failure = turn.state.sight.failure;
    throw new GpusUnavailableError(failure === null ? "no GPU has a current reading" : failure.message);
  }
  const never = neverFits(request, turn.state);
  if (never !== null) throw new RequestNeverFitsError(never);
  const forbidden = neverAllowed(request, turn.state.policy);
  if (forbidden !== null) throw new QuotaError(forbidden, null);
  turn.write({ type: "submitted", request });
}

/** `ttl` as asked, else the estimated duration with its safety margin, else the configured default. */
export function ttlOf(ask: Pick<AllocateAsk, "ttlMs" | "workloadData">, policy: Policy): number | null {
  if (ask.ttlMs !== null) return ask.ttlMs;
  const estimate = ask.workloadData.estimated_duration;
  if (typeof estimate === "number" && Number.isFinite(estimate) && estimate > 0) {
    return Math.min(MAX_DURATION_MS, Math.ceil(estimate * 1_000 * policy.defaultTtlMultiplier));
  }
  return policy.defaultTtlMs;
}

/** Whether at least one GPU's state is known at `now`; otherwise nothing can be said about any request. */
export function anyCurrentReading(state: HostState, now: EpochMs): boolean {
  for (const { uuid } of state.gpus.values()) if (staleness(uuid, state, now) === null) return true;
  return false;
}

function refuseUnserved(command: Allocate, scheduled: Scheduled, submitted: HostState, now: EpochMs): void {
  const after = scheduled.state;
  const newcomer = after.allocations.get(command.id);
  if (newcomer?.status !== "queued") return;
  if (!command.ask.queue) {
    const reason = budgetsOf(after, scheduled.reservations, now).objection(newcomer.request);
    // Whose fault it is tells the caller whom to ask for more.
    if (reason !== null) {
      const renewsAt = overQuotas(newcomer.request, after, now)[0]?.renewsAt ?? now + ASK_AGAIN_AFTER_MS;
      throw new QuotaError(reason, renewsAt - now);
    }
    throw new NoGpuFreeError("no GPUs that fit are free now, and the request does not want to wait");
  }
  const tooMany = crowded(newcomer.request, after);
  if (tooMany !== null) throw new QuotaError(tooMany, ASK_AGAIN_AFTER_MS);
  // The newcomer itself is in the line by now.
  if (after.line.order.size > submitted.policy.maxQueueSize) throw new QueueFullError(submitted.policy.maxQueueSize);
}

function release(turn: Drafting, command: Extract<Command, { type: "release" }>, now: EpochMs): void {
  const { id, serviceName, actor, fencingToken } = command;
  if (id !== null) {
    const allocation = liveOf(turn.state, id);
    if (serviceName !== null && allocation.request.serviceName !== serviceName) throw new AllocationNotFoundError(id);
    demandOwner(actor, allocation);
    demandToken(allocation, fencingToken);
    letGo(turn, allocation, now);
    return;
  }
  const named = allocationsOf(turn.state, serviceName as string);
  const own = named.filter((allocation) => owns(actor, allocation));
  if (own.length === 0 && named.length > 0) throw new NotOwnerError(`service ${serviceName}`);
  // A token speaks of a lease; what the service waits for beside it has none.
  for (const allocation of own) if (allocation.status !== "queued") demandToken(allocation, fencingToken);
  for (const allocation of own) letGo(turn, allocation, now);
}

/** A client gives up what it holds, or what it waits for. */
function letGo(turn: Drafting, allocation: LiveAllocation, now: EpochMs): void {
  end(turn, allocation, allocation.status === "queued" ? "cancelled" : "released", now);
}

function renew(turn: Drafting, command: Extract<Command, { type: "renew" }>, now: EpochMs): void {
  const allocation = liveOf(turn.state, command.id);
  demandOwner(command.actor, allocation);
  demandToken(allocation, command.fencingToken);
  if (allocation.status === "queued") {
    // Nothing to prolong yet, but a sign of life.
    turn.state = withAllocation(turn.state, { ...allocation, seenAt: Math.max(allocation.seenAt, now) });
    return;
  }
  const until = endOf(allocation.request, allocation.lease.grantedAt, now);
  // After an absence of the daemon a lease may stand beyond its hard end: its grace is not taken back.
  const expiresAt = until === null ? null : Math.max(until, allocation.lease.expiresAt ?? until);
  turn.write({ type: "renewed", id: command.id, at: now, expiresAt });
}

/** The live allocations of a service: ids begin with the service's name, so they stand together. */
function allocationsOf(state: HostState, serviceName: string): LiveAllocation[] {
  const found: LiveAllocation[] = [];
  const prefix = `${serviceName}-`;
  for (const allocation of state.allocations.valuesFrom(prefix)) {
    if (!allocation.request.id.startsWith(prefix)) break;
    if (allocation.request.serviceName === serviceName) found.push(allocation);
  }
  return found;
}

/** @throws AllocationNotFoundError also for an ended one: only the archive can tell these two apart. */
function liveOf(state: HostState, id: AllocationId): LiveAllocation {
  const allocation = state.allocations.get(id);
  if (allocation === undefined) throw new AllocationNotFoundError(id);
  return allocation;
}

export function owns(actor: Actor, allocation: { readonly request: Request }): boolean {
  return actor.admin || actor.principal === allocation.request.principal;
}

function demandOwner(actor: Actor, allocation: LiveAllocation): void {
  if (!owns(actor, allocation)) throw new NotOwnerError(`allocation ${allocation.request.id}`);
}

function demandToken(allocation: LiveAllocation, given: number | null): void {
  if (given === null) return;
  // What waits has no token yet, so that any is wrong.
  const right = allocation.status === "queued" ? null : allocation.lease.fencingToken;
  if (right !== given) throw new FencingTokenMismatchError(allocation.request.id, given);
}
