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
import { drainNotices, drainsPutOff } from "./drain.ts";
import { MAX_DURATION_MS } from "./duration.ts";
import {
  AllocationNotFoundError,
  FencingTokenMismatchError,
  GpuInUseError,
  GpuNotFoundError,
  GpusUnavailableError,
  NoGpuFreeError,
  NotOwnerError,
  QueueFullError,
  QuotaError,
  RequestNeverFitsError,
} from "./errors.ts";
import type { Event } from "./events.ts";
import { endedRecord, evolve, OVERDUE } from "./evolve.ts";
import { holdersOf, settlingShare, useBy } from "./holds.ts";
import { idleChanges } from "./idle.ts";
import { readKernelLog } from "./kernel-log.ts";
import type {
  Actor,
  AllocationId,
  EndedAllocation,
  EndReason,
  EpochMs,
  Gpu,
  GpuUuid,
  HoldingAllocation,
  LiveAllocation,
  Policy,
  Request,
} from "./model.ts";
import { observe } from "./observe.ts";
import { budgetsOf } from "./queue/budgets.ts";
import { analysisFor, crowded, neverAllowed, overQuotas } from "./queue/quotas.ts";
import { claimPatience, endOf, type Scheduled, schedule } from "./queue/schedule.ts";
import { delayOf } from "./queue/shares.ts";
import {
  allocationDeadline,
  type HostState,
  withAllocation,
  withCount,
  withoutCount,
  withPolicy,
  withRenewals,
} from "./state.ts";
import { wasUsed } from "./use.ts";

/** After a restart, a lease whose end fell into the absence lives this much longer, or its TTL if that is less. */
const GRACE_AFTER_ABSENCE_MS = 10_000;
/** When to ask again for what another lease or request of one's own keeps. */
const ASK_AGAIN_AFTER_MS = 10_000;
/** A lease younger than this at its end was not used long enough to dirty a GPU unseen. */
const TOO_YOUNG_TO_VERIFY_MS = 1_000;

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

