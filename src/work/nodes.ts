/**
 * Nodes whose own daemon leases for them: what is wanted of them, and what follows when nothing is heard of them.
 *
 *  1. A run that may start elsewhere has a deadline on its node, before the controller takes it for dead. What has none
 *     is waited for, however long.
 *  2. A node is told all that is wanted of it again and again, so that nothing hangs on one message.
 */
import { compareText } from "../core/base/order.ts";
import type { EpochMs } from "../core/base/time.ts";
import type { WorkCommand } from "./commands.ts";
import type { Draft } from "./draft.ts";
import { WorkError } from "./errors.ts";
import { isOnNode, leaseOf } from "./evolve.ts";
import type { Assignment, HeldLease, Origin, Run, RunCage, RunOnNode, RunSeen, Task, Workload } from "./model.ts";
import { startElsewhere } from "./offers.ts";
import { type AskAgain, declineRun, endRun, isElsewhere, isTask } from "./runs.ts";
import { jobOf, newSlot, openRunsOf, type WorkState } from "./state.ts";
import { assignmentOf, serviceHere, type WantedOfWorker } from "./wanted.ts";

/** In a node's folder: when the last answered heartbeat was sent, as a mark of its uptime. */
export const HEARD_FILE = "heard.json";
/** Between the end of a run's grace on its node and the end of its assignment. */
const FENCE_MARGIN_MS = 15_000;
/** Beyond the end of a node's assignments, before it is silent. */
export const SILENT_MS = 5_000;

interface Times {
  readonly ttlMs: number;
  readonly intervalMs: number;
}

/** How old the last answered heartbeat may be for a run with this grace; `null`: there is no room to end it in time. */
export function fenceWithin(graceMs: number, { ttlMs, intervalMs }: Times): number | null {
  if (ttlMs < graceMs + FENCE_MARGIN_MS + 2 * intervalMs) return null;
  return ttlMs - graceMs - FENCE_MARGIN_MS;
}

/** The same of a run; `null`: it may not start elsewhere, and goes on whatever is heard. */
export function fenceMsOf(job: Task | Workload, times: Times): number | null {
  if (!isTask(job) || job.retry.lost === 0) return null;
  return fenceWithin(job.spec.stop.graceMs, times);
}

export function runDeclined(
  draft: Draft,
  { run: id, why, forGood }: { readonly run: string; readonly why: string; readonly forGood: boolean },
): void {
  notTaken(draft, id, why, forGood ? "never" : "later");
}

function notTaken(draft: Draft, id: string, why: string, again: AskAgain): void {
  const run = draft.state.runs.get(id);
  if (run === undefined || run.phase === "waiting" || run.phase === "ended") return;
  if (run.phase === "stopping") endRun(draft, run, run.why, run.detail, null);
  else declineRun(draft, run, run.node, why, again);
}

/** From here on its node may give it back, which says nothing against that node. */
export function recallRun(draft: Draft, id: string): void {
  const run = draft.state.runs.get(id);
  const isThere = run !== undefined && isOnNode(run) && run.phase === "starting" && isElsewhere(draft, run);
  if (isThere && run.recalled !== true) draft.write({ type: "run-recalled", run: id });
}

export function runDelivered(draft: Draft, id: string): void {
  const run = draft.state.runs.get(id);
  if (run?.phase === "ended" && run.publish === "wanted") draft.write({ type: "run-published", run: id });
}

/** Not heard of for as long as an assignment lives, and a little longer. */
export function nodesSilent(draft: Draft, nodes: ReadonlySet<string>): void {
  for (const { id } of openRunsOf(draft.state)) {
    const run = draft.state.runs.get(id) as Run;
    if (run.phase === "waiting" || run.node === null || !nodes.has(run.node)) continue;
    if (run.phase === "ended") runDelivered(draft, id);
    else if (run.phase === "assigned") declineRun(draft, run, run.node, "it is not heard of", "like-any");
    else if (isOnNode(run) && maySupersede(draft, run)) endRun(draft, run, "lost", "its node was not heard of", null);
  }
}

/**
 * What it has goes on without its daemon. What it has not taken by now it never takes: a later process of it drops what
 * was meant for this one.
 */
