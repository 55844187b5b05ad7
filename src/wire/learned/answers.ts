import { z } from "zod";
import { instant } from "../fields.ts";

export const learnedSchema = z
  .object({
    kinds: z.array(
      z.object({
        key: z.string().meta({ description: "Names the kind, for forgetting it" }),
        service_name: z.string(),
        workload_type: z.string(),
        model: z.string().nullable(),
        settings: z.record(z.string(), z.unknown()),
        runs: z.int().meta({ description: "Leases that it comes from" }),
        readings: z.int(),
        highest_mb: z.int().meta({ description: "The most that a GPU was seen to use" }),
        suggested_mb: z.int().nullable().meta({ description: "null: too little was seen" }),
        last_at: instant,
      }),
    ),
  })
  .meta({ id: "Learned", description: "What leases were seen to use, by kind; the latest first" });

export type LearnedAnswer = z.output<typeof learnedSchema>;

export const forgottenSchema = z.object({ forgotten: z.int() }).meta({ id: "Forgotten" });
