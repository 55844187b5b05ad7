import { z } from "zod";
import { figure, instant, mib, words } from "../fields.ts";
import { ailmentOfHeld, gpuState } from "../gpus/answers.ts";

export const probeFailure = z.object({ kind: z.string(), message: z.string() }).nullable();

const condition = { state: gpuState, reason: words, since: instant.nullable(), ailment: ailmentOfHeld };

const instanceNow = z.object({
  gpu_instance_id: z.int(),
  compute_instance_id: z.int(),
  ...condition,
  memory_used: mib,
});

const gpuNow = z.object({
  uuid: z.string(),
  ...condition,
  mig_devices: z.array(instanceNow).meta({ description: "In the order of their ids, as in `/gpu/list`" }),
  pids: z.array(z.int()).meta({ description: "Of the processes on it and on its instances: `/gpu/list` says whose" }),
  memory_used: mib,
  memory_free: mib,
  utilization: figure,
  temperature: figure,
  power_draw: figure,
  last_updated: instant.nullable(),
});

export const readingSchema = z
  .object({
    at: instant,
    driver_version: words,
    cuda_version: words,
    storage_healthy: z.boolean().meta({ description: "false: the database takes no changes, and nothing is granted" }),
    monitor: z.object({
      healthy: z.boolean(),
      last_reading_at: instant.nullable(),
      failure: probeFailure,
      warnings: z.array(z.string()),
    }),
    gpus: z.array(gpuNow),
  })
  .meta({ id: "Reading", description: "The figures of all GPUs, and the states that they are in" });

export type ReadingAnswer = z.output<typeof readingSchema>;

/** One message of the stream, by its fields. */
export const readingMessageSchema = z
  .object({ event: z.literal("reading"), data: readingSchema.meta({ description: "As JSON text" }) })
  .meta({ id: "ReadingMessage" });
