/** What a workload is made of in a cluster. Pure: objects in, objects out. */
import { formatCpu, formatMemory } from "../../work/quantities.ts";
import { ANNOTATION, HUB_VARIABLES, hubSecretOf, LABEL } from "../objects/meta.ts";
import type { Workload } from "../objects/workload.ts";
import type { Plan } from "../reconcile/plan.ts";
import type { Wanted } from "../reconcile/reconcile.ts";
import { isOfProduct } from "../reconcile/seen.ts";
import type { ReconcileSettings } from "../reconcile/settings.ts";
import type { PodSettings, Storage } from "../settings/seed-environment.ts";
import { avoidLabel } from "./avoidance.ts";
import { groupPath, groupTemplate, isGroup, LEADERS, leaderWorkerSet, templateOfGroups } from "./group.ts";
import {
  type Child,
  claimNameOf,
  GRPC_PORT,
  labelsOf,
  metaOf,
  type OptionalKind,
  PRODUCT,
  selectorOf,
  VLLM_PORT,
} from "./owned.ts";
import { httpRoute, networkPolicy, type ReachSettings, serviceMonitor } from "./reach.ts";
import type { KubeObject } from "./watch.ts";

type SideKind = Exclude<OptionalKind, "leaderworkersets">;

const OPTIONAL: Readonly<Record<SideKind, (workload: Workload, settings: RenderSettings) => Child["object"] | null>> = {
  servicemonitors: serviceMonitor,
  httproutes: httpRoute,
};

const STARTUP_PERIOD_S = 10;

/** Nobody in the image has the pod's user id: without these, engines look for a home of root's, and a name, in vain. */
const HOME = { HOME: "/cache", HF_HOME: "/cache/huggingface", USER: "llm" } as const;

export function deploymentPath({ metadata: { namespace, name } }: Workload): string {
  return `/apis/apps/v1/namespaces/${namespace}/deployments/${name}`;
}

/** What may be there and what must not be. */
export function childrenOf(workload: Workload, wanted: Wanted, settings: RenderSettings) {
  const { metadata } = workload;
  const { namespace, name } = metadata;
  const apps = deploymentPath(workload);
  const path = (base: string, kind: string, of = name) => `${base}/namespaces/${namespace}/${kind}/${of}`;
  const pdb = path("/apis/policy/v1", "poddisruptionbudgets");
  const policy = path("/apis/networking.k8s.io/v1", "networkpolicies");
  const config = path("/api/v1", "configmaps", `${name}-config`);
  const service = path("/api/v1", "services");
  const claim = path("/api/v1", "persistentvolumeclaims", claimNameOf(name));
  const { storage } = settings.pods;
  const optional = optionalPaths(path).filter(([kind]) => settings.optional.has(kind));
  const groups = settings.optional.has("leaderworkersets") ? [groupPath(workload)] : [];
  if (wanted.plan === null) {
    // Nobody is sent to pods that stop.
    const ways = [...optional.map(([, one]) => one), service];
    return { made: [], gone: [...ways, apps, ...groups, pdb, policy, config, claim] };
  }
  const plan = wanted.plan;
  const template = settings.template ?? templateOf(workload, plan, wanted.revision, settings);
  // A workload is one or the other: what it was before goes.
  const [runner, other] = isGroup(template) ? [groupPath(workload), [apps]] : [apps, groups];
  const isolation = networkPolicy(workload, plan, settings);
  // For a lone replica a budget would block every drain for ever.
  const hasBudget = wanted.desired >= 2;
  const others = optional.map(([kind, at]) => ({ path: at, object: OPTIONAL[kind](workload, settings) }));
  const made: Child[] = [
    { path: config, object: configMap(workload) },
    { path: service, object: serviceOf(workload, plan, settings.pods, isGroup(template)) },
    ...(storage?.kind === "csi" ? [{ path: claim, object: volumeClaim(workload, storage) }] : []),
    // Before the pods that it is for.
    ...(isolation === null ? [] : [{ path: policy, object: isolation }]),
    // A rollout that must wait leaves the template as it is, and the replicas too.
    ...(wanted.isBlocked
      ? []
      : [{ path: runner, object: runnerOf(workload, { ...wanted, plan }, template, settings) }]),
    ...(hasBudget ? [{ path: pdb, object: disruptionBudget(workload) }] : []),
    ...others.flatMap(({ path, object }) => (object === null ? [] : [{ path, object }])),
  ];
  const unwanted = others.filter(({ object }) => object === null).map((one) => one.path);
  const runners = wanted.isBlocked ? [] : other;
  const rest = [...(hasBudget ? [] : [pdb]), ...(isolation === null ? [policy] : []), ...unwanted];
  return { made, gone: [...runners, ...rest] };
}

