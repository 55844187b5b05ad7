import { z } from "zod";
import { asked } from "../allocations/asks.ts";
import { lifetime, lifetimeOf, reasonSchema, serviceName, whole } from "../asking.ts";

export const drainSchema = reasonSchema.extend({
  deadline: lifetime("Leases that are still there after so long end. Default: they end by themselves"),
});

export type DrainBody = z.output<typeof drainSchema>;

export const adoptionSchema = reasonSchema.extend({
  service_name: serviceName.meta({ description: "Who is to hold the GPU" }),
  principal: z
    .string({ error: "expected a name of 1 to 128 characters" })
    // As the principals of API keys: nobody else could ever end the lease.
    .regex(/^(?!\s)[^\p{C}]{1,128}(?<!\s)$/u, { error: "expected a name of 1 to 128 characters" })
    .meta({ description: "Who is to own the lease, as named with an API key. Default: the admin who adopts" })
    .nullish(),
  pid: whole(1, 2 ** 31 - 1, "One of the processes on the GPU, which must be there. Default: whoever is there"),
  ttl: asked.ttl,
  max_duration: asked.max_duration,
});

/** How long the leases may stay; `null`: as long as they last. */
export function leaveMs({ deadline }: DrainBody): number | null {
  return lifetimeOf(deadline);
}
