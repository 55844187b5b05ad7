/** What clients do with allocations that they have: release, cancel, renew. */

import type { EpochMs } from "../base/time.ts";
import { withAllocation } from "../host/changes.ts";
import type { HostState } from "../host/state.ts";
import type { LiveAllocation, Request } from "../model/allocation.ts";
import { AllocationNotFoundError, FencingTokenMismatchError, NotOwnerError } from "../model/errors.ts";
import type { Actor, AllocationId } from "../model/ids.ts";
import { endOf } from "../model/leases.ts";
import type { Command } from "./commands.ts";
import { type Drafting, end } from "./drafting.ts";

export function release(draft: Drafting, command: Extract<Command, { type: "release" }>, now: EpochMs): void {
  const { id, serviceName, actor, fencingToken } = command;
  if (id !== null) {
    const allocation = liveOf(draft.state, id);
    // Another service's lease stays, and whether it is there is not told.
    if (serviceName !== null && allocation.request.serviceName !== serviceName) return;
    demandOwner(actor, allocation);
    demandToken(allocation, fencingToken);
    releaseOrCancel(draft, allocation, now);
    return;
  }
  // Whoever else uses that name is not touched, and not told of.
  const own = allocationsOf(draft.state, serviceName as string).filter((allocation) => owns(actor, allocation));
  // A token speaks of a lease; what the service waits for beside it has none.
  for (const allocation of own) if (allocation.status !== "queued") demandToken(allocation, fencingToken);
  for (const allocation of own) releaseOrCancel(draft, allocation, now);
}

/** A client gives up what it holds, or what it waits for. */
function releaseOrCancel(draft: Drafting, allocation: LiveAllocation, now: EpochMs): void {
  end(draft, allocation, allocation.status === "queued" ? "cancelled" : "released", now);
}

export function renew(draft: Drafting, command: Extract<Command, { type: "renew" }>, now: EpochMs): void {
  const allocation = liveOf(draft.state, command.id);
  demandOwner(command.actor, allocation);
  demandToken(allocation, command.fencingToken);
  if (allocation.status === "queued") {
    // Nothing to prolong yet, but a sign of life.
    draft.state = withAllocation(draft.state, { ...allocation, seenAt: Math.max(allocation.seenAt, now) });
    return;
  }
  const until = endOf(allocation.request, allocation.lease.grantedAt, now);
  // After an absence of the daemon a lease may stand beyond its hard end: its grace is not taken back.
  const expiresAt = until === null ? null : Math.max(until, allocation.lease.expiresAt ?? until);
  draft.write({ type: "renewed", id: command.id, at: now, expiresAt });
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
export function liveOf(state: HostState, id: AllocationId): LiveAllocation {
  const allocation = state.allocations.get(id);
  if (allocation === undefined) throw new AllocationNotFoundError(id);
  return allocation;
}

export function owns(actor: Actor, allocation: { readonly request: Request }): boolean {
  return actor.admin || actor.principal === allocation.request.principal;
}

export function demandOwner(actor: Actor, allocation: LiveAllocation): void {
  if (!owns(actor, allocation)) throw new NotOwnerError(`allocation ${allocation.request.id}`);
}

export function demandToken(allocation: LiveAllocation, given: number | null): void {
  if (given === null) return;
  // What waits has no token yet, so that any is wrong.
  const right = allocation.status === "queued" ? null : allocation.lease.fencingToken;
  if (right !== given) throw new FencingTokenMismatchError(allocation.request.id, given);
}
