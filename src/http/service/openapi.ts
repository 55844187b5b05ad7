/** The OpenAPI document, made of the schemas that validate. Loaded only when somebody asks for it. */
import { z } from "zod";
import { createDocument, type ZodOpenApiOperationObject, type ZodOpenApiPathsObject } from "zod-openapi";
import {
  grantedSchema,
  queuedSchema,
  recordSchema,
  recordsSchema,
  releasedSchema,
} from "../../wire/allocations/answers.ts";
import {
  allocateSchema,
  deleteQuerySchema,
  recordQuerySchema,
  recordsQuerySchema,
  releaseSchema,
  renewSchema,
  workloadSchema,
} from "../../wire/allocations/asks.ts";
import { reasonSchema } from "../../wire/asking.ts";
import { deliveriesSchema, deliverySchema } from "../../wire/deliveries/answers.ts";
import { deliveriesQuerySchema } from "../../wire/deliveries/asks.ts";
import { messageSchema } from "../../wire/events/answers.ts";
import { eventsQuerySchema } from "../../wire/events/asks.ts";
import { gpuRemovedSchema, gpuSchema } from "../../wire/gpus/answers.ts";
import { adoptionSchema, drainSchema } from "../../wire/gpus/asks.ts";
import { hostDrainSchema, listSchema, statusSchema } from "../../wire/host/answers.ts";
import { planSchema, workloadAnswerSchema } from "../../wire/planning/answers.ts";
import { quotasSchema } from "../../wire/quotas/answers.ts";
import { healthSchema, problemSchema } from "../../wire/service/answers.ts";
import { usageSchema } from "../../wire/usage/answers.ts";
import { usageQuerySchema } from "../../wire/usage/asks.ts";
import { windowsSchema } from "../../wire/windows/answers.ts";
import { PROBLEM_TYPE } from "../exchange/problems.ts";
import { PROBLEMS, type ProblemCode } from "../refusals.ts";
import { TAGS, tagged } from "./tags.ts";

/** What any call can be refused with. */
const ANYWHERE: readonly ProblemCode[] = ["malformed-request", "foreign-host", "foreign-origin", "internal-error"];
const WITH_KEY: readonly ProblemCode[] = [...ANYWHERE, "unauthenticated", "role-too-low"];
const WITH_BODY: readonly ProblemCode[] = [
  "malformed-json",
  "request-timeout",
  "body-too-large",
  "unsupported-media-type",
  "validation-failed",
];
const CHANGING: readonly ProblemCode[] = ["storage-unavailable", "overloaded", "shutting-down"];
const ONE_RECORD: readonly ProblemCode[] = ["allocation-not-found"];
const OWNED: readonly ProblemCode[] = [...ONE_RECORD, "not-owner", "fencing-token-mismatch"];

const id = z.string().meta({ description: "An allocation's id", example: "trainer-01kq3d6xj8f0v9w2h4n7b5s1ta" });
const recordPath = { path: z.object({ id }) };

const prefer = z
  .string()
  .optional()
  .meta({
    description:
      "RFC 7240. `wait=N`: when the request has to queue, hold the answer for up to N seconds (at most 60): 200 if it is " +
      "granted meanwhile, else 202. Other preferences are ignored",
    example: "wait=30",
  });
const idempotencyKey = z
  .string()
  .optional()
  .meta({
    description:
      "Names this request for 24 h: sent again with the same body, it answers how the first stands and changes nothing. " +
      "With another body: 422. While the first is under way: 409. Of a request that was refused nothing is kept. " +
      "Up to 255 printable ASCII characters; a UUID is a good choice",
    example: "0b1c7d5e-3f0a-4a61-9a54-6f1f0c1c2b7e",
  });
const repeatable = { header: z.object({ "Idempotency-Key": idempotencyKey }) };
const REPEATABLE: readonly ProblemCode[] = ["idempotency-key-in-use", "idempotency-key-reused"];
const lastEventId = z.string().optional().meta({
  description:
    "The id of the last event that the client has: the stream goes on after it, and 0 is from the oldest kept",
  example: "0",
});
const preferenceApplied = z.literal("wait").optional().meta({ description: "The answer was held as preferred" });

