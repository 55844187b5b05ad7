/** Nodes and their GPUs, drained and shown. */
import { type Answer, json } from "../../http/exchange/answers.ts";
import { checker } from "../../http/exchange/checks.ts";
import { type Call, type Endpoint, endpoint } from "../../http/exchange/endpoint.ts";
import { tenantOf } from "../objects/meta.ts";
import { modelIdOf } from "../objects/model-id.ts";
import type { NodeDrain } from "../reconcile/backend.ts";
import type { Inventory } from "../reconcile/inventory.ts";
import { isOfProduct, type NodeSeen } from "../reconcile/seen.ts";
import { inventoryOf, OWN_CLUSTER } from "../store/projection.ts";
import { drainSchema } from "./asks.ts";
import { clusterStatusView } from "./gpu-views.ts";
import { type ApiParts, deploymentNamed, numberIn, parametersOf, tenantsOf, visible } from "./parts.ts";
import { nodeView, resourcesView } from "./views.ts";

const DEFAULT_GRACE_S = 300;
const MAX_EVENTS = 1_000;
const readDrain = checker(drainSchema);

export function nodeEndpoints(parts: ApiParts): readonly Endpoint[] {
  const admin = { role: "admin", body: "ignored" } as const;
  const nodes = () => parts.loop.seen?.nodes ?? [];
  const infrastructure = "/admin/v1/infrastructure";
  return [
    endpoint("/internal/resources/available", "key", {
      GET: { role: "allocate", body: "ignored", answer: () => json(200, resourcesView(nodes())) },
    }),
    endpoint(`${infrastructure}/nodes`, "key", {
      GET: { ...admin, takesQuery: true, answer: (call) => listed(parts, call) },
    }),
    endpoint("/admin/v1/clusters", "key", { GET: { ...admin, answer: () => json(200, [clusterView(parts)]) } }),
    endpoint(`${infrastructure}/gpu-utilization`, "key", {
      GET: { ...admin, answer: (call) => utilization(parts, call) },
    }),
    endpoint("/admin/v1/gpu/cluster-status", "key", {
      GET: {
        ...admin,
        answer: (call) =>
          json(200, clusterStatusView(nodes(), inventoryNow(parts), parts.objects.workloads(), visible(parts, call))),
      },
    }),
    endpoint(`${infrastructure}/health`, "key", { GET: { ...admin, answer: () => json(200, healthView(parts)) } }),
    endpoint(`${infrastructure}/nodes/:id/drain`, "key", {
      POST: { role: "admin", body: "optional", answer: (call) => drain(parts, call) },
    }),
    endpoint(`${infrastructure}/nodes/:id/cordon`, "key", {
      POST: { role: "admin", body: "ignored", answer: (call) => cordon(parts, call) },
    }),
    endpoint(`${infrastructure}/nodes/:id/uncordon`, "key", {
      POST: { role: "admin", body: "ignored", answer: (call) => uncordon(parts, call) },
    }),
    endpoint("/admin/v1/scaling/events", "key", {
      GET: { ...admin, takesQuery: true, answer: (call) => scalings(parts, call) },
    }),
    endpoint("/admin/v1/deployments/:id/events", "key", {
      GET: { ...admin, takesQuery: true, answer: (call) => events(parts, call) },
    }),
    endpoint("/admin/v1/deployments/:id/why", "key", { GET: { ...admin, answer: (call) => why(parts, call) } }),
  ];
}

function inventoryNow({ loop: { seen }, objects }: ApiParts): Inventory {
  return seen === null ? { nodes: [], pods: [] } : (seen.inventory?.() ?? inventoryOf(seen, objects.workloads()));
}

function listed(parts: ApiParts, call: Call): Answer {
  const { status, gpu_type: product } = parametersOf(call, ["status", "gpu_type"]);
  const inventory = inventoryNow(parts);
  const found = (parts.loop.seen?.nodes ?? [])
    .filter((node) => product === undefined || isOfProduct(node, product))
    .map((node) => nodeView(node, inventory))
    .filter((node) => status === undefined || node.status === status);
  return json(200, found);
}

/** The one that this controller is of. */
function clusterView({ loop, backend }: ApiParts) {
  const { nodes, total_gpus, allocated_gpus, available_gpus } = resourcesView(loop.seen?.nodes ?? []);
  return {
    name: OWN_CLUSTER,
    backend: backend.kind,
    reachable: loop.trouble === null,
    reason: loop.trouble,
    ...{ nodes: nodes.length, total_gpus, allocated_gpus, available_gpus },
  };
}

