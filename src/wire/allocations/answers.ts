/**
 * What the API answers. Only types of this module are used where answers are made; the schemas themselves are for
 * the OpenAPI document, which a test holds against real answers.
 */
import { z } from "zod";
import { BLOCKS } from "../../core/host/condition.ts";
import { END_REASONS, SHARINGS } from "../../core/model/allocation.ts";
import { WORKLOAD_TYPES } from "../../core/model/workload.ts";
import {
  cpuAffinity,
  idleSince,
  instant,
  leaveBy,
  mib,
  numaNodes,
  overMemorySince,
  owner,
  sentences,
  words,
} from "../fields.ts";
import { gpuAilment } from "../gpus/answers.ts";
import { analysisOfModel } from "./analysis.ts";

const alias = z.string().meta({ description: "The same as id, for clients of the reference service" });

export const requestFields = {
  id: z.string(),
  request_id: alias,
  service_name: z.string(),
  workload_type: z.enum(WORKLOAD_TYPES),
  priority: z.int(),
  required_gpus: z.int(),
  min_memory_mb: z.number(),
  max_utilization: z.number(),
  sharing: z.enum(SHARINGS),
  preemptible: z.boolean(),
  ttl_seconds: z.number().nullable(),
  max_duration_seconds: z.number().nullable(),
  exact_gpus: z
    .array(z.string())
    .optional()
    .meta({ description: "UUIDs of the GPUs that were asked for by name; left out when any would do" }),
  bind_pid: z
    .literal(true)
    .optional()
    .meta({ description: "It ends with the process workload_data.pid and all that come from it; left out otherwise" }),
  adopted: z
    .literal(true)
    .optional()
    .meta({ description: "Nobody asked: an admin made a lease of somebody's use of a GPU. Left out otherwise" }),
  adopted_by: z.string().optional(),
  adoption_reason: z.string().optional(),
  submitted_at: instant,
};

export const migIdentity = z
  .object({ profile: z.string(), parent_uuid: z.string(), gpu_instance_id: z.int(), compute_instance_id: z.int() })
  .nullable()
  .meta({ description: "null: a whole GPU" });

const leaseFields = {
  allocation_id: alias,
  gpu_ids: z.array(z.int()).meta({
    description:
      "The indices that nvidia-smi counts by now; of a MIG instance, its GPU's. A GPU that it does not count now is left " +
      "out, and stands in lost_gpus. Of an ended lease, as they were at the grant",
  }),
  lost_gpus: z
    .array(z.string())
    .optional()
    .meta({ description: "UUIDs of those that nvidia-smi does not count now; left out when there are none" }),
  gpu_uuids: z.array(z.string()),
  devices: z.array(
    z.object({
      index: z
        .int()
        .nullable()
        .meta({ description: "Of a MIG instance: its GPU's; null: nvidia-smi does not count it now" }),
      uuid: z.string(),
      name: z.string(),
      pci_bus_id: words,
      memory_total: mib,
      mig: migIdentity,
      numa_nodes: numaNodes.meta({ description: "As it was at the grant; null: not known" }),
      cpu_affinity: cpuAffinity.meta({ description: "As it was at the grant; null: not known" }),
    }),
  ),
  env: z.object({
    CUDA_VISIBLE_DEVICES: z.string().meta({
      description: "By UUID. Of several MIG instances each process must take one: CUDA shows it no more than one",
    }),
    CUDA_DEVICE_ORDER: z.literal("PCI_BUS_ID"),
    GPU_ORCHESTRATOR_GPU_INDICES: z
      .string()
      .optional()
      .meta({ description: "Left out for MIG instances: CUDA has no index for them" }),
    GPU_ORCHESTRATOR_MEMORY_MB: z
      .string()
      .optional()
      .meta({ description: "Of a shared lease: the MiB of each GPU that it has reserved" }),
  }),
  allocated_at: instant,
  expires_at: instant.optional().meta({ description: "Left out when there is no end" }),
  fencing_token: z.int(),
  memory_mb: z.number().meta({ description: "MiB that each GPU was checked to have" }),
  numa_nodes: numaNodes.meta({
    description: "The NUMA nodes that its GPUs are next to, as it was at the grant; null unless known of each",
  }),
  cpu_affinity: cpuAffinity.meta({
    description:
      "The CPUs that its GPUs are next to, to pin to: what `taskset -c` takes. null unless known of each GPU",
  }),
};

export const warnings = z
  .array(z.string())
  .optional()
  .meta({ description: "What was taken and may not be meant; left out when there is nothing. It changes nothing" });

export const grantedSchema = z
  .object({ status: z.literal("allocated"), ...requestFields, ...leaseFields, ...analysisOfModel, warnings })
  .meta({ id: "Granted" });

