/** Tasks and workloads as the tests want them. */
import { readTask, type TaskDraft } from "../../src/work/documents/task.ts";
import { readWorkload } from "../../src/work/documents/workload.ts";
import type { RestartRule, RetryRule, Task, Workload } from "../../src/work/model.ts";
import { newSlot } from "../../src/work/state.ts";

export const PROFILE = { cpuMillis: 1_000, memoryBytes: 2 * 2 ** 30, gpus: 0 };
export const TASK_SETTINGS = {
  taskTypes: { inference: "vllm", ppo: "ppo", echo: "echo", job: "process" },
  byDefault: PROFILE,
};
export const WORKLOAD_SETTINGS = {
  models: {
    llama2: {
      executor: "vllm",
      identifier: "meta/llama2",
      gpu: null,
      readiness: { http: "/health", intervalMs: 1_000 },
    },
  },
  profiles: { small: PROFILE, large: { cpuMillis: 8_000, memoryBytes: 32 * 2 ** 30, gpus: 4 } },
  byDefault: PROFILE,
};

export function document(spec: object = {}, more: object = {}) {
  return {
    apiVersion: "gpu-orchestrator/v1",
    kind: "Task",
    metadata: { name: "job" },
    spec: { taskType: "job", command: ["/bin/true"], ...spec },
    ...more,
  };
}

export function taskOf(id: string, draft: TaskDraft, owner = "alice", at = 0): Task {
  const { name, labels, spec, retry, dependsOn, webhookUrl, warnings, replicas } = draft;
  return {
    id,
    owner,
    name,
    rawYaml: "",
    labels,
    spec,
    retry,
    dependsOn,
    webhookUrl,
    warnings,
    status: "PENDING",
    slots: Array.from({ length: replicas }, (_, replica) => newSlot(replica)),
    submittedAt: at,
    startedAt: null,
    finishedAt: null,
    cancelling: false,
    error: null,
  };
}

export interface Wish {
  readonly gpus?: number;
  readonly replicas?: number;
  readonly retry?: Partial<RetryRule>;
  readonly dependsOn?: readonly string[];
  readonly owner?: string;
  readonly spec?: object;
}

export function aTask(
  id: string,
  { gpus = 1, replicas = 1, retry = {}, dependsOn = [], owner = "alice", spec = {} }: Wish = {},
): Task {
  const hardware = gpus === 0 ? {} : { gpu: { count: gpus } };
  const draft = readTask(document({ resources: { replicas, hardware }, ...spec }), TASK_SETTINGS);
  return taskOf(id, { ...draft, dependsOn, retry: { ...draft.retry, ...retry } }, owner);
}

export function aWorkload(uid: string, replicas = 1, restart: Partial<RestartRule> = {}, gpus = 1): Workload {
  const draft = readWorkload(
    { id: `name-of-${uid}`, name: "service", modelName: "llama2", replicas, resources: { gpu: gpus } },
    WORKLOAD_SETTINGS,
  );
  return {
    uid,
    id: draft.id as string,
    owner: "alice",
    name: draft.name,
    modelName: draft.modelName,
    modelType: draft.modelType,
    labels: {},
    resources: draft.resources,
    spec: draft.spec,
    restart: { ...draft.restart, ...restart },
    replicas,
    slots: Array.from({ length: replicas }, (_, replica) => newSlot(replica)),
    generation: 0,
    createdAt: 0,
    updatedAt: 0,
    deleted: false,
    message: null,
  };
}
