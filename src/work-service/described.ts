/** The calls of running work as the API's document has them. Loaded when somebody asks for it. */
import { stringify } from "yaml";
import { z } from "zod";
import type { ZodOpenApiOperationObject, ZodOpenApiPathsObject } from "zod-openapi";
import { EXCHANGE_PROBLEMS, PROBLEM_TYPE } from "../http/exchange/problems.ts";
import { problemSchema } from "../wire/service/answers.ts";
import * as answers from "../wire/work/answers.ts";
import { schemaOf } from "../work/documents/shape.ts";
import { TASK_DOCUMENT } from "../work/documents/task.ts";
import { FLAT_WORKLOAD, SERVICE_DOCUMENT, WORKLOAD_CHANGE } from "../work/documents/workload.ts";
import { WORK_PROBLEMS } from "./refusals.ts";

const PROBLEMS = { ...EXCHANGE_PROBLEMS, ...WORK_PROBLEMS };
type Code = keyof typeof PROBLEMS;

const OPEN: readonly Code[] = [
  "malformed-request",
  "headers-too-large",
  "foreign-host",
  "foreign-origin",
  "limit-reached",
  "too-busy",
  "internal-error",
];
const KEYED: readonly Code[] = [...OPEN, "unauthenticated", "role-too-low", "validation-failed", "work-disabled"];
const WITH_BODY: readonly Code[] = [
  "malformed-json",
  "request-timeout",
  "body-too-large",
  "unsupported-media-type",
  "document-invalid",
];
const CHANGING: readonly Code[] = ["work-storage-unavailable", "not-owner"];
const SUBMITTING: readonly Code[] = [
  ...WITH_BODY,
  ...CHANGING,
  "malformed-yaml",
  "not-allowed",
  "work-full",
  "idempotency-key-in-use",
  "idempotency-key-reused",
];

function problems(codes: readonly Code[]) {
  const byStatus = Map.groupBy(new Set(codes), (code) => PROBLEMS[code].status);
  const responses = [...byStatus].map(([status, list]) => {
    const description = list.map((code) => `${code}: ${PROBLEMS[code].title}`).join("; ");
    return [String(status), { description, content: { [PROBLEM_TYPE]: { schema: problemSchema } } }];
  });
  return Object.fromEntries(responses) as Record<`${4 | 5}${string}`, object>;
}

function json(description: string, schema: z.ZodType) {
  return { description, content: { "application/json": { schema } } };
}

type Given = Omit<ZodOpenApiOperationObject, "operationId" | "summary" | "responses"> & {
  readonly status?: "201" | "202";
};

/** A call that answers one thing, or is refused. */
function call(
  operationId: string,
  summary: string,
  schema: z.ZodType,
  codes: readonly Code[],
  { status = "200" as "201" | "202", ...more }: Given = {},
): ZodOpenApiOperationObject {
  return {
    operationId,
    summary,
    ...more,
    responses: { [status]: json(summary, schema), ...problems([...KEYED, ...codes]) },
  };
}

const EXAMPLE_WORKLOAD_ID = "my-llm-workload";
const EXAMPLE_IDS: Readonly<Record<string, object>> = { workload: { example: EXAMPLE_WORKLOAD_ID } };
const id = (what: string) =>
  z.object({ id: z.string().meta({ description: `The id of a ${what}`, ...EXAMPLE_IDS[what] }) });
const key = z.object({
  "Idempotency-Key": z.string().optional().meta({ description: "The same key and body: made once, for a day" }),
});
const text = (description: string) => z.string().optional().meta({ description });
const page = { limit: text("From 1 to 1000"), before: text("As the `Link` of the page before has it") };

/** A document as JSON, or as YAML. @param example what the page at /docs starts with; it is answered as it stands. */
function documents(schema: object, example: object) {
  const yaml = { schema: { type: "string" } as const, example: stringify(example) };
  return {
    required: true,
    content: { "application/json": { schema, example }, "application/yaml": yaml, "text/yaml": yaml },
  };
}

/** It asks for no GPU, and for the one executor that opens nothing. */
const EXAMPLE_TASK = {
  apiVersion: "gpu-orchestrator/v1",
  kind: "Task",
  metadata: { name: "hello" },
  spec: { taskType: "echo", inference: { prompts: ["Hello"] } },
};
/** With an id, by which `/schedule` begins with one that is there. */
const EXAMPLE_WORKLOAD = {
  id: EXAMPLE_WORKLOAD_ID,
  name: "my-llm-workload",
  modelName: "llama2",
  modelType: "text-generation",
  resources: { cpu: "2000m", memory: "8Gi", gpu: 1 },
};

