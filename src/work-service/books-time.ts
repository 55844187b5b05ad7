/**
 * Which clock the instants in work's books are by, and what is done when it was set between two processes of the daemon.
 * Within one boot of the host its uptime has measured the time away; over a boot only the wall clock has, and if that is
 * behind no time is taken to have passed.
 */
import type { DatabaseSync } from "node:sqlite";
import type { Run, Task, Worker, Workload } from "../work/model.ts";
import { movedBy } from "../work/moved.ts";
import type { StoredWork } from "../work/state.ts";

export const CLOCK_TABLE = `
  -- One row: what the clock of the books would have shown when the host booted, and in which boot of it.
  CREATE TABLE clock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    boot_id TEXT NOT NULL,
    booted_at INTEGER NOT NULL
  ) STRICT;
`;

export interface BooksTime {
  readonly at: number;
  readonly bootId: string;
  readonly uptimeMs: number;
}

/** The clock counts as set only when it is off by this much. */
const LEAST_SETTING_MS = 1_000;

/** By how much the instants of `stored` must be moved, to be as long ago or as far off as they really are. */
function movedMs(database: DatabaseSync, stored: StoredWork, { at, bootId, uptimeMs }: BooksTime): number {
  const row = database.prepare("SELECT boot_id, booted_at FROM clock").get();
  const last = latest(stored);
  const continued = row === undefined ? Number.NEGATIVE_INFINITY : Number(row.booted_at) + uptimeMs;
  // Less than it was: the uptime of a container that has been started again, which is none of the host's.
  const isMeasured = row?.boot_id === bootId && continued > last - LEAST_SETTING_MS;
  const ms = isMeasured ? at - continued : Math.min(0, at - last);
  return Math.abs(ms) < LEAST_SETTING_MS ? 0 : ms;
}

/**
 * The latest instant at which something is known to have happened, of those that are moved: one that stays where it was would
 * lie in the future for good once the clock was set back, and move the rest at every start.
 */
function latest({ runs, workers }: StoredWork): number {
  const begun = runs.filter(({ phase }) => phase !== "ended").map(({ createdAt }) => createdAt);
  const seen = workers.map(({ lastSeen }) => lastSeen);
  return [...begun, ...seen].reduce((last, each) => Math.max(last, each), 0);
}

/** Inside a transaction of the caller's. @returns by how much the instants were moved, in ms. */
export function moveTo(database: DatabaseSync, stored: StoredWork, time: BooksTime): number {
  const ms = movedMs(database, stored, time);
  if (ms !== 0) {
    const moved = movedBy(ms, stored);
    write(database, "tasks", "id", moved.tasks, stored.tasks, ({ id }: Task) => id);
    write(database, "workloads", "uid", moved.workloads, stored.workloads, ({ uid }: Workload) => uid);
    write(database, "runs", "id", moved.runs, stored.runs, ({ id }: Run) => id);
    write(database, "workers", "node", moved.workers, stored.workers, ({ node }: Worker) => node);
    database
      .prepare(
        "UPDATE deliveries SET created_at = created_at + ?1, next_attempt_at = next_attempt_at + ?1 WHERE state = 'pending'",
      )
      .run(ms);
    database.prepare("UPDATE idempotency_keys SET at = at + ?").run(ms);
  }
  database
    .prepare("INSERT OR REPLACE INTO clock VALUES (1, ?, ?)")
    .run(time.bootId, Math.floor(time.at - time.uptimeMs));
  return ms;
}

function write<T>(
  database: DatabaseSync,
  table: string,
  key: string,
  after: readonly T[],
  before: readonly T[],
  keyOf: (record: T) => string,
): void {
  const put = database.prepare(`UPDATE ${table} SET body = ? WHERE ${key} = ?`);
  for (const [i, record] of after.entries()) if (record !== before[i]) put.run(JSON.stringify(record), keyOf(record));
}
