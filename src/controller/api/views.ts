/** Workloads as the second seed's clients know them: its field names, and figures only where somebody measured them. */

import { conditionOf } from "../objects/conditions.ts";
import { legibleSpec } from "../objects/legible.ts";
import { API_VERSION, tenantOf } from "../objects/meta.ts";
import { modelIdOf } from "../objects/model-id.ts";
import { shownConfig } from "../objects/secrets.ts";
import type { Workload } from "../objects/workload.ts";
import type { Inventory } from "../reconcile/inventory.ts";
import type { NodeSeen, TrackSeen } from "../reconcile/seen.ts";
import { annotationsOf } from "../store/projection.ts";

const GIB = 2 ** 30;

export function deploymentView(workload: Workload) {
  const { metadata, status } = workload;
  const spec = legibleSpec(workload.spec);
  const desired = status.desiredReplicas ?? spec.replicas ?? spec.scaling.minReplicas;
  const gpus = status.plan?.gpus ?? Number(spec.resources.gpu ?? 1);
  const ready = conditionOf(status.conditions, "Ready");
  return {
    deployment_id: metadata.name,
    deployment_name: metadata.name,
    tenant_id: tenantOf(metadata),
    model_id: modelIdOf(workload),
    model_name: spec.modelName,
    status: status.state ?? "pending",
    replicas: desired,
    ready_replicas: status.readyReplicas ?? 0,
    available_replicas: status.availableReplicas ?? 0,
    desired_replicas: desired,
    current_replicas: status.currentReplicas ?? 0,
    gpu_per_replica: gpus,
    total_gpus: gpus * desired,
    internal_endpoint: status.endpoints?.[0] ?? null,
    external_endpoint: externalOf(workload),
    created_at: metadata.creationTimestamp,
    updated_at: ready?.lastTransitionTime ?? metadata.creationTimestamp,
    deployed_at: ready?.status === "True" ? ready.lastTransitionTime : null,
    vllm_config: shownConfig(spec.engine?.config ?? {}),
    message: messageOf(workload),
  };
}

/** Of a cluster: the second of its endpoints. On one host each replica has one of its own, and none is reached from outside. */
export function externalOf({ status: { endpoints: [first, second] = [] } }: Workload): string | null {
  return first?.endsWith(".svc") === true ? (second ?? null) : null;
}

/** What stands in its way, in one line; else what it is. */
function messageOf({ status }: Workload): string {
  const conditions = status.conditions ?? [];
  const bad =
    conditions.find(({ type, status: holds }) => type === "Accepted" && holds === "False") ??
    conditions.find(({ type, status: holds }) => type === "Stuck" && holds === "True") ??
    conditions.find(({ type, status: holds }) => type === "Schedulable" && holds === "False") ??
    // What the backend does not take it never will: no replica comes of waiting.
    conditions.find(({ reason }) => reason === "BackendRefused");
  const told = bad ?? conditionOf(conditions, "Ready");
  return told === undefined ? "accepted" : `${told.reason}: ${told.message ?? ""}`.replace(/: $/, "");
}

export function statusView(workload: Workload, tracks: readonly TrackSeen[]) {
  const view = deploymentView(workload);
  const { deployment_id, status, replicas, ready_replicas, available_replicas, desired_replicas } = view;
  return {
    deployment_id,
    status,
    replicas,
    ready_replicas,
    available_replicas,
    desired_replicas,
    current_replicas: view.current_replicas,
    pods: tracks.flatMap((track) =>
      track.replicas.map((replica) => ({
        name: replica.name,
        node: replica.node,
        status: PODS[replica.phase],
        ready: replica.phase === "ready",
        gpu_count: replica.gpus,
        pod_ip: replica.url === null ? null : new URL(replica.url).hostname,
        restart_count: replica.restarts,
        revision: track.revision,
      })),
    ),
    conditions: workload.status.conditions ?? [],
    message: view.message,
    last_updated: view.updated_at,
  };
}

const PODS = {
  waiting: "pending",
  starting: "pending",
  ready: "running",
  unready: "running",
  stopping: "terminated",
  failed: "failed",
} as const;

/** With the second seed's columns. What nobody says is null. */
export function nodeView(node: NodeSeen, { nodes, pods }: Inventory) {
  const facts = nodes.find(({ name }) => name === node.name);
  const gib = (bytes: number | null | undefined) => (bytes == null ? null : Math.floor(bytes / GIB));
  const names = pods.filter((pod) => pod.node !== null && pod.node === facts?.id).map(({ name }) => name);
  return {
    node_id: node.name,
    node_name: node.name,
    node_ip: facts?.ip ?? null,
    gpu_type: node.product,
    gpu_count: node.gpus,
    gpu_memory_gb: node.gpuMemoryMib === null ? null : Math.round(node.gpuMemoryMib / 1_024),
    cpu_cores: facts?.cpuCores ?? null,
    memory_gb: gib(facts?.memoryBytes),
    storage_gb: gib(facts?.storageBytes),
    gpus_allocated: node.usedGpus,
    gpus_available: node.gpus - node.usedGpus,
    cpu_allocated: facts?.usedCpuCores ?? null,
    memory_allocated_gb: facts?.usedMemoryBytes == null ? null : facts.usedMemoryBytes / GIB,
    status: nodeStatus(node),
    is_schedulable: node.schedulable,
    labels: facts?.labels ?? {},
    annotations: facts === undefined ? {} : annotationsOf(facts),
    pod_count: names.length,
    pods: names,
    created_at: facts?.createdAt ?? null,
    // It is as it was told then.
    updated_at: facts?.heartbeatAt ?? facts?.createdAt ?? null,
    last_heartbeat: facts?.heartbeatAt ?? null,
  };
}

/** The second seed's words: one that was only cordoned keeps what it has. */
function nodeStatus({ ready, schedulable, draining, isEmpty }: NodeSeen): string {
  if (!ready) return "not_ready";
  if (schedulable) return "ready";
  return draining ? (isEmpty ? "drained" : "draining") : "maintenance";
}

export function resourcesView(nodes: readonly NodeSeen[]) {
  const open = nodes.filter(({ ready, schedulable }) => ready && schedulable);
  const sum = (of: (node: NodeSeen) => number, over = nodes) => over.reduce((total, node) => total + of(node), 0);
  // What fits is what one node has: a replica does not span nodes.
  const most = Math.max(0, ...open.map(({ gpus, usedGpus }) => gpus - usedGpus));
  return {
    total_gpus: sum(({ gpus }) => gpus),
    available_gpus: sum(({ gpus, usedGpus }) => gpus - usedGpus, open),
    allocated_gpus: sum(({ usedGpus }) => usedGpus),
    total_nodes: nodes.length,
    ready_nodes: nodes.filter(({ ready }) => ready).length,
    nodes: nodes.map((node) => ({
      node_id: node.name,
      node_name: node.name,
      gpu_type: node.product,
      total_gpus: node.gpus,
      allocated_gpus: node.usedGpus,
      available_gpus: node.gpus - node.usedGpus,
      status: nodeStatus(node),
      is_schedulable: node.schedulable,
    })),
    can_schedule: most > 0,
    max_deployable_gpus: most,
  };
}

/** As Kubernetes writes it. */
export function objectView({ metadata, spec, status }: Workload) {
  const { deletionTimestamp, ...rest } = metadata;
  return {
    apiVersion: API_VERSION,
    kind: "LLMWorkload",
    metadata: deletionTimestamp === null ? rest : { ...rest, deletionTimestamp },
    spec,
    status,
  };
}
