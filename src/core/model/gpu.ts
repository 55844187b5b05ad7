import type { EpochMs } from "../base/time.ts";
import type { MigIdentity } from "./device.ts";
import type { AllocationId, GpuUuid } from "./ids.ts";
import type { GpuUse } from "./use.ts";

/** One lease's part of a shared GPU. */
export interface Share {
  readonly allocationId: AllocationId;
  readonly since: EpochMs;
  /** MiB that are reserved for it. */
  readonly memoryMib: number;
  /** When its client could begin to load: the grant, or the claim of an offer. `null`: not claimed yet. */
  readonly startedAt: EpochMs | null;
  /** Its memory has stood still, or was no longer waited for, since then; `null`: it is settling. */
  readonly settledAt: EpochMs | null;
  /** It has been seen to use more than its reservation since then; `null`: it is not. */
  readonly overSince: EpochMs | null;
  /** As seen in readings during the lease. */
  readonly use: GpuUse;
}

/** What may be left on a shared GPU of a lease that has ended: it still counts. */
export interface Remains {
  readonly allocationId: AllocationId;
  /** The end of the lease. */
  readonly since: EpochMs;
  readonly memoryMib: number;
  /** What tells its processes, as long as they last: the pid that its client named, and when. */
  readonly pid: number | null;
  readonly submittedAt: EpochMs;
}

/** `overdue`: what an ended lease left did not go in time. `ghost`: the GPU is busy, and no process is seen on it. */
export type QuarantineCause = "overdue" | "ghost";

/** What the books say of a GPU, apart from how it feels. */
export type GpuHold =
  | { readonly kind: "free" }
  | {
      readonly kind: "leased";
      readonly allocationId: AllocationId;
      readonly since: EpochMs;
      /** As seen in readings during the lease. */
      readonly use: GpuUse;
    }
  | {
      readonly kind: "shared";
      /** The first grant since it was free. */
      readonly since: EpochMs;
      /** MiB in use before that: the level to which the GPU must return. */
      readonly baselineMib: number;
      /** In the order of their grants; at least one. */
      readonly shares: readonly Share[];
      /** In the order of their ends. */
      readonly remains: readonly Remains[];
      /** Remains did not go in time: no new lease until they have. `null`: nothing is overdue. */
      readonly overdueSince: EpochMs | null;
    }
  | {
      readonly kind: "reclaiming";
      readonly allocationId: AllocationId;
      readonly since: EpochMs;
      readonly baselineMib: number;
    }
  | {
      readonly kind: "quarantined";
      readonly cause: QuarantineCause;
      readonly since: EpochMs;
      readonly baselineMib: number;
      /** In words, for whoever reads it: decisions ask for `cause`. */
      readonly reason: string;
    };

/** An admin's word that a GPU, or the whole host, gets no new leases. */
export interface Cordon {
  readonly at: EpochMs;
  /** The admin's principal. */
  readonly by: string;
  readonly reason: string;
  /** Leases that are still there at this instant end; `null`: what runs there runs on. */
  readonly drainBy: EpochMs | null;
}

/** An error after which a GPU must not be used, or not together with others, before it was reset. */
export interface GpuFault {
  readonly at: EpochMs;
  readonly reason: string;
  /** Which requests it keeps away: all, or those of several GPUs. */
  readonly scope: "all" | "several";
  /** Number of the kernel log's record. */
  readonly sequence: number;
}

/**
 * A device that was seen once: a GPU, or an instance of one. A GPU stays in the inventory until an admin removes it or too
 * many are missing (forgotten.ts); an instance until it has been gone for long (instances.ts).
 */
export interface Gpu {
  readonly uuid: GpuUuid;
  /** Of an instance: its GPU's, as its address. */
  readonly index: number;
  readonly name: string;
  readonly pciBusId: string | null;
  readonly memoryTotalMib: number | null;
  /** `null`: a whole GPU. */
  readonly mig: MigIdentity | null;
  readonly hold: GpuHold;
  readonly cordon: Cordon | null;
  /** What the kernel's log says against it, until it is answered; `null`: nothing. */
  readonly fault: GpuFault | null;
  /** Errors in the kernel's log up to this record, of this boot, have been answered. */
  readonly answeredUpTo: number;
  /** Since when it has been lost: gone from good readings, or so called by the driver. `null`: it is not. */
  readonly lostSince: EpochMs | null;
  /** Since when somebody without a lease has used it, as its operator was told; `null`: was not, or it is over. */
  readonly foreignSince: EpochMs | null;
}
