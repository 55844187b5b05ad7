/**
 * Follows what becomes durable, turn by turn: every event is judged against the simulation's own books, which then
 * take it over. {@link INVARIANTS} says which is checked where.
 */

import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { canonicalJson } from "../../src/core/base/json.ts";
import type { EpochMs } from "../../src/core/base/time.ts";
import { emptyHost } from "../../src/core/host/changes.ts";
import type { Event } from "../../src/core/host/events.ts";
import { evolve } from "../../src/core/host/evolve.ts";
import type { HostState } from "../../src/core/host/state.ts";
import type { EndReason, Lease } from "../../src/core/model/allocation.ts";
import type { AllocationId } from "../../src/core/model/ids.ts";
import { TurnReader } from "../../src/core/replay/recall.ts";
import type { NotificationStatus } from "../../src/ports/webhooks.ts";
import { Books, type Causes, type Followed, type GpuBook, type NoticeBook, type ShareBook } from "./books.ts";
import type { DurableView, JournalTurn, OutboxRow } from "./durable-view.ts";
import {
  judgeAdoption,
  judgeBusy,
  judgeClaim,
  judgeEnd,
  judgeExtension,
  judgeGrant,
  judgeHead,
  judgeIdle,
  judgeMovedEnd,
  judgeRenewal,
  judgeReoffer,
  judgeSubmission,
  judgeVerification,
  patienceMs,
} from "./judge-allocations.ts";
import {
  judgeAdminWord,
  judgeForeignUse,
  judgeFreeing,
  judgeLoss,
  judgeOutgrowth,
  judgeQuarantine,
  judgeReturn,
  judgeSettling,
  judgeUse,
  judgeUseGone,
} from "./judge-gpus.ts";
import { judgeForgetting, judgeInstances } from "./judge-instances.ts";
import {
  judgeDraining,
  judgeHostWord,
  judgeNudge,
  judgePreempting,
  judgePreemptor,
  judgeStanding,
  judgeWithdrawal,
} from "./judge-notices.ts";
import { judgeWindows } from "./judge-windows.ts";
import { OPERATOR_URL } from "./ops.ts";
import { identityOf } from "./simulated-driver.ts";
import type { Tally } from "./tally.ts";
import { GRACE_MS, holding, type TurnSeen } from "./turn-seen.ts";
import { breach, fault } from "./violation.ts";
import { checkReplay, movedState } from "./whole-checks.ts";

/** What the contract says a webhook is told of an end; `null`: nothing, since its client did it. */
const TOLD_OF_END: Readonly<Record<EndReason, NotificationStatus | null>> = {
  released: null,
  cancelled: "cancelled",
  expired: "expired",
  max_duration: "expired",
  timed_out: "expired",
  abandoned: "abandoned",
  unclaimed: "unclaimed",
  revoked: "revoked",
  preempted: "revoked",
  rebooted: "revoked",
  idle: "revoked",
  "process-gone": "expired",
};

interface Expected {
  /** `null`: the operator is told of a GPU. */
  readonly id: AllocationId | null;
  readonly status: NotificationStatus;
  readonly url: string;
  readonly token: number | null;
}

/** The time and the daemon in which a turn was seen. */
export interface Moment {
  readonly trueMs: number;
  readonly tokenFloor: number;
  readonly wallAheadMs: number;
}

/** Clients have a view of their own of who holds what. */
export interface Witness {
  granted(id: AllocationId, lease: Lease): void;
  /** Its client asked for another end, in `leftMs`; `null`: none. */
  endMoved(id: AllocationId, leftMs: number | null): void;
  ended(id: AllocationId, reason: EndReason): void;
}

export class Auditor {
  books = new Books();
  /** The journal's events, folded one by one. */
  folded: HostState;
  readonly #tally: Tally;
  readonly #hash = createHash("sha256");
  #lastOutboxSeq = 0;
  readonly #witness: Witness;
  readonly #past = new TurnReader();

