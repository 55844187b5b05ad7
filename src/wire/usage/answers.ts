import { z } from "zod";
import { instant } from "../fields.ts";

const gpuSeconds = z.number().meta({ description: "Exact to the millisecond: two GPUs for a second are 2" });

const gpuHours = z.number().meta({ description: "The same, rounded to six digits" });

const amount = {
  leases: z.int().meta({ description: "That held something in the period; one that reaches on counts there too" }),
  reserved_gpu_seconds: gpuSeconds,
  used_gpu_seconds: gpuSeconds,
  reserved_gpu_hours: gpuHours,
  used_gpu_hours: gpuHours,
  wasted_gpu_hours: gpuHours.meta({
    description:
      "Reserved and not used by leases of 10 minutes or more that used less than a quarter of what they reserved",
  }),
};

const amounts = z.array(z.object({ name: z.string(), ...amount }));

export const usageSchema = z
  .object({
    from: instant,
    to: instant,
    now: instant.meta({ description: "Running leases count up to it" }),
    complete_from: instant.nullable().meta({
      description: "A period that begins earlier may lack leases whose records are gone; null: none was ever dropped",
    }),
    total: z.object(amount),
    services: amounts,
    principals: amounts,
    gpus: z.array(z.object({ uuid: z.string(), ...amount })),
  })
  .meta({
    id: "Usage",
    description:
      "What was reserved, by leases and offers, and what of it was seen in use, by a process that computes or memory above " +
      "the level before the grant. Use is what readings show: between two of them, and while there are none, the last known state counts.",
  });

export type UsageAnswer = z.output<typeof usageSchema>;
