/**
 * The words of running work. A workload is a service whose replicas are wanted until it is deleted; a task is work that
 * ends with a result; a run is one try of a replica of either: one lease, one process tree or container.
 *
 * Records are values: they are stored as JSON, so they hold nothing but what JSON has.
 */
import type { JsonObject } from "../core/base/json.ts";
import type { EpochMs } from "../core/base/time.ts";

export type RunId = string;

export interface GpuNeed {
  readonly count: number;
  /** Parts of the product's name, each of which must occur in it; empty: any GPU. */
  readonly nameParts: readonly string[];
  /** Per GPU; `null`: as the analyzer finds for the model. */
  readonly memoryMib: number | null;
}

export interface Resources {
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  /** `null`: no GPU, and so no lease. */
  readonly gpu: GpuNeed | null;
}

export const STOP_SIGNALS = ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"] as const;
export interface StopRule {
  readonly signal: (typeof STOP_SIGNALS)[number];
  readonly graceMs: number;
  /** Whom the signal goes to: the main process, or all of its processes. */
  readonly to: "main" | "group";
}

/** How often a task is tried again. Without it a task starts at most once. */
export interface RetryRule {
  /** For failures of its own. */
  readonly max: number;
  /** For those of the infrastructure: see `INFRASTRUCTURE`. */
  readonly lost: number;
  /** Only these exit codes are tried again; `null`: all but those of `neverOn`. */
  readonly on: readonly number[] | null;
  readonly neverOn: readonly number[];
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
}

export interface RestartRule {
  readonly policy: "always" | "on-failure" | "never";
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  /** So many failures in a row without having been ready, and the replica is given up. */
  readonly giveUpAfter: number;
}

export interface Readiness {
  readonly http: string;
  readonly intervalMs: number;
}

export interface Liveness {
  /** One token is asked for while nothing else runs: an engine whose HTTP answers may still be stuck. */
  readonly completion: boolean;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly failures: number;
}

/** What is started: what a worker needs to know of a task or workload, for each of its runs. */
export interface WorkSpec {
  readonly executor: string;
  readonly taskType: string;
  /** A model's name or path as the engine takes it; `null`: none is named. */
  readonly identifier: string | null;
  readonly command: readonly string[] | null;
  readonly image: string | null;
  readonly env: Readonly<Record<string, string>>;
  readonly secrets: readonly string[];
  readonly resources: Resources;
  readonly stop: StopRule;
  /** Until it must be ready (a service) or running (a task). */
  readonly startTimeoutMs: number;
  /** Of one run; `null`: as long as it takes. */
  readonly timeoutMs: number | null;
  /** Of the lease, whatever runs; `null`: no hard end. */
  readonly maxDurationMs: number | null;
  readonly priority: number | null;
  readonly tags: readonly string[];
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly readiness: Readiness | null;
  readonly liveness: Liveness | null;
  /** A workload of the submitter's that answers its prompts, by id or name; left out: it starts an engine of its own. */
  readonly service?: string;
  /** The document as it was sent: what a program finds in its TASK_FILE. */
  readonly document: JsonObject;
}

/** A lease as its run knows it. */
export interface HeldLease {
  readonly allocationId: string;
  readonly gpuUuids: readonly string[];
  readonly gpuIndices: readonly number[];
  readonly env: Readonly<Record<string, string>>;
  readonly fencingToken: number;
  /** Leased by the daemon of another node, which looks after it. */
  readonly elsewhere?: true;
  /** When its last run ended, of which something may be left on the GPUs; left out: nothing is. */
  readonly leftAt?: EpochMs;
}

/** Why a run has not got its lease yet. */
export interface Waiting {
  readonly reason: string;
  readonly position: number | null;
  readonly etaLatest: EpochMs | null;
}

