/**
 * Turns a turn into flat writes, leaving out what the file already holds.
 *
 * 1. It remembers only what is known to be in the file: `plan` changes nothing, `acknowledge` moves it on.
 * 2. A GPU's row is written only when a load, with the old row and the leases after the turn, would not give the GPU as
 *    it is. So the begin and the end of a lease write no row of a GPU.
 */
import type { Allocation, Lease, LeasedGpu } from "../core/model/allocation.ts";
import type { Booking } from "../core/model/booking.ts";
import type { Cordon, Gpu } from "../core/model/gpu.ts";
import type { AllocationId, GpuUuid } from "../core/model/ids.ts";
import { KEY_LIFE_MS, type StoredState, type Turn } from "../ports/store.ts";
import type { DeliverySettlement } from "../ports/webhooks.ts";
import { auditWrite } from "./audit.ts";
import { historyWrites } from "./history.ts";
import { holdersOf } from "./read-state.ts";
import {
  encodeBookings,
  encodeCordon,
  encodeGpu,
  encodeNotice,
  encodeUsed,
  type Holder,
  isHoldByLeases,
  TurnTexts,
} from "./records.ts";
import type { Write } from "./statements.ts";

export interface Plan {
  readonly writes: readonly Write[];
  /** What the file counts as its turns once they are written. */
  readonly turns: number;
  /** Call it when the writes are on disk. */
  readonly acknowledge: () => void;
}

interface StoredGpu {
  readonly gpu: Gpu;
  /** The row leaves the hold to the leases; `null`: not known since the load. */
  readonly byLeases: boolean | null;
}

/** What a turn changes in the ledger. */
interface Changes {
  /** `undefined` for GPUs that no lease holds any more. */
  readonly holders: Map<GpuUuid, Holder | undefined>;
  readonly gpus: Map<GpuUuid, StoredGpu>;
}

export class Ledger {
  /** The live rows, and the lease that each holds in the file. */
  readonly #live = new Map<AllocationId, Lease | null>();
  /** By GPU; `undefined` stays where a lease was, so that no entry goes and comes with each lease. */
  readonly #holders: Map<GpuUuid, Holder | undefined>;
  readonly #gpus = new Map<GpuUuid, StoredGpu>();
  #cordon: Cordon | null;
  #bookings: readonly Booking[];
  #lastSeq: number;
  #turns: number;

  constructor(state: StoredState, turns: number) {
    for (const allocation of state.allocations) this.#live.set(allocation.request.id, leaseOf(allocation));
    this.#holders = holdersOf(state.allocations);
    for (const gpu of state.gpus) this.#gpus.set(gpu.uuid, { gpu, byLeases: null });
    this.#cordon = state.cordon;
    this.#bookings = state.bookings;
    this.#lastSeq = state.lastSeq;
    this.#turns = turns;
  }

