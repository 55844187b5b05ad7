/**
 * The controller's file: the first seed's `config.yaml`, every key of it known, and `auth`, `api` and `host` beside it.
 *
 * What is read acts, but for what inert.ts names: those keys are taken, so that the file starts the controller
 * unchanged, and have no effect yet.
 */
import { z } from "zod";
import { parseDuration } from "../../core/base/duration.ts";
import { ROLES } from "../../http/exchange/auth.ts";
import { parseCpuMillis, parseMemoryBytes } from "../../work/quantities.ts";
import { trustedKey } from "../objects/model-rules.ts";

const text = z.string().max(4_096);
const anything = z.looseObject({}).optional();
const duration = z.string().transform((given, context) => {
  const ms = parseDuration(given);
  if (ms !== null) return ms;
  context.addIssue({ code: "custom", message: `expected a duration such as 30s or 3m, got ${JSON.stringify(given)}` });
  return z.NEVER;
});
const quantity = (parse: (given: unknown) => number | null, such: string) =>
  z.string().transform((given, context) => {
    const amount = parse(given);
    if (amount !== null) return amount;
    context.addIssue({ code: "custom", message: `expected ${such}, got ${JSON.stringify(given)}` });
    return z.NEVER;
  });
const cpu = quantity(parseCpuMillis, "cores such as 2 or 500m");
const bytes = quantity(parseMemoryBytes, "bytes such as 8Gi");
const port = z.int().min(0).max(65_535);
const flag = z.boolean();

/** Each class of service under its name. */
function classes<T extends z.ZodType>(of: T) {
  return z.strictObject({ premium: of.optional(), standard: of.optional(), basic: of.optional() }).optional();
}

const qosClass = z.strictObject({
  priority: z.int().min(0).max(1_000_000).optional(),
  resourceGuarantee: z.number().gt(0).max(1).optional(),
  maxLatency: z.number().optional(),
  preemptionPolicy: z.enum(["never", "lower-priority", "always"]).optional(),
  burstingAllowed: flag.optional(),
});

const scheduler = z.strictObject({
  strategy: z.enum(["round-robin", "least-loaded", "performance-aware", "cost-optimized"]).optional(),
  resourceOvercommitRatio: z.number().optional(),
  gpuFragmentationThreshold: z.number().optional(),
  localityPreference: flag.optional(),
  modelAffinityWeight: z.number().optional(),
  latencyOptimization: flag.optional(),
  throughputOptimization: flag.optional(),
  scaleUpCooldown: duration.optional(),
  scaleDownCooldown: duration.optional(),
  predictiveScaling: flag.optional(),
  qosClasses: classes(qosClass),
});

const allocation = z.strictObject({
  cpuMultiplier: z.number().gt(0).optional(),
  memoryMultiplier: z.number().gt(0).optional(),
  gpuPriority: z.number().optional(),
  burstingAllowed: flag.optional(),
});

const resourceManager = z.strictObject({
  defaultCPURequest: cpu.optional(),
  defaultMemoryRequest: bytes.optional(),
  defaultGPURequest: z.int().min(0).optional(),
  optimizationInterval: duration.optional(),
  resourceUtilizationTarget: z.number().optional(),
  overcommitRatio: z.number().optional(),
  scaleUpThreshold: z.number().gt(0).max(10).optional(),
  scaleDownThreshold: z.number().gt(0).max(10).optional(),
  scaleUpCooldown: duration.optional(),
  scaleDownCooldown: duration.optional(),
  maxCPUPerWorkload: cpu.optional(),
  maxMemoryPerWorkload: bytes.optional(),
  maxGPUPerWorkload: z.int().min(0).optional(),
  qosResourceAllocation: classes(allocation),
});

/** Not there yet: whatever stands there starts the controller, under a name that is known. */
const inert = z.unknown().optional();

const modelRegistry = z.strictObject({
  storageType: inert,
  storagePath: inert,
  cacheSize: inert,
  cacheEnabled: inert,
  autoCleanup: inert,
  cleanupInterval: inert,
  metricsEnabled: inert,
  benchmarkOnRegister: inert,
  performanceThreshold: inert,
  checksumValidation: inert,
  signatureValidation: inert,
  maxVersions: z.int().min(1).max(1_000).optional(),
  /** Public keys of Ed25519 as PEM, by the `keyId` that signatures name. */
  trustedKeys: z
    .record(
      z.string().min(1).max(253),
      text.transform((pem, context) => {
        try {
          return trustedKey(pem);
        } catch (error) {
          context.addIssue({ code: "custom", message: `expected a public key in PEM: ${(error as Error).message}` });
          return z.NEVER;
        }
      }),
    )
    .optional(),
});

