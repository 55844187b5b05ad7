import type { ZodOpenApiOperationObject } from "zod-openapi";
import { historySchema } from "../../wire/history/answers.ts";
import { historyQuerySchema } from "../../wire/history/asks.ts";
import { answer, problems, WITH_KEY } from "../describing.ts";

export const history: ZodOpenApiOperationObject = {
  operationId: "history",
  summary: "What each GPU was in the last days, and whose",
  requestParams: { query: historyQuerySchema },
  responses: {
    "200": answer("Of each GPU, one span after the other", historySchema),
    ...problems(...WITH_KEY, "validation-failed", "storage-unavailable"),
  },
};
