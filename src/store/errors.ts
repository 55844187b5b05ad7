import { StorageUnavailableError } from "../ports/refusals.ts";

export type RefusalReason =
  /** Another process serves this database. */
  | "in-use"
  /** The schema is newer than this program. */
  | "newer-schema"
  /** Not a SQLite file, or one of another program. */
  | "foreign"
  /** SQLite's own check, or ours of the leases, found it broken. */
  | "damaged"
  /** The file system does not let us open or create it, or cannot carry a write-ahead log. */
  | "unusable";

/** The database is not opened, and has not been changed. The message says what to do about it. */
export class StoreRefusedError extends Error {
  override readonly name = "StoreRefusedError";
  readonly reason: RefusalReason;
  readonly path: string;
  /** Of what is `damaged`: what was found. */
  readonly detail: string | null;

  constructor(
    reason: RefusalReason,
    path: string,
    message: string,
    { detail = null, ...options }: ErrorOptions & { readonly detail?: string | null } = {},
  ) {
    super(message, options);
    this.reason = reason;
    this.path = path;
    this.detail = detail;
  }
}

/** Primary result codes, from sqlite.org/rescode.html. */
export const SQLITE_ERROR = 1;
export const SQLITE_BUSY = 5;
export const SQLITE_CORRUPT = 11;
const SQLITE_CONSTRAINT = 19;
export const SQLITE_NOTADB = 26;
/** Codes that only a mistake in this program can cause: retrying would fail for ever. */
const PROGRAM_FAULTS: ReadonlySet<number> = new Set([
  SQLITE_ERROR, // bad SQL
  SQLITE_CONSTRAINT,
  20, // SQLITE_MISMATCH
  21, // SQLITE_MISUSE
  25, // SQLITE_RANGE
]);
/** What the triggers and the unique index over live leases say. */
const BREACHES: readonly string[] = ["invariant 1", "UNIQUE constraint failed: live_leases.gpu_uuid"];

/** The writing thread ended under a job: whether it was done must be read from the file. */
export class WriterDiedError extends Error {
  override readonly name = "WriterDiedError";
}

/** What `node:sqlite` throws: an `Error` with SQLite's extended result code and its text. */
export interface SqliteError extends Error {
  readonly errcode: number;
  readonly errstr: string;
}

export function isSqliteError(error: unknown): error is SqliteError {
  return error instanceof Error && "errcode" in error && typeof error.errcode === "number";
}

/** The primary code: the low byte of the extended one. */
export function primaryCode(error: SqliteError): number {
  return error.errcode & 0xff;
}

/**
 * What the caller of the store should see for `error`: trouble with the disk is a refusal that may pass, a breach
 * of a constraint is a bug, and anything that is not SQLite's stays what it is.
 */
export function storeFailure(error: unknown): unknown {
  if (error instanceof WriterDiedError) return new StorageUnavailableError(error.message, { cause: error });
  if (!isSqliteError(error)) return error;
  if (BREACHES.some((words) => error.message.includes(words))) {
    return new Error(`invariant 1 broken: two leases would be granted the same (${error.message})`, { cause: error });
  }
  if (PROGRAM_FAULTS.has(primaryCode(error))) {
    return new Error(`the database refused the statement: ${error.message}`, { cause: error });
  }
  return new StorageUnavailableError(`the database cannot be used now: ${error.errstr}`, { cause: error });
}
