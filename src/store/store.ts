/**
 * The daemon's memory: one SQLite file that holds the state after the last turn, the journal of how it came about,
 * and the webhooks still to be sent.
 *
 * 1. A turn is one transaction. When `commit` returns it is on disk; when it throws, nothing of it is.
 * 2. After a failure the store works again by itself as soon as the cause has gone: it keeps no state of its own
 *    that a failed turn could have moved (what it remembers of the rows moves after COMMIT).
 * 3. `live_leases` has one row per GPU of every offered or leased allocation. The GPU is its key, so the database
 *    itself refuses a breach of design.md's invariant 1.
 * 4. Sequence numbers of events only grow, also when the journal has been pruned to nothing.
 */
import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { Event } from "../core/events.ts";
import type { Allocation, AllocationId, EndedAllocation, EpochMs, Lease, LiveAllocation } from "../core/model.ts";
import type {
  AllocationQuery,
  DeliverySettlement,
  NotificationStatus,
  Outbox,
  PendingDelivery,
  Store,
  StoredState,
  Turn,
} from "../scheduler/ports.ts";
import { storeFailure } from "./errors.ts";
import { openDatabase, refusal } from "./open.ts";
import { type Pruned, pruneDatabase } from "./prune.ts";
import {
  type AllocationRow,
  decodeAllocation,
  decodeEvents,
  decodeGpu,
  decodeState,
  encodeGpu,
  TurnTexts,
} from "./records.ts";
import { listSql, prepareStatements, type Statements } from "./statements.ts";

/** Contract: ended records are kept at least this long. */
export const MIN_RETENTION_MS = 30 * 24 * 3_600_000;
/** Turns fetched from the file at a time by {@link SqliteStore.readJournal}. */
const JOURNAL_PAGE_TURNS = 100;

export interface StoreSettings {
  /** A file, made with its folder when missing, or `:memory:`. */
  readonly path: string;
  /** How long ended records, settled deliveries and events are kept; at least {@link MIN_RETENTION_MS}. */
  readonly retentionMs: number;
}

export interface JournalEntry {
  readonly seq: number;
  readonly at: EpochMs;
  readonly event: Event;
}

/** The state after event `seq`: what the journal folds from. */
export interface Snapshot {
  readonly seq: number;
  readonly at: EpochMs;
  readonly state: StoredState;
}

/**
 * Opens the store alone: a second one on the same file is refused for as long as this process lives.
 *
 * @throws StoreRefusedError with a message that says what to do.
 */
export function openStore(settings: StoreSettings): SqliteStore {
  const { database, close } = openDatabase(settings.path);
  try {
    return new SqliteStore(database, settings.retentionMs, close);
  } catch (error) {
    close();
    throw refusal(error, settings.path);
  }
}

export class SqliteStore implements Store, Outbox {
  readonly #database: DatabaseSync;
  readonly #statements: Statements;
  readonly #listings = new Map<string, StatementSync>();
  readonly #retentionMs: number;
  readonly #close: () => void;

  /** The live rows, and the lease that each holds in the file: what need not be written again. See 2. */
  readonly #live = new Map<AllocationId, Lease | null>();
  #lastSeq = 0;
  #nextFencingToken: number | null = null;
  #bootId: string | null = null;

  /** Takes over `database`, opened and migrated by `openDatabase`; `close` is what ends it. */
  constructor(database: DatabaseSync, retentionMs: number, close: () => void) {
    if (!(retentionMs >= MIN_RETENTION_MS)) {
      throw new RangeError(`records are kept ${MIN_RETENTION_MS} ms at least, not ${retentionMs}`);
    }
    this.#database = database;
    this.#retentionMs = retentionMs;
    this.#close = close;
    this.#statements = prepareStatements(database);
    this.#recall();
  }

  load(): StoredState {
    return this.#guarded(() => this.#recall());
  }

  /**
   * @throws StorageUnavailableError when the disk or another program stands in the way: nothing was written.
   * @throws Error when the turn breaks a constraint, which only a bug can cause: nothing was written either.
   */
  commit(turn: Turn): void {
    this.#transact(() => this.#writeTurn(turn));
    for (const allocation of turn.allocations) {
      if (allocation.status === "ended") this.#live.delete(allocation.request.id);
      else this.#live.set(allocation.request.id, leaseOf(allocation));
    }
    this.#lastSeq += turn.events.length;
    this.#nextFencingToken = turn.nextFencingToken;
    this.#bootId = turn.bootId;
  }

