/**
 * Workloads, nodes and pods as rows of the second seed's tables. Pure.
 *
 *  1. A figure that nobody measured is null, and so is what a backend does not say.
 *  2. What is secret by its name is left out (objects/secrets.ts). So is kubectl's copy of the whole object.
 *  3. What a column cannot take is not in its row: a workload that was not accepted says what it likes.
 */
import { parseCpuMillis, parseMemoryBytes } from "../../work/quantities.ts";
import { conditionOf } from "../objects/conditions.ts";
import { legibleSpec } from "../objects/legible.ts";
import { keyOf, tenantOf } from "../objects/meta.ts";
import { modelIdOf } from "../objects/model-id.ts";
import { shownEnv, shownSpec } from "../objects/secrets.ts";
import type { Workload } from "../objects/workload.ts";
import type { Look } from "../reconcile/backend.ts";
import type { Inventory, NodeFacts, PodFacts } from "../reconcile/inventory.ts";
import type { ReplicaSeen } from "../reconcile/seen.ts";
import type { Value } from "./database.ts";
import { TABLES } from "./schema.ts";

/** Several clusters have names; the one that the controller is of is this. */
export const OWN_CLUSTER = "local";
const KUBECTLS_COPY = "kubectl.kubernetes.io/last-applied-configuration";
const GIB = 2 ** 30;
const MAX_INTEGER = 2 ** 31 - 1;
const COLUMNS = new Map(TABLES.map(({ name, columns }) => [name, columns]));

export type RowValues = Readonly<Record<string, Value>>;

export interface Projection {
  readonly nodes: readonly RowValues[];
  readonly deployments: readonly RowValues[];
  readonly pods: readonly RowValues[];
}

export function projectionOf(workloads: readonly Workload[], { nodes, pods }: Inventory): Projection {
  const nodeIds = new Set(nodes.map(({ id }) => id));
  const byKey = new Map(workloads.map((workload) => [keyOf(workload.metadata), workload]));
  const ids = deploymentIds(workloads);
  return {
    nodes: nodes.map(nodeRow),
    deployments: workloads.map((one) => deploymentRow(one, ids.get(keyOf(one.metadata)))),
    pods: pods.flatMap((pod) => {
      const workload = byKey.get(pod.workload);
      // One whose node or workload is not known any more has nothing to refer to.
      if (workload === undefined) return [];
      const node = pod.node !== null && nodeIds.has(pod.node) ? pod.node : null;
      return [podRow({ ...pod, node }, workload, ids.get(pod.workload) ?? workload.metadata.name)];
    }),
  };
}

/** By key. A deployment's id is its name; of two of one name, in two namespaces, the older one has it alone. */
function deploymentIds(workloads: readonly Workload[]): ReadonlyMap<string, string> {
  const age = ({ metadata }: Workload) => `${metadata.creationTimestamp} ${keyOf(metadata)}`;
  const taken = new Set<string>();
  const ids = new Map<string, string>();
  for (const { metadata } of workloads.toSorted((a, b) => (age(a) < age(b) ? -1 : 1))) {
    const id = taken.has(metadata.name) ? keyOf(metadata) : metadata.name;
    taken.add(id);
    ids.set(keyOf(metadata), id);
  }
  return ids;
}

function nodeRow(node: NodeFacts): RowValues {
  return fitted("gpu_nodes", {
    node_id: node.id,
    node_name: node.name,
    node_ip: node.ip,
    gpu_type: node.product,
    gpu_count: node.gpus,
    gpu_memory_gb: node.gpuMemoryMib === null ? null : Math.round(node.gpuMemoryMib / 1_024),
    cpu_cores: node.cpuCores,
    memory_gb: gibOf(node.memoryBytes),
    storage_gb: gibOf(node.storageBytes),
    gpus_allocated: node.usedGpus,
    cpu_allocated: node.usedCpuCores,
    memory_allocated_gb: node.usedMemoryBytes === null ? null : node.usedMemoryBytes / GIB,
    status: !node.ready ? "not_ready" : node.schedulable ? "ready" : node.usedGpus === 0 ? "drained" : "draining",
    is_schedulable: node.schedulable,
    labels: json(node.labels),
    annotations: json(annotationsOf(node)),
    cluster: OWN_CLUSTER,
  });
}

