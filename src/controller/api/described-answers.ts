/** What the calls answer, as the document has it: the second seed's shapes. Loaded with the document only. */
import { z } from "zod";
import { modelSpecSchema, modelStatusSchema } from "../objects/model.ts";
import { workloadSpecSchema, workloadStatusSchema } from "../objects/workload.ts";

const text = z.string();
const time = z.iso.datetime();
const count = z.int();
const figure = z.number().nullable();
const words = z.record(text, text);
const condition = workloadStatusSchema.shape.conditions.unwrap().element;

export const deployment = z
  .object({
    deployment_id: text,
    deployment_name: text,
    tenant_id: text,
    model_id: text,
    model_name: text,
    status: text,
    replicas: count,
    ready_replicas: count,
    available_replicas: count,
    desired_replicas: count,
    current_replicas: count,
    gpu_per_replica: count,
    total_gpus: count,
    internal_endpoint: text.nullable(),
    external_endpoint: text.nullable(),
    created_at: text,
    updated_at: text,
    deployed_at: text.nullable(),
    vllm_config: z.looseObject({}),
    message: text,
  })
  .meta({ id: "Deployment" });

export const deploymentStatus = z
  .object({
    deployment_id: text,
    status: text,
    replicas: count,
    ready_replicas: count,
    available_replicas: count,
    desired_replicas: count,
    current_replicas: count,
    pods: z.array(
      z.object({
        name: text,
        node: text.nullable(),
        status: z.enum(["pending", "running", "succeeded", "failed", "unknown", "terminated"]),
        ready: z.boolean(),
        gpu_count: count,
        pod_ip: text.nullable(),
        restart_count: count,
        revision: text,
      }),
    ),
    conditions: z.array(condition),
    message: text,
    last_updated: text,
  })
  .meta({ id: "DeploymentStatus" });

export const success = z
  .object({ success: z.boolean(), message: text, data: z.looseObject({}) })
  .meta({ id: "Success" });

export const modelState = z
  .looseObject({
    status: z.enum(["not_deployed", "deploying", "running"]),
    deployment_id: text.nullable(),
    model_id: text,
  })
  .meta({ id: "ModelState", description: "With the fields of its deployment, where there is one" });

export const modelEndpoint = z
  .object({
    endpoint_url: text,
    model_id: text,
    model_name: text,
    huggingface_id: text.nullable(),
    deployment_id: text,
    tenant_id: text,
    is_public: z.boolean(),
    status: text,
  })
  .meta({ id: "ModelEndpoint" });

const allocation = { total_gpus: count, allocated_gpus: count, available_gpus: count };
const resourceNode = z.object({
  node_id: text,
  node_name: text,
  gpu_type: text.nullable(),
  total_gpus: count,
  allocated_gpus: count,
  available_gpus: count,
  status: text,
  is_schedulable: z.boolean(),
});

export const resources = z
  .object({
    total_gpus: count,
    available_gpus: count,
    allocated_gpus: count,
    total_nodes: count,
    ready_nodes: count,
    nodes: z.array(resourceNode),
    can_schedule: z.boolean(),
    max_deployable_gpus: count.meta({ description: "The most that are free on one node" }),
  })
  .meta({ id: "Resources" });

const memorySum = {
  ...allocation,
  available_capacity_percent: figure,
  total_vram_gb: figure,
  allocated_vram_gb: figure,
  available_vram_gb: figure,
  vram_allocation_percent: figure,
};
export const clusterStatus = resources
  .extend({
    summary_by_gpu_type: z.record(text, z.object({ ...memorySum, vram_per_gpu_gb: figure })),
    cluster_total: z.object(memorySum),
    nodes: z.array(
      resourceNode.extend({
        available_capacity_percent: figure,
        gpu_memory_gb: figure,
        vram_total_gb: figure,
        vram_allocated_gb: figure,
        vram_available_gb: figure,
        vram_allocation_percent: figure,
        deployments: z.array(
          z.object({
            ...{ deployment_name: text, model_id: text, model_name: text, status: text, gpu_count: count },
            memory_fraction: figure,
            vram_allocated_gb: figure,
          }),
        ),
        gpus: z.null().meta({ description: "Kubernetes does not tell which GPU of a node a pod has" }),
      }),
    ),
  })
  .meta({ id: "ClusterStatus", description: "Memory is what engines were told to take; null: nobody says" });

export const node = z
  .object({
    node_id: text,
    node_name: text,
    node_ip: text.nullable(),
    gpu_type: text.nullable(),
    gpu_count: count,
    gpu_memory_gb: figure,
    cpu_cores: figure,
    memory_gb: figure,
    storage_gb: figure,
    gpus_allocated: count,
    gpus_available: count,
    cpu_allocated: figure,
    memory_allocated_gb: figure,
    status: z.enum(["ready", "not_ready", "draining", "drained", "maintenance", "deleted"]),
    is_schedulable: z.boolean(),
    labels: words,
    annotations: words,
    pod_count: count,
    pods: z.array(text),
    created_at: text.nullable(),
    updated_at: text.nullable(),
    last_heartbeat: text.nullable(),
  })
  .meta({ id: "Node" });