const operator = z.strictObject({
  reconcileInterval: duration.optional(),
  maxConcurrentReconciles: z.int().optional(),
  defaultNamespace: text.optional(),
  defaultImage: text.optional(),
  defaultServiceAccount: text.optional(),
  defaultCPURequest: cpu.optional(),
  defaultMemoryRequest: bytes.optional(),
  defaultCPULimit: cpu.optional(),
  defaultMemoryLimit: bytes.optional(),
  metricsEnabled: flag.optional(),
  healthCheckEnabled: flag.optional(),
  podSecurityContext: anything,
  securityContext: anything,
});

const profile = z.strictObject({
  cpu: cpu.optional(),
  memory: bytes.optional(),
  gpu: z.int().min(0).optional(),
  maxReplicas: z.int().min(1).optional(),
});

const keyHolder = z.strictObject({
  principal: z.string().min(1).max(128),
  role: z.enum(ROLES).default("allocate"),
  /** Whose deployments it may see and change; absent: everybody's. */
  tenants: z.array(z.string().min(1).max(63)).max(1_000).optional(),
});

export const fileSchema = z.strictObject({
  kubeConfig: text.optional(),
  namespace: text.optional(),
  scheduler: scheduler.optional(),
  resourceManager: resourceManager.optional(),
  modelRegistry: modelRegistry.optional(),
  operator: operator.optional(),
  metricsEnabled: flag.optional(),
  metricsPort: port.optional(),
  healthPort: port.optional(),
  workerThreads: z.int().optional(),
  syncInterval: duration.optional(),
  leaderElection: flag.optional(),
  leaderLockName: text.optional(),
  tlsEnabled: flag.optional(),
  certFile: text.optional(),
  keyFile: text.optional(),
  logging: z
    .strictObject({
      level: z.enum(["debug", "info", "warn", "error"]).optional(),
      format: text.optional(),
      output: text.optional(),
    })
    .optional(),
  features: anything,
  advanced: anything,
  // Most of it is inert, and was all once: what is not known here stops nobody's start.
  integrations: z
    .looseObject({
      /** DCGM's figures are read there. How often is fixed. */
      prometheus: z
        .looseObject({
          enabled: flag.optional(),
          endpoint: text.regex(/^[^\s?#]*$/, "expected an address such as http://prometheus:9090").optional(),
        })
        .optional(),
    })
    .optional(),
  resourceProfiles: z.record(z.string().max(63), profile).optional(),
  modelProfiles: anything,
  deploymentStrategies: anything,
  disasterRecovery: anything,
  auth: z
    .strictObject({
      enabled: flag.default(true),
      header_name: z.string().max(128).default("X-API-Key"),
      api_keys: z.record(z.string().min(1).max(512), keyHolder).default({}),
    })
    .optional(),
  /** By tenant; `*`: each that is not named. */
  tenants: z.record(z.string().min(1).max(63), z.strictObject({ max_gpus: z.int().min(0).max(1_000_000) })).optional(),
  api: z.strictObject({ host: text.default("127.0.0.1"), port: port.default(8003) }).optional(),
  host: z
    .strictObject({
      /** Of the daemon whose leases replicas run on. */
      url: text.optional(),
      key_file: text.optional(),
      executor: text.default("vllm"),
      /** Of callers' tokens: what `work.secret_folders` of the daemon has for this controller's key. */
      secrets_dir: text.optional(),
    })
    .optional(),
  kubernetes: z
    .strictObject({
      /** Each workload gets a route of it, below /NAMESPACE/NAME. */
      gateway: z.strictObject({ namespace: text, name: text }).optional(),
    })
    .optional(),
  /** How pods ask for GPUs; `dra` has no effect yet: they ask the device plug-in. */
  gpu: z.strictObject({ mode: z.enum(["device-plugin", "dra"]).optional() }).optional(),
  database: text.optional(),
});
export type ControllerFile = z.output<typeof fileSchema>;
