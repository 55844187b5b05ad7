/**
 * What may be asked over HTTP: the schemas that validate, from which the OpenAPI document is made.
 *
 *  1. Numbers are numbers: nothing is converted.
 *  2. An explicit `null` counts as absent, in the body and in `workload_data`: Python clients send `None`.
 *  3. Unknown fields and query parameters are refused, with the one that may have been meant: a mistyped one that is
 *     ignored gives one GPU for ever, or shows everything.
 *  4. In `workload_data` clients send facts of their own. One that is nearly the name of one that is read gets a warning
 *     (warnings.ts), and is left alone.
 */
import { z } from "zod";
import { parseDuration } from "../../core/base/duration.ts";
import { SHARINGS } from "../../core/model/allocation.ts";
import { PRINCIPAL_NAME } from "../../core/model/ids.ts";
import { MAX_PRIORITY, MIN_PRIORITY } from "../../core/model/workload.ts";
import {
  allocationId,
  asInteger,
  exactly,
  fencingToken,
  flag,
  lifetime,
  MAX_LIFETIME_MS,
  MAX_WAIT_MS,
  pageSize,
  serviceName,
  webhookUrl,
  whole,
} from "../asking.ts";

const MAX_GPUS = 1_024;

const MAX_MEMORY_MIB = 2 ** 31;

function gpuList(error: string) {
  return z
    .array(
      z.union([z.int().min(0).max(MAX_GPUS), z.string().min(1).max(128)], {
        error: "expected a GPU's index or UUID",
      }),
      { error },
    )
    .max(MAX_GPUS, { error: `expected at most ${MAX_GPUS} GPUs` });
}

/** May stand at the top level or in `workload_data`; the top level wins. */
export const asked = {
  required_gpus: whole(1, MAX_GPUS, "How many GPUs; with a mig_profile, how many instances"),
  min_memory_mb: whole(1, MAX_MEMORY_MIB, "MiB that each of them must have"),
  max_utilization: z
    .number({ error: "expected a number from 0 to 100" })
    .min(0, { error: "expected a number from 0 to 100" })
    .max(100, { error: "expected a number from 0 to 100" })
    .meta({ description: "A GPU busier than this, in percent, is passed over" })
    .nullish(),
  priority: whole(MIN_PRIORITY, MAX_PRIORITY, "Higher is more urgent"),
  preferred_gpus: gpuList("expected a list of GPU indices or UUIDs")
    .meta({ description: "Taken first when they fit: a wish, not a condition" })
    .nullish(),
  gpus: gpuList("expected a list of GPU indices or UUIDs; for a number of GPUs, did you mean required_gpus?")
    .min(1, { error: "expected at least one GPU" })
    .meta({ description: "Just these, and no others: it waits for them. Not with another number of required_gpus" })
    .nullish(),
  gpu_model: z
    .string({ error: "expected 1 to 128 characters of a GPU's product name" })
    .min(1, { error: "expected 1 to 128 characters of a GPU's product name" })
    .max(128, { error: "expected 1 to 128 characters of a GPU's product name" })
    .meta({ description: "Part of the product name, in any case", example: "H100" })
    .nullish(),
  mig_profile: z
    .string({ error: "expected a MIG profile such as 1g.10gb" })
    .regex(/^[A-Za-z0-9.+-]{1,64}$/, { error: "expected a MIG profile such as 1g.10gb" })
    .meta({
      description:
        "Only MIG instances of this profile, as `nvidia-smi -L` names it, in any case. Several devices are MIG " +
        "instances only if this is given; one device may be an instance if it has the memory",
      example: "1g.10gb",
    })
    .nullish(),
  ttl: lifetime("The lease ends so long after its grant or its last renewal"),
  max_duration: lifetime(
    "The lease ends so long after its grant, whatever is renewed. Stated, it may be served sooner",
  ),
  sharing: z
    .enum(SHARINGS, { error: 'expected "exclusive" or "shared"' })
    .meta({
      description: "shared: min_memory_mb of each GPU are reserved, beside other shared leases. Default exclusive",
    })
    .nullish(),
  preemptible: flag("Whether the lease may be taken back for a more urgent request"),
  queue: flag("false: refuse rather than wait. Default true"),
  queue_timeout: lifetime("Wait no longer than this"),
  bind_pid: flag(
    "true: it ends as process-gone within 10 s of the process workload_data.pid and all that come from it. Only on the " +
      "daemon's own host: another's processes are not seen",
  ),
};

