/** What the calls of running work answer, with both seeds' field names. */
import { z } from "zod";
import { END_REASONS } from "../../work/model.ts";
import { instant, words } from "../fields.ts";

const moment = instant.nullable();
const named = z.record(z.string(), z.string());
const uuids = z.array(z.string());

/** Of what waits; all `null`: it does not. */
const waiting = {
  reason: words.meta({ description: "Why it waits" }),
  position: z.int().nullable().meta({ description: "In the line for GPUs" }),
  eta: moment.meta({ description: "When it is expected to have its GPUs, at the latest" }),
};

export const TASK_STATUSES = ["PENDING", "DISPATCHED", "DONE", "FAILED", "CANCELLED"] as const;
const taskStatus = z.enum(TASK_STATUSES);
const endReason = z.enum(END_REASONS).nullable();
const runState = z.enum(["waiting", "assigned", "starting", "running", "ready", "unready", "stopping", "ended"]);

const attempt = {
  run_id: z.string(),
  replica: z.int(),
  node: words,
  gpu_uuids: uuids,
  started_at: moment,
  ended_at: moment,
  end_reason: endReason,
};

const deliverySchema = z.object({
  what: z.enum(["webhook", "result"]),
  state: z.enum(["pending", "delivered", "gave-up"]),
  attempts: z.int(),
  next_attempt_at: moment,
  http_status: z.int().nullable(),
  error: words,
});

const taskFields = {
  task_id: z.string(),
  name: z.string(),
  owner: z.string(),
  labels: named,
  status: taskStatus,
  assigned_worker: words.meta({ description: "The node of its newest run" }),
  topic: z.string(),
  submitted_at: moment,
  started_at: moment,
  finished_at: moment,
  error: words,
  ...waiting,
  exit_code: z.int().nullable(),
  signal: words,
  allocation_id: words,
  replicas: z.int(),
  depends_on: z.array(z.string()),
  retries: z.int(),
  max_retries: z.int(),
};

const whole = "null for others than its owner and admins";
const document = {
  raw_yaml: words.meta({ description: `As it was sent; ${whole}` }),
  parsed: z.record(z.string(), z.json()).nullable().meta({ description: whole }),
};
const taskTold = { ...taskFields, attempts: z.array(z.object(attempt)), warnings: z.array(z.string()) };

export const taskSchema = z.object({ ...taskTold, ...document }).meta({ id: "Task" });
export const tasksSchema = z.array(taskSchema);
export const oneTaskSchema = taskSchema
  .extend({
    deliveries: z
      .array(deliverySchema)
      .nullable()
      .meta({ description: `What was told of its end; ${whole}` }),
  })
  .meta({ id: "TaskInFull" });

/** By the status that it ended with. */
export const TASK_WEBHOOK = z.object({
  status: z.enum(["DONE", "FAILED", "CANCELLED"]),
  task_id: z.string(),
  task: z.object(taskTold),
  finished_at: moment,
});

export const submittedSchema = z
  .union([
    z.object({
      ok: z.literal(true),
      task_id: z.string(),
      worker_id: words,
      topic: z.string(),
      status: taskStatus,
      count: z.literal(1),
      tasks: z.array(
        z.object({
          task_id: z.string(),
          status: taskStatus,
          assigned_worker: words,
          topic: z.string(),
          waiting_on: z.array(z.string()),
          retries: z.int(),
          max_retries: z.int(),
        }),
      ),
      warnings: z.array(z.string()),
    }),
    z.object({ ok: z.literal(false), task_id: z.string(), error: words }),
  ])
  .meta({ id: "TaskSubmitted" });

export const taskPlanSchema = z
  .object({
    topic: z.string(),
    executor: z.string(),
    node: words,
    fits: z.boolean().meta({ description: "false: no host could ever hold it" }),
    starts_now: z.boolean(),
    reason: words,
    gpu_uuids: uuids,
    argv: z.array(z.string()).meta({ description: "The command, with names in capitals for what only a run has" }),
    warnings: z.array(z.string()),
  })
  .meta({ id: "TaskPlan" });

export const resultSchema = z.json().meta({ description: "Whatever its program has written to responses.json" });

const replicaFields = {
  replica: z.int(),
  run_id: words,
  node: words,
  gpu_uuids: uuids,
  url: words,
  state: z.enum(["waiting", "starting", "ready", "unready", "backing-off", "stopping", "failed", "completed"]),
  restarts: z.int(),
  ...waiting,
};

const workloadFields = {
  id: z.string(),
  name: z.string(),
  modelName: z.string(),
  modelType: z.string(),
  resources: z.record(z.string(), z.json()).meta({ description: "As they were asked" }),
  owner: z.string(),
  labels: named,
  status: z.object({
    phase: z.enum(["pending", "running", "failed", "completed"]),
    message: z.string(),
    replicas: z.int(),
    readyReplicas: z.int(),
    lastUpdated: moment,
    reason: words,
    nodes: z.array(z.object(replicaFields)),
  }),
  createdAt: moment,
  updatedAt: moment,
};

