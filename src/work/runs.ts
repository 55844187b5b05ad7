/**
 * The life of one run, from the wish for a lease to its end.
 *
 *  1. A run ends only when its worker has seen its cage empty, or before its node was told of it. Until then it has its
 *     lease, whatever it was told.
 *  2. What a worker has once said that it has, and no longer knows, is lost: it is not started again as the same run.
 */
import type { EpochMs } from "../core/base/time.ts";
import type { WorkCommand } from "./commands.ts";
import type { Draft } from "./draft.ts";
import { isOnNode, leaseOf } from "./evolve.ts";
import type {
  EndReason,
  HeldLease,
  JobRef,
  Run,
  RunEndSeen,
  Slot,
  Task,
  Waiting,
  Workload,
  WorkSpec,
} from "./model.ts";
import { type NodeChoice, suits } from "./node-choice.ts";
import { chooseServing, offersOf, unpromised } from "./offers.ts";
import { afterServiceRun, afterTaskRun, chanceOf, type Ending } from "./retries.ts";
import { jobOf, openRunsOf, slotOf } from "./state.ts";

/** How soon a lease is asked for again under a new key after the last was missed. */
const MISSED_RETRY_MS = 1_000;
/** What a host can never hold it may hold when another GPU is built in. */
const NEVER_RETRY_MS = 60_000;
/** These take the GPUs away, or say that they are no good. */
const LEASE_TAKEN: ReadonlySet<EndReason> = new Set([
  "lease-ended",
  "preempted",
  "gpu-failed",
  "rebooted",
  "gpu-not-clean",
]);

export function createRun(draft: Draft, job: Task | Workload, ref: JobRef, slot: Slot): void {
  const { now, state } = draft;
  const origin = "origin" in job ? job.origin : undefined;
  const id = origin?.run ?? `run-${ref.uid}-${slot.replica}-${slot.tries + 1}`;
  const epoch = origin?.epoch ?? Math.max(now, state.lastEpoch + 1);
  const generation = "generation" in job ? job.generation : 0;
  const { kept } = slot;
  draft.write({
    type: "run-created",
    run: id,
    job: ref,
    owner: job.owner,
    replica: slot.replica,
    epoch,
    generation,
    at: now,
  });
  const choice = nodeFor(draft, id, "here");
  if (kept !== null && choice.node !== null)
    draft.write({ type: "run-assigned", run: id, node: choice.node, lease: kept });
  else if (kept !== null) draft.write({ type: "kept-lease-gone", job: ref, replica: slot.replica });
  const run = draft.state.runs.get(id) as Run;
  if (run.phase === "waiting") settleWaiting(draft, run);
}

/**
 * Where a run would go now.
 *
 * @param where `here`: it has a lease of this host's, so that no other will do.
 */
export function nodeFor({ state, now }: Pick<Draft, "state" | "now">, id: string, where?: "here"): NodeChoice {
  const run = state.runs.get(id) as Run;
  const job = jobOf(state, run.job);
  if (job === undefined || job.spec === null) return { node: null, reason: "no-settings" };
  const slot = slotOf(state, run);
  const avoided = new Set((slot?.avoid ?? []).filter(({ until }) => until > now).map(({ node }) => node));
  // What a controller has given to this node stays on it.
  const isBound = where === "here" || (isTask(job) && job.origin !== undefined);
  if (isBound) {
    const own = offersOf(state).filter(({ worker }) => worker.link === undefined);
    return chooseServing(state, job, own, now);
  }
  const asked = unpromised(state, run, now).filter(({ worker }) => !avoided.has(worker.node));
  const choice = chooseServing(state, job, asked, now);
  if (choice.node !== null || !NOBODY.has(choice.reason)) return choice;
  const { spec } = job;
  const hasDeclined = [...state.workers.values()].some((worker) => avoided.has(worker.node) && suits(spec, worker));
  return hasDeclined ? { node: null, reason: "nodes-declined" } : choice;
}

const NOBODY: ReadonlySet<string> = new Set(["no-worker", "no-suitable-worker"]);

/** What needs no GPU goes to its node at once, and what another node takes, to that; others wait for a lease of ours. */
function settleWaiting(draft: Draft, run: Extract<Run, { phase: "waiting" }>): void {
  const choice = nodeFor(draft, run.id);
  if (run.allocationId !== null) {
    // It stands in our own line, and another node could start it now: what it leaves there is given back.
    if (choice.node !== null && !choice.isHere && choice.startsNow) assignTo(draft, run, choice.node);
    return;
  }
  if (choice.node === null) {
    waits(draft, run, { reason: choice.reason, position: null, etaLatest: null }, run.askAt);
    return;
  }
  const job = jobOf(draft.state, run.job);
  if (job?.spec?.resources.gpu === null || !choice.isHere) {
    assignTo(draft, run, choice.node);
    return;
  }
  if (run.waiting !== null && NO_NODE.has(run.waiting.reason)) waits(draft, run, ASKING, run.askAt);
}

