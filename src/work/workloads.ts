/** Workloads: as many replicas as are wanted, until they are deleted. */
import type { EpochMs } from "../core/base/time.ts";
import type { WorkCommand } from "./commands.ts";
import type { Draft } from "./draft.ts";
import { WorkError } from "./errors.ts";
import type { Run, Slot, Workload } from "./model.ts";
import { createRun, stopRun } from "./runs.ts";
import { isSettled, workloadNamed } from "./state.ts";

/** @throws WorkError `workload-exists`, `work-full` */
export function submitWorkload(draft: Draft, workload: Workload, maxWorkloads: number): void {
  const { state } = draft;
  if (workloadNamed(state, workload.id) !== undefined) {
    throw new WorkError("workload-exists", `there is a workload ${workload.id} already`);
  }
  const live = [...state.workloads.values()].filter(({ deleted }) => !deleted).length;
  if (live >= maxWorkloads) {
    throw new WorkError("work-full", `there are ${live} workloads, as many as work.max_workloads allows`);
  }
  draft.write({ type: "workload-created", workload });
}

function named({ state }: Draft, id: string): Workload {
  const workload = workloadNamed(state, id);
  if (workload === undefined) throw new WorkError("workload-not-found", "Workload not found");
  return workload;
}

/** @throws WorkError `workload-not-found`, as are those below. */
export function changeWorkload(draft: Draft, change: Extract<WorkCommand, { type: "change-workload" }>): void {
  const { uid, replicas, labels } = named(draft, change.id);
  draft.write({
    type: "workload-changed",
    uid,
    replicas: change.replicas ?? replicas,
    labels: change.labels ?? labels,
    at: draft.now,
  });
}

export function restartWorkload(draft: Draft, id: string): void {
  draft.write({ type: "workload-restarting", uid: named(draft, id).uid, at: draft.now });
}

export function deleteWorkload(draft: Draft, id: string): void {
  draft.write({ type: "workload-deleted", uid: named(draft, id).uid, at: draft.now });
}

/** A service is restarted for as long as it is wanted: its runs of old are of no use to anybody. Tasks take theirs along. */
export function removeEndedRuns(draft: Draft, before: EpochMs, keep: number): void {
  const { state } = draft;
  const ended = [...state.runs.values()].filter(
    (run): run is Extract<Run, { phase: "ended" }> =>
      run.job.kind === "workload" && run.phase === "ended" && isSettled(run),
  );
  for (const [uid, runs] of Map.groupBy(ended, ({ job }) => job.uid)) {
    const isWanted = state.workloads.get(uid) !== undefined;
    const newestFirst = runs.sort((a, b) => b.endedAt - a.endedAt || b.epoch - a.epoch);
    newestFirst.forEach(({ id, endedAt }, place) => {
      if (place >= keep || (!isWanted && endedAt < before)) draft.write({ type: "run-removed", run: id });
    });
  }
}

export function advanceWorkloads(draft: Draft): void {
  for (const { uid } of [...draft.state.workloads.values()]) {
    const workload = draft.state.workloads.get(uid) as Workload;
    if (workload.deleted) takeDown(draft, workload);
    else if (workload.spec !== null) {
      stopSurplus(draft, workload);
      replaceOldest(draft, uid);
      startMissing(draft, uid);
    }
  }
}

function takeDown(draft: Draft, workload: Workload): void {
  for (const run of liveRuns(draft, workload)) stopRun(draft, run, "cancelled", "its workload was deleted");
  const { slots } = draft.state.workloads.get(workload.uid) as Workload;
  if (slots.every(({ live }) => live === null)) draft.write({ type: "workload-removed", uid: workload.uid });
}

function stopSurplus(draft: Draft, workload: Workload): void {
  for (const run of liveRuns(draft, workload)) {
    if (run.replica >= workload.replicas) stopRun(draft, run, "cancelled", "fewer replicas are wanted");
  }
}

/** A restart takes one replica after the other: the next only when every other one serves. */
function replaceOldest(draft: Draft, uid: string): void {
  const workload = draft.state.workloads.get(uid) as Workload;
  const runs = liveRuns(draft, workload);
  const old = runs.filter(({ generation }) => generation < workload.generation);
  const [next] = old;
  if (next === undefined) return;
  // Those that do not serve take nothing away when they are replaced, and come first.
  const idle = old.find((run) => !serves(run));
  if (idle !== undefined) {
    stopRun(draft, idle, "cancelled", "restart");
    return;
  }
  const others = workload.slots.filter(({ live, outcome }) => live !== next.id && outcome === null);
  const allServe = others.every(({ live }) => live !== null && serves(draft.state.runs.get(live) as Run));
  if (allServe) stopRun(draft, next, "cancelled", "restart");
}

function serves({ phase }: Run): boolean {
  return phase === "ready";
}

function startMissing(draft: Draft, uid: string): void {
  const workload = draft.state.workloads.get(uid) as Workload;
  for (const slot of workload.slots) {
    if (isDue(slot, draft.now) && slot.replica < workload.replicas) {
      createRun(draft, workload, { kind: "workload", uid }, slot);
    }
  }
}

function isDue({ live, outcome, nextAt }: Slot, now: number): boolean {
  return live === null && outcome === null && (nextAt === null || nextAt <= now);
}

function liveRuns({ state }: Draft, { slots }: Workload): Run[] {
  return slots.flatMap(({ live }) => (live === null ? [] : [state.runs.get(live) as Run]));
}
