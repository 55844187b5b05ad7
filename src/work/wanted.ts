/** What the books want of the world, whatever was sent before: the one list for leases, the other for workers. */
import { compareText } from "../core/base/order.ts";
import type { EpochMs } from "../core/base/time.ts";
import { recordOf } from "./adopt.ts";
import { modelNameOf } from "./argv.ts";
import { shareOf, withoutUploadHeaders } from "./documents/task.ts";
import { isOnNode, leaseOf } from "./evolve.ts";
import type { Assignment, HeldLease, Origin, Run, RunSeen, Task, Workload, WorkSpec } from "./model.ts";
import { isTask, nodeFor } from "./runs.ts";
import { jobOf, openRunsOf, readyRun, serviceFor, type WorkState } from "./state.ts";

/** A lease that bears a mark of ours. */
export interface MarkedLease {
  readonly allocationId: string;
  readonly run: string;
  readonly attempt: number;
}

/** Those that no run wants: they are to be released. */
export function unwanted(state: WorkState, leases: readonly MarkedLease[]): MarkedLease[] {
  const held = new Set<string>();
  const jobs = [...state.workloads.values(), ...[...state.openTasks.values()].map((id) => state.tasks.get(id) as Task)];
  for (const { slots } of jobs) for (const { kept } of slots) if (kept !== null) held.add(kept.allocationId);
  for (const run of openRunsOf(state)) {
    const lease = leaseOf(run);
    if (lease !== null) held.add(lease.allocationId);
  }
  return leases.filter(({ allocationId, run: id, attempt }) => {
    if (held.has(allocationId)) return false;
    const run = state.runs.get(id);
    return run?.phase !== "waiting" || run.attempt !== attempt;
  });
}

/** What lives and the books do not want; `null`: no worker has said yet. */
export type Living = { readonly runs: ReadonlySet<string>; readonly leases: ReadonlySet<string> } | null;

/**
 * Whether processes may be on the GPUs of a lease that no run wants: then it is not given back. As long as no worker has
 * said what lives they may be, if the worker of this host was told of it, or nobody knows.
 */
export function mayBeInUse({ runs, workers }: WorkState, lease: MarkedLease, living: Living): boolean {
  if (living !== null) return living.runs.has(lease.run) || living.leases.has(lease.allocationId);
  const run = runs.get(lease.run);
  if (run === undefined) return true;
  return run.phase === "ended" && run.handedOut === true && workers.get(run.node ?? "")?.link === undefined;
}

/** The leases that runs and slots count on, which must be looked after. */
export function countedOn(state: WorkState): HeldLease[] {
  const kept = [...state.workloads.values()].flatMap(({ slots }) => slots.map(({ kept }) => kept));
  return [...openRunsOf(state).map(leaseOf), ...kept]
    .filter((lease) => lease !== null)
    .filter(({ elsewhere }) => elsewhere !== true);
}

/**
 * The waiting runs that may ask for a lease now: of each owner in turn, so that nobody's many runs fill the line.
 *
 * @param mostQueued how many of ours may stand in the daemon's line.
 */
export function mayAsk(state: WorkState, mostQueued: number, now: EpochMs): Extract<Run, { phase: "waiting" }>[] {
  const waiting = openRunsOf(state).filter((run) => run.phase === "waiting");
  const queued = new Map<string, number>();
  for (const { owner, allocationId } of waiting) {
    if (allocationId !== null) queued.set(owner, (queued.get(owner) ?? 0) + 1);
  }
  let room = mostQueued - [...queued.values()].reduce((sum, count) => sum + count, 0);
  const due = waiting.filter((run) => {
    const gpu = jobOf(state, run.job)?.spec?.resources.gpu ?? null;
    if (run.allocationId !== null || run.askAt > now || gpu === null) return false;
    const choice = nodeFor({ state, now }, run.id);
    return choice.node !== null && choice.isHere;
  });
  const chosen: Extract<Run, { phase: "waiting" }>[] = [];
  const left = new Set(due.sort((a, b) => a.createdAt - b.createdAt || compareText(a.id, b.id)));
  while (room > 0 && left.size > 0) {
    let next: Extract<Run, { phase: "waiting" }> | undefined;
    for (const run of left) {
      if (next === undefined || (queued.get(run.owner) ?? 0) < (queued.get(next.owner) ?? 0)) next = run;
    }
    if (next === undefined) break;
    left.delete(next);
    queued.set(next.owner, (queued.get(next.owner) ?? 0) + 1);
    chosen.push(next);
    room--;
  }
  return chosen;
}