export function openApiDocument({ version, headerName }: { readonly version: string; readonly headerName: string }) {
  return createDocument({
    openapi: "3.1.0",
    info: {
      title: "gpu-orchestrator",
      version,
      description: "Leases the GPUs of one host. Memory is in MiB, called MB; times are RFC 3339 in UTC.",
      license: { name: "MIT", identifier: "MIT" },
    },
    servers: [{ url: "/" }],
    security: [{ apiKey: [] }, { bearer: [] }, {}],
    components: {
      securitySchemes: {
        apiKey: { type: "apiKey", in: "header", name: headerName },
        bearer: { type: "http", scheme: "bearer" },
      },
    },
    tags: [...TAGS],
    paths: tagged({ ...gpuPaths(), ...servicePaths() }),
  });
}

function gpuPaths(): ZodOpenApiPathsObject {
  return {
    "/gpu/allocate": {
      post: {
        operationId: "allocate",
        summary: "Lease GPUs, or queue for them",
        requestParams: { header: z.object({ Prefer: prefer, "Idempotency-Key": idempotencyKey }) },
        requestBody: { required: true, content: { "application/json": { schema: allocateSchema } } },
        responses: {
          "200": {
            ...answer("Granted", grantedSchema),
            headers: z.object({ "Preference-Applied": preferenceApplied }),
          },
          "202": {
            ...answer("Queued", queuedSchema),
            headers: z.object({
              Location: z.string().meta({ description: "The allocation's record" }),
              "Retry-After": z.string().meta({ description: "How often to ask for it, in seconds" }),
              "Preference-Applied": preferenceApplied,
            }),
          },
          ...problems(
            ...WITH_KEY,
            ...WITH_BODY,
            ...CHANGING,
            ...REPEATABLE,
            "request-never-fits",
            "queue-full",
            "gpus-unavailable",
            "no-gpu-free",
            "quota",
            "allocation-ended",
          ),
        },
      },
    },
    "/gpu/release": {
      post: {
        operationId: "release",
        summary: "End leases and cancel waiting requests; again is no error",
        requestParams: repeatable,
        requestBody: { required: true, content: { "application/json": { schema: releaseSchema } } },
        responses: {
          "200": answer("Released", releasedSchema),
          ...problems(...WITH_KEY, ...WITH_BODY, ...CHANGING, ...REPEATABLE, ...OWNED),
        },
      },
    },
    "/gpu/status": { get: reading("status", "The GPUs", statusSchema) },
    "/gpu/list": { get: reading("list", "The GPUs, what holds them, and the queue", listSchema) },
    "/gpu/windows": { get: reading("windows", "GPUs that are kept for some by the calendar", windowsSchema) },
    "/gpu/workload": {
      post: {
        operationId: "analyzeWorkload",
        summary: "What a workload would be given, and why; changes nothing",
        requestBody: { required: true, content: { "application/json": { schema: workloadSchema } } },
        responses: {
          "200": answer("The analysis", workloadAnswerSchema),
          ...problems(...WITH_KEY, ...WITH_BODY),
        },
      },
    },
    "/gpu/plan": {
      post: {
        operationId: "planAllocation",
        summary: "A dry run of an allocate: granted now and where, or why not; changes nothing",
        requestBody: { required: true, content: { "application/json": { schema: allocateSchema } } },
        responses: { "200": answer("What would come of it", planSchema), ...problems(...WITH_KEY, ...WITH_BODY) },
      },
    },
    "/gpu/quotas": { get: reading("quotas", "What accounts may have, what they have, and what is left", quotasSchema) },
    "/gpu/usage": {
      get: {
        operationId: "usage",
        summary: "What was reserved and used in a period: per service, per principal and per GPU",
        description:
          "CSV has a header line and one row per `kind` (`total`, `service`, `principal`, `gpu`) and `name`. A name that a " +
          "spreadsheet would take for a formula has a quote mark before it.",
        requestParams: { query: usageQuerySchema },
        responses: {
          "200": {
            description: "The sums",
            content: {
              "application/json": { schema: usageSchema },
              "text/csv": { schema: { type: "string" } },
            },
          },
          ...problems(...WITH_KEY, "validation-failed", "period-too-large", "usage-busy", "storage-unavailable"),
        },
      },
    },
    "/gpu/allocations": {
      get: {
        operationId: "listAllocations",
        summary: "Records, live and ended, newest first",
        requestParams: { query: recordsQuerySchema },
        responses: {
          "200": answer("A page", recordsSchema),
          ...problems(...WITH_KEY, "validation-failed", "storage-unavailable"),
        },
      },
    },
    "/gpu/allocations/{id}": {
      get: {
        operationId: "readAllocation",
        summary: "One record; read by its owner, it counts as a sign of life and claims what was offered",
        requestParams: { ...recordPath, query: recordQuerySchema },
        responses: {
          "200": answer("The record", recordSchema),
          ...problems(...WITH_KEY, ...CHANGING, ...ONE_RECORD, "validation-failed"),
        },
      },
      delete: {
        operationId: "endAllocation",
        summary: "End a lease, or cancel a waiting request",
        requestParams: { ...recordPath, query: deleteQuerySchema },
        responses: {
          "200": answer("The record", recordSchema),
          ...problems(...WITH_KEY, ...CHANGING, ...OWNED, "validation-failed"),
        },
      },
    },
    "/gpu/allocations/{id}/revoke": {
      post: governing("revokeAllocation", "Admin: end somebody's lease, or cancel a waiting request", {
        schema: recordSchema,
        requestParams: recordPath,
        codes: [...ONE_RECORD, "allocation-ended"],
      }),
    },
    "/gpu/webhooks/deliveries": {
      get: {
        operationId: "listDeliveries",
        summary: "Admin: webhooks and what became of them, newest first",
        requestParams: { query: deliveriesQuerySchema },
        responses: {
          "200": answer("A page", deliveriesSchema),
          ...problems(...WITH_KEY, "validation-failed", "storage-unavailable"),
        },
      },
    },
    "/gpu/webhooks/deliveries/{id}/redeliver": {
      post: {
        operationId: "redeliver",
        summary: "Admin: send a webhook again, whatever came of it before",
        requestParams: { path: z.object({ id: z.string().meta({ description: "A delivery's id" }) }) },
        responses: {
          "200": answer("The delivery, pending again", deliverySchema),
          ...problems(...WITH_KEY, ...WITH_BODY, ...CHANGING, "delivery-not-found", "delivery-withdrawn"),
        },
      },
    },
    "/gpu/gpus/{id}": {
      delete: governing("removeGpu", "Admin: strike off a GPU that is gone for good", {
        schema: gpuRemovedSchema,
        requestParams: gpuPath,
        codes: ["gpu-not-found", "gpu-in-use"],
      }),
    },
    "/gpu/gpus/{id}/cordon": {
      post: governing("cordonGpu", "Admin: no new leases on this GPU; what runs there runs on", ONE_GPU),
    },
    "/gpu/gpus/{id}/uncordon": {
      post: governing("uncordonGpu", "Admin: new leases on this GPU again", ONE_GPU),
    },
    "/gpu/gpus/{id}/adopt": {
      post: governing("adoptUse", "Admin: make a lease of somebody's use of this GPU", {
        schema: recordSchema,
        requestParams: gpuPath,
        codes: ["gpu-not-found", "gpu-in-use", "gpus-unavailable", "adoption-disabled", "nothing-to-adopt"],
        body: adoptionSchema,
      }),
    },
    "/gpu/gpus/{id}/drain": {
      post: governing("drainGpu", "Admin: no new leases on this GPU, and an end to those that are there", {
        ...ONE_GPU,
        body: drainSchema,
      }),
    },
    "/gpu/drain": {
      post: governing("drainHost", "Admin: no new leases on any GPU, and an end to those that are there", {
        ...HOST_DRAIN,
        body: drainSchema,
      }),
    },
    "/gpu/undrain": {
      post: governing(
        "undrainHost",
        "Admin: new leases again, but on GPUs that are cordoned by themselves",
        HOST_DRAIN,
      ),
    },
    "/gpu/gpus/{id}/clear-quarantine": {
      post: governing("clearQuarantine", "Admin: what an ended lease left on this GPU no longer counts", ONE_GPU),
    },
    "/gpu/allocations/{id}/renew": {
      post: {
        operationId: "renewAllocation",
        summary: "A heartbeat: the lease ends one TTL from now",
        requestParams: { ...recordPath, ...repeatable },
        requestBody: { content: { "application/json": { schema: renewSchema } } },
        responses: {
          "200": answer("The record", recordSchema),
          ...problems(...WITH_KEY, ...WITH_BODY, ...CHANGING, ...REPEATABLE, ...OWNED, "allocation-ended"),
        },
      },
    },
    "/gpu/events": { get: eventStream() },
  };
}