const part = z.number().nullable();
const metrics = z
  .object({
    requestsPerSecond: part,
    averageLatency: words.meta({ example: "75ms" }),
    errorRate: part,
    cpuUsage: part.meta({ description: "Part of what was asked, as is memoryUsage" }),
    memoryUsage: part,
    gpuUsage: part,
    lastUpdated: moment,
  })
  .meta({ description: "Left out until a replica has been measured; null: not known" });

export const workloadSchema = z.object({ ...workloadFields, metrics: metrics.optional() }).meta({ id: "Workload" });
export const workloadsSchema = z.array(workloadSchema);
export const createdWorkloadSchema = workloadSchema
  .extend({ warnings: z.array(z.string()).optional() })
  .meta({ id: "WorkloadCreated" });

export const scheduledSchema = z
  .object({
    workloadId: z.string(),
    scheduledNode: words,
    schedulingTime: moment,
    status: z.literal("scheduled"),
  })
  .meta({ id: "Scheduled" });
export const notScheduledSchema = z
  .object({
    workloadId: z.string(),
    scheduledNode: z.null(),
    schedulingTime: moment,
    status: z.literal("pending"),
    ...waiting,
  })
  .meta({ id: "NotScheduled" });

export const runSchema = z
  .object({
    run_id: z.string(),
    task_id: z.string().optional().meta({ description: "Of a task's run" }),
    workload_uid: z.string().optional().meta({ description: "Of a service's run" }),
    owner: z.string(),
    state: runState,
    replica: z.int(),
    epoch: z.int(),
    node: words,
    allocation_id: words,
    gpu_uuids: uuids,
    port: z.int().nullable(),
    created_at: moment,
    started_at: moment,
    ended_at: moment,
    end_reason: endReason,
    detail: words,
    exit_code: z.int().nullable(),
    signal: words,
    ...waiting,
    tail: z
      .array(z.string())
      .nullable()
      .meta({ description: `The last lines of one that failed; ${whole}` }),
    cage: words.meta({ description: "What it cannot leave: systemd, cgroup, pidns or session" }),
    limits: z
      .array(z.string())
      .nullable()
      .meta({ description: "Which hold for it there: memory, cpu, pids; null: not known yet" }),
    lost_books: z
      .string()
      .optional()
      .meta({ description: "Of a run that lives, and whose books are lost: which they were" }),
  })
  .meta({ id: "Run" });
export const runsSchema = z.array(runSchema);

export const workerSchema = z
  .object({
    worker_id: z.string(),
    status: z.enum(["STARTING", "IDLE", "RUNNING"]),
    started_at: moment,
    pid: z.int(),
    env: named,
    hardware: z.record(z.string(), z.json()),
    tags: z.array(z.string()),
    last_seen: moment,
    stale: z.boolean(),
    node: z.string(),
    topics: z.array(z.string()),
    executors: z.array(z.string()),
    labels: named,
    cage: z.string(),
    same_user: z
      .boolean()
      .nullable()
      .meta({ description: "Whether runs may be of its own user, who can read keys and database; null: not known" }),
    free_gpus: z.int().nullable(),
    runs: z.array(z.string()),
  })
  .meta({ id: "Worker" });
export const workersSchema = z.array(workerSchema);

export const cleanedSchema = z.object({ ok: z.literal(true), removed: z.int() }).meta({ id: "CleanedUp" });

export const healthySchema = z
  .object({ status: z.literal("healthy"), timestamp: instant, version: z.string() })
  .meta({ id: "Healthy" });

export const workStatusSchema = z
  .object({
    orchestrator: z.literal("running"),
    workloads: z.int(),
    uptime: z.string().meta({ example: "2h30m15s" }),
    version: z.string(),
    timestamp: moment,
    tasks: z.int().meta({ description: "That are open" }),
    runs: z.int(),
    simulated: z.boolean(),
  })
  .meta({ id: "WorkStatus" });

export const workloadCountsSchema = z
  .object({
    totalWorkloads: z.int(),
    runningWorkloads: z.int(),
    pendingWorkloads: z.int(),
    failedWorkloads: z.int(),
    timestamp: moment,
  })
  .meta({ id: "WorkloadCounts" });

const runLine = z.object({ ...attempt, state: runState, exit_code: z.int().nullable() });
const count = z.int();
export const overviewSchema = z
  .object({
    counts: z.object({ workloads: count, open_tasks: count, tasks: count, runs: count }),
    workloads: z.array(z.object({ ...workloadFields, deleted: z.boolean(), runs: z.array(runLine) })),
    tasks: z.array(z.object({ ...taskFields, gpus: z.int(), cancelling: z.boolean(), runs: z.array(runLine) })),
  })
  .meta({ id: "WorkOverview", description: "The newest 200 workloads, 500 open tasks and the 50 that ended last" });