export const END_REASONS = [
  "exited",
  "failed",
  "oom",
  "timeout",
  "start-timeout",
  "unhealthy",
  "cancelled",
  "lease-ended",
  "preempted",
  "executor-failed",
  "gpu-failed",
  "gpu-not-clean",
  "lost",
  "rebooted",
  /** It was handed to somebody who tells nothing: it may have run. */
  "outcome-unknown",
] as const;
export type EndReason = (typeof END_REASONS)[number];

/** The infrastructure's fault, which `retry.lost` is for. */
export const INFRASTRUCTURE: ReadonlySet<EndReason> = new Set(["lost", "rebooted", "preempted", "gpu-failed"]);

export interface JobRef {
  readonly kind: "task" | "workload";
  /** The key in the books: of a workload not the name it is called by, which may come again. */
  readonly uid: string;
}

interface RunBase {
  readonly id: RunId;
  readonly job: JobRef;
  readonly owner: string;
  readonly replica: number;
  /** Grows with every run of the books: what bears a lower one than the newest of its replica is over. */
  readonly epoch: number;
  /** Of a workload: which restart it belongs to. */
  readonly generation: number;
  readonly createdAt: EpochMs;
}

/** A run on a node, from the moment the node has been told of it. */
interface OnNode {
  readonly lease: HeldLease | null;
  readonly node: string;
  readonly handedOutAt: EpochMs;
  /** The worker has said that it has the run: if it no longer knows it, the run is lost. */
  readonly known: boolean;
  readonly startedAt: EpochMs | null;
  readonly readyAt: EpochMs | null;
  readonly port: number | null;
  /** Why it has no lease yet, of one that its node's own daemon leases for. */
  readonly waiting?: Waiting | null;
  /** Its node was asked to give it back: that it does is no refusal. */
  readonly recalled?: true;
  /** What its node was told when it was handed out, whatever the settings say later. */
  readonly fence?: RunFence | null;
  /** Left out: its worker has not said yet, or is older. */
  readonly cage?: RunCage;
}

/** What a run cannot leave, and which limits hold for it there. */
export interface RunCage {
  readonly kind: string;
  readonly limits: readonly string[];
}

/** When a run on another node ends by itself, so that it may start elsewhere; `null`: it goes on. */
export interface RunFence {
  /** How old the last answered heartbeat may be. */
  readonly withinMs: number;
  /** How long the node must be silent. */
  readonly ttlMs: number;
}

export type RunStage =
  | {
      readonly phase: "waiting";
      /** Part of the key that its lease is asked for under: a new attempt only when the record before it has ended. */
      readonly attempt: number;
      readonly allocationId: string | null;
      readonly askAt: EpochMs;
      readonly waiting: Waiting | null;
    }
  | { readonly phase: "assigned"; readonly lease: HeldLease | null; readonly node: string }
  | (OnNode & { readonly phase: "starting" | "running" | "ready" | "unready" })
  | (OnNode & { readonly phase: "stopping"; readonly why: EndReason; readonly detail: string; readonly since: EpochMs })
  | {
      readonly phase: "ended";
      /** What it had, or waited for. */
      readonly allocationId: string | null;
      readonly gpuUuids: readonly string[];
      readonly node: string | null;
      readonly startedAt: EpochMs | null;
      readonly endedAt: EpochMs;
      readonly reason: EndReason;
      readonly detail: string;
      readonly exitCode: number | null;
      readonly signal: string | null;
      /** The worker is to put what it wrote into the task's place. */
      readonly publish: "no" | "wanted" | "done";
      /** The last lines that it wrote, of one that failed. */
      readonly tail: readonly string[];
      readonly cage?: RunCage;
      /** Its node was told of it; left out: it was not, or it is of an older version. */
      readonly handedOut?: true;
    };
export type Run = RunBase & RunStage;
export type RunOnNode = RunBase &
  Extract<RunStage, { phase: "starting" | "running" | "ready" | "unready" | "stopping" }>;

