/** What workers say, and what is handed to them. */
import type { EpochMs } from "../core/base/time.ts";
import type { WorkCommand } from "./commands.ts";
import type { Draft } from "./draft.ts";
import { WorkError } from "./errors.ts";
import { isOnNode, leaseOf } from "./evolve.ts";
import type { EndReason, Run, RunFence, RunOnNode, RunSeen, Waiting, WorkerFacts } from "./model.ts";
import { fenceMsOf } from "./nodes.ts";
import { awaitsGpus, declineRun, endRun, isElsewhere } from "./runs.ts";
import { jobOf, openRunsOf, type WorkState } from "./state.ts";

/**
 * A worker says all that it has; `null`: it cannot tell yet.
 *
 * @throws WorkError `worker-superseded` when a newer process of it has reported: that one has its runs.
 */
export function workerReports(
  draft: Draft,
  { worker, runs, isUnanswered = false }: Extract<WorkCommand, { readonly type: "worker-reports" }>,
): void {
  demandNewest(draft, worker.node, worker.instance);
  const before = draft.state.workers.get(worker.node);
  const isFirst = isNewcomer(draft.state, worker, isUnanswered);
  const isOld = before?.link !== undefined && worker.link !== undefined && before.instance === worker.instance;
  if (isOld && (worker.link?.seq ?? 0) <= (before?.link?.seq ?? 0)) return;
  draft.write({ type: "worker-seen", worker: { ...worker, lastSeen: draft.now } });
  if (runs === null) return;
  const seen = new Map(runs.map((report) => [report.run, report]));
  for (const report of runs) {
    const run = draft.state.runs.get(report.run);
    if (run === undefined) continue;
    if (run.phase === "ended") {
      if (run.publish === "wanted" && report.published) draft.write({ type: "run-published", run: run.id });
    } else if (isOnNode(run) && run.node === worker.node) takeReport(draft, run, report);
  }
  if (isFirst) return;
  for (const run of openRunsOf(draft.state)) {
    if (!isOnNode(run) || run.node !== worker.node || !run.known || seen.has(run.id)) continue;
    const reason: EndReason = before !== undefined && before.bootId !== worker.bootId ? "rebooted" : "lost";
    endRun(draft, run, reason, "its worker no longer knows it", null);
  }
  for (const run of openRunsOf(draft.state)) {
    // Its folder is gone: there is nothing to be put in place any more.
    const isGone = run.phase === "ended" && run.publish === "wanted" && run.node === worker.node && !seen.has(run.id);
    if (isGone) draft.write({ type: "run-published", run: run.id });
  }
}

/**
 * Whether this is the first that a process of this host's worker says while the host is up. The one before it may live,
 * and was obeyed until now: what that one has begun since the newcomer looked is not lost.
 *
 * @param isUnanswered it says so as long as no answer has reached it: until then it has not looked again.
 */
export function isNewcomer(
  { workers }: WorkState,
  worker: Pick<WorkerFacts, "node" | "instance" | "bootId" | "link">,
  isUnanswered: boolean,
): boolean {
  const before = workers.get(worker.node);
  if (before === undefined || before.bootId !== worker.bootId || worker.link !== undefined) return false;
  return isUnanswered || before.instance !== worker.instance;
}

function demandNewest({ state }: Draft, node: string, instance: number): void {
  const known = state.workers.get(node);
  if (known !== undefined && known.instance > instance) {
    throw new WorkError("worker-superseded", `a newer worker serves ${node}`);
  }
}

function takeReport(draft: Draft, run: RunOnNode, report: RunSeen): void {
  const { phase, port, ended } = report;
  const { now } = draft;
  const cage = report.cage === undefined ? {} : { cage: report.cage };
  const startedAt = startOf(draft, run, report.startedAt);
  if (ended !== null && isDeclined(draft, run, report)) {
    const { detail } = ended;
    if (detail.startsWith("never-fits")) declineRun(draft, run, run.node, detail, "never");
    else if (run.recalled === true)
      declineRun(draft, run, run.node, "given back, for another could start it", "like-any");
    else declineRun(draft, run, run.node, detail, "later");
    return;
  }
  if (ended !== null) {
    if (!run.known || run.startedAt !== startedAt) {
      draft.write({ type: "run-seen", run: run.id, phase: "stopping", startedAt, port, ...cage, at: now });
    }
    const latest = draft.state.runs.get(run.id) as RunOnNode;
    endRun(draft, latest, reasonOf(latest, ended), detailOf(latest, ended.detail), ended);
    return;
  }
  if (phase === "ended") return;
  const isNews =
    !run.known ||
    run.startedAt !== startedAt ||
    run.port !== port ||
    (run.cage === undefined && report.cage !== undefined) ||
    (report.lease ?? null)?.allocationId !== (report.lease === undefined ? undefined : run.lease?.allocationId) ||
    isOtherWait(run.waiting, report.waiting) ||
    (run.phase !== "stopping" && phase !== "stopping" && run.phase !== phase);
  const { lease, waiting } = report;
  const told = { ...(lease === undefined ? {} : { lease }), ...(waiting === undefined ? {} : { waiting }), ...cage };
  if (isNews) draft.write({ type: "run-seen", run: run.id, phase, startedAt, port, ...told, at: now });
}