function optionalPaths(path: (base: string, kind: string) => string): readonly (readonly [SideKind, string])[] {
  return [
    ["servicemonitors", path("/apis/monitoring.coreos.com/v1", "servicemonitors")],
    ["httproutes", path("/apis/gateway.networking.k8s.io/v1", "httproutes")],
  ];
}

export interface RenderSettings extends ReachSettings {
  readonly reconcile: ReconcileSettings;
  readonly pods: PodSettings;
  /** Whether the cluster has the RuntimeClass that pods are to have. */
  readonly hasRuntimeClass: boolean;
  /** PriorityClasses that are there. */
  readonly priorityClasses: ReadonlySet<string>;
  /** Of the GPUs of nodes that are there. */
  readonly products: readonly string[];
  /** Which ones pods of this revision are kept to already. */
  readonly liveProducts: readonly string[];
  /** What pods of this revision were first made from; `null`: it is new. */
  readonly template: Readonly<Record<string, unknown>> | null;
  /** Kinds that not every cluster has, and this one does. */
  readonly optional: ReadonlySet<OptionalKind>;
}

function configMap(workload: Workload): Child["object"] {
  const { modelName, modelVersion, modelType, parameters = {} } = workload.spec;
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: metaOf(workload, `${workload.metadata.name}-config`),
    data: { ...parameters, model_name: modelName, model_version: modelVersion, model_type: modelType },
  };
}

/** The collection that it is made in, and it. Under the names that the hub's own programs look for. */
export function tokenSecret(workload: Workload, token: string): Child {
  return {
    path: `/api/v1/namespaces/${workload.metadata.namespace}/secrets`,
    object: {
      apiVersion: "v1",
      kind: "Secret",
      metadata: metaOf(workload, hubSecretOf(workload.metadata)),
      type: "Opaque",
      stringData: Object.fromEntries(HUB_VARIABLES.map((name) => [name, token])),
    },
  };
}

function secretsOf({ metadata, spec }: Workload): readonly string[] {
  const given = spec.security?.secretRefs ?? [];
  return ANNOTATION.hubToken in metadata.annotations ? [...given, hubSecretOf(metadata)] : given;
}

function serviceOf(
  workload: Workload,
  { engine }: Plan,
  { serviceType }: PodSettings,
  isOfGroups: boolean,
): Child["object"] {
  const port = (name: string, number: number) => ({ name, port: number, targetPort: "http", protocol: "TCP" });
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: metaOf(workload),
    spec: {
      type: serviceType,
      selector: { ...selectorOf(workload), ...(isOfGroups ? LEADERS : {}) },
      ports: engine === "vllm" ? [port("http", 80), port("api", VLLM_PORT)] : [port("http", 80)],
    },
  };
}

/** It goes with its workload, and what was fetched into it, too. */
function volumeClaim(
  workload: Workload,
  { storageClass, size }: Extract<Storage, { readonly kind: "csi" }>,
): Child["object"] {
  return {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: metaOf(workload, claimNameOf(workload.metadata.name)),
    spec: {
      accessModes: ["ReadWriteMany"],
      storageClassName: storageClass,
      resources: { requests: { storage: size } },
    },
  };
}

function disruptionBudget(workload: Workload): Child["object"] {
  return {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: metaOf(workload),
    spec: { maxUnavailable: 1, selector: { matchLabels: selectorOf(workload) } },
  };
}

/** Fixed when its revision is new: neither another default image nor another version of this program rolls what runs. */
export function templateOf(workload: Workload, plan: Plan, revision: string, settings: TemplateSettings) {
  const alone = {
    metadata: { labels: { ...labelsOf(workload.metadata), [LABEL.revision]: revision } },
    spec: podSpec(workload, plan, settings),
  };
  return plan.nodes === 1 ? alone : { ...groupTemplate(alone, plan) };
}