export function nodeLeaves(
  draft: Draft,
  { node, instance, seq, runs }: Extract<WorkCommand, { readonly type: "node-leaves" }>,
): void {
  const worker = draft.state.workers.get(node);
  // It has spoken since.
  if (worker?.link === undefined || worker.instance !== instance || worker.link.seq !== seq) return;
  draft.write({ type: "worker-seen", worker: { ...worker, link: { ...worker.link, hasLeft: true } } });
  const has = new Set(runs.map(({ run }) => run));
  for (const { id } of openRunsOf(draft.state)) {
    const run = draft.state.runs.get(id) as Run;
    if (run.phase === "waiting" || run.phase === "ended" || run.node !== node || has.has(id)) continue;
    if (run.phase === "assigned" || !run.known) {
      notTaken(draft, id, "it has left", "like-any");
    }
  }
}

function maySupersede({ state, now }: Draft, { job: ref, node, fence = null }: RunOnNode): boolean {
  const job = jobOf(state, ref);
  const worker = state.workers.get(node);
  if (job === undefined || worker?.link?.kind !== "member") return false;
  // One replica too many harms nobody: it stops when its node is back.
  return !isTask(job) || (fence !== null && now - worker.lastSeen >= fence.ttlMs + SILENT_MS);
}

/** What a node is to have, as far as it has not said that it has it. */
export interface WantedOfNode {
  readonly assign: readonly { readonly name: string; readonly assignment: Assignment }[];
  readonly stop: WantedOfWorker["stop"];
  /** Nothing is wanted of them any more. */
  readonly settled: readonly string[];
  /** Their results are wanted. */
  readonly deliver: readonly string[];
}

export function wantedOfNode(state: WorkState, node: string, reported: readonly RunSeen[]): WantedOfNode {
  const seen = new Map(reported.map((report) => [report.run, report]));
  const assign: WantedOfNode["assign"][number][] = [];
  for (const run of openRunsOf(state)) {
    const job = jobOf(state, run.job);
    if (!isOnNode(run) || run.node !== node || run.phase === "stopping" || run.known || seen.has(run.id)) continue;
    if (job === undefined || job.spec === null) continue;
    const given = { lease: null, fenceMs: run.fence?.withinMs ?? null, ...serviceHere(state, job, node) };
    const assignment = { ...assignmentOf(run, job, job.spec), ...given };
    assign.push({ name: job.name, assignment });
  }
  const stop: WantedOfWorker["stop"][number][] = [];
  const settled: string[] = [];
  const deliver: string[] = [];
  for (const { run: id, ended } of reported) {
    const run = state.runs.get(id);
    const isOver = run === undefined || run.phase === "ended";
    if (run?.phase === "ended" && run.publish === "wanted") deliver.push(id);
    else if (isOver && ended !== null) settled.push(id);
    else if (ended === null && (isOver || run.phase === "stopping")) stop.push(stopOf(state, id, run));
  }
  for (const run of openRunsOf(state)) {
    // It was told to stop before it was heard that it has it.
    if (run.phase === "stopping" && run.node === node && !seen.has(run.id)) stop.push(stopOf(state, run.id, run));
  }
  return { assign, stop, settled, deliver };
}

function stopOf(state: WorkState, id: string, run: Run | undefined): WantedOfWorker["stop"][number] {
  const spec = run === undefined ? null : (jobOf(state, run.job)?.spec ?? null);
  const { signal, graceMs, to } = spec?.stop ?? { signal: "TERM", graceMs: 30_000, to: "main" };
  return { run: id, epoch: run?.epoch ?? 0, signal, graceMs, to };
}

/** The runs that wait in the line of a node while another could start them now: as many as could. */
export function betterElsewhere(state: WorkState, now: EpochMs): RunOnNode[] {
  const queued = openRunsOf(state).filter(
    (run): run is RunOnNode =>
      isOnNode(run) &&
      run.phase === "starting" &&
      run.known &&
      run.startedAt === null &&
      run.lease === null &&
      run.waiting?.position !== undefined &&
      run.waiting.position !== null &&
      isElsewhere({ state }, run),
  );
  // What was asked for before is on its way, and has its place taken already.
  const isOnItsWay = (run: RunOnNode) => Number(run.recalled === true);
  queued.sort((a, b) => isOnItsWay(b) - isOnItsWay(a) || a.createdAt - b.createdAt || compareText(a.id, b.id));
  return startElsewhere(state, queued, now);
}

