/** Records as the API shows them, with both seeds' field names. */
import type { JsonValue } from "../core/base/json.ts";
import { isOnNode, leaseOf } from "../work/evolve.ts";
import type { Run, RunCage, Slot, Task, Waiting, Worker, Workload } from "../work/model.ts";
import { STALE_AFTER_MS, topicOf } from "../work/node-choice.ts";
import { awaitsGpus } from "../work/runs.ts";
import type { WorkState } from "../work/state.ts";
import type { Leases } from "./leases.ts";

export function instant(at: number | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}

/** Why something waits, in one word and more. */
export function waitingOf(run: Run | undefined): {
  reason: string | null;
  position: number | null;
  eta: string | null;
} {
  if (run !== undefined && awaitsGpus(run)) return { reason: "waiting-for-empty-gpus", position: null, eta: null };
  // On another node it may wait in the line of that node's daemon.
  const isQueued = run !== undefined && isOnNode(run) && run.lease === null && (run.waiting ?? null) !== null;
  if (run?.phase !== "waiting" && !isQueued) return { reason: null, position: null, eta: null };
  const waiting = (run as { readonly waiting?: Waiting | null }).waiting ?? null;
  return {
    reason: waiting?.reason ?? "waiting-for-queue-slot",
    position: waiting?.position ?? null,
    eta: instant(waiting?.etaLatest ?? null),
  };
}

export function liveRun(state: WorkState, { live }: Slot): Run | undefined {
  return live === null ? undefined : state.runs.get(live);
}

export function runsOf(state: WorkState, uid: string): Run[] {
  const found: Run[] = [];
  // A run's id begins with its job's.
  for (const run of state.runs.valuesFrom(`run-${uid}-`)) {
    if (!run.id.startsWith(`run-${uid}-`)) break;
    found.push(run);
  }
  return found.sort((a, b) => a.epoch - b.epoch);
}

function assignedWorker(state: WorkState, task: Task): string | null {
  const last = runsOf(state, task.id).findLast((run) => run.phase !== "waiting");
  return last?.node ?? null;
}

/** @param whole as its owner and admins see it. */
export function taskView(state: WorkState, task: Task, whole: boolean) {
  const runs = runsOf(state, task.id);
  const last = runs.at(-1);
  const ended = last?.phase === "ended" ? last : null;
  const first = task.slots.map((slot) => liveRun(state, slot)).find((run) => run !== undefined);
  return {
    task_id: task.id,
    name: task.name,
    owner: task.owner,
    labels: task.labels,
    raw_yaml: whole ? task.rawYaml : null,
    parsed: whole ? task.spec.document : null,
    status: task.status,
    assigned_worker: assignedWorker(state, task),
    topic: topicOf(task.spec.taskType),
    submitted_at: instant(task.submittedAt),
    started_at: instant(task.startedAt),
    finished_at: instant(task.finishedAt),
    error: task.error,
    ...waitingOf(first),
    ...(first === undefined && task.status === "PENDING" && task.spec.service !== undefined
      ? { reason: "waiting-for-service" }
      : {}),
    exit_code: ended?.exitCode ?? null,
    signal: ended?.signal ?? null,
    attempts: runs.map((run) => attemptView(run)),
    allocation_id: allocationOf(last),
    replicas: task.slots.length,
    depends_on: task.dependsOn,
    retries: task.slots.reduce((sum, slot) => sum + retriesOf(slot), 0),
    max_retries: task.retry.max + task.retry.lost,
    warnings: task.warnings,
  };
}

/** What has failed for good was not tried again. */
function retriesOf({ failures, losses, outcome }: Slot): number {
  return Math.max(0, failures + losses - (outcome?.kind === "failed" ? 1 : 0));
}

export function attemptView(run: Run) {
  const ended = run.phase === "ended" ? run : null;
  return {
    run_id: run.id,
    replica: run.replica,
    node: run.phase === "waiting" ? null : run.node,
    gpu_uuids: ended?.gpuUuids ?? leaseOf(run)?.gpuUuids ?? [],
    started_at: instant(isOnNode(run) ? run.startedAt : (ended?.startedAt ?? null)),
    ended_at: instant(ended?.endedAt ?? null),
    end_reason: ended?.reason ?? null,
  };
}

function allocationOf(run: Run | undefined): string | null {
  if (run === undefined) return null;
  if (run.phase === "waiting" || run.phase === "ended") return run.allocationId;
  return run.lease?.allocationId ?? null;
}

/** What a submission is answered: MLOC's four fields, and more. */
export function submittedView(state: WorkState, task: Task) {
  if (task.status === "FAILED") return { ok: false, task_id: task.id, error: task.error };
  const worker = assignedWorker(state, task);
  const entry = {
    task_id: task.id,
    status: task.status,
    assigned_worker: worker,
    topic: topicOf(task.spec.taskType),
    waiting_on: task.dependsOn,
    retries: 0,
    max_retries: task.retry.max + task.retry.lost,
  };
  return {
    ok: true,
    task_id: task.id,
    worker_id: worker,
    topic: entry.topic,
    status: task.status,
    count: 1,
    tasks: [entry],
    warnings: task.warnings,
  };
}

const REPLICA_STATES = {
  waiting: "waiting",
  assigned: "starting",
  starting: "starting",
  running: "starting",
  ready: "ready",
  unready: "unready",
  stopping: "stopping",
  ended: "backing-off",
} as const;

export function runState(slot: Slot, run: Run | undefined): string {
  if (slot.outcome !== null) return slot.outcome.kind === "failed" ? "failed" : "completed";
  if (run === undefined) return slot.nextAt === null ? "waiting" : "backing-off";
  return REPLICA_STATES[run.phase];
}

