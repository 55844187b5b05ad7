/**
 * A copy of the file in which a controller keeps its objects and history, and the way back. Of a PostgreSQL its own tools make
 * one.
 *
 *  1. The copy is the state at one instant, and may be made while the controller runs.
 *  2. Under the name that was asked for stands what stood there before, or a whole copy that was checked and is on disk.
 *  3. A copy is put in place only while no controller uses the file, and what was there is kept under another name.
 */
import { randomUUID } from "node:crypto";
import { closeSync, existsSync, fsyncSync, openSync, readSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { backup, DatabaseSync } from "node:sqlite";
import { APPLICATION_ID, lockOf, migrate } from "./sqlite.ts";

const BUSY_TIMEOUT_MS = 5_000;
/** In one step: in several each change would begin it anew. */
const ALL_PAGES = 2 ** 31 - 1;

/** Where a database's header has its application's id, of four bytes, and how long it is (sqlite.org/fileformat2.html). */
const ID_AT = 68;
const HEADER_BYTES = 100;

function idInHeader(path: string): number | null {
  const header = Buffer.alloc(HEADER_BYTES);
  const file = openSync(path, "r");
  try {
    return readSync(file, header, 0, HEADER_BYTES, 0) < HEADER_BYTES ? null : header.readInt32BE(ID_AT);
  } finally {
    closeSync(file);
  }
}

/** Whether a controller has made this file; a file that cannot be read is none of its. */
export function isOfController(path: string): boolean {
  if (!existsSync(path) || !statSync(path).isFile()) return false;
  try {
    if (idInHeader(path) === APPLICATION_ID) return true;
    // Without a log the header says all; and to open a database to read leaves a log beside it.
    if (!existsSync(`${path}-wal`)) return false;
    const database = new DatabaseSync(path, { readOnly: true, timeout: BUSY_TIMEOUT_MS });
    try {
      return database.prepare("PRAGMA application_id").get()?.application_id === APPLICATION_ID;
    } finally {
      database.close();
    }
  } catch {
    return false;
  }
}

/** @throws Error with what to do about it. */
export async function backUpController(path: string, target: string, overwrite: boolean) {
  const to = resolve(target);
  if (existsSync(to) && !overwrite) throw new Error(`${to} exists: name another file, or replace it by --overwrite`);
  if (to === resolve(path)) throw new Error(`${to} is the database itself: name another file`);
  const partial = `${to}.${randomUUID().slice(0, 8)}.incomplete`;
  try {
    await copied(path, partial);
    renameSync(partial, to);
    onDisk(dirname(to));
    return { from: resolve(path), to, bytes: statSync(to).size };
  } finally {
    removed(partial);
  }
}

/**
 * @returns what the file was until now is called; `null`: there was none.
 * @throws Error when a controller uses the file, or the copy is none of a controller.
 */
export async function restoreController(path: string, from: string) {
  const file = resolve(path);
  if (!existsSync(dirname(file))) throw new Error(`the folder ${dirname(file)} does not exist: make it first`);
  if (file === resolve(from)) throw new Error(`${file} is the database itself: name a backup`);
  const staged = `${file}.${randomUUID().slice(0, 8)}.incomplete`;
  const lock = lockOf(file);
  try {
    await copied(from, staged);
    const kept = existsSync(file) ? `${file}.replaced-${new Date().toISOString().replaceAll(":", "-")}` : null;
    if (kept !== null) {
      settle(file);
      renameSync(file, kept);
    }
    renameSync(staged, file);
    onDisk(dirname(file));
    return { file, kept };
  } finally {
    removed(staged);
    lock.close();
  }
}

/** One file without a log, of this version, checked, which only its owner can read. */
async function copied(from: string, to: string): Promise<void> {
  closeSync(openSync(to, "ax", 0o600));
  const source = new DatabaseSync(from, { readOnly: true, timeout: BUSY_TIMEOUT_MS });
  try {
    await backup(source, to, { rate: ALL_PAGES });
  } finally {
    source.close();
  }
  const copy = new DatabaseSync(to);
  try {
    migrate(copy, from);
    copy.exec("PRAGMA journal_mode = DELETE");
    const found = copy.prepare("PRAGMA quick_check(1)").get()?.quick_check;
    if (found !== "ok") throw new Error(`${from} is damaged (${found})`);
  } finally {
    copy.close();
  }
  onDisk(to);
}

/** What is in its log comes into the file. */
function settle(file: string): void {
  const database = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS });
  try {
    database.exec("PRAGMA journal_mode = DELETE");
  } finally {
    database.close();
  }
}

function onDisk(path: string): void {
  const descriptor = openSync(path, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function removed(path: string): void {
  for (const name of [path, `${path}-wal`, `${path}-shm`, `${path}-journal`]) rmSync(name, { force: true });
}
