/** What is asked of the books, and what is told to them. */

import type { Assignment, HeldLease, RunSeen, Task, Waiting, WorkerFacts, Workload } from "./model.ts";

/** How the lease of a waiting run stands. */
export type LeaseSeen =
  | { readonly status: "queued"; readonly allocationId: string; readonly waiting: Waiting }
  | { readonly status: "held"; readonly lease: HeldLease }
  /** Its record has ended without a lease. */
  | { readonly status: "missed"; readonly reason: string }
  /** Nothing was asked; it may be asked again in `retryMs`. */
  | { readonly status: "refused"; readonly reason: string; readonly retryMs: number }
  /** No host of ours could ever hold it. */
  | { readonly status: "never"; readonly reason: string };

export type WorkCommand =
  | { readonly type: "submit-task"; readonly task: Task; readonly maxTasks: number }
  | { readonly type: "cancel-task"; readonly id: string }
  | { readonly type: "fail-task"; readonly id: string; readonly reason: string }
  | { readonly type: "submit-workload"; readonly workload: Workload; readonly maxWorkloads: number }
  | {
      readonly type: "change-workload";
      readonly id: string;
      readonly replicas: number | null;
      readonly labels: Readonly<Record<string, string>> | null;
    }
  | { readonly type: "restart-workload"; readonly id: string }
  | { readonly type: "delete-workload"; readonly id: string }
  | { readonly type: "stop-run"; readonly id: string }
  /** Of one job whose books are lost. `uid`: its key in these, if it is a workload. */
  | {
      readonly type: "adopt-runs";
      readonly node: string;
      readonly uid: string;
      readonly runs: readonly {
        readonly assignment: Assignment;
        readonly startedAt: number | null;
        readonly port: number | null;
      }[];
    }
  | { readonly type: "lease-seen"; readonly run: string; readonly attempt: number; readonly seen: LeaseSeen }
  /** A lease that a run or a slot has is over. */
  | { readonly type: "lease-over"; readonly allocationId: string; readonly endReason: string }
  /** What it goes on without: GPUs of a lease that can do no work any more. */
  | { readonly type: "gpu-failed"; readonly allocationId: string; readonly detail: string }
  /** Nothing of the run before it is left on the GPUs of its lease. */
  | { readonly type: "gpus-empty"; readonly run: string }
  /** Something is, for as long as that may take. */
  | { readonly type: "gpus-not-empty"; readonly run: string; readonly detail: string }
  /** Without `runs` it says nothing of them. `isUnanswered`: it has not looked again since it was first obeyed. */
  | {
      readonly type: "worker-reports";
      readonly worker: WorkerFacts;
      readonly runs: readonly RunSeen[] | null;
      readonly isUnanswered?: boolean;
    }
  /** What this node is to have is about to be told to it. `alive`: what lives there unwanted. */
  | {
      readonly type: "hand-out";
      readonly node: string;
      readonly instance: number;
      readonly alive?: readonly Pick<RunSeen, "run" | "allocationId">[];
    }
  /** A node would not have a run that was proposed to it. */
  | { readonly type: "run-declined"; readonly run: string; readonly why: string; readonly forGood: boolean }
  /** A node is about to be asked to give back what it has not begun: another could start it now. */
  | { readonly type: "recall-run"; readonly run: string }
  /** What a run elsewhere has written is in its task's place. */
  | { readonly type: "run-delivered"; readonly run: string }
  /** Their assignments have run out without a word of them. */
  | { readonly type: "nodes-silent"; readonly nodes: readonly string[] }
  /** A node stops in order; `runs` is all that it has, and it takes nothing more that it was told until now. */
  | {
      readonly type: "node-leaves";
      readonly node: string;
      readonly instance: number;
      readonly seq: number;
      readonly runs: readonly RunSeen[];
    }
  | { readonly type: "settle-origin"; readonly id: string }
  | { readonly type: "remove-worker"; readonly node: string }
  | { readonly type: "remove-stale-workers"; readonly staleMs: number }
  | { readonly type: "remove-ended-tasks"; readonly before: number; readonly keep: number }
  /** Of services: of each the newest stay, and of those that are gone the ones since then. */
  | { readonly type: "remove-ended-runs"; readonly before: number; readonly keep: number }
  /** Stale workers and ended tasks, and whatever is due. */
  | {
      readonly type: "tidy";
      readonly staleMs: number;
      readonly before: number;
      readonly keep: number;
    }
  | { readonly type: "tick" };
