import { z } from "zod";
import { WORKLOAD_TYPES } from "../../core/model/workload.ts";
import { analysisFields } from "../allocations/analysis.ts";
import { eta, gpuReasons, warnings } from "../allocations/answers.ts";
import { words } from "../fields.ts";

export const workloadAnswerSchema = z
  .object({
    workload_type: z.enum(WORKLOAD_TYPES),
    required_gpus: z.int(),
    min_memory_mb: z.number(),
    priority: z.int(),
    max_utilization: z.number(),
    sources: z
      .object({
        required_gpus: z.string(),
        min_memory_mb: z.string(),
        priority: z.string(),
        max_utilization: z.string(),
      })
      .meta({ description: "Which rule or figure gave each number" }),
    ...analysisFields,
    suggested: z
      .object({ min_memory_mb: z.int(), runs: z.int() })
      .nullable()
      .meta({ description: "By the peaks seen under earlier leases of the same kind, with head-room; null: too few" }),
    workflow: z
      .object({
        id: z.string(),
        known: z.boolean().nullable().meta({ description: "To the graph service; null: it is not asked" }),
        dependencies: z.array(z.object({ id: z.string(), gpus: z.int() })).meta({
          description: "Workflows that it depends on, with the GPUs that leases of theirs which you may see hold now",
        }),
      })
      .nullable()
      .meta({ description: "Of workload_data.workflow_id" }),
    warnings,
    fits: z.boolean().meta({ description: "Whether this host could ever hold it, whatever is free" }),
    missing: words.meta({ description: "What this host lacks" }),
  })
  .meta({ id: "WorkloadAnalysis" });

export type WorkloadAnswer = z.output<typeof workloadAnswerSchema>;

export const planSchema = z
  .object({
    outcome: z.enum(["granted", "queued", "refused"]).meta({ description: "What an allocate would come to now" }),
    code: words.meta({ description: "The problem's code when it would be refused" }),
    reason: words.meta({ description: "Why not now; null when it would be granted" }),
    required_gpus: z.int(),
    min_memory_mb: z.number(),
    priority: z.int(),
    warnings,
    gpu_ids: z.array(z.int()).nullable().meta({ description: "Those that it would be granted" }),
    gpu_uuids: z.array(z.string()).nullable(),
    position: z.int().nullable().meta({ description: "From 1: where it would stand in the queue" }),
    eta,
    gpus: gpuReasons.meta({
      description: "Of each GPU why not; null for one that would do. Empty when it is no matter of now",
    }),
  })
  .meta({ id: "Plan" });

export type PlanAnswer = z.output<typeof planSchema>;
