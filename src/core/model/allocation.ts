/**
 * The words of the domain: start here, then read decisions/decide.ts. Everything in this folder is a value: nothing reads
 * a clock, an id source or a device.
 *
 * A *request* is what is asked; an *allocation* is one request's life; a *placement* is chosen GPUs and reserves
 * nothing; a *lease* is a placement held until a time. A GPU is named by its UUID, never by its index.
 */
import type { JsonObject } from "../base/json.ts";
import type { EpochMs } from "../base/time.ts";
import type { GpuLocality, MigIdentity } from "./device.ts";
import type { AllocationId, GpuUuid } from "./ids.ts";
import type { UsedGpu } from "./use.ts";
import type { Requirement, WorkloadType } from "./workload.ts";

/** A GPU for one lease alone, or a part of its memory beside others. */
export const SHARINGS = ["exclusive", "shared"] as const;

export type Sharing = (typeof SHARINGS)[number];

/** One request as it was accepted. Never changes afterwards, but for how long its lease lasts, which its client may move. */
export interface Request {
  readonly id: AllocationId;
  readonly serviceName: string;
  /** Who owns it: the principal, not the key it used. */
  readonly principal: string;
  readonly workloadType: WorkloadType;
  readonly workloadData: JsonObject;
  readonly webhookUrl: string | null;
  readonly requirement: Requirement;
  /** UUIDs or indices that are taken first when they fit. A wish, not a condition. */
  readonly preferredGpus: readonly string[];
  /** Just these, and it waits for them. Left out of all requests that name none. */
  readonly exactGpus?: readonly GpuUuid[];
  /** Case-insensitive substring of the GPU's product name; `null` means any. */
  readonly gpuModel: string | null;
  /** `null`: no end by itself. */
  readonly ttlMs: number | null;
  /** A hard end, whatever is renewed. */
  readonly maxDurationMs: number | null;
  readonly preemptible: boolean;
  readonly queueTimeoutMs: number | null;
  /** Only MIG instances that were cut so, in any case; `null`: one device may be an instance, several are whole GPUs. */
  readonly migProfile: string | null;
  readonly sharing: Sharing;
  /** It is put off by so much in the line, since its principal has used much lately; 0: it is not. */
  readonly fairShareDelayMs: number;
  /** Nobody asked: an admin made a lease of somebody's use of a GPU. Left out of all other requests. */
  readonly adoption?: Adoption;
  /** It ends with this process and all that come from it. Left out of all requests that are bound to none. */
  readonly boundTo?: BoundProcess;
  readonly submittedAt: EpochMs;
}

/** A process of this host and boot. */
export interface BoundProcess {
  readonly pid: number;
  /** When it began, in the kernel's ticks since the boot: numbers are given again. */
  readonly startTicks: number;
}

export interface Adoption {
  /** The admin's principal. */
  readonly by: string;
  readonly reason: string;
}

/** A GPU as it stood when it was leased: what the client is told stays what it was told. */
export interface LeasedGpu extends GpuLocality {
  readonly index: number;
  readonly name: string;
  readonly pciBusId: string | null;
  readonly memoryTotalMib: number | null;
  /** `null`: a whole GPU. */
  readonly mig: MigIdentity | null;
  /** MiB in use before the grant: the level to which the GPU must return. */
  readonly baselineMib: number;
}

export interface Lease {
  readonly gpus: readonly LeasedGpu[];
  /** One host-wide integer per lease that only grows, over restarts too. */
  readonly fencingToken: number;
  readonly grantedAt: EpochMs;
  /** When it ends unless renewed; the earlier of TTL and hard end. `null`: no end. */
  readonly expiresAt: EpochMs | null;
  /** MiB that it has reserved on each of its GPUs, beside other leases; `null`: it has them alone. */
  readonly sharedMib: number | null;
  /** The last that somebody asked of its holder. Left out of all leases of which nobody has asked anything. */
  readonly nudge?: Nudge;
}

/** A message to whoever holds a lease. It changes nothing else. */
export interface Nudge {
  readonly at: EpochMs;
  /** The principal who sent it. */
  readonly by: string;
  /** Anybody's text. */
  readonly message: string;
}

export const END_REASONS = [
  "released",
  "cancelled",
  "expired",
  "max_duration",
  "timed_out",
  "abandoned",
  "unclaimed",
  "revoked",
  "preempted",
  "rebooted",
  "idle",
  "process-gone",
] as const;

export type EndReason = (typeof END_REASONS)[number];

export interface Outcome {
  readonly reason: EndReason;
  readonly at: EpochMs;
  /** Why, when a person or the daemon gave a reason. */
  readonly detail: string | null;
}

/** A lease is to be taken back: its client has been told at `at`, and may leave by itself until `until`. */
export type Notice =
  | {
      readonly kind: "preempt";
      readonly at: EpochMs;
      readonly until: EpochMs;
      /** The request that gets its GPUs. */
      readonly for: AllocationId;
    }
  | {
      readonly kind: "drain";
      readonly at: EpochMs;
      readonly until: EpochMs;
      /** Why, and who drains. */
      readonly reason: string;
    };

export interface QueuedAllocation {
  readonly status: "queued";
  readonly request: Request;
  /** Since when leases have been preempted for it; `null`: they are not. */
  readonly preemptingSince: EpochMs | null;
  /**
   * Since when it has been the head of the line without a certain start, or was first passed by a wider one; `null`:
   * neither. Stays what it was.
   */
  readonly headSince: EpochMs | null;
  /** Its client last asked for it then, or waits for it until then. Not durable: a restart counts as asking. */
  readonly seenAt: EpochMs;
}

export interface OfferedAllocation {
  readonly status: "offered";
  readonly request: Request;
  readonly lease: Lease;
  /** Unclaimed at this instant, it ends and the next in line is served. */
  readonly claimBy: EpochMs;
  /** `null`: it is not to be taken back. */
  readonly notice: Notice | null;
}

export interface LeasedAllocation {
  readonly status: "leased";
  readonly request: Request;
  readonly lease: Lease;
  /** It has no TTL, and none of its GPUs has been in use since then; `null`: not flagged as idle. */
  readonly idleSince: EpochMs | null;
  /** `null`: it is not to be taken back. */
  readonly notice: Notice | null;
}

export interface EndedAllocation {
  readonly status: "ended";
  readonly request: Request;
  /** What was held, if anything was. */
  readonly lease: Lease | null;
  /** Those of its GPUs on which use was seen. */
  readonly used: readonly UsedGpu[];
  readonly outcome: Outcome;
}

export type HoldingAllocation = OfferedAllocation | LeasedAllocation;

export type LiveAllocation = QueuedAllocation | HoldingAllocation;

export type Allocation = LiveAllocation | EndedAllocation;
