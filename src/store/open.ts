/**
 * Opens the database file, or says why not.
 *
 * 1. Nothing is written before the lock is held and the file is known to be ours, whole and not newer.
 * 2. The lock is SQLite's own, on an empty file beside the database: it goes with the process, however that ends,
 *    and leaves the database itself open to readers such as `sqlite3` and an online backup.
 * 3. No file descriptor of ours is ever opened on a file that SQLite has open in this process: closing it would
 *    drop SQLite's locks (sqlite.org/howtocorrupt.html, section 2.2).
 */
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { inWords, lockerOf } from "../platform/processes.ts";
import { cutPage } from "./cut-page.ts";
import {
  isSqliteError,
  primaryCode,
  SQLITE_BUSY,
  SQLITE_CORRUPT,
  SQLITE_ERROR,
  SQLITE_NOTADB,
  StoreRefusedError,
} from "./errors.ts";
import { APPLICATION_ID, migrate, SCHEMA_VERSION } from "./migrations.ts";
import { syncPath } from "./sync.ts";
import { whyUnusable } from "./usable.ts";

export const IN_MEMORY = ":memory:";
/** How long a turn waits for a foreign writer, such as a person at `sqlite3`. */
export const BUSY_TIMEOUT_MS = 500;
/** A log that a long reader let grow is cut back to this at the next checkpoint. */
const WAL_KEPT_BYTES = 64 * 1024 * 1024;
const CACHE_KIB = 8 * 1024;
/** SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN. */
const DISK_TROUBLES: ReadonlySet<number> = new Set([10, 13, 14]);

export interface OpenDatabase {
  readonly database: DatabaseSync;
  /** Where another connection finds it; `null` when it is in memory and this is the only one. */
  readonly file: string | null;
  /** Whether no second connection to it can be opened; see {@link openAlone}. */
  readonly single: boolean;
  /** Closes it, and lets another process have it. */
  close(): void;
}

/**
 * Opens or creates the database at `path`, alone, checked and migrated.
 *
 * @throws StoreRefusedError when it cannot or must not be used.
 */
export function openDatabase(path: string): OpenDatabase {
  if (path === IN_MEMORY) {
    const database = new DatabaseSync(IN_MEMORY);
    migrate(database, 0);
    return { database, file: null, single: true, close: closer(database) };
  }
  let lock: DatabaseSync | undefined;
  let database: DatabaseSync | undefined;
  try {
    const trouble = whyUnusable(path);
    if (trouble !== null) throw new StoreRefusedError("unusable", path, trouble);
    const file = prepareFolder(path);
    lock = takeLock(file);
    createPrivately(file);
    demandOneName(file);
    const cut = cutPage(file);
    if (cut !== null) throw damaged(file, `it ends within page ${cut}`);
    let version = versionOf(file);
    const single = version === null;
    database = single ? openAlone(file) : new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS });
    version ??= inspect(database, file);
    configure(database, file);
    keepOlder(database, file, version);
    migrate(database, version);
    checkLeases(database, file);
    return { database, file, single, close: closer(database, lock) };
  } catch (error) {
    database?.close();
    lock?.close();
    throw refusal(error, path);
  }
}

/** What an older program wrote is kept beside the file before it is brought up to date: the way back. */
function keepOlder(database: DatabaseSync, file: string, version: number): void {
  if (version === 0 || version >= SCHEMA_VERSION) return;
  const copy = olderCopyOf(file, version);
  const unfinished = `${copy}.unfinished`;
  try {
    // SQLite writes into a file that is there only if it is empty: so nobody else can read it at any time.
    closeSync(openSync(unfinished, "w", 0o600));
    database.prepare("VACUUM INTO ?").run(unfinished);
    syncPath(unfinished);
    renameSync(unfinished, copy);
    syncPath(dirname(copy));
  } catch (error) {
    rmSync(unfinished, { force: true });
    const bytes = Number(pragma(database, "page_count")) * Number(pragma(database, "page_size"));
    throw new StoreRefusedError(
      "unusable",
      file,
      `${file} is of an older version, and the copy that is kept of it, ${copy}, cannot be written ` +
        `(${error instanceof Error ? error.message : String(error)}): it needs up to ${bytes} bytes of free space there`,
      { cause: error },
    );
  }
}

export function olderCopyOf(file: string, version: number): string {
  return `${file}.schema-${version}`;
}

