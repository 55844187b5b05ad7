/** The time line in the file. */
import { afterEach, expect, test } from "vitest";
import { HISTORY_KEPT_MS, HISTORY_KEPT_ROWS } from "../../src/ports/history.ts";
import { MIN_RETENTION_MS, openStore, type SqliteStore } from "../../src/store/store.ts";
import { gpu, turn } from "./turns.ts";

const NOW = 1_800_000_000_000;
const change = (uuid: string, at: number, state = "free") => ({
  uuid,
  at,
  state,
  services: ["ocr"],
  isIdle: at % 2 === 1,
});
const stores: SqliteStore[] = [];

function opened(): SqliteStore {
  const store = openStore({ path: ":memory:", retentionMs: MIN_RETENTION_MS });
  stores.push(store);
  return store;
}

afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
});

test("changes come back as they were kept, in the order of their times, and up to where the daemon ran", async () => {
  const store = opened();
  expect(store.historyUntil()).toBeNull();
  const changes = [change("GPU-a", NOW), change("GPU-b", NOW + 1, "lost"), change("GPU-a", NOW + 2)];
  await store.keepHistory(changes, NOW + 5);
  expect(store.historyUntil()).toBe(NOW + 5);
  expect(store.gpuChanges(NOW - 1, NOW + 2, 10)).toEqual(changes);
  expect(store.gpuChanges(NOW, NOW + 1, 10)).toEqual([changes[1]]);
  expect(store.gpuChanges(NOW - 1, NOW + 2, 2)).toEqual(changes.slice(1));
  expect(store.lastChanges(["GPU-a", "GPU-b", "GPU-c"], NOW + 1)).toEqual([changes[0], changes[1]]);
});

test("what is older than eight days goes, but for what a GPU still is", async () => {
  const store = opened();
  await store.commit(turn({ gpus: [gpu("GPU-a"), gpu("GPU-b")] }));
  await store.keepHistory([change("GPU-a", NOW), change("GPU-a", NOW + 1), change("GPU-b", NOW)], NOW);
  await store.keepHistory([], NOW + HISTORY_KEPT_MS + 10);
  expect(store.gpuChanges(0, Number.MAX_SAFE_INTEGER, 10)).toEqual([change("GPU-b", NOW), change("GPU-a", NOW + 1)]);
});

test("of GPUs that have left the inventory nothing stays beyond the eight days", async () => {
  const store = opened();
  await store.commit(turn({ gpus: [gpu("GPU-a"), gpu("GPU-b")] }));
  await store.keepHistory([change("GPU-a", NOW), change("GPU-b", NOW + 1)], NOW);
  await store.commit(turn({ removedGpus: ["GPU-b"] }));
  await store.keepHistory([], NOW + HISTORY_KEPT_MS);
  expect(store.gpuChanges(0, NOW + 1, 10)).toEqual([change("GPU-a", NOW), change("GPU-b", NOW + 1)]);

  await store.keepHistory([], NOW + HISTORY_KEPT_MS + 10);
  expect(store.gpuChanges(0, NOW + 1, 10)).toEqual([change("GPU-a", NOW)]);
});

test("there are never more rows than are kept, and it is the oldest that go", async () => {
  const store = opened();
  const changes = Array.from({ length: HISTORY_KEPT_ROWS + 500 }, (_, i) => change(`GPU-${i % 16}`, NOW + i));
  await store.keepHistory(changes, NOW + changes.length);
  const kept = store.gpuChanges(0, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  expect(kept.length).toBeLessThanOrEqual(HISTORY_KEPT_ROWS + 1);
  expect(kept.at(-1)).toEqual(changes.at(-1));
});
