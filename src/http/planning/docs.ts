import type { ZodOpenApiOperationObject } from "zod-openapi";
import { allocateSchema, workloadSchema } from "../../wire/allocations/asks.ts";
import { planSchema, workloadAnswerSchema } from "../../wire/planning/answers.ts";
import { answer, bodyOf, EXAMPLE_ASK, problems, WITH_BODY, WITH_KEY } from "../describing.ts";

export const workload: ZodOpenApiOperationObject = {
  operationId: "analyzeWorkload",
  summary: "What a workload would be given, and why; changes nothing",
  requestBody: bodyOf(workloadSchema, EXAMPLE_ASK),
  responses: { "200": answer("The analysis", workloadAnswerSchema), ...problems(...WITH_KEY, ...WITH_BODY) },
};

export const plan: ZodOpenApiOperationObject = {
  operationId: "planAllocation",
  summary: "A dry run of an allocate: granted now and where, or why not; changes nothing",
  requestBody: bodyOf(allocateSchema, EXAMPLE_ASK),
  responses: { "200": answer("What would come of it", planSchema), ...problems(...WITH_KEY, ...WITH_BODY) },
};
