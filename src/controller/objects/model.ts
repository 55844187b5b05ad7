/** `LLMModel`: one name and version of a model, cluster-scoped. */
import { z } from "zod";
import type { Metadata } from "./meta.ts";
import { conditionsSchema } from "./workload.ts";

const text = z.string();
const need = z.strictObject({ cpu: text.optional(), memory: text.optional(), gpu: z.int().optional() }).optional();

export const modelSpecSchema = z.strictObject({
  name: text,
  version: text,
  description: text.optional(),
  author: text.optional(),
  license: text.optional(),
  type: z.enum(["text-generation", "embedding", "classification"]),
  architecture: text.optional(),
  framework: z.enum(["pytorch", "tensorflow", "onnx"]),
  size: z
    .strictObject({
      category: z.enum(["small", "medium", "large", "xlarge"]).optional(),
      parameters: z.int().optional(),
      sizeBytes: z.int().optional(),
      quantization: text.optional(),
    })
    .optional(),
  capabilities: z.array(text).optional(),
  languages: z.array(text).optional(),
  inputFormat: text.optional(),
  outputFormat: text.optional(),
  maxTokens: z.int().optional(),
  contextLength: z.int().optional(),
  vocabulary: z.int().optional(),
  minResources: need,
  recommendedResources: need,
  files: z
    .array(
      z.strictObject({
        name: text.optional(),
        path: text.optional(),
        size: z.int().optional(),
        checksum: text.optional(),
        type: text.optional(),
      }),
    )
    .optional(),
  tags: z.array(text).optional(),
  labels: z.record(text, text).optional(),
  source: z
    .strictObject({ type: z.enum(["registry", "hub", "s3", "pvc"]), uri: z.string().max(2_048) })
    .optional()
    .describe("Where its files are; only hub is read by this version"),
  signature: z
    .strictObject({ keyId: z.string().min(1).max(253), value: z.string().min(1).max(512) })
    .optional()
    .describe("Ed25519, in base64, over the canonical JSON of the paths, sizes and checksums of files"),
  access: z
    .strictObject({
      public: z.boolean().optional(),
      tenants: z.array(z.string().min(1).max(63)).max(1_000).optional(),
    })
    .optional()
    .describe("Whose workloads may use it: everybody's, or those of tenants; absent: everybody's"),
});
export type ModelSpec = z.output<typeof modelSpecSchema>;

export const modelStatusSchema = z.strictObject({
  phase: z.enum(["Registering", "Available", "Deprecated", "Archived", "Failed"]).optional(),
  observedGeneration: z.int().optional(),
  conditions: conditionsSchema.optional(),
  totalSize: z.int().optional(),
  checksum: text.optional(),
  deployments: z.array(z.looseObject({})).optional(),
  usageStats: z.looseObject({}).optional(),
  benchmarks: z.looseObject({}).optional(),
});

export type ModelStatus = z.output<typeof modelStatusSchema>;

export interface Model {
  readonly metadata: Metadata;
  /** As it stands: of a server with an older CRD it may break the schema, which {@link readModel} tells. */
  readonly spec: ModelSpec;
  readonly status: ModelStatus;
}
