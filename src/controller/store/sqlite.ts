/** The tables in one SQLite file, of one process. */
import { mkdirSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { type Database, DatabaseError, type Row, type Statement, type Value } from "./database.ts";
import { SQLITE_MIGRATIONS } from "./migrations.ts";

/** Marks the file as ours, in the header's application id: the letters `GpuC`. */
export const APPLICATION_ID = 0x47707543;
const BUSY_TIMEOUT_MS = 500;
const SQLITE_BUSY = 5;
const SQLITE_CONSTRAINT = 19;
/** Their primary key's and their other keys'. */
const TAKEN: ReadonlySet<number> = new Set([1_555, 2_067]);
/** Too big, a wrong type, a wrong number of values. */
const REFUSED: ReadonlySet<number> = new Set([18, SQLITE_CONSTRAINT, 20, 25]);

const IN_MEMORY = ":memory:";

export class SqliteDatabase implements Database {
  readonly dialect = "sqlite";
  readonly #database: DatabaseSync;
  /** Held for as long as this one is open: the cache of objects is one process's. */
  readonly #lock: DatabaseSync | null;

  /**
   * Opens or makes the file at `path`, or `:memory:`.
   *
   * @throws Error when it is another program's, of a newer version, or in use by another controller.
   */
  constructor(path: string) {
    if (path !== IN_MEMORY) mkdirSync(dirname(resolve(path)), { recursive: true, mode: 0o750 });
    this.#lock = path === IN_MEMORY ? null : lockOf(path);
    try {
      this.#database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
    } catch (error) {
      this.#lock?.close();
      throw error;
    }
    try {
      this.#database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF");
      migrate(this.#database, path);
    } catch (error) {
      this.#database.close();
      this.#lock?.close();
      throw error;
    }
  }

  run(statements: readonly Statement[]): Promise<readonly (readonly Row[])[]> {
    try {
      return Promise.resolve(this.runNow(statements));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The same at once: nothing of it waits. */
  runNow(statements: readonly Statement[]): readonly (readonly Row[])[] {
    try {
      if (statements.length === 1) return statements.map((one) => this.#rowsOf(one));
      this.#database.exec("BEGIN IMMEDIATE");
      const rows = statements.map((one) => this.#rowsOf(one));
      this.#database.exec("COMMIT");
      return rows;
    } catch (error) {
      // A full disk may have ended it already.
      if (this.#database.isOpen && this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw asDatabaseError(error as SqliteError);
    }
  }

  #rowsOf({ sql, values = [] }: Statement): readonly Row[] {
    const prepared = this.#database.prepare(sql);
    if (values.length === 0) return prepared.all() as readonly Row[];
    return prepared.all(Object.fromEntries(values.map((value, at) => [`$${at + 1}`, bound(value)]))) as readonly Row[];
  }

  async close(): Promise<void> {
    this.#database.close();
    this.#lock?.close();
  }
}

function bound(value: Value): SQLInputValue {
  return typeof value === "boolean" ? Number(value) : value;
}

type SqliteError = Error & { readonly errcode?: number };

function asDatabaseError({ message, errcode = 0 }: SqliteError): DatabaseError {
  const primary = errcode & 0xff;
  const kind = TAKEN.has(errcode) ? "taken" : REFUSED.has(primary) ? "refused" : "away";
  return new DatabaseError(kind, message);
}

/** @throws Error when another process has it. */
export function lockOf(path: string): DatabaseSync {
  const lock = new DatabaseSync(`${path}.lock`, { timeout: 0 });
  try {
    lock.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
    return lock;
  } catch (error) {
    lock.close();
    if (((error as SqliteError).errcode ?? 0) % 256 !== SQLITE_BUSY) throw error;
    throw new Error(`${path} is in use by another controller: only PostgreSQL (DB_HOST) is for several`);
  }
}

/** @throws Error when it is another program's, or of a newer version. */
export function migrate(database: DatabaseSync, path: string): void {
  const pragma = (name: string) => Object.values(database.prepare(`PRAGMA ${name}`).get() as object)[0] as number;
  const version = pragma("user_version");
  const isForeign = pragma("application_id") !== APPLICATION_ID && (version > 0 || pragma("page_count") > 0);
  if (isForeign && database.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get() !== undefined) {
    throw new Error(`${path} is no database of the controller`);
  }
  if (version > SQLITE_MIGRATIONS.length) {
    throw new Error(`${path} is of a newer version (${version}; this one knows ${SQLITE_MIGRATIONS.length})`);
  }
  for (const [index, sql] of SQLITE_MIGRATIONS.slice(version).entries()) {
    database.exec("BEGIN IMMEDIATE");
    try {
      database.exec(sql);
      database.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${version + index + 1}`);
      database.exec("COMMIT");
    } catch (error) {
      if (database.isTransaction) database.exec("ROLLBACK");
      throw error;
    }
  }
}
