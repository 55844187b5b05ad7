/**
 * `LLMWorkload`: one model, served by replicas. Every field of the first seed's CRD keeps its name, type and enum; the
 * CRD that `crds` prints is made from these schemas (kubernetes/crds.ts), so the two cannot differ.
 */
import { z } from "zod";
import type { Metadata } from "./meta.ts";

const CPU = /^\d{1,9}(\.\d{1,9})?m?$/;
const BYTES = /^\d{1,16}(\.\d{1,9})?([kKMGTP]i?)?$/;
/** As Go writes it, since the first seed's samples do: `500ms`, `10m`, `1h30m`. */
const DURATION = /^(\d{1,9}(\.\d{1,9})?(ms|s|m|h))+$/;

const text = (most: number) => z.string().max(most);
const cpu = z.string().regex(CPU, "expected cores such as 2 or 500m");
const bytes = z.string().regex(BYTES, "expected bytes such as 8Gi");
const duration = z.string().max(32).regex(DURATION, "expected a duration such as 500ms or 10m");
const count = z.int().min(0).max(10_000);

const resources = z.strictObject({
  cpu: cpu.describe("Of each replica"),
  memory: bytes.describe("Of each replica"),
  gpu: z
    .string()
    .regex(/^\d{1,3}$/, "expected a whole number, in quotes")
    .optional()
    .describe("GPUs of each replica; absent: as the model needs"),
  gpuType: text(253)
    .optional()
    .describe("Part of the product's name; with a / an extended resource such as nvidia.com/mig-1g.10gb"),
  storage: bytes.optional(),
  networkBandwidth: text(64).optional(),
});

const METRICS = ["cpu", "memory", "requests_per_second", "queue_length", "latency", "gpu_utilization", "kv_cache"];
export type MetricName =
  | "cpu"
  | "memory"
  | "requests_per_second"
  | "queue_length"
  | "latency"
  | "gpu_utilization"
  | "kv_cache";

const pace = z
  .strictObject({
    stabilizationWindowSeconds: z.int().min(0).max(3_600).optional(),
    maxChangePercent: z.int().min(1).max(10_000).optional(),
    maxChangePods: z.int().min(1).max(10_000).optional(),
  })
  .optional();

const scaling = z
  .strictObject({
    minReplicas: z.int().min(1).max(10_000),
    maxReplicas: z.int().min(1).max(10_000),
    targetMetrics: z
      .array(z.strictObject({ type: z.enum(METRICS as [MetricName, ...MetricName[]]), target: z.number() }))
      .max(16)
      .optional(),
    strategy: z.enum(["horizontal", "vertical", "hybrid"]).default("horizontal"),
    scalingBehavior: z.strictObject({ scaleUp: pace, scaleDown: pace }).optional(),
  })
  .meta({
    "x-kubernetes-validations": [
      { rule: "self.minReplicas <= self.maxReplicas", message: "minReplicas must not be above maxReplicas" },
    ],
  });

const performance = z.strictObject({
  maxLatency: duration.optional(),
  minThroughput: z.number().optional(),
  maxTokensPerSec: z.int().optional(),
  batchSize: z.int().optional(),
  concurrentUsers: z.int().optional(),
  slaRequirements: z
    .strictObject({
      availability: z.number().min(0).max(100).optional(),
      responseTimeP95: z.int().optional(),
      responseTimeP99: z.int().optional(),
      errorRate: z.number().min(0).max(1).optional(),
    })
    .optional(),
});

const names = z.array(text(253)).max(64).optional();

const security = z.strictObject({
  encryption: z.boolean().default(true),
  accessControl: names,
  networkPolicies: names,
  secretRefs: names,
  complianceLevel: z.enum(["basic", "strict", "enterprise"]).default("basic"),
  dataClassification: z.enum(["public", "internal", "confidential"]).default("internal"),
});

const deploymentStrategy = z.strictObject({
  type: z.enum(["rolling", "canary", "blueGreen", "recreate"]),
  canary: z
    .strictObject({
      trafficSplit: z.int().min(1).max(99).optional(),
      duration: duration.optional(),
      successThreshold: z.number().min(0).max(1).optional(),
      minRequests: z.int().min(1).optional(),
      autoPromote: z.boolean().optional(),
    })
    .optional(),
  blueGreen: z
    .strictObject({ switchDelay: duration.optional(), rollbackThreshold: z.number().min(0).max(1).optional() })
    .optional(),
  allowDowntime: z
    .boolean()
    .optional()
    .describe("A lone replica without a spare GPU is replaced; absent: but for premium"),
});