/** One more connection to a `file` that this process has opened with {@link openDatabase}: the one that writes. */
export function openWriter(file: string): DatabaseSync {
  const database = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS });
  try {
    configure(database, file);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** @returns the absolute path of the file, links resolved, so that every way to it leads to one lock. */
function prepareFolder(path: string): string {
  const wanted = resolve(path);
  makeFolder(dirname(wanted));
  return existsSync(wanted) ? realpathSync(wanted) : join(realpathSync(dirname(wanted)), basename(wanted));
}

/** A power cut must not take back a folder with all that is in it: what SQLite syncs is what it makes itself. */
function makeFolder(folder: string): void {
  const first = mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let made = folder; made.length >= first.length; made = dirname(made)) {
    try {
      syncPath(dirname(made));
    } catch (error) {
      // A folder that this user may write to but not read cannot be synced here.
      if ((error as NodeJS.ErrnoException).code !== "EACCES") throw error;
    }
  }
}

/** The lock is held until what comes back is closed. @throws StoreRefusedError when somebody else holds it. */
export function takeLock(file: string): DatabaseSync {
  const lockFile = lockFileOf(file);
  const lock = new DatabaseSync(lockFile, { timeout: 0 });
  try {
    lock.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
    // By name, not by descriptor: see 3. Others must not be able to hold the lock against us.
    chmodSync(lockFile, 0o600);
    return lock;
  } catch (error) {
    lock.close();
    if (isSqliteError(error) && primaryCode(error) === SQLITE_BUSY) {
      throw new StoreRefusedError(
        "in-use",
        file,
        `${file} is in use by another gpu-orchestrator${holderOf(lockFile)}: stop that one first, or give this one a ` +
          "storage.path of its own",
      );
    }
    if (isSqliteError(error) && primaryCode(error) === SQLITE_NOTADB) {
      throw new StoreRefusedError("unusable", file, `${lockFile} should be an empty file and is not: remove it`);
    }
    throw error;
  }
}

/** Behind a name; empty when it cannot be seen. */
function holderOf(lockFile: string): string {
  const holder = lockerOf(lockFile);
  return holder === null ? "" : `, ${inWords(holder)}`;
}

export function lockFileOf(file: string): string {
  return `${file}.lock`;
}

/** Makes the file if there is none, readable by its owner alone; SQLite gives its log the same mode. An existing one keeps its own. */
function createPrivately(file: string): void {
  const bytes = statSync(file, { throwIfNoEntry: false })?.size;
  const logBytes = statSync(`${file}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  // SQLite would take the file for a new database and delete the log, with every commit in it. One byte is empty to it.
  if ((bytes ?? 0) <= 1 && logBytes > 0) {
    throw new StoreRefusedError(
      "damaged",
      file,
      `${file} is ${bytes === undefined ? "missing" : "empty"}, but its log ${file}-wal is not: restore the database from a backup, ` +
        "or move the log away to begin with no leases",
    );
  }
  if (bytes === undefined) closeSync(openSync(file, "ax", 0o600));
}

/** By another name of the same file another lock could be had, and another log (sqlite.org/howtocorrupt.html, section 2.5). */
function demandOneName(file: string): void {
  const stat = statSync(file);
  const links = stat.nlink;
  if (links === 1 || !stat.isFile()) return;
  throw new StoreRefusedError(
    "unusable",
    file,
    `${file} has ${links} names (hard links), by which two daemons could open it at once: remove the others, or put a copy in its place`,
  );
}

/** @returns `null` when the disk has no room for what several connections share. */
function versionOf(file: string): number | null {
  try {
    return inspectAlone(file);
  } catch (error) {
    if (isSqliteError(error) && DISK_TROUBLES.has(primaryCode(error))) return null;
    throw error;
  }
}

/**
 * On a full disk: the index of the log is kept in memory then (sqlite.org/wal.html, "Use of WAL Without Shared-Memory"),
 * so that what is stored can at least be shown. Others can read the file again after the next start.
 */
function openAlone(file: string): DatabaseSync {
  const database = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS });
  database.exec("PRAGMA locking_mode = EXCLUSIVE");
  return database;
}

/** A connection that may write would fold the log into a file that is refused, when it is closed. See 1. */
function inspectAlone(file: string): number {
  // A read-only connection cannot roll back what a crash left when the file was being made.
  const readOnly = !existsSync(`${file}-journal`);
  const database = new DatabaseSync(file, { readOnly, timeout: BUSY_TIMEOUT_MS });
  try {
    return inspect(database, file);
  } finally {
    database.close();
  }
}

/**
 * Reads only.
 *
 * @param check `whole`: the indices too, which takes longer; `none`: it is in use already, and was checked at its start.
 * @returns the file's schema version, 0 for a new one.
 * @throws StoreRefusedError when it is not ours, newer or damaged.
 */
export function inspect(database: DatabaseSync, file: string, check: "none" | "quick" | "whole" = "quick"): number {
  const applicationId = pragma(database, "application_id");
  const version = Number(pragma(database, "user_version"));
  const objects = database.prepare("SELECT count(*) AS n FROM sqlite_schema").get() as { n: number };
  const isNew = applicationId === 0 && version === 0 && objects.n === 0;
  if (isNew) return 0;
  if (applicationId !== APPLICATION_ID) {
    throw new StoreRefusedError(
      "foreign",
      file,
      `${file} is the database of another program: set storage.path to a file of gpu-orchestrator's own`,
    );
  }
  if (version > SCHEMA_VERSION) {
    throw new StoreRefusedError(
      "newer-schema",
      file,
      `${file} was written by a newer gpu-orchestrator (schema ${version}, this one knows ${SCHEMA_VERSION}): ` +
        "run the newer one again, or restore a backup from before the upgrade",
    );
  }
  if (check === "none") return version;
  const found = String(pragma(database, check === "whole" ? "integrity_check(1)" : "quick_check(1)"));
  if (found !== "ok") throw damaged(file, found.split("\n").at(-1) as string);
  return version;
}

