/** The only place where the books change. */
import type { WorkEvent } from "./events.ts";
import type { JobRef, Run, RunOnNode, RunStage, Slot, Task, Workload } from "./model.ts";
import { newSlot, type WorkState, withRun, withTask, withWorkload } from "./state.ts";

export function evolve(state: WorkState, event: WorkEvent): WorkState {
  switch (event.type) {
    case "task-submitted":
      return withTask(state, event.task);
    case "task-cancelling":
      return onTask(state, event.id, (task) => ({ ...task, cancelling: true }));
    case "task-status":
      return onTask(state, event.id, (task) => ({
        ...task,
        status: event.status,
        startedAt: event.status === "DISPATCHED" ? (task.startedAt ?? event.at) : task.startedAt,
      }));
    case "task-ended":
      return onTask(state, event.id, (task) => ({
        ...task,
        status: event.status,
        error: event.error,
        finishedAt: event.at,
      }));
    case "origin-settled":
      return onTask(state, event.id, ({ origin, ...task }) =>
        origin === undefined ? task : { ...task, origin: { ...origin, settled: true } },
      );
    case "task-removed":
      return removeTask(state, event.id);
    case "workload-created":
      return withWorkload(state, event.workload);
    case "workload-changed":
      return onWorkload(state, event.uid, (workload) => ({
        ...workload,
        replicas: event.replicas,
        labels: event.labels,
        slots: scaled(workload.slots, event.replicas),
        updatedAt: event.at,
      }));
    case "workload-restarting":
      return onWorkload(state, event.uid, (workload) => ({
        ...workload,
        generation: workload.generation + 1,
        // Who asks for a restart asks for those that were given up, too.
        slots: workload.slots.map((slot) => ({ ...slot, outcome: null, failures: 0, nextAt: null })),
        updatedAt: event.at,
      }));
    case "workload-deleted":
      return onWorkload(state, event.uid, (workload) => ({ ...workload, deleted: true, updatedAt: event.at }));
    case "workload-removed":
      return { ...state, workloads: state.workloads.delete(event.uid) };
    case "worker-seen":
      return { ...state, workers: state.workers.set(event.worker.node, event.worker) };
    case "worker-removed":
      return { ...state, workers: state.workers.delete(event.node) };
    case "slot-after":
      return onSlot(state, event.job, event.replica, (slot) => ({ ...slot, ...event.slot }));
    case "kept-lease-gone":
      return onSlot(state, event.job, event.replica, (slot) => ({ ...slot, kept: null }));
    default:
      return evolveRun(state, event);
  }
}

type RunEvent = Extract<WorkEvent, { readonly run: string }>;

function evolveRun(state: WorkState, event: RunEvent): WorkState {
  switch (event.type) {
    case "run-created": {
      const { run: id, job, owner, replica, epoch, generation, at } = event;
      const stage: RunStage = { phase: "waiting", attempt: 1, allocationId: null, askAt: at, waiting: null };
      const created = withRun(state, { id, job, owner, replica, epoch, generation, createdAt: at, ...stage });
      // One that a controller has given keeps the controller's epoch, by whatever clock.
      const lastEpoch = Math.max(state.lastEpoch, epoch);
      return onSlot({ ...created, lastEpoch }, job, replica, (slot) => ({
        ...slot,
        live: id,
        tries: slot.tries + 1,
        nextAt: null,
      }));
    }
    case "run-adopted": {
      const { type: _, run: id, job, replica, epoch, at, ...facts } = event;
      const run: Run = {
        ...{ ...facts, id, job, replica, epoch, createdAt: at },
        ...{ phase: "running", handedOutAt: at, known: true, readyAt: null },
      };
      const adopted = { ...withRun(state, run), lastEpoch: Math.max(state.lastEpoch, epoch) };
      return onSlot(adopted, job, replica, (slot) => ({ ...slot, live: id, tries: slot.tries + 1, nextAt: null }));
    }
    case "run-waits":
      return onRun(state, event.run, (run) => {
        if (run.phase !== "waiting") return run;
        return { ...run, waiting: event.waiting, askAt: event.askAt };
      });
    case "lease-queued":
      return onRun(state, event.run, (run) => {
        if (run.phase !== "waiting") return run;
        return { ...run, allocationId: event.allocationId, waiting: event.waiting };
      });
    case "lease-missed":
      return onRun(state, event.run, (run) => {
        if (run.phase !== "waiting") return run;
        return { ...run, allocationId: null, attempt: run.attempt + 1, askAt: event.askAt, waiting: event.waiting };
      });
    case "run-assigned": {
      const { lease, node } = event;
      const assigned = onRun(state, event.run, (run) => ({ ...baseOf(run), phase: "assigned", lease, node }));
      const { job, replica } = assigned.runs.get(event.run) as Run;
      // A lease that was kept for it is its own from here on.
      return onSlot(assigned, job, replica, (slot) => ({ ...slot, kept: null }));
    }
    case "gpus-emptied":
      return onRun(state, event.run, (run) => {
        if (run.phase !== "assigned" || run.lease === null) return run;
        const { leftAt: _gone, ...lease } = run.lease;
        return { ...run, lease };
      });
    case "run-handed-out":
      return onRun(state, event.run, (run) => {
        if (run.phase !== "assigned") return run;
        const { lease, node } = run;
        const fence = event.fence === undefined ? {} : { fence: event.fence };
        const news = { known: false, startedAt: null, readyAt: null, port: null, ...fence };
        return { ...baseOf(run), phase: "starting", lease, node, handedOutAt: event.at, ...news };
      });
    case "run-recalled":
      return onRun(state, event.run, (run) => (isOnNode(run) ? { ...run, recalled: true } : run));
    case "run-seen":
      return onRun(state, event.run, (run) => (isOnNode(run) ? seen(run, event) : run));
    case "run-stopping":
      return onRun(state, event.run, (run) => {
        if (!isOnNode(run)) return run;
        return { ...run, phase: "stopping", why: event.why, detail: event.detail, since: event.at };
      });
    case "run-ended":
      return ended(state, event);
    case "run-published": {
      const published = onRun(state, event.run, (run) => (run.phase === "ended" ? { ...run, publish: "done" } : run));
      return withoutLive(published, event.run);
    }
    case "run-removed":
      return { ...state, runs: state.runs.delete(event.run), openRuns: state.openRuns.delete(event.run) };
    default:
      return event satisfies never;
  }
}

