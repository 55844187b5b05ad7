/**
 * The events as the API tells them to every key that may read. Times are RFC 3339 in UTC, as in allocations/bodies.ts.
 * A workload's data, its webhook and the lease's fencing token are left out; the name of an admin who acted on a GPU is
 * there, as in the status. Whose a request is stands beside the body: not every reader may know.
 *
 * A new type of event needs a case here, a schema in answers.ts beside this and a section in docs/events.md; the
 * compiler and the tests ask for them.
 */

import type { EpochMs } from "../../core/base/time.ts";
import type { Event } from "../../core/host/events.ts";
import type { AllocationId } from "../../core/model/ids.ts";
import { printable } from "../../platform/printable.ts";
import type { JournalEntry } from "../../ports/store.ts";
import { migBody, requestBody } from "../allocations/bodies.ts";
import { timestamp } from "../values.ts";

export type PrincipalOf = (id: AllocationId) => string | null;

/** One event as its readers are told of it. */
export interface PublicEvent {
  readonly seq: number;
  readonly type: Event["type"];
  /** JSON text. */
  readonly body: string;
  /** Whose request or lease it tells of, for those who may know; `null`: nobody's, or nobody knows any more. */
  readonly owner: string | null;
  /** What that owner and admins are told beside it, as JSON text; left out of most. */
  readonly ownersPart?: string;
}

/** @param principalOf whose an allocation is or was; `null`: nobody knows any more. */
export function publicEvent({ seq, at, event }: JournalEntry, principalOf: PrincipalOf): PublicEvent {
  const owner = ownerOf(event, principalOf);
  const body = JSON.stringify({ at: timestamp(at), ...eventBody(event) });
  const more = ownersPart(event);
  return { seq, type: event.type, body, owner, ...(more === null ? {} : { ownersPart: JSON.stringify(more) }) };
}

/** What is between two people is not for all who read. */
function ownersPart(event: Event): object | null {
  return event.type === "nudged" ? { by: event.by, message: printable(event.message) } : null;
}

/** Of what happens to a GPU it is nobody's, whoever holds it. */
function ownerOf(event: Event, principalOf: PrincipalOf): string | null {
  switch (event.type) {
    case "submitted":
      return event.request.principal;
    case "reserved":
      return event.booking.principal;
    case "reservation-cancelled":
      return event.principal;
    case "use-seen":
    case "use-gone":
    case "memory-settled":
    case "memory-returned":
      return principalOf(event.allocationId);
    default:
      return "id" in event ? principalOf(event.id) : null;
  }
}