/** A node is called by its name, or by the id that the tables have. */
function nodeCalled(parts: ApiParts, id: string): string {
  return inventoryNow(parts).nodes.find((node) => node.id === id)?.name ?? id;
}

async function drain(parts: ApiParts, call: Call): Promise<Answer> {
  const { grace_period: grace = DEFAULT_GRACE_S, deadline = grace, ...how } = readDrain(call.body ?? {});
  const { reason = "drained", force = false } = how;
  const state = await parts.backend.drain(nodeCalled(parts, call.id), { reason, deadlineMs: deadline * 1_000, force });
  return json(202, success(state, `${call.id} is ${state.status}`));
}

/** What runs there stays; nothing new comes. */
async function cordon(parts: ApiParts, call: Call): Promise<Answer> {
  const state = await parts.backend.drain(nodeCalled(parts, call.id), {
    reason: "cordoned",
    deadlineMs: null,
    force: false,
  });
  return json(202, success(state, `${call.id} takes nothing new`));
}

async function uncordon(parts: ApiParts, call: Call): Promise<Answer> {
  return json(
    202,
    success(await parts.backend.uncordon(nodeCalled(parts, call.id)), `${call.id} takes replicas again`),
  );
}

function success({ node, status, blockedBy }: NodeDrain, message: string) {
  return { success: true, message, data: { node_id: node, status, blocked_by: blockedBy } };
}

/** Allocation, and what was measured: a figure that nobody measured is null. */
function utilization(parts: ApiParts, call: Call): Answer {
  const { seen } = parts.loop;
  const nodes = seen?.nodes ?? [];
  const inventory = inventoryNow(parts);
  const percent = (part: number, whole: number) => (whole === 0 ? null : (part / whole) * 100);
  const { total_gpus: gpus, allocated_gpus: used, available_gpus: free } = resourcesView(nodes);
  const allocation = { total_gpus: gpus, allocated_gpus: used, available_gpus: free };
  const isRunning = new Set(
    visible(parts, call).flatMap(({ metadata, status }) => (status.state === "running" ? [metadata.name] : [])),
  );
  const running = inventory.pods.filter(({ phase }) => phase === "ready" || phase === "unready");
  const deployments = visible(parts, call).map((workload) => ({
    deployment_id: workload.metadata.name,
    model_id: modelIdOf(workload),
    tenant_id: tenantOf(workload.metadata),
    replicas: workload.status.desiredReplicas ?? null,
    gpu_compute_utilization_percent: workload.status.currentMetrics?.gpu_utilization ?? null,
    memory_utilization_percent: workload.status.currentMetrics?.memory ?? null,
    cpu_utilization_percent: workload.status.currentMetrics?.cpu ?? null,
    request_count: null,
    error_count: null,
    error_rate: workload.status.performanceMetrics?.errorRate ?? null,
  }));
  return json(200, {
    timestamp: new Date(parts.now()).toISOString(),
    cluster_metrics: {
      ...{ gpus_total: gpus, gpus_allocated: used, gpu_allocation_percent: percent(used, gpus) },
      ...allocation,
    },
    node_metrics: nodes.map((one) => {
      const node = nodeView(one, inventory);
      const part = (used: number | null, whole: number | null) =>
        used === null || whole === null ? null : percent(used, whole);
      return {
        node_id: node.node_id,
        node_name: node.node_name,
        gpus_total: node.gpu_count,
        gpus_allocated: node.gpus_allocated,
        gpu_allocation_percent: percent(node.gpus_allocated, node.gpu_count),
        gpu_utilization_percent: seen?.gpuUtilizationOf?.(node.node_name) ?? null,
        memory_allocation_percent: part(node.memory_allocated_gb, node.memory_gb),
        cpu_allocation_percent: part(node.cpu_allocated, node.cpu_cores),
        pod_count: node.pod_count,
      };
    }),
    deployment_metrics: deployments,
    summary: {
      ...{ nodes: nodes.length, deployments: deployments.length },
      ...allocation,
      cluster_gpu_allocation_percent: percent(used, gpus),
      cluster_memory_allocation_percent: memoryPart(inventory),
      active_deployments: deployments.filter(({ deployment_id: id }) => isRunning.has(id)).length,
      total_running_pods: running.length,
    },
  });
}

/** Of the memory of all nodes; `null`: not all of them say what they have. */
function memoryPart({ nodes }: Inventory): number | null {
  const sum = (of: (node: Inventory["nodes"][number]) => number | null) =>
    nodes.reduce((total: number | null, node) => {
      const value = of(node);
      return total === null || value === null ? null : total + value;
    }, 0);
  const [used, all] = [sum((node) => node.usedMemoryBytes), sum((node) => node.memoryBytes)];
  return used === null || all === null || all === 0 ? null : (used / all) * 100;
}