function assignTo(draft: Draft, run: Run, node: string): void {
  draft.write({ type: "run-assigned", run: run.id, node, lease: null });
}

const NO_NODE: ReadonlySet<string> = new Set([
  "no-worker",
  "worker-stale",
  "no-suitable-worker",
  "workers-busy",
  "no-settings",
  "service-not-ready",
  "nodes-declined",
]);
const ASKING: Waiting = { reason: "waiting-for-queue-slot", position: null, etaLatest: null };

function waits(draft: Draft, run: Extract<Run, { phase: "waiting" }>, waiting: Waiting, askAt: EpochMs): void {
  const before = run.waiting;
  const isSame =
    before?.reason === waiting.reason && before.position === waiting.position && before.etaLatest === waiting.etaLatest;
  if (!isSame || askAt !== run.askAt) draft.write({ type: "run-waits", run: run.id, waiting, askAt });
}

export function leaseSeen(
  draft: Draft,
  { run: id, attempt, seen }: Extract<WorkCommand, { type: "lease-seen" }>,
): void {
  const run = draft.state.runs.get(id);
  // An answer that comes late: whatever it holds, no run wants it, and the next look gives it back.
  if (run?.phase !== "waiting" || run.attempt !== attempt) return;
  const plain = (reason: string): Waiting => ({ reason, position: null, etaLatest: null });
  switch (seen.status) {
    case "queued": {
      const { allocationId, waiting } = seen;
      const before = run.waiting;
      if (
        run.allocationId === allocationId &&
        before?.reason === waiting.reason &&
        before.position === waiting.position
      )
        return;
      draft.write({ type: "lease-queued", run: id, allocationId, waiting });
      return;
    }
    case "held": {
      const choice = nodeFor(draft, id, "here");
      if (choice.node === null) return;
      draft.write({ type: "run-assigned", run: id, node: choice.node, lease: seen.lease });
      return;
    }
    case "missed":
      draft.write({ type: "lease-missed", run: id, askAt: draft.now + MISSED_RETRY_MS, waiting: plain(seen.reason) });
      return;
    case "refused":
      waits(draft, run, plain(seen.reason), draft.now + seen.retryMs);
      return;
    case "never":
      if (hasOtherNodes(draft)) declineRun(draft, run, hereIn(draft), `never-fits: ${seen.reason}`, "never");
      else if (run.job.kind === "task") failSlot(draft, run, `never-fits: ${seen.reason}`);
      else waits(draft, run, plain(`never-fits: ${seen.reason}`), draft.now + NEVER_RETRY_MS);
      return;
    default:
      seen satisfies never;
  }
}

function hasOtherNodes({ state }: Draft): boolean {
  return [...state.workers.values()].some(({ link }) => link !== undefined);
}

/** The worker of this host. */
function hereIn({ state }: Draft): string {
  return [...state.workers.values()].find(({ link }) => link === undefined)?.node ?? "";
}

/** Before it is asked again: what it has not, it may have then. */
const DECLINED_MS = 30_000;
const ANEW_MS = 1_000;

/** When a node may be asked for a replica again; `like-any`: it has not refused it, and is one among all. */
export type AskAgain = "like-any" | "later" | "never";

/**
 * A node has not a run that was proposed to it: its replica gets another, for another node.
 *
 * @param again `never`: it can never have it; when no suitable node is left a task has failed.
 */
export function declineRun(draft: Draft, run: Run, node: string, why: string, again: AskAgain): void {
  const slot = slotOf(draft.state, run);
  endAs(draft, run, "cancelled", `${node}: ${why}`, null);
  const job = jobOf(draft.state, run.job);
  if (slot === undefined || slot.live !== run.id || job === undefined || job.spec === null) return;
  const { replica, tries: _t, live: _l, ...rest } = slot;
  const others = (slot.avoid ?? []).filter((one) => one.node !== node && one.until > draft.now);
  const until = again === "never" ? Number.MAX_SAFE_INTEGER : draft.now + DECLINED_MS;
  const avoid = again === "like-any" ? others : [...others, { node, until }];
  const never = new Set(avoid.filter((one) => one.until === Number.MAX_SAFE_INTEGER).map((one) => one.node));
  const { spec } = job;
  const left = [...draft.state.workers.values()].filter((worker) => suits(spec, worker) && !never.has(worker.node));
  const hasFailed = run.job.kind === "task" && left.length === 0;
  const outcome = hasFailed ? ({ kind: "failed", reason: why } as const) : slot.outcome;
  draft.write({
    type: "slot-after",
    job: run.job,
    replica,
    slot: {
      ...rest,
      kept: null,
      avoid,
      outcome,
      nextAt: hasFailed ? null : draft.now + (again === "like-any" ? 0 : ANEW_MS),
    },
  });
}