/** What is told of an event, beside when it was. */
export function eventBody(event: Event): object {
  switch (event.type) {
    case "submitted":
      return { status: "queued", ...requestBody(event.request) };
    case "granted": {
      const { lease, claimBy } = event;
      return {
        ...subject(event.id),
        status: claimBy === null ? "leased" : "offered",
        gpu_ids: lease.gpus.map(({ index }) => index),
        gpu_uuids: lease.gpus.map(({ uuid }) => uuid),
        allocated_at: timestamp(lease.grantedAt),
        expires_at: instant(lease.expiresAt),
        claim_by: instant(claimBy),
      };
    }
    case "reoffered":
      return { ...subject(event.id), status: "offered", claim_by: timestamp(event.claimBy) };
    case "claimed":
      return { ...subject(event.id), status: "leased" };
    case "renewed":
      return { ...subject(event.id), status: "leased", expires_at: instant(event.expiresAt) };
    case "end-moved":
      return {
        ...subject(event.id),
        status: "leased",
        ttl_seconds: event.ttlMs === null ? null : event.ttlMs / 1_000,
        max_duration_seconds: event.maxDurationMs === null ? null : event.maxDurationMs / 1_000,
        expires_at: instant(event.expiresAt),
      };
    case "extended":
      return {
        ...subject(event.id),
        expires_at: instant(event.expiresAt),
        claim_by: instant(event.claimBy),
      };
    case "ended":
      return {
        ...subject(event.id),
        status: "ended",
        ended_at: timestamp(event.outcome.at),
        end_reason: event.outcome.reason,
        end_detail: event.outcome.detail === null ? null : printable(event.outcome.detail),
        reclaiming_gpu_uuids: event.verify,
      };
    case "preempting":
      return { ...subject(event.id), leave_by: timestamp(event.until), for_request: event.for };
    case "draining":
      return { ...subject(event.id), leave_by: timestamp(event.until), reason: printable(event.reason) };
    case "notice-withdrawn":
      return { ...subject(event.id), leave_by: null, reason: printable(event.reason) };
    // What it says is for its holder: see ownersPart.
    case "nudged":
    case "became-head":
    case "preemption-begun":
      return { ...subject(event.id) };
    case "preemption-called-off":
      return { ...subject(event.id), reason: printable(event.reason) };
    case "gpu-seen": {
      const { uuid, index, name, pciBusId, memoryTotalMib, mig } = event.gpu;
      const device = { name: printable(name), pci_bus_id: pciBusId, memory_total: memoryTotalMib, mig: migBody(mig) };
      return { gpu_uuid: uuid, gpu_id: index, ...device };
    }
    case "went-idle":
      return { ...subject(event.id), idle_since: timestamp(event.since) };
    case "went-busy":
      return { ...subject(event.id), idle_since: null };
    case "memory-settled":
      return { ...subject(event.allocationId), gpu_uuid: event.uuid, seen: event.seen };
    case "went-over-memory": {
      const { id, uuid, usedMib, reservedMib } = event;
      return { ...subject(id), gpu_uuid: uuid, memory_used_mb: usedMib, memory_mb: reservedMib };
    }
    case "went-within-memory":
      return { ...subject(event.id), gpu_uuid: event.uuid };
    case "memory-returned":
    case "use-seen":
    case "use-gone":
      return { ...subject(event.allocationId), gpu_uuid: event.uuid };
    case "gpu-quarantined":
      return { gpu_uuid: event.uuid, reason: printable(event.reason) };
    case "gpu-lost":
    case "gpu-back":
      return { gpu_uuid: event.uuid, ...holders(event), reason: printable(event.reason) };
    case "gpu-faulted":
      return {
        gpu_uuid: event.uuid,
        ...holders(event),
        reason: printable(event.reason),
        keeps_away: event.scope,
      };
    case "gpu-foreign-use": {
      const { uuid, since, reason, pids } = event;
      return { gpu_uuid: uuid, since: timestamp(since), reason: printable(reason), pids };
    }
    case "gpu-foreign-use-over":
    case "gpu-fault-answered":
    case "gpu-gone":
      return { gpu_uuid: event.uuid, reason: printable(event.reason) };
    case "gpu-freed":
      return { gpu_uuid: event.uuid };
    case "gpu-cordoned":
      return {
        gpu_uuid: event.uuid,
        by: event.by,
        reason: printable(event.reason),
        drain_by: instant(event.drainBy ?? null),
      };
    case "host-cordoned":
      return { by: event.by, reason: printable(event.reason), drain_by: instant(event.drainBy ?? null) };
    case "host-uncordoned":
      return { by: event.by, reason: printable(event.reason) };
    case "gpu-uncordoned":
    case "quarantine-cleared":
    case "gpu-removed":
      return { gpu_uuid: event.uuid, by: event.by, reason: printable(event.reason) };
    case "reserved": {
      const { id, gpus, from, to, serviceName } = event.booking;
      return {
        reservation_id: id,
        gpus: typeof gpus === "number" ? gpus : null,
        gpu_uuids: typeof gpus === "number" ? null : gpus,
        from: timestamp(from),
        to: timestamp(to),
        service_name: serviceName,
      };
    }
    case "reservation-cancelled":
      return { reservation_id: event.bookingId };
    case "resumed":
      return {};
    default:
      event satisfies never;
      // Written by a newer version: what may be told of it is not known.
      return {};
  }
}

/** The allocation that an event is about. */
function subject(id: AllocationId) {
  return { id, service_name: serviceOf(id) };
}

/** Those who hold a GPU that something has happened to. */
function holders(of: { readonly allocationId: AllocationId | null; readonly sharedWith?: readonly AllocationId[] }) {
  const { allocationId, sharedWith } = of;
  return { allocation_id: allocationId, ...(sharedWith === undefined ? {} : { shared_with: sharedWith }) };
}

/** An id is its service's name and 26 characters of which none is a hyphen. */
function serviceOf(id: AllocationId): string {
  return id.slice(0, id.lastIndexOf("-"));
}

function instant(at: EpochMs | null): string | null {
  return at === null ? null : timestamp(at);
}