export function annotationsOf({ annotations }: Pick<NodeFacts, "annotations">): Readonly<Record<string, string>> {
  const { [KUBECTLS_COPY]: _, ...others } = annotations;
  return others;
}

function gibOf(bytes: number | null): number | null {
  return bytes === null ? null : Math.floor(bytes / GIB);
}

export function deploymentRow(workload: Workload, id: string = workload.metadata.name): RowValues {
  const { metadata, status } = workload;
  const spec = legibleSpec(workload.spec);
  const ready = conditionOf(status.conditions, "Ready");
  const desired = status.desiredReplicas ?? spec.replicas ?? spec.scaling.minReplicas;
  const cpu = parseCpuMillis(spec.resources.cpu);
  const memory = parseMemoryBytes(spec.resources.memory);
  const target = spec.scaling.targetMetrics?.find(({ type }) => type === "gpu_utilization")?.target;
  const seen = shownSpec(spec);
  return fitted("deployments", {
    deployment_id: id,
    deployment_name: metadata.name,
    tenant_id: tenantOf(metadata),
    model_id: modelIdOf(workload),
    model_name: spec.modelName,
    engine_type: spec.engine?.type ?? "vllm",
    replicas: desired,
    desired_replicas: desired,
    current_replicas: status.currentReplicas ?? 0,
    gpu_per_replica: status.plan?.gpus ?? Number(spec.resources.gpu ?? 1),
    cpu_request: cpu === null ? null : cpu / 1_000,
    cpu_limit: cpu === null ? null : cpu / 1_000,
    memory_request_gb: memory === null ? null : memory / GIB,
    memory_limit_gb: memory === null ? null : memory / GIB,
    model_path: spec.engine?.model ?? spec.modelName,
    model_params: json(seen.parameters ?? {}),
    vllm_config: json(seen.engine?.config ?? {}),
    status: status.state ?? "pending",
    ready_replicas: status.readyReplicas ?? 0,
    available_replicas: status.availableReplicas ?? 0,
    internal_endpoint: status.endpoints?.[0] ?? null,
    external_endpoint: null,
    labels: json(metadata.labels),
    annotations: json(annotationsOf(metadata)),
    error_message: troubleOf(workload),
    created_at: instant(metadata.creationTimestamp),
    deployed_at: ready?.status === "True" ? instant(ready.lastTransitionTime) : null,
    terminated_at: null,
    namespace: metadata.namespace,
    cluster: OWN_CLUSTER,
    uid: metadata.uid,
    generation: metadata.generation,
    qos_class: status.qosClass ?? spec.qosClass ?? null,
    min_replicas: spec.scaling.minReplicas,
    max_replicas: spec.scaling.maxReplicas,
    target_gpu_utilization: target ?? null,
    spec: json(seen),
  });
}

function troubleOf({ status: { conditions = [] } }: Workload): string | null {
  const bad =
    conditions.find(({ type, status }) => type === "Accepted" && status === "False") ??
    conditions.find(({ type, status }) => type === "Stuck" && status === "True");
  return bad === undefined ? null : `${bad.reason}: ${bad.message ?? ""}`.replace(/: $/, "");
}

function podRow(pod: PodFacts, workload: Workload, deploymentId: string): RowValues {
  const { metadata, spec } = workload;
  return fitted("pod_allocations", {
    allocation_id: pod.uid,
    deployment_id: deploymentId,
    deployment_name: metadata.name,
    model_id: modelIdOf(workload),
    tenant_id: tenantOf(metadata),
    pod_name: pod.name,
    pod_uid: pod.uid,
    namespace: pod.namespace,
    pod_ip: pod.ip,
    node_id: pod.node,
    gpu_count: pod.gpus,
    gpu_indices: null,
    cpu_request: pod.cpuRequestCores,
    cpu_limit: pod.cpuLimitCores,
    memory_request_gb: pod.memoryRequestBytes === null ? null : pod.memoryRequestBytes / GIB,
    memory_limit_gb: pod.memoryLimitBytes === null ? null : pod.memoryLimitBytes / GIB,
    service_name: pod.service,
    service_port: pod.port,
    node_port: null,
    status: STATUSES[pod.phase],
    is_ready: pod.phase === "ready",
    restart_count: pod.restarts,
    container_image: pod.image,
    environment_vars: json(shownEnv(pod.env)),
    model_config: json(shownSpec(spec).engine?.config ?? {}),
    created_at: instant(pod.createdAt ?? metadata.creationTimestamp),
    started_at: pod.startedAt === null ? null : instant(pod.startedAt),
    terminated_at: null,
    cluster: OWN_CLUSTER,
    terminated_reason: null,
  });
}

