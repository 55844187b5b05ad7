/** From what the second seed's clients send to workloads. */
import { createHash } from "node:crypto";
import { invalid } from "../../http/exchange/problems.ts";
import { ControllerError } from "../objects/errors.ts";
import { ANNOTATION, LABEL, LABEL_VALUE, type Metadata, tenantOf } from "../objects/meta.ts";
import { type RevisionParts, specOf } from "../objects/revision.ts";
import { readSpec } from "../objects/rules.ts";
import { restored } from "../objects/secrets.ts";
import type { WorkloadDraft } from "../objects/store.ts";
import type { Workload, WorkloadSpec } from "../objects/workload.ts";
import type { ControllerSettings } from "../settings/settings.ts";
import type { CreateAsk, UpdateAsk } from "./asks.ts";

/** What a deployment that states nothing has. */
const FIRST: Pick<WorkloadSpec, "scaling" | "replicas"> = {
  scaling: { minReplicas: 1, maxReplicas: 1, strategy: "horizontal" },
  replicas: 1,
};

/** One gives a workload's pods a Secret, the other is its model's id in every answer. Callers set neither. */
const OWN_ANNOTATIONS = [ANNOTATION.modelId, ANNOTATION.hubToken] as const;

/** A deployment's id is the name of its object: `vllm-<model_id>-<8 hex>`, as a Kubernetes name. */
export function deploymentId(modelId: string, random: string): string {
  const model = modelId
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 48)
    .replace(/-+$/, "");
  const hex = createHash("sha256").update(random).digest("hex").slice(0, 8);
  return `vllm-${model === "" ? "model" : model}-${hex}`;
}

/** @throws HttpError 422, ControllerError `not-yet` */
export function draftOf(ask: CreateAsk, tenant: string, id: string, settings: ControllerSettings): WorkloadDraft {
  const hasToken = ask.huggingface_token !== undefined;
  if (hasToken && !keepsTokens(settings)) {
    throw new ControllerError(
      "not-yet",
      "huggingface_token: this host has no folder for tokens; its admin names one by host.secrets_dir",
    );
  }
  const required = ask.model_requirements ?? {};
  const gpus = ask.gpu_per_replica ?? ask.gpu_count ?? required.gpu_count ?? undefined;
  const model = LABEL_VALUE.test(ask.model_id)
    ? { labels: { [LABEL.model]: ask.model_id }, annotations: {} }
    : { labels: {}, annotations: { [ANNOTATION.modelId]: ask.model_id } };
  const isHubId = ask.model_path !== undefined || ask.model_name.includes("/");
  return {
    namespace: settings.namespace,
    name: id,
    labels: { ...without(ask.labels, LABEL.model), ...model.labels, [LABEL.tenant]: tenant },
    annotations: {
      ...without(ask.annotations, ...OWN_ANNOTATIONS),
      ...model.annotations,
      ...(hasToken ? { [ANNOTATION.hubToken]: "secret" } : {}),
    },
    spec: checked({
      modelName: ask.model_name,
      modelVersion: String(ask.model_version ?? ask.model_params?.version ?? "latest"),
      modelType: "text-generation",
      resources: {
        ...resourcesOf(ask, requiredOf(ask, settings.defaults)),
        ...(gpus === undefined ? {} : { gpu: String(gpus) }),
        ...(ask.gpu_type === undefined ? {} : { gpuType: ask.gpu_type }),
      },
      ...scalingOf(ask, FIRST),
      performance: {},
      ...(ask.qos_class === undefined ? {} : { qosClass: ask.qos_class }),
      engine: {
        type: "vllm",
        ...(isHubId ? { model: ask.model_path ?? ask.model_name } : {}),
        config: ask.vllm_config ?? {},
        env: ask.environment_vars ?? {},
      },
    }),
  };
}

/** Whether a token that a caller brings can be kept where no answer, log or database has it. */
function keepsTokens({ backend, daemon, simulate }: ControllerSettings): boolean {
  return backend === "kubernetes" || daemon.secrets !== null || simulate !== null;
}

/** @throws HttpError 422 */
export function changedDraft({ metadata, spec }: Workload, ask: UpdateAsk): WorkloadDraft {
  const { cpu, memory } = spec.resources;
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    labels: labelsAfter(metadata, ask.labels),
    annotations: { ...metadata.annotations, ...without(ask.annotations, ...OWN_ANNOTATIONS) },
    spec: checked({
      ...spec,
      resources: {
        ...spec.resources,
        ...resourcesOf(ask, { cpu, memory }),
        ...(ask.gpu_per_replica === undefined ? {} : { gpu: String(ask.gpu_per_replica) }),
      },
      ...scalingOf(ask, spec),
      ...(ask.qos_class === undefined ? {} : { qosClass: ask.qos_class }),
      engine: {
        ...spec.engine,
        ...(ask.vllm_config === undefined ? {} : { config: restored(ask.vllm_config, spec.engine?.config) }),
        ...(ask.environment_vars === undefined ? {} : { env: ask.environment_vars }),
      },
    }),
  };
}

