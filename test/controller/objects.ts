/** Workloads, nodes and settings as the tests of the controller need them. */
import type { Model, ModelSpec } from "../../src/controller/objects/model.ts";
import type { Workload, WorkloadSpec } from "../../src/controller/objects/workload.ts";
import type { Look } from "../../src/controller/reconcile/backend.ts";
import { type Memory, NO_MEMORIES, type Outcome, reconcile } from "../../src/controller/reconcile/reconcile.ts";
import type { NodeSeen, ReplicaSeen, Seen, TrackSeen } from "../../src/controller/reconcile/seen.ts";
import type { ReconcileSettings } from "../../src/controller/reconcile/settings.ts";
import type { PodSettings } from "../../src/controller/settings/seed-environment.ts";

export const NOW = 1_800_000_000_000;

export const SETTINGS: ReconcileSettings = {
  qos: {
    premium: { priority: 100, resourceGuarantee: 0.9, cpuMultiplier: 2, isPreemptible: false, maxLatencyMs: 100 },
    standard: { priority: 50, resourceGuarantee: 0.7, cpuMultiplier: 1, isPreemptible: true, maxLatencyMs: 500 },
    basic: {
      priority: 10,
      resourceGuarantee: 0.5,
      cpuMultiplier: 0.5,
      isPreemptible: true,
      maxLatencyMs: Number.POSITIVE_INFINITY,
    },
  },
  profiles: {},
  maxCpuMillis: 64_000,
  maxMemoryBytes: 2 ** 40,
  maxGpus: 8,
  image: "vllm/vllm-openai:latest",
  scaleUpCooldownMs: 180_000,
  scaleDownCooldownMs: 600_000,
  gpuMemoryMib: null,
  maxVersions: 10,
  progressDeadlineMs: 600_000,
  anewMs: 60_000,
  leastStartMs: 600_000,
  vllmPort: 8_000,
  tenantGpus: new Map(),
  trustedKeys: new Map(),
  cpuBand: { above: 80, below: 30 },
};

/** As they are where the environment says nothing. */
export const PODS: PodSettings = {
  runtimeClass: "nvidia",
  serviceType: "ClusterIP",
  externalHost: null,
  storage: null,
};

export function spec(change: Partial<WorkloadSpec> = {}): WorkloadSpec {
  return {
    modelName: "llama2",
    modelVersion: "7b",
    modelType: "text-generation",
    resources: { cpu: "2", memory: "8Gi", gpu: "1" },
    scaling: { minReplicas: 1, maxReplicas: 5, strategy: "horizontal" },
    performance: {},
    ...change,
  };
}

export function workload(change: Partial<WorkloadSpec> = {}, more: Partial<Workload> = {}): Workload {
  return {
    metadata: {
      name: "chat",
      namespace: "default",
      uid: "uid-1",
      generation: 1,
      resourceVersion: "1",
      labels: {},
      annotations: {},
      creationTimestamp: new Date(NOW).toISOString(),
      deletionTimestamp: null,
    },
    spec: spec(change),
    status: {},
    ...more,
  };
}

/** Of the version that {@link spec} asks for. */
export function model(change: object = {}, name = "llama2-7b", createdAt = NOW): Model {
  const creationTimestamp = new Date(createdAt).toISOString();
  return {
    metadata: { ...workload().metadata, name, namespace: "", uid: name, creationTimestamp },
    spec: { name: "llama2", version: "7b", type: "text-generation", framework: "pytorch", ...change } as ModelSpec,
    status: {},
  };
}

export function node(change: Partial<NodeSeen> = {}): NodeSeen {
  return {
    name: "node-a",
    product: "NVIDIA H100 80GB HBM3",
    gpuMemoryMib: 81_559,
    gpus: 8,
    usedGpus: 0,
    ready: true,
    schedulable: true,
    draining: false,
    isEmpty: true,
    ...change,
  };
}

export function replica(name: string, phase: ReplicaSeen["phase"], change: Partial<ReplicaSeen> = {}): ReplicaSeen {
  return {
    name,
    phase,
    node: phase === "waiting" ? null : "node-a",
    url: phase === "ready" ? `http://127.0.0.1:1/${name}` : null,
    gpus: 1,
    restarts: 0,
    trouble: null,
    waiting: phase === "waiting" ? { reason: "no-gpu-free", position: 1, eta: null } : null,
    ...change,
  };
}

export function track(revision: string, phases: readonly ReplicaSeen["phase"][]): TrackSeen {
  return {
    revision,
    wanted: phases.length,
    replicas: phases.map((phase, index) => replica(`${revision}-${index}`, phase)),
  };
}

export function seen(tracks: readonly TrackSeen[] = [], change: Partial<Seen> = {}): Seen {
  return {
    tracks,
    nodes: [node()],
    models: [],
    load: [],
    service: null,
    external: null,
    isolates: false,
    groups: "never",
    tenantGpus: null,
    now: NOW,
    ...change,
  };
}

/** What a backend shows that has nothing yet. */
export function lookOf(change: Partial<Look> = {}): Look {
  return {
    nodes: [],
    tracksOf: () => [],
    loadOf: () => [],
    serviceOf: () => null,
    isolates: false,
    groups: "never",
    ...change,
  };
}

export function look(of: Workload, at: Seen = seen(), memory: Memory = NO_MEMORIES): Outcome {
  return reconcile(of, at, memory, SETTINGS);
}

export function condition({ status }: Outcome, type: string) {
  return status.conditions?.find((one) => one.type === type);
}
