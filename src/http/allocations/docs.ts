import { z } from "zod";
import type { ZodOpenApiOperationObject } from "zod-openapi";
import {
  grantedSchema,
  queuedSchema,
  recordSchema,
  recordsSchema,
  releasedSchema,
  whySchema,
} from "../../wire/allocations/answers.ts";
import {
  allocateSchema,
  deleteQuerySchema,
  extendSchema,
  recordQuerySchema,
  recordsQuerySchema,
  releaseSchema,
  renewSchema,
} from "../../wire/allocations/asks.ts";
import { nudgeSchema } from "../../wire/asking.ts";
import { adoptionSchema } from "../../wire/gpus/asks.ts";
import {
  answer,
  bodyOf,
  CHANGING,
  EXAMPLE_ASK,
  EXAMPLE_REASON,
  governing,
  optionalBodyOf,
  problems,
  WITH_BODY,
  WITH_KEY,
} from "../describing.ts";
import { gpuPath } from "../gpus/docs.ts";
import type { ProblemCode } from "../refusals.ts";

const ONE_RECORD: readonly ProblemCode[] = ["allocation-not-found"];
const OWNED: readonly ProblemCode[] = [...ONE_RECORD, "not-owner", "fencing-token-mismatch"];
const REPEATABLE: readonly ProblemCode[] = ["idempotency-key-in-use", "idempotency-key-reused"];

const id = z.string().meta({ description: "An allocation's id", example: "trainer-01kq3d6xj8f0v9w2h4n7b5s1ta" });
const recordPath = { path: z.object({ id }) };

const prefer = z
  .string()
  .optional()
  .meta({
    description:
      "RFC 7240. `wait=N`: when the request has to queue, hold the answer for up to N seconds (at most 60): 200 if it is " +
      "granted meanwhile, else 202. Other preferences are ignored",
  });
const idempotencyKey = z
  .string()
  .regex(/^[!-~]{1,255}$/)
  .optional()
  .meta({
    description:
      "Names this request for 24 h: sent again with the same body, it answers how the first stands and changes nothing. " +
      "With another body: 422. While the first is under way: 409. Of a request that was refused nothing is kept. " +
      "Up to 255 printable ASCII characters; a UUID is a good choice",
  });
const repeatable = { header: z.object({ "Idempotency-Key": idempotencyKey }) };
const preferenceApplied = z.literal("wait").optional().meta({ description: "The answer was held as preferred" });

export const allocate: ZodOpenApiOperationObject = {
  operationId: "allocate",
  summary: "Lease GPUs, or queue for them",
  requestParams: { header: z.object({ Prefer: prefer, "Idempotency-Key": idempotencyKey }) },
  requestBody: bodyOf(allocateSchema, EXAMPLE_ASK),
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
      "pid-not-visible",
      "queue-full",
      "gpus-unavailable",
      "no-gpu-free",
      "quota",
      "allocation-ended",
    ),
  },
};

export const release: ZodOpenApiOperationObject = {
  operationId: "release",
  summary: "End leases and cancel waiting requests; again is no error",
  requestParams: repeatable,
  requestBody: bodyOf(releaseSchema, { service_name: EXAMPLE_ASK.service_name }),
  responses: {
    "200": answer("Released", releasedSchema),
    ...problems(...WITH_KEY, ...WITH_BODY, ...CHANGING, ...REPEATABLE, ...OWNED),
  },
};

export const renew: ZodOpenApiOperationObject = {
  operationId: "renewAllocation",
  summary: "A heartbeat: the lease ends one TTL from now",
  requestParams: { ...recordPath, ...repeatable },
  requestBody: optionalBodyOf(renewSchema),
  responses: {
    "200": answer("The record", recordSchema),
    ...problems(...WITH_KEY, ...WITH_BODY, ...CHANGING, ...REPEATABLE, ...OWNED, "allocation-ended"),
  },
};

export const extend: ZodOpenApiOperationObject = {
  operationId: "extendAllocation",
  summary: "Move a lease's end, within quotas and windows",
  requestParams: { ...recordPath, ...repeatable },
  requestBody: bodyOf(extendSchema, { max_duration: "2h" }),
  responses: {
    "200": answer("The record", recordSchema),
    ...problems(
      ...WITH_KEY,
      ...WITH_BODY,
      ...CHANGING,
      ...REPEATABLE,
      ...OWNED,
      "allocation-ended",
      "extension-refused",
    ),
  },
};

export const nudge: ZodOpenApiOperationObject = {
  operationId: "nudgeHolder",
  summary: "Send whoever holds a lease a message: by its webhook, an event and its record; one a minute for each lease",
  requestParams: recordPath,
  requestBody: bodyOf(nudgeSchema, { message: "are you still using this?" }),
  responses: {
    "200": answer("The record, as its caller may see it", recordSchema),
    ...problems(
      ...WITH_KEY,
      ...WITH_BODY,
      ...CHANGING,
      ...ONE_RECORD,
      "allocation-ended",
      "nudge-refused",
      "nudged-lately",
    ),
  },
};

export const list: ZodOpenApiOperationObject = {
  operationId: "listAllocations",
  summary: "Records, live and ended, newest first",
  requestParams: { query: recordsQuerySchema },
  responses: {
    "200": answer("A page", recordsSchema),
    ...problems(...WITH_KEY, "validation-failed", "storage-unavailable"),
  },
};

export const read: ZodOpenApiOperationObject = {
  operationId: "readAllocation",
  summary: "One record; read by its owner, it counts as a sign of life and claims what was offered",
  requestParams: { ...recordPath, query: recordQuerySchema },
  responses: {
    "200": answer("The record", recordSchema),
    ...problems(...WITH_KEY, ...CHANGING, ...ONE_RECORD, "validation-failed"),
  },
};

export const why: ZodOpenApiOperationObject = {
  operationId: "explainAllocation",
  summary: "In words why a request waits, was granted as it was, or has ended",
  requestParams: recordPath,
  responses: {
    "200": answer("Why", whySchema),
    ...problems(...WITH_KEY, ...ONE_RECORD, "overloaded"),
  },
};

export const end: ZodOpenApiOperationObject = {
  operationId: "endAllocation",
  summary: "End a lease, or cancel a waiting request",
  requestParams: { ...recordPath, query: deleteQuerySchema },
  requestBody: optionalBodyOf(renewSchema),
  responses: {
    "200": answer("The record", recordSchema),
    ...problems(...WITH_KEY, ...WITH_BODY, ...CHANGING, ...OWNED),
  },
};

export const revoke = governing("revokeAllocation", "Admin: end somebody's lease, or cancel a waiting request", {
  schema: recordSchema,
  requestParams: recordPath,
  codes: [...ONE_RECORD, "allocation-ended"],
});

export const adopt = governing("adoptUse", "Admin: make a lease of somebody's use of this GPU", {
  schema: recordSchema,
  requestParams: gpuPath,
  codes: ["gpu-not-found", "gpu-in-use", "gpus-unavailable", "adoption-disabled", "nothing-to-adopt"],
  body: adoptionSchema,
  example: { ...EXAMPLE_REASON, service_name: EXAMPLE_ASK.service_name },
});
