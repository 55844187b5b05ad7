import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { type AuditEntry, type AuditQuery, DONE } from "../../src/ports/audit.ts";
import { MIN_RETENTION_MS, openStore } from "../../src/store/store.ts";
import { databasePath, openForTest } from "./files.ts";
import { queued, request, START, turn } from "./turns.ts";

const DAY_MS = 86_400_000;

function entry(over: Partial<AuditEntry> = {}): AuditEntry {
  return {
    at: START,
    principal: "ann",
    keyId: "0123456789ab",
    address: "10.0.0.1",
    action: "POST /gpu/allocate",
    object: "a-1",
    result: DONE,
    reason: null,
    requestId: "r-1",
    count: 1,
    ...over,
  };
}

function query(over: Partial<AuditQuery> = {}): AuditQuery {
  return {
    principal: null,
    action: null,
    object: null,
    result: null,
    from: null,
    to: null,
    before: null,
    limit: 10,
    ...over,
  };
}

test("a turn's entries are kept with it, and with a turn that fails none", async () => {
  const store = openForTest();
  const change = turn({ allocations: [queued(request("a-1"))], audit: [entry()] });
  await store.commit(change);
  // The same row again breaks a constraint: the whole turn is refused.
  const notification = {
    deliveryId: "d",
    allocationId: "nowhere",
    status: "allocated",
    url: "",
    body: "",
    createdAt: START,
  };
  await expect(
    store.commit(turn({ audit: [entry({ object: "a-2" })], notifications: [notification as never] })),
  ).rejects.toThrow();
  expect(store.audit(query())).toEqual({ entries: [{ seq: 1, ...entry() }], next: null });
});

test("entries can be neither changed nor taken out of their midst", async () => {
  const path = databasePath();
  const store = openForTest(path);
  await store.keepAudit([entry(), entry({ object: "a-2" }), entry({ object: "a-3" })]);
  const database = new DatabaseSync(path);
  expect(() => database.exec("UPDATE audit SET principal = 'eve'")).toThrow(/only added to/);
  expect(() => database.exec("DELETE FROM audit WHERE seq = 2")).toThrow(/only added to/);
  database.close();
  expect(store.audit(query()).entries.map(({ object }) => object)).toEqual(["a-3", "a-2", "a-1"]);
});

test("pages go back in time, by whom, what, how it came out and when", async () => {
  const store = openForTest();
  await store.keepAudit([
    entry({ at: START, principal: "ann", object: "a-1" }),
    entry({ at: START + 1, principal: "bob", object: "b-1", result: "quota" }),
    entry({ at: START + 2, principal: "ann", object: "a-2", result: "not-owner" }),
    entry({ at: START + 3, principal: "ann", object: "a-3" }),
  ]);
  const objects = (over: Partial<AuditQuery>) => store.audit(query(over)).entries.map(({ object }) => object);
  expect(objects({ principal: "ann" })).toEqual(["a-3", "a-2", "a-1"]);
  expect(objects({ result: "refused" })).toEqual(["a-2", "b-1"]);
  expect(objects({ result: "quota" })).toEqual(["b-1"]);
  expect(objects({ object: "a-1" })).toEqual(["a-1"]);
  expect(objects({ action: "GET /" })).toEqual([]);
  expect(objects({ from: START + 1, to: START + 3 })).toEqual(["a-2", "b-1"]);
  const first = store.audit(query({ limit: 3 }));
  expect([first.entries.length, first.next]).toEqual([3, 2]);
  expect(store.audit(query({ limit: 3, before: first.next }))).toMatchObject({ entries: [{ seq: 1 }], next: null });
});

test("a page that finds nothing among many says where to go on, and costs no more than the next", async () => {
  const store = openForTest();
  await store.keepAudit([entry({ principal: "rare" }), ...Array.from({ length: 20_500 }, () => entry())]);
  const first = store.audit(query({ principal: "rare" }));
  expect(first.entries).toEqual([]);
  expect(first.next).toBe(502);
  const second = store.audit(query({ principal: "rare", before: first.next }));
  expect(second).toMatchObject({ entries: [{ seq: 1, principal: "rare" }], next: null });
});

test("numbers are never given again, also when all that was written down is old enough to go", async () => {
  const store = openStore({ path: databasePath(), retentionMs: MIN_RETENTION_MS, auditRetentionMs: DAY_MS });
  await store.keepAudit([entry(), entry(), entry({ object: "last" })]);
  expect(await store.prune(START + 2 * DAY_MS)).toMatchObject({ audit: 2, more: false });
  expect(await store.prune(START + 2 * DAY_MS)).toMatchObject({ audit: 0, more: false });
  await store.keepAudit([entry({ at: START + 2 * DAY_MS, object: "next" })]);
  expect(store.audit(query()).entries.map(({ seq, object }) => [seq, object])).toEqual([
    [4, "next"],
    [3, "last"],
  ]);
  await store.close();
});

test("entries go after their own retention, the oldest first, and none before one that stays", async () => {
  const store = openStore({ path: databasePath(), retentionMs: MIN_RETENTION_MS, auditRetentionMs: DAY_MS });
  // The clock was set back between the second and the third.
  await store.keepAudit([0, 10, 5, 20].map((ms) => entry({ at: START + ms })));
  expect(await store.prune(START + DAY_MS + 6)).toMatchObject({ audit: 1, more: false });
  expect(await store.prune(START + DAY_MS + 11)).toMatchObject({ audit: 2 });
  expect(store.audit(query()).entries.map(({ at }) => at - START)).toEqual([20]);
  await store.close();
});
