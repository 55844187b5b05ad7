/** The calls that the daemon makes, as the OpenAPI document has them. */
import { z } from "zod";
import type { ZodOpenApiObject, ZodOpenApiOperationObject } from "zod-openapi";
import { NOTIFICATION_STATUSES, type NotificationStatus } from "../../ports/webhooks.ts";
import { WEBHOOKS } from "../../wire/webhooks/answers.ts";

const headers = z.object({
  "webhook-id": z.string().meta({ description: "The same at every attempt: drop repeats by it" }),
  "webhook-timestamp": z.string().meta({ description: "When it is sent, in seconds since 1970" }),
  "webhook-signature": z.string().optional().meta({
    description: "`v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body`; left out without webhooks.secret",
  }),
});

function webhook(status: NotificationStatus): ZodOpenApiOperationObject {
  const [summary, body] = WEBHOOKS[status];
  return told(`webhook_${status}`, summary, z.object({ status: z.literal(status), ...body.shape }));
}

export function taskWebhook(schema: z.ZodObject): { post: ZodOpenApiOperationObject } {
  return { post: told("webhook_task_ended", "A task with a webhook_url has ended", schema) };
}

function told(operationId: string, summary: string, schema: z.ZodObject): ZodOpenApiOperationObject {
  return {
    operationId,
    summary,
    requestParams: { header: headers },
    requestBody: { required: true, content: { "application/json": { schema } } },
    responses: {
      "2XX": { description: "Taken: it is not sent again" },
      "410": { description: "Not wanted: it is not sent again" },
      default: { description: "Not taken: it is sent again, later and later, for webhooks.give_up_after" },
    },
  };
}

/** By status. */
export const webhooks: NonNullable<ZodOpenApiObject["webhooks"]> = Object.fromEntries(
  NOTIFICATION_STATUSES.map((status) => [status, { post: webhook(status) }]),
);
