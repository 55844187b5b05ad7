import { expect, test } from "vitest";
import { KEY_LIFE_MS, type KeptKey } from "../../src/ports/store.ts";
import { databasePath, open, openForTest } from "./files.ts";
import { gpu, grantTurn, START, turn } from "./turns.ts";

const kept = (over: Partial<KeptKey> = {}): KeptKey => ({
  principal: "ada",
  key: "k-1",
  fingerprint: "digest",
  at: START,
  ids: ["trainer-1", "trainer-2"],
  ...over,
});

test("a key is kept with its change, and known after a restart", async () => {
  const path = databasePath();
  const before = open(path);
  await before.commit(turn({ keys: [kept()] }));
  await before.close();
  const after = open(path);
  expect(after.findKey("ada", "k-1")).toEqual(kept());
  expect(after.findKey("bob", "k-1")).toBeUndefined();
  expect(after.findKey("ada", "k-2")).toBeUndefined();
  await after.close();
});

test("invariant 9: a turn that uses a living key again is refused whole, whatever else is in it", async () => {
  const store = openForTest();
  await store.commit(turn({ gpus: [gpu("GPU-a")], keys: [kept()] }));
  const second = {
    ...grantTurn(["trainer-9"], ["GPU-a"], START + 1, 7),
    keys: [kept({ at: START + KEY_LIFE_MS - 1 })],
  };
  await expect(store.commit(second)).rejects.toThrow();
  expect(store.load().allocations).toEqual([]);
  expect(store.findKey("ada", "k-1")).toEqual(kept());
});

test("after its day a key may stand for another request", async () => {
  const store = openForTest();
  await store.commit(turn({ keys: [kept()] }));
  const next = kept({ fingerprint: "other", at: START + KEY_LIFE_MS, ids: ["trainer-3"] });
  await store.commit(turn({ keys: [next] }));
  expect(store.findKey("ada", "k-1")).toEqual(next);
});

test("keys are dropped after their day, and not before", async () => {
  const store = openForTest();
  const keys = Array.from({ length: 1_500 }, (_, n) => kept({ key: `k-${n}` }));
  await store.commit(turn({ keys: [...keys, kept({ key: "young", at: START + 1 })] }));
  expect(await store.prune(START + KEY_LIFE_MS - 1)).toMatchObject({ keys: 0, more: false });
  expect(await store.prune(START + KEY_LIFE_MS)).toMatchObject({ keys: 1_000, more: true });
  expect(await store.prune(START + KEY_LIFE_MS)).toMatchObject({ keys: 500, more: false });
  expect(store.findKey("ada", "k-0")).toBeUndefined();
  expect(store.findKey("ada", "young")).toBeDefined();
});
