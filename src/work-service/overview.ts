/** Work at a glance, for who looks at it again and again: bounded, and without what only its owner may see. */
import type { RunLine, TaskLine, WorkloadLine, WorkOverview } from "../client/work.ts";
import type { Run, Task, Workload } from "../work/model.ts";
import { isOver, openRunsOf, type WorkState } from "../work/state.ts";
import { attemptView, runsOf, taskView, workloadView } from "./views.ts";

/** Of what is open all counts; beyond so many it is only counted. */
const MAX_OPEN_TASKS = 500;
const MAX_ENDED_TASKS = 50;
const MAX_WORKLOADS = 200;
/** Of one task or workload, the newest. */
const MAX_RUNS = 12;

export function overview(state: WorkState, serviceHost: string): WorkOverview {
  const workloads = [...state.workloads.values()].filter((one) => !one.deleted || one.slots.some(isLive));
  const open = [...state.openTasks.values()].map((id) => state.tasks.get(id) as Task);
  return {
    counts: {
      workloads: workloads.length,
      open_tasks: open.length,
      tasks: state.tasks.size,
      runs: openRunsOf(state).filter(({ phase }) => phase !== "ended").length,
    },
    workloads: workloads.slice(-MAX_WORKLOADS).map((one) => workloadLine(state, one, serviceHost)),
    tasks: [...open.slice(0, MAX_OPEN_TASKS), ...lastEnded(state)].map((one) => taskLine(state, one)),
  };
}

function isLive({ live }: Workload["slots"][number]): boolean {
  return live !== null;
}

/** Newest first: by when they ended, not by when they were sent. */
function lastEnded(state: WorkState): Task[] {
  return [...state.tasks.values()]
    .filter(isOver)
    .sort((a, b) => (b.finishedAt ?? 0) - (a.finishedAt ?? 0) || (a.id < b.id ? -1 : 1))
    .slice(0, MAX_ENDED_TASKS);
}

function taskLine(state: WorkState, task: Task): TaskLine {
  const { raw_yaml: _, parsed: __, warnings: ___, attempts: ____, ...line } = taskView(state, task, false);
  return {
    ...line,
    gpus: task.spec.resources.gpu?.count ?? 0,
    cancelling: task.cancelling,
    runs: linesOf(state, task.id),
  };
}

function workloadLine(state: WorkState, workload: Workload, serviceHost: string): WorkloadLine {
  const line = workloadView(state, workload, serviceHost, false);
  return { ...line, deleted: workload.deleted, runs: linesOf(state, workload.uid) };
}

/** Newest first. */
function linesOf(state: WorkState, uid: string) {
  const runs = runsOf(state, uid);
  return runs.slice(-MAX_RUNS).reverse().map(runLine);
}

function runLine(run: Run): RunLine {
  return { ...attemptView(run), state: run.phase, exit_code: run.phase === "ended" ? run.exitCode : null };
}
