import { expect, test } from "vitest";
import type { DeliverySettlement } from "../../src/ports/webhooks.ts";
import type { SqliteStore } from "../../src/store/store.ts";
import { databasePath, open, openForTest } from "./files.ts";
import { notification, queued, request, START, turn } from "./turns.ts";

async function storeWith(...deliveryIds: string[]): Promise<SqliteStore> {
  const store = openForTest();
  await store.commit(
    turn({
      allocations: [queued(request("a-1"))],
      notifications: deliveryIds.map((id, i) => notification(id, "a-1", { createdAt: START + i })),
    }),
  );
  return store;
}

function settlement(deliveryId: string, over: Partial<DeliverySettlement>): DeliverySettlement {
  return {
    deliveryId,
    allocationId: "a-1",
    status: "allocated",
    at: START + 100,
    outcome: "delivered",
    nextAttemptAt: null,
    httpStatus: 200,
    error: null,
    ...over,
  };
}

const dueIds = (store: SqliteStore, now: number) => store.due(now, 100).map(({ deliveryId }) => deliveryId);

test("a notification is due from its creation on, oldest first, at most as many as asked for", async () => {
  const store = await storeWith("d-1", "d-2", "d-3");
  expect(store.nextDueAt()).toBe(START);
  expect(dueIds(store, START - 1)).toEqual([]);
  expect(store.due(START + 2, 2).map(({ deliveryId }) => deliveryId)).toEqual(["d-1", "d-2"]);
  const first = { ...notification("d-1", "a-1"), principal: "anonymous", attempts: 0, nextAttemptAt: START };
  expect(store.due(START, 9)).toEqual([first]);
});

test("the oldest of every principal comes before the second of any", async () => {
  const store = openForTest();
  const owned = (id: string, principal: string) => queued(request(id, { principal }));
  await store.commit(
    turn({
      allocations: [owned("a-1", "mallory"), owned("b-1", "alice")],
      notifications: [
        ...[1, 2, 3].map((i) => notification(`d-${i}`, "a-1", { createdAt: START + i })),
        notification("d-9", "b-1", { createdAt: START + 50 }),
      ],
    }),
  );
  expect(store.due(START + 50, 3).map(({ deliveryId }) => deliveryId)).toEqual(["d-1", "d-9", "d-2"]);
});

test("a failed attempt is counted and comes back when it was put off to, over a restart too", async () => {
  const path = databasePath();
  const store = open(path);
  await store.commit(turn({ allocations: [queued(request("a-1"))], notifications: [notification("d-1", "a-1")] }));
  const put = settlement("d-1", { outcome: "retry", nextAttemptAt: START + 4_999.2, httpStatus: 503, error: "busy" });
  await store.commit(turn({ settlements: [put] }));
  await store.close();

  const reopened = openForTest(path);
  expect(reopened.nextDueAt()).toBe(START + 5_000);
  expect(dueIds(reopened, START + 4_999)).toEqual([]);
  expect(reopened.due(START + 5_000, 1)).toMatchObject([
    { deliveryId: "d-1", attempts: 1, nextAttemptAt: START + 5_000 },
  ]);
});

test("what was delivered or given up is not due again", async () => {
  const store = await storeWith("d-1", "d-2");
  await store.commit(
    turn({ settlements: [settlement("d-1", {}), settlement("d-2", { outcome: "gave-up", httpStatus: 410 })] }),
  );
  expect(dueIds(store, START + 1e9)).toEqual([]);
  expect(store.nextDueAt()).toBeNull();
});

test("withdrawing stops the allocated webhook of that allocation alone", async () => {
  const store = openForTest();
  await store.commit(
    turn({
      allocations: [queued(request("a-1")), queued(request("a-2"))],
      notifications: [
        notification("d-1", "a-1"),
        notification("d-2", "a-1", { status: "expired" }),
        notification("d-3", "a-2"),
      ],
    }),
  );
  await store.commit(turn({ withdrawn: ["a-1"] }));
  expect(dueIds(store, START)).toEqual(["d-2", "d-3"]);
});

