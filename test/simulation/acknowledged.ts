/** What clients were answered, and what they may believe because of it. */
import { isDeepStrictEqual } from "node:util";
import type { EpochMs } from "../../src/core/base/time.ts";
import type { Allocation, EndReason, Lease, Request } from "../../src/core/model/allocation.ts";
import type { AllocationId, GpuUuid } from "../../src/core/model/ids.ts";
import { type Followed, movedLease } from "./books.ts";
import { breach } from "./violation.ts";

/** A client that was granted a GPU goes on using it until its time is up, or until it is told of the end. */
interface Belief {
  /** Of the GPU's memory, which may be shared with others; `null`: all of it. */
  readonly sharedMib: number | null;
  /** In true time; `null`: for ever. */
  readonly untilMs: number | null;
  /** By how much the daemon's clock was ahead of the true time. */
  readonly leadMs: number;
}

/** Ends after which no client believes to hold anything, or only by an admin's doing. */
const OWN_ENDS: readonly EndReason[] = ["released", "revoked", "preempted", "rebooted", "idle", "process-gone"];

export class Acknowledged {
  readonly #records: Map<AllocationId, Allocation>;
  readonly #beliefs = new Map<GpuUuid, Map<AllocationId, Belief>>();
  /** What clients have been answered since the last audit: several commands may have been answered at once. */
  readonly #news: { request: Request; lease: Lease; now: EpochMs; trueMs: number }[] = [];

  constructor(from: Acknowledged | null = null) {
    this.#records = new Map(from === null ? [] : from.#records);
  }

  /**
   * Somebody was answered with `record`, which must be on disk by then.
   *
   * @param byOwner its client was, who believes in it now.
   */
  take(record: Allocation, stored: Allocation | undefined, byOwner: boolean, now: EpochMs, trueMs: number): void {
    const { id } = record.request;
    demandReachable(record, stored);
    this.#records.set(id, record);
    if (byOwner && record.status === "leased") {
      this.#news.push({ request: record.request, lease: record.lease, now, trueMs });
    }
  }

  /**
   * All that was answered is audited: from now on clients believe what still holds.
   *
   * @param live the allocation as the books have it.
   */
  believe(live: (id: AllocationId) => Followed | undefined): void {
    for (const { request, lease, now, trueMs } of this.#news) {
      const { id } = request;
      const present = live(id);
      if (present === undefined) continue;
      const isMoved =
        request.ttlMs !== present.request.ttlMs || request.maxDurationMs !== present.request.maxDurationMs;
      // Of calls made at once, one may be answered with the end as it was before another moved it; its client knows both.
      const expiresAt = isMoved ? earlier(lease.expiresAt, present.lease?.expiresAt ?? null) : lease.expiresAt;
      const untilMs = expiresAt === null ? null : trueMs + (expiresAt - now);
      const belief = { sharedMib: lease.sharedMib, untilMs, leadMs: now - trueMs };
      for (const { uuid } of lease.gpus) {
        const here = this.#beliefs.get(uuid) ?? new Map<AllocationId, Belief>();
        this.#beliefs.set(uuid, here.set(id, belief));
      }
    }
    this.#news.length = 0;
  }

  /** 1, as clients see it: nobody who has been granted this GPU may still believe to have it. */
  judgeGrant(id: AllocationId, lease: Lease, trueMs: number): void {
    for (const { uuid, memoryTotalMib } of lease.gpus) {
      let believedMib = 0;
      for (const [other, belief] of this.#beliefs.get(uuid) ?? []) {
        if (other === id) continue;
        // A clock that was set ahead over a restart shortens what was promised.
        const leapt = lease.grantedAt - trueMs > belief.leadMs;
        const isHeld = !leapt && (belief.untilMs === null || belief.untilMs > trueMs);
        if (!isHeld) this.#beliefs.get(uuid)?.delete(other);
        else if (belief.sharedMib === null || lease.sharedMib === null) {
          breach(1, `${id} was granted ${uuid}, which the client of ${other} still believes to have`);
        } else believedMib += belief.sharedMib;
      }
      if (believedMib + (lease.sharedMib ?? 0) > (memoryTotalMib ?? Infinity)) {
        breach(
          1,
          `${id} was granted ${lease.sharedMib} MiB of ${uuid}, of which clients believe to have ${believedMib}`,
        );
      }
    }
  }

