/**
 * Work's books out of a backup. What has become of their open tasks since, nobody knows:
 *
 *  1. Every open task is to fail, with `outcome-unknown`, once what lives of it has been stopped.
 *  2. Services go on. Their next runs have numbers, and so names, that no run since the backup can have had.
 *  3. Runs that were made since bear a mark of these books and are not in them: their worker stops them.
 */
import { DatabaseSync } from "node:sqlite";
import type { Slot, Task, Workload } from "../work/model.ts";
import { isOver } from "../work/state.ts";
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
    change<Task>(database, "tasks", "id", (task) =>
      isOver(task) ? task : { ...task, restored: true, ...skipped(task) },
    );
    change<Workload>(database, "workloads", "uid", (workload) => ({ ...workload, ...skipped(workload) }));
    database.prepare("UPDATE books SET last_epoch = max(last_epoch, ?)").run(Date.now());
    database.exec("COMMIT; PRAGMA journal_mode = DELETE");
  } finally {
    database.close();
  }
}

function change<T>(database: DatabaseSync, table: string, key: string, to: (record: T) => T): void {
  const put = database.prepare(`UPDATE ${table} SET body = ? WHERE ${key} = ?`);
  for (const row of database.prepare(`SELECT * FROM ${table}`).all()) {
    put.run(JSON.stringify(to(JSON.parse(row.body as string) as T)), row[key] as string);
  }
}

function skipped({ slots }: { readonly slots: readonly Slot[] }): { readonly slots: readonly Slot[] } {
  return { slots: slots.map((slot) => ({ ...slot, tries: slot.tries + TRIES_SKIPPED })) };
}
