import type { ZodOpenApiOperationObject } from "zod-openapi";
import { healthSchema, meSchema } from "../../wire/service/answers.ts";
import { ANYWHERE, answer, problems, reading } from "../describing.ts";
import type { ProblemCode } from "../refusals.ts";

export const healthz = health("healthz", "Whether the process serves");
export const livez = health("livez", "The same as /healthz");
export const readyz = health("readyz", "Whether requests can be served", "not-ready");

export const metrics = page("metrics", "Prometheus text, or OpenMetrics", "text/plain");
export const openapi = page("openapi", "This document", "application/json");
export const docs = page("docs", "This document for people", "text/html");

export const root = {
  ...page("page", "The host for people, where Accept names text/html", "text/html"),
  responses: {
    "200": { description: "The page", content: { "text/html": {} } },
    ...problems(...ANYWHERE, "not-found"),
  },
};

export const me = reading("me", "Who calls, and what is the caller's", meSchema);

function health(operationId: string, summary: string, ...codes: ProblemCode[]): ZodOpenApiOperationObject {
  return {
    operationId,
    summary,
    security: [],
    responses: {
      "200": answer("Yes", healthSchema),
      ...problems("malformed-request", "headers-too-large", "internal-error", ...codes),
    },
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
