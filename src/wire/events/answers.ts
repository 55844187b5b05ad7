/**
 * What `GET /gpu/events` tells of each type of event: for the OpenAPI document and docs/events.md. Tests hold both
 * against these, and these against real events.
 */
import { z } from "zod";
import type { Event } from "../../core/host/events.ts";
import { END_REASONS } from "../../core/model/allocation.ts";
import { migIdentity, requestFields } from "../allocations/answers.ts";
import { instant, mib, owner } from "../fields.ts";
import { reservationFields } from "../reservations/answers.ts";

const at = instant.meta({ description: "When it was committed, with all that happened together" });
const gpuUuid = z.string();
const expiresAt = instant.nullable().meta({ description: "null: the lease has no end of its own" });
const claimBy = instant.meta({ description: "An offer that its client has not taken by then ends" });
const leaveBy = instant.meta({ description: "It ends then if it has not left" });
const drainBy = instant.nullable().meta({ description: "Leases still there then end; null: they run on" });
const subject = {
  at,
  id: requestFields.id,
  service_name: requestFields.service_name,
  principal: owner.optional(),
};

/** An admin's act on a GPU. */
const act = z.object({ at, gpu_uuid: gpuUuid, by: z.string(), reason: z.string() });

/** The allocation is the one that holds the GPU; a lost GPU stays leased. */
const loss = z.object({
  at,
  gpu_uuid: gpuUuid,
  allocation_id: z.string().nullable(),
  shared_with: z
    .array(z.string())
    .optional()
    .meta({ description: "The other allocations, of a GPU that several share" }),
  reason: z.string(),
});

export const EVENT_BODIES = {
  submitted: z.object({ at, status: z.literal("queued"), ...requestFields, principal: owner.optional() }),
  granted: z.object({
    ...subject,
    status: z.enum(["leased", "offered"]),
    gpu_ids: z.array(z.int()),
    gpu_uuids: z.array(z.string()),
    allocated_at: instant,
    expires_at: expiresAt,
    claim_by: claimBy.nullable(),
  }),
  reoffered: z.object({ ...subject, status: z.literal("offered"), claim_by: claimBy }),
  claimed: z.object({ ...subject, status: z.literal("leased") }),
  renewed: z.object({ ...subject, status: z.literal("leased"), expires_at: expiresAt }),
  "end-moved": z.object({
    ...subject,
    status: z.literal("leased"),
    ttl_seconds: z.number().nullable(),
    max_duration_seconds: z.number().nullable(),
    expires_at: expiresAt,
  }),
  extended: z.object({ ...subject, expires_at: expiresAt, claim_by: claimBy.nullable() }),
  ended: z.object({
    ...subject,
    status: z.literal("ended"),
    ended_at: instant,
    end_reason: z.enum(END_REASONS),
    end_detail: z.string().nullable(),
    reclaiming_gpu_uuids: z.array(z.string()),
  }),
  preempting: z.object({
    ...subject,
    leave_by: leaveBy,
    for_request: z.string().meta({ description: "The id of the request that gets its GPUs" }),
  }),
  draining: z.object({ ...subject, leave_by: leaveBy, reason: z.string() }),
  "notice-withdrawn": z.object({ ...subject, leave_by: z.null(), reason: z.string() }),
  nudged: z.object({
    ...subject,
    by: z.string().optional().meta({ description: "The principal who sent it; for the holder and admins" }),
    message: z.string().optional().meta({ description: "Likewise" }),
  }),
  "became-head": z.object(subject),
  "preemption-begun": z.object(subject),
  "preemption-called-off": z.object({ ...subject, reason: z.string() }),
  "gpu-seen": z.object({
    at,
    gpu_uuid: gpuUuid,
    gpu_id: z.int(),
    name: z.string(),
    pci_bus_id: z.string().nullable(),
    memory_total: mib,
    mig: migIdentity,
  }),
  "use-seen": z.object({ ...subject, gpu_uuid: gpuUuid }),
  "use-gone": z.object({ ...subject, gpu_uuid: gpuUuid }),
  "went-idle": z.object({ ...subject, idle_since: instant }),
  "went-busy": z.object({ ...subject, idle_since: z.null() }),
  "memory-settled": z.object({
    ...subject,
    gpu_uuid: gpuUuid,
    seen: z.boolean().meta({ description: "false: it was no longer waited for" }),
  }),
  "memory-returned": z.object({ ...subject, gpu_uuid: gpuUuid }),
  "went-over-memory": z.object({ ...subject, gpu_uuid: gpuUuid, memory_used_mb: z.number(), memory_mb: z.number() }),
  "went-within-memory": z.object({ ...subject, gpu_uuid: gpuUuid }),
  "gpu-quarantined": z.object({ at, gpu_uuid: gpuUuid, reason: z.string() }),
  "gpu-lost": loss,
  "gpu-back": loss,
  "gpu-faulted": loss.extend({
    keeps_away: z.enum(["all", "several"]).meta({ description: "all requests, or those of several GPUs" }),
  }),
  "gpu-fault-answered": z.object({ at, gpu_uuid: gpuUuid, reason: z.string() }),
  "gpu-freed": z.object({ at, gpu_uuid: gpuUuid }),
  "gpu-gone": z.object({ at, gpu_uuid: gpuUuid, reason: z.string() }),
  "gpu-foreign-use": z.object({
    at,
    gpu_uuid: gpuUuid,
    since: instant,
    reason: z.string(),
    pids: z.array(z.int()).meta({ description: "Empty when no process is seen, only what it uses" }),
  }),
  "gpu-foreign-use-over": z.object({ at, gpu_uuid: gpuUuid, reason: z.string() }),
  "gpu-cordoned": act.extend({ drain_by: drainBy }),
  "gpu-uncordoned": act,
  "quarantine-cleared": act,
  "gpu-removed": act,
  "host-cordoned": z.object({ at, by: z.string(), reason: z.string(), drain_by: drainBy }),
  "host-uncordoned": z.object({ at, by: z.string(), reason: z.string() }),
  reserved: z.object({ at, reservation_id: z.string(), ...reservationFields, principal: owner.optional() }),
  "reservation-cancelled": z.object({ at, reservation_id: z.string(), principal: owner.optional() }),
  resumed: z.object({ at }),
} as const satisfies { readonly [type in Event["type"]]: z.ZodObject };

/** No event of the journal: said of the stream itself. */
export const RESET_BODY = z.object({
  reason: z.enum(["trimmed", "ahead"]),
  detail: z.string(),
  oldest_id: z.int().nullable(),
  last_id: z.int(),
});

/** One message of the stream, by its fields. */
export const messageSchema = z
  .union(
    Object.entries({ ...EVENT_BODIES, reset: RESET_BODY }).map(([event, data]) =>
      z.object({ id: z.int(), event: z.literal(event), data: data.meta({ description: "As JSON text" }) }),
    ),
  )
  .meta({ id: "EventMessage", description: "The fields of one message; the stream is a sequence of them" });