function phaseOf(workload: Workload, ready: number): string {
  const { slots } = workload;
  if (ready > 0) return "running";
  if (slots.length > 0 && slots.every(({ outcome }) => outcome?.kind === "done")) return "completed";
  if (slots.length > 0 && slots.every(({ outcome }) => outcome !== null)) return "failed";
  return "pending";
}

/** @param whole as its owner and admins see it: with the last lines that it wrote. */
export function workloadView(state: WorkState, workload: Workload, serviceHost: string, whole: boolean) {
  const nodes = workload.slots.map((slot) => {
    const run = liveRun(state, slot);
    const port = run !== undefined && isOnNode(run) ? run.port : null;
    return {
      replica: slot.replica,
      run_id: slot.live,
      node: run === undefined || run.phase === "waiting" ? null : run.node,
      gpu_uuids: (run === undefined ? null : leaseOf(run))?.gpuUuids ?? [],
      url: port === null ? null : `http://${serviceHost}:${port}`,
      state: runState(slot, run),
      restarts: slot.restarts,
      ...waitingOf(run),
    };
  });
  const ready = nodes.filter((node) => node.state === "ready").length;
  const failed = workload.slots.find(({ outcome }) => outcome?.kind === "failed");
  const message =
    workload.message ?? failed?.outcome?.reason ?? nodes.find(({ reason }) => reason !== null)?.reason ?? "";
  return {
    id: workload.id,
    name: workload.name,
    modelName: workload.modelName,
    modelType: workload.modelType,
    resources: workload.resources,
    owner: workload.owner,
    labels: workload.labels,
    status: {
      phase: phaseOf(workload, ready),
      message: failed === undefined || !whole ? message : [message, ...failed.tail].join("\n"),
      replicas: workload.replicas,
      readyReplicas: ready,
      lastUpdated: instant(lastChange(state, workload)),
      reason: workload.message === null ? (nodes.find(({ reason }) => reason !== null)?.reason ?? null) : "no-settings",
      nodes,
    },
    createdAt: instant(workload.createdAt),
    updatedAt: instant(workload.updatedAt),
  };
}

/** When anything about it was last another than before. */
function lastChange(state: WorkState, { uid, updatedAt }: Workload): number {
  const times = runsOf(state, uid).map((run) => {
    if (run.phase === "ended") return run.endedAt;
    if (!isOnNode(run)) return run.createdAt;
    return Math.max(run.handedOutAt, run.startedAt ?? 0, run.readyAt ?? 0);
  });
  return Math.max(updatedAt, ...times);
}

/** @param whole as its owner and admins see it. */
export function runView(run: Run, whole: boolean) {
  const ended = run.phase === "ended" ? run : null;
  return {
    run_id: run.id,
    [run.job.kind === "task" ? "task_id" : "workload_uid"]: run.job.uid,
    owner: run.owner,
    state: run.phase,
    replica: run.replica,
    epoch: run.epoch,
    node: run.phase === "waiting" ? null : run.node,
    allocation_id: allocationOf(run),
    gpu_uuids: ended?.gpuUuids ?? leaseOf(run)?.gpuUuids ?? [],
    port: isOnNode(run) ? run.port : null,
    created_at: instant(run.createdAt),
    started_at: instant(isOnNode(run) ? run.startedAt : (ended?.startedAt ?? null)),
    ended_at: instant(ended?.endedAt ?? null),
    end_reason: ended?.reason ?? null,
    detail: ended?.detail ?? (run.phase === "stopping" ? run.detail : null),
    exit_code: ended?.exitCode ?? null,
    signal: ended?.signal ?? null,
    ...waitingOf(run),
    tail: whole ? (ended?.tail ?? []) : null,
    ...cageView(isOnNode(run) || run.phase === "ended" ? run.cage : undefined),
  };
}

/** Both are null until its worker has said. */
export function cageView(cage: RunCage | undefined) {
  return { cage: cage?.kind ?? null, limits: cage?.limits ?? null };
}

export interface GpusHere {
  readonly free: number | null;
  readonly gpus: ReturnType<Leases["gpus"]>;
  readonly driver: ReturnType<Leases["driver"]>;
}

/** It has said so, or neither idle nor at work, as one of MLOC's is whose heartbeat has run out. */
function isGone({ link }: Worker): boolean {
  return link?.hasLeft === true || link?.isStale === true;
}

/** @param own of this host, where the worker is; `null`: it is another's. */
export function workerView(state: WorkState, worker: Worker, now: number, own: GpusHere | null) {
  const runs = [...state.openRuns.values()]
    .map((id) => state.runs.get(id) as Run)
    .filter((run) => run.phase !== "waiting" && run.phase !== "ended" && run.node === worker.node);
  const hardware = worker.hardware as Readonly<Record<string, JsonValue>>;
  const { link } = worker;
  const driver = { driver_version: own?.driver.version ?? null, cuda_version: own?.driver.cuda ?? null };
  const gpu = hardware.gpu ?? { ...driver, gpus: link?.gpus ?? own?.gpus ?? [] };
  return {
    worker_id: worker.node,
    status: link?.hasWorker === false ? "STARTING" : runs.length > 0 ? "RUNNING" : "IDLE",
    started_at: instant(worker.startedAt),
    pid: worker.pid,
    env: {},
    hardware: { ...hardware, gpu },
    tags: worker.tags,
    last_seen: instant(worker.lastSeen),
    stale: now - worker.lastSeen >= (link?.ttlMs ?? STALE_AFTER_MS) || isGone(worker),
    node: worker.node,
    topics: worker.topics,
    executors: worker.executors,
    labels: worker.labels,
    cage: worker.cage,
    same_user: worker.sameUser ?? null,
    free_gpus: own?.free ?? worker.freeGpus ?? null,
    runs: runs.map(({ id }) => id),
  };
}
