import { z } from "zod";
import type { ZodOpenApiOperationObject } from "zod-openapi";
import { optionalReasonSchema } from "../../wire/asking.ts";
import { deliveriesSchema, deliverySchema, testedSchema } from "../../wire/deliveries/answers.ts";
import { deliveriesQuerySchema, testSchema } from "../../wire/deliveries/asks.ts";
import {
  answer,
  bodyOf,
  CHANGING,
  EXAMPLE_REASON,
  optionalBodyOf,
  problems,
  WITH_BODY,
  WITH_KEY,
} from "../describing.ts";

export const list: ZodOpenApiOperationObject = {
  operationId: "listDeliveries",
  summary: "Admin: webhooks and what became of them, newest first",
  requestParams: { query: deliveriesQuerySchema },
  responses: {
    "200": answer("A page", deliveriesSchema),
    ...problems(...WITH_KEY, "validation-failed", "storage-unavailable"),
  },
};

export const test: ZodOpenApiOperationObject = {
  operationId: "testWebhook",
  summary: "Send a webhook that tells of nothing, once, signed as the caller's would be, and say what came of it",
  requestBody: bodyOf(testSchema, { url: "https://hooks.example.org/gpu" }),
  responses: {
    "200": answer("What came of it", testedSchema),
    ...problems(...WITH_KEY, ...WITH_BODY, "limit-reached"),
  },
};

export const redeliver: ZodOpenApiOperationObject = {
  operationId: "redeliver",
  summary: "Admin: send a webhook again, whatever came of it before",
  requestParams: { path: z.object({ id: z.string().meta({ description: "A delivery's id" }) }) },
  requestBody: optionalBodyOf(optionalReasonSchema, EXAMPLE_REASON),
  responses: {
    "200": answer("The delivery, pending again", deliverySchema),
    ...problems(...WITH_KEY, ...WITH_BODY, ...CHANGING, "delivery-not-found", "delivery-withdrawn"),
  },
};
