import type { Known } from "../analyzer/known.ts";
import type { EpochMs } from "../base/time.ts";
import type { EndedUse } from "../host/accounts.ts";
import type { BoundProcess, Sharing } from "../model/allocation.ts";
import type { Actor, AllocationId } from "../model/ids.ts";
import type { Policy } from "../model/policy.ts";
import type { Observation } from "../model/reading.ts";
import type { WorkloadAsk } from "../model/workload.ts";
import type { KernelNews } from "../readings/xid.ts";

/** What the analyzer works on: a workload, which devices will do for it, and what others know of it. */
export interface AnalyzerAsk extends WorkloadAsk {
  readonly gpuModel: string | null;
  readonly migProfile: string | null;
  readonly sharing: Sharing;
  /** Looked up before the ask is decided; absent: nothing is known. */
  readonly known?: Known;
}

/** What `POST /gpu/allocate` asks, checked for form, before the analyzer has seen it. */
export interface AllocateAsk extends AnalyzerAsk {
  readonly serviceName: string;
  readonly webhookUrl: string | null;
  readonly preferredGpus: readonly string[];
  /** Just these, by UUID or index, and no others. Left out: any that fit. */
  readonly exactGpus?: readonly string[];
  /** The TTL as stated; `null` lets `estimated_duration` or the default decide. */
  readonly ttlMs: number | null;
  readonly maxDurationMs: number | null;
  readonly preemptible: boolean;
  /** False: refuse rather than wait. */
  readonly queue: boolean;
  readonly queueTimeoutMs: number | null;
  /** Left out: it is bound to no process. */
  readonly boundTo?: BoundProcess;
}

/** What the lease is to be that an admin makes of somebody's use of a GPU. */
export interface AdoptionAsk {
  readonly serviceName: string;
  /** Whose it is; `null`: the admin's own. */
  readonly principal: string | null;
  readonly reason: string;
  /** One of the processes there; `null`: the only one, or all of them. */
  readonly pid: number | null;
  readonly ttlMs: number | null;
  readonly maxDurationMs: number | null;
}

/** What is to be kept of whom; see Booking. */
export interface BookingAsk {
  /** `null`: the caller's own. */
  readonly principal: string | null;
  readonly serviceName: string | null;
  /** How many, or which by UUID or index. */
  readonly gpus: number | readonly string[];
  /** `null`: from when this is decided on. */
  readonly from: EpochMs | null;
  /** Its end, or how long it lasts. */
  readonly to: EpochMs | { readonly afterMs: number };
}

/** Everything that can happen to the host. The scheduler takes these one by one. */
export type Command =
  | {
      readonly type: "allocate";
      readonly id: AllocationId;
      readonly ask: AllocateAsk;
      readonly actor: Actor;
      /** When it came: its place in the line, whatever was decided before it. Absent: now. */
      readonly arrivedAt?: EpochMs;
    }
  | {
      /** Ends leases and cancels waiting requests: of one id, of one service, or of the id if it is that service's. */
      readonly type: "release";
      readonly id: AllocationId | null;
      readonly serviceName: string | null;
      readonly fencingToken: number | null;
      readonly actor: Actor;
    }
  | {
      readonly type: "renew";
      readonly id: AllocationId;
      readonly fencingToken: number | null;
      readonly actor: Actor;
    }
  | {
      /** Its client moves the end of a lease. `null`: as it is. */
      readonly type: "extend";
      readonly id: AllocationId;
      readonly ttlMs: number | null;
      readonly maxDurationMs: number | null;
      readonly fencingToken: number | null;
      readonly actor: Actor;
    }
  | {
      /** Anybody who may ask for GPUs writes to whoever holds some. */
      readonly type: "nudge";
      readonly id: AllocationId;
      readonly message: string;
      readonly actor: Actor;
    }
  | {
      /** The owner asked for its record, or waits for it: it is alive, and has what it was offered. */
      readonly type: "touch";
      readonly id: AllocationId;
      readonly actor: Actor;
      /** It waits on an open connection: alive for this much longer. 0 when it only asked. */
      readonly waitMs: number;
    }
  /** The process that it is bound to, and all that came from it, have ended. */
  | { readonly type: "process-gone"; readonly id: AllocationId }
  /** The connection closed before the answer that grants it was written: the client may not know of its lease. */
  | { readonly type: "hang-up"; readonly id: AllocationId }
  /** A webhook about this allocation's grant was answered with 2xx. */
  | { readonly type: "claim"; readonly id: AllocationId }
  | {
      /** An admin's word about one GPU, named by UUID or index. */
      readonly type: "cordon" | "uncordon" | "clear-quarantine" | "remove-gpu";
      readonly gpu: string;
      readonly reason: string;
      readonly actor: Actor;
    }
  | {
      /** An admin wants a GPU empty, or all of the host, those that are yet to come included. */
      readonly type: "drain";
      /** By UUID or index; `null`: the host. */
      readonly gpu: string | null;
      /** How long the leases there may stay; `null`: until they end by themselves, or {@link until}. */
      readonly leaveMs: number | null;
      /** An instant by which they must have left, where one was told rather than a time. */
      readonly until?: EpochMs;
      readonly reason: string;
      readonly actor: Actor;
    }
  /** The host gets new leases again; a GPU's own cordon stays. */
  | { readonly type: "undrain"; readonly reason: string; readonly actor: Actor }
  /** An admin makes a lease of somebody's use of a GPU. */
  | {
      readonly type: "adopt";
      readonly id: AllocationId;
      readonly gpu: string;
      readonly adoption: AdoptionAsk;
      readonly actor: Actor;
    }
  /** An admin ends somebody's lease, or cancels a waiting request. */
  | { readonly type: "revoke"; readonly id: AllocationId; readonly reason: string; readonly actor: Actor }
  /** GPUs are to be kept for a principal from a time for a while. */
  | { readonly type: "book"; readonly id: string; readonly ask: BookingAsk; readonly actor: Actor }
  | { readonly type: "cancel-booking"; readonly id: string; readonly actor: Actor }
  | { readonly type: "observe"; readonly observation: Observation }
  | { readonly type: "read-kernel-log"; readonly news: KernelNews }
  /** A deadline may be due. */
  | { readonly type: "tick" }
  /** The daemon begins to serve: after a start, with the boot it runs in and the wall clock as a floor for tokens. */
  | { readonly type: "resume"; readonly bootId: string; readonly fencingFloor: number }
  | { readonly type: "reconfigure"; readonly policy: Policy }
  /** What ended leases have used is about to be read from the archive; those that end from here on are added to it. */
  | { readonly type: "recount" }
  /** What it was by then. */
  | ({ readonly type: "counted"; readonly round: number } & EndedUse);
