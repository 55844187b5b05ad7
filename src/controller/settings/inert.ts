/** What of a controller's file is taken, and has no effect. Pure. */
import type { ControllerFile } from "./schema.ts";

/** Taken, and without effect: what of the first seed's file this version does not act on. */
const INERT: readonly string[] = [
  "scheduler.strategy",
  "scheduler.resourceOvercommitRatio",
  "scheduler.gpuFragmentationThreshold",
  "scheduler.localityPreference",
  "scheduler.modelAffinityWeight",
  "scheduler.latencyOptimization",
  "scheduler.throughputOptimization",
  "scheduler.predictiveScaling",
  "scheduler.qosClasses.*.burstingAllowed",
  "resourceManager.defaultGPURequest",
  "resourceManager.optimizationInterval",
  "resourceManager.resourceUtilizationTarget",
  "resourceManager.overcommitRatio",
  "resourceManager.qosResourceAllocation.*.memoryMultiplier",
  "resourceManager.qosResourceAllocation.*.gpuPriority",
  "resourceManager.qosResourceAllocation.*.burstingAllowed",
  "modelRegistry.storageType",
  "modelRegistry.storagePath",
  "modelRegistry.cacheSize",
  "modelRegistry.cacheEnabled",
  "modelRegistry.autoCleanup",
  "modelRegistry.cleanupInterval",
  "modelRegistry.metricsEnabled",
  "modelRegistry.benchmarkOnRegister",
  "modelRegistry.performanceThreshold",
  "modelRegistry.checksumValidation",
  "modelRegistry.signatureValidation",
  "operator.reconcileInterval",
  "operator.maxConcurrentReconciles",
  "operator.defaultServiceAccount",
  "operator.metricsEnabled",
  "operator.healthCheckEnabled",
  "operator.podSecurityContext",
  "operator.securityContext",
  "metricsEnabled",
  "metricsPort",
  "healthPort",
  "workerThreads",
  "syncInterval",
  "logging.format",
  "logging.output",
  "features",
  "advanced",
  // A workload states both of its own: the first seed's CRD demands them.
  "resourceProfiles.*.cpu",
  "resourceProfiles.*.memory",
  "modelProfiles",
  "deploymentStrategies",
  "disasterRecovery",
];

/** `*` is any name; each path is told once, however many names there are. */
export function inertIn(file: ControllerFile): string[] {
  const { prometheus = {}, ...others } = file.integrations ?? {};
  const unknown = [
    ...Object.keys(others).map((name) => `integrations.${name}`),
    ...Object.keys(prometheus)
      .filter((name) => name !== "enabled" && name !== "endpoint")
      .map((name) => `integrations.prometheus.${name}`),
  ];
  const named = INERT.filter((path) => isGiven(file, path.split(".")));
  return [...named, ...unknown, ...(file.gpu?.mode === "dra" ? ["gpu.mode"] : [])];
}

function isGiven(value: unknown, [key, ...rest]: readonly string[]): boolean {
  if (key === undefined) return value !== undefined;
  if (typeof value !== "object" || value === null) return false;
  const parts = key === "*" ? Object.values(value) : [(value as Readonly<Record<string, unknown>>)[key]];
  return parts.some((part) => isGiven(part, rest));
}
