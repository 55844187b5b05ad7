/**
 * What the scheduler needs from the rooms around it, and what it tells them. Every adapter (store, webhooks,
 * monitor, metrics) knows these types and none of the other adapters.
 */
import type { EpochMs } from "../core/base/time.ts";
import type { Event } from "../core/host/events.ts";
import type { DurableState } from "../core/host/state.ts";
import type { Allocation, EndedAllocation, LeasedGpu, LiveAllocation } from "../core/model/allocation.ts";
import type { Booking } from "../core/model/booking.ts";
import type { Cordon, Gpu } from "../core/model/gpu.ts";
import type { AllocationId, GpuUuid } from "../core/model/ids.ts";
import type { UsedGpu } from "../core/model/use.ts";
import type { AuditEntry } from "./audit.ts";
import type { GpuChange } from "./history.ts";
import type { DeliveryQuery, DeliveryRecord, DeliverySettlement, Notification } from "./webhooks.ts";

/** How long the same `Idempotency-Key` stands for the same request, in ms. */
export const KEY_LIFE_MS = 24 * 3_600_000;

/** What a caller names a request by, so that sending it again is not asking again. */
export interface IdempotencyKey {
  readonly principal: string;
  readonly key: string;
  /** A digest of the request: the same key with another one is a mistake. */
  readonly fingerprint: string;
}

/** A key whose request changed something, kept with the change. */
export interface KeptKey extends IdempotencyKey {
  readonly at: EpochMs;
  /** The allocation that was asked for or renewed, or those that were ended. */
  readonly ids: readonly AllocationId[];
}

/** Everything one turn of the scheduler makes durable, at once or not at all. */
export interface Turn {
  readonly at: EpochMs;
  readonly events: readonly Event[];
  /** What led to the events, as `core/replay/capture.ts` writes it; `null`: there are no events, or it is not known. */
  readonly inputs: string | null;
  /** Every allocation that changed, as it stands after the turn. */
  readonly allocations: readonly Allocation[];
  /** Every GPU that changed, as it stands after the turn. */
  readonly gpus: readonly Gpu[];
  /** GPUs that left the inventory. */
  readonly removedGpus: readonly GpuUuid[];
  readonly nextFencingToken: number;
  readonly bootId: string | null;
  /** The host's cordon after the turn. */
  readonly cordon: Cordon | null;
  /** All of the host after the turn. */
  readonly bookings: readonly Booking[];
  readonly notifications: readonly Notification[];
  readonly settlements: readonly DeliverySettlement[];
  /** Allocations whose undelivered `allocated` webhook must not be sent any more. */
  readonly withdrawn: readonly AllocationId[];
  /** Allocations whose undelivered `preempting` webhooks, but for those of this turn, must not be sent any more. */
  readonly outdated: readonly AllocationId[];
  /** Webhooks to be sent again, from now on; one that was withdrawn stays so. */
  readonly redeliveries: readonly string[];
  /** No key stands here that is kept already and younger than {@link KEY_LIFE_MS}. */
  readonly keys: readonly KeptKey[];
  /** Who changed what in it. */
  readonly audit: readonly AuditEntry[];
  /** For the time line: what GPUs are from now on. What is left out here is written later, beside the turns. */
  readonly gpuChanges: readonly GpuChange[];
}

/** What a store gives back at the start. */
export interface StoredState extends DurableState {
  /** The time of the last committed turn, moved with the clock if that was set since. */
  readonly lastTurnAt: EpochMs | null;
  /** The number of the last event; 0 before the first. Numbers only grow, by one. */
  readonly lastSeq: number;
}

/** One event, as the journal keeps it. */
export interface JournalEntry {
  readonly seq: number;
  /** The time of its turn. */
  readonly at: EpochMs;
  readonly event: Event;
}

export interface AllocationQuery {
  readonly status: Allocation["status"] | null;
  readonly serviceName: string | null;
  readonly principal: string | null;
  /** Ids sort by time: the page begins after this one, newest first. */
  readonly before: AllocationId | null;
  readonly limit: number;
}

/** The records that are at hand, by id; `undefined`: it is not. */
export type LiveRecords = (id: AllocationId) => LiveAllocation | undefined;

/** A lease that is over, as far as accounting needs it. */
export interface EndedLease {
  readonly id: AllocationId;
  readonly serviceName: string;
  readonly principal: string;
  readonly gpus: readonly Pick<LeasedGpu, "uuid" | "memoryTotalMib">[];
  /** MiB that were reserved on each GPU; `null`: the lease had the GPUs alone. */
  readonly sharedMib: number | null;
  readonly used: readonly UsedGpu[];
  readonly fencingToken: number;
  readonly grantedAt: EpochMs;
  readonly endedAt: EpochMs;
}

/** Where a page of ended leases ended: opaque to all but the store. */
export interface EndedLeaseCursor {
  readonly endedAt: EpochMs;
  readonly row: number;
}

export interface EndedLeaseQuery {
  readonly endedAfter: EpochMs;
  /** Leases that were asked for from then on are left out. */
  readonly submittedBefore: EpochMs;
  /** The `next` of the page before; `null` for the first. */
  readonly after: EndedLeaseCursor | null;
  /** How many leases to look at, those left out included. */
  readonly limit: number;
}

export interface EndedLeasePage {
  readonly leases: readonly EndedLease[];
  /** `null`: this is the last. */
  readonly next: EndedLeaseCursor | null;
}

export interface Store {
  load(): StoredState;
  /**
   * Settles once the turn is on disk, or once it is certain that nothing of it is. Turns are committed in the order of
   * the calls.
   *
   * @throws StorageUnavailableError when nothing was written.
   */
  commit(turn: Turn): Promise<void>;
  /** The next turn is likely to be committed by another thread, which begins with it within the call of `commit`. */
  readonly commitsAside: boolean;
  findEnded(id: AllocationId): EndedAllocation | undefined;
  findDelivery(deliveryId: string): DeliveryRecord | undefined;
  /** Newest first; an unknown `before` is the end of every listing. */
  listDeliveries(query: DeliveryQuery): readonly DeliveryRecord[];
  /** As last committed, however old. */
  findKey(principal: string, key: string): KeptKey | undefined;
  /**
   * Newest first, live and ended, as last committed.
   *
   * @param liveOf the live records as last committed, which then need not be read from the file.
   */
  list(query: AllocationQuery, liveOf?: LiveRecords): readonly Allocation[];
  /** In the order of their ends, as last committed; each page costs no more than its limit. */
  endedLeases(query: EndedLeaseQuery): EndedLeasePage;
  /** Records of leases that ended then or later are all kept; `null`: no record was ever dropped. */
  completeFrom(): EpochMs | null;
  /**
   * The events that follow number `afterSeq`, oldest first: `limit` at most, fewer where they are large, and none only
   * when none is kept. Within a page there are no gaps; a first number other than `afterSeq + 1` says that those before
   * it have been pruned.
   */
  readEvents(afterSeq: number, limit: number): readonly JournalEntry[];
}