  findEnded(id: AllocationId): EndedAllocation | undefined {
    return this.#guarded(() => {
      const row = this.#statements.endedAllocation.get(id) as AllocationRow | undefined;
      return row === undefined ? undefined : (decodeAllocation(row) as EndedAllocation);
    });
  }

  /** An unknown `before` is the end of every listing: the page is empty. */
  list(query: AllocationQuery): readonly Allocation[] {
    return this.#guarded(() => {
      const parameters: (string | number)[] = [];
      if (query.status !== null) parameters.push(query.status);
      if (query.serviceName !== null) parameters.push(query.serviceName);
      if (query.principal !== null) parameters.push(query.principal);
      if (query.before !== null) {
        const cursor = this.#statements.submittedAt.get(query.before) as { submitted_at: number } | undefined;
        if (cursor === undefined) return [];
        parameters.push(cursor.submitted_at, query.before);
      }
      parameters.push(query.limit);
      return this.#listing(query)
        .all(...parameters)
        .map((row) => decodeAllocation(row as unknown as AllocationRow));
    });
  }

  due(now: EpochMs, limit: number): readonly PendingDelivery[] {
    return this.#guarded(() => this.#statements.dueDeliveries.all(now, limit).map(pendingDelivery));
  }

  nextDueAt(): EpochMs | null {
    return this.#guarded(() => (this.#statements.nextDueAt.get() as { at: number | null }).at);
  }

  /** Events after `afterSeq`, oldest first; from the oldest kept when it is 0. Commits may happen between two of them. */
  *readJournal(afterSeq = 0): Generator<JournalEntry, void, undefined> {
    for (let last = afterSeq; ; ) {
      const rows = this.#guarded(() => this.#statements.turnsAfter.all(last, JOURNAL_PAGE_TURNS)) as unknown as {
        seq: number;
        at: number;
        events: string;
      }[];
      for (const row of rows) {
        const events = decodeEvents(row.events);
        for (const [i, event] of events.entries()) {
          const seq = row.seq - events.length + 1 + i;
          if (seq > afterSeq) yield { seq, at: row.at, event };
        }
        last = row.seq;
      }
      if (rows.length < JOURNAL_PAGE_TURNS) return;
    }
  }

  /** `null`: none was taken yet, and the journal is whole from its first event on. */
  latestSnapshot(): Snapshot | null {
    return this.#guarded(() => {
      const row = this.#statements.latestSnapshot.get() as { seq: number; at: number; state: string } | undefined;
      return row === undefined ? null : { seq: row.seq, at: row.at, state: decodeState(row.state) };
    });
  }

  /**
   * Drops what has been kept long enough, a bounded part of it per call. Live records, undelivered webhooks with
   * their records, and the journal since its last snapshot always stay.
   *
   * @returns what was dropped; `more` when another call would find more.
   * @throws StorageUnavailableError when nothing was dropped.
   */
  prune(now: EpochMs): Pruned {
    return this.#transact(() =>
      pruneDatabase(this.#statements, {
        now,
        keepAfter: now - this.#retentionMs,
        lastSeq: this.#lastSeq,
        snapshot: () => JSON.stringify(this.#readState()),
      }),
    );
  }

  /** Folds the log into the file and lets the next process in. Nothing else may be called afterwards. */
  close(): void {
    this.#close();
  }

  #recall(): StoredState {
    const state = this.#readState();
    this.#live.clear();
    for (const allocation of state.allocations) this.#live.set(allocation.request.id, leaseOf(allocation));
    this.#nextFencingToken = state.nextFencingToken;
    this.#bootId = state.bootId;
    this.#lastSeq = (this.#statements.lastSeq.get() as { seq: number }).seq;
    return state;
  }

  #readState(): StoredState {
    const statements = this.#statements;
    const lastTurnAt = this.#readMeta("last_turn_at");
    const fencing = this.#readMeta("next_fencing_token");
    return {
      allocations: statements.liveAllocations
        .all()
        .map((row) => decodeAllocation(row as unknown as AllocationRow) as LiveAllocation),
      gpus: statements.readGpus.all().map((row) => decodeGpu(row.body as string)),
      nextFencingToken: fencing === null ? 1 : Number(fencing),
      bootId: this.#readMeta("boot_id"),
      lastTurnAt: lastTurnAt === null ? null : Number(lastTurnAt),
    };
  }

  #readMeta(key: string): string | null {
    const row = this.#statements.readMeta.get(key) as { value: string } | undefined;
    return row?.value ?? null;
  }

  #listing(query: AllocationQuery): StatementSync {
    const sql = listSql(query);
    let statement = this.#listings.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#listings.set(sql, statement);
    }
    return statement;
  }

  /** In this order, because a lease's row refers to its allocation and its GPU, and a GPU may change hands in one turn. */
  #writeTurn(turn: Turn): void {
    const statements = this.#statements;
    const texts = new TurnTexts();
    for (const gpu of turn.gpus) statements.writeGpu.run(gpu.uuid, encodeGpu(gpu));
    for (const allocation of turn.allocations) this.#writeAllocation(allocation, texts);
    for (const allocation of turn.allocations) this.#holdGpus(allocation);

    if (turn.events.length > 0) {
      statements.appendEvents.run(this.#lastSeq + turn.events.length, turn.at, texts.events(turn.events));
    }

    for (const notification of turn.notifications) {
      const { deliveryId, allocationId, status, url, body, createdAt } = notification;
      statements.insertDelivery.run(deliveryId, allocationId, status, url, body, createdAt);
    }
    for (const settlement of turn.settlements) this.#settle(settlement);
    for (const id of turn.withdrawn) statements.withdrawGrant.run(turn.at, id);

    statements.writeMeta.run("last_turn_at", String(turn.at));
    if (turn.nextFencingToken !== this.#nextFencingToken) {
      statements.writeMeta.run("next_fencing_token", String(turn.nextFencingToken));
    }
    if (turn.bootId !== this.#bootId && turn.bootId !== null) statements.writeMeta.run("boot_id", turn.bootId);
  }

  /** Writes the row, and lets go of the GPUs that it no longer holds. */
  #writeAllocation(allocation: Allocation, texts: TurnTexts): void {
    const statements = this.#statements;
    const { request, status } = allocation;
    const lease = leaseOf(allocation);
    const claimBy = status === "offered" ? allocation.claimBy : null;
    const outcome = status === "ended" ? allocation.outcome : null;
    const standing = [status, claimBy, outcome?.at ?? null, outcome?.reason ?? null, outcome?.detail ?? null] as const;
    const stored = this.#live.get(request.id);
    if (stored === undefined) {
      const { id, serviceName, principal, submittedAt } = request;
      const leaseText = lease === null ? null : texts.lease(lease);
      const requestText = texts.request(request);
      statements.insertAllocation.run(id, serviceName, principal, submittedAt, ...standing, leaseText, requestText);
      return;
    }
    if (lease === stored) statements.updateStanding.run(...standing, request.id);
    else statements.updateWithLease.run(...standing, lease === null ? null : texts.lease(lease), request.id);
    for (const gpu of stored?.gpus ?? []) {
      if (!holds(allocation, gpu.uuid)) statements.letGoGpu.run(gpu.uuid, request.id);
    }
  }

  #holdGpus(allocation: Allocation): void {
    if (allocation.status === "queued" || allocation.status === "ended") return;
    const stored = this.#live.get(allocation.request.id)?.gpus;
    if (stored === allocation.lease.gpus) return;
    for (const gpu of allocation.lease.gpus) {
      const held = stored?.some((other) => other.uuid === gpu.uuid) ?? false;
      if (!held) this.#statements.holdGpu.run(gpu.uuid, allocation.request.id);
    }
  }

  /** Only a row that is still pending takes a settlement: what was delivered or withdrawn stays so. */
  #settle(settlement: DeliverySettlement): void {
    const retry = settlement.outcome === "retry";
    // A back-off with jitter need not be whole milliseconds; later is never too early.
    const nextAttemptAt = settlement.nextAttemptAt === null ? null : Math.ceil(settlement.nextAttemptAt);
    this.#statements.settleDelivery.run(
      retry ? "pending" : settlement.outcome,
      retry ? nextAttemptAt : null,
      retry ? null : settlement.at,
      settlement.at,
      settlement.httpStatus,
      settlement.error,
      settlement.deliveryId,
    );
  }

  /** Runs `write` as one transaction: all of it is on disk afterwards, or nothing of it anywhere. */
  #transact<T>(write: () => T): T {
    const statements = this.#statements;
    try {
      // A ROLLBACK that failed, as it may on a failing disk, is made up for here.
      if (this.#database.isTransaction) statements.rollback.run();
      statements.begin.run();
      const result = write();
      statements.commit.run();
      return result;
    } catch (error) {
      this.#rollBack();
      throw storeFailure(error);
    }
  }

  #rollBack(): void {
    // SQLite has rolled back by itself after some errors, a full disk among them.
    if (!this.#database.isTransaction) return;
    try {
      this.#statements.rollback.run();
    } catch {
      // The first error is the one to tell; the next transaction tries again.
    }
  }

  #guarded<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      throw storeFailure(error);
    }
  }
}

function leaseOf(allocation: Allocation): Lease | null {
  return allocation.status === "queued" ? null : allocation.lease;
}

function holds(allocation: Allocation, uuid: string): boolean {
  if (allocation.status === "queued" || allocation.status === "ended") return false;
  return allocation.lease.gpus.some((gpu) => gpu.uuid === uuid);
}

function pendingDelivery(row: Record<string, unknown>): PendingDelivery {
  return {
    deliveryId: row.delivery_id as string,
    allocationId: row.allocation_id as AllocationId,
    status: row.status as NotificationStatus,
    url: row.url as string,
    body: row.body as string,
    createdAt: row.created_at as EpochMs,
    attempts: row.attempts as number,
    nextAttemptAt: row.next_attempt_at as EpochMs,
  };
}
