/** Work's books on disk: a SQLite file of their own, in which each row is a record as it stands. */
import { closeSync, mkdirSync, openSync } from "node:fs";
import { dirname, join, parse, resolve } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { sortableIds } from "../platform/ids.ts";
import { WorkError } from "../work/errors.ts";
import type { Run, Task, Worker, Workload } from "../work/model.ts";
import type { StoredWork, WorkState } from "../work/state.ts";
import { type BooksTime, CLOCK_TABLE, moveTo } from "./books-time.ts";
import { DELIVERIES_TABLE, DeliveryRows, type TaskDelivery, type TaskSettlement } from "./deliveries.ts";

/** Marks the file as ours, in the header's application id: the letters `GpuW`. */
const APPLICATION_ID = 0x47707557;

/** Entry n leads from version n to n + 1. Never edited once released: add one. */
const MIGRATIONS: readonly string[] = [
  `
  -- One row: which books these are. Runs bear the name, so that those of lost books are not taken for these.
  CREATE TABLE books (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    name TEXT NOT NULL,
    last_epoch INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE tasks (id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE workloads (uid TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE runs (id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE workers (node TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
  -- Of requests that made something, with it in one transaction.
  CREATE TABLE idempotency_keys (
    principal TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    at INTEGER NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (principal, key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX idempotency_keys_by_age ON idempotency_keys (at);
  `,
  DELIVERIES_TABLE,
  CLOCK_TABLE,
];

/** What a turn has changed: each by its key, with the record or `undefined` for one that is gone. */
export interface Changes {
  readonly tasks: ReadonlySet<string>;
  readonly workloads: ReadonlySet<string>;
  readonly runs: ReadonlySet<string>;
  readonly workers: ReadonlySet<string>;
}

export interface KeptKey {
  readonly principal: string;
  readonly key: string;
  readonly fingerprint: string;
  readonly id: string;
}

/** Of the database of leases by default: then the books' is simply `work.db`. */
const USUAL_NAME = "gpu-orchestrator";

/** Where they lie: beside the database of leases, with its name, so that each has its own. */
export function workDatabaseBeside(storagePath: string): string {
  if (storagePath === ":memory:") return ":memory:";
  const { dir, name } = parse(resolve(storagePath));
  return join(dir, name === USUAL_NAME ? "work.db" : `${name}.work.db`);
}

/** Keeps other processes from a file until what comes back is closed. @throws Error when another one has it. */
export type TakeLock = (file: string) => { close(): void };

const KEY_LIFE_MS = 86_400_000;
const BUSY_TIMEOUT_MS = 500;
const TABLES = { tasks: "id", workloads: "uid", runs: "id", workers: "node" } as const;
type Table = keyof typeof TABLES;

export class WorkStore {
  readonly books: string;
  readonly deliveries: DeliveryRows;
  readonly #database: DatabaseSync;
  #flushes = true;
  readonly #lock: { close(): void } | null = null;
  readonly #put: Readonly<Record<Table, StatementSync>>;
  readonly #drop: Readonly<Record<Table, StatementSync>>;
  readonly #epoch: StatementSync;
  readonly #putKey: StatementSync;
  readonly #dropKeys: StatementSync;
  readonly #findKey: StatementSync;

  /**
   * Opens or makes the file at `path`, or `:memory:`.
   *
   * @param takeLock left out: nobody else has it.
   * @throws Error when it is another program's, or of a newer version, or another process has it.
   */
  constructor(path: string, takeLock?: TakeLock) {
    if (path !== ":memory:") {
      mkdirSync(dirname(resolve(path)), { recursive: true, mode: 0o700 });
      this.#lock = takeLock?.(resolve(path)) ?? null;
      makePrivately(path);
    }
    const database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
    this.#database = database;
    try {
      openBooks(database, path);
      database.prepare("INSERT OR IGNORE INTO books VALUES (1, ?, 0)").run(sortableIds()(Date.now()));
      this.books = (database.prepare("SELECT name FROM books").get() as { name: string }).name;
      const each = (sql: (table: Table, key: string) => string) =>
        Object.fromEntries(
          Object.entries(TABLES).map(([table, key]) => [table, database.prepare(sql(table as Table, key))]),
        ) as Record<Table, StatementSync>;
      this.#put = each((table) => `INSERT OR REPLACE INTO ${table} VALUES (?, ?)`);
      this.#drop = each((table, key) => `DELETE FROM ${table} WHERE ${key} = ?`);
      this.#epoch = database.prepare("UPDATE books SET last_epoch = ?");
      this.#putKey = database.prepare("INSERT OR REPLACE INTO idempotency_keys VALUES (?, ?, ?, ?, ?)");
      this.#dropKeys = database.prepare("DELETE FROM idempotency_keys WHERE at < ?");
      this.#findKey = database.prepare(
        "SELECT fingerprint, id, at FROM idempotency_keys WHERE principal = ? AND key = ?",
      );
      this.deliveries = new DeliveryRows(database);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  load(): StoredWork {
    const all = <T>(table: Table) =>
      this.#database
        .prepare(`SELECT body FROM ${table}`)
        .all()
        .map(({ body }) => JSON.parse(body as string) as T);
    const { last_epoch } = this.#database.prepare("SELECT last_epoch FROM books").get() as { last_epoch: number };
    return {
      tasks: all<Task>("tasks"),
      workloads: all<Workload>("workloads"),
      runs: all<Run>("runs"),
      workers: all<Worker>("workers"),
      lastEpoch: last_epoch,
    };
  }

  /**
   * Brings all instants to the clock of this start.
   *
   * @returns by how much they were moved, in ms.
   * @throws WorkError `work-storage-unavailable`; nothing is written then.
   */
  moveTo(time: BooksTime): number {
    const stored = this.load();
    let ms = 0;
    this.#all(() => {
      ms = moveTo(this.#database, stored, time);
    });
    return ms;
  }

