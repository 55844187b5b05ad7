/** The writing side of the store: whole transactions on one connection, in whichever thread it lives. */
import type { DatabaseSync } from "node:sqlite";
import type { EpochMs } from "../core/base/time.ts";
import { PRUNE_LIMITS, type Pruned, type PruneLimits, pruneDatabase } from "./prune.ts";
import { type StartTime, writeStart } from "./start-time.ts";
import {
  type Pruning,
  preparePruning,
  prepareReads,
  prepareWrites,
  type Reads,
  type Write,
  type Writes,
} from "./statements.ts";

/** One transaction. */
export type Job =
  | { readonly type: "write"; readonly writes: readonly Write[] }
  | { readonly type: "start"; readonly time: StartTime }
  | { readonly type: "prune"; readonly now: EpochMs; readonly keepAfter: EpochMs; readonly keepAuditAfter: EpochMs };

/** One job at a time: the next is given when the last has settled. */
export interface Writer {
  /** Resolves when the job is on disk, with what a `prune` dropped. Rejects with what SQLite threw, or WriterDiedError. */
  run(job: Job): Promise<Pruned | null>;
  /** The next job is likely to be another thread's. */
  readonly runsAside: boolean;
  /** Ends its connection, after the job under way. */
  close(): Promise<void>;
}

/** Runs jobs on a connection of its own thread. */
export class JobRunner {
  readonly #database: DatabaseSync;
  readonly #pruneLimits: PruneLimits;
  readonly #writes: Writes;
  readonly #reads: Reads;
  readonly #pruning: Pruning;
  readonly #begin;
  readonly #commit;
  readonly #rollback;

  constructor(database: DatabaseSync, pruneLimits = PRUNE_LIMITS) {
    this.#database = database;
    this.#pruneLimits = pruneLimits;
    this.#writes = prepareWrites(database);
    this.#reads = prepareReads(database);
    this.#pruning = preparePruning(database);
    this.#begin = database.prepare("BEGIN IMMEDIATE");
    this.#commit = database.prepare("COMMIT");
    this.#rollback = database.prepare("ROLLBACK");
  }

  /** Runs `job` as one transaction: all of it is on disk afterwards, or nothing of it anywhere. */
  run(job: Job): Pruned | null {
    // A ROLLBACK that failed, as it may on a failing disk, is made up for here.
    if (this.#database.isTransaction) this.#rollback.run();
    try {
      this.#begin.run();
      const result = this.#work(job);
      this.#commit.run();
      return result;
    } catch (error) {
      this.#rollBack();
      throw error;
    }
  }

  #work(job: Job): Pruned | null {
    if (job.type === "prune") {
      const { now, keepAfter, keepAuditAfter } = job;
      return pruneDatabase(this.#reads, this.#pruning, now, keepAfter, keepAuditAfter, this.#pruneLimits);
    }
    if (job.type === "start") {
      writeStart(this.#database, this.#reads, job.time);
      return null;
    }
    for (const [statement, ...parameters] of job.writes) this.#writes[statement].run(...parameters);
    return null;
  }

  #rollBack(): void {
    // SQLite has rolled back by itself after some errors, a full disk among them.
    if (!this.#database.isTransaction) return;
    try {
      this.#rollback.run();
    } catch {
      // The first error is the one to tell; the next job tries again.
    }
  }
}

/** Writes in the calling thread: for databases in memory, which no other thread can see. */
export class LocalWriter implements Writer {
  readonly runsAside = false;
  readonly #runner: JobRunner;

  /** The `database` stays the caller's to close. */
  constructor(database: DatabaseSync, pruneLimits = PRUNE_LIMITS) {
    this.#runner = new JobRunner(database, pruneLimits);
  }

  async run(job: Job): Promise<Pruned | null> {
    return this.#runner.run(job);
  }

  async close(): Promise<void> {}
}