/** What keeps the pods there. Which of a product's names they may have follows the nodes that there are. */
function runnerOf(
  workload: Workload,
  wanted: Wanted & { readonly plan: Plan },
  template: Readonly<Record<string, unknown>>,
  settings: RenderSettings,
): Child["object"] {
  const { plan, desired, extra, strategy, surge } = wanted;
  const required = plan.product === null ? {} : productAffinity(plan.product, settings);
  const placed = (one: Template) => {
    const nodeAffinity = { ...one.spec?.affinity?.nodeAffinity, ...required };
    return { ...one, spec: { ...one.spec, ...(plan.product === null ? {} : { affinity: { nodeAffinity } }) } };
  };
  if (!isGroup(template)) return deployment(workload, wanted, placed(template as Template));
  const { size, leaderTemplate, workerTemplate } = template;
  return leaderWorkerSet(
    workload,
    {
      size,
      leaderTemplate: placed(leaderTemplate as Template),
      workerTemplate: placed(workerTemplate as Template),
    },
    { replicas: desired + extra, surge, recreates: strategy === "recreate" },
  );
}

function deployment(
  workload: Workload,
  { plan, desired, extra, strategy, surge }: Wanted & { readonly plan: Plan },
  template: Template,
): Child["object"] {
  const rolling = { maxSurge: surge ? 1 : 0, maxUnavailable: surge ? 0 : 1 };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: metaOf(workload),
    spec: {
      replicas: desired + extra,
      revisionHistoryLimit: 10,
      progressDeadlineSeconds: plan.startSeconds + 60,
      strategy: strategy === "recreate" ? { type: "Recreate" } : { type: "RollingUpdate", rollingUpdate: rolling },
      selector: { matchLabels: selectorOf(workload) },
      template,
    },
  };
}

export type TemplateSettings = Pick<RenderSettings, "priorityClasses" | "reconcile" | "pods" | "hasRuntimeClass">;

function podSpec(workload: Workload, plan: Plan, settings: TemplateSettings) {
  const priority = `llm-${plan.qosClass}`;
  const { runtimeClass, storage } = settings.pods;
  // Where one of its replicas did not come up, the next one goes last.
  const untried = { matchExpressions: [{ key: avoidLabel(workload), operator: "DoesNotExist" }] };
  const preferred = { weight: 100, preference: untried };
  const hasRuntime = runtimeClass !== null && settings.hasRuntimeClass && plan.gpus > 0;
  return {
    automountServiceAccountToken: false,
    ...(hasRuntime ? { runtimeClassName: runtimeClass } : {}),
    ...(settings.priorityClasses.has(priority) ? { priorityClassName: priority } : {}),
    securityContext: {
      runAsNonRoot: true,
      runAsUser: 1_000,
      fsGroup: 2_000,
      seccompProfile: { type: "RuntimeDefault" },
    },
    affinity: { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [preferred] } },
    tolerations: [{ key: "nvidia.com/gpu", operator: "Exists", effect: "NoSchedule" }],
    containers: [containerOf(workload, plan, settings)],
    volumes: [
      { name: "tmp", emptyDir: {} },
      { name: "cache", emptyDir: {} },
      { name: "shm", emptyDir: { medium: "Memory" } },
      { name: "config", configMap: { name: `${workload.metadata.name}-config` } },
      ...(storage === null ? [] : [{ name: "models", ...volumeOf(workload, storage) }]),
    ],
  };
}

function volumeOf({ metadata }: Workload, storage: Storage) {
  if (storage.kind === "nfs") return { nfs: { server: storage.server, path: storage.path } };
  const claimName = storage.kind === "pvc" ? storage.claim : claimNameOf(metadata.name);
  return { persistentVolumeClaim: { claimName } };
}

/**
 * The label's value is the whole name, and what is asked for may be part of it: all that it fits among those that are
 * there. Where none is, it is taken as it stands. What pods of this revision have stays while one of it is there, or none
 * that fits: another template rolls them, and a node that comes or goes must not.
 */
function productAffinity(product: string, { products, liveProducts }: RenderSettings) {
  const fitting = [...new Set(products)].filter((name) => isOfProduct({ product: name }, product)).sort();
  const isKept = liveProducts.length > 0 && (fitting.length === 0 || liveProducts.some((one) => fitting.includes(one)));
  const values = isKept ? liveProducts : fitting.length > 0 ? fitting : [product];
  const term = { matchExpressions: [{ key: PRODUCT, operator: "In", values }] };
  return { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [term] } };
}

/** Which products the pods of `revision` are kept to, as the Deployment stands; none: it is another revision's. */
export function productsIn(live: KubeObject, revision: string): readonly string[] {
  const template = podTemplateIn(live);
  if (template?.metadata?.labels?.[LABEL.revision] !== revision) return [];
  const required = template.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  const expressions = (required?.nodeSelectorTerms ?? []).flatMap(({ matchExpressions = [] }) => matchExpressions);
  return expressions.find(({ key }) => key === PRODUCT)?.values ?? [];
}

