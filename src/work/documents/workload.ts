/** A workload as it is sent: the flat JSON of the LLM Orchestrator, or a document of the kind Service. */
import type { JsonObject, JsonValue } from "../../core/base/json.ts";
import { WorkError } from "../errors.ts";
import type { Readiness, Resources, RestartRule, WorkSpec } from "../model.ts";
import { formatMemory, parseCpuMillis, parseMemoryBytes } from "../quantities.ts";
import {
  LABELS_KIND,
  MAX_GPUS,
  MAX_REPLICAS,
  METADATA_KEYS,
  NAME_KIND,
  OURS,
  RESTART_KEYS,
  RUN_KEYS,
  SPEC_KEYS,
} from "./keys.ts";
import {
  anything,
  at,
  cpu,
  examine,
  type Findings,
  integer,
  isObject,
  matching,
  memory,
  oneOf,
  type Shape,
  words,
} from "./shape.ts";
import { hardwareOf, livenessOf, namePartsOf, type Profile, readinessOf, restartOf, runPartOf } from "./spec.ts";
import { invalidDocument } from "./task.ts";

/** `work.models.<modelName>`: what workloads of that model run. */
export interface ModelSettings {
  readonly executor: string;
  readonly identifier: string | null;
  readonly gpu: number | null;
  readonly readiness: Readiness | null;
}

export interface WorkloadSettings {
  readonly models: Readonly<Record<string, ModelSettings>>;
  readonly profiles: Readonly<Record<string, Profile>>;
  readonly byDefault: Profile;
}

export interface WorkloadDraft {
  /** `null`: one is made. */
  readonly id: string | null;
  readonly name: string;
  readonly modelName: string;
  readonly modelType: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly resources: JsonObject;
  readonly replicas: number;
  readonly spec: WorkSpec | null;
  readonly restart: RestartRule;
  readonly message: string | null;
  readonly warnings: readonly string[];
}

const RESOURCES: Shape = {
  cpu,
  memory,
  gpu: integer(0, MAX_GPUS),
  profile: words(64),
  gpu_memory_mb: integer(1, 2 ** 31),
  gpu_model: matching("part of a GPU's name", /^[A-Za-z0-9 ._-]{1,64}$/),
};

export const FLAT_WORKLOAD: Shape = {
  id: matching(
    "an id of 1 to 128 of A-Z a-z 0-9 . _ -, beginning with a letter or digit",
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/,
  ),
  name: matching("text of 1 to 128 characters", /^(?!\s)[^\p{C}]{1,128}(?<!\s)$/u),
  modelName: words(256),
  modelType: words(128),
  resources: RESOURCES,
  labels: LABELS_KIND,
  replicas: integer(0, MAX_REPLICAS),
  model: SPEC_KEYS.model as Shape,
  ...RUN_KEYS,
  ...RESTART_KEYS,
  // What the answers have, and a client may send back: it says nothing.
  status: anything,
  metrics: anything,
  createdAt: anything,
  updatedAt: anything,
};

export const SERVICE_DOCUMENT: Shape = {
  apiVersion: oneOf(OURS),
  kind: oneOf("Service"),
  metadata: { ...METADATA_KEYS, name: NAME_KIND },
  spec: { ...SPEC_KEYS, ...RUN_KEYS, ...RESTART_KEYS },
};

/** @throws WorkError `document-invalid` */
export function readWorkload(value: JsonValue, settings: WorkloadSettings): WorkloadDraft {
  if (!isObject(value)) throw new WorkError("document-invalid", "expected a map");
  return at(value, "kind") === undefined ? readFlat(value, settings) : readService(value, settings);
}

function readFlat(body: JsonObject, settings: WorkloadSettings): WorkloadDraft {
  const findings: Findings = { problems: [], warnings: [] };
  examine(body, FLAT_WORKLOAD, "", true, findings);
  const { problems, warnings } = findings;
  if (at(body, "name") === undefined) problems.push({ path: "name", message: "is needed" });
  const profileName = at(body, "resources", "profile") as string | undefined;
  const profile = profileName === undefined ? settings.byDefault : own(settings.profiles, profileName);
  if (profile === null) {
    problems.push({ path: "resources.profile", message: `work.profiles has no ${JSON.stringify(profileName)}` });
  }
  if (problems.length > 0) throw invalidDocument(problems);
  const modelName = (at(body, "modelName") as string | undefined) ?? "";
  const model = modelNamed(settings, modelName);
  const resources = flatResources(body, profile ?? settings.byDefault, model);
  const chosen = executorOf(body, modelName, model);
  return {
    id: (at(body, "id") as string | undefined) ?? null,
    name: at(body, "name") as string,
    modelName,
    modelType: (at(body, "modelType") as string | undefined) ?? "",
    labels: (at(body, "labels") as Readonly<Record<string, string>> | undefined) ?? {},
    resources: shownResources(resources, body),
    replicas: (at(body, "replicas") as number | undefined) ?? 1,
    spec: typeof chosen === "string" ? null : specOf(body, chosen, resources, model, { spec: body }),
    restart: restartOf(body),
    message: typeof chosen === "string" ? chosen : null,
    warnings,
  };
}

