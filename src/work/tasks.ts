/** Tasks: from their submission to their result. */
import { compareText } from "../core/base/order.ts";
import type { Draft } from "./draft.ts";
import { WorkError } from "./errors.ts";
import type { Run, Slot, Task, Workload } from "./model.ts";
import { createRun, failSlot, stopRun } from "./runs.ts";
import { isOver, openTasksOf, readyRun, serviceFor } from "./state.ts";

/** @throws WorkError `work-full`, or `document-invalid` when it depends on what is not the submitter's. */
export function submitTask(draft: Draft, task: Task, maxTasks: number): void {
  const { state } = draft;
  if (state.openTasks.size >= maxTasks) {
    throw new WorkError("work-full", `${state.openTasks.size} tasks are open, as many as work.max_tasks allows`);
  }
  for (const id of task.dependsOn) {
    const other = state.tasks.get(id);
    // A task can only name those that were there before it: there are no circles but one to itself.
    if (other === undefined || other.owner !== task.owner || id === task.id) {
      const errors = [{ path: "spec.depends_on", message: `${JSON.stringify(id)} is no task of yours` }];
      throw new WorkError("document-invalid", `spec.depends_on: ${JSON.stringify(id)} is no task of yours`, errors);
    }
  }
  if (task.spec.service !== undefined && task.origin === undefined && serviceFor(state, task) === undefined) {
    const message = `${JSON.stringify(task.spec.service)} is no workload of yours`;
    throw new WorkError("document-invalid", `spec.model.service: ${message}`, [
      { path: "spec.model.service", message },
    ]);
  }
  draft.write({ type: "task-submitted", task });
}

function openTask({ state }: Draft, id: string): Task {
  const task = state.tasks.get(id);
  if (task === undefined) throw new WorkError("task-not-found", "task not found");
  if (isOver(task)) throw new WorkError("task-ended", `task ${id} is ${task.status}`);
  return task;
}

/** @throws WorkError `task-not-found`, `task-ended` */
export function cancelTask(draft: Draft, id: string): void {
  const task = openTask(draft, id);
  if (!task.cancelling) draft.write({ type: "task-cancelling", id });
}

/** What it needs can never be had, or not now and it did not want to wait. */
export function failTask(draft: Draft, id: string, reason: string): void {
  for (const { live } of openTask(draft, id).slots) {
    const run = live === null ? undefined : draft.state.runs.get(live);
    if (run?.phase === "waiting") {
      failSlot(draft, run, reason);
      return;
    }
  }
}

export function removeEndedTasks(draft: Draft, before: number, keep: number): void {
  const { state } = draft;
  const ended = state.tasks.size - state.openTasks.size;
  if (ended === 0) return;
  let surplus = ended - keep;
  const needed = new Set(openTasksOf(state).flatMap(({ dependsOn }) => dependsOn));
  for (const task of [...state.tasks.values()]) {
    // Of what its controller does not know yet, nothing is forgotten: it would send it again, and it would start again.
    if (!isOver(task) || needed.has(task.id) || task.origin?.settled === false) continue;
    if (surplus <= 0 && (task.finishedAt ?? draft.now) >= before) continue;
    draft.write({ type: "task-removed", id: task.id });
    surplus--;
  }
}

/** Brings every open task to where it stands now: those that move by themselves, and those of whose runs there is news. */
export function advanceTasks(draft: Draft): void {
  for (const id of dueTasks(draft)) {
    advanceTask(draft, id);
    const task = draft.state.tasks.get(id) as Task;
    if (isOver(task)) continue;
    const status = task.slots.some((slot) => isDispatched(draft, slot)) ? "DISPATCHED" : "PENDING";
    if (status !== task.status) draft.write({ type: "task-status", id, status, at: draft.now });
  }
}

/** In the order of their ids. */
function dueTasks({ state, events }: Draft): string[] {
  const due = new Set(state.movingTasks.values());
  const moving = due.size;
  for (const event of events) {
    const job = "run" in event ? state.runs.get(event.run)?.job : undefined;
    if (job?.kind === "task" && state.openTasks.get(job.uid) !== undefined) due.add(job.uid);
  }
  return due.size === moving ? [...due] : [...due].sort(compareText);
}

function advanceTask(draft: Draft, id: string): void {
  const task = draft.state.tasks.get(id) as Task;
  if (task.cancelling) {
    stopAll(draft, task, "CANCELLED", "the task was cancelled", null);
    return;
  }
  if (task.restored === true) {
    stopAll(draft, task, "FAILED", "its books were restored from a backup", "outcome-unknown");
    return;
  }
  const dependencies = task.dependsOn.map((other) => draft.state.tasks.get(other));
  if (dependencies.some((other) => other === undefined || other.status === "FAILED" || other.status === "CANCELLED")) {
    stopAll(draft, task, "FAILED", "dependency-failed", "dependency-failed");
    return;
  }
  if (!dependencies.every((other) => other?.status === "DONE")) return;
  const service = serviceFor(draft.state, task);
  if (task.spec.service !== undefined && task.origin === undefined && service === undefined) {
    stopAll(draft, task, "FAILED", "its service is gone", "service-gone");
    return;
  }
  const failed = task.slots.find(({ outcome }) => outcome?.kind === "failed");
  if (failed?.outcome !== undefined && failed.outcome !== null) {
    stopAll(draft, task, "FAILED", "another replica failed", failed.outcome.reason);
    return;
  }
  if (!hasService(draft, task, service)) return;
  for (const slot of task.slots) {
    const isDue = slot.nextAt === null || slot.nextAt <= draft.now;
    if (slot.live === null && slot.outcome === null && isDue) createRun(draft, task, { kind: "task", uid: id }, slot);
  }
  if (task.slots.every(({ outcome, live }) => outcome?.kind === "done" && live === null)) {
    draft.write({ type: "task-ended", id, status: "DONE", error: null, at: draft.now });
  }
}

/** Whether what it needs of a service is there; it waits until one is ready, and fails when there is none any more. */
function hasService({ state }: Draft, task: Task, service: Workload | undefined): boolean {
  // Of one that a controller has given, the controller has seen to it.
  if (task.spec.service === undefined || task.origin !== undefined) return true;
  if (task.slots.every(({ live, outcome }) => live !== null || outcome !== null)) return true;
  return service !== undefined && readyRun(state, service) !== null;
}

/** Stops what is left of a task, and ends it when nothing is. */
function stopAll(draft: Draft, task: Task, status: "FAILED" | "CANCELLED", detail: string, error: string | null): void {
  for (const run of liveRuns(draft, task)) stopRun(draft, run, "cancelled", detail);
  const { slots } = draft.state.tasks.get(task.id) as Task;
  if (slots.some(({ live }) => live !== null)) return;
  draft.write({ type: "task-ended", id: task.id, status, error, at: draft.now });
}

function liveRuns({ state }: Draft, task: Task): Run[] {
  return task.slots.flatMap(({ live }) => (live === null ? [] : [state.runs.get(live) as Run]));
}

function isDispatched({ state }: Draft, { live, outcome }: Slot): boolean {
  if (live === null) return outcome?.kind === "done";
  return state.runs.get(live)?.phase !== "waiting";
}
