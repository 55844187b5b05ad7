import type { EpochMs } from "../base/time.ts";
import type { Lease, Outcome, Request } from "../model/allocation.ts";
import type { Booking } from "../model/booking.ts";
import type { MigIdentity } from "../model/device.ts";
import type { GpuFault } from "../model/gpu.ts";
import type { AllocationId, GpuUuid } from "../model/ids.ts";

/** What a GPU is, apart from how it feels: the part of a reading that outlives the process. */
export interface GpuIdentity {
  readonly uuid: GpuUuid;
  readonly index: number;
  readonly name: string;
  readonly pciBusId: string | null;
  readonly memoryTotalMib: number | null;
  readonly mig: MigIdentity | null;
}

/**
 * What happened. The journal is a sequence of these; folding them with `evolve` gives the state.
 * Stored as JSON: a field may be added with a default, never renamed.
 */
export type Event =
  | { readonly type: "submitted"; readonly request: Request }
  | {
      readonly type: "granted";
      readonly id: AllocationId;
      readonly lease: Lease;
      /** `null`: leased at once. Otherwise offered until then. */
      readonly claimBy: EpochMs | null;
    }
  /** A lease whose client was seen to hang up before it was told: an offer again. */
  | { readonly type: "reoffered"; readonly id: AllocationId; readonly at: EpochMs; readonly claimBy: EpochMs }
  | { readonly type: "claimed"; readonly id: AllocationId; readonly at: EpochMs }
  | {
      readonly type: "renewed";
      readonly id: AllocationId;
      readonly at: EpochMs;
      readonly expiresAt: EpochMs | null;
    }
  | {
      /** Its client has moved the end of a lease: a renewal under other numbers, which are its request's from now on. */
      readonly type: "end-moved";
      readonly id: AllocationId;
      readonly at: EpochMs;
      readonly ttlMs: number | null;
      readonly maxDurationMs: number | null;
      readonly expiresAt: EpochMs | null;
    }
  | {
      /** Deadlines were moved without the client's doing: the grace after an absence of the daemon. */
      readonly type: "extended";
      readonly id: AllocationId;
      readonly at: EpochMs;
      readonly expiresAt: EpochMs | null;
      /** Only for an offer. */
      readonly claimBy: EpochMs | null;
    }
  | {
      readonly type: "ended";
      readonly id: AllocationId;
      readonly outcome: Outcome;
      /** Of the GPUs it held: those that must be seen empty before they are granted again. */
      readonly verify: readonly GpuUuid[];
    }
  | {
      /** A lease is to be taken back for another request, or its end for that is put off. */
      readonly type: "preempting";
      readonly id: AllocationId;
      readonly at: EpochMs;
      readonly until: EpochMs;
      /** The request that gets its GPUs. */
      readonly for: AllocationId;
    }
  | {
      /** A lease is to end because a GPU of it, or the host, is drained. */
      readonly type: "draining";
      readonly id: AllocationId;
      readonly at: EpochMs;
      readonly until: EpochMs;
      /** Why, and who drains. */
      readonly reason: string;
    }
  /** A lease that was to be taken back is not. */
  | { readonly type: "notice-withdrawn"; readonly id: AllocationId; readonly at: EpochMs; readonly reason: string }
  /**
   * The patience of a waiting request runs from now on: it is the head of the line, and nobody can say when it will
   * start, or it is passed by a wider one.
   */
  | { readonly type: "became-head"; readonly id: AllocationId; readonly at: EpochMs }
  /** Leases are preempted for a waiting request. */
  | { readonly type: "preemption-begun"; readonly id: AllocationId; readonly at: EpochMs }
  /** They are not any more, and the request waits on without them. */
  | {
      readonly type: "preemption-called-off";
      readonly id: AllocationId;
      readonly at: EpochMs;
      readonly reason: string;
    }
  /** Somebody has sent its holder a message. */
  | {
      readonly type: "nudged";
      readonly id: AllocationId;
      readonly at: EpochMs;
      readonly by: string;
      readonly message: string;
    }
  | { readonly type: "gpu-seen"; readonly gpu: GpuIdentity }
  /** A leased GPU is in use, and was not before. */
  | {
      readonly type: "use-seen";
      readonly uuid: GpuUuid;
      readonly allocationId: AllocationId;
      readonly at: EpochMs;
    }
  /** A leased GPU was in use, and is not any more. */
  | {
      readonly type: "use-gone";
      readonly uuid: GpuUuid;
      readonly allocationId: AllocationId;
      readonly at: EpochMs;
    }
  | {
      /** A shared lease's memory stands still: the next one may start on its GPU. */
      readonly type: "memory-settled";
      readonly uuid: GpuUuid;
      readonly allocationId: AllocationId;
      readonly at: EpochMs;
      /** False: it was no longer waited for. */
      readonly seen: boolean;
    }
  /** Nothing is left on a shared GPU of a lease that has ended. */
  | {
      readonly type: "memory-returned";
      readonly uuid: GpuUuid;
      readonly allocationId: AllocationId;
      readonly at: EpochMs;
    }
  | {
      /** A shared lease uses more memory of a GPU than is reserved for it. */
      readonly type: "went-over-memory";
      readonly id: AllocationId;
      readonly uuid: GpuUuid;
      readonly at: EpochMs;
      readonly usedMib: number;
      readonly reservedMib: number;
    }
  | { readonly type: "went-within-memory"; readonly id: AllocationId; readonly uuid: GpuUuid; readonly at: EpochMs }
  /** A lease without a TTL has held GPUs that nobody used since `since`. */
  | { readonly type: "went-idle"; readonly id: AllocationId; readonly at: EpochMs; readonly since: EpochMs }
  | { readonly type: "went-busy"; readonly id: AllocationId; readonly at: EpochMs }
  | { readonly type: "gpu-quarantined"; readonly uuid: GpuUuid; readonly at: EpochMs; readonly reason: string }
  | {
      /** The kernel's log speaks against a GPU. */
      readonly type: "gpu-faulted";
      readonly uuid: GpuUuid;
      readonly at: EpochMs;
      /** Who holds it; a faulted GPU stays leased. */
      readonly allocationId: AllocationId | null;
      /** The others, of a shared GPU. */
      readonly sharedWith?: readonly AllocationId[];
      readonly reason: string;
      readonly scope: GpuFault["scope"];
      readonly sequence: number;
    }
  | {
      /** Not by an admin: that is `quarantine-cleared`. */
      readonly type: "gpu-fault-answered";
      readonly uuid: GpuUuid;
      readonly at: EpochMs;
      readonly reason: string;
      readonly answeredUpTo: number;
    }
  | { readonly type: "gpu-freed"; readonly uuid: GpuUuid; readonly at: EpochMs }
  | {
      /** Somebody without a lease uses a GPU, and has for several readings. */
      readonly type: "gpu-foreign-use";
      readonly uuid: GpuUuid;
      readonly at: EpochMs;
      readonly since: EpochMs;
      /** Who, as far as is seen. Holds a process's name. */
      readonly reason: string;
      /** Empty when no process is seen, only what it uses. */
      readonly pids: readonly number[];
    }
  | { readonly type: "gpu-foreign-use-over"; readonly uuid: GpuUuid; readonly at: EpochMs; readonly reason: string }
  | {
      /** A GPU has left the host, or is well again and back. */
      readonly type: "gpu-lost" | "gpu-back";
      readonly uuid: GpuUuid;
      readonly at: EpochMs;
      /** Who holds it; a lost GPU stays leased. */
      readonly allocationId: AllocationId | null;
      /** The others, of a shared GPU. */
      readonly sharedWith?: readonly AllocationId[];
      readonly reason: string;
    }
  /** It is waited for no longer, and leaves the inventory: a MIG instance that is gone from a GPU that is well, a GPU whose
   * slot another has, or one of too many that readings no longer show. Nobody holds it. */
  | { readonly type: "gpu-gone"; readonly uuid: GpuUuid; readonly at: EpochMs; readonly reason: string }
  | {
      /** By an admin, who says why. */
      readonly type: "gpu-cordoned" | "gpu-uncordoned" | "quarantine-cleared" | "gpu-removed";
      readonly uuid: GpuUuid;
      readonly at: EpochMs;
      readonly by: string;
      readonly reason: string;
      /** Of `quarantine-cleared`: what the kernel's log had said by then is answered. */
      readonly answeredUpTo?: number;
      /** Of `gpu-cordoned`: leases that are still there then end. */
      readonly drainBy?: EpochMs;
    }
  | {
      /** By an admin, who says why. */
      readonly type: "host-cordoned" | "host-uncordoned";
      readonly at: EpochMs;
      readonly by: string;
      readonly reason: string;
      /** Of `host-cordoned`: leases that are still there then end. */
      readonly drainBy?: EpochMs;
    }
  /** GPUs are kept for a principal from a time for a while. */
  | { readonly type: "reserved"; readonly at: EpochMs; readonly booking: Booking }
  /** Before its end, by its principal or an admin: what is left of it is everybody's again. */
  | {
      readonly type: "reservation-cancelled";
      readonly at: EpochMs;
      readonly bookingId: string;
      /** Whose it was. */
      readonly principal: string;
      readonly by: string;
    }
  | {
      readonly type: "resumed";
      readonly at: EpochMs;
      readonly bootId: string;
      /** The next fencing token is at least this. */
      readonly fencingFloor: number;
    };