test("a notification that is withdrawn in its own turn never leaves", async () => {
  const store = openForTest();
  await store.commit(
    turn({ allocations: [queued(request("a-1"))], notifications: [notification("d-1", "a-1")], withdrawn: ["a-1"] }),
  );
  expect(store.nextDueAt()).toBeNull();
});

test("what an allocation was told of its end is withdrawn when it is outdated, but for what is said now", async () => {
  const store = openForTest();
  const notices = (...ids: string[]) => ids.map((id) => notification(id, "a-1", { status: "preempting" }));
  const first = [...notices("d-1"), notification("d-2", "a-1"), ...notices("d-3")];
  await store.commit(turn({ allocations: [queued(request("a-1"))], notifications: first }));
  await store.commit(turn({ settlements: [settlement("d-1", {})] }));
  await store.commit(turn({ notifications: notices("d-4"), outdated: ["a-1"] }));
  expect(dueIds(store, START + 1e9)).toEqual(["d-2", "d-4"]);
  expect(["d-1", "d-3"].map((id) => store.findDelivery(id)?.state)).toEqual(["delivered", "withdrawn"]);
});

test("a settlement that comes after the withdrawal, or after the delivery, revives nothing", async () => {
  const store = await storeWith("d-1", "d-2");
  await store.commit(turn({ settlements: [settlement("d-1", {})] }));
  await store.commit(turn({ withdrawn: ["a-1"] }));
  const again = { outcome: "retry", nextAttemptAt: START + 200 } as const;
  await store.commit(turn({ settlements: [settlement("d-1", again), settlement("d-2", again)] }));
  expect(store.nextDueAt()).toBeNull();
});

test("asking what is due reads no row that is not due", async () => {
  const store = await storeWith(...Array.from({ length: 20_000 }, (_, i) => `d-${i}`));
  const count = 2_000;
  const startedAt = process.cpuUsage();
  for (let i = 0; i < count; i++) {
    store.due(START - 1, 10);
    store.nextDueAt();
  }
  // A scan of 20,000 rows takes a millisecond; an index, microseconds.
  expect(process.cpuUsage(startedAt).user / count).toBeLessThan(200);
});

test("what became of each webhook is listed, newest first, by state or allocation, in pages", async () => {
  const store = await storeWith("d-1", "d-2", "d-3", "d-4");
  await store.commit(
    turn({ settlements: [settlement("d-1", {}), settlement("d-2", { outcome: "gave-up", error: "410" })] }),
  );
  const list = (over: object = {}) =>
    store
      .listDeliveries({ state: null, allocationId: null, before: null, limit: 10, ...over })
      .map(({ deliveryId }) => deliveryId);
  expect(list()).toEqual(["d-4", "d-3", "d-2", "d-1"]);
  expect(list({ state: "pending" })).toEqual(["d-4", "d-3"]);
  expect(list({ limit: 2 })).toEqual(["d-4", "d-3"]);
  expect(list({ limit: 2, before: "d-3" })).toEqual(["d-2", "d-1"]);
  expect(list({ before: "unknown" })).toEqual([]);
  expect(list({ allocationId: "nobody" })).toEqual([]);
  expect(store.findDelivery("d-2")).toMatchObject({ state: "gave-up", attempts: 1, error: "410", nextAttemptAt: null });
});

test("a webhook that was delivered or given up is due again when it is asked for; a withdrawn one never is", async () => {
  const store = openForTest();
  await store.commit(
    turn({
      allocations: [queued(request("a-1")), queued(request("a-2"))],
      notifications: [notification("d-1", "a-1", { status: "expired" }), notification("d-2", "a-2")],
    }),
  );
  await store.commit(turn({ settlements: [settlement("d-1", {})], withdrawn: ["a-2"] }));
  await store.commit(turn({ at: START + 9, redeliveries: ["d-1", "d-2"] }));
  expect(dueIds(store, START + 8)).toEqual([]);
  expect(dueIds(store, START + 9)).toEqual(["d-1"]);
  expect(store.findDelivery("d-2")?.state).toBe("withdrawn");
});