/** What it starts pods of `revision` from; `null`: it is another revision's. */
export function templateIn(live: KubeObject, revision: string): Readonly<Record<string, unknown>> | null {
  const template = podTemplateIn(live);
  if (template?.metadata?.labels?.[LABEL.revision] !== revision) return null;
  return { ...(templateOfGroups(live) ?? template) };
}

function podTemplateIn(live: KubeObject): Template | undefined {
  const { template } = (live.spec ?? {}) as { readonly template?: Template };
  return (templateOfGroups(live)?.leaderTemplate as Template | undefined) ?? template;
}

interface Template {
  readonly metadata?: { readonly labels?: Readonly<Record<string, string>> };
  readonly spec?: { readonly affinity?: { readonly nodeAffinity?: NodeAffinity } };
}

interface NodeAffinity {
  readonly requiredDuringSchedulingIgnoredDuringExecution?: {
    readonly nodeSelectorTerms?: readonly {
      readonly matchExpressions?: readonly { readonly key?: string; readonly values?: readonly string[] }[];
    }[];
  };
}

function containerOf(workload: Workload, plan: Plan, { reconcile, pods: { storage } }: TemplateSettings) {
  const { spec } = workload;
  const { port } = plan;
  const secrets = secretsOf(workload);
  const isVllm = plan.engine === "vllm";
  // What one replica has fetched the next one finds.
  const kept = storage === null ? {} : { HF_HOME: `${storage.mountPath}/huggingface` };
  const model = { MODEL_NAME: spec.modelName, MODEL_VERSION: spec.modelVersion, MODEL_TYPE: spec.modelType };
  const env = { ...model, ...(isVllm ? { ...HOME, ...kept } : {}), ...plan.env };
  const probe = (path: string) => ({ httpGet: { path, port: "http", scheme: "HTTP" } });
  return {
    name: "llm-server",
    image: plan.image,
    ...(isVllm ? { args: [`--model=${plan.model}`, "--host=0.0.0.0", `--port=${port}`, ...plan.flags] } : argsOf(plan)),
    env: Object.entries(env).map(([name, value]) => ({ name, value })),
    ...(secrets.length === 0 ? {} : { envFrom: secrets.map((name) => ({ secretRef: { name } })) }),
    ports: [
      { name: "http", containerPort: port, protocol: "TCP" },
      ...(isVllm ? [] : [{ name: "grpc", containerPort: GRPC_PORT, protocol: "TCP" }]),
    ],
    resources: resourcesOf(plan, reconcile),
    startupProbe: {
      ...probe("/health"),
      periodSeconds: STARTUP_PERIOD_S,
      failureThreshold: Math.ceil(plan.startSeconds / STARTUP_PERIOD_S),
    },
    readinessProbe: { ...probe(isVllm ? "/health" : "/ready"), periodSeconds: 5, failureThreshold: 3 },
    livenessProbe: { ...probe("/health"), periodSeconds: 10, failureThreshold: 6 },
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    },
    volumeMounts: [
      { name: "tmp", mountPath: "/tmp" },
      { name: "cache", mountPath: HOME.HOME },
      { name: "shm", mountPath: "/dev/shm" },
      { name: "config", mountPath: "/etc/config" },
      ...(storage === null ? [] : [{ name: "models", mountPath: storage.mountPath }]),
    ],
  };
}

function argsOf({ flags }: Plan) {
  return flags.length === 0 ? {} : { args: flags };
}

/** Memory is guaranteed whole, since its want kills; GPUs are whole by their nature; of CPU a class guarantees a part. */
function resourcesOf({ nodes, gpus, resource, qosClass, ...asked }: Plan, { qos }: ReconcileSettings) {
  const { resourceGuarantee: guarantee, cpuMultiplier: burst } = qos[qosClass];
  const cpuMillis = asked.cpuMillis / nodes;
  const memory = formatMemory(Math.ceil(asked.memoryBytes / nodes));
  const devices = gpus === 0 ? {} : { [resource]: String(gpus / nodes) };
  return {
    requests: { cpu: formatCpu(Math.max(1, Math.ceil(cpuMillis * guarantee))), memory, ...devices },
    limits: { cpu: formatCpu(Math.ceil(cpuMillis * Math.max(1, burst))), memory, ...devices },
  };
}