  constructor(tally: Tally, policy: HostState["policy"], witness: Witness) {
    this.#tally = tally;
    this.folded = emptyHost(policy);
    this.#witness = witness;
  }

  /** SHA-256 over the events of all turns that were ever committed, in order; can be taken once. */
  journalHash(): string {
    return this.#hash.digest("hex");
  }

  /** Judges and takes over what has been committed since the last call. @returns the allocations concerned. */
  follow(view: DurableView, causes: Causes, moment: Moment): ReadonlySet<AllocationId> {
    const touched = new Set<AllocationId>();
    const told: Expected[] = [];
    for (const turn of view.turnsAfter(this.books.lastSeq)) {
      this.#hash.update(`${turn.seq} ${turn.at} ${canonicalJson(turn.events)}\n`);
      this.#followTurn(turn, causes, moment, touched, told);
    }
    this.#matchOutbox(view, told);
    return touched;
  }

  #followTurn(turn: JournalTurn, causes: Causes, moment: Moment, touched: Set<AllocationId>, told: Expected[]): void {
    const { books } = this;
    if (turn.seq !== books.lastSeq + turn.events.length) breach(8, `the journal has a gap before ${turn.seq}`);
    this.folded = checkReplay(turn, this.folded, this.#past);
    const newcomers = new Set<AllocationId>();
    const toldNow: Expected[] = [];
    let seen: TurnSeen = { ...moment, at: turn.at, newcomers, resumed: false, rebooted: false };
    for (const event of turn.events) {
      this.#tally.count("event", event.type);
      if (event.type === "resumed") {
        if (causes.resumes === 0) fault("the daemon resumed, and had not stood still");
        causes.resumes -= 1;
        seen = { ...seen, resumed: true, rebooted: books.bootId !== null && books.bootId !== event.bootId };
        books.bootId = event.bootId;
        for (const id of books.signs.keys()) books.signs.set(id, turn.at);
        for (const [uuid, { hold, shares, remains }] of books.gpus) {
          if (hold === "reclaiming") this.#setGpu(uuid, { since: turn.at });
          for (const [id, { settled, startedAt }] of shares) {
            if (!settled && startedAt !== null) this.#setShare(uuid, id, { startedAt: turn.at });
          }
          const anew = [...remains].map(([id, { mib }]) => [id, { mib, since: turn.at }] as const);
          this.#setGpu(uuid, { remains: new Map(anew) });
        }
      } else this.#followEvent(event, causes, seen, newcomers, toldNow);
      const id = event.type === "submitted" ? event.request.id : "id" in event ? event.id : null;
      if (id !== null) touched.add(id);
      this.folded = evolve(this.folded, event);
    }
    if (seen.rebooted) this.#demandRebooted();
    judgeStanding(books);
    told.push(...toldNow);
    books.lastSeq = turn.seq;
  }