// --- the node's side ---

/** A task of this node's books for one run of the controller's. */
export function assignedTask(
  controller: string,
  name: string,
  { run, kind, job, owner, replica, replicas, epoch, spec, fenceMs = null, service }: Assignment,
  now: number,
): Task {
  const given = { controller, run, epoch, kind, job, replica, replicas, fenceMs, settled: false };
  const origin: Origin = service === undefined ? given : { ...given, service };
  return {
    id: run,
    owner,
    name,
    rawYaml: "",
    labels: {},
    spec,
    retry: { max: 0, lost: 0, on: null, neverOn: [], backoffMs: 1_000, maxBackoffMs: 1_000 },
    dependsOn: [],
    webhookUrl: null,
    warnings: [],
    status: "PENDING",
    slots: [newSlot(0)],
    submittedAt: now,
    startedAt: null,
    finishedAt: null,
    cancelling: false,
    error: null,
    origin,
  };
}

/** Whether the same replica was given to this node under a later epoch: what bears a lower one is over. */
export function isSuperseded(state: WorkState, { job, replica, epoch }: Assignment): boolean {
  return [...state.tasks.values()].some(
    ({ origin }) => origin !== undefined && origin.job === job && origin.replica === replica && origin.epoch > epoch,
  );
}

export function settleOrigin(draft: Draft, id: string): void {
  const task = draft.state.tasks.get(id);
  if (task?.origin === undefined) throw new WorkError("task-not-found", "task not found");
  if (!task.origin.settled) draft.write({ type: "origin-settled", id });
}

/** All that this node has of a controller, as it is told to it. */
export function reportTo(state: WorkState, controller: string): RunSeen[] {
  const found: RunSeen[] = [];
  for (const task of state.tasks.values()) {
    const { origin } = task;
    if (origin?.controller !== controller || origin.settled) continue;
    found.push(seenOf(state.runs.get(origin.run), task, origin));
  }
  return found;
}

function seenOf(run: Run | undefined, task: Task, { run: id }: Origin): RunSeen {
  const nothing = { run: id, startedAt: null, port: null, ended: null, published: false, lease: null, waiting: null };
  // It was cancelled before it had a run.
  if (run === undefined) {
    const end = { at: task.finishedAt ?? task.submittedAt, reason: null, detail: task.error ?? "", exitCode: null };
    const ended = { ...end, signal: null, resultOk: null, tail: [] };
    return {
      ...nothing,
      phase: task.finishedAt === null ? "starting" : "ended",
      ended: task.finishedAt === null ? null : ended,
    };
  }
  if (run.phase === "waiting") return { ...nothing, phase: "starting", waiting: run.waiting };
  if (run.phase === "ended") {
    const { endedAt: at, reason, detail, exitCode, signal, tail, startedAt } = run;
    const isNotOk = reason === "exited" && task.slots[0]?.outcome?.kind === "failed";
    const ended = { at, reason, detail, exitCode, signal, resultOk: isNotOk ? false : null, tail };
    return { ...nothing, phase: "ended", startedAt, ended, ...cageOf(run) };
  }
  const lease = elsewhere(leaseOf(run));
  if (run.phase === "assigned") return { ...nothing, phase: "starting", lease };
  const { phase, startedAt, port } = run;
  return { ...nothing, phase, startedAt, port, lease, ...cageOf(run) };
}

function cageOf({ cage }: { readonly cage?: RunCage }): Pick<RunSeen, "cage"> {
  return cage === undefined ? {} : { cage };
}

/** What the controller is told of a lease: whose GPUs, and nothing that only the run needs. */
function elsewhere(lease: HeldLease | null): HeldLease | null {
  return lease === null ? null : { ...lease, env: {}, elsewhere: true };
}
