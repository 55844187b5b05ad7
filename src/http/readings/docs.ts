import type { ZodOpenApiOperationObject } from "zod-openapi";
import { readingMessageSchema } from "../../wire/readings/answers.ts";
import { problems, WITH_KEY } from "../describing.ts";

export const stream: ZodOpenApiOperationObject = {
  operationId: "streamReadings",
  summary: "The figures and states of the GPUs, as they are read, as server-sent events",
  description:
    "The first message comes at once. Messages have no id: it is the latest that counts, and a slow client misses some.",
  responses: {
    "200": { description: "The stream", content: { "text/event-stream": { schema: readingMessageSchema } } },
    ...problems(...WITH_KEY, "too-many-streams", "shutting-down"),
  },
};
