/** What can happen to work. Each event says what has become; `evolve` puts it into the books. */
import type { EpochMs } from "../core/base/time.ts";
import type {
  EndReason,
  HeldLease,
  JobRef,
  RunCage,
  RunFence,
  RunId,
  Slot,
  Task,
  TaskStatus,
  Waiting,
  Worker,
  Workload,
} from "./model.ts";

export type SlotAfter = Omit<Slot, "replica" | "tries" | "live">;

export type WorkEvent =
  | { readonly type: "task-submitted"; readonly task: Task }
  | { readonly type: "task-cancelling"; readonly id: string }
  | {
      readonly type: "task-status";
      readonly id: string;
      readonly status: "PENDING" | "DISPATCHED";
      readonly at: EpochMs;
    }
  | {
      readonly type: "task-ended";
      readonly id: string;
      readonly status: Exclude<TaskStatus, "PENDING" | "DISPATCHED">;
      readonly error: string | null;
      readonly at: EpochMs;
    }
  | { readonly type: "origin-settled"; readonly id: string }
  | { readonly type: "task-removed"; readonly id: string }
  | { readonly type: "workload-created"; readonly workload: Workload }
  | {
      readonly type: "workload-changed";
      readonly uid: string;
      readonly replicas: number;
      readonly labels: Readonly<Record<string, string>>;
      readonly at: EpochMs;
    }
  | { readonly type: "workload-restarting"; readonly uid: string; readonly at: EpochMs }
  | { readonly type: "workload-deleted"; readonly uid: string; readonly at: EpochMs }
  | { readonly type: "workload-removed"; readonly uid: string }
  | {
      readonly type: "run-created";
      readonly run: RunId;
      readonly job: JobRef;
      readonly owner: string;
      readonly replica: number;
      readonly epoch: number;
      readonly generation: number;
      readonly at: EpochMs;
    }
  /** One that lives, and of which these books knew nothing. */
  | {
      readonly type: "run-adopted";
      readonly run: RunId;
      readonly job: JobRef;
      readonly owner: string;
      readonly replica: number;
      readonly epoch: number;
      readonly generation: number;
      readonly node: string;
      readonly lease: HeldLease | null;
      readonly startedAt: EpochMs | null;
      readonly port: number | null;
      readonly at: EpochMs;
    }
  | { readonly type: "run-waits"; readonly run: RunId; readonly waiting: Waiting; readonly askAt: EpochMs }
  | {
      readonly type: "lease-queued";
      readonly run: RunId;
      readonly allocationId: string;
      readonly waiting: Waiting;
    }
  /** The record under the last key has ended without a lease: the next is asked for under a new one. */
  | { readonly type: "lease-missed"; readonly run: RunId; readonly askAt: EpochMs; readonly waiting: Waiting }
  | { readonly type: "run-assigned"; readonly run: RunId; readonly node: string; readonly lease: HeldLease | null }
  | { readonly type: "gpus-emptied"; readonly run: string }
  | {
      readonly type: "run-handed-out";
      readonly run: RunId;
      readonly at: EpochMs;
      readonly fence?: RunFence | null;
    }
  /** Its node was asked to give it back, so that another may start it now. */
  | { readonly type: "run-recalled"; readonly run: RunId }
  | {
      readonly type: "run-seen";
      readonly run: RunId;
      readonly phase: "starting" | "running" | "ready" | "unready" | "stopping";
      readonly startedAt: EpochMs | null;
      readonly port: number | null;
      readonly lease?: HeldLease | null;
      readonly waiting?: Waiting | null;
      readonly cage?: RunCage;
      readonly at: EpochMs;
    }
  | {
      readonly type: "run-stopping";
      readonly run: RunId;
      readonly why: EndReason;
      readonly detail: string;
      readonly at: EpochMs;
    }
  | {
      readonly type: "run-ended";
      readonly run: RunId;
      readonly reason: EndReason;
      readonly detail: string;
      readonly exitCode: number | null;
      readonly signal: string | null;
      readonly publish: boolean;
      /** The lease goes on in its slot. */
      readonly keepsLease: boolean;
      readonly tail: readonly string[];
      readonly at: EpochMs;
    }
  | { readonly type: "run-published"; readonly run: RunId }
  | { readonly type: "run-removed"; readonly run: RunId }
  | { readonly type: "kept-lease-gone"; readonly job: JobRef; readonly replica: number }
  | { readonly type: "slot-after"; readonly job: JobRef; readonly replica: number; readonly slot: SlotAfter }
  | { readonly type: "worker-seen"; readonly worker: Worker }
  | { readonly type: "worker-removed"; readonly node: string };