const engine = z.strictObject({
  type: z.enum(["vllm", "custom"]).optional(),
  image: text(512).optional(),
  model: text(512).optional().describe("What the engine loads: a hub id, or a path in its container"),
  config: z.looseObject({}).optional().describe("vLLM's settings, by their names with _: max_model_len, dtype"),
  args: z.array(text(4_096)).max(128).optional(),
  env: z.record(text(128), text(32_768)).optional(),
});

export const workloadSpecSchema = z
  .strictObject({
    modelName: text(256).min(1).describe("Name of the model; it cannot be changed"),
    modelVersion: text(256).min(1),
    modelSize: z.enum(["small", "medium", "large", "xlarge"]).optional(),
    modelType: z.enum(["text-generation", "embedding", "classification"]),
    parameters: z.record(z.string(), z.string()).optional(),
    resources,
    scaling,
    performance,
    security: security.optional(),
    replicas: count.optional().describe("As many, whatever is measured; absent: between minReplicas and maxReplicas"),
    qosClass: z.enum(["premium", "standard", "basic"]).optional(),
    resourceProfile: text(63).optional(),
    tenant: text(63).optional(),
    paused: z.boolean().optional().describe("Nothing is made or changed while it is true"),
    placement: z
      .strictObject({
        clusters: z.array(text(253)).max(100).optional(),
        strategy: z.enum(["round-robin", "least-loaded", "performance-aware", "cost-optimized"]).optional(),
      })
      .optional(),
    deploymentStrategy: deploymentStrategy.optional(),
    engine: engine.optional(),
  })
  .meta({
    "x-kubernetes-validations": [
      { rule: "self.modelName == oldSelf.modelName", message: "modelName cannot change; make a new workload" },
    ],
  });
export type WorkloadSpec = z.output<typeof workloadSpecSchema>;

const CONDITIONS = [
  "Accepted",
  "Schedulable",
  "Progressing",
  "Ready",
  "Stuck",
  "ScalingActive",
  "SecurityApplied",
  "Drifted",
] as const;
export type ConditionType = (typeof CONDITIONS)[number];

const condition = z.strictObject({
  type: z.string(),
  status: z.enum(["True", "False", "Unknown"]),
  lastTransitionTime: z.iso.datetime(),
  reason: z.string().optional(),
  message: z.string().optional(),
  observedGeneration: z.int().optional(),
});
export type Condition = z.output<typeof condition>;

export const STATES = [
  "pending",
  "creating",
  "running",
  "scaling",
  "updating",
  "error",
  "failed",
  "terminating",
  "terminated",
] as const;
export type State = (typeof STATES)[number];

export const conditionsSchema = z
  .array(condition)
  .max(32)
  .meta({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"] });

const figure = z.number().optional();

export const workloadStatusSchema = z.strictObject({
  phase: z.enum(["Pending", "Running", "Failed", "Succeeded"]).optional(),
  state: z.enum(STATES).optional(),
  observedGeneration: z.int().optional(),
  conditions: conditionsSchema.optional(),
  desiredReplicas: z.int().optional(),
  currentReplicas: z.int().optional(),
  readyReplicas: z.int().optional(),
  availableReplicas: z.int().optional(),
  updatedReplicas: z.int().optional(),
  selector: z.string().optional(),
  qosClass: z.string().optional(),
  lastScaleTime: z.iso.datetime().optional(),
  currentMetrics: z.record(z.string(), z.number()).optional(),
  resourceUsage: z
    .strictObject({
      cpu: figure.describe("Cores, of all replicas"),
      memory: figure.describe("Bytes, of all replicas"),
      gpu: figure.describe("Percent of the time that their GPUs are busy"),
      network: figure,
      storage: figure,
    })
    .optional(),
  performanceMetrics: z
    .strictObject({
      requestsPerSecond: figure,
      averageLatency: z.string().optional(),
      p95Latency: z.string().optional(),
      p99Latency: z.string().optional(),
      tokensPerSecond: figure,
      errorRate: figure,
      queueLength: z.int().optional(),
      activeConnections: z.int().optional(),
      throughputMBps: figure,
      modelAccuracy: figure,
      lastUpdated: z.iso.datetime().optional(),
    })
    .optional(),
  endpoints: z.array(z.string()).optional(),
  plan: z
    .strictObject({
      gpus: z.int(),
      product: z.string().optional(),
      memoryMiB: z.int().optional(),
      flags: z.array(z.string()),
      why: z.array(z.string()),
    })
    .optional(),
  revision: z.strictObject({ stable: z.string().optional(), canary: z.string().optional() }).optional(),
  queue: z
    .strictObject({ position: z.int().optional(), reason: z.string().optional(), eta: z.string().optional() })
    .optional(),
});
export type WorkloadStatus = z.output<typeof workloadStatusSchema>;

export interface Workload {
  readonly metadata: Metadata;
  readonly spec: WorkloadSpec;
  readonly status: WorkloadStatus;
}
