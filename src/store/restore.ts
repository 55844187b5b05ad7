/**
 * Puts a backup in the place of the database, while no daemon serves it.
 *
 * 1. The backup is only read: what is checked, brought to this program's schema and put in place is a copy of it.
 * 2. Until the last step, which the file system does at once or not at all, the database holds what it held, with the
 *    log folded in. It is kept under another name, and can be restored in turn. Of two databases there are two such
 *    steps: when the second fails the first is undone.
 * 3. Where the replaced database can still be read, what must never come twice is counted on from there: fencing tokens
 *    and the numbers of events. Where it cannot, the daemon takes its tokens from the wall clock on, as at every start.
 */
import { randomUUID } from "node:crypto";
import {
  accessSync,
  chmodSync,
  chownSync,
  constants,
  copyFileSync,
  existsSync,
  linkSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { EpochMs } from "../core/base/time.ts";
import type { Event } from "../core/host/events.ts";
import { BackupError, look, namesOf, refuseMemory, WHERE } from "./backup.ts";
import { takeBeside } from "./beside.ts";
import { isSqliteError, StoreRefusedError } from "./errors.ts";
import { APPLICATION_ID, migrate } from "./migrations.ts";
import { BUSY_TIMEOUT_MS, checkLeases, inspect, lockFileOf, pragma, refusal, takeLock } from "./open.ts";
import { readState, readTurns } from "./read-state.ts";
import { prepareReads, prepareWrites } from "./statements.ts";
import { syncPath } from "./sync.ts";

export interface Restored {
  /** The database that was replaced, under its own name, and what it is called now; `null` when there was none. */
  readonly file: string;
  readonly kept: string | null;
  /** When the last turn in the backup was; `null`: none was. */
  readonly asOf: EpochMs | null;
  readonly leases: number;
  readonly waiting: number;
  /**
   * Whether the second database was in the backup too, and what the one that it has replaced is called now. One that was
   * not in it stays as it is.
   */
  readonly beside: boolean;
  readonly keptBeside: string | null;
}

/** A second database, which is put in its place with the first. */
export interface Beside {
  readonly file: string;
  /** Makes what came out of the backup fit to be used. @throws Error when it cannot be. */
  readonly prepare: (file: string, name: string) => void;
}

/** What must not come twice. */
interface Counters {
  readonly nextFencingToken: number;
  /** Of the last event. */
  readonly lastSeq: number;
}

/**
 * @param path the database, as `storage.path` names it.
 * @param backup a file that `backUp` made, or a database that no program has open.
 * @throws BackupError also when a daemon serves the database.
 */
export function restore(path: string, backup: string, beside?: Beside): Restored {
  const file = place(path);
  const source = backupFile(backup, file);
  const owner = ownerOf(file);
  const staged = `${file}.${randomUUID().slice(0, 8)}.incomplete`;
  let lock: DatabaseSync | undefined;
  try {
    lock = takeLock(file);
    give(lockFileOf(file), owner, 0o600);
    return replace(file, source, { staged, owner, beside });
  } catch (error) {
    throw notRestored(error, file);
  } finally {
    for (const name of [...namesOf(staged), ...namesOf(besideOf(staged))]) rmSync(name, { force: true });
    lock?.close();
  }
}

function place(path: string): string {
  refuseMemory(path);
  const wanted = resolve(path);
  if (!look(dirname(wanted))?.isDirectory()) {
    throw new BackupError(`the folder ${dirname(wanted)} does not exist: make it first, or ${WHERE}`);
  }
  return look(wanted) !== null ? realpathSync(wanted) : join(realpathSync(dirname(wanted)), basename(wanted));
}

/** Whose the database is, or will be: its folder's owner's when there is none yet. The daemon must be able to open it. */
function ownerOf(file: string): Stats {
  const owner = statSync(existsSync(file) ? file : dirname(file));
  const uid = process.geteuid?.();
  if (uid === undefined || uid === 0 || uid === owner.uid) return owner;
  throw new BackupError(`${file} belongs to user ${owner.uid}: run this as that user, or as root`);
}

function give(name: string, { uid, gid }: Stats, mode: number): void {
  chmodSync(name, mode);
  if (process.geteuid?.() === 0) chownSync(name, uid, gid);
}

function backupFile(backup: string, file: string): string {
  const wanted = resolve(backup);
  const there = look(wanted);
  if (there === null) throw new BackupError(`there is no file ${wanted}`);
  if (!there.isFile()) throw new BackupError(`${wanted} is not a file`);
  const source = realpathSync(wanted);
  if (namesOf(file).includes(source)) throw new BackupError(`${source} belongs to the database itself: name a backup`);
  try {
    accessSync(source, constants.R_OK);
  } catch (error) {
    throw new BackupError(`${source} cannot be read by this user`, { cause: error });
  }
  return source;
}

interface Staging {
  readonly staged: string;
  readonly owner: Stats;
  readonly beside: Beside | undefined;
}

function besideOf(staged: string): string {
  return `${staged}.beside`;
}

function replace(file: string, source: string, { staged, owner, beside }: Staging): Restored {
  const replacing = existsSync(file);
  copyWithLog(source, staged);
  give(staged, owner, replacing ? owner.mode & 0o777 : 0o600);
  const found = prepare(staged, source, replacing ? settle(file) : null);
  syncPath(staged);
  const swaps: Swap[] = [{ staged, file }];
  if (beside !== undefined && (found.beside || takeKept(beside, source, besideOf(staged)))) {
    prepareBeside(beside, besideOf(staged), source, owner);
    swaps.push({ staged: besideOf(staged), file: beside.file });
  }
  const [kept = null, keptBeside = null] = swapAll(swaps);
  return { file, kept, ...found, beside: swaps.length > 1, keptBeside };
}

/** With its log: a database that was copied with it, or one that an earlier restore kept. */
function copyWithLog(source: string, target: string): void {
  copyFileSync(source, target);
  if (isFilled(`${source}-wal`)) copyFileSync(`${source}-wal`, `${target}-wal`);
}

const KEPT = ".replaced-";

/** What an earlier restore kept was in two files, of one time. @returns whether there is such a second one. */
function takeKept({ file }: Beside, source: string, target: string): boolean {
  const at = source.lastIndexOf(KEPT);
  if (at === -1) return false;
  const second = join(dirname(source), basename(file) + source.slice(at));
  if (!existsSync(second)) return false;
  copyWithLog(second, target);
  return true;
}

function prepareBeside({ file, prepare: makeFit }: Beside, staged: string, source: string, owner: Stats): void {
  try {
    makeFit(staged, `the second database in ${source}`);
  } catch (error) {
    throw new BackupError(`${error instanceof Error ? error.message : String(error)}: use another backup`, {
      cause: error,
    });
  }
  give(staged, owner, 0o600);
  syncPath(staged);
  foldLog(file);
}

/** Of a database whose daemon was killed: what is only in its log is kept with it. */
function foldLog(file: string): void {
  if (!isFilled(file)) return;
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS });
    pragma(database, "wal_checkpoint(TRUNCATE)");
  } catch {
    // It cannot be read: its log is kept beside it.
  } finally {
    database?.close();
  }
}

