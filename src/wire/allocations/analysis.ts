/** What the analyzer says of a workload, beside its figures. */
import { z } from "zod";

const kind = z.enum(["explicit", "model", "rule", "observed", "advisor"]);

export const analysisFields = {
  source: z
    .object({ required_gpus: kind, min_memory_mb: kind, priority: kind, max_utilization: kind })
    .meta({ description: "Who gave each number" }),
  memory: z
    .object({
      weights_mb: z.int(),
      gradients_mb: z.int(),
      optimizer_mb: z.int(),
      kv_cache_mb: z.int(),
      activations_mb: z.int(),
      overhead_mb: z.int(),
      total_mb: z.int(),
      per_gpu_mb: z.int(),
    })
    .nullable()
    .meta({
      description: "What the model takes, in MiB over all its GPUs; null when no model is named whose size is known",
    }),
  tensor_parallel: z.int().nullable().meta({ description: "Over how many GPUs a served model's tensors are split" }),
  confidence: z.enum(["high", "medium", "low"]).meta({
    description: "high: stated, seen, or by the figures of a known model; medium: an estimate; low: a rule of thumb",
  }),
  notes: z.array(z.string()).meta({ description: "What was assumed or ignored" }),
};

/** The same in the answer to an allocate that names a model; left out of others. */
export const analysisOfModel = z.object(analysisFields).partial().shape;

/** The fields, as answers are made of them. */
export type AnalysisAnswer = z.output<z.ZodObject<typeof analysisFields>>;
