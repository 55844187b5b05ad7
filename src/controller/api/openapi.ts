/** The OpenAPI document, made of the schemas that validate. Loaded only when somebody asks for it. */
import { z } from "zod";
import { createDocument, type ZodOpenApiOperationObject, type ZodOpenApiPathsObject } from "zod-openapi";
import { workloadSpecSchema, workloadStatusSchema } from "../objects/workload.ts";
import { createSchema, drainSchema, scaleSchema, undoSchema, updateSchema } from "./asks.ts";
import type { ApiParts } from "./parts.ts";

const text = z.string();
const count = z.int();
const deployment = z
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
const object = z
  .object({
    apiVersion: text,
    kind: text,
    metadata: z.looseObject({}),
    spec: workloadSpecSchema,
    status: workloadStatusSchema,
  })
  .meta({ id: "LLMWorkload" });
const problem = z
  .object({
    type: text,
    title: text,
    status: count,
    detail: text,
    code: text,
    error: text,
    status_code: count,
  })
  .meta({ id: "Problem" });
const anything = z.looseObject({});

interface Told {
  readonly summary: string;
  readonly status?: "200" | "202";
  readonly body?: z.ZodType;
  readonly answer?: z.ZodType;
  readonly path?: z.ZodObject;
}

function call({ summary, status = "200", body, answer = anything, path }: Told): ZodOpenApiOperationObject {
  return {
    summary,
    ...(path === undefined ? {} : { requestParams: { path } }),
    ...(body === undefined ? {} : { requestBody: { content: { "application/json": { schema: body } } } }),
    responses: {
      [status]: { description: "Done", content: { "application/json": { schema: answer } } },
      default: { description: "Refused", content: { "application/problem+json": { schema: problem } } },
    },
  };
}

const ID = z.object({ id: text });

function deploymentPaths(prefix: string, created: Pick<Told, "status"> | null): ZodOpenApiPathsObject {
  const list = { get: call({ summary: "Deployments", answer: z.array(deployment) }) };
  const create = call({ summary: "Make a deployment", body: createSchema, answer: deployment, ...created });
  return {
    [prefix]: created === null ? list : { ...list, post: create },
    [`${prefix}/{id}`]: {
      get: call({ summary: "One deployment", answer: deployment, path: ID }),
      put: call({ summary: "Change it", body: updateSchema, answer: deployment, path: ID }),
      delete: call({ summary: "Delete it; twice is fine", path: ID }),
    },
    [`${prefix}/{id}/status`]: { get: call({ summary: "Its replicas and conditions", path: ID }) },
    [`${prefix}/{id}/restart`]: { post: call({ summary: "Replace its replicas", path: ID }) },
  };
}

const NODE = "/admin/v1/infrastructure/nodes/{id}";
const OBJECT = z.object({ namespace: text, name: text });
const PATHS: ZodOpenApiPathsObject = {
  "/internal/deployments/create": {
    post: call({ summary: "Make a deployment", body: createSchema, answer: deployment }),
  },
  "/internal/deployments/status": { get: call({ summary: "Whether a model is served" }) },
  "/internal/models/{id}/endpoint": { get: call({ summary: "Where a model is served", path: ID }) },
  ...deploymentPaths("/internal/deployments", null),
  ...deploymentPaths("/admin/v1/deployments", { status: "202" }),
  ...deploymentPaths("/api/v1/deployments", { status: "202" }),
  "/admin/v1/deployments/{id}/events": { get: call({ summary: "What happened to it", path: ID }) },
  "/admin/v1/deployments/{id}/why": { get: call({ summary: "Why it stands as it does", path: ID }) },
  "/admin/v1/deployments/{id}/rollout": { get: call({ summary: "Its revisions, and how far it is", path: ID }) },
  "/admin/v1/deployments/{id}/rollout/undo": {
    post: call({ summary: "Back to an earlier revision", status: "202", body: undoSchema, path: ID }),
  },
  "/admin/v1/models/{id}/scale": {
    post: call({ summary: "Scale a model's deployment", status: "202", body: scaleSchema, path: ID }),
  },
  "/admin/v1/scaling/events": { get: call({ summary: "Changes of replicas", answer: z.array(anything) }) },
  "/internal/resources/available": { get: call({ summary: "GPUs that are free" }) },
  "/admin/v1/infrastructure/nodes": { get: call({ summary: "Nodes", answer: z.array(anything) }) },
  "/admin/v1/infrastructure/gpu-utilization": { get: call({ summary: "Allocation, and what was measured" }) },
  "/admin/v1/infrastructure/health": { get: call({ summary: "How everything is" }) },
  "/admin/v1/gpu/cluster-status": { get: call({ summary: "GPUs by node" }) },
  [`${NODE}/drain`]: { post: call({ summary: "Empty a node", status: "202", body: drainSchema, path: ID }) },
  [`${NODE}/cordon`]: { post: call({ summary: "Nothing new comes to it", status: "202", path: ID }) },
  [`${NODE}/uncordon`]: { post: call({ summary: "It takes replicas again", status: "202", path: ID }) },
  "/admin/v1/clusters": { get: call({ summary: "The cluster that this controller is of", answer: z.array(anything) }) },
  "/admin/v1/config": { get: call({ summary: "The settings, and which have no effect" }) },
  "/apis/llm.orchestrator.io/v1/namespaces/{namespace}/llmworkloads/{name}": {
    get: call({ summary: "An LLMWorkload", answer: object, path: OBJECT }),
    put: call({ summary: "Make or change it", body: object, answer: object, path: OBJECT }),
    delete: call({ summary: "Delete it", path: OBJECT }),
  },
  "/health": { get: call({ summary: "How the controller is" }) },
  "/readyz": { get: call({ summary: "Whether the backend answers" }) },
};

export function openApiDocument({ version, settings }: ApiParts) {
  const { enabled, headerName } = settings.auth;
  return createDocument({
    openapi: "3.1.0",
    info: { title: "gpu-orchestrator controller", version, license: { name: "MIT", identifier: "MIT" } },
    servers: [{ url: "/" }],
    ...(enabled
      ? {
          security: [{ apiKey: [] }, { bearer: [] }],
          components: {
            securitySchemes: {
              apiKey: { type: "apiKey", in: "header", name: headerName },
              bearer: { type: "http", scheme: "bearer" },
            },
          },
        }
      : {}),
    paths: PATHS,
  });
}