function nodesHealth(nodes: readonly NodeSeen[]): "healthy" | "degraded" | "unhealthy" {
  const ready = nodes.filter((node) => node.ready).length;
  return ready === 0 ? "unhealthy" : ready < nodes.length ? "degraded" : "healthy";
}

export function healthView({ loop, objects, version, database, backend: { kind }, now }: ApiParts) {
  const workloads = objects.workloads();
  const bad = workloads.filter(({ status: { state } }) => state === "failed" || state === "error");
  const issues = [
    ...(loop.trouble === null ? [] : [loop.trouble]),
    ...(database.trouble === null ? [] : [`the database: ${database.trouble}`]),
    ...bad.map(({ metadata, status }) => `${metadata.name} is ${status.state}`),
  ];
  const nodes = loop.seen?.nodes ?? [];
  const status =
    loop.trouble !== null ? "unhealthy" : bad.length > 0 || database.trouble !== null ? "degraded" : "healthy";
  return {
    status,
    version,
    timestamp: new Date(now()).toISOString(),
    components: {
      [kind]: loop.trouble === null ? "healthy" : "unhealthy",
      nodes: nodesHealth(nodes),
      // Nobody looks whether a storage can be read but the pods that do.
      storage: "unknown",
      database: database.trouble === null ? "healthy" : "unhealthy",
      deployments: bad.length === 0 ? "healthy" : "degraded",
    },
    metrics: {
      ...{ deployments: workloads.length, nodes: loop.seen?.nodes.length ?? null },
      total_nodes: nodes.length,
      healthy_nodes: nodes.filter(({ ready }) => ready).length,
      total_deployments: workloads.length,
      running_deployments: workloads.filter(({ status: { state } }) => state === "running").length,
      failed_deployments: bad.length,
    },
    issues,
  };
}

async function scalings(parts: ApiParts, call: Call): Promise<Answer> {
  const { deployment_id: deploymentId, limit } = parametersOf(call, ["deployment_id", "limit"]);
  const most = numberIn("limit", limit, 100, MAX_EVENTS);
  // Also of deployments that are gone.
  const tenants = tenantsOf(parts, call);
  const found = await parts.history.scalings({
    ...(deploymentId === undefined ? {} : { deploymentId }),
    ...(tenants === null ? {} : { tenants }),
    limit: most,
  });
  return json(
    200,
    found.map((event) => ({
      event_id: event.eventId,
      deployment_id: event.deploymentId,
      tenant_id: event.tenantId,
      scaling_type: event.scalingType,
      from_replicas: event.fromReplicas,
      to_replicas: event.toReplicas,
      trigger_reason: event.triggerReason,
      trigger_metrics: event.triggerMetrics,
      status: event.status,
      error_message: event.errorMessage,
      initiated_at: event.initiatedAt,
      completed_at: event.completedAt,
    })),
  );
}

async function events(parts: ApiParts, call: Call): Promise<Answer> {
  const workload = deploymentNamed(parts, call, call.id);
  const { limit } = parametersOf(call, ["limit"]);
  const most = numberIn("limit", limit, 100, MAX_EVENTS);
  const found = await parts.history.events(workload.metadata.name, most);
  return json(
    200,
    found.map(({ deploymentId, ...event }) => ({ deployment_id: deploymentId, ...event })),
  );
}

function why(parts: ApiParts, call: Call): Answer {
  const workload = deploymentNamed(parts, call, call.id);
  const gpus = workload.status.plan?.gpus ?? null;
  const product = workload.status.plan?.product ?? null;
  const refusal = (node: NodeSeen) => {
    if (!node.ready) return "it is not ready";
    if (!isOfProduct(node, product)) return `its GPUs are ${node.product ?? "of no name"}, and ${product} is asked for`;
    if (!node.schedulable) return "it takes nothing new";
    const free = node.gpus - node.usedGpus;
    return gpus === null || free >= gpus ? null : `${free} GPUs are free, and a replica needs ${gpus}`;
  };
  return json(200, {
    deployment_id: workload.metadata.name,
    state: workload.status.state ?? "pending",
    conditions: workload.status.conditions ?? [],
    queue: workload.status.queue ?? null,
    plan: workload.status.plan ?? null,
    nodes: (parts.loop.seen?.nodes ?? []).map((node) => ({ node_id: node.name, refuses: refusal(node) })),
  });
}
