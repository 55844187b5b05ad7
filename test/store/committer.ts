/**
 * A process of its own that commits turns to a real file, for tests that kill it or take its disk away.
 *
 * `node committer.ts FILE loop` commits without pause; `... ask` commits one turn for every line on stdin.
 * After each COMMIT it prints one line of JSON, a {@link Report}.
 */
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { StorageUnavailableError } from "../../src/ports/refusals.ts";
import { StoreRefusedError } from "../../src/store/errors.ts";
import type { SqliteStore } from "../../src/store/store.ts";
import { openThreaded } from "./threaded.ts";
import { gpu, grantTurn, notification, releaseTurn, START, turn } from "./turns.ts";

export type Report =
  | { readonly type: "opened" }
  | { readonly type: "refused"; readonly reason: string; readonly message: string }
  /** The turn `n` is on disk: even turns lease the GPUs to `ids`, odd ones end those leases. */
  | { readonly type: "committed"; readonly n: number; readonly ids: readonly string[] }
  | { readonly type: "unavailable"; readonly message: string };

const WIDTH = 4;
export const UUIDS = Array.from({ length: WIDTH }, (_, i) => `GPU-${i}`);

function say(report: Report): void {
  writeSync(1, `${JSON.stringify(report)}\n`);
}

/** Commits turn `n` of an endless sequence that is the same in every run. */
async function commitTurn(store: SqliteStore, n: number): Promise<readonly string[]> {
  const cycle = Math.floor(n / 2);
  const ids = UUIDS.map((_, i) => `trainer-${String(cycle).padStart(8, "0")}-${i}`);
  const granted = grantTurn(ids, UUIDS, START + cycle * 2, cycle * WIDTH + 1);
  const notifications = ids.map((id) => notification(`d-${id}`, id, { createdAt: granted.at }));
  await store.commit(n % 2 === 0 ? { ...granted, notifications } : releaseTurn(granted, START + n));
  return ids;
}

async function serve(store: SqliteStore, mode: string): Promise<void> {
  let n = 0;
  const step = async (): Promise<void> => {
    try {
      const ids = await commitTurn(store, n);
      say({ type: "committed", n, ids });
      n += 1;
    } catch (error) {
      if (!(error instanceof StorageUnavailableError)) throw error;
      say({ type: "unavailable", message: error.message });
    }
  };
  if (mode === "loop") for (;;) await step();
  for await (const _ of createInterface({ input: process.stdin })) await step();
}

async function main(path: string, mode: string): Promise<void> {
  let store: SqliteStore;
  try {
    store = (await openThreaded(path)).store;
  } catch (error) {
    if (!(error instanceof StoreRefusedError)) throw error;
    say({ type: "refused", reason: error.reason, message: error.message });
    return;
  }
  if (store.load().gpus.length === 0) await store.commit(turn({ gpus: UUIDS.map((uuid) => gpu(uuid)) }));
  say({ type: "opened" });
  await serve(store, mode);
}

const [, , path, mode] = process.argv;
if (import.meta.main && path !== undefined) await main(path, mode ?? "ask");