/** One replica of a task or workload. */
export interface Slot {
  readonly replica: number;
  /** Runs made so far; the next is numbered one more. */
  readonly tries: number;
  /** The run that has not ended, or whose results are not in place yet. */
  readonly live: RunId | null;
  /** Own failures: of a task all of them, of a service those in a row. */
  readonly failures: number;
  readonly losses: number;
  /** Losses with which its node or its holder died. */
  readonly deaths: number;
  /** Restarts of a service. */
  readonly restarts: number;
  /** Not before: it backs off. */
  readonly nextAt: EpochMs | null;
  /** A lease that stays while it backs off shortly. */
  readonly kept: HeldLease | null;
  readonly outcome: { readonly kind: "done" | "failed"; readonly reason: string } | null;
  readonly tail: readonly string[];
  /** Nodes that would not have its last run, and until when they are not asked again. */
  readonly avoid?: readonly { readonly node: string; readonly until: EpochMs }[];
}

/** Of work that a controller has given to this node: one run of a job of its books, which is tried once here. */
export interface Origin {
  /** The name of its books. */
  readonly controller: string;
  readonly run: RunId;
  readonly epoch: number;
  readonly kind: "task" | "service";
  readonly job: string;
  readonly replica: number;
  readonly replicas: number;
  /** Without an answered heartbeat for so long it ends, since it may start elsewhere then; `null`: it goes on. */
  readonly fenceMs: number | null;
  /** On this node, of a task that uses one; left out: none that it uses was ready when it was given. */
  readonly service?: { readonly port: number; readonly model: string };
  /** The controller needs to hear nothing more of it. */
  readonly settled: boolean;
}

export type TaskStatus = "PENDING" | "DISPATCHED" | "DONE" | "FAILED" | "CANCELLED";

export interface Task {
  readonly id: string;
  readonly owner: string;
  readonly name: string;
  readonly rawYaml: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly spec: WorkSpec;
  readonly retry: RetryRule;
  readonly dependsOn: readonly string[];
  readonly webhookUrl: string | null;
  readonly warnings: readonly string[];
  readonly status: TaskStatus;
  readonly slots: readonly Slot[];
  readonly submittedAt: EpochMs;
  readonly startedAt: EpochMs | null;
  readonly finishedAt: EpochMs | null;
  readonly cancelling: boolean;
  readonly error: string | null;
  /** Left out: it was submitted here. */
  readonly origin?: Origin;
  /** Its books come out of a backup: nobody knows what became of it since. */
  readonly restored?: true;
  /** Its books were lost: nobody knows how often it had been tried, or under which names. */
  readonly adopted?: true;
}

export interface Workload {
  readonly uid: string;
  readonly id: string;
  readonly owner: string;
  readonly name: string;
  readonly modelName: string;
  readonly modelType: string;
  readonly labels: Readonly<Record<string, string>>;
  /** As they were asked: what the answers repeat. */
  readonly resources: JsonObject;
  /** `null`: this host has no settings for its model, so nothing can be started. */
  readonly spec: WorkSpec | null;
  readonly restart: RestartRule;
  readonly replicas: number;
  readonly slots: readonly Slot[];
  /** Raised by a restart: runs of an older one are replaced, one after the other. */
  readonly generation: number;
  readonly createdAt: EpochMs;
  readonly updatedAt: EpochMs;
  readonly deleted: boolean;
  readonly message: string | null;
  /** Its uid in books that were lost; left out: it began in these. */
  readonly adoptedFrom?: string;
}

/** What a worker says of itself. */
export interface WorkerFacts {
  readonly node: string;
  /** One process of it: a newer one takes over. */
  readonly instance: number;
  readonly pid: number;
  readonly startedAt: EpochMs;
  readonly bootId: string;
  readonly executors: readonly string[];
  readonly topics: readonly string[];
  readonly tags: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly cage: string;
  /** Cages without a safe end: nothing there is started a second time by itself. */
  readonly endsSurely: boolean;
  /** Its runs may be of its own user, who can read what is kept secret from them; left out: it does not say. */
  readonly sameUser?: boolean;
  readonly hardware: JsonObject;
  /** GPUs that could be leased there at its last report; `null`: nobody can say. */
  readonly freeGpus?: number | null;
  /** Left out: it is a worker of this host. */
  readonly link?: NodeLink;
}