const workloadData = z
  .looseObject(
    {
      ...asked,
      // Not a hint like the rest: it sets the TTL.
      estimated_duration: z
        .number({ error: "expected a number of seconds from 0 to 10 years" })
        .min(0, { error: "expected a number of seconds from 0 to 10 years" })
        .max(MAX_LIFETIME_MS / 1_000, { error: "expected a number of seconds from 0 to 10 years" })
        .meta({ description: "In seconds; without a ttl, the TTL is a multiple of it" })
        .nullish(),
    },
    { error: "expected an object" },
  )
  .meta({
    description:
      "Free-form facts about the workload, such as model, batch_size, concurrent_requests. pid: the host's number of the process whose work it is; what comes from it is shown as the lease's. pid_start_ticks: when that began, field 22 of /proc/PID/stat; with bind_pid, a process of another start is not the one that is meant",
  })
  .nullish();

const workload = {
  workload_type: z
    .string({ error: "expected text of up to 128 characters" })
    .max(128, { error: "expected text of up to 128 characters" })
    .meta({
      description: "training, inference, embedding, ocr, graph_processing; anything else counts as generic",
      example: "inference",
    })
    .nullish(),
  workload_data: workloadData,
  ...asked,
};

export const allocateSchema = exactly({
  service_name: serviceName,
  ...workload,
  webhook_url: webhookUrl
    .meta({ description: "Told of the grant, when the request had to wait, and of the end of its allocation" })
    .nullish(),
  on_behalf_of: z
    .string({ error: "expected a principal's name of 1 to 128 characters" })
    .regex(PRINCIPAL_NAME, { error: "expected a principal's name of 1 to 128 characters" })
    .meta({ description: "The principal whose it is to be. Only with a key that has delegate: true" })
    .nullish(),
});

export type AllocateBody = z.output<typeof allocateSchema>;

export const workloadSchema = exactly({ service_name: serviceName.nullish(), ...workload });

export type WorkloadBody = z.output<typeof workloadSchema>;

export const releaseSchema = exactly({
  allocation_id: allocationId.meta({ description: "End this lease, or cancel this waiting request" }).nullish(),
  service_name: serviceName
    .meta({ description: "End all leases of this service and cancel its waiting requests" })
    .nullish(),
  fencing_token: fencingToken,
}).refine((given) => (given.allocation_id ?? given.service_name ?? null) !== null, {
  path: ["allocation_id"],
  error: "give allocation_id, service_name or both",
});

export const renewSchema = exactly({ fencing_token: fencingToken });

export const extendSchema = exactly({
  ttl: lifetime("It ends so long from now, and from each renewal to come"),
  max_duration: lifetime("It ends so long after its grant, whatever is renewed"),
  fencing_token: fencingToken,
}).refine((given) => (given.ttl ?? given.max_duration ?? null) !== null, {
  path: ["max_duration"],
  error: "give ttl, max_duration or both",
});

/** In milliseconds; `null` when it is neither a duration nor a number of seconds within bounds. */
export function waitMs(given: string): number | null {
  const ms = /^\d{1,9}(?:\.\d{1,9})?$/.test(given) ? Math.round(Number(given) * 1_000) : parseDuration(given);
  return ms !== null && ms > 0 && ms <= MAX_WAIT_MS ? ms : null;
}

export const recordQuerySchema = exactly({
  wait: z
    .string()
    .refine((given) => waitMs(given) !== null, {
      error: `expected a duration such as 30s, or a number of seconds, of at most ${MAX_WAIT_MS / 1_000} s`,
    })
    .meta({
      description: "While the request is queued, hold the answer until that changes, for so long",
      example: "30s",
    })
    .optional(),
});

export const recordsQuerySchema = exactly({
  status: z
    .enum(["queued", "offered", "leased", "ended"], { error: "expected queued, offered, leased or ended" })
    .optional(),
  service_name: serviceName.optional(),
  mine: z
    .enum(["true", "false"], { error: "expected true or false" })
    .optional()
    .meta({ description: "Only the caller's own" }),
  before: allocationId.meta({ description: "The `next` of the page before" }).optional(),
  limit: pageSize,
});

export const deleteQuerySchema = exactly({
  fencing_token: z
    .string()
    .regex(/^\d{1,15}$/, { error: "expected a whole number" })
    .meta({ override: asInteger({ minimum: 0 }) })
    .optional(),
});
