/** What the descriptions of calls have in common. Loaded with the OpenAPI document only. */
import type { z } from "zod";
import type { ZodOpenApiOperationObject } from "zod-openapi";
import { optionalReasonSchema, reasonSchema } from "../wire/asking.ts";
import { problemSchema } from "../wire/service/answers.ts";
import { PROBLEM_TYPE } from "./exchange/problems.ts";
import { PROBLEMS, type ProblemCode } from "./refusals.ts";

/** What any call can be refused with. */
export const ANYWHERE: readonly ProblemCode[] = [
  "malformed-request",
  "headers-too-large",
  "foreign-host",
  "foreign-origin",
  "limit-reached",
  "too-busy",
  "internal-error",
];
/** Also with a query parameter that there is not. */
export const WITH_KEY: readonly ProblemCode[] = [
  ...ANYWHERE,
  "unauthenticated",
  "not-ready",
  "role-too-low",
  "validation-failed",
];
export const WITH_BODY: readonly ProblemCode[] = [
  "malformed-json",
  "request-timeout",
  "body-too-large",
  "unsupported-media-type",
  "validation-failed",
];
export const CHANGING: readonly ProblemCode[] = ["storage-unavailable", "overloaded", "shutting-down"];

export function answer(description: string, schema: z.ZodType) {
  return { description, content: { "application/json": { schema } } };
}

/** @param example what the page at /docs starts with; it is answered as it stands. */
export function bodyOf(schema: z.ZodType, example: object) {
  return { required: true, content: { "application/json": { schema, example } } };
}

/** A body that may be left out; `null` is none. */
export function optionalBodyOf(schema: z.ZodType, example: object = {}) {
  return { required: false, content: { "application/json": { schema: schema.nullable(), example } } };
}

export const EXAMPLE_REASON = { reason: "fan replaced on Friday" };

/** An ask that any host can answer. */
export const EXAMPLE_ASK = { service_name: "trainer", workload_type: "training", max_duration: "10m" };

/** One response per status, which names the codes that it may carry. */
export function problems(...codes: ProblemCode[]) {
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

/** A call that only looks, and takes no parameters. */
export function reading(operationId: string, summary: string, schema: z.ZodType): ZodOpenApiOperationObject {
  return { operationId, summary, responses: { "200": answer(summary, schema), ...problems(...WITH_KEY) } };
}

/** What an admin decides, for a reason. */
export function governing(
  operationId: string,
  summary: string,
  given: {
    schema: z.ZodType;
    requestParams: { path?: z.ZodObject };
    codes: readonly ProblemCode[];
    /** Without one: a reason and nothing else. */
    body?: z.ZodType;
    /** Of the body; a reason when left out. */
    example?: object;
    /** The reason may be left out, and the body with it. */
    reasonOptional?: true;
  },
): ZodOpenApiOperationObject {
  return {
    operationId,
    summary,
    requestParams: given.requestParams,
    requestBody:
      given.reasonOptional === true
        ? optionalBodyOf(optionalReasonSchema, EXAMPLE_REASON)
        : bodyOf(given.body ?? reasonSchema, given.example ?? EXAMPLE_REASON),
    responses: {
      "200": answer("How it stands now", given.schema),
      ...problems(...WITH_KEY, ...WITH_BODY, ...CHANGING, ...given.codes),
    },
  };
}
