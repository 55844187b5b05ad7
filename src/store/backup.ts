/**
 * Copies the database into one file, whether a daemon serves it or not.
 *
 * 1. The copy is the state at one instant, with every turn acknowledged before the copying began. It is read in one
 *    transaction: in several, each commit of the daemon would begin it anew (sqlite.org/backup.html).
 * 2. The daemon is not held up: with a write-ahead log a reader does not block writers. The log only grows until the
 *    copy is done.
 * 3. Under the name that was asked for stands what stood there before, or a whole copy that was checked and is on disk.
 *    Whatever goes wrong leaves no other file behind; a kill leaves one that ends in `.incomplete`.
 */
import { randomUUID } from "node:crypto";
import { closeSync, openSync, realpathSync, renameSync, rmSync, type Stats, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { backup, DatabaseSync } from "node:sqlite";
import { keepBeside } from "./beside.ts";
import { isSqliteError, primaryCode, SQLITE_CORRUPT, SQLITE_NOTADB } from "./errors.ts";
import { BUSY_TIMEOUT_MS, checkLeases, IN_MEMORY, inspect, lockFileOf, pragma, refusal } from "./open.ts";
import { syncPath } from "./sync.ts";

/** No backup was made, or no backup was restored, and nothing has changed. The message says what to do about it. */
export class BackupError extends Error {
  override readonly name = "BackupError";
}

export interface BackupMade {
  /** Absolute paths, of the database and of its copy. */
  readonly from: string;
  readonly to: string;
  readonly bytes: number;
}

interface BackupWish {
  readonly overwrite?: boolean;
  readonly beside?: string;
  readonly signal?: AbortSignal;
}

/** All pages in one step: see 1. */
const ALL_PAGES = 2 ** 31 - 1;

/**
 * @param path the database, as `storage.path` names it.
 * @param target the file to make.
 * @param overwrite replace what has that name.
 * @param beside a second database that the copy is to hold too, if it is there.
 * @param signal gives up: nothing is left then, though a thread may still be busy with the copy that has no name any more.
 * @throws BackupError, or StoreRefusedError when the database itself is not good, or the signal's reason.
 */
export async function backUp(
  path: string,
  target: string,
  { overwrite = false, beside, signal }: BackupWish = {},
): Promise<BackupMade> {
  const from = databaseFile(path);
  const to = freeName(target, from, overwrite);
  const partial = `${to}.${randomUUID().slice(0, 8)}.incomplete`;
  try {
    closeSync(openSync(partial, "ax", 0o600));
    await unlessAborted(copy(from, partial), signal);
    check(partial, from);
    if (beside !== undefined && look(beside)?.isFile()) await unlessAborted(keepBeside(beside, partial), signal);
    syncPath(partial);
    renameSync(partial, to);
    syncPath(dirname(to));
    return { from, to, bytes: statSync(to).size };
  } catch (error) {
    throw notMade(error, to);
  } finally {
    for (const name of namesOf(partial)) rmSync(name, { force: true });
  }
}

function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    work.then(resolve, reject);
  });
}

/** What `path` names; `null`: nothing. @throws BackupError when this user may not even know. */
export function look(path: string): Stats | null {
  try {
    return statSync(path, { throwIfNoEntry: false }) ?? null;
  } catch (error) {
    throw new BackupError(`${path} cannot be read (${(error as NodeJS.ErrnoException).code}): ${WHO}`, {
      cause: error,
    });
  }
}

/** The file that `path` names, links resolved. @throws BackupError when there is none. */
function databaseFile(path: string): string {
  refuseMemory(path);
  const from = resolve(path);
  if (!look(from)?.isFile()) {
    throw new BackupError(`there is no database at ${from}: ${WHERE}`);
  }
  return realpathSync(from);
}

export const WHERE = "name it by --database (a relative storage.path counts from the folder that the daemon runs in)";

const WHO = "run this as the user that the daemon runs as, or as root";

/** @throws BackupError for `:memory:`. */
export function refuseMemory(path: string): void {
  if (path !== IN_MEMORY) return;
  throw new BackupError(
    "storage.path is :memory:, so there is no file to copy or to restore: nothing outlives the daemon",
  );
}

/** All the names that SQLite and the lock use for a database. */
export function namesOf(file: string): readonly string[] {
  return [file, `${file}-wal`, `${file}-shm`, `${file}-journal`, lockFileOf(file)];
}

function freeName(target: string, from: string, overwrite: boolean): string {
  const folder = dirname(resolve(target));
  if (!look(folder)?.isDirectory()) {
    throw new BackupError(`the folder ${folder} does not exist: make it first`);
  }
  const to = join(realpathSync(folder), basename(resolve(target)));
  const there = look(to);
  const database = statSync(from);
  if (namesOf(from).includes(to) || (there?.ino === database.ino && there.dev === database.dev)) {
    throw new BackupError(`${to} belongs to the database itself: name another file`);
  }
  if (there?.isDirectory()) throw new BackupError(`${to} is a folder: name a file in it`);
  if (there !== null && !overwrite) {
    throw new BackupError(`${to} exists: name another file, or replace it by --overwrite`);
  }
  return to;
}

async function copy(from: string, partial: string): Promise<void> {
  const database = openToRead(from);
  try {
    await backup(database, partial, { rate: ALL_PAGES });
  } finally {
    database.close();
  }
}

/** Reads once, so that a fault of the database is reported as its own and not as one of the copy. */
function openToRead(from: string): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(from, { readOnly: true, timeout: BUSY_TIMEOUT_MS });
    pragma(database, "schema_version");
    return database;
  } catch (error) {
    database?.close();
    const code = isSqliteError(error) ? primaryCode(error) : null;
    if (code === null || code === SQLITE_NOTADB || code === SQLITE_CORRUPT) throw refusal(error, from);
    throw new BackupError(`${from} cannot be read (${(error as Error).message}): ${WHO}`, { cause: error });
  }
}

/** The copy stands for the database: it is the same, page by page. It is left as one file, without a log. */
function check(partial: string, from: string): void {
  const database = new DatabaseSync(partial);
  try {
    pragma(database, "journal_mode = DELETE");
    try {
      if (inspect(database, from) === 0) throw new BackupError(`${from} is empty: there is nothing to back up`);
      checkLeases(database, from);
    } catch (error) {
      throw refusal(error, from);
    }
  } finally {
    database.close();
  }
}

function notMade(error: unknown, to: string): unknown {
  const why = isSqliteError(error) ? error.errstr : error instanceof Error && "syscall" in error ? error.message : null;
  if (why === null) return error;
  return new BackupError(`${to} could not be written (${why}): its folder must be writable and have space for a copy`, {
    cause: error,
  });
}
