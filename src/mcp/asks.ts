/** What may be asked for, as `plan` and `allocate` take it. */
import { z } from "zod";
import { parseMemoryMib } from "../client/memory.ts";
import type { AllocateBody } from "../client/types.ts";

export const askFields = {
  service_name: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,128}$/)
    .describe("who it is for, shown to everybody"),
  gpus: z.number().int().min(1).optional().describe("how many; default 1"),
  memory: z.string().optional().describe("of each: 20G (GiB), 20GB (10^9 bytes), or MiB"),
  gpu_model: z.string().optional().describe("part of the product name, such as H100"),
  priority: z.number().int().min(1).max(10).optional().describe("higher is more urgent"),
  ttl: z.string().optional().describe("it ends so long after its grant or its last renewal, such as 10m"),
  max_duration: z.string().optional().describe("its end, whatever is renewed; stated, it may start sooner"),
  preemptible: z.boolean().optional().describe("may be taken back for a more urgent request"),
};

type Ask = z.output<z.ZodObject<typeof askFields>>;

export function bodyOf({
  service_name,
  gpus,
  memory,
  gpu_model,
  priority,
  ttl,
  max_duration,
  preemptible,
}: Ask): AllocateBody {
  return {
    service_name,
    required_gpus: gpus ?? null,
    min_memory_mb: memory === undefined ? null : memoryOf(memory),
    gpu_model: gpu_model ?? null,
    priority: priority ?? null,
    ttl: ttl ?? null,
    max_duration: max_duration ?? null,
    preemptible: preemptible ?? null,
  };
}

function memoryOf(text: string): number {
  const mib = parseMemoryMib(text);
  if (mib === null) throw new Error(`memory ${text}: expected 20G (GiB), 20GB (10^9 bytes) or 20480 (MiB)`);
  return mib;
}
