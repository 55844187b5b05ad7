import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { onTestFinished } from "vitest";
import { MIN_RETENTION_MS, openStore, type SqliteStore } from "../../src/store/store.ts";
import { openThreaded } from "./threaded.ts";

/** A path for a database in a folder of its own, removed when the test ends. */
export function databasePath(): string {
  const folder = mkdtempSync(join(tmpdir(), "store-test-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "orchestrator.db");
}

export function open(path: string): SqliteStore {
  return openStore({ path, retentionMs: MIN_RETENTION_MS });
}

/** A store on `path` that is closed when the test ends. */
export function openForTest(path = databasePath()): SqliteStore {
  const store = open(path);
  onTestFinished(() => store.close());
  return store;
}

/** The same, with its thread at work. */
export async function openThreadedForTest(path = databasePath()) {
  const threaded = await openThreaded(path);
  onTestFinished(() => threaded.store.close());
  return threaded;
}

/** Waits for something that another thread does. */
export async function until(isSo: () => boolean): Promise<void> {
  for (let waited = 0; !isSo(); waited++) {
    if (waited > 10_000) throw new Error("it never came");
    await sleep(1);
  }
}