function configure(database: DatabaseSync, file: string): void {
  database.exec("PRAGMA synchronous = FULL");
  const mode = pragma(database, "journal_mode = WAL");
  if (mode !== "wal") {
    throw new StoreRefusedError(
      "unusable",
      file,
      `${file} is on a file system that cannot carry a write-ahead log: set storage.path to a local disk`,
    );
  }
  database.exec(`
    PRAGMA foreign_keys = ON;
    PRAGMA trusted_schema = OFF;
    PRAGMA journal_size_limit = ${WAL_KEPT_BYTES};
    PRAGMA cache_size = -${CACHE_KIB};
  `);
}

/** Invariant 1 is guarded by `live_leases`, so its rows must agree with the leases in `allocations`. */
export function checkLeases(database: DatabaseSync, file: string): void {
  const stray = database
    .prepare(
      `WITH held AS (
         SELECT a.id AS allocation_id, g.value ->> 'uuid' AS gpu_uuid, a.lease ->> '$.sharedMib' AS shared_mib
         FROM allocations a, json_each(a.lease, '$.gpus') g WHERE a.ended_at IS NULL
       )
       SELECT allocation_id, gpu_uuid FROM (
         SELECT * FROM (
           SELECT allocation_id, gpu_uuid, shared_mib FROM held
           EXCEPT SELECT allocation_id, gpu_uuid, shared_mib FROM live_leases)
         UNION ALL
         SELECT * FROM (
           SELECT allocation_id, gpu_uuid, shared_mib FROM live_leases
           EXCEPT SELECT allocation_id, gpu_uuid, shared_mib FROM held)
       ) LIMIT 1`,
    )
    .get() as { allocation_id: string; gpu_uuid: string } | undefined;
  if (stray !== undefined) {
    throw damaged(file, `the leases disagree about ${stray.gpu_uuid} and ${stray.allocation_id}`);
  }
}

/** In this order: the database is closed before the next process may open it. A second call does nothing. */
function closer(...databases: readonly DatabaseSync[]): () => void {
  return () => {
    for (const database of databases) if (database.isOpen) database.close();
  };
}

export function pragma(database: DatabaseSync, text: string): unknown {
  return Object.values(database.prepare(`PRAGMA ${text}`).get() ?? {})[0];
}

function damaged(file: string, detail: string, cause?: unknown): StoreRefusedError {
  return new StoreRefusedError(
    "damaged",
    file,
    `${file} is damaged (${detail}): restore it from a backup, or move it and ${file}-wal away to begin with no leases`,
    { cause, detail },
  );
}

/** What to tell of an `error` met while opening: a refusal with advice, or the error itself when it is a bug. */
export function refusal(error: unknown, path: string): unknown {
  if (error instanceof StoreRefusedError) return error;
  // Text that is no longer JSON, which SQLite's own check cannot see.
  if (error instanceof SyntaxError) return damaged(path, error.message, error);
  if (isSqliteError(error)) {
    const code = primaryCode(error);
    if (code === SQLITE_NOTADB) {
      return new StoreRefusedError(
        "foreign",
        path,
        `${path} is not a SQLite database: set storage.path to another file, or move this one away`,
        { cause: error },
      );
    }
    // SQLITE_ERROR: a table or column that should be there is not, or JSON is broken.
    if (code === SQLITE_CORRUPT || code === SQLITE_ERROR) return damaged(path, error.message, error);
    return unusable(path, error.errstr, error);
  }
  if (error instanceof Error && "syscall" in error) return unusable(path, error.message, error);
  return error;
}

function unusable(path: string, detail: string, cause: Error): StoreRefusedError {
  return new StoreRefusedError(
    "unusable",
    path,
    `${path} cannot be opened (${detail}): the folder must exist or be creatable, be writable for this user and have free space`,
    { cause },
  );
}
