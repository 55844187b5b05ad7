import type { ZodOpenApiOperationObject } from "zod-openapi";
import { auditEntrySchema, auditSchema } from "../../wire/audit/answers.ts";
import { auditQuerySchema } from "../../wire/audit/asks.ts";
import { problems, WITH_KEY } from "../describing.ts";

export const audit: ZodOpenApiOperationObject = {
  operationId: "audit",
  summary: "Admin: who changed or was refused what, newest first",
  requestParams: { query: auditQuerySchema },
  responses: {
    "200": {
      description: "A page",
      content: { "application/json": { schema: auditSchema }, "application/jsonl": { schema: auditEntrySchema } },
    },
    ...problems(...WITH_KEY, "validation-failed", "storage-unavailable"),
  },
};
