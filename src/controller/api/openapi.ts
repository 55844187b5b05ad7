/**
 * The OpenAPI document, made of the schemas that validate. Loaded only when somebody asks for it.
 *
 * Each call has an example that is answered as it stands, and `links` by which the page at /docs begins the forms of other calls
 * with what one answered.
 */
import { z } from "zod";
import { createDocument, type ZodOpenApiOperationObject, type ZodOpenApiPathsObject } from "zod-openapi";
import { type LinkSource, linked } from "../../http/exchange/links.ts";
import { createSchema, drainSchema, scaleSchema, undoSchema, updateSchema } from "./asks.ts";
import * as shapes from "./described-answers.ts";
import type { ApiParts } from "./parts.ts";

const TAGS = [
  { name: "Deployments", description: "The Orchestration Service's calls, for services" },
  { name: "Administration", description: "The same and more, for keys with the role admin" },
  { name: "API", description: "The same for callers from outside" },
  { name: "Objects", description: "The LLM Orchestrator's objects, at the paths that Kubernetes has for them" },
  { name: "Service", description: "For machines; open" },
];

interface Told {
  readonly id: string;
  readonly summary: string;
  readonly answer: z.ZodType;
  readonly status?: "200" | "201" | "202";
  /** Other successes with the same body. */
  readonly also?: "201" | "503";
  readonly body?: { readonly schema: z.ZodType; readonly example: object; readonly optional?: true };
  readonly path?: z.ZodObject;
  readonly query?: z.ZodObject;
  readonly isOpen?: true;
}

const REFUSED = {
  description: "Refused: `code` says why, /docs/problems what that means",
  content: { "application/problem+json": { schema: shapes.problem } },
};

function call({
  id,
  summary,
  status = "200",
  also,
  body,
  answer,
  path,
  query,
  isOpen,
}: Told): ZodOpenApiOperationObject {
  const success = { description: "Done", content: { "application/json": { schema: answer } } };
  const params = { ...(path === undefined ? {} : { path }), ...(query === undefined ? {} : { query }) };
  return {
    operationId: id,
    summary,
    ...(isOpen === true ? { security: [] } : {}),
    ...(Object.keys(params).length === 0 ? {} : { requestParams: params }),
    ...(body === undefined
      ? {}
      : {
          requestBody: {
            required: body.optional !== true,
            content: { "application/json": { schema: body.schema, example: body.example } },
          },
        }),
    responses: {
      [status]: success,
      ...(also === undefined ? {} : { [also]: { ...success, description: also === "201" ? "Made" : "Not so" } }),
      default: REFUSED,
    },
  };
}

const text = z.string();
const param = (example: string, description: string) => text.meta({ example, description });
const DEPLOYMENT_ID = z.object({ id: param("vllm-llama-7b-0a1b2c3d", "A deployment's id") });
const MODEL_ID = z.object({ id: param("llama-7b", "model_id, or model_name") });
const NODE_ID = z.object({ id: param("local", "A node's name, or its id") });
const LIMIT = { limit: z.int().min(0).max(1_000).optional() };
const LISTED = z.object({
  tenant_id: text.optional(),
  model_id: text.optional(),
  status: text.optional(),
  ...LIMIT,
  offset: z.int().min(0).optional(),
});
const QUEUE = z.object({ queue: z.enum(["true", "false"]).optional().meta({ description: "false: now, or 503" }) });

const CREATE = {
  tenant_id: "default",
  model_id: "llama-7b",
  model_name: "llama2",
  model_path: "meta-llama/Llama-2-7b-hf",
  replicas: 1,
  gpu_per_replica: 1,
  vllm_config: { max_model_len: 4096 },
};

function deploymentPaths(prefix: string, of: string, created: "202" | null): ZodOpenApiPathsObject {
  const list = call({
    id: `list${of}Deployments`,
    summary: "Deployments",
    answer: z.array(shapes.deployment),
    query: LISTED,
  });
  const post = call({
    id: `create${of}Deployment`,
    summary: "Make a deployment",
    status: created ?? "200",
    body: { schema: createSchema, example: CREATE },
    answer: shapes.deployment,
    query: QUEUE,
  });
  const path = DEPLOYMENT_ID;
  return {
    [prefix]: created === null ? { get: list } : { get: list, post },
    [`${prefix}/{id}`]: {
      get: call({ id: `read${of}Deployment`, summary: "One deployment", answer: shapes.deployment, path }),
      put: call({
        id: `change${of}Deployment`,
        summary: "Change it",
        body: { schema: updateSchema, example: { replicas: 2 } },
        answer: shapes.deployment,
        path,
      }),
      delete: call({ id: `delete${of}Deployment`, summary: "Delete it; twice is fine", answer: shapes.success, path }),
    },
    [`${prefix}/{id}/status`]: {
      get: call({
        id: `read${of}Status`,
        summary: "Its replicas and conditions",
        answer: shapes.deploymentStatus,
        path,
      }),
    },
    [`${prefix}/{id}/restart`]: {
      post: call({
        id: `restart${of}Deployment`,
        summary: "Replace its replicas, one after the other",
        answer: shapes.success,
        path,
      }),
    },
  };
}

