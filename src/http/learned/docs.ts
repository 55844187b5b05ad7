import type { ZodOpenApiOperationObject } from "zod-openapi";
import { forgottenSchema, learnedSchema } from "../../wire/learned/answers.ts";
import { forgetQuerySchema } from "../../wire/learned/asks.ts";
import { answer, problems, reading, WITH_KEY } from "../describing.ts";

export const list = reading("learned", "Admin: what leases were seen to use, by kind of workload", learnedSchema);

export const forget: ZodOpenApiOperationObject = {
  operationId: "forgetLearned",
  summary: "Admin: forget what was learned, of one kind or all",
  requestParams: { query: forgetQuerySchema },
  responses: { "200": answer("How many kinds were forgotten", forgottenSchema), ...problems(...WITH_KEY) },
};