/** How a node is reached that is not this host. */
export interface NodeLink {
  /** A daemon that leases by itself, or one of MLOC's workers, which has no leases and takes one task at a time. */
  readonly kind: "member" | "mloc";
  /** Of its newest report: an older one that comes again says nothing. */
  readonly seq: number;
  readonly gpus: readonly JsonObject[];
  /** Where its API is; `null`: it does not say. */
  readonly url: string | null;
  readonly ttlMs: number;
  readonly intervalMs: number;
  readonly isIdle: boolean;
  /** Its own heartbeat has run out. */
  readonly isStale?: boolean;
  /** A member whose worker has not reported yet can run nothing. */
  readonly hasWorker?: boolean;
  /** It has said that it stops: until it speaks again it is given nothing. */
  readonly hasLeft?: boolean;
}

export interface Worker extends WorkerFacts {
  readonly lastSeen: EpochMs;
}

/** A run as its worker is to have it. */
export interface Assignment {
  readonly run: string;
  readonly kind: "task" | "service";
  readonly job: string;
  readonly owner: string;
  readonly replica: number;
  readonly replicas: number;
  readonly epoch: number;
  readonly spec: WorkSpec;
  readonly lease: HeldLease | null;
  /** Without an answered heartbeat for so long its holder ends it; `null` or left out: it goes on. */
  readonly fenceMs?: number | null;
  /** Of a task that uses one, and its model's name; left out: none that it uses serves on this node now. */
  readonly service?: { readonly port: number; readonly model: string };
  /** By which it can be taken into other books when these are lost; left out: it is for another node. */
  readonly record?: JobRecord;
}

/** What the books say of a run's job beyond what its worker needs. */
export type JobRecord =
  | (Pick<Task, "name" | "labels" | "webhookUrl"> & { readonly kind: "task" })
  | (Omit<Workload, "uid" | "owner" | "spec" | "slots"> & { readonly kind: "workload" });

/** What a worker sees of one run. */
export interface RunSeen {
  readonly run: RunId;
  readonly phase: "starting" | "running" | "ready" | "unready" | "stopping" | "ended";
  readonly startedAt: EpochMs | null;
  readonly port: number | null;
  readonly ended: RunEndSeen | null;
  readonly published: boolean;
  readonly cage?: RunCage;
  /** Which books it is of; left out by a node, and by a worker of an older version: those that it reports to. */
  readonly books?: string;
  /** Of one that its node leases for. */
  readonly lease?: HeldLease | null;
  readonly waiting?: Waiting | null;
  /** The lease that it has: after a restart that bears the mark of the run before it. Left out: none, or nobody can say. */
  readonly allocationId?: string;
  /** Its job, of one whose books are lost; left out: these are its books, or it cannot be taken into these. */
  readonly ofJob?: string;
  /** Of one that an admin has taken into these books: what it is. */
  readonly adopted?: Assignment;
}

/** What a service's run uses, as its worker has measured it over the last seconds; `null`: not known. */
export interface RunUsage {
  readonly at: EpochMs;
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly requestsPerSecond: number | null;
  readonly latencyMs: number | null;
  /** From 0 to 1. */
  readonly errorRate: number | null;
}

export interface RunEndSeen {
  readonly at: EpochMs;
  /** What the worker knows beyond exit code and signal; `null`: these say it. */
  readonly reason: EndReason | null;
  readonly detail: string;
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** What its `responses.json` says; `null`: it wrote none. */
  readonly resultOk: boolean | null;
  readonly tail: readonly string[];
}