function eventStream(): ZodOpenApiOperationObject {
  return {
    operationId: "streamEvents",
    summary: "Everything that is committed, as it is committed, as server-sent events",
    description:
      "Ids are increasing integers, and last for as long as the events are kept. Without a last id the stream begins " +
      "with what is still to come.",
    requestParams: { header: z.object({ "Last-Event-ID": lastEventId }), query: eventsQuerySchema },
    responses: {
      "200": { description: "The stream", content: { "text/event-stream": { schema: messageSchema } } },
      ...problems(...WITH_KEY, "validation-failed", "too-many-streams", "shutting-down"),
    },
  };
}

function reading(operationId: string, summary: string, schema: z.ZodType): ZodOpenApiOperationObject {
  return { operationId, summary, responses: { "200": answer(summary, schema), ...problems(...WITH_KEY) } };
}

const gpuPath = {
  path: z.object({ id: z.string().meta({ description: "A GPU's UUID, or its index", example: "0" }) }),
};
const ONE_GPU = { schema: gpuSchema, requestParams: gpuPath, codes: ["gpu-not-found"] } as const;

const HOST_DRAIN = { schema: hostDrainSchema, requestParams: {}, codes: [] } as const;

function governing(
  operationId: string,
  summary: string,
  given: {
    schema: z.ZodType;
    requestParams: { path?: z.ZodObject };
    codes: readonly ProblemCode[];
    body?: z.ZodType;
  },
): ZodOpenApiOperationObject {
  return {
    operationId,
    summary,
    requestParams: given.requestParams,
    requestBody: { required: true, content: { "application/json": { schema: given.body ?? reasonSchema } } },
    responses: {
      "200": answer("How it stands now", given.schema),
      ...problems(...WITH_KEY, ...WITH_BODY, ...CHANGING, ...given.codes),
    },
  };
}