/** Its replica is given up with its run, which has not been on a node. */
export function failSlot(draft: Draft, run: Run, reason: string): void {
  const slot = slotOf(draft.state, run);
  endAs(draft, run, "cancelled", reason, null);
  if (slot === undefined) return;
  const { replica, tries: _t, live: _l, ...rest } = slot;
  draft.write({
    type: "slot-after",
    job: run.job,
    replica,
    slot: { ...rest, kept: null, nextAt: null, outcome: { kind: "failed", reason } },
  });
}

export function leaseOver(draft: Draft, allocationId: string, endReason: string): void {
  const why: EndReason =
    endReason === "preempted" || endReason === "drained"
      ? "preempted"
      : endReason === "rebooted"
        ? "rebooted"
        : "lease-ended";
  stopRunsOf(draft, allocationId, why, `its lease ended: ${endReason}`);
  forgetKept(draft, allocationId);
}

function stopRunsOf(draft: Draft, allocationId: string, why: EndReason, detail: string): void {
  for (const run of openRunsOf(draft.state)) {
    if (leaseOf(run)?.allocationId === allocationId) stopRun(draft, run, why, detail);
  }
}

function forgetKept(draft: Draft, allocationId: string): void {
  for (const { ref, slots } of allJobs(draft)) {
    for (const { replica, kept } of slots) {
      if (kept?.allocationId === allocationId) draft.write({ type: "kept-lease-gone", job: ref, replica });
    }
  }
}

/** A GPU of a lease is gone, or must be reset: its run is stopped, and whoever keeps it for the next asks for another. */
export function gpuFailed(draft: Draft, allocationId: string, detail: string): void {
  stopRunsOf(draft, allocationId, "gpu-failed", detail);
  forgetKept(draft, allocationId);
}

export function gpusEmpty(draft: Draft, id: string): void {
  const run = draft.state.runs.get(id);
  if (run !== undefined && awaitsGpus(run)) draft.write({ type: "gpus-emptied", run: id });
}

/** The lease goes with the run: the daemon's own watch over what is left begins then. */
export function gpusNotEmpty(draft: Draft, id: string, detail: string): void {
  const run = draft.state.runs.get(id);
  if (run !== undefined && awaitsGpus(run)) endRun(draft, run, "gpu-not-clean", detail, null);
}

/** Whether it has the lease of a run before it, of which something may be left there. */
export function awaitsGpus(run: Run): run is Extract<Run, { phase: "assigned" }> & { readonly lease: HeldLease } {
  return run.phase === "assigned" && run.lease?.leftAt !== undefined;
}

function allJobs({ state }: Draft): { ref: JobRef; slots: readonly Slot[] }[] {
  const tasks = [...state.openTasks.values()].map((id) => state.tasks.get(id) as Task);
  return [
    ...tasks.map(({ id, slots }) => ({ ref: { kind: "task" as const, uid: id }, slots })),
    ...[...state.workloads.values()].map(({ uid, slots }) => ({ ref: { kind: "workload" as const, uid }, slots })),
  ];
}

/** Stops a run: at once while its node has not been told of it, by its worker otherwise. */
export function stopRun(draft: Draft, run: Run, why: EndReason, detail: string): void {
  if (run.phase === "ended" || run.phase === "stopping") return;
  if (isOnNode(run)) draft.write({ type: "run-stopping", run: run.id, why, detail, at: draft.now });
  else endRun(draft, run, why, detail, null);
}

