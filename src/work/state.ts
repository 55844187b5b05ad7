/**
 * The books of work: what is wanted, and how it stands. A value, like the host's state in the core.
 *
 *  1. A replica has at most one run that has not ended, and a run at most one lease.
 *  2. `openTasks`, `movingTasks` and `openRuns` are indexes: what may still change by itself. Only `evolve` touches them.
 *  3. Epochs grow, and are never below the clock at which their run was made: books that were lost or restored cannot
 *     give one twice.
 */
import { byText, OrderedMap } from "../core/base/ordered-map.ts";
import type { EpochMs } from "../core/base/time.ts";
import type { JobRef, Run, RunId, Slot, Task, Worker, Workload } from "./model.ts";

export interface WorkState {
  readonly tasks: OrderedMap<string, Task>;
  readonly openTasks: OrderedMap<string, string>;
  /** Those of the open ones that may change though nothing has happened to their runs. */
  readonly movingTasks: OrderedMap<string, string>;
  /** By uid. */
  readonly workloads: OrderedMap<string, Workload>;
  readonly runs: OrderedMap<RunId, Run>;
  readonly openRuns: OrderedMap<RunId, RunId>;
  /** By node. */
  readonly workers: OrderedMap<string, Worker>;
  readonly lastEpoch: EpochMs;
}

export interface StoredWork {
  readonly tasks: readonly Task[];
  readonly workloads: readonly Workload[];
  readonly runs: readonly Run[];
  readonly workers: readonly Worker[];
  readonly lastEpoch: EpochMs;
}

export function emptyWork(): WorkState {
  return {
    tasks: OrderedMap.empty(byText()),
    openTasks: OrderedMap.empty(byText()),
    movingTasks: OrderedMap.empty(byText()),
    workloads: OrderedMap.empty(byText()),
    runs: OrderedMap.empty(byText()),
    openRuns: OrderedMap.empty(byText()),
    workers: OrderedMap.empty(byText()),
    lastEpoch: 0,
  };
}

export function restoredWork(stored: StoredWork): WorkState {
  let state: WorkState = { ...emptyWork(), lastEpoch: stored.lastEpoch };
  for (const task of stored.tasks) state = withTask(state, task);
  for (const run of stored.runs) state = withRun(state, run);
  for (const workload of stored.workloads) state = withWorkload(state, workload);
  for (const worker of stored.workers) state = { ...state, workers: state.workers.set(worker.node, worker) };
  return state;
}

export function isOver({ status }: Task): boolean {
  return status === "DONE" || status === "FAILED" || status === "CANCELLED";
}

/** Whether nothing will become of it any more. */
export function isSettled(run: Run): boolean {
  return run.phase === "ended" && run.publish !== "wanted";
}

export function withTask(state: WorkState, task: Task): WorkState {
  const { id } = task;
  const openTasks = indexed(state.openTasks, id, !isOver(task));
  const movingTasks = indexed(state.movingTasks, id, isMoving(task));
  return { ...state, tasks: state.tasks.set(id, task), openTasks, movingTasks };
}

function indexed(index: OrderedMap<string, string>, id: string, isIn: boolean): OrderedMap<string, string> {
  if (!isIn) return index.delete(id);
  return index.get(id) === undefined ? index.set(id, id) : index;
}

/**
 * One whose replicas all have a run waits for these alone: what it depends on is done for good, and stays in the books
 * while it is open. A service may be deleted under it.
 */
function isMoving(task: Task): boolean {
  if (isOver(task)) return false;
  if (task.cancelling || task.restored === true || task.spec.service !== undefined) return true;
  return task.slots.some(({ live, outcome }) => live === null || outcome !== null);
}

export function withWorkload(state: WorkState, workload: Workload): WorkState {
  return { ...state, workloads: state.workloads.set(workload.uid, workload) };
}