  #followEvent(event: Event, causes: Causes, turn: TurnSeen, newcomers: Set<AllocationId>, told: Expected[]): void {
    const { books } = this;
    switch (event.type) {
      case "submitted": {
        const { request } = event;
        const { idempotencyKey } = request.workloadData;
        const key = typeof idempotencyKey === "string" ? idempotencyKey : null;
        judgeSubmission(books, turn, request, key);
        if (key !== null) books.keys.set(key, { id: request.id, at: turn.at });
        newcomers.add(request.id);
        books.live.set(request.id, queued(event.request, ++books.submissions));
        books.signs.set(request.id, turn.at);
        return;
      }
      case "granted": {
        const isAdopted = books.live.get(event.id)?.request.adoption !== undefined;
        if (isAdopted) judgeAdoption(books, causes, turn, event);
        else judgeGrant(books, causes, turn, event);
        this.#judgeParts(event, causes, turn, isAdopted);
        this.#tally.count("host", isAdopted ? "use adopted" : "granted");
        this.#witness.granted(event.id, event.lease);
        const { lease, claimBy } = event;
        books.highestToken = lease.fencingToken;
        const before = books.live.get(event.id) as Followed;
        const status = claimBy === null ? "leased" : "offered";
        books.live.set(event.id, { ...before, status, lease, claimBy, ...promised(lease.expiresAt, turn) });
        books.signs.delete(event.id);
        for (const { uuid, baselineMib } of lease.gpus) {
          if (lease.sharedMib !== null) {
            this.#share(uuid, event, baselineMib);
            continue;
          }
          this.#setGpu(uuid, { hold: "leased", since: lease.grantedAt, useSeen: false, inUse: false, baselineMib });
        }
        this.#tally.count("grant", status);
        if (status === "offered") told.push(...expected(before.request, "allocated", lease.fencingToken));
        return;
      }
      case "reoffered": {
        judgeReoffer(books, causes, turn, event);
        const before = holding(books, event.id);
        books.live.set(event.id, { ...before, status: "offered", claimBy: event.claimBy, idle: false });
        for (const [uuid, share] of this.#sharesOf(event.id)) {
          if (!share.settled) this.#setShare(uuid, event.id, { startedAt: null });
        }
        told.push(...expected(before.request, "allocated", before.lease.fencingToken));
        return;
      }
      case "claimed":
        judgeClaim(books, causes, turn, event.id);
        books.live.set(event.id, { ...holding(books, event.id), status: "leased", claimBy: null });
        this.#startShares(event.id, event.at);
        return;
      case "renewed": {
        judgeRenewal(books, causes, turn, event);
        this.#startShares(event.id, event.at);
        const { expiresAt } = event;
        const before = holding(books, event.id);
        const lease = { ...before.lease, expiresAt };
        books.live.set(event.id, { ...before, status: "leased", claimBy: null, lease, ...promised(expiresAt, turn) });
        return;
      }
      case "end-moved": {
        judgeMovedEnd(books, causes, turn, event);
        this.#startShares(event.id, event.at);
        const { ttlMs, maxDurationMs, expiresAt } = event;
        this.#witness.endMoved(event.id, expiresAt === null ? null : expiresAt - event.at);
        const before = holding(books, event.id);
        const request = { ...before.request, ttlMs, maxDurationMs };
        const lease = { ...before.lease, expiresAt };
        const isLater = (maxDurationMs ?? 0) > (before.request.maxDurationMs ?? Infinity);
        if (isLater) judgeWindows(books, causes, turn, { request, lease });
        const idle = before.idle && ttlMs === null;
        // Who moves its own end before what it was owed gives the rest up.
        const owedUntil = Math.min(before.owedUntil, expiresAt ?? before.owedUntil);
        const moved = { ...before, request, lease, idle, owedUntil, ...promised(expiresAt, turn) };
        books.live.set(event.id, { ...moved, status: "leased", claimBy: null });
        return;
      }
      case "extended": {
        judgeExtension(books, causes, turn, event);
        const { expiresAt, claimBy } = event;
        const before = holding(books, event.id);
        const prolonged = expiresAt === before.lease.expiresAt ? {} : promised(expiresAt, turn);
        books.live.set(event.id, { ...before, lease: { ...before.lease, expiresAt }, claimBy, ...prolonged });
        return;
      }
      case "nudged": {
        judgeNudge(books, causes, turn, event);
        const before = holding(books, event.id);
        const { at, by, message } = event;
        books.live.set(event.id, { ...before, lease: { ...before.lease, nudge: { at, by, message } } });
        told.push(...expected(before.request, "nudged", before.lease.fencingToken));
        return;
      }
      case "went-idle": {
        judgeIdle(books, causes, turn, event);
        const before = holding(books, event.id);
        books.live.set(event.id, { ...before, idle: true });
        told.push(...expected(before.request, "idle", before.lease.fencingToken));
        return;
      }
      case "went-over-memory": {
        judgeOutgrowth(books, event);
        const { request, lease } = holding(books, event.id);
        this.#setShare(event.uuid, event.id, { over: true });
        told.push(...expected(request, "over_memory", lease.fencingToken));
        return;
      }
      case "went-within-memory":
        if (!books.gpus.get(event.uuid)?.shares.get(event.id)?.over) fault(`${event.id} is within again, and was so`);
        this.#setShare(event.uuid, event.id, { over: false });
        return;
      case "went-busy":
        judgeBusy(books, event.id);
        books.live.set(event.id, { ...holding(books, event.id), idle: false });
        return;
      case "ended":
        this.#followEnd(event, causes, turn, told);
        return;
      case "gpu-foreign-use":
      case "gpu-foreign-use-over": {
        judgeForeignUse(books, causes, event);
        const isOver = event.type === "gpu-foreign-use-over";
        this.#setGpu(event.uuid, { foreign: !isOver });
        told.push({ id: null, status: isOver ? "foreign_use_over" : "foreign_use", url: OPERATOR_URL, token: null });
        return;
      }
      case "preempting":
      case "draining": {
        const notice =
          event.type === "preempting" ? judgePreempting(books, causes, turn, event) : judgeDraining(books, turn, event);
        this.#setNotice(event.id, notice, told);
        const { request, lease } = holding(books, event.id);
        told.push(...expected(request, "preempting", lease.fencingToken));
        return;
      }
      case "notice-withdrawn":
        judgeWithdrawal(books, event);
        this.#setNotice(event.id, null, told);
        return;
      case "became-head":
        judgeHead(books, turn, event);
        books.live.set(event.id, { ...(books.live.get(event.id) as Followed), headSince: event.at });
        return;
      case "preemption-begun":
      case "preemption-called-off": {
        judgePreemptor(books, event);
        const before = books.live.get(event.id) as Followed;
        books.live.set(event.id, { ...before, preempting: event.type === "preemption-begun" });
        return;
      }
      case "host-cordoned":
      case "host-uncordoned":
        judgeHostWord(books, causes, turn, event);
        books.cordon = event.type === "host-cordoned" ? { drainBy: event.drainBy ?? null } : null;
        return;
      case "reserved": {
        const { principal, from, to } = event.booking;
        if (!causes.bookings.has(`${principal} ${to}`)) fault(`${event.booking.id} was made, and nobody had asked`);
        if (from < turn.at || to <= from) fault(`${event.booking.id} is from ${from} to ${to}`);
        books.forgetBooked(turn.at);
        books.bookings.set(event.booking.id, event.booking);
        return;
      }
      case "reservation-cancelled":
        if (!causes.bookings.has(event.bookingId)) fault(`${event.bookingId} was given up, and nobody had said so`);
        books.forgetBooked(turn.at);
        books.bookings.delete(event.bookingId);
        return;
      default:
        this.#followGpu(event, causes, turn);
    }
  }

  /** What windows keep for others, and what MIG makes of one GPU. */
  #judgeParts(
    { id, lease }: Extract<Event, { type: "granted" }>,
    causes: Causes,
    turn: TurnSeen,
    isAdopted: boolean,
  ): void {
    const { books } = this;
    const uuids = lease.gpus.map(({ uuid }) => uuid);
    for (const part of judgeInstances(books, causes, id, uuids)) {
      this.#tally.count("mig", isAdopted ? "an instance adopted" : part);
    }
    // Windows end no use that was there without a lease.
    if (isAdopted) return;
    const { request } = books.live.get(id) as Followed;
    this.#tally.count("window", judgeWindows(books, causes, turn, { request, lease }));
  }

  /** What was said before is not to be sent any more: nothing of this turn is sent at all. */
  #setNotice(id: AllocationId, notice: NoticeBook | null, told: Expected[]): void {
    const { books } = this;
    const before = holding(books, id);
    const standing = told.filter((one) => one.id !== id || one.status !== "preempting");
    told.splice(0, told.length, ...standing);
    for (const [deliveryId, delivery] of books.pending) {
      if (delivery.id === id && delivery.status === "preempting") books.outdated.add(deliveryId);
    }
    books.live.set(id, { ...before, notice });
  }

  #followEnd(event: Extract<Event, { type: "ended" }>, causes: Causes, turn: TurnSeen, told: Expected[]): void {
    const { books } = this;
    const { id, outcome, verify } = event;
    judgeEnd(books, causes, turn, event);
    judgeVerification(books, causes, turn, event);
    const { request, lease, notice } = books.live.get(id) as Followed;
    if (notice !== null) this.#setNotice(id, null, told);
    this.#tally.count("end", outcome.reason);
    books.live.delete(id);
    books.signs.delete(id);
    books.ended.set(id, { reason: outcome.reason, at: outcome.at });
    this.#witness.ended(id, outcome.reason);
    for (const { uuid } of lease?.gpus ?? []) {
      if (lease?.sharedMib != null) this.#letGo(uuid, id, outcome.at, verify.includes(uuid));
      else this.#setGpu(uuid, { hold: verify.includes(uuid) ? "reclaiming" : "free", since: outcome.at });
    }
    const status = TOLD_OF_END[outcome.reason];
    if (status !== null) told.push(...expected(request, status, lease?.fencingToken ?? null));
  }

  #followGpu(event: Event, causes: Causes, turn: TurnSeen): void {
    const { books } = this;
    switch (event.type) {
      case "gpu-seen": {
        const { uuid, name, memoryTotalMib, mig } = event.gpu;
        if (!causes.sights.some(({ moods }) => moods.has(uuid))) fault(`${uuid} was seen, which nobody showed`);
        if (!isDeepStrictEqual(mig, identityOf(uuid))) fault(`${uuid} was seen as ${JSON.stringify(mig)}`);
        this.#setGpu(uuid, { name, totalMib: memoryTotalMib ?? 0, mig });
        return;
      }
      case "use-seen":
        judgeUse(books, causes, turn, event);
        this.#setUse(event.uuid, event.allocationId, { useSeen: true, inUse: true });
        return;
      case "use-gone":
        judgeUseGone(books, causes, event.uuid, event.allocationId);
        this.#setUse(event.uuid, event.allocationId, { inUse: false });
        return;
      case "gpu-lost":
      case "gpu-back":
        judgeLoss(books, event);
        this.#setGpu(event.uuid, { lost: event.type === "gpu-lost" });
        return;
      case "gpu-quarantined":
        judgeQuarantine(books, causes, turn, event.uuid);
        if (books.gpus.get(event.uuid)?.hold === "shared") this.#setGpu(event.uuid, { overdue: true });
        else this.#setGpu(event.uuid, { hold: "quarantined", since: event.at });
        return;
      case "memory-settled":
        judgeSettling(books, causes, event);
        this.#setShare(event.uuid, event.allocationId, { settled: true });
        return;
      case "memory-returned": {
        judgeReturn(books, causes, event.uuid, event.allocationId);
        const { remains: before, overdue } = books.gpus.get(event.uuid) as GpuBook;
        const remains = new Map(before);
        remains.delete(event.allocationId);
        this.#setGpu(event.uuid, { remains, overdue: overdue && remains.size > 0 });
        return;
      }
      case "gpu-gone":
        judgeForgetting(books, causes, turn, event.uuid);
        this.#tally.count("mig", "forgotten");
        books.gpus.delete(event.uuid);
        return;
      case "gpu-freed":
        judgeFreeing(books, causes, event.uuid);
        this.#setGpu(event.uuid, { hold: "free", since: event.at });
        return;
      case "gpu-cordoned":
      case "gpu-uncordoned":
      case "quarantine-cleared":
      case "gpu-removed":
        judgeAdminWord(books, causes, turn, event);
        if (event.type === "gpu-removed") books.gpus.delete(event.uuid);
        else if (event.type === "quarantine-cleared" && books.gpus.get(event.uuid)?.hold === "shared") {
          this.#setGpu(event.uuid, { overdue: false, remains: new Map() });
        } else if (event.type === "quarantine-cleared") this.#setGpu(event.uuid, { hold: "free", since: event.at });
        else this.#setGpu(event.uuid, { cordoned: event.type === "gpu-cordoned", drainBy: event.drainBy ?? null });
        return;
      default:
        fault(`nobody judges ${event.type}`);
    }
  }

  #setGpu(uuid: string, to: Partial<GpuBook>): void {
    this.books.gpus.set(uuid, { ...(this.books.gpus.get(uuid) ?? NEW_GPU), ...to });
  }

  /** A lease has got a part of a GPU. */
  #share(uuid: string, { id, lease, claimBy }: Extract<Event, { type: "granted" }>, baselineMib: number): void {
    const before = this.books.gpus.get(uuid) as GpuBook;
    const since = lease.grantedAt;
    const share: ShareBook = {
      mib: lease.sharedMib ?? 0,
      since,
      startedAt: claimBy === null ? since : null,
      settled: false,
      over: false,
      useSeen: false,
      inUse: false,
      baselineMib,
    };
    const isFirst = before.hold !== "shared";
    const shares = new Map(before.shares).set(id, share);
    this.#setGpu(uuid, { hold: "shared", shares, ...(isFirst ? { since, baselineMib } : {}) });
  }

  #letGo(uuid: string, id: AllocationId, at: EpochMs, isVerified: boolean): void {
    const before = this.books.gpus.get(uuid) as GpuBook;
    const { mib } = before.shares.get(id) as ShareBook;
    const shares = new Map(before.shares);
    shares.delete(id);
    const remains = new Map(before.remains);
    if (isVerified) remains.set(id, { mib, since: at });
    if (shares.size > 0) {
      this.#setGpu(uuid, { shares, remains });
      return;
    }
    // With the last one the whole GPU is given back.
    const left = before.overdue ? "quarantined" : "reclaiming";
    const hold = remains.size === 0 ? "free" : left;
    this.#setGpu(uuid, { hold, since: at, shares, remains: new Map(), overdue: false });
  }

  #sharesOf(id: AllocationId): readonly (readonly [string, ShareBook])[] {
    return [...this.books.gpus].flatMap(([uuid, { shares }]) => {
      const share = shares.get(id);
      return share === undefined ? [] : [[uuid, share] as const];
    });
  }

  #startShares(id: AllocationId, at: EpochMs): void {
    for (const [uuid, { startedAt }] of this.#sharesOf(id)) {
      if (startedAt === null) this.#setShare(uuid, id, { startedAt: at });
    }
  }

  #setShare(uuid: string, id: AllocationId, to: Partial<ShareBook>): void {
    const { shares } = this.books.gpus.get(uuid) as GpuBook;
    this.#setGpu(uuid, { shares: new Map(shares).set(id, { ...(shares.get(id) as ShareBook), ...to }) });
  }

  #setUse(uuid: string, id: AllocationId, to: { readonly useSeen?: true; readonly inUse: boolean }): void {
    if (this.books.gpus.get(uuid)?.hold === "shared") this.#setShare(uuid, id, to);
    else this.#setGpu(uuid, to);
  }

  /** What used a lease without an end is gone with the boot it ran in. */
  #demandRebooted(): void {
    for (const { request, lease } of this.books.live.values()) {
      if (lease !== null && request.ttlMs === null) fault(`${request.id} has no TTL and outlived its boot`);
    }
  }

  /** 10: the rows that came are those that the events call for, in their order. */
  #matchOutbox(view: DurableView, told: readonly Expected[]): void {
    const rows = view.outboxAfter(this.#lastOutboxSeq);
    for (const [i, row] of rows.entries()) {
      const wanted = told[i];
      if (wanted === undefined) breach(10, `${row.allocation_id} is told ${row.status} without a cause`);
      matchRow(row, wanted);
      if (row.state === "pending") {
        this.books.pending.set(row.delivery_id, { id: row.allocation_id, status: row.status });
      } else if (row.state !== "withdrawn") breach(10, `${row.delivery_id} is ${row.state} from the start`);
      this.#lastOutboxSeq = row.seq;
    }
    const missing = told[rows.length];
    if (missing !== undefined) breach(10, `nothing tells of ${missing.id}: ${missing.status}`);
  }

  /** Row numbers of dropped rows are given again. */
  outboxPruned(view: DurableView): void {
    this.#lastOutboxSeq = view.lastOutboxSeq();
  }

  /** The daemon has not run until `now`: whoever lost time by it is owed some. */
  owe(now: EpochMs, policy: HostState["policy"]): void {
    for (const [id, it] of this.books.live) {
      const { lease, claimBy, request } = it;
      if (lease?.expiresAt && lease.expiresAt <= now) {
        this.books.live.set(id, { ...it, owedUntil: now + Math.min(request.ttlMs ?? GRACE_MS, GRACE_MS) });
      }
      if (claimBy === null || claimBy > now) continue;
      const claimOwedUntil = now + patienceMs(request, policy);
      this.books.live.set(id, { ...(this.books.live.get(id) as Followed), claimOwedUntil });
    }
  }

  /** The daemon's clock has been set by `ms` since its last run. */
  move(ms: number): void {
    this.books.move(ms);
    this.folded = movedState(this.folded, ms);
  }

  /** A backup was put in place of the database: the books are those of then, but for what must never be forgotten. */
  rewind(to: Books, folded: HostState, view: DurableView): void {
    const { highestToken } = this.books;
    this.books = new Books(to);
    this.books.highestToken = Math.max(highestToken, to.highestToken);
    this.folded = folded;
    this.outboxPruned(view);
  }
}

