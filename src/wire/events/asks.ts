import { z } from "zod";
import { asInteger, exactly } from "../asking.ts";

/** The number of an event, or 0 for the time before the first; `null` when it is neither. */
export function eventId(given: string): number | null {
  const id = /^\d{1,16}$/.test(given) ? Number(given) : null;
  return id !== null && Number.isSafeInteger(id) ? id : null;
}

export const eventsQuerySchema = exactly({
  last_event_id: z
    .string()
    .refine((given) => eventId(given) !== null, { error: "expected the id of an event, or 0" })
    .meta({
      description: "For clients that cannot set the Last-Event-ID header, which wins where both are given",
      override: asInteger({ minimum: 0 }),
    })
    .optional(),
  readings: z
    .enum(["true", "false"], { error: "expected true or false" })
    .meta({
      description: "true: each reading of the GPUs comes between the events, as `/gpu/readings` has it, without an id",
    })
    .optional(),
  work: z
    .enum(["true", "false"], { error: "expected true or false" })
    .meta({
      description:
        "true: between the events a message `work` without an id tells that something about work has changed, and one " +
        "comes at the start; none comes from a daemon that runs no work",
    })
    .optional(),
});
