/** When keys were last used, as long as there are the keys. */
import { expect, test } from "vitest";
import { type AuditEntry, DONE } from "../../src/ports/audit.ts";
import { openForTest } from "./files.ts";
import { START } from "./turns.ts";

const YEAR_MS = 365 * 86_400_000;

const ENTRY: AuditEntry = {
  at: START,
  principal: "root",
  keyId: null,
  address: null,
  action: "create key",
  object: null,
  result: DONE,
  reason: null,
  requestId: null,
  count: 1,
};

test("a key's last use is kept as long as the key, however long ago; that of a key that is gone is dropped", async () => {
  const store = openForTest();
  const [stored, given, gone] = ["a", "b", "c"].map((digit) => digit.repeat(12)) as [string, string, string];
  const key = { principal: "ann", role: "allocate", createdAt: START, expiresAt: null } as const;
  await store.addKey({ sha256: "a".repeat(64), ...key }, ENTRY);
  const old = [stored, given, gone].map((keyId) => ({ keyId, at: START }));
  await store.noteKeyUses(old, [given, gone]);
  expect(store.loadKeyUses()).toHaveLength(3);
  await store.noteKeyUses([{ keyId: "d".repeat(12), at: START + 3 * YEAR_MS }], [given, "d".repeat(12)]);
  expect(store.loadKeyUses().map(({ keyId, at }) => [keyId[0], at - START])).toEqual([
    ["a", 0],
    ["b", 0],
    ["d", 3 * YEAR_MS],
  ]);
});
