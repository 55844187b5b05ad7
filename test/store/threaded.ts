import { setTimeout as sleep } from "node:timers/promises";
import type { Worker } from "node:worker_threads";
import { openDatabase } from "../../src/store/open.ts";
import { MIN_RETENTION_MS, SqliteStore } from "../../src/store/store.ts";
import { WriterThread } from "../../src/store/writer-thread.ts";
import { turn } from "./turns.ts";

/** Opens a store as `openStore` does, and waits until its thread writes for it. It has one turn more, an empty one. */
export async function openThreaded(path: string) {
  const opened = openDatabase(path);
  const writer = new WriterThread(opened.file as string, opened.database, 0);
  const store = new SqliteStore(opened, MIN_RETENTION_MS, writer);
  const workers: Worker[] = [];
  process.on("worker", (worker) => workers.push(worker));
  const before = store.load();
  await store.commit(turn({ at: before.lastTurnAt ?? 0, nextFencingToken: before.nextFencingToken }));
  while (!writer.ready) await sleep(1);
  return { store, writer, workers };
}