const STATUSES = {
  waiting: "pending",
  starting: "pending",
  ready: "running",
  unready: "running",
  stopping: "running",
  failed: "failed",
} as const satisfies Record<PodFacts["phase"], string>;

/** Kubernetes leaves the fraction of a second out: as text those would be in another order. */
function instant(time: string): string {
  return new Date(time).toISOString();
}

function json(value: unknown): string {
  return JSON.stringify(value);
}

/** What its columns take: words as long as they may be, and whole numbers that PostgreSQL has room for. */
function fitted(tableName: string, row: RowValues): RowValues {
  const columns = COLUMNS.get(tableName) ?? {};
  const entries = Object.entries(row).map(([name, value]): [string, Value] => {
    const { type, mayBeNull } = columns[name] ?? { type: "text", mayBeNull: true };
    if (type === "integer") return [name, isWhole(value) ? value : mayBeNull ? null : 0];
    const isTooLong = typeof type === "object" && typeof value === "string" && value.length > type.varchar;
    return [name, isTooLong ? value.slice(0, type.varchar) : value];
  });
  return Object.fromEntries(entries);
}

function isWhole(value: Value): boolean {
  return Number.isInteger(value) && Math.abs(value as number) <= MAX_INTEGER;
}

/** Of a deployment that is not there any more: what its history says of it. */
export function goneRow(deploymentId: string, tenantId: string, at: string): RowValues {
  return fitted("deployments", {
    deployment_id: deploymentId,
    deployment_name: deploymentId,
    tenant_id: tenantId,
    model_id: "",
    model_name: "",
    status: "terminated",
    created_at: at,
    terminated_at: at,
    cluster: OWN_CLUSTER,
  });
}

/** What a look tells of it, where a backend knows no more. */
export function inventoryOf(look: Look, workloads: readonly Workload[]): Inventory {
  const ids = new Set(look.nodes.map(({ name }) => name));
  return {
    nodes: look.nodes.map((node) => ({
      ...{ id: node.name, name: node.name, ip: null, product: node.product },
      ...{ gpus: node.gpus, gpuMemoryMib: node.gpuMemoryMib, usedGpus: node.usedGpus },
      ...{ cpuCores: null, memoryBytes: null, storageBytes: null, usedCpuCores: null, usedMemoryBytes: null },
      ...{ ready: node.ready, schedulable: node.schedulable, labels: {}, annotations: {} },
    })),
    pods: workloads.flatMap((workload) =>
      look.tracksOf(workload).flatMap(({ replicas }) => replicas.map((replica) => podOf(workload, replica, ids))),
    ),
  };
}

function podOf({ metadata }: Workload, replica: ReplicaSeen, nodes: ReadonlySet<string>): PodFacts {
  const url = replica.url === null ? null : new URL(replica.url);
  return {
    ...{ uid: replica.name, name: replica.name, namespace: metadata.namespace, workload: keyOf(metadata) },
    ...{
      ip: url?.hostname.replace(/^\[(.*)\]$/, "$1") ?? null,
      port: url === null ? null : Number(url.port || 80),
      service: null,
    },
    node: replica.node !== null && nodes.has(replica.node) ? replica.node : null,
    ...{ gpus: replica.gpus, phase: replica.phase, restarts: replica.restarts, image: null, env: {} },
    ...{ cpuRequestCores: null, cpuLimitCores: null, memoryRequestBytes: null, memoryLimitBytes: null },
    ...{ createdAt: null, startedAt: null },
  };
}