/** A run is over, and its replica goes on from there. */
export function endRun(draft: Draft, run: Run, reason: EndReason, detail: string, seen: RunEndSeen | null): void {
  if (run.phase === "ended") return;
  const slot = slotOf(draft.state, run);
  const job = jobOf(draft.state, run.job);
  if (slot === undefined || job === undefined || slot.live !== run.id) {
    endAs(draft, run, reason, detail, seen);
    return;
  }
  const held = leaseOf(run);
  // It may have been stopped for that, and be lost on the way.
  const isOverWith = LEASE_TAKEN.has(reason) || (run.phase === "stopping" && LEASE_TAKEN.has(run.why));
  const isTaken = held === null || held.elsewhere === true || isOverWith;
  // One that its node was not told of has left nothing; what it waited to be gone still is what it was.
  const lease: HeldLease | null = isTaken ? null : isOnNode(run) ? { ...held, leftAt: draft.now } : held;
  const ending: Ending = {
    reason,
    detail,
    exitCode: seen?.exitCode ?? null,
    startedAt: isOnNode(run) ? run.startedAt : null,
    readyAt: isOnNode(run) ? run.readyAt : null,
    resultOk: seen?.resultOk ?? null,
    tail: seen?.tail ?? [],
    lease,
    at: draft.now,
    chance: chanceOf(run.id),
    isOnce: isTask(job) && (job.origin !== undefined || job.adopted === true),
    mayHaveBegun: isOnNode(run) && seen === null && (reason === "lost" || reason === "rebooted"),
  };
  const after = isTask(job)
    ? job.cancelling
      ? null
      : afterTaskRun(slot, job.retry, ending, endsSurely(draft, run))
    : afterServiceRun(slot, job.restart, ending, !job.deleted && run.replica < job.replicas);
  const isLast = isTask(job) && (after === null || after.outcome !== null);
  const keepsLease = after !== null && after.kept !== null;
  // Of a node that says nothing there is nothing to be had, and a controller's service leaves no result.
  const canPublish = (seen !== null || !isElsewhere(draft, run)) && !(isTask(job) && job.origin?.kind === "service");
  endAs(draft, run, reason, detail, seen, isLast && ending.startedAt !== null && canPublish, keepsLease);
  if (after !== null) draft.write({ type: "slot-after", job: run.job, replica: run.replica, slot: after });
}

function endAs(
  draft: Draft,
  run: Run,
  reason: EndReason,
  detail: string,
  seen: RunEndSeen | null,
  publish = false,
  keepsLease = false,
): void {
  const { exitCode = null, signal = null, tail = [] } = seen ?? {};
  draft.write({
    type: "run-ended",
    run: run.id,
    reason,
    detail,
    exitCode,
    signal,
    publish,
    keepsLease,
    tail,
    at: draft.now,
  });
}

function endsSurely({ state }: Draft, run: Run): boolean {
  const node = run.phase === "waiting" ? null : run.node;
  return node === null || (state.workers.get(node)?.endsSurely ?? true);
}

/** Whether its node's own daemon leases and watches for it. */
export function isElsewhere({ state }: Pick<Draft, "state">, run: Run): boolean {
  const node = run.phase === "waiting" ? null : run.node;
  return node !== null && state.workers.get(node)?.link !== undefined;
}

export function isTask(job: Task | Workload): job is Task {
  return "status" in job;
}

/** Whatever is due of open runs by now. */
export function passTime(draft: Draft): void {
  for (const { id } of openRunsOf(draft.state)) {
    const run = draft.state.runs.get(id) as Run;
    if (run.phase === "waiting") settleWaiting(draft, run);
    else if (isOnNode(run) && run.phase !== "stopping" && !isElsewhere(draft, run)) passTimeOn(draft, run);
  }
}

function passTimeOn(draft: Draft, run: Extract<Run, { phase: "starting" | "running" | "ready" | "unready" }>): void {
  const job = jobOf(draft.state, run.job);
  if (job?.spec === undefined || job.spec === null) return;
  const { startTimeoutMs, readiness } = job.spec;
  const longestMs = longestOf(job.spec);
  const hasStarted = readiness !== null ? run.readyAt !== null : run.startedAt !== null;
  if (!hasStarted && draft.now - run.handedOutAt >= startTimeoutMs) {
    const what = readiness === null ? "started" : "ready";
    stopRun(draft, run, "start-timeout", `not ${what} within ${startTimeoutMs / 1_000} s`);
    return;
  }
  if (run.startedAt !== null && draft.now - run.startedAt >= longestMs) {
    stopRun(draft, run, "timeout", `ran for ${longestMs / 1_000} s, as long as it may`);
  }
}

/** Where there is a lease, `max_duration` ends that, and the run with it. */
function longestOf({ timeoutMs, maxDurationMs, resources }: WorkSpec): number {
  const ofLease = resources.gpu === null ? maxDurationMs : null;
  return Math.min(timeoutMs ?? Number.POSITIVE_INFINITY, ofLease ?? Number.POSITIVE_INFINITY);
}