interface Swap {
  readonly staged: string;
  readonly file: string;
}

/** All or, as far as the file system lets it be undone, nothing. @returns what each that was there is called now. */
function swapAll(swaps: readonly Swap[]): (string | null)[] {
  const time = new Date().toISOString().replaceAll(":", "-");
  const begun: { readonly file: string; readonly kept: string | null }[] = [];
  try {
    for (const { file } of swaps) {
      const kept = existsSync(file) ? `${file}${KEPT}${time}` : null;
      if (kept !== null) keep(file, kept);
      begun.push({ file, kept });
    }
    for (const { staged, file } of swaps) putInPlace(staged, file);
  } catch (error) {
    for (const { file, kept } of begun) takeBack(file, kept);
    throw error;
  }
  return begun.map(({ kept }) => kept);
}

/** Whether it had been replaced or not. */
function takeBack(file: string, kept: string | null): void {
  if (kept === null) {
    rmSync(file, { force: true });
    return;
  }
  for (const end of ["", "-wal"]) {
    if (!existsSync(`${kept}${end}`)) continue;
    renameSync(`${kept}${end}`, `${file}${end}`);
    // Two names of one file: such a rename does nothing.
    rmSync(`${kept}${end}`, { force: true });
  }
  syncPath(dirname(file));
}

/** The copy, checked, of this program's schema, counting on from `counters`, in one file. */
function prepare(staged: string, source: string, counters: Counters | null) {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(staged);
    const version = inspect(database, source, "whole");
    if (version === 0) throw new BackupError(`${source} is empty: it is not a backup`);
    const beside = takeBeside(database, besideOf(staged));
    migrate(database, version);
    checkLeases(database, source);
    const reads = prepareReads(database);
    const { allocations, lastTurnAt: asOf } = readState(reads);
    if (counters !== null) countOn(database, counters);
    // One file again, without a log.
    pragma(database, "journal_mode = DELETE");
    const waiting = allocations.filter(({ status }) => status === "queued").length;
    return { asOf, leases: allocations.length - waiting, waiting, beside };
  } catch (error) {
    throw unfit(error, source);
  } finally {
    database?.close();
  }
}