/** A state in the making: every event is folded as it is written down. */
class Drafting {
  readonly events: Event[] = [];
  readonly ended: EndedAllocation[] = [];
  state: HostState;
  constructor(state: HostState) {
    this.state = state;
  }
  write(event: Event): void {
    this.events.push(event);
    if (event.type === "ended") this.ended.push(endedRecord(this.state, event));
    this.state = evolve(this.state, event);
  }
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

/** An admin's word about a GPU. What is so already stays as it is, but a cordon takes the new reason. */
function govern(
  turn: Drafting,
  command: Extract<Command, { type: "cordon" | "uncordon" | "clear-quarantine" | "remove-gpu" }>,
  now: EpochMs,
): void {
  const gpu = gpuNamed(turn.state, command.gpu);
  const by = { uuid: gpu.uuid, at: now, by: command.actor.principal, reason: command.reason };
  switch (command.type) {
    case "cordon":
      turn.write({ type: "gpu-cordoned", ...by });
      tellWhoIsDrained(turn, now);
      return;
    case "uncordon":
      if (gpu.cordon === null) return;
      turn.write({ type: "gpu-uncordoned", ...by });
      tellWhoIsDrained(turn, now);
      return;
    case "clear-quarantine":
      if (isQuarantined(gpu.hold) || gpu.fault !== null) {
        const seen = turn.state.sight.kernelLog?.sequence ?? 0;
        const answeredUpTo = Math.max(gpu.answeredUpTo, gpu.fault?.sequence ?? 0, seen);
        turn.write({ type: "quarantine-cleared", ...by, answeredUpTo });
      }
      return;
    case "remove-gpu":
      // What it was cut into goes with it.
      for (const one of [...turn.state.gpus.instancesOf(gpu.uuid), gpu]) {
        demandUnused(one, turn.state);
        turn.write({ type: "gpu-removed", ...by, uuid: one.uuid });
      }
      return;
    default:
      command.type satisfies never;
  }
}

function drain(turn: Drafting, command: Extract<Command, { type: "drain" }>, now: EpochMs): void {
  const { leaveMs, reason, actor } = command;
  const word = { at: now, by: actor.principal, reason, ...(leaveMs === null ? {} : { drainBy: now + leaveMs }) };
  if (command.gpu === null) turn.write({ type: "host-cordoned", ...word });
  else turn.write({ type: "gpu-cordoned", uuid: gpuNamed(turn.state, command.gpu).uuid, ...word });
  tellWhoIsDrained(turn, now);
}

function tellWhoIsDrained(turn: Drafting, now: EpochMs): void {
  for (const event of drainNotices(turn.state, now)) turn.write(event);
}

/** Whether an admin's word is asked for, or seen use must end, before anybody new gets the GPU. */
function isQuarantined(hold: Gpu["hold"]): boolean {
  return hold.kind === "quarantined" || (hold.kind === "shared" && hold.overdueSince !== null);
}

/** @throws GpuInUseError when it cannot be removed. */
function demandUnused({ uuid, hold }: Gpu, { sight }: HostState): void {
  if (holdersOf(hold).length > 0 || hold.kind === "reclaiming") throw new GpuInUseError(`${uuid} is ${hold.kind}`);
  // The next reading would bring it back.
  if (sight.gpus.has(uuid)) throw new GpuInUseError(`${uuid} is still seen by the driver`);
}

/**
 * By UUID, or by index: that of the GPU which has it now, before one that had it when it was last seen.
 *
 * @throws GpuNotFoundError
 */
export function gpuNamed(state: HostState, name: string): Gpu {
  const byUuid = state.gpus.get(name);
  if (byUuid !== undefined) return byUuid;
  // An index names the GPU, not what it is cut into.
  const byIndex = state.gpus.values().filter(({ index, mig }) => mig === null && String(index) === name);
  const found =
    byIndex.find(({ uuid }) => state.sight.gpus.has(uuid)) ?? (byIndex.length === 1 ? byIndex[0] : undefined);
  if (found === undefined) throw new GpuNotFoundError(name);
  return found;
}

/**
 * The daemon begins to serve. Leases whose end fell into its absence get a grace in which to renew; on a new boot of
 * the host, leases without an end are over, since whatever used them is gone.
 */
function resume(turn: Drafting, command: Extract<Command, { type: "resume" }>, now: EpochMs): void {
  const { bootId, allocations } = turn.state;
  turn.write({ type: "resumed", at: now, bootId: command.bootId, fencingFloor: command.fencingFloor });
  const rebooted = bootId !== null && bootId !== command.bootId;
  if (rebooted) answerFaults(turn, now);
  for (const allocation of allocations.values()) {
    if (allocation.status === "queued") continue;
    const { request, lease } = allocation;
    if (request.ttlMs === null && rebooted) {
      end(turn, allocation, "rebooted", now);
      continue;
    }
    const overdue = lease.expiresAt !== null && lease.expiresAt <= now;
    if (!overdue && allocation.status === "leased") continue;
    const grace = Math.min(request.ttlMs ?? GRACE_AFTER_ABSENCE_MS, GRACE_AFTER_ABSENCE_MS);
    turn.write({
      type: "extended",
      id: request.id,
      at: now,
      expiresAt: overdue ? now + grace : lease.expiresAt,
      // Nobody could claim while the daemon was away.
      claimBy:
        allocation.status === "offered"
          ? Math.max(allocation.claimBy, now + claimPatience(request, turn.state.policy))
          : null,
    });
  }
  putOffNotices(turn, now);
}

/**
 * Nobody could leave while the daemon was away, or hear that he must. Whoever is preempted gets the whole grace again;
 * who is drained may have had hours, and gets what any lease gets.
 */
function putOffNotices(turn: Drafting, now: EpochMs): void {
  for (const event of drainsPutOff(turn.state, now + GRACE_AFTER_ABSENCE_MS)) turn.write(event);
  tellWhoIsDrained(turn, now);
  for (const allocation of turn.state.allocations.values()) {
    const notice = allocation.status === "queued" ? null : allocation.notice;
    if (notice?.kind !== "preempt") continue;
    const until = Math.max(notice.until, now + notice.until - notice.at);
    turn.write({ type: "preempting", id: allocation.request.id, at: now, until, for: notice.for });
  }
}

/** Flags the leases that a good reading begun at `seenAt` shows idle, and ends those that have been so for too long. */
function noteIdleness(turn: Drafting, seenAt: EpochMs, now: EpochMs): void {
  for (const change of idleChanges(turn.state, seenAt)) {
    const { id } = change.allocation.request;
    if (change.kind === "busy") turn.write({ type: "went-busy", id, at: now });
    else if (change.kind === "idle") turn.write({ type: "went-idle", id, at: now, since: change.since });
    else end(turn, change.allocation, "idle", now, `its GPUs were not used for ${inSeconds(seenAt - change.since)}`);
  }
}

function inSeconds(ms: number): string {
  return `${Math.floor(ms / 1_000)} s`;
}

/** A boot resets every GPU, and numbers the records of the kernel's log anew. */
function answerFaults(turn: Drafting, now: EpochMs): void {
  for (const { uuid, fault, answeredUpTo } of turn.state.gpus.values()) {
    if (fault === null && answeredUpTo === 0) continue;
    turn.write({ type: "gpu-fault-answered", uuid, at: now, reason: "the host was booted anew", answeredUpTo: 0 });
  }
}

/** Ends everything whose time has come. */
function expireDue(turn: Drafting, now: EpochMs): void {
  for (;;) {
    const due = turn.state.deadlines.first()?.[0];
    if (due === undefined || due.at > now) return;
    const name = due.key.slice(2);
    if (due.key.startsWith("g:")) {
      turn.write(overdueOf(turn.state.gpus.get(name) as Gpu, turn.state.policy, now));
      continue;
    }
    const allocation = turn.state.allocations.get(name);
    if (allocation === undefined) throw new Error(`a deadline of ${name}, which is not live`);
    if (isForNobody(allocation, turn.state, now)) {
      const id = allocation.request.id;
      turn.write({ type: "notice-withdrawn", id, at: now, reason: "the request that it was for has gone" });
      continue;
    }
    const again = putOff(allocation, turn.state, now);
    if (again !== null) {
      turn.write(again);
      continue;
    }
    const reason = overdueReason(allocation, now);
    end(turn, allocation, reason, now, takenBackFor(allocation, reason, turn.state));
  }
}

/** What the end of the patience with a GPU brings. */
function overdueOf({ uuid, hold }: Gpu, { sharing }: Policy, now: EpochMs): Event {
  const settling = hold.kind === "shared" ? settlingShare(hold) : null;
  if (settling !== null && settling.startedAt !== null && settling.startedAt + sharing.settleTimeoutMs <= now) {
    return { type: "memory-settled", uuid, allocationId: settling.allocationId, at: now, seen: false };
  }
  return { type: "gpu-quarantined", uuid, at: now, reason: OVERDUE };
}

function overdueReason(allocation: LiveAllocation, now: EpochMs): EndReason {
  const { request } = allocation;
  switch (allocation.status) {
    case "queued": {
      const timedOut = request.queueTimeoutMs !== null && request.submittedAt + request.queueTimeoutMs <= now;
      return timedOut ? "timed_out" : "abandoned";
    }
    case "offered":
      return allocation.claimBy <= now ? "unclaimed" : leaseEndReason(allocation, now);
    case "leased":
      return leaseEndReason(allocation, now);
    default:
      return allocation satisfies never;
  }
}

function leaseEndReason({ request, lease, notice }: HoldingAllocation, now: EpochMs): EndReason {
  // What ends by itself, ends by itself: only who would have stayed was made to go.
  if (notice !== null && notice.until <= now && notice.until < (lease.expiresAt ?? Infinity)) {
    return notice.kind === "preempt" ? "preempted" : "revoked";
  }
  const hardEnd = request.maxDurationMs !== null && lease.grantedAt + request.maxDurationMs <= now;
  return hardEnd ? "max_duration" : "expired";
}

/** Whether it would be preempted for a request that waits no longer: one that has ended in this very turn, or will. */
function isForNobody(allocation: LiveAllocation, state: HostState, now: EpochMs): boolean {
  const notice = allocation.status === "queued" ? null : allocation.notice;
  if (notice?.kind !== "preempt") return false;
  const waiting = state.allocations.get(notice.for);
  return waiting?.status !== "queued" || (allocationDeadline(waiting, state.policy) ?? Infinity) <= now;
}

/** A new grace for a lease whose end would serve nobody now: its GPUs could not be granted, since they are unknown. */
function putOff(allocation: LiveAllocation, state: HostState, now: EpochMs): Event | null {
  const notice = allocation.status === "queued" ? null : allocation.notice;
  if (notice?.kind !== "preempt" || overdueReason(allocation, now) !== "preempted") return null;
  const { id } = allocation.request;
  const gpus = allocation.status === "queued" ? [] : allocation.lease.gpus;
  if (gpus.every(({ uuid }) => staleness(uuid, state, now)?.block !== "unknown")) return null;
  return { type: "preempting", id, at: now, until: now + notice.until - notice.at, for: notice.for };
}

/** Why a lease that has been told so is taken back, in words; `null`: it ends by itself. */
function takenBackFor(allocation: LiveAllocation, reason: EndReason, state: HostState): string | null {
  const notice = allocation.status === "queued" ? null : allocation.notice;
  if (notice === null || (reason !== "preempted" && reason !== "revoked")) return null;
  if (notice.kind === "drain") return notice.reason;
  const urgent = state.allocations.get(notice.for)?.request.requirement.priority;
  return urgent === undefined ? "for a more urgent request" : `for a request of priority ${urgent}`;
}

/** Ends one allocation, and says which of its GPUs must be seen empty before they are granted again. */
function end(
  turn: Drafting,
  allocation: LiveAllocation,
  reason: EndReason,
  now: EpochMs,
  detail: string | null = null,
): void {
  const verify: GpuUuid[] = [];
  if (allocation.status !== "queued") {
    for (const { uuid } of allocation.lease.gpus) {
      if (mustVerify(turn.state, uuid, allocation, now)) verify.push(uuid);
    }
  }
  turn.write({ type: "ended", id: allocation.request.id, outcome: { reason, at: now, detail }, verify });
}

function mustVerify(state: HostState, uuid: GpuUuid, { request, lease }: HoldingAllocation, now: EpochMs): boolean {
  const { verifyRelease, refreshIntervalMs } = state.policy;
  if (verifyRelease !== "when_used") return verifyRelease === "always";
  const gpu = state.gpus.get(uuid);
  const use = gpu === undefined ? null : useBy(gpu.hold, request.id);
  if (use !== null && wasUsed(use)) return true;
  if (now - lease.grantedAt < TOO_YOUNG_TO_VERIFY_MS) return false;
  // No use seen, but was anybody looking, and since the grant?
  const sight = state.sight.gpus.get(uuid);
  if (sight === undefined || sight.startedAt < lease.grantedAt) return true;
  return now - sight.finishedAt > refreshIntervalMs;
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
