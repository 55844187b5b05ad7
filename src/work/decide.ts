/** A command in, events out. */
import type { EpochMs } from "../core/base/time.ts";
import { adoptRuns } from "./adopt.ts";
import type { WorkCommand } from "./commands.ts";
import { Draft } from "./draft.ts";
import { WorkError } from "./errors.ts";
import type { WorkEvent } from "./events.ts";
import { nodeLeaves, nodesSilent, recallRun, runDeclined, runDelivered, settleOrigin } from "./nodes.ts";
import { gpuFailed, gpusEmpty, gpusNotEmpty, leaseOver, leaseSeen, passTime, stopRun } from "./runs.ts";
import type { WorkState } from "./state.ts";
import { advanceTasks, cancelTask, failTask, removeEndedTasks, submitTask } from "./tasks.ts";
import { handOut, removeStaleWorkers, removeWorker, workerReports } from "./workers.ts";
import {
  advanceWorkloads,
  changeWorkload,
  deleteWorkload,
  removeEndedRuns,
  restartWorkload,
  submitWorkload,
} from "./workloads.ts";

export interface WorkDecision {
  readonly events: readonly WorkEvent[];
  readonly state: WorkState;
}

/**
 * Answers one command: what happened, and the books that follow.
 *
 * Pure. What is due by `now` happens with every command, so that no timer must be trusted.
 *
 * @throws WorkError when the command is refused; nothing has changed then.
 */
export function decide(state: WorkState, command: WorkCommand, now: EpochMs): WorkDecision {
  const draft = new Draft(state, now);
  accept(draft, command);
  passTime(draft);
  advanceTasks(draft);
  advanceWorkloads(draft);
  return { events: draft.events, state: draft.state };
}

function accept(draft: Draft, command: WorkCommand): void {
  switch (command.type) {
    case "submit-task":
      submitTask(draft, command.task, command.maxTasks);
      return;
    case "cancel-task":
      cancelTask(draft, command.id);
      return;
    case "fail-task":
      failTask(draft, command.id, command.reason);
      return;
    case "submit-workload":
      submitWorkload(draft, command.workload, command.maxWorkloads);
      return;
    case "change-workload":
      changeWorkload(draft, command);
      return;
    case "restart-workload":
      restartWorkload(draft, command.id);
      return;
    case "delete-workload":
      deleteWorkload(draft, command.id);
      return;
    case "stop-run": {
      const run = draft.state.runs.get(command.id);
      if (run === undefined) throw new WorkError("run-not-found", `there is no run ${JSON.stringify(command.id)}`);
      if (run.phase === "ended") throw new WorkError("run-ended", `run ${command.id} has ended`);
      stopRun(draft, run, "cancelled", "stopped by request");
      return;
    }
    case "adopt-runs":
      adoptRuns(draft, command);
      return;
    case "lease-seen":
      leaseSeen(draft, command);
      return;
    case "lease-over":
      leaseOver(draft, command.allocationId, command.endReason);
      return;
    case "gpu-failed":
      gpuFailed(draft, command.allocationId, command.detail);
      return;
    case "gpus-empty":
      gpusEmpty(draft, command.run);
      return;
    case "gpus-not-empty":
      gpusNotEmpty(draft, command.run, command.detail);
      return;
    case "worker-reports":
      workerReports(draft, command);
      return;
    case "hand-out":
      handOut(draft, command);
      return;
    case "run-declined":
      runDeclined(draft, command);
      return;
    case "recall-run":
      recallRun(draft, command.run);
      return;
    case "run-delivered":
      runDelivered(draft, command.run);
      return;
    case "nodes-silent":
      nodesSilent(draft, new Set(command.nodes));
      return;
    case "node-leaves":
      nodeLeaves(draft, command);
      return;
    case "settle-origin":
      settleOrigin(draft, command.id);
      return;
    case "remove-worker":
      removeWorker(draft, command.node);
      return;
    case "remove-stale-workers":
      removeStaleWorkers(draft, command.staleMs);
      return;
    case "remove-ended-tasks":
      removeEndedTasks(draft, command.before, command.keep);
      return;
    case "remove-ended-runs":
      removeEndedRuns(draft, command.before, command.keep);
      return;
    case "tidy":
      removeStaleWorkers(draft, command.staleMs);
      removeEndedTasks(draft, command.before, command.keep);
      return;
    case "tick":
      return;
    default:
      command satisfies never;
  }
}
