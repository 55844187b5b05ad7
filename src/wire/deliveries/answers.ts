import { z } from "zod";
import { DELIVERY_STATES, NOTIFICATION_STATUSES } from "../../ports/webhooks.ts";
import { instant, words } from "../fields.ts";

export const deliverySchema = z
  .object({
    id: z.string().meta({ description: "The webhook-id that its receiver sees, the same at every attempt" }),
    allocation_id: words.meta({ description: "null: it tells the operator of a GPU" }),
    status: z.enum(NOTIFICATION_STATUSES),
    url: z.string(),
    state: z.enum(DELIVERY_STATES),
    attempts: z.int(),
    created_at: instant,
    last_attempt_at: instant.nullable(),
    next_attempt_at: instant.nullable(),
    settled_at: instant.nullable(),
    http_status: z.int().nullable().meta({ description: "Of the last attempt; null: no answer" }),
    error: words.meta({ description: "Of the last attempt" }),
  })
  .meta({ id: "Delivery" });

export const testedSchema = z
  .object({
    id: z.string().meta({ description: "The webhook-id that it bore" }),
    delivered: z.boolean().meta({ description: "The receiver answered 2xx" }),
    http_status: z.int().nullable().meta({ description: "null: there was no answer" }),
    error: words.meta({ description: "null: delivered. Why there was no answer is for admins" }),
    signed: z.boolean().meta({ description: "false: there is no webhooks.secret for its caller" }),
    took_ms: z.int(),
  })
  .meta({ id: "WebhookTest" });

export type DeliveryAnswer = z.output<typeof deliverySchema>;

export const deliveriesSchema = z
  .object({ deliveries: z.array(deliverySchema), next: z.string().nullable() })
  .meta({ id: "Deliveries" });