export const eta = z
  .object({
    earliest: instant.meta({ description: "If leases are as short as the short ones of late" }),
    latest: instant.meta({ description: "If all leases last as long as they may, and nobody more urgent comes" }),
  })
  .nullable()
  .meta({
    id: "Eta",
    description:
      "When it can expect to be granted. null: no such end is certain, since leases without a max_duration are in the " +
      "way, it waits for a GPU to get well, or too many are before it",
  });

const passReason = z.enum([
  ...BLOCKS,
  "memory",
  "kind",
  "model",
  "named",
  "utilization",
  "isolated",
  "reserved",
  "quota",
  "settling",
  "crowded",
  "window",
]);

export const gpuReasons = z.array(
  z.object({ id: z.int().nullable(), uuid: z.string(), reason: passReason.nullable() }),
);

/** Of a request that waits. */
export const deadline = instant
  .nullable()
  .meta({ description: "While it waits: it ends as timed_out then; null: it waits without end" });

export const queuedSchema = z
  .object({
    status: z.literal("queued"),
    id: z.string(),
    request_id: alias,
    position: z.int().meta({ description: "From 1" }),
    submitted_at: instant,
    priority: z.int(),
    reason: z.string(),
    eta,
    gpus: gpuReasons.meta({ description: "Of each GPU why not; null for one that would do" }),
    abandon_at: instant
      .optional()
      .meta({ description: "It ends then unless its client asks for it by its id before; left out with a webhook" }),
    ...analysisOfModel,
    warnings,
  })
  .meta({ id: "Queued" });

export type QueuedAnswer = z.output<typeof queuedSchema>;

export const nudgeFields = {
  at: instant,
  by: z.string().meta({ description: "The principal who sent it" }),
  message: z.string(),
};

export const recordSchema = z
  .object({
    status: z.enum(["queued", "offered", "leased", "ended"]),
    ...requestFields,
    ...z.object(leaseFields).partial().shape,
    idle_since: idleSince.optional(),
    over_memory_since: overMemorySince.optional(),
    ailing_gpus: z
      .array(z.object({ uuid: z.string(), state: gpuAilment, reason: z.string(), since: instant.nullable() }))
      .optional()
      .meta({ description: "Of the GPUs held: those that are lost, sick or recovering. The lease goes on" }),
    notice: z
      .object({
        leave_by: leaveBy,
        reason: z.enum(["preempted", "drained"]).meta({ description: "What becomes of it if it has not left by then" }),
        detail: z.string(),
      })
      .optional()
      .meta({ description: "It is to be taken back, and renewals do not help: expires_at is no later than leave_by" }),
    nudge: z
      .object(nudgeFields)
      .optional()
      .meta({ description: "The last that somebody asked of its holder; for its owner and admins" }),
    head_since: instant.optional().meta({
      description:
        "Since when it has been the head of the line without a certain start, or was first passed by a wider one",
    }),
    preempting_since: instant.optional().meta({ description: "Leases are being preempted for this request" }),
    claim_by: instant.optional().meta({ description: "An offer that its client has not taken by then ends" }),
    position: z.int().optional(),
    reason: z.string().optional().meta({ description: "Why it waits" }),
    eta: eta.optional(),
    gpus: gpuReasons
      .optional()
      .meta({ description: "While it waits: of each GPU why not; null for one that would do" }),
    ended_at: instant.optional(),
    end_reason: z.enum(END_REASONS).optional(),
    end_detail: z.string().optional().meta({ description: "Why it ended, in words; of every ended one" }),
    principal: owner.optional(),
    deadline: deadline.optional(),
    workload_data: z.record(z.string(), z.unknown()).optional().meta({ description: "For its owner and admins" }),
    webhook_url: z.string().nullable().optional().meta({ description: "For its owner and admins" }),
  })
  .meta({ id: "Allocation", description: "One record for a request's whole life" });

export type RecordAnswer = z.output<typeof recordSchema>;

export const whySchema = z
  .object({
    id: z.string(),
    status: recordSchema.shape.status,
    why: sentences,
    decision: z
      .object({ event: z.int().meta({ description: "Of GET /gpu/events: its grant" }), decided_at: instant })
      .nullable()
      .meta({ description: "null: it has not been granted, or the decision is not kept any more" }),
  })
  .meta({ id: "Why" });

export type WhyAnswer = z.output<typeof whySchema>;

export const recordsSchema = z
  .object({
    allocations: z.array(recordSchema).meta({ description: "Newest first" }),
    next: words.meta({ description: "Give it as `before` for the next page; null: this is the last" }),
  })
  .meta({ id: "AllocationPage" });

export const releasedSchema = z
  .object({ status: z.literal("released"), released: z.array(z.string()), warnings })
  .meta({ id: "Released" });