function readService(document: JsonObject, settings: WorkloadSettings): WorkloadDraft {
  const findings: Findings = { problems: [], warnings: [] };
  examine(document, SERVICE_DOCUMENT, "", true, findings);
  const { problems, warnings } = findings;
  const name = at(document, "metadata", "name") as string | undefined;
  if (name === undefined) problems.push({ path: "metadata.name", message: "is needed" });
  if (at(document, "apiVersion") === undefined) problems.push({ path: "apiVersion", message: `expected ${OURS}` });
  if (problems.length > 0) throw invalidDocument(problems);
  const spec = (at(document, "spec") as JsonObject | undefined) ?? {};
  const identifier = (at(spec, "model", "source", "identifier") as string | undefined) ?? "";
  const model = modelNamed(settings, identifier);
  const resources = hardwareOf(spec, settings.byDefault);
  const chosen = executorOf(spec, identifier, model);
  return {
    id: null,
    name: name as string,
    modelName: identifier,
    modelType: (at(spec, "taskType") as string | undefined) ?? "service",
    labels: (at(document, "metadata", "labels") as Readonly<Record<string, string>> | undefined) ?? {},
    resources: shownResources(resources, spec),
    replicas: (at(spec, "resources", "replicas") as number | undefined) ?? 1,
    spec: typeof chosen === "string" ? null : specOf(spec, chosen, resources, model, document),
    restart: restartOf(spec),
    message: typeof chosen === "string" ? chosen : null,
    warnings,
  };
}

/** `*` stands for every model without settings of its own. */
function modelNamed({ models }: WorkloadSettings, name: string): ModelSettings | null {
  return own(models, name) ?? (name === "" ? null : own(models, "*"));
}

interface Chosen {
  readonly executor: string;
  readonly identifier: string | null;
}

/** What runs it; text: why nothing can, naming the setting that would change it. */
function executorOf(given: JsonObject, modelName: string, model: ModelSettings | null): Chosen | string {
  const named = at(given, "executor") as string | undefined;
  const identifier = (at(given, "model", "source", "identifier") as string | undefined) ?? model?.identifier ?? null;
  if (named !== undefined) return { executor: named, identifier: identifier ?? (modelName === "" ? null : modelName) };
  if (model !== null) return { executor: model.executor, identifier: identifier ?? modelName };
  if (modelName === "") return "names neither a model nor an executor, so there is nothing to start";
  return `no settings for its model: work.models.${JSON.stringify(modelName)} is not set`;
}

function specOf(
  given: JsonObject,
  chosen: Chosen,
  resources: Resources,
  model: ModelSettings | null,
  document: JsonObject,
): WorkSpec {
  return {
    ...runPartOf(given),
    executor: chosen.executor,
    taskType: "service",
    identifier: chosen.identifier,
    resources,
    readiness: readinessOf(given, model?.readiness ?? null),
    liveness: livenessOf(given),
    document,
  };
}

function flatResources(body: JsonObject, profile: Profile, model: ModelSettings | null): Resources {
  const count = (at(body, "resources", "gpu") as number | undefined) ?? model?.gpu ?? profile.gpus;
  return {
    cpuMillis: parseCpuMillis(at(body, "resources", "cpu")) ?? profile.cpuMillis,
    memoryBytes: parseMemoryBytes(at(body, "resources", "memory")) ?? profile.memoryBytes,
    gpu:
      count === 0
        ? null
        : {
            count,
            nameParts: namePartsOf(at(body, "resources", "gpu_model") as string | undefined),
            memoryMib:
              ((at(body, "resources", "gpu_memory_mb") ?? at(body, "gpu_memory_mb")) as number | undefined) ?? null,
          },
  };
}

/** As they were written, where they were; what was left out, as it came to be. */
function shownResources(resources: Resources, body: JsonObject): JsonObject {
  const given = (key: string) => at(body, "resources", key);
  return {
    cpu: given("cpu") ?? `${resources.cpuMillis}m`,
    memory: given("memory") ?? formatMemory(resources.memoryBytes),
    gpu: resources.gpu?.count ?? 0,
    ...Object.fromEntries(
      ["profile", "gpu_memory_mb", "gpu_model"].flatMap((key) => (given(key) === undefined ? [] : [[key, given(key)]])),
    ),
  };
}

function own<T>(map: Readonly<Record<string, T>>, key: string): T | null {
  return Object.hasOwn(map, key) ? (map[key] as T) : null;
}

export interface WorkloadChange {
  readonly replicas: number | null;
  readonly labels: Readonly<Record<string, string>> | null;
}

export const WORKLOAD_CHANGE: Shape = { replicas: integer(0, MAX_REPLICAS), labels: LABELS_KIND };

/** @throws WorkError `document-invalid` */
export function readWorkloadChange(value: JsonValue): WorkloadChange {
  if (!isObject(value)) throw new WorkError("document-invalid", "expected a map");
  const findings: Findings = { problems: [], warnings: [] };
  examine(value, WORKLOAD_CHANGE, "", true, findings);
  if (findings.problems.length > 0) throw invalidDocument(findings.problems);
  return {
    replicas: (at(value, "replicas") as number | undefined) ?? null,
    labels: (at(value, "labels") as Readonly<Record<string, string>> | undefined) ?? null,
  };
}