const SERVICES: ZodOpenApiPathsObject = {
  "/internal/deployments/create": {
    post: call({
      id: "createDeployment",
      summary: "Make a deployment",
      body: { schema: createSchema, example: CREATE },
      answer: shapes.deployment,
      query: QUEUE,
    }),
  },
  "/internal/deployments/status": {
    get: call({
      id: "readModelState",
      summary: "Whether a model is served",
      answer: shapes.modelState,
      query: z.object({ model_id: param("llama-7b", "Or model_name"), tenant_id: text.optional() }),
    }),
  },
  "/internal/models/{id}/endpoint": {
    get: call({
      id: "readModelEndpoint",
      summary: "Where a model is served",
      answer: shapes.modelEndpoint,
      path: MODEL_ID,
    }),
  },
  ...deploymentPaths("/internal/deployments", "", null),
  "/internal/resources/available": {
    get: call({ id: "readResources", summary: "GPUs that are free", answer: shapes.resources }),
  },
};

const ONE = "/admin/v1/deployments/{id}";
const NODE = "/admin/v1/infrastructure/nodes/{id}";
const ADMIN: ZodOpenApiPathsObject = {
  ...deploymentPaths("/admin/v1/deployments", "Admin", "202"),
  [`${ONE}/events`]: {
    get: call({
      id: "listDeploymentEvents",
      summary: "What happened to it, the newest first",
      answer: z.array(shapes.deploymentEvent),
      path: DEPLOYMENT_ID,
      query: z.object(LIMIT),
    }),
  },
  [`${ONE}/why`]: {
    get: call({
      id: "explainDeployment",
      summary: "Why it stands as it does",
      answer: shapes.why,
      path: DEPLOYMENT_ID,
    }),
  },
  [`${ONE}/rollout`]: {
    get: call({
      id: "readRollout",
      summary: "Its revisions, and how far it is",
      answer: shapes.rollout,
      path: DEPLOYMENT_ID,
    }),
  },
  [`${ONE}/rollout/undo`]: {
    post: call({
      id: "undoRollout",
      summary: "Back to an earlier revision",
      status: "202",
      body: { schema: undoSchema.nullable(), example: {}, optional: true },
      answer: shapes.success,
      path: DEPLOYMENT_ID,
    }),
  },
  "/admin/v1/models/{id}/scale": {
    post: call({
      id: "scaleModel",
      summary: "Scale a model's deployment; null: by what is measured",
      status: "202",
      body: { schema: scaleSchema, example: { replicas: 2, reason: "a launch" } },
      answer: shapes.scaled,
      path: MODEL_ID,
    }),
  },
  "/admin/v1/scaling/events": {
    get: call({
      id: "listScalingEvents",
      summary: "Changes of replicas, the newest first",
      answer: z.array(shapes.scalingEvent),
      query: z.object({ deployment_id: text.optional(), ...LIMIT }),
    }),
  },
  "/admin/v1/infrastructure/nodes": {
    get: call({
      id: "listNodes",
      summary: "Nodes",
      answer: z.array(shapes.node),
      query: z.object({
        status: text.optional(),
        gpu_type: text.optional().meta({ description: "A part of its name, or its own id" }),
      }),
    }),
  },
  [`${NODE}/drain`]: {
    post: call({
      id: "drainNode",
      summary: "Empty a node",
      status: "202",
      body: { schema: drainSchema.nullable(), example: { grace_period: 300, reason: "maintenance" }, optional: true },
      answer: shapes.success,
      path: NODE_ID,
    }),
  },
  [`${NODE}/cordon`]: {
    post: call({
      id: "cordonNode",
      summary: "Nothing new comes to it",
      status: "202",
      answer: shapes.success,
      path: NODE_ID,
    }),
  },
  [`${NODE}/uncordon`]: {
    post: call({
      id: "uncordonNode",
      summary: "It takes replicas again",
      status: "202",
      answer: shapes.success,
      path: NODE_ID,
    }),
  },
  "/admin/v1/infrastructure/gpu-utilization": {
    get: call({ id: "readUtilization", summary: "Allocation, and what was measured", answer: shapes.utilization }),
  },
  "/admin/v1/infrastructure/health": {
    get: call({ id: "readHealth", summary: "How everything is", answer: shapes.health }),
  },
  "/admin/v1/gpu/cluster-status": {
    get: call({ id: "readGpus", summary: "GPUs by kind and node", answer: shapes.clusterStatus }),
  },
  "/admin/v1/clusters": {
    get: call({ id: "listClusters", summary: "Where replicas run", answer: z.array(shapes.cluster) }),
  },
  "/admin/v1/config": {
    get: call({ id: "readConfig", summary: "The settings, and which have no effect", answer: shapes.config }),
  },
};

