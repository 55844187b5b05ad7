/**
 * The daemon's memory: one SQLite file that holds the state after the last turn, the journal of how it came about,
 * and the webhooks still to be sent.
 *
 * 1. A turn is one transaction. When `commit` resolves it is on disk; when it rejects, nothing of it is. That holds
 *    too when the writing thread dies under it: the file is asked then.
 * 2. After a failure the store works again by itself as soon as the cause has gone: it keeps no state of its own
 *    that a failed turn could have moved (what it remembers of the rows moves when the turn is known to be on disk).
 * 3. Transactions are written by a thread of their own, and read by the calling one on a second connection. A read sees
 *    every turn that was acknowledged, and none that is not on disk; one that is on disk but whose acknowledgement is
 *    still on its way may be seen already.
 * 4. `live_leases` has one row per GPU of every offered or leased allocation. The GPU is its key, so the database
 *    itself refuses a breach of design.md's invariant 1.
 * 5. Sequence numbers of events only grow, also when the journal has been pruned to nothing.
 */
import type { StatementSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import type { EpochMs } from "../core/base/time.ts";
import type { Allocation, EndedAllocation } from "../core/model/allocation.ts";
import type { AllocationId, GpuUuid } from "../core/model/ids.ts";
import type { TimeRecord } from "../platform/clock.ts";
import type { AuditEntry, AuditPage, AuditQuery, AuditStore } from "../ports/audit.ts";
import type { GpuChange, HistoryStore } from "../ports/history.ts";
import type { KeyStore, KeyUse, StoredKey } from "../ports/keys.ts";
import type { Learned, LearnedStore } from "../ports/learned.ts";
import { StorageUnavailableError } from "../ports/refusals.ts";
import type {
  AllocationQuery,
  EndedLeasePage,
  EndedLeaseQuery,
  JournalEntry,
  KeptKey,
  LiveRecords,
  Store,
  StoredState,
  Turn,
} from "../ports/store.ts";
import type {
  DeliveryQuery,
  DeliveryRecord,
  DeliveryState,
  NotificationStatus,
  Outbox,
  PendingDelivery,
} from "../ports/webhooks.ts";
import { auditWrite, readAudit } from "./audit.ts";
import { storeFailure, WriterDiedError } from "./errors.ts";
import { FileWatch } from "./file-watch.ts";
import { historyCuts, historyWrites, readChanges, readHistoryUntil, readLastChanges } from "./history.ts";
import { keyUse, storedKey } from "./keys.ts";
import { Ledger } from "./ledger.ts";
import { type OpenDatabase, openDatabase, refusal } from "./open.ts";
import type { Pruned } from "./prune.ts";
import { readState, readTurns } from "./read-state.ts";
import {
  type AllocationRow,
  decodeAllocation,
  decodeEndedLease,
  decodeEvents,
  decodeState,
  type EndedLeaseRow,
} from "./records.ts";
import { readLastTime, type StartTime } from "./start-time.ts";
import { listDeliveriesSql, listSql, prepareReads, type Reads, type Write } from "./statements.ts";
import { type Job, LocalWriter, type Writer } from "./writer.ts";
import { WriterThread } from "./writer-thread.ts";

/** Contract: ended records are kept at least this long. */
export const MIN_RETENTION_MS = 30 * 24 * 3_600_000;
/** Events fetched from the file at a time by {@link SqliteStore.readJournal}. */
const JOURNAL_PAGE_EVENTS = 1_000;
/** A page of events ends with the turn that brings its text to this: a request may carry 64 KiB. */
const PAGE_CHARACTERS = 256 * 1024;
/** Transactions that may wait for the one under way. The scheduler sends one at a time, and pruning another. */
const MAX_WAITING = 1_000;
/** Between two attempts to find out whether a turn is on disk. */
const ASK_FILE_AGAIN_MS = 100;

export interface StoreSettings {
  /** A file, made with its folder when missing, or `:memory:`. */
  readonly path: string;
  /** How long ended records, settled deliveries and events are kept; at least {@link MIN_RETENTION_MS}. */
  readonly retentionMs: number;
  /** How long the audit is kept; as long as the others when left out. */
  readonly auditRetentionMs?: number;
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
  const opened = openDatabase(settings.path);
  try {
    const { file, single, database } = opened;
    const writer = file === null || single ? new LocalWriter(database) : new WriterThread(file, database);
    return new SqliteStore(opened, settings.retentionMs, writer, settings.auditRetentionMs);
  } catch (error) {
    opened.close();
    throw refusal(error, settings.path);
  }
}

export class SqliteStore implements Store, Outbox, HistoryStore, LearnedStore, AuditStore, KeyStore {
  readonly #opened: OpenDatabase;
  readonly #reads: Reads;
  readonly #listings = new Map<string, StatementSync>();
  readonly #retentionMs: number;
  readonly #auditRetentionMs: number;
  readonly #writer: Writer;
  /** `null`: in memory. */
  readonly #watch: FileWatch | null;
  #trouble: string | null = null;
  #ledger: Ledger;
  /** Settles, and never rejects, when the last transaction that was asked for has. */
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #closed: Promise<void> | null = null;

  /** Takes over `opened` and `writer`, which writes to the same database. */
  constructor(opened: OpenDatabase, retentionMs: number, writer: Writer, auditRetentionMs = retentionMs) {
    if (!(retentionMs >= MIN_RETENTION_MS)) {
      throw new RangeError(`records are kept ${MIN_RETENTION_MS} ms at least, not ${retentionMs}`);
    }
    this.#opened = opened;
    this.#retentionMs = retentionMs;
    this.#auditRetentionMs = auditRetentionMs;
    this.#writer = writer;
    this.#watch = opened.file === null ? null : new FileWatch(opened.file);
    this.#reads = prepareReads(opened.database);
    this.#ledger = this.#newLedger();
  }

  #newLedger(): Ledger {
    return new Ledger(readState(this.#reads), readTurns(this.#reads));
  }

  /** When the daemon last ran, as far as it is written down; `null`: never. */
  lastTime(): TimeRecord | null {
    return this.#guarded(() => readLastTime(this.#reads));
  }

  /**
   * Writes down the clock of this run, and moves the instants that depend on it; comes before `load` and all turns.
   *
   * @throws StorageUnavailableError when nothing was written.
   */
  begin(time: StartTime): Promise<void> {
    return this.#inOrder(async () => {
      try {
        await this.#writer.run({ type: "start", time });
      } catch (error) {
        throw storeFailure(error);
      }
      this.#ledger = this.#newLedger();
    });
  }

  /**
   * Looks whether the file is still there and the same; while it is not, nothing is committed.
   *
   * @returns what is wrong with it, and what to do; `null`: nothing.
   */
  checkFile(): string | null {
    this.#trouble = this.#watch?.trouble() ?? null;
    return this.#trouble;
  }

  load(): StoredState {
    return this.#guarded(() => {
      const { database } = this.#opened;
      // A local writer's transaction never spans two turns of the event loop, so there is none now.
      database.exec("BEGIN");
      try {
        return readState(this.#reads);
      } finally {
        database.exec("ROLLBACK");
      }
    });
  }

  /**
   * @throws StorageUnavailableError when the disk or another program stands in the way: nothing was written.
   * @throws Error when the turn breaks a constraint, which only a bug can cause: nothing was written either.
   */
  get commitsAside(): boolean {
    return this.#writer.runsAside;
  }

  commit(turn: Turn): Promise<void> {
    return this.#inOrder(async () => {
      if (this.#trouble !== null) throw new StorageUnavailableError(this.#trouble);
      const { writes, turns, acknowledge } = this.#ledger.plan(turn);
      try {
        await this.#writer.run({ type: "write", writes });
      } catch (error) {
        if (!(error instanceof WriterDiedError && (await this.#isOnDisk(turns)))) throw storeFailure(error);
      }
      acknowledge();
    });
  }

  findEnded(id: AllocationId): EndedAllocation | undefined {
    return this.#guarded(() => {
      const row = this.#reads.endedAllocation.get(id) as AllocationRow | undefined;
      return row === undefined ? undefined : (decodeAllocation(row) as EndedAllocation);
    });
  }

  findKey(principal: string, key: string): KeptKey | undefined {
    return this.#guarded(() => {
      const row = this.#reads.key.get(principal, key) as KeyRow | undefined;
      if (row === undefined) return undefined;
      const { fingerprint, at, ids } = row;
      return { principal, key, fingerprint, at, ids: JSON.parse(ids) as AllocationId[] };
    });
  }

  /** An unknown `before` is the end of every listing: the page is empty. */
  list(query: AllocationQuery, liveOf: LiveRecords = NONE_AT_HAND): readonly Allocation[] {
    return this.#guarded(() => {
      const parameters: (string | number)[] = [];
      if (query.status !== null) parameters.push(query.status);
      if (query.serviceName !== null) parameters.push(query.serviceName);
      if (query.principal !== null) parameters.push(query.principal);
      if (query.before !== null) {
        const cursor = this.#reads.submittedAt.get(query.before) as { submitted_at: number } | undefined;
        if (cursor === undefined) return [];
        parameters.push(cursor.submitted_at, query.before);
      }
      parameters.push(query.limit);
      return this.#listing(listSql(query))
        .all(...parameters)
        .map((row) => this.#listed(row as unknown as LiveRow, liveOf));
    });
  }

  #listed(row: LiveRow, liveOf: LiveRecords): Allocation {
    if (row.ended_at !== null) return decodeAllocation(row as LiveRow & AllocationRow);
    const live = liveOf(row.id);
    // The file may be a turn ahead of the state: see 3.
    if (live?.status === row.status) return live;
    return decodeAllocation(this.#reads.allocation.get(row.id) as unknown as AllocationRow);
  }

  findDelivery(deliveryId: string): DeliveryRecord | undefined {
    return this.#guarded(() => {
      const row = this.#reads.delivery.get(deliveryId);
      return row === undefined ? undefined : deliveryRecord(row);
    });
  }

  listDeliveries(query: DeliveryQuery): readonly DeliveryRecord[] {
    return this.#guarded(() => {
      const parameters: (string | number)[] = [];
      if (query.state !== null) parameters.push(query.state);
      if (query.allocationId !== null) parameters.push(query.allocationId);
      if (query.before !== null) {
        const cursor = this.#reads.deliverySeq.get(query.before) as { seq: number } | undefined;
        if (cursor === undefined) return [];
        parameters.push(cursor.seq);
      }
      parameters.push(query.limit);
      return this.#listing(listDeliveriesSql(query))
        .all(...parameters)
        .map(deliveryRecord);
    });
  }

  endedLeases({ endedAfter, submittedBefore, after, limit }: EndedLeaseQuery): EndedLeasePage {
    return this.#guarded(() => {
      const cursor = after ?? { endedAt: endedAfter, row: Number.MAX_SAFE_INTEGER };
      const found = this.#reads.endedLeases.all(cursor.endedAt, cursor.row, limit);
      const rows = found as unknown as EndedLeaseRow[];
      const last = rows.length < limit ? undefined : rows.at(-1);
      return {
        leases: rows.filter((row) => row.submitted_at < submittedBefore).map(decodeEndedLease),
        next: last === undefined ? null : { endedAt: last.ended_at, row: last.rowid },
      };
    });
  }

  keepHistory(changes: readonly GpuChange[], now: EpochMs): Promise<void> {
    return this.#inOrder(async () => {
      try {
        await this.#writer.run({ type: "write", writes: [...historyWrites(changes, now), ...historyCuts(now)] });
      } catch (error) {
        throw storeFailure(error);
      }
    });
  }

  historyUntil(): EpochMs | null {
    return this.#guarded(() => readHistoryUntil(this.#reads));
  }

  gpuChanges(from: EpochMs, to: EpochMs, limit: number): readonly GpuChange[] {
    return this.#guarded(() => readChanges(this.#reads, from, to, limit));
  }

  lastChanges(uuids: readonly GpuUuid[], at: EpochMs): readonly GpuChange[] {
    return this.#guarded(() => readLastChanges(this.#reads, uuids, at));
  }

  completeFrom(): EpochMs | null {
    return this.#guarded(() => {
      const row = this.#reads.completeFrom.get() as { complete_from: number | null } | undefined;
      return row?.complete_from ?? null;
    });
  }

  due(now: EpochMs, limit: number): readonly PendingDelivery[] {
    return this.#guarded(() => this.#reads.dueDeliveries.all(now, limit).map(pendingDelivery));
  }

  /** Webhooks of a principal that are still to be delivered, counted up to `atMost`. */
  pendingDeliveries(principal: string, atMost: number): number {
    return this.#guarded(() => (this.#reads.pendingOf.get(principal, atMost) as { n: number }).n);
  }

  nextDueAt(): EpochMs | null {
    return this.#guarded(() => (this.#reads.nextDueAt.get() as { at: number | null }).at);
  }

  /** Events after `afterSeq`, oldest first; from the oldest kept when it is 0. Commits may happen between two of them. */
  *readJournal(afterSeq = 0): Generator<JournalEntry, void, undefined> {
    for (let last = afterSeq; ; ) {
      const page = this.readEvents(last, JOURNAL_PAGE_EVENTS);
      yield* page;
      const end = page.at(-1);
      if (end === undefined) return;
      last = end.seq;
    }
  }

  readEvents(afterSeq: number, limit: number): readonly JournalEntry[] {
    return this.#guarded(() => {
      const page: JournalEntry[] = [];
      let characters = 0;
      // One statement, so that pruning cannot come between two of its rows.
      for (const row of this.#reads.turnsAfter.iterate(afterSeq, limit)) {
        const { seq: lastOfTurn, at, events: text } = row as unknown as { seq: number; at: EpochMs; events: string };
        const events = decodeEvents(text);
        const first = lastOfTurn - events.length + 1;
        // A gap: pruning drops turns by their time, and times may go back where the clock was set between two runs.
        if (page.length > 0 && first > (page.at(-1)?.seq ?? 0) + 1) break;
        const from = Math.max(0, afterSeq + 1 - first);
        for (let i = from; i < events.length && page.length < limit; i++) {
          page.push({ seq: first + i, at, event: events[i] as JournalEntry["event"] });
        }
        characters += text.length;
        if (page.length >= limit || characters >= PAGE_CHARACTERS) break;
      }
      return page;
    });
  }

  /** `null`: none was taken yet, and the journal is whole from its first event on. */
  latestSnapshot(): Snapshot | null {
    return this.#guarded(() => {
      const row = this.#reads.latestSnapshot.get() as { seq: number; at: number; state: string } | undefined;
      return row === undefined ? null : { seq: row.seq, at: row.at, state: decodeState(row.state) };
    });
  }

  /**
   * Drops what has been kept long enough, a bounded part of it per call. Live records, undelivered webhooks with
   * their records, and the journal since its last snapshot always stay.
   *
   * @returns what was dropped; `more` when another call would find more.
   * @throws StorageUnavailableError when nothing was dropped, or when the writing thread died: call it again.
   */
  prune(now: EpochMs): Promise<Pruned> {
    return this.#inOrder(async () => {
      const keepAuditAfter = now - this.#auditRetentionMs;
      const job: Job = { type: "prune", now, keepAfter: now - this.#retentionMs, keepAuditAfter };
      try {
        return (await this.#writer.run(job)) as Pruned;
      } catch (error) {
        throw storeFailure(error);
      }
    });
  }

  loadLearned(): readonly Learned[] {
    return this.#guarded(() =>
      (this.#reads.learned.all() as { body: string }[]).map(({ body }) => JSON.parse(body) as Learned),
    );
  }

  saveLearned(learned: Learned): Promise<void> {
    return this.#write([["learn", learned.key, learned.lastAt, JSON.stringify(learned)]]);
  }

  forgetLearned(key: string | null, entry: AuditEntry | null = null): Promise<void> {
    const audited = entry === null ? [] : [auditWrite(entry)];
    return this.#write([["forgetLearned", key], ...audited]);
  }

  keepAudit(entries: readonly AuditEntry[]): Promise<void> {
    return this.#write(entries.map(auditWrite));
  }

  audit(query: AuditQuery): AuditPage {
    return this.#guarded(() => readAudit(this.#reads, query));
  }

  loadKeys(): readonly StoredKey[] {
    return this.#guarded(() => this.#reads.apiKeys.all().map(storedKey));
  }

  loadKeyUses(): readonly KeyUse[] {
    return this.#guarded(() => this.#reads.keyUses.all().map(keyUse));
  }

  addKey({ sha256, principal, role, createdAt, expiresAt }: StoredKey, entry: AuditEntry): Promise<void> {
    return this.#write([["addApiKey", sha256, principal, role, createdAt, expiresAt], auditWrite(entry)]);
  }

  dropKey(sha256: string, entry: AuditEntry): Promise<void> {
    return this.#write([["dropApiKey", sha256], auditWrite(entry)]);
  }

  noteKeyUses(uses: readonly KeyUse[], given: readonly string[]): Promise<void> {
    const noted = uses.map(({ keyId, at }): Write => ["noteKeyUse", keyId, at]);
    return this.#write([...noted, ["dropKeyUses", JSON.stringify(given)]]);
  }

  /** What is no turn. */
  #write(writes: readonly Write[]): Promise<void> {
    return this.#inOrder(async () => {
      try {
        const job: Job = { type: "write", writes };
        await this.#writer.run(job);
      } catch (error) {
        throw storeFailure(error);
      }
    });
  }

  /**
   * Waits for the transactions that were asked for, folds the log into the file and lets the next process in. Nothing
   * else may be called afterwards. A second call waits for the same.
   */
  close(): Promise<void> {
    this.#closed ??= this.#shut(this.#last);
    return this.#closed;
  }

  async #shut(last: Promise<unknown>): Promise<void> {
    await last;
    // The writer's connection is the last, so that it folds the log in; the lock goes when nobody writes any more.
    this.#opened.database.close();
    await this.#writer.close();
    this.#opened.close();
  }

  /** Runs `work` when all before it is done. */
  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed !== null) return Promise.reject(new StorageUnavailableError("the database is closed"));
    if (this.#waiting >= MAX_WAITING) return Promise.reject(new StorageUnavailableError("the database is too busy"));
    this.#waiting += 1;
    // At once where nothing is under way: the thread can begin while the caller goes on.
    const begun = this.#waiting === 1 ? work() : this.#last.then(work);
    const done = begun.finally(() => {
      this.#waiting -= 1;
    });
    this.#last = done.catch(() => undefined);
    return done;
  }

  /** See 1. Asks until the file answers: either other answer could be wrong. */
  async #isOnDisk(turns: number): Promise<boolean> {
    for (;;) {
      try {
        return readTurns(this.#reads) === turns;
      } catch {
        await sleep(ASK_FILE_AGAIN_MS);
      }
    }
  }

  #listing(sql: string): StatementSync {
    let statement = this.#listings.get(sql);
    if (statement === undefined) {
      statement = this.#opened.database.prepare(sql);
      this.#listings.set(sql, statement);
    }
    return statement;
  }

  #guarded<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      throw storeFailure(error);
    }
  }
}

