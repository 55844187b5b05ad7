import { z } from "zod";
import { PRINCIPAL_NAME } from "../../core/model/ids.ts";
import { asked } from "../allocations/asks.ts";
import { exactly, lifetimeMs, lifetimeOf, reasonFields, serviceName, whole } from "../asking.ts";

const deadlineError = {
  error: "expected a duration such as 2h, a number of seconds, or a time to come such as 2026-12-01T08:00:00Z",
};

export const drainSchema = exactly({
  ...reasonFields,
  deadline: z
    .union([z.string(), z.number()], deadlineError)
    .refine((given) => lifetimeMs(given) !== null || instantOf(given) !== null, deadlineError)
    .meta({
      description: "Leases that are still there then, or after so long, end. Default: they end by themselves",
      example: "2h",
    })
    .nullish(),
});

export type DrainBody = z.output<typeof drainSchema>;

export const adoptionSchema = exactly({
  ...reasonFields,
  service_name: serviceName.meta({ description: "Who is to hold the GPU" }),
  principal: z
    .string({ error: "expected a name of 1 to 128 characters" })
    // As the principals of API keys: nobody else could ever end the lease.
    .regex(PRINCIPAL_NAME, { error: "expected a name of 1 to 128 characters" })
    .meta({ description: "Who is to own the lease, as named with an API key. Default: the admin who adopts" })
    .nullish(),
  pid: whole(1, 2 ** 31 - 1, "One of the processes on the GPU, which must be there. Default: whoever is there"),
  ttl: asked.ttl,
  max_duration: asked.max_duration,
});

/** RFC 3339, with the offset from UTC. */
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/i;

function instantOf(given: string | number): number | null {
  if (typeof given === "number" || !INSTANT.test(given)) return null;
  const at = Date.parse(given);
  return Number.isNaN(at) ? null : at;
}

/** How long the leases may stay, `null`: as long as they last; or until when, by the wall clock. */
export function leaveOf({ deadline }: DrainBody): { readonly ms: number | null } | { readonly untilWall: number } {
  const at = deadline === undefined || deadline === null ? null : instantOf(deadline);
  return at === null ? { ms: lifetimeOf(deadline) } : { untilWall: at };
}