  plan(turn: Turn): Plan {
    const texts = new TurnTexts();
    const changes: Changes = { holders: new Map(), gpus: new Map() };
    const rows: Write[] = [];
    const holds: Write[] = [];
    for (const allocation of turn.allocations) {
      rows.push(this.#row(allocation, texts));
      this.#planHolds(allocation, rows, holds, changes.holders);
    }
    for (const id of endsMoved(turn.events)) {
      const moved = turn.allocations.find(({ request }) => request.id === id);
      if (moved !== undefined) rows.push(["updateRequest", texts.request(moved.request), id]);
    }
    // In this order: a lease's row refers to its allocation and its GPU, and a GPU may change hands in one turn.
    const writes = [...this.#planGpus(turn.gpus, changes), ...rows, ...holds];
    for (const uuid of turn.removedGpus) writes.push(["dropGpu", uuid]);
    const lastSeq = this.#lastSeq + turn.events.length;
    if (turn.events.length > 0) {
      writes.push(["appendEvents", lastSeq, turn.at, texts.events(turn.events), turn.inputs]);
    }
    for (const id of turn.outdated) writes.push(["withdrawNotices", turn.at, id]);
    for (const { deliveryId, allocationId, status, url, body, createdAt } of turn.notifications) {
      writes.push(["insertDelivery", deliveryId, allocationId, status, url, body, createdAt]);
    }
    for (const settlement of turn.settlements) writes.push(settled(settlement));
    for (const id of turn.withdrawn) writes.push(["withdrawGrant", turn.at, id]);
    for (const id of turn.redeliveries) writes.push(["redeliver", turn.at, id]);
    for (const { principal, key, fingerprint, at, ids } of turn.keys) {
      // A plain insert: that a key is used twice within its life is a bug, and the whole turn is refused for it.
      writes.push(["forgetKey", principal, key, at - KEY_LIFE_MS]);
      writes.push(["keepKey", principal, key, fingerprint, at, JSON.stringify(ids)]);
    }
    for (const entry of turn.audit) writes.push(auditWrite(entry));
    if (turn.gpuChanges.length > 0) writes.push(...historyWrites(turn.gpuChanges, turn.at));
    if (turn.cordon !== this.#cordon || turn.bookings !== this.#bookings) {
      writes.push(["host", encodeCordon(turn.cordon), encodeBookings(turn.bookings)]);
    }
    const turns = this.#turns + 1;
    writes.push(["progress", turns, turn.at, turn.nextFencingToken, turn.bootId]);
    return { writes, turns, acknowledge: () => this.#acknowledge(turn, changes, lastSeq, turns) };
  }

  #acknowledge(turn: Turn, changes: Changes, lastSeq: number, turns: number): void {
    for (const allocation of turn.allocations) {
      if (allocation.status === "ended") this.#live.delete(allocation.request.id);
      else this.#live.set(allocation.request.id, leaseOf(allocation));
    }
    for (const [uuid, holder] of changes.holders) this.#holders.set(uuid, holder);
    for (const [uuid, stored] of changes.gpus) this.#gpus.set(uuid, stored);
    for (const uuid of turn.removedGpus) {
      this.#gpus.delete(uuid);
      this.#holders.delete(uuid);
    }
    this.#cordon = turn.cordon;
    this.#bookings = turn.bookings;
    this.#lastSeq = lastSeq;
    this.#turns = turns;
  }

  #row(allocation: Allocation, texts: TurnTexts): Write {
    const { request, status } = allocation;
    const lease = leaseOf(allocation);
    const claimBy = status === "offered" ? allocation.claimBy : null;
    const outcome = status === "ended" ? allocation.outcome : null;
    const standing = [
      status,
      claimBy,
      status === "leased" ? allocation.idleSince : null,
      status === "queued" ? allocation.preemptingSince : null,
      status === "queued" ? allocation.headSince : null,
      status === "offered" || status === "leased" ? encodeNotice(allocation.notice) : null,
      outcome?.at ?? null,
      outcome?.reason ?? null,
      outcome?.detail ?? null,
      status === "ended" ? encodeUsed(allocation.used) : null,
    ] as const;
    const stored = this.#live.get(request.id);
    const leaseText = lease === null || lease === stored ? null : texts.lease(lease);
    if (stored === undefined) {
      const { id, serviceName, principal, submittedAt } = request;
      const requestText = texts.request(request);
      return ["insertAllocation", id, serviceName, principal, submittedAt, ...standing, leaseText, requestText];
    }
    if (lease === stored) return ["updateStanding", ...standing, request.id];
    return ["updateWithLease", ...standing, leaseText, request.id];
  }

  /** `letGo` writes come before all `hold` writes of the turn. */
  #planHolds(allocation: Allocation, letGo: Write[], hold: Write[], holders: Changes["holders"]): void {
    const { id } = allocation.request;
    const old = this.#live.get(id) ?? null;
    const before = old?.gpus ?? NO_GPUS;
    const lease = allocation.status === "queued" || allocation.status === "ended" ? null : allocation.lease;
    const after = lease?.gpus ?? NO_GPUS;
    if (after === before) return;
    for (const { uuid } of before) {
      if (includes(after, uuid)) continue;
      letGo.push(["letGoGpu", uuid, id]);
      // Unless another allocation has taken it over in this turn.
      if (old?.sharedMib === null && !holders.has(uuid)) holders.set(uuid, undefined);
    }
    for (const { uuid } of after) {
      if (!includes(before, uuid)) hold.push(["holdGpu", uuid, id, lease?.sharedMib ?? null]);
      if (lease?.sharedMib === null) holders.set(uuid, { allocationId: id, grantedAt: lease.grantedAt });
    }
  }

  /** See 2. */
  #planGpus(gpus: readonly Gpu[], changes: Changes): Write[] {
    const writes: Write[] = [];
    const consider = (gpu: Gpu): void => {
      const { uuid } = gpu;
      const holder = changes.holders.has(uuid) ? changes.holders.get(uuid) : this.#holders.get(uuid);
      const byLeases = isHoldByLeases(gpu.hold, holder);
      const stored = this.#gpus.get(uuid);
      changes.gpus.set(uuid, { gpu, byLeases });
      const kept = stored?.byLeases === byLeases && isSameDevice(stored.gpu, gpu) && (byLeases || stored.gpu === gpu);
      if (!kept) writes.push(["writeGpu", uuid, encodeGpu(gpu, byLeases)]);
    };
    for (const gpu of gpus) consider(gpu);
    for (const uuid of changes.holders.keys()) {
      const stored = this.#gpus.get(uuid);
      if (stored !== undefined && !changes.gpus.has(uuid)) consider(stored.gpu);
    }
    return writes;
  }
}

/** Whose requests are other than they were submitted. */
function endsMoved(events: Turn["events"]): ReadonlySet<AllocationId> {
  return new Set(events.flatMap((event) => (event.type === "end-moved" ? [event.id] : [])));
}

const NO_GPUS: readonly LeasedGpu[] = [];

function leaseOf(allocation: Allocation): Lease | null {
  return allocation.status === "queued" ? null : allocation.lease;
}

function includes(gpus: readonly LeasedGpu[], uuid: GpuUuid): boolean {
  return gpus.some((gpu) => gpu.uuid === uuid);
}

/** The same in everything but the hold. */
function isSameDevice(a: Gpu, b: Gpu): boolean {
  return (
    a.index === b.index &&
    a.name === b.name &&
    a.pciBusId === b.pciBusId &&
    a.memoryTotalMib === b.memoryTotalMib &&
    a.cordon === b.cordon &&
    a.fault === b.fault &&
    a.answeredUpTo === b.answeredUpTo &&
    a.lostSince === b.lostSince &&
    a.foreignSince === b.foreignSince
  );
}

/** Only a row that is still pending takes a settlement: what was delivered or withdrawn stays so. */
function settled(settlement: DeliverySettlement): Write {
  const { deliveryId, at, outcome, nextAttemptAt, httpStatus, error } = settlement;
  const retry = outcome === "retry";
  // A back-off with jitter need not be whole milliseconds; later is never too early.
  const dueAt = retry && nextAttemptAt !== null ? Math.ceil(nextAttemptAt) : null;
  return ["settleDelivery", retry ? "pending" : outcome, dueAt, retry ? null : at, at, httpStatus, error, deliveryId];
}
