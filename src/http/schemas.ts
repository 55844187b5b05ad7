/**
 * What may be asked over HTTP: the schemas that validate, from which the OpenAPI document is made.
 *
 *  1. Numbers are numbers: nothing is converted.
 *  2. An explicit `null` counts as absent, in the body and in `workload_data`: Python clients send `None`.
 *  3. Unknown keys of a body are ignored, as the reference service ignored them: its clients may send any.
 *  4. Unknown query parameters are refused: they have no such clients, and a mistyped filter would show everything.
 */
import { z } from "zod";
import { parseDuration } from "../core/duration.ts";
import { MAX_PRIORITY, MIN_PRIORITY, SHARINGS } from "../core/model.ts";
import { DELIVERY_STATES } from "../scheduler/ports.ts";
import { MAX_WAIT_MS } from "./prefer.ts";
import { type FieldError, invalid } from "./problems.ts";

const MAX_GPUS = 1_024;
const MAX_MEMORY_MIB = 2 ** 31;
const MIN_LIFETIME_MS = 1_000;
/** Ten years. */
const MAX_LIFETIME_MS = 315_360_000_000;
const MAX_URL_LENGTH = 2_048;
const MAX_ID_LENGTH = 256;
export const DEFAULT_PAGE = 100;
export const MAX_PAGE = 1_000;

