import { z } from "zod";
import type { ZodOpenApiOperationObject } from "zod-openapi";
import { messageSchema } from "../../wire/events/answers.ts";
import { eventsQuerySchema } from "../../wire/events/asks.ts";
import { problems, WITH_KEY } from "../describing.ts";

const lastEventId = z.string().optional().meta({
  description:
    "The id of the last event that the client has: the stream goes on after it, and 0 is from the oldest kept",
  example: "0",
});

export const stream: ZodOpenApiOperationObject = {
  operationId: "streamEvents",
  summary: "Everything that is committed, as it is committed, as server-sent events",
  description:
    "Ids are increasing integers, and last for as long as the events are kept. Without a last id the stream begins " +
    "with what is still to come.",
  requestParams: { header: z.object({ "Last-Event-ID": lastEventId }), query: eventsQuerySchema },
  responses: {
    "200": { description: "The stream", content: { "text/event-stream": { schema: messageSchema } } },
    ...problems(...WITH_KEY, "validation-failed", "too-many-streams", "shutting-down"),
  },
};