const taskDocument = {
  anyOf: [
    schemaOf(TASK_DOCUMENT),
    {
      type: "object",
      properties: { yaml: { type: "string" } },
      required: ["yaml"],
      description: "As MLOC's clients send it",
    },
  ],
};
const taskBody = { requestBody: documents(taskDocument, EXAMPLE_TASK) };
const workloadBody = {
  requestBody: documents({ anyOf: [schemaOf(FLAT_WORKLOAD), schemaOf(SERVICE_DOCUMENT)] }, EXAMPLE_WORKLOAD),
};
const jsonBody = (schema: object, example: object) => ({
  requestBody: { required: true, content: { "application/json": { schema, example } } },
});

const logs = (operationId: string, summary: string, what: string): ZodOpenApiOperationObject => ({
  operationId,
  summary,
  requestParams: {
    path: id(what),
    query: z.object({
      stream: text("stdout, stderr or both"),
      tail: text("So many lines: 200 if left out, 10000 at most"),
      since: text("An instant, or a duration such as 10m"),
      follow: text("true: what is written from now on too, until it ends"),
    }),
  },
  responses: {
    "200": { description: "Lines", content: { "text/plain": {}, "text/event-stream": {} } },
    ...problems([...KEYED, "not-owner", "run-not-found", "task-not-found", "node-unreachable"]),
  },
});

const result = (operationId: string) =>
  call(
    operationId,
    "What a task came to",
    answers.resultSchema,
    ["not-owner", "task-not-found", "result-not-found", "node-unreachable"],
    { requestParams: { path: id("task") } },
  );

const TASKS: ZodOpenApiPathsObject = {
  "/api/v1/tasks": {
    post: call(
      "submitTask",
      "Submit a task; the answer says where it goes, or why not",
      answers.submittedSchema,
      [...SUBMITTING, "document-incomplete", "task-not-found"],
      {
        ...taskBody,
        requestParams: { header: key, query: z.object({ queue: text("false: it fails when nobody can have it now") }) },
      },
    ),
    get: call("listTasks", "Tasks", answers.tasksSchema, [], {
      requestParams: { query: z.object({ status: text("Only those of this status"), ...page }) },
    }),
  },
  "/api/v1/tasks/plan": {
    post: call(
      "planTask",
      "What would become of a task, without it",
      answers.taskPlanSchema,
      [...SUBMITTING, "document-incomplete"],
      taskBody,
    ),
  },
  "/api/v1/tasks/{id}": {
    get: call("readTask", "A task", answers.oneTaskSchema, ["task-not-found"], {
      requestParams: {
        path: id("task"),
        query: z.object({ wait: text("Answers when it is over, or after so long: 60s at most") }),
      },
    }),
    delete: call(
      "cancelTask",
      "Cancel a task: what runs of it is stopped",
      answers.taskSchema,
      [...CHANGING, "task-not-found", "task-ended"],
      {
        requestParams: { path: id("task") },
      },
    ),
  },
  "/api/v1/tasks/{id}/result": { get: result("taskResult") },
  "/api/v1/results/{id}": { get: result("result") },
  "/api/v1/tasks/{id}/files/{rest}": {
    get: {
      operationId: "taskFile",
      summary: "A file that a task has left",
      requestParams: {
        path: id("task").extend({
          rest: z
            .string()
            .meta({ description: "Its path; slashes in it stand as they are", example: "responses.json" }),
        }),
      },
      responses: {
        "200": { description: "The file", content: { "application/octet-stream": {}, "application/json": {} } },
        ...problems([...KEYED, "not-owner", "task-not-found", "result-not-found", "node-unreachable"]),
      },
    },
  },
  "/api/v1/tasks/{id}/logs": { get: logs("taskLogs", "What the newest run of a task has written", "task") },
};

const WORKLOADS: ZodOpenApiPathsObject = {
  "/workloads": {
    post: call(
      "createWorkload",
      "Keep a service running",
      answers.createdWorkloadSchema,
      [...SUBMITTING, "workload-exists", "workload-not-found"],
      {
        ...workloadBody,
        status: "201",
        requestParams: { header: key },
      },
    ),
    get: call("listWorkloads", "Services", answers.workloadsSchema, [], {
      requestParams: { query: z.object({ label: text("Only those with it, as KEY=VALUE"), ...page }) },
    }),
  },
  "/workloads/{id}": {
    get: call("readWorkload", "A service", answers.workloadSchema, ["workload-not-found"], {
      requestParams: { path: id("workload") },
    }),
    patch: call(
      "changeWorkload",
      "Change how many replicas it has, or its labels",
      answers.workloadSchema,
      [...WITH_BODY, ...CHANGING, "workload-not-found"],
      {
        ...jsonBody(schemaOf(WORKLOAD_CHANGE), { replicas: 2 }),
        requestParams: { path: id("workload") },
      },
    ),
    delete: {
      operationId: "deleteWorkload",
      summary: "End a service: its replicas are stopped",
      requestParams: { path: id("workload") },
      responses: {
        "204": { description: "They are being stopped" },
        ...problems([...KEYED, ...CHANGING, "workload-not-found"]),
      },
    },
  },
  "/workloads/{id}/restart": {
    post: call(
      "restartWorkload",
      "Restart its replicas, one after the other",
      answers.workloadSchema,
      [...CHANGING, "workload-not-found"],
      {
        status: "202",
        requestParams: { path: id("workload") },
      },
    ),
  },
  "/schedule": {
    post: {
      operationId: "schedule",
      summary: "Wait until each replica of a service has its place, ten seconds at most",
      ...jsonBody(
        { type: "object", properties: { workloadId: { type: "string" } }, required: ["workloadId"] },
        { workloadId: EXAMPLE_WORKLOAD_ID },
      ),
      responses: {
        "200": json("Each has", answers.scheduledSchema),
        "202": json("Not yet, and why", answers.notScheduledSchema),
        ...problems([...KEYED, ...WITH_BODY, "workload-not-found"]),
      },
    },
  },
};