export const utilization = z
  .object({
    timestamp: time,
    cluster_metrics: z.object({
      ...{ gpus_total: count, gpus_allocated: count, gpu_allocation_percent: figure },
      ...allocation,
    }),
    node_metrics: z.array(
      z.object({
        node_id: text,
        node_name: text,
        gpus_total: count,
        gpus_allocated: count,
        gpu_allocation_percent: figure,
        gpu_utilization_percent: figure,
        memory_allocation_percent: figure,
        cpu_allocation_percent: figure,
        pod_count: count,
      }),
    ),
    deployment_metrics: z.array(
      z.object({
        deployment_id: text,
        model_id: text,
        tenant_id: text,
        replicas: figure,
        gpu_compute_utilization_percent: figure,
        memory_utilization_percent: figure,
        cpu_utilization_percent: figure,
        request_count: figure,
        error_count: figure,
        error_rate: figure,
      }),
    ),
    summary: z.object({
      ...{ nodes: count, deployments: count },
      ...allocation,
      cluster_gpu_allocation_percent: figure,
      cluster_memory_allocation_percent: figure,
      active_deployments: count,
      total_running_pods: count,
    }),
  })
  .meta({ id: "Utilization", description: "What nobody measured is null" });

const state = z.enum(["healthy", "degraded", "unhealthy", "unknown"]);
export const health = z
  .object({
    status: state,
    version: text,
    components: z.record(text, state),
    timestamp: time,
    metrics: z.object({
      ...{ deployments: count, nodes: figure },
      ...{ total_nodes: count, healthy_nodes: count },
      ...{ total_deployments: count, running_deployments: count, failed_deployments: count },
    }),
    issues: z.array(text),
  })
  .meta({ id: "Health" });
const connection = z.enum(["connected", "disconnected"]);
export const ownHealth = health
  .extend({ service: text, database: connection, kubernetes: connection.optional(), host: connection.optional() })
  .meta({ id: "OwnHealth" });

export const ready = z.object({ ready: z.boolean(), reason: text.optional() }).meta({ id: "Ready" });

export const scaled = z
  .object({
    event_id: text,
    deployment_id: text,
    from_replicas: count,
    to_replicas: count.nullable(),
    status: text,
  })
  .meta({ id: "Scaled" });

export const scalingEvent = z
  .object({
    event_id: text,
    deployment_id: text,
    tenant_id: text,
    scaling_type: text,
    from_replicas: count,
    to_replicas: count,
    trigger_reason: text,
    trigger_metrics: z.looseObject({}),
    status: z.enum(["in_progress", "success", "failed", "cancelled"]),
    error_message: text.nullable(),
    initiated_at: text,
    completed_at: text.nullable(),
  })
  .meta({ id: "ScalingEvent" });

export const deploymentEvent = z
  .object({ deployment_id: text, at: text, type: text, reason: text, message: text })
  .meta({ id: "DeploymentEvent" });

export const why = z
  .object({
    deployment_id: text,
    state: text,
    conditions: z.array(condition),
    queue: z.looseObject({}).nullable(),
    plan: z.looseObject({}).nullable(),
    nodes: z.array(z.object({ node_id: text, refuses: text.nullable() })),
  })
  .meta({ id: "Why" });

export const rollout = z
  .object({
    deployment_id: text,
    status: text,
    revision: text,
    replicas: count.nullable(),
    updated_replicas: count,
    reason: text.nullable(),
    message: text.nullable(),
    revisions: z.array(
      z.object({
        number: count,
        revision: text,
        current: z.boolean(),
        model_version: text.nullable(),
        image: text.nullable(),
        restarted_at: text.nullable(),
        made_at: text,
      }),
    ),
  })
  .meta({ id: "Rollout" });

export const cluster = z
  .object({
    name: text,
    backend: text,
    reachable: z.boolean(),
    reason: text.nullable(),
    nodes: count,
    total_gpus: count,
    allocated_gpus: count,
    available_gpus: count,
  })
  .meta({ id: "Cluster" });

export const config = z
  .object({
    backend: text,
    simulate: text.nullable(),
    api: z.object({ host: text, port: count }),
    auth: z.object({ enabled: z.boolean(), keys: count }),
    database: z.unknown(),
    namespace: text,
    inert: z.array(text).meta({ description: "Settings that were given and have no effect" }),
  })
  .meta({ id: "Config" });

const head = { apiVersion: text, metadata: z.looseObject({ name: text }) };
export const workload = z
  .object({ ...head, kind: z.literal("LLMWorkload"), spec: workloadSpecSchema, status: workloadStatusSchema })
  .meta({ id: "LLMWorkload" });
export const workloadAsk = z.object({ ...head, kind: z.literal("LLMWorkload"), spec: workloadSpecSchema });
export const model = z
  .object({ ...head, kind: z.literal("LLMModel"), spec: modelSpecSchema, status: modelStatusSchema })
  .meta({ id: "LLMModel" });
export const modelAsk = z.object({ ...head, kind: z.literal("LLMModel"), spec: modelSpecSchema });
export const listOf = (kind: string, item: z.ZodType) =>
  z.object({ apiVersion: text, kind: z.literal(kind), metadata: z.looseObject({}), items: z.array(item) });
export const scale = z
  .object({
    apiVersion: text,
    kind: z.literal("Scale"),
    metadata: z.looseObject({ name: text }),
    spec: z.object({ replicas: count }),
    status: z.object({ replicas: count, selector: text }),
  })
  .meta({ id: "Scale" });
export const gone = z.object({ kind: text, apiVersion: text, status: text }).meta({ id: "Gone" });

export const problem = z
  .looseObject({ type: text, title: text, status: count, detail: text, code: text, error: text, status_code: count })
  .meta({ id: "Problem" });
