/**
 * A database that may be away: whoever asks meanwhile is told so at once, and one call a second tries whether it is back.
 * A database that hangs would otherwise hold up everything for as long as it takes to give up, again and again.
 */
import { type Database, DatabaseError, type Row, type Statement } from "./database.ts";

const RETRY_MS = 1_000;

interface Log {
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
}

export class GuardedDatabase implements Database {
  readonly dialect: Database["dialect"];
  readonly #database: Database;
  readonly #log: Log;
  readonly #now: () => number;
  #retryAt = 0;
  #isTrying = false;
  /** Why it cannot be reached; `null`: the last call was answered. */
  trouble: string | null = null;

  constructor(database: Database, log: Log, now: () => number = () => performance.now()) {
    this.dialect = database.dialect;
    this.#database = database;
    this.#log = log;
    this.#now = now;
  }

  async run(statements: readonly Statement[]): Promise<readonly (readonly Row[])[]> {
    const isTry = this.trouble !== null;
    if (isTry && (this.#isTrying || this.#now() < this.#retryAt)) throw new DatabaseError("away", String(this.trouble));
    if (isTry) this.#isTrying = true;
    try {
      const rows = await this.#database.run(statements);
      this.#answered();
      return rows;
    } catch (error) {
      if (error instanceof DatabaseError && error.kind === "away") this.#lost(error.message);
      else this.#answered();
      throw error;
    } finally {
      if (isTry) this.#isTrying = false;
    }
  }

  #answered(): void {
    if (this.trouble !== null) this.#log.info({}, "the database answers again");
    this.trouble = null;
  }

  #lost(message: string): void {
    this.#retryAt = this.#now() + RETRY_MS;
    if (this.trouble === null) this.#log.warn({ trouble: message }, "the database is away: history is kept in memory");
    this.trouble = message;
  }

  close(): Promise<void> {
    return this.#database.close();
  }
}