function seen(run: RunOnNode, event: Extract<WorkEvent, { type: "run-seen" }>): Run {
  const facts = {
    known: true,
    startedAt: event.startedAt ?? run.startedAt,
    readyAt: event.phase === "ready" ? (run.readyAt ?? event.at) : run.readyAt,
    port: event.port ?? run.port,
    lease: event.lease ?? run.lease,
    ...(event.waiting === undefined ? {} : { waiting: event.waiting }),
    ...(event.cage === undefined ? {} : { cage: event.cage }),
  };
  // What is to stop is not taken back by what its worker saw before it heard of it.
  if (run.phase === "stopping" || event.phase === "stopping") return { ...run, ...facts };
  return { ...run, ...facts, phase: event.phase };
}

function ended(state: WorkState, event: Extract<WorkEvent, { type: "run-ended" }>): WorkState {
  const { reason, detail, exitCode, signal, tail, at: endedAt } = event;
  const before = state.runs.get(event.run);
  if (before === undefined || before.phase === "ended") return state;
  const lease = leaseOf(before);
  const after = withRun(state, {
    ...baseOf(before),
    phase: "ended",
    allocationId: before.phase === "waiting" ? before.allocationId : (lease?.allocationId ?? null),
    gpuUuids: lease?.gpuUuids ?? [],
    node: before.phase === "waiting" ? null : before.node,
    startedAt: isOnNode(before) ? before.startedAt : null,
    endedAt,
    reason,
    detail,
    exitCode,
    signal,
    publish: event.publish ? "wanted" : "no",
    tail,
    ...(isOnNode(before) ? { handedOut: true } : {}),
    ...(isOnNode(before) && before.cage !== undefined ? { cage: before.cage } : {}),
  });
  const kept = event.keepsLease
    ? onSlot(after, before.job, before.replica, (slot) => ({ ...slot, kept: lease }))
    : after;
  return event.publish ? kept : withoutLive(kept, event.run);
}

function withoutLive(state: WorkState, id: string): WorkState {
  const { job, replica } = state.runs.get(id) as Run;
  return onSlot(state, job, replica, (slot) => (slot.live === id ? { ...slot, live: null } : slot));
}

export function isOnNode(run: Run): run is RunOnNode {
  return run.phase !== "waiting" && run.phase !== "assigned" && run.phase !== "ended";
}

export function leaseOf(run: Run) {
  return run.phase === "waiting" || run.phase === "ended" ? null : run.lease;
}

function baseOf({ id, job, owner, replica, epoch, generation, createdAt }: Run) {
  return { id, job, owner, replica, epoch, generation, createdAt };
}

function scaled(slots: readonly Slot[], replicas: number): readonly Slot[] {
  const kept = slots.filter(({ replica, live }) => replica < replicas || live !== null);
  const have = new Set(kept.map(({ replica }) => replica));
  const added = Array.from({ length: replicas }, (_, replica) => replica).filter((replica) => !have.has(replica));
  return [...kept, ...added.map(newSlot)].sort((a, b) => a.replica - b.replica);
}

function onTask(state: WorkState, id: string, change: (task: Task) => Task): WorkState {
  const task = state.tasks.get(id);
  return task === undefined ? state : withTask(state, change(task));
}

function onWorkload(state: WorkState, uid: string, change: (workload: Workload) => Workload): WorkState {
  const workload = state.workloads.get(uid);
  return workload === undefined ? state : withWorkload(state, change(workload));
}

function onRun(state: WorkState, id: string, change: (run: Run) => Run): WorkState {
  const run = state.runs.get(id);
  return run === undefined ? state : withRun(state, change(run));
}

function onSlot(state: WorkState, { kind, uid }: JobRef, replica: number, change: (slot: Slot) => Slot): WorkState {
  const changed = (slots: readonly Slot[]) => slots.map((slot) => (slot.replica === replica ? change(slot) : slot));
  if (kind === "task") return onTask(state, uid, (task) => ({ ...task, slots: changed(task.slots) }));
  return onWorkload(state, uid, (workload) => {
    const slots = changed(workload.slots);
    // One beyond the number wanted was only waiting for its run to end.
    return { ...workload, slots: slots.filter((slot) => slot.replica < workload.replicas || slot.live !== null) };
  });
}

/** A task with all its runs. */
function removeTask(state: WorkState, id: string): WorkState {
  let { runs, openRuns } = state;
  for (const run of state.runs.values()) {
    if (run.job.kind !== "task" || run.job.uid !== id) continue;
    runs = runs.delete(run.id);
    openRuns = openRuns.delete(run.id);
  }
  const [openTasks, movingTasks] = [state.openTasks.delete(id), state.movingTasks.delete(id)];
  return { ...state, tasks: state.tasks.delete(id), openTasks, movingTasks, runs, openRuns };
}
