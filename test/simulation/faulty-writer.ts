/** The store's writer on a machine that crashes, fills up and loses threads at labelled points of a transaction. */
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { WriterDiedError } from "../../src/store/errors.ts";
import type { Pruned, PruneLimits } from "../../src/store/prune.ts";
import { type Job, LocalWriter, type Writer } from "../../src/store/writer.ts";

/** Where the process can die in a transaction. */
export const CRASH_POINTS = ["before BEGIN", "before COMMIT", "after COMMIT"] as const;
export type CrashPoint = (typeof CRASH_POINTS)[number];

/** What can be wrong with the disk, or the thread that writes to it. The disk is full for real: SQLite may not grow. */
export const TROUBLES = [
  "disk full",
  "refused at BEGIN",
  "refused at COMMIT",
  "thread died before COMMIT",
  "thread died after COMMIT",
] as const;
export type Trouble = (typeof TROUBLES)[number];

/** Ends a transaction of a process that is no more. Nobody sees it. */
class Crash extends Error {}

/** SQLite's own limit, by default. */
const MAX_PAGES = 0xfffffffe;

const NEVER = new Promise<never>(() => undefined);

/** What node:sqlite throws on a full disk; SQLITE_FULL is 13. */
function diskFull(): Error {
  return Object.assign(new Error("database or disk is full"), { errcode: 13, errstr: "database or disk is full" });
}

export class FaultyWriter implements Writer {
  readonly runsAside = false;
  readonly #database: DatabaseSync;
  readonly #local: LocalWriter;
  readonly #keptMs: number;
  #crash: { readonly point: CrashPoint; skip: number } | null = null;
  /** The process has died: nothing that it began is answered any more. */
  dead = false;
  /** It comes after so many jobs, and goes by itself after so many more. */
  #trouble: { readonly kind: Trouble; after: number; jobs: number } | null = null;
  /** Transactions that reached the disk. */
  commits = 0;
  /** Jobs that were refused. */
  refused = 0;

  /**
   * @param keptMs how long a prune keeps what is over: less than the store allows, whose histories would be too long.
   */
  constructor(database: DatabaseSync, limits: PruneLimits, keptMs: number) {
    this.#database = database;
    this.#local = new LocalWriter(this.#watched(database), limits);
    this.#keptMs = keptMs;
  }

  /** The process dies at `point` of a transaction: the next one, or one after `skip` others. */
  crashAt(point: CrashPoint, skip = 0): void {
    this.#crash = { point, skip };
  }

  get troubled(): boolean {
    return this.#troubled() !== null;
  }

  /** For so many jobs, from now on or after so many others. */
  makeTrouble(kind: Trouble, jobs: number, after = 0): void {
    this.#heal();
    this.#trouble = { kind, after, jobs };
    if (after === 0) this.#fill();
  }

  /** What is wrong now. */
  #troubled(): Trouble | null {
    return this.#trouble?.after === 0 ? this.#trouble.kind : null;
  }

  #fill(): void {
    if (this.#troubled() !== "disk full") return;
    const { page_count: pages } = this.#database.prepare("PRAGMA page_count").get() as { page_count: number };
    this.#database.exec(`PRAGMA max_page_count = ${pages}`);
  }

  #heal(): void {
    if (this.#troubled() === "disk full") this.#database.exec(`PRAGMA max_page_count = ${MAX_PAGES}`);
    this.#trouble = null;
  }

  #jobEnded(): void {
    const trouble = this.#trouble;
    if (trouble === null || this.dead) return;
    if (trouble.after > 0) {
      trouble.after -= 1;
      this.#fill();
    } else if (trouble.jobs-- <= 1) this.#heal();
  }

  async run(job: Job): Promise<Pruned | null> {
    if (this.dead) return NEVER;
    try {
      return await this.#local.run(job.type === "prune" ? { ...job, keepAfter: job.now - this.#keptMs } : job);
    } catch (error) {
      if (error instanceof Crash) return NEVER;
      this.refused += 1;
      throw error;
    } finally {
      this.#jobEnded();
    }
  }

  async close(): Promise<void> {}

  /** The part of a connection that a writer uses, watched where transactions begin and end. */
  #watched(database: DatabaseSync): DatabaseSync {
    const writer = this;
    const around = (statement: StatementSync, before: () => void, after: () => void) => ({
      run() {
        before();
        const result = statement.run();
        after();
        return result;
      },
    });
    const watched = {
      get isTransaction() {
        // The dead roll nothing back.
        return !writer.dead && database.isTransaction;
      },
      prepare(sql: string) {
        const statement = database.prepare(sql);
        if (sql.startsWith("BEGIN")) {
          return around(
            statement,
            () => writer.#begin(),
            () => undefined,
          );
        }
        if (sql !== "COMMIT") return statement;
        return around(
          statement,
          () => writer.#beforeCommit(),
          () => writer.#afterCommit(),
        );
      },
    };
    return watched as unknown as DatabaseSync;
  }

  #begin(): void {
    this.#dieAt("before BEGIN");
    if (this.#troubled() === "refused at BEGIN") throw diskFull();
  }

  #beforeCommit(): void {
    this.#dieAt("before COMMIT");
    if (this.#troubled() === "refused at COMMIT") throw diskFull();
    if (this.#troubled() === "thread died before COMMIT") throw new WriterDiedError("the thread has ended");
  }

  #afterCommit(): void {
    this.commits += 1;
    this.#dieAt("after COMMIT");
    if (this.#troubled() === "thread died after COMMIT") throw new WriterDiedError("the thread has ended");
  }

  #dieAt(point: CrashPoint): void {
    if (this.#crash?.point !== point) return;
    if (this.#crash.skip-- > 0) return;
    this.dead = true;
    throw new Crash(point);
  }
}