const NEW_GPU: GpuBook = {
  name: "",
  totalMib: 0,
  mig: null,
  hold: "free",
  since: Number.NEGATIVE_INFINITY,
  useSeen: false,
  inUse: false,
  baselineMib: 0,
  cordoned: false,
  drainBy: null,
  lost: false,
  foreign: false,
  shares: new Map(),
  remains: new Map(),
  overdue: false,
};

function queued(request: Followed["request"], order: number): Followed {
  return {
    request,
    order,
    status: "queued",
    lease: null,
    claimBy: null,
    idle: false,
    notice: null,
    preempting: false,
    headSince: null,
    trueEndMs: null,
    leadMs: 0,
    owedUntil: Number.NEGATIVE_INFINITY,
    claimOwedUntil: Number.NEGATIVE_INFINITY,
  };
}

function promised(expiresAt: EpochMs | null, { at, trueMs }: TurnSeen) {
  return { trueEndMs: expiresAt === null ? null : trueMs + (expiresAt - at), leadMs: at - trueMs };
}

function expected({ id, webhookUrl }: Followed["request"], status: NotificationStatus, token: number | null) {
  return webhookUrl === null ? [] : [{ id, status, url: webhookUrl, token }];
}

function matchRow(row: OutboxRow, wanted: Expected): void {
  const body = JSON.parse(row.body) as { status: string; request_id?: string; allocation?: { fencing_token?: number } };
  const isRight =
    row.allocation_id === wanted.id &&
    row.status === wanted.status &&
    row.url === wanted.url &&
    body.status === wanted.status &&
    (body.request_id ?? null) === wanted.id &&
    (body.allocation?.fencing_token ?? null) === wanted.token;
  if (!isRight) breach(10, `${row.body} is told where ${wanted.id} should be told ${wanted.status}`);
}