const BASE = "/apis/llm.orchestrator.io/v1";
const [WORKLOAD, NAMESPACE, MODEL] = ["my-llm-workload", "default", "llama2-7b"];
const AT = z.object({ namespace: param(NAMESPACE, "Its namespace"), name: param(WORKLOAD, "Its name") });
const NAMED = z.object({ name: param(MODEL, "Its name") });
const MANIFEST = {
  apiVersion: "llm.orchestrator.io/v1",
  kind: "LLMWorkload",
  metadata: { name: WORKLOAD, namespace: NAMESPACE },
  spec: {
    modelName: "llama2",
    modelVersion: "7b",
    modelType: "text-generation",
    resources: { cpu: "2000m", memory: "8Gi", gpu: "1" },
    scaling: { minReplicas: 1, maxReplicas: 5 },
    performance: { maxLatency: "500ms" },
  },
};
const MODEL_MANIFEST = {
  apiVersion: "llm.orchestrator.io/v1",
  kind: "LLMModel",
  metadata: { name: MODEL },
  spec: {
    name: "llama2",
    version: "7b",
    type: "text-generation",
    framework: "pytorch",
    source: { type: "hub", uri: "meta-llama/Llama-2-7b-hf" },
  },
};
const ONE_WORKLOAD = `${BASE}/namespaces/{namespace}/llmworkloads/{name}`;
const OBJECTS: ZodOpenApiPathsObject = {
  [`${BASE}/llmworkloads`]: {
    get: call({
      id: "listWorkloads",
      summary: "LLMWorkloads of all namespaces",
      answer: shapes.listOf("LLMWorkloadList", shapes.workload),
    }),
  },
  [`${BASE}/namespaces/{namespace}/llmworkloads`]: {
    get: call({
      id: "listWorkloadsIn",
      summary: "LLMWorkloads of a namespace",
      answer: shapes.listOf("LLMWorkloadList", shapes.workload),
      path: AT.pick({ namespace: true }),
    }),
  },
  [ONE_WORKLOAD]: {
    get: call({ id: "readWorkload", summary: "An LLMWorkload", answer: shapes.workload, path: AT }),
    put: call({
      id: "putWorkload",
      summary: "Make or change it: its manifest",
      also: "201",
      body: { schema: shapes.workloadAsk, example: MANIFEST },
      answer: shapes.workload,
      path: AT,
    }),
    delete: call({ id: "deleteWorkload", summary: "Delete it", answer: shapes.workload, path: AT }),
  },
  [`${ONE_WORKLOAD}/scale`]: {
    get: call({ id: "readScale", summary: "How many replicas it has", answer: shapes.scale, path: AT }),
    put: call({
      id: "putScale",
      summary: "Give it so many replicas",
      body: {
        schema: z.object({ spec: z.object({ replicas: z.int().min(0).max(10_000) }) }),
        example: { spec: { replicas: 2 } },
      },
      answer: shapes.scale,
      path: AT,
    }),
  },
  [`${BASE}/llmmodels`]: {
    get: call({ id: "listModels", summary: "LLMModels", answer: shapes.listOf("LLMModelList", shapes.model) }),
  },
  [`${BASE}/llmmodels/{name}`]: {
    get: call({ id: "readModel", summary: "An LLMModel", answer: shapes.model, path: NAMED }),
    put: call({
      id: "putModel",
      summary: "Make or change it: its manifest",
      body: { schema: shapes.modelAsk, example: MODEL_MANIFEST },
      answer: shapes.model,
      path: NAMED,
    }),
    delete: call({ id: "deleteModel", summary: "Delete it", answer: shapes.gone, path: NAMED }),
  },
};

