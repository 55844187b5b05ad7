import { z } from "zod";
import { deadline, eta, recordSchema } from "../allocations/answers.ts";
import { cordonFields, instant, owner, words } from "../fields.ts";
import { gpuSchema } from "../gpus/answers.ts";
import { probeFailure } from "../readings/answers.ts";

export const hostDrainSchema = z
  .object({
    drain: z
      .object({
        ...cordonFields,
        drained: z.boolean().meta({ description: "No GPU holds a lease, or anything that an ended one left" }),
        allocations: z.array(z.string()).meta({ description: "The leases and offers that are still there" }),
      })
      .nullable()
      .meta({ description: "An admin's word that no GPU of the host gets new leases; null: they do" }),
  })
  .meta({ id: "HostDrain" });

export type HostDrainAnswer = z.output<typeof hostDrainSchema>;

const monitor = z.object({
  healthy: z.boolean(),
  last_reading_at: instant.nullable(),
  last_probe_at: instant.nullable(),
  failure: probeFailure,
  warnings: z.array(z.string()),
  processes_hidden: z.boolean().meta({
    description:
      "The daemon does not share the host's pids, so processes of others may be missing from the lists: memory and " +
      "utilisation alone tell that a GPU is in use",
  }),
  kernel_log: z
    .object({ readable: z.boolean(), problem: words, overruns: z.int() })
    .nullable()
    .meta({ description: "Where Xid errors are read; null: it is not watched. overruns: how often records were lost" }),
});

export const statusSchema = z
  .object({
    gpus: z.array(gpuSchema),
    simulated: z.boolean(),
    driver_version: words,
    cuda_version: words,
    ...hostDrainSchema.shape,
    monitor,
  })
  .meta({ id: "Status" });

export type StatusAnswer = z.output<typeof statusSchema>;

export const listSchema = z
  .object({
    last_event_id: z.int().meta({
      description: "The last event that this answer has in it: what comes behind it in `/gpu/events` is news",
    }),
    gpus: z.array(gpuSchema),
    simulated: z.boolean(),
    ...hostDrainSchema.shape,
    allocations: z.array(recordSchema).meta({ description: "Offered and leased" }),
    queue: z
      .array(
        z.object({
          id: z.string(),
          service_name: z.string(),
          required_gpus: z.int(),
          min_memory_mb: z.number(),
          priority: z.int(),
          position: z.int(),
          principal: owner.optional(),
          submitted_at: instant,
          deadline,
          reason: z.string(),
          eta,
        }),
      )
      .meta({ description: "In serving order" }),
  })
  .meta({ id: "List" });

export type ListAnswer = z.output<typeof listSchema>;