/**
 * By the books' own clock, once and for all: the worker goes by the wall clock, which may have been set since these books
 * began, and their own instants move when it was set between two of their processes.
 */
function startOf(draft: Draft, run: RunOnNode, startedAt: EpochMs | null): EpochMs | null {
  if (startedAt === null || isElsewhere(draft, run)) return startedAt;
  return run.startedAt ?? Math.min(draft.now, Math.max(startedAt, run.handedOutAt));
}

function isOtherWait(before: Waiting | null | undefined, after: Waiting | null | undefined): boolean {
  return after !== undefined && (before?.reason !== after?.reason || before?.position !== after?.position);
}

/** A node's daemon has taken it, and it never began there: no lease was to be had after all. */
function isDeclined(draft: Draft, run: RunOnNode, { startedAt, ended }: RunSeen): boolean {
  const isOwnFault = ended?.reason === "executor-failed" || ended?.reason === "outcome-unknown";
  return isElsewhere(draft, run) && run.phase !== "stopping" && startedAt === null && !isOwnFault;
}

/** What it was stopped for, else what its worker knows, else what its exit says. */
function reasonOf(run: Run, ended: NonNullable<RunSeen["ended"]>): EndReason {
  if (run.phase === "stopping") return run.why;
  if (ended.reason !== null) return ended.reason;
  return ended.exitCode === 0 ? "exited" : "failed";
}

function detailOf(run: Run, detail: string): string {
  return run.phase === "stopping" && run.detail !== "" ? run.detail : detail;
}

/** So many may be on their way to a member at once: however slow it is, what it is sent does not grow old meanwhile. */
const MOST_UNDERWAY = 50;

/** From here on its node may start them, so they can no longer be ended without it. */
export function handOut(
  draft: Draft,
  { node, instance, alive = [] }: Extract<WorkCommand, { readonly type: "hand-out" }>,
): void {
  demandNewest(draft, node, instance);
  let room = roomFor(draft, node);
  for (const run of openRunsOf(draft.state)) {
    if (run.phase !== "assigned" || run.node !== node || awaitsGpus(run)) continue;
    if (alive.some((other) => isInPlaceOf(run, other))) continue;
    if (--room < 0) return;
    draft.write({ type: "run-handed-out", run: run.id, at: draft.now, ...fenceAt(draft, run) });
  }
}

/** Whether a run that nobody wants any more lives in its place: one of its replica, or with its lease. It is waited for. */
function isInPlaceOf(run: Run, other: Pick<RunSeen, "run" | "allocationId">): boolean {
  const lease = leaseOf(run);
  if (lease !== null && lease.allocationId === other.allocationId) return true;
  const name = `run-${run.job.uid}-${run.replica}-`;
  return other.run.startsWith(name) && /^\d+$/.test(other.run.slice(name.length));
}

function roomFor({ state }: Draft, node: string): number {
  if (state.workers.get(node)?.link?.kind !== "member") return Number.MAX_SAFE_INTEGER;
  const isUnderway = (run: Run) => isOnNode(run) && run.node === node && !run.known;
  return MOST_UNDERWAY - openRunsOf(state).filter(isUnderway).length;
}

function fenceAt({ state }: Draft, run: Extract<Run, { phase: "assigned" }>): { readonly fence?: RunFence | null } {
  const worker = state.workers.get(run.node);
  const job = jobOf(state, run.job);
  if (worker?.link?.kind !== "member" || job === undefined) return {};
  const { ttlMs } = worker.link;
  const withinMs = worker.endsSurely ? fenceMsOf(job, worker.link) : null;
  return { fence: withinMs === null ? null : { withinMs, ttlMs } };
}

/** One that has said that it leaves, and has nothing of ours. */
export function removeWorker(draft: Draft, node: string): void {
  const isBusy = openRunsOf(draft.state).some((run) => run.phase !== "waiting" && run.node === node);
  if (!isBusy && draft.state.workers.get(node) !== undefined) draft.write({ type: "worker-removed", node });
}

export function removeStaleWorkers(draft: Draft, staleMs: number): void {
  const busy = new Set(openRunsOf(draft.state).map((run) => (run.phase === "waiting" ? null : run.node)));
  for (const { node, lastSeen } of [...draft.state.workers.values()]) {
    if (draft.now - lastSeen >= staleMs && !busy.has(node)) draft.write({ type: "worker-removed", node });
  }
}