  /**
   * Writes what has changed, all or nothing, and returns when it is on the disk.
   *
   * @param outlastsPower false: a process that dies loses nothing of it; a power cut may, until the next that outlasts one.
   * @throws WorkError `work-storage-unavailable`; nothing is written then.
   */
  commit(
    state: WorkState,
    changes: Changes,
    key: KeptKey | null,
    now: number,
    deliveries: readonly TaskDelivery[] = [],
    outlastsPower = true,
  ): void {
    this.#flush(outlastsPower);
    this.#all(() => {
      for (const id of changes.tasks) {
        const task = state.tasks.get(id);
        this.#write("tasks", id, task);
        if (task === undefined) this.deliveries.dropOf(id);
      }
      for (const uid of changes.workloads) this.#write("workloads", uid, state.workloads.get(uid));
      for (const id of changes.runs) this.#write("runs", id, state.runs.get(id));
      for (const node of changes.workers) this.#write("workers", node, state.workers.get(node));
      if (changes.runs.size > 0) this.#epoch.run(state.lastEpoch);
      if (key !== null) {
        this.#putKey.run(key.principal, key.key, key.fingerprint, now, key.id);
        this.#dropKeys.run(now - KEY_LIFE_MS);
      }
      for (const delivery of deliveries) this.deliveries.put(delivery);
    });
  }

  /** @throws WorkError `work-storage-unavailable` */
  settle(settlement: TaskSettlement): void {
    this.#flush(true);
    this.#all(() => this.deliveries.settle(settlement));
  }

  /** In WAL mode NORMAL leaves a commit in the log without waiting for the disk. */
  #flush(isWanted: boolean): void {
    if (isWanted === this.#flushes) return;
    this.#database.exec(`PRAGMA synchronous = ${isWanted ? "FULL" : "NORMAL"}`);
    this.#flushes = isWanted;
  }

  #all(write: () => void): void {
    try {
      this.#database.exec("BEGIN IMMEDIATE");
      write();
      this.#database.exec("COMMIT");
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw new WorkError("work-storage-unavailable", `the change could not be stored: ${(error as Error).message}`);
    }
  }

  #write(table: Table, key: string, record: unknown): void {
    if (record === undefined) this.#drop[table].run(key);
    else this.#put[table].run(key, JSON.stringify(record));
  }

  findKey(principal: string, key: string, now: number): { fingerprint: string; ids: readonly string[] } | undefined {
    const found = this.#findKey.get(principal, key) as { fingerprint: string; id: string; at: number } | undefined;
    if (found === undefined || now - found.at >= KEY_LIFE_MS) return undefined;
    return { fingerprint: found.fingerprint, ids: [found.id] };
  }

  close(): void {
    if (this.#database.isOpen) this.#database.close();
    this.#lock?.close();
  }
}

/** Readable by its owner alone: documents may say what others should not know. */
function makePrivately(path: string): void {
  closeSync(openSync(path, "a", 0o600));
}

/**
 * Brings a file to this program's schema.
 *
 * @throws Error when it is another program's, or of a newer version.
 */
export function openBooks(database: DatabaseSync, path: string): void {
  database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF");
  migrate(database, path);
}

function migrate(database: DatabaseSync, path: string): void {
  const read = (name: string) => Number(Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0]);
  const version = read("user_version");
  const application = read("application_id");
  if (application !== 0 && application !== APPLICATION_ID)
    throw new Error(`${path} is the database of another program`);
  if (version > MIGRATIONS.length)
    throw new Error(`${path} was written by a newer gpu-orchestrator: run that one again`);
  for (let from = version; from < MIGRATIONS.length; from++) {
    database.exec("BEGIN IMMEDIATE");
    try {
      database.exec(MIGRATIONS[from] as string);
      database.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${from + 1}; COMMIT`);
    } catch (error) {
      if (database.isTransaction) database.exec("ROLLBACK");
      throw error;
    }
  }
}