  /** The daemon's clock has been set by `ms`, and what lives has moved with it. */
  move(ms: number, isLive: (id: AllocationId) => boolean): void {
    for (const [id, record] of this.#records) if (isLive(id)) this.#records.set(id, movedRecord(record, ms));
    for (const here of this.#beliefs.values()) {
      for (const [id, belief] of here) here.set(id, { ...belief, leadMs: belief.leadMs + ms });
    }
  }

  /** A client that asked for an earlier end must reckon with it, even where it was not answered. */
  endMoved(id: AllocationId, leftMs: number | null, trueMs: number): void {
    if (leftMs === null) return;
    for (const here of this.#beliefs.values()) {
      const belief = here.get(id);
      if (belief === undefined) continue;
      here.set(id, { ...belief, untilMs: Math.min(belief.untilMs ?? Infinity, trueMs + leftMs) });
    }
  }

  /** Some ends are the client's own doing, an admin's, or a crash of the host. */
  ended(id: AllocationId, reason: EndReason): void {
    if (!OWN_ENDS.includes(reason)) return;
    for (const here of this.#beliefs.values()) here.delete(id);
  }

  get(id: AllocationId): Allocation | undefined {
    return this.#records.get(id);
  }

  /** 2: everything that was acknowledged is there, as it was or further on. */
  check(find: (id: AllocationId) => Allocation | undefined): void {
    for (const [id, record] of this.#records) demandReachable(record, find(id));
  }

  /**
   * Records that ended long ago may be pruned.
   *
   * @param endedAt of those that ended without anybody's being told.
   */
  forget(isOver: (at: EpochMs) => boolean, endedAt: (id: AllocationId) => EpochMs | null): void {
    for (const [id, record] of this.#records) {
      const at = record.status === "ended" ? record.outcome.at : endedAt(id);
      if (at !== null && isOver(at)) this.#records.delete(id);
    }
  }
}

/** `null`: never. */
function earlier(one: EpochMs | null, other: EpochMs | null): EpochMs | null {
  if (one === null || other === null) return one ?? other;
  return Math.min(one, other);
}

function movedRecord(record: Allocation, ms: number): Allocation {
  const request = { ...record.request, submittedAt: record.request.submittedAt + ms };
  switch (record.status) {
    case "queued":
      return { ...record, request };
    case "offered":
      return { ...record, request, lease: movedLease(record.lease, ms), claimBy: record.claimBy + ms };
    case "leased":
      return { ...record, request, lease: movedLease(record.lease, ms) };
    case "ended":
      return record;
    default:
      return record satisfies never;
  }
}

function demandReachable(told: Allocation, present: Allocation | undefined): void {
  const { id } = told.request;
  if (present === undefined) breach(2, `${id} was acknowledged as ${told.status} and is not there`);
  if (!isReachable(told, present)) {
    breach(2, `${id} was acknowledged as ${JSON.stringify(told)} and is ${JSON.stringify(present)}`);
  }
}

function isReachable(told: Allocation, present: Allocation): boolean {
  const { ttlMs, maxDurationMs } = present.request;
  if (!isDeepStrictEqual({ ...told.request, ttlMs, maxDurationMs }, present.request)) return false;
  if (told.status === "queued") return true;
  if (told.status === "ended") return isDeepStrictEqual(told, present);
  // What was granted is not queued again; an offer and a lease may turn into each other.
  if (present.status === "queued" || present.lease === null) return false;
  const [was, is] = [told.lease, present.lease];
  if (was.fencingToken !== is.fencingToken || was.grantedAt !== is.grantedAt) return false;
  if (!isDeepStrictEqual(was.gpus, is.gpus)) return false;
  // Its client may have moved its end. Otherwise it is prolonged, never shortened.
  if (told.request.ttlMs !== ttlMs || told.request.maxDurationMs !== maxDurationMs) return true;
  return was.expiresAt === null ? is.expiresAt === null : is.expiresAt !== null && is.expiresAt >= was.expiresAt;
}