function servicePaths(): ZodOpenApiPathsObject {
  return {
    "/healthz": { get: health("healthz", "Whether the process serves") },
    "/livez": { get: health("livez", "The same as /healthz") },
    "/readyz": { get: health("readyz", "Whether requests can be served", "not-ready") },
    "/metrics": { get: page("metrics", "Prometheus text, or OpenMetrics", "text/plain") },
    "/openapi.json": { get: page("openapi", "This document", "application/json") },
    "/docs": { get: page("docs", "This document for people", "text/html") },
  };
}

function health(operationId: string, summary: string, ...codes: ProblemCode[]): ZodOpenApiOperationObject {
  return {
    operationId,
    summary,
    security: [],
    responses: { "200": answer("Yes", healthSchema), ...problems("malformed-request", "internal-error", ...codes) },
  };
}

function page(operationId: string, summary: string, type: string): ZodOpenApiOperationObject {
  return {
    operationId,
    summary,
    security: [],
    responses: { "200": { description: summary, content: { [type]: {} } }, ...problems(...ANYWHERE) },
  };
}

function answer(description: string, schema: z.ZodType) {
  return { description, content: { "application/json": { schema } } };
}

/** One response per status, which names the codes that it may carry. */
function problems(...codes: ProblemCode[]) {
  const byStatus = new Map<number, ProblemCode[]>();
  for (const code of new Set(codes))
    byStatus.set(PROBLEMS[code].status, [...(byStatus.get(PROBLEMS[code].status) ?? []), code]);
  const responses: Record<`${4 | 5}${string}`, object> = {};
  for (const [status, list] of byStatus) {
    const description = list.map((code) => `${code}: ${PROBLEMS[code].title}`).join("; ");
    responses[`${status}` as `4${string}`] = { description, content: { [PROBLEM_TYPE]: { schema: problemSchema } } };
  }
  return responses;
}