/** What a listing reads of a live record. */
type LiveRow = Pick<AllocationRow, "status" | "ended_at"> & { readonly id: AllocationId };

const NONE_AT_HAND: LiveRecords = () => undefined;

interface KeyRow {
  readonly fingerprint: string;
  readonly at: EpochMs;
  readonly ids: string;
}

function deliveryRecord(row: Record<string, unknown>): DeliveryRecord {
  return {
    deliveryId: row.delivery_id as string,
    allocationId: row.allocation_id as AllocationId | null,
    status: row.status as NotificationStatus,
    url: row.url as string,
    createdAt: row.created_at as EpochMs,
    state: row.state as DeliveryState,
    attempts: row.attempts as number,
    nextAttemptAt: row.next_attempt_at as EpochMs | null,
    lastAttemptAt: row.last_attempt_at as EpochMs | null,
    settledAt: row.settled_at as EpochMs | null,
    httpStatus: row.http_status as number | null,
    error: row.error as string | null,
  };
}

function pendingDelivery(row: Record<string, unknown>): PendingDelivery {
  return {
    deliveryId: row.delivery_id as string,
    allocationId: row.allocation_id as AllocationId | null,
    principal: row.owner as string | null,
    status: row.status as NotificationStatus,
    url: row.url as string,
    body: row.body as string,
    createdAt: row.created_at as EpochMs,
    attempts: row.attempts as number,
    nextAttemptAt: row.next_attempt_at as EpochMs,
  };
}
