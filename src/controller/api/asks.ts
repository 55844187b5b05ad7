/** What the second seed's clients send. */
import { z } from "zod";

/** The second seed's clients send null for what they do not state. */
export function withoutNulls(body: unknown): unknown {
  if (typeof body !== "object" || body === null || Array.isArray(body)) return body;
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null));
}

const text = z.string().min(1).max(512);
const count = (most: number) => z.int().min(0).max(most);
const words = z.record(z.string().max(317), z.string().max(32_768));
const cpu = z.union([z.string().max(32), z.number()]).meta({ description: "Cores: 2, or 500m" });
const memory = z.union([z.string().max(32), z.number()]).meta({ description: "Such as 8Gi; a number is GiB" });

const replaceable = {
  replicas: count(10_000).optional(),
  min_replicas: count(10_000).optional(),
  max_replicas: count(10_000).optional(),
  target_gpu_utilization: z.number().gt(0).max(100).optional(),
  gpu_per_replica: count(64).optional(),
  cpu_request: cpu.optional(),
  cpu_limit: cpu.optional(),
  memory_request: memory.optional(),
  memory_limit: memory.optional(),
  model_params: z.looseObject({}).optional(),
  vllm_config: z.looseObject({}).optional(),
  environment_vars: words.optional(),
  labels: words.optional(),
  annotations: words.optional(),
  qos_class: z.enum(["premium", "standard", "basic"]).optional(),
};

/** What the second seed's model registry tells of a model beside all that. */
const noEffect = { description: "Taken, and without effect" };
const described = {
  model_metadata: z.looseObject({}).optional().meta(noEffect),
  model_capabilities: z.array(z.string().max(256)).max(256).optional().meta(noEffect),
  model_type: z.string().max(256).optional().meta(noEffect),
  model_family: z.string().max(256).optional().meta(noEffect),
  model_size: z.string().max(256).optional().meta(noEffect),
  model_pricing: z.looseObject({}).optional().meta(noEffect),
};

export const createSchema = z
  .strictObject({
    tenant_id: text.optional().meta({ description: "Else X-Tenant-ID, else the key's only tenant" }),
    model_id: text,
    model_name: text,
    model_path: text.optional().meta({ description: "A hub id, or a path where the engine runs" }),
    gpu_type: z.string().max(253).optional(),
    gpu_count: count(64).optional().meta({ description: "The same as gpu_per_replica" }),
    huggingface_token: z.string().max(512).optional().meta({
      description:
        "Kept in a Secret of the deployment; on one host in a folder of its own, if host.secrets_dir names one",
    }),
    model_requirements: z
      .looseObject({
        gpu_count: count(64).nullish(),
        cpu_cores: z.number().gt(0).nullish(),
        memory_gb: z.number().gt(0).nullish(),
      })
      .optional()
      .meta({ description: "Of a replica, where nothing else says it; other fields are taken, and without effect" }),
    model_version: z.string().max(128).optional().meta({ description: "Else model_params.version, else latest" }),
    ...described,
    ...replaceable,
  })
  .meta({ id: "DeploymentAsk", description: "A field that is null is taken as absent" });
export type CreateAsk = z.output<typeof createSchema>;

export const updateSchema = z
  .strictObject(replaceable)
  .meta({ id: "DeploymentChange", description: "A field that is null is taken as absent" });
export type UpdateAsk = z.output<typeof updateSchema>;

export const scaleSchema = z
  .strictObject({
    replicas: count(10_000).nullable().meta({ description: "null: between its bounds, by what is measured" }),
    reason: z.string().max(1_024).optional(),
    deployment_id: text.optional(),
  })
  .meta({ id: "ScaleAsk" });

export const drainSchema = z
  .strictObject({
    grace_period: z.int().min(0).max(86_400).optional(),
    deadline: z.int().min(0).max(604_800).optional().meta({ description: "Seconds; default: the grace period" }),
    force: z.boolean().optional(),
    reason: z.string().max(256).optional(),
  })
  .meta({ id: "DrainAsk" });

export const undoSchema = z
  .strictObject({
    to_revision: z.int().min(1).optional().meta({ description: "Its number; default: what it was before this one" }),
  })
  .meta({ id: "UndoAsk" });