function whole(min: number, max: number, description: string) {
  const error = `expected a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error }).meta({ description }).nullish();
}

const flag = (description: string) => z.boolean({ error: "expected true or false" }).meta({ description }).nullish();

/** In milliseconds; `null` when it is neither a duration nor a number of seconds within bounds. */
export function lifetimeMs(given: string | number): number | null {
  const ms = typeof given === "number" ? Math.round(given * 1_000) : parseDuration(given);
  return ms !== null && ms >= MIN_LIFETIME_MS && ms <= MAX_LIFETIME_MS ? ms : null;
}

function lifetime(description: string) {
  const error = "expected a duration such as 90s or 1h30m, or a number of seconds, from 1 s to 10 years";
  return z
    .union([z.string(), z.number()], { error })
    .refine((given) => lifetimeMs(given) !== null, { error })
    .meta({ description, example: "1h30m" })
    .nullish();
}

const serviceName = z
  .string({ error: "expected a name of 1 to 128 characters of A-Z a-z 0-9 . _ -" })
  .regex(/^[A-Za-z0-9._-]{1,128}$/, { error: "expected a name of 1 to 128 characters of A-Z a-z 0-9 . _ -" })
  .meta({ description: "Who will use the GPUs", example: "trainer" });

const allocationId = z
  .string({ error: "expected an allocation's id" })
  .min(1, { error: "expected an allocation's id" })
  .max(MAX_ID_LENGTH, { error: "expected an allocation's id" });

const fencingToken = whole(0, Number.MAX_SAFE_INTEGER, "The lease's token; a wrong one is refused with 409");

/** May stand at the top level or in `workload_data`; the top level wins. */
const asked = {
  required_gpus: whole(1, MAX_GPUS, "How many GPUs; with a mig_profile, how many instances"),
  min_memory_mb: whole(1, MAX_MEMORY_MIB, "MiB that each of them must have"),
  max_utilization: z
    .number({ error: "expected a number from 0 to 100" })
    .min(0, { error: "expected a number from 0 to 100" })
    .max(100, { error: "expected a number from 0 to 100" })
    .meta({ description: "A GPU busier than this, in percent, is passed over" })
    .nullish(),
  priority: whole(MIN_PRIORITY, MAX_PRIORITY, "Higher is more urgent"),
  preferred_gpus: z
    .array(
      z.union([z.int().min(0).max(MAX_GPUS), z.string().min(1).max(128)], {
        error: "expected a GPU's index or UUID",
      }),
      { error: "expected a list of GPU indices or UUIDs" },
    )
    .max(MAX_GPUS, { error: `expected at most ${MAX_GPUS} GPUs` })
    .meta({ description: "Taken first when they fit: a wish, not a condition" })
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
      "Free-form facts about the workload, such as model, batch_size, concurrent_requests. pid: the host's number of the process whose work it is; what comes from it is shown as the lease's",
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

const body = { error: "expected a JSON object" };

export const allocateSchema = z.object(
  {
    service_name: serviceName,
    ...workload,
    webhook_url: z
      .string({ error: "expected an http or https address" })
      .min(1, { error: "expected an http or https address" })
      .max(MAX_URL_LENGTH, { error: `expected an address of at most ${MAX_URL_LENGTH} characters` })
      .meta({ description: "Told of the grant, when the request had to wait, and of the end of its allocation" })
      .nullish(),
  },
  body,
);
export type AllocateBody = z.output<typeof allocateSchema>;

export const workloadSchema = z.object({ service_name: serviceName.nullish(), ...workload }, body);
export type WorkloadBody = z.output<typeof workloadSchema>;

export const releaseSchema = z
  .object(
    {
      allocation_id: allocationId.meta({ description: "End this lease, or cancel this waiting request" }).nullish(),
      service_name: serviceName
        .meta({ description: "End all leases of this service and cancel its waiting requests" })
        .nullish(),
      fencing_token: fencingToken,
    },
    body,
  )
  .refine((given) => (given.allocation_id ?? given.service_name ?? null) !== null, {
    path: ["allocation_id"],
    error: "give allocation_id, service_name or both",
  });

const MAX_REASON_LENGTH = 500;
const reasonError = { error: `expected the reason, as text of 1 to ${MAX_REASON_LENGTH} characters` };

/** What an admin decides is decided for a reason, which is kept. */
export const reasonSchema = z.object(
  {
    reason: z
      .string(reasonError)
      .trim()
      .min(1, reasonError)
      .max(MAX_REASON_LENGTH, reasonError)
      .meta({ description: "Kept in the journal and shown with what it explains", example: "fan replaced on Friday" }),
  },
  body,
);

export const drainSchema = reasonSchema.extend({
  deadline: lifetime("Leases that are still there after so long end. Default: they end by themselves"),
});

export type DrainBody = z.output<typeof drainSchema>;

export const adoptionSchema = reasonSchema.extend({
  service_name: serviceName.meta({ description: "Who is to hold the GPU" }),
  principal: z
    .string({ error: "expected a name of 1 to 128 characters" })
    // As the principals of API keys: nobody else could ever end the lease.
    .regex(/^(?!\s)[^\p{C}]{1,128}(?<!\s)$/u, { error: "expected a name of 1 to 128 characters" })
    .meta({ description: "Who is to own the lease, as named with an API key. Default: the admin who adopts" })
    .nullish(),
  pid: whole(1, 2 ** 31 - 1, "One of the processes on the GPU, which must be there. Default: whoever is there"),
  ttl: asked.ttl,
  max_duration: asked.max_duration,
});

export const renewSchema = z.object({ fencing_token: fencingToken }, body);

/** A query's values are text; to readers of the OpenAPI document this one is a number. */
function asInteger(bounds: object) {
  return ({ jsonSchema }: { readonly jsonSchema: Record<string, unknown> }) => {
    delete jsonSchema.pattern;
    Object.assign(jsonSchema, { type: "integer", ...bounds });
  };
}

/** In milliseconds; `null` when it is neither a duration nor a number of seconds within bounds. */
export function waitMs(given: string): number | null {
  const ms = /^\d{1,9}(?:\.\d{1,9})?$/.test(given) ? Math.round(Number(given) * 1_000) : parseDuration(given);
  return ms !== null && ms > 0 && ms <= MAX_WAIT_MS ? ms : null;
}

export const recordQuerySchema = z.strictObject({
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

const pageSize = z
  .string()
  .regex(/^(?:[1-9]\d{0,2}|1000)$/, { error: `expected a whole number from 1 to ${MAX_PAGE}` })
  .meta({ override: asInteger({ minimum: 1, maximum: MAX_PAGE, default: DEFAULT_PAGE }) })
  .optional();

export const recordsQuerySchema = z.strictObject({
  status: z
    .enum(["queued", "offered", "leased", "ended"], { error: "expected queued, offered, leased or ended" })
    .optional(),
  service_name: serviceName.optional(),
  before: allocationId.meta({ description: "The `next` of the page before" }).optional(),
  limit: pageSize,
});

export const deliveriesQuerySchema = z.strictObject({
  state: z.enum(DELIVERY_STATES, { error: `expected one of ${DELIVERY_STATES.join(", ")}` }).optional(),
  allocation_id: allocationId.meta({ description: "Only those about this allocation" }).optional(),
  before: allocationId.meta({ description: "The `next` of the page before" }).optional(),
  limit: pageSize,
});

const instant = (description: string) =>
  z.iso
    .datetime({ offset: true, error: "expected a time such as 2026-01-31T00:00:00Z (RFC 3339; a + is %2B here)" })
    .meta({ description, example: "2026-01-31T00:00:00Z" })
    .optional();

export const usageQuerySchema = z.strictObject({
  from: instant("Where the period begins. Default: 24 h before `to`"),
  to: instant("Where it ends; this instant does not count. Default: now"),
  format: z
    .enum(["json", "csv"], { error: "expected json or csv" })
    .meta({ description: "Default: what the Accept header names, or json" })
    .optional(),
});

export const deleteQuerySchema = z.strictObject({
  fencing_token: z
    .string()
    .regex(/^\d{1,15}$/, { error: "expected a whole number" })
    .meta({ override: asInteger({ minimum: 0 }) })
    .optional(),
});

/** The number of an event, or 0 for the time before the first; `null` when it is neither. */
export function eventId(given: string): number | null {
  const id = /^\d{1,16}$/.test(given) ? Number(given) : null;
  return id !== null && Number.isSafeInteger(id) ? id : null;
}

export const eventsQuerySchema = z.strictObject({
  last_event_id: z
    .string()
    .refine((given) => eventId(given) !== null, { error: "expected the id of an event, or 0" })
    .meta({
      description: "For clients that cannot set the Last-Event-ID header, which wins where both are given",
      override: asInteger({ minimum: 0 }),
    })
    .optional(),
});

/**
 * A check of one schema, compiled when it is first used: the start does not wait for it.
 *
 * @throws HttpError 422 that names every wrong field.
 */
export function checker<S extends z.ZodType>(schema: S): (input: unknown) => z.output<S> {
  let compiled: S | null = null;
  return (input) => {
    compiled ??= z.compile(schema);
    const result = compiled.safeParse(input);
    if (result.success) return result.data;
    throw invalid(fieldErrors(result.error));
  };
}

/** One error per field: the first. */
function fieldErrors(error: z.ZodError): readonly FieldError[] {
  const byPath = new Map<string, string>();
  for (const issue of error.issues) {
    const at = issue.path.map(String);
    const paths = issue.code === "unrecognized_keys" ? issue.keys.map((key) => [...at, key]) : [at];
    const message = issue.code === "unrecognized_keys" ? "no such parameter" : issue.message;
    for (const path of paths) if (!byPath.has(path.join("."))) byPath.set(path.join("."), message);
  }
  return [...byPath].map(([path, message]) => ({ path, message }));
}

/**
 * The parameters after `?`.
 *
 * @throws HttpError 422 when one is given twice: which of the two was meant cannot be told.
 */
export function queryOf(url: string): { readonly [name: string]: string } {
  const from = url.indexOf("?");
  const given: Record<string, string> = Object.create(null);
  if (from === -1) return given;
  for (const [name, value] of new URLSearchParams(url.slice(from + 1))) {
    if (name in given) throw invalid([{ path: name, message: "given twice" }]);
    given[name] = value;
  }
  return given;
}
