import type { ZodOpenApiOperationObject } from "zod-openapi";
import { usageSchema } from "../../wire/usage/answers.ts";
import { usageQuerySchema } from "../../wire/usage/asks.ts";
import { problems, WITH_KEY } from "../describing.ts";

export const usage: ZodOpenApiOperationObject = {
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
};
