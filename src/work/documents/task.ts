/** A task's document: `mloc/v1` word for word, or `gpu-orchestrator/v1`, which adds to it. */
import type { JsonObject, JsonValue } from "../../core/base/json.ts";
import { type DocumentProblem, WorkError } from "../errors.ts";
import type { RetryRule, WorkSpec } from "../model.ts";
import { METADATA_KEYS, MLOC, OURS, RETRY_KEYS, RUN_KEYS, SPEC_KEYS } from "./keys.ts";
import { at, examine, type Findings, isObject, type Shape, words } from "./shape.ts";
import { hardwareOf, type Profile, retryOf, runPartOf } from "./spec.ts";

export interface TaskSettings {
  /** The executor of each task type. */
  readonly taskTypes: Readonly<Record<string, string>>;
  readonly byDefault: Profile;
  /** The model of a task that names none; left out: there is none. */
  readonly defaultModel?: (executor: string) => string | null;
}

export interface TaskDraft {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly replicas: number;
  readonly spec: WorkSpec;
  readonly retry: RetryRule;
  readonly dependsOn: readonly string[];
  readonly webhookUrl: string | null;
  readonly warnings: readonly string[];
}

/** MLOC looks for these, in this order. */
const NEEDED = ["apiVersion", "kind", "metadata", "spec", "spec.taskType"] as const;
const MAX_WARNINGS = 8;

export const TASK_DOCUMENT: Shape = {
  apiVersion: words(64),
  kind: words(64),
  metadata: METADATA_KEYS,
  spec: { ...SPEC_KEYS, ...RUN_KEYS, ...RETRY_KEYS },
};

/**
 * Reads a task's document.
 *
 * @throws WorkError `document-incomplete` when a key is missing, `document-invalid` when a value is wrong.
 */
export function readTask(document: JsonValue, settings: TaskSettings): TaskDraft {
  if (!isObject(document)) throw incomplete(NEEDED.map(missing));
  const absent = NEEDED.filter((key) => at(document, ...key.split(".")) === undefined);
  if (absent.length > 0) throw incomplete(absent.map(missing));
  const isOurs = at(document, "apiVersion") === OURS;
  const findings: Findings = { problems: [], warnings: [] };
  examine(document, TASK_DOCUMENT, "", isOurs, findings);
  const { problems, warnings } = findings;
  if (!isOurs && at(document, "apiVersion") !== MLOC) {
    problems.push({ path: "apiVersion", message: `expected ${MLOC} or ${OURS}` });
  }
  const kind = at(document, "kind");
  if (typeof kind === "string" && !/^[A-Za-z]*Task$/.test(kind)) {
    problems.push({
      path: "kind",
      message: "expected Task, or a kind that ends in Task; a Service goes to /workloads",
    });
  }
  const spec = at(document, "spec") as JsonObject;
  const isUpload = at(spec, "output", "destination", "type") === "http";
  if (isUpload && at(spec, "output", "destination", "url") === undefined) {
    problems.push({ path: "spec.output.destination.url", message: "is needed by the type http" });
  }
  const taskType = at(document, "spec", "taskType") as string;
  const executor = (at(document, "spec", "executor") as string | undefined) ?? executorOf(taskType, settings);
  if (executor === null) {
    const known = Object.keys(settings.taskTypes).sort().join(", ");
    problems.push({
      path: "spec.taskType",
      message: `no executor is set for it in work.task_types, which has ${known}`,
    });
  }
  if (problems.length > 0) throw invalidDocument(problems);
  warnings.push(...ignoredKeys(spec));
  return {
    name: (at(document, "metadata", "name") as string | undefined) ?? taskType,
    labels: (at(document, "metadata", "labels") as Readonly<Record<string, string>> | undefined) ?? {},
    replicas: (at(document, "spec", "resources", "replicas") as number | undefined) ?? 1,
    spec: {
      ...runPartOf(spec),
      executor: executor as string,
      taskType,
      identifier:
        (at(spec, "model", "source", "identifier") as string | undefined) ??
        settings.defaultModel?.(executor as string) ??
        null,
      resources: hardwareOf(spec, settings.byDefault),
      readiness: null,
      liveness: null,
      ...serviceOf(spec),
      document,
    },
    retry: retryOf(spec, taskType),
    dependsOn: (at(spec, "depends_on") as readonly string[] | undefined) ?? [],
    webhookUrl: (at(spec, "webhook_url") as string | undefined) ?? null,
    warnings: warnings.slice(0, MAX_WARNINGS),
  };
}

function serviceOf(spec: JsonObject): Pick<WorkSpec, "service"> {
  const service = at(spec, "model", "service");
  return typeof service === "string" ? { service } : {};
}

function executorOf(taskType: string, { taskTypes }: TaskSettings): string | null {
  return Object.hasOwn(taskTypes, taskType) ? (taskTypes[taskType] as string) : null;
}

/** Keys that are taken because MLOC has them, and act on nothing here. */
function ignoredKeys(spec: JsonObject): string[] {
  const ignored = [
    ["model", "vllm", "download_dir"],
    ["output", "destination", "path"],
  ];
  const places = ignored
    .filter((path) => at(spec, ...path) !== undefined)
    .map((path) => `spec.${path.join(".")}: ignored, since where things are stored is the host's business`);
  const asksForGpus =
    at(spec, "resources", "hardware", "gpu", "count") ?? at(spec, "resources", "hardware", "gpu") ?? 0;
  const isIdle = at(spec, "gpu_memory_mb") !== undefined && asksForGpus === 0;
  return isIdle ? [...places, "spec.gpu_memory_mb: ignored, since no GPU is asked for"] : places;
}

function missing(key: string): DocumentProblem {
  return { path: key, message: `Missing required field: ${key}` };
}

function incomplete(problems: readonly DocumentProblem[]): WorkError {
  return new WorkError("document-incomplete", (problems[0] as DocumentProblem).message, problems);
}

export function invalidDocument(problems: readonly DocumentProblem[]): WorkError {
  const [first, ...others] = problems;
  const more = others.length === 0 ? "" : ` (and ${others.length} more)`;
  return new WorkError("document-invalid", `${first?.path}: ${first?.message}${more}`, problems);
}

/** The prompts of an inference task: those of `inference`, else of `data`. */
export function promptsOf(document: JsonObject): readonly string[] {
  const found =
    at(document, "spec", "inference", "prompts") ??
    at(document, "spec", "data", "items") ??
    at(document, "spec", "data", "prompts");
  return (found as readonly string[] | undefined) ?? [];
}

/** What replica `replica` of `replicas` sees of a task: of its prompts every `replicas`th, so that all get as many. */
export function shareOf(document: JsonObject, replica: number, replicas: number): JsonObject {
  const prompts = promptsOf(document);
  if (replicas === 1 || prompts.length === 0) return document;
  const spec = at(document, "spec") as JsonObject;
  const inference = (at(spec, "inference") as JsonObject | undefined) ?? {};
  const own = prompts.filter((_, index) => index % replicas === replica);
  return { ...document, spec: { ...spec, inference: { ...inference, prompts: own } } };
}

/** Without what only the daemon needs, which sends the result: the header fields of its destination may hold a secret. */
export function withoutUploadHeaders(document: JsonObject): JsonObject {
  if (at(document, "spec", "output", "destination", "headers") === undefined) return document;
  const spec = document.spec as JsonObject;
  const output = spec.output as JsonObject;
  const { headers: _, ...destination } = output.destination as JsonObject;
  return { ...document, spec: { ...spec, output: { ...output, destination } } };
}