export function withRun(state: WorkState, run: Run): WorkState {
  const openRuns = isSettled(run) ? state.openRuns.delete(run.id) : state.openRuns.set(run.id, run.id);
  return { ...state, runs: state.runs.set(run.id, run), openRuns };
}

export function openTasksOf(state: WorkState): Task[] {
  return [...state.openTasks.values()].map((id) => state.tasks.get(id) as Task);
}

export function openRunsOf(state: WorkState): Run[] {
  return [...state.openRuns.values()].map((id) => state.runs.get(id) as Run);
}

/** The one that goes by this id now. */
export function workloadNamed(state: WorkState, id: string): Workload | undefined {
  for (const workload of state.workloads.values()) if (workload.id === id && !workload.deleted) return workload;
  return undefined;
}

/** The workload that a task wants its prompts answered by: the submitter's own; `undefined`: there is none. */
export function serviceFor(
  { workloads }: Pick<WorkState, "workloads">,
  { owner, spec }: Pick<Task, "owner" | "spec">,
): Workload | undefined {
  if (spec.service === undefined) return undefined;
  const own = servicesOf(workloads).get(owner);
  return own?.byId.get(spec.service) ?? own?.byName.get(spec.service);
}

interface Services {
  readonly byId: Map<string, Workload>;
  readonly byName: Map<string, Workload>;
}

/** By owner, of workloads that stand as they are: a map never changes, so what was found in it holds as long as it does. */
const foundServices = new WeakMap<WorkState["workloads"], ReadonlyMap<string, Services>>();

function servicesOf(workloads: WorkState["workloads"]): ReadonlyMap<string, Services> {
  const known = foundServices.get(workloads);
  if (known !== undefined) return known;
  const found = new Map<string, Services>();
  for (const workload of workloads.values()) {
    if (workload.deleted) continue;
    const own = found.get(workload.owner) ?? { byId: new Map(), byName: new Map() };
    found.set(workload.owner, own);
    // The first of several, whose order is that of their uids.
    if (!own.byId.has(workload.id)) own.byId.set(workload.id, workload);
    if (!own.byName.has(workload.name)) own.byName.set(workload.name, workload);
  }
  foundServices.set(workloads, found);
  return found;
}

/** A replica of it that serves, on `node` or on any: the node and its port there. */
export function readyRun(
  state: WorkState,
  workload: Workload,
  node?: string,
): { readonly node: string; readonly port: number } | null {
  for (const { live } of workload.slots) {
    const run = live === null ? undefined : state.runs.get(live);
    if (run?.phase !== "ready" || run.port === null || (node !== undefined && run.node !== node)) continue;
    return { node: run.node, port: run.port };
  }
  return null;
}

/** Where a task can be answered that uses a service; `null`: it uses none, or its controller has seen to that. */
export function nodesServing(
  state: WorkState,
  task: Pick<Task, "owner" | "spec" | "origin">,
): ReadonlySet<string> | null {
  if (task.spec.service === undefined || task.origin !== undefined) return null;
  const slots = serviceFor(state, task)?.slots ?? [];
  const runs = slots.map(({ live }) => (live === null ? undefined : state.runs.get(live)));
  return new Set(runs.flatMap((run) => (run?.phase === "ready" && run.port !== null ? [run.node] : [])));
}

export function jobOf(state: WorkState, { kind, uid }: JobRef): Task | Workload | undefined {
  return kind === "task" ? state.tasks.get(uid) : state.workloads.get(uid);
}

export function slotOf(state: WorkState, run: Pick<Run, "job" | "replica">): Slot | undefined {
  return jobOf(state, run.job)?.slots.find(({ replica }) => replica === run.replica);
}

export function newSlot(replica: number): Slot {
  return {
    replica,
    tries: 0,
    live: null,
    failures: 0,
    losses: 0,
    deaths: 0,
    restarts: 0,
    nextAt: null,
    kept: null,
    outcome: null,
    tail: [],
  };
}
