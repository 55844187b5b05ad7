/**
 * Work's books out of a backup. What has become of their open tasks since, nobody knows:
 *
 *  1. Every open task is to fail, with `outcome-unknown`, once what lives of it has been stopped.
 *  2. Services go on. Their next runs have numbers, and so names, that no run since the backup can have had, nor one since
 *     an earlier restore of it.
 *  3. Runs that were made since bear a mark of these books and are not in them: their worker stops them. So it does with
 *     those that no worker had said to have when the backup was made, and that may have begun since: they are left out.
 */
import { DatabaseSync } from "node:sqlite";
import { isOnNode } from "../work/evolve.ts";
import type { Run, Slot, Task, Workload } from "../work/model.ts";
import { isOver, type StoredWork } from "../work/state.ts";
import { openBooks } from "./store.ts";

/** More than a replica is ever tried between two backups. */
const TRIES_SKIPPED = 1_000_000;

/**
 * Brings the file to this program's schema, and marks what is in it. It is one file afterwards, without a log.
 *
 * @param name what it is called in errors.
 * @throws Error when it is not work's, of a newer version, or damaged.
 */
export function prepareRestored(file: string, name: string): void {
  const database = new DatabaseSync(file);
  try {
    openBooks(database, name);
    const check = Object.values(database.prepare("PRAGMA integrity_check(1)").get() ?? {})[0];
    if (check !== "ok") throw new Error(`${name} is damaged (${check})`);
    database.exec("BEGIN IMMEDIATE");
    rewrite(database);
    database.exec("COMMIT; PRAGMA journal_mode = DELETE");
  } finally {
    database.close();
  }
}

/** As they are to go on from, at `now` of the wall clock. */
export function restoredBooks({ tasks, workloads, runs, workers, lastEpoch }: StoredWork, now: number): StoredWork {
  const told = runs.filter((run) => run.phase === "ended" || (isOnNode(run) && run.known));
  const isTold = new Set(told.map(({ id }) => id));
  const slotsOf = (slots: readonly Slot[]) =>
    slots.map((slot) => ({
      ...slot,
      // Nobody tries a thousand times a second. A clock that was set back says nothing.
      tries: now > slot.tries ? now : slot.tries + TRIES_SKIPPED,
      live: slot.live !== null && isTold.has(slot.live) ? slot.live : null,
    }));
  return {
    tasks: tasks.map((task) => (isOver(task) ? task : { ...task, restored: true, slots: slotsOf(task.slots) })),
    workloads: workloads.map((workload) => ({ ...workload, slots: slotsOf(workload.slots) })),
    // Another may have had the lease of one that never began: what is on it a worker has to say.
    runs: told.map((run) => (run.phase === "ended" ? { ...run, handedOut: true } : run)),
    workers,
    lastEpoch: Math.max(lastEpoch, now),
  };
}

function rewrite(database: DatabaseSync): void {
  const all = <T>(table: string) =>
    database
      .prepare(`SELECT body FROM ${table}`)
      .all()
      .map(({ body }) => JSON.parse(body as string) as T);
  const row = database.prepare("SELECT last_epoch FROM books").get();
  const before: StoredWork = {
    tasks: all<Task>("tasks"),
    workloads: all<Workload>("workloads"),
    runs: all<Run>("runs"),
    workers: [],
    lastEpoch: Number(row?.last_epoch ?? 0),
  };
  const { tasks, workloads, runs, lastEpoch } = restoredBooks(before, Date.now());
  const putTask = database.prepare("UPDATE tasks SET body = ? WHERE id = ?");
  for (const task of tasks) putTask.run(JSON.stringify(task), task.id);
  const putWorkload = database.prepare("UPDATE workloads SET body = ? WHERE uid = ?");
  for (const workload of workloads) putWorkload.run(JSON.stringify(workload), workload.uid);
  const kept = new Set(runs.map(({ id }) => id));
  const drop = database.prepare("DELETE FROM runs WHERE id = ?");
  for (const { id } of before.runs) if (!kept.has(id)) drop.run(id);
  const putRun = database.prepare("UPDATE runs SET body = ? WHERE id = ?");
  for (const run of runs) putRun.run(JSON.stringify(run), run.id);
  database.prepare("UPDATE books SET last_epoch = ?").run(lastEpoch);
}