const RUNS: ZodOpenApiPathsObject = {
  "/work": { get: call("work", "Work at a glance", answers.overviewSchema, []) },
  "/runs": {
    get: call("listRuns", "Tries of tasks and replicas, the newest 1,000", answers.runsSchema, [], {
      requestParams: { query: z.object({ state: text("Only those in this state") }) },
    }),
  },
  "/runs/{id}": {
    get: call("readRun", "A run", answers.runSchema, ["run-not-found"], { requestParams: { path: id("run") } }),
  },
  "/runs/{id}/logs": { get: logs("runLogs", "What a run has written", "run") },
  "/runs/{id}/stop": {
    post: call(
      "stopRun",
      "Stop a run; what it belongs to may start another",
      answers.runSchema,
      [...CHANGING, "run-not-found", "run-ended"],
      {
        status: "202",
        requestParams: { path: id("run") },
      },
    ),
  },
  "/runs/{id}/adopt": {
    post: call(
      "adoptRun",
      "Take a run of lost books, with the others of its job, into these; an admin's",
      answers.runSchema,
      [...CHANGING, "run-not-found", "run-not-adoptable"],
      { status: "202", requestParams: { path: id("run") } },
    ),
  },
  "/workers": { get: call("listWorkers", "The processes that run work, one a node", answers.workersSchema, []) },
  "/workers/{id}": {
    get: call("readWorker", "A worker", answers.workerSchema, ["worker-not-found"], {
      requestParams: { path: id("worker") },
    }),
  },
  "/admin/cleanup": {
    post: call("cleanUp", "Forget workers that are not heard of and have nothing to do", answers.cleanedSchema, [
      "work-storage-unavailable",
    ]),
  },
  "/status": { get: call("workStatus", "How work stands as a whole", answers.workStatusSchema, []) },
  "/health": {
    get: {
      operationId: "health",
      summary: "Whether it is there",
      responses: { "200": json("It is", answers.healthySchema), ...problems(OPEN) },
    },
  },
  "/metrics": {
    get: {
      operationId: "metrics",
      summary: "Prometheus text, or OpenMetrics; counts of services as JSON for who prefers that",
      responses: {
        "200": {
          description: "The figures",
          content: {
            "text/plain": {},
            "application/openmetrics-text": {},
            "application/json": { schema: answers.workloadCountsSchema },
          },
        },
        ...problems(OPEN),
      },
    },
  },
};

export const WORK_PATHS: ZodOpenApiPathsObject = { ...TASKS, ...WORKLOADS, ...RUNS };

const OF_RESULTS = ["readTask", "taskResult", "result", "taskFile", "taskLogs"];
const OF_WORKLOADS = [
  ...["readWorkload", "changeWorkload", "restartWorkload", "deleteWorkload"],
  { operationId: "schedule", field: "workloadId" },
];
/** Where answers have what other calls take: see http/exchange/links.ts. */
export const WORK_LINKS = [
  // The oldest first: it has ended if any has.
  { from: "listTasks", at: "/0/task_id", to: OF_RESULTS },
  { from: "submitTask", at: "/task_id", to: [...OF_RESULTS, "cancelTask"] },
  { from: "listWorkloads", at: "/0/id", to: OF_WORKLOADS },
  { from: "createWorkload", at: "/id", to: OF_WORKLOADS },
  { from: "work", at: "/tasks/0/task_id", to: ["cancelTask"] },
  { from: "work", at: "/tasks/0/runs/0/run_id", to: ["readRun", "runLogs", "stopRun", "adoptRun"] },
  { from: "listWorkers", at: "/0/worker_id", to: ["readWorker"] },
] as const;

/** What a task's `webhook_url` is sent, once. */
export const TASK_WEBHOOK = answers.TASK_WEBHOOK;