const page = (id: string, summary: string, type: string): ZodOpenApiOperationObject => ({
  operationId: id,
  summary,
  security: [],
  responses: { "200": { description: summary, content: { [type]: {} } }, default: REFUSED },
});
const alive = z.object({ status: z.literal("ok") });
const SERVICE: ZodOpenApiPathsObject = {
  "/health": { get: call({ id: "health", summary: "How the controller is", answer: shapes.ownHealth, isOpen: true }) },
  "/healthz": { get: call({ id: "healthz", summary: "Whether the process serves", answer: alive, isOpen: true }) },
  "/readyz": {
    get: call({
      id: "readyz",
      summary: "Whether the backend answers",
      also: "503",
      answer: shapes.ready,
      isOpen: true,
    }),
  },
  "/metrics": { get: page("metrics", "Prometheus text", "text/plain") },
  "/openapi.json": { get: page("openapi", "This document", "application/json") },
  "/docs": { get: page("docs", "This document for people", "text/html") },
};

const OF_ONE = ["Deployment", "Status"].map((what) => `read#${what}`);
const of = (kind: string) =>
  [...OF_ONE, "change#Deployment", "restart#Deployment", "delete#Deployment"].map((one) => one.replace("#", kind));
const OF_DEPLOYMENTS = [
  ...["", "Admin", "Api"].flatMap(of),
  ...["listDeploymentEvents", "explainDeployment", "readRollout", "undoRollout"],
];
const OF_SCALING = { operationId: "scaleModel", field: "deployment_id" };
const OF_MODELS = ["readModelEndpoint", "scaleModel", { operationId: "readModelState", parameter: "model_id" }];
const OF_NODES = ["drainNode", "cordonNode", "uncordonNode"];
const objectLinks = (from: string, at: string, to: readonly string[]): LinkSource[] =>
  ["namespace", "name"].map((parameter) => ({
    from,
    at: `${at}/metadata/${parameter}`,
    to: to.map((operationId) => ({ operationId, parameter })),
  }));
const READ_WORKLOAD = ["readWorkload", "deleteWorkload", "readScale", "putScale"];
const [READ_MODEL, MODEL_NAME] = [["readModel", "deleteModel"], "/metadata/name"];
const toModel = READ_MODEL.map((operationId) => ({ operationId, parameter: "name" }));
/** What has a manifest goes where that says: those calls keep their example. */
const LINKS: readonly LinkSource[] = [
  { from: "listDeployments", at: "/0/deployment_id", to: [...OF_DEPLOYMENTS, OF_SCALING] },
  { from: "listDeployments", at: "/0/model_id", to: OF_MODELS },
  ...["createDeployment", "createAdminDeployment", "createApiDeployment"].flatMap((from): LinkSource[] => [
    { from, at: "/deployment_id", to: [...OF_DEPLOYMENTS, OF_SCALING] },
    { from, at: "/model_id", to: OF_MODELS },
  ]),
  { from: "listNodes", at: "/0/node_id", to: OF_NODES },
  ...objectLinks("listWorkloads", "/items/0", READ_WORKLOAD),
  ...objectLinks("putWorkload", "", READ_WORKLOAD),
  { from: "listModels", at: `/items/0${MODEL_NAME}`, to: toModel },
  { from: "putModel", at: MODEL_NAME, to: toModel },
];

const CHAPTERS: readonly (readonly [string, ZodOpenApiPathsObject])[] = [
  ["Deployments", SERVICES],
  ["Administration", ADMIN],
  ["API", deploymentPaths("/api/v1/deployments", "Api", "202")],
  ["Objects", OBJECTS],
  ["Service", SERVICE],
];

function tagged([tag, paths]: (typeof CHAPTERS)[number]): ZodOpenApiPathsObject {
  const items = Object.entries(paths).map(([path, item]) => {
    const operations = Object.entries(item as Readonly<Record<string, ZodOpenApiOperationObject>>);
    return [path, Object.fromEntries(operations.map(([method, one]) => [method, { ...one, tags: [tag] }]))];
  });
  return Object.fromEntries(items);
}

export function openApiDocument({ version, settings }: ApiParts) {
  const { enabled, headerName } = settings.auth;
  return createDocument({
    openapi: "3.1.0",
    info: { title: "gpu-orchestrator controller", version, license: { name: "MIT", identifier: "MIT" } },
    servers: [{ url: "/" }],
    tags: TAGS,
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
    paths: linked(Object.assign({}, ...CHAPTERS.map(tagged)), LINKS),
  });
}