export interface WantedOfWorker {
  readonly start: readonly Assignment[];
  readonly stop: readonly {
    readonly run: string;
    readonly epoch: number;
    readonly signal: string;
    readonly graceMs: number;
    readonly to: string;
  }[];
  /** Its results are to be put in the task's place. */
  readonly publish: readonly {
    readonly run: string;
    readonly task: string;
    readonly replica: number;
    readonly replicas: number;
    readonly artifacts: readonly string[];
  }[];
  /** Nothing is wanted of them any more: they need not be reported again. */
  readonly settled: readonly string[];
  /** What bears our mark and is in no books, or is over by them and lives: it is to be stopped, and counted. */
  readonly orphans: readonly string[];
}

/** @param reported what the worker has just said that it has. */
export function wantedOf(state: WorkState, node: string, reported: readonly RunSeen[]): WantedOfWorker {
  const start: Assignment[] = [];
  const stop: WantedOfWorker["stop"][number][] = [];
  const publish: WantedOfWorker["publish"][number][] = [];
  for (const run of openRunsOf(state)) {
    const job = jobOf(state, run.job);
    if (run.phase === "waiting" || run.node !== node || job?.spec === undefined || job.spec === null) continue;
    if (run.phase === "stopping") stop.push({ run: run.id, epoch: run.epoch, ...job.spec.stop });
    else if (isOnNode(run)) {
      const assignment = { ...assignmentOf(run, job, job.spec), ...serviceHere(state, job, node) };
      start.push({ ...assignment, record: recordOf(job) });
    } else if (run.phase === "ended" && isTask(job)) publish.push(publicationOf(run, job));
  }
  const settled: string[] = [];
  const orphans: string[] = [];
  for (const { run: id, ended } of reported) {
    const run = state.runs.get(id);
    if (run === undefined || (run.phase === "ended" && ended === null)) orphans.push(id);
    else if (run.phase === "ended" && run.publish !== "wanted") settled.push(id);
  }
  return { start, stop, publish, settled, orphans };
}

/** What a task's prompts are answered by on this node. */
export function serviceHere(state: WorkState, job: Task | Workload, node: string): Pick<Assignment, "service"> {
  if (isTask(job) && job.origin !== undefined) return serviceGiven(state, job.owner, job.origin);
  const workload = isTask(job) && job.spec.service !== undefined ? serviceFor(state, job) : undefined;
  const port = workload === undefined ? null : (readyRun(state, workload, node)?.port ?? null);
  const spec = workload?.spec ?? null;
  return port === null ? {} : { service: { port, model: (spec === null ? null : modelNameOf(spec)) ?? "" } };
}

/** What the controller has named, if it still serves: it may have begun anew elsewhere, or at another port. */
function serviceGiven(state: WorkState, owner: string, { service }: Origin): Pick<Assignment, "service"> {
  if (service === undefined) return {};
  const serves = (run: Run) => run.phase === "ready" && run.port === service.port && run.owner === owner;
  return openRunsOf(state).some(serves) ? { service } : {};
}

export function assignmentOf(run: Run, job: Task | Workload, spec: WorkSpec): Assignment {
  const replicas = job.slots.length;
  if (isTask(job) && job.origin !== undefined) {
    const { kind, job: name, replica, replicas: all, fenceMs } = job.origin;
    const { id, owner, epoch } = run;
    return { run: id, kind, job: name, owner, replica, replicas: all, epoch, spec, lease: leaseOf(run), fenceMs };
  }
  const document = isTask(job) ? withoutUploadHeaders(shareOf(spec.document, run.replica, replicas)) : spec.document;
  return {
    run: run.id,
    kind: isTask(job) ? "task" : "service",
    job: isTask(job) ? job.id : job.uid,
    owner: run.owner,
    replica: run.replica,
    replicas,
    epoch: run.epoch,
    spec: { ...spec, document },
    lease: leaseOf(run),
  };
}

function publicationOf(run: Run, task: Task) {
  const output = task.spec.document.spec as { output?: { artifacts?: readonly string[] } } | undefined;
  return {
    run: run.id,
    task: task.id,
    replica: run.replica,
    replicas: task.slots.length,
    artifacts: output?.output?.artifacts ?? [],
  };
}
