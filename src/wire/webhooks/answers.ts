/** What a webhook says: for the OpenAPI document, which a test holds against real ones. */
import { z } from "zod";
import { END_REASONS } from "../../core/model/allocation.ts";
import type { NotificationStatus } from "../../ports/webhooks.ts";
import { nudgeFields, recordSchema } from "../allocations/answers.ts";
import { instant, leaveBy } from "../fields.ts";

/** As it stood right after what is told; only its indices are those of the moment of sending. */
const allocation = recordSchema
  .omit({
    ailing_gpus: true,
    over_memory_since: true,
    position: true,
    reason: true,
    eta: true,
    gpus: true,
    workload_data: true,
    webhook_url: true,
  })
  .meta({ id: "AllocationTold", description: "The record as it stood then, with the GPUs' indices as they are now" });

const told = {
  request_id: z.string().meta({ description: "The allocation's id" }),
  allocation,
  submitted_at: instant,
  allocated_at: instant.optional().meta({ description: "Left out when it held no GPU" }),
  wait_time_seconds: z.number().optional().meta({ description: "From its submission to its grant" }),
};

const ended = { ...told, reason: z.enum(END_REASONS).meta({ description: "The record's end_reason" }) };

const gpu = z.object({
  id: z.int().nullable().meta({ description: "The index that nvidia-smi counts by now" }),
  uuid: z.string(),
  name: z.string().nullable(),
});

/** By status: why it is sent, and what it says. */
export const WEBHOOKS: { readonly [status in NotificationStatus]: readonly [summary: string, body: z.ZodObject] } = {
  allocated: ["A request that waited has its GPUs: answered with 2xx, they are claimed", z.object(told)],
  expired: ["It ended by its TTL, its max_duration or its queue_timeout", z.object(ended)],
  cancelled: ["It was cancelled while it waited", z.object(ended)],
  unclaimed: ["Its GPUs were offered, and nobody took them in time", z.object(ended)],
  abandoned: ["Its client did not ask for it any more", z.object(ended)],
  preempting: [
    "Its GPUs are to be taken back: it ends at leave_by if it has not left",
    z.object({ ...told, leave_by: leaveBy, reason: z.enum(["preempted", "drained"]), detail: z.string() }),
  ],
  revoked: ["It was ended by an admin, by preemption, by a boot of the host, or since it sat idle", z.object(ended)],
  idle: ["Its GPUs have not been used for allocator.idle_after", z.object(told)],
  over_memory: ["A shared lease uses more memory of a GPU than it has reserved", z.object(told)],
  nudged: ["Somebody asks something of its holder", z.object({ ...told, ...nudgeFields })],
  foreign_use: [
    "To the operator: somebody uses a GPU without a lease",
    z.object({ gpu, at: instant, since: instant, reason: z.string(), pids: z.array(z.int()) }),
  ],
  foreign_use_over: ["To the operator: nobody does any more", z.object({ gpu, at: instant, reason: z.string() })],
  test: [
    "Somebody tries the receiver: sent once, and told of nothing that happened",
    z.object({
      at: instant,
      by: z.string().meta({ description: "The principal who asked for it" }),
      detail: z.string(),
    }),
  ],
};