/**
 * See 3. An event of its own, so that the journal still folds to the state. A number is left out before it, so
 * that every reader of the events sees that some are missing.
 */
function countOn(database: DatabaseSync, { nextFencingToken, lastSeq }: Counters): void {
  const reads = prepareReads(database);
  const writes = prepareWrites(database);
  const state = readState(reads);
  const fencingFloor = Math.max(state.nextFencingToken, nextFencingToken);
  const seq = Math.max((reads.lastSeq.get() as { seq: number }).seq, lastSeq) + 2;
  const at = state.lastTurnAt ?? 0;
  const bootId = state.bootId ?? "";
  const counted: Event = { type: "resumed", at, bootId, fencingFloor };
  database.exec("BEGIN IMMEDIATE");
  writes.appendEvents.run(seq, at, JSON.stringify([counted]));
  writes.progress.run(readTurns(reads) + 1, at, fencingFloor, bootId);
  database.exec("COMMIT");
}

/**
 * Folds the log of the database that goes into it, as far as it lets itself be read.
 *
 * @returns `null` when it does not.
 * @throws BackupError when it is another program's.
 */
function settle(file: string): Counters | null {
  // SQLite would take an empty file for a new database, and delete its log.
  if (!isFilled(file)) return null;
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS });
    const applicationId = pragma(database, "application_id");
    if (applicationId !== APPLICATION_ID) {
      throw new BackupError(
        `${file} is the database of another program: set storage.path to a file of gpu-orchestrator's own`,
      );
    }
    pragma(database, "wal_checkpoint(TRUNCATE)");
    // In words of its own: the schema may be an older or a newer one.
    const { token, seq } = database
      .prepare(
        `SELECT next_fencing_token AS token,
           (SELECT max(seq) FROM (SELECT seq FROM journal UNION ALL SELECT seq FROM snapshots)) AS seq
         FROM progress`,
      )
      .get() as { token: number; seq: number | null };
    return { nextFencingToken: token, lastSeq: seq ?? 0 };
  } catch (error) {
    if (error instanceof BackupError) throw error;
    return null;
  } finally {
    database?.close();
  }
}

/** Gives the database a second name, before it loses its first. */
function keep(file: string, name: string): void {
  linkSync(file, name);
  try {
    if (isFilled(`${file}-wal`)) linkSync(`${file}-wal`, `${name}-wal`);
  } catch (error) {
    rmSync(name);
    throw error;
  }
  syncPath(dirname(file));
}

/** More than SQLite takes for an empty file, which one byte is too. */
function isFilled(name: string): boolean {
  return (statSync(name, { throwIfNoEntry: false })?.size ?? 0) > 1;
}

/** What is wrong with the backup, told of the backup; what is wrong with the place is told by {@link notRestored}. */
function unfit(error: unknown, source: string): unknown {
  const told = refusal(error, source);
  const { reason, detail } = told instanceof StoreRefusedError ? told : { reason: null, detail: null };
  switch (reason) {
    case "foreign":
      return new BackupError(`${source} is not a backup of gpu-orchestrator`, { cause: error });
    case "newer-schema":
      return new BackupError(`${source} was made by a newer gpu-orchestrator: restore it with that one`, {
        cause: error,
      });
    case "damaged":
      return new BackupError(`${source} is damaged (${detail}): use another backup`, { cause: error });
    default:
      return error;
  }
}

function notRestored(error: unknown, file: string): unknown {
  if (error instanceof StoreRefusedError && error.reason === "in-use") {
    return new BackupError(`${file} is in use by a gpu-orchestrator: stop it first`, { cause: error });
  }
  const why = isSqliteError(error) ? error.errstr : error instanceof Error && "syscall" in error ? error.message : null;
  if (why === null) return error;
  return new BackupError(`${file} was not replaced (${why}): its folder must be writable and have space for a copy`, {
    cause: error,
  });
}

function putInPlace(staged: string, file: string): void {
  // The log belongs to the replaced database: SQLite would play it into the new one and damage it.
  for (const name of [`${file}-wal`, `${file}-shm`, `${file}-journal`]) rmSync(name, { force: true });
  syncPath(dirname(file));
  renameSync(staged, file);
  syncPath(dirname(file));
}