/** Another annotation, and so another revision: what runs is replaced by the rules of a rollout. */
export function restartDraft({ metadata, spec }: Workload, at: string): WorkloadDraft {
  return { ...metadata, annotations: { ...metadata.annotations, [ANNOTATION.restartedAt]: at }, spec };
}

/** What it was as another revision; how many replicas it has, and whose it is, stays. */
export function undoneDraft({ metadata, spec }: Workload, parts: RevisionParts): WorkloadDraft {
  const annotations = { ...metadata.annotations, [ANNOTATION.restartedAt]: parts.restartedAt ?? "" };
  return { ...metadata, annotations, spec: checked(specOf(spec, parts)) };
}

/** @throws ControllerError `wrong-state` */
export function changeable(workload: Workload): Workload {
  if (workload.metadata.deletionTimestamp === null) return workload;
  throw new ControllerError("wrong-state", `${workload.metadata.name} is terminating`);
}

/** `null`: automatic again. */
export function scaledDraft({ metadata, spec }: Workload, replicas: number | null): WorkloadDraft {
  const { replicas: _, ...rest } = spec;
  return { ...metadata, spec: replicas === null ? rest : { ...rest, replicas } };
}

/** Whose it is and which model's cannot be changed by labels, nor by one that was not there before. */
function labelsAfter(metadata: Metadata, asked: UpdateAsk["labels"]): Record<string, string> {
  return { ...metadata.labels, ...without(asked, LABEL.model), [LABEL.tenant]: tenantOf(metadata) };
}

/** What a caller says of annotations: those that are ours to say stay as they were. */
export function annotationsAfter(
  { annotations: old = {} }: Partial<Pick<Metadata, "annotations">>,
  given: Readonly<Record<string, string>> | undefined,
): Record<string, string> {
  const own = OWN_ANNOTATIONS.flatMap((name) => (old[name] === undefined ? [] : [[name, old[name]] as const]));
  return { ...without(given, ...OWN_ANNOTATIONS), ...Object.fromEntries(own) };
}

/** What is ours to say, callers do not. */
function without(given: Readonly<Record<string, string>> | undefined, ...names: readonly string[]) {
  return Object.fromEntries(Object.entries(given ?? {}).filter(([name]) => !names.includes(name)));
}

function resourcesOf(ask: UpdateAsk, byDefault: { readonly cpu: string; readonly memory: string }) {
  const cpu = ask.cpu_limit ?? ask.cpu_request;
  const memory = ask.memory_limit ?? ask.memory_request;
  return {
    cpu: cpu === undefined ? byDefault.cpu : String(cpu),
    memory: memory === undefined ? byDefault.memory : typeof memory === "number" ? `${memory}Gi` : memory,
  };
}

/** What a model registry says that its model needs goes over what all have. */
function requiredOf({ model_requirements: required }: CreateAsk, byDefault: ControllerSettings["defaults"]) {
  const { cpu_cores: cores, memory_gb: memory } = required ?? {};
  return {
    cpu: cores == null ? byDefault.cpu : String(cores),
    memory: memory == null ? byDefault.memory : `${memory}Gi`,
  };
}

/** With bounds it scales by itself; without, it has as many replicas as are stated. */
function scalingOf(ask: UpdateAsk, before: Pick<WorkloadSpec, "scaling" | "replicas">) {
  const { min_replicas: min, max_replicas: max, target_gpu_utilization: target } = ask;
  const isAutomatic = min !== undefined || max !== undefined || target !== undefined;
  const replicas = ask.replicas ?? (isAutomatic ? undefined : before.replicas);
  const least = Math.max(1, min ?? before.scaling.minReplicas);
  const targets = target === undefined ? before.scaling.targetMetrics : [{ type: "gpu_utilization", target }];
  return {
    scaling: {
      ...before.scaling,
      minReplicas: least,
      maxReplicas: max ?? Math.max(least, replicas ?? 1, before.scaling.maxReplicas),
      ...(targets === undefined ? {} : { targetMetrics: targets }),
    },
    ...(isAutomatic || replicas === undefined ? { replicas: undefined } : { replicas }),
  };
}

function checked(spec: unknown): WorkloadSpec {
  // What is absent stays absent: JSON knows no undefined.
  const read = readSpec(JSON.parse(JSON.stringify(spec)));
  if ("breaches" in read) throw invalid(read.breaches);
  return read.spec;
}
