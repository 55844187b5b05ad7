import { expect, test } from "vitest";
import type { Allocation } from "../../src/core/model/allocation.ts";
import type { EndedLease, EndedLeaseQuery, Store } from "../../src/ports/store.ts";
import { MIN_RETENTION_MS } from "../../src/store/store.ts";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { databasePath, open, openForTest } from "./files.ts";
import { ended, gpu, lease, leased, queued, request, START, turn } from "./turns.ts";

const ALL: EndedLeaseQuery = {
  endedAfter: 0,
  submittedBefore: Number.MAX_SAFE_INTEGER,
  after: null,
  limit: 1_000,
};

function* pages(store: Store, query: Partial<EndedLeaseQuery>): Generator<readonly EndedLease[]> {
  let after: EndedLeaseQuery["after"] = null;
  do {
    const { leases, next } = store.endedLeases({ ...ALL, ...query, after });
    yield leases;
    after = next;
  } while (after !== null);
}

test("an ended lease comes back with what accounting needs, and nothing else does", async () => {
  const store = openForTest();
  const gpus = ["GPU-a", "GPU-b", "GPU-c"];
  const asked = request("a-1", { serviceName: "ocr", principal: "alice" });
  const used = [{ uuid: "GPU-b", spans: [[START + 2, START + 4, 2] as const] }];
  await store.commit(
    turn({
      gpus: gpus.map((uuid) => gpu(uuid)),
      allocations: [
        ended(asked, { ...lease(["GPU-a", "GPU-b"], 1, START + 1), sharedMib: 2_048 }, START + 5, "released", used),
        ended(request("a-2"), null, START + 5, "cancelled"),
        leased(request("a-3"), lease(["GPU-c"])),
        queued(request("a-4")),
      ],
    }),
  );
  expect(store.endedLeases(ALL)).toStrictEqual({
    leases: [
      {
        id: "a-1",
        serviceName: "ocr",
        principal: "alice",
        gpus: ["GPU-a", "GPU-b"].map((uuid) => ({ uuid, memoryTotalMib: 81_559 })),
        sharedMib: 2_048,
        used,
        fencingToken: 1,
        grantedAt: START + 1,
        endedAt: START + 5,
      },
    ],
    next: null,
  });
});

test("pages of any size give each lease of the period once, in the order of the ends, as the fake store does", async () => {
  const store = openForTest();
  const fake = new MemoryStore();
  const all: Allocation[] = Array.from({ length: 60 }, (_, i) => {
    const submittedAt = START + ((i * 37) % 60);
    // Four to an instant, so that the page must go on within one.
    const endedAt = START + 100 + Math.floor(i / 4);
    return ended(request(`a-${i}`, { submittedAt }), lease(["GPU-a"], i + 1, submittedAt + 1), endedAt);
  });
  for (const each of [store, fake]) {
    await each.commit(turn({ gpus: [gpu("GPU-a")], allocations: all }));
  }
  const query = { endedAfter: START + 102, submittedBefore: START + 40 };
  const expected = all
    .filter(({ request: { submittedAt } }) => submittedAt < START + 40)
    .filter((each) => each.status === "ended" && each.outcome.at > START + 102)
    .map(({ request: { id } }) => id);
  expect(expected.length).toBeGreaterThan(10);
  for (const limit of [1, 3, 4, 7, 32, 1_000]) {
    const found = [...pages(store, { ...query, limit })];
    expect(found.flat().map(({ id }) => id)).toEqual(expected);
    expect(found).toStrictEqual([...pages(fake, { ...query, limit })]);
    for (const page of found) expect(page.length).toBeLessThanOrEqual(limit);
  }
});

test("a page looks at no more leases than its limit, also when it leaves them out", async () => {
  const store = openForTest();
  const allocations = Array.from({ length: 10 }, (_, i) =>
    ended(request(`a-${i}`, { submittedAt: START + i }), lease(["GPU-a"], i + 1, START + i), START + 100 + i),
  );
  await store.commit(turn({ gpus: [gpu("GPU-a")], allocations }));
  const first = store.endedLeases({ ...ALL, submittedBefore: START, limit: 3 });
  expect(first).toEqual({ leases: [], next: { endedAt: START + 102, row: expect.any(Number) } });
  expect([...pages(store, { submittedBefore: START, limit: 3 })]).toHaveLength(4);
});

test("records are complete from the first on until some were dropped, and then from where the dropping stopped", async () => {
  const path = databasePath();
  let store = open(path);
  expect(store.completeFrom()).toBeNull();
  const later = START + MIN_RETENTION_MS;
  await store.commit(
    turn({
      gpus: [gpu("GPU-a")],
      allocations: [
        ended(request("a-1"), lease(["GPU-a"], 1), START + 10),
        ended(request("a-2"), lease(["GPU-a"], 2), later),
      ],
    }),
  );
  await store.prune(later + 10);
  expect(store.completeFrom()).toBeNull();
  await store.prune(later + 500);
  expect(store.completeFrom()).toBe(START + 500);
  await store.close();
  store = openForTest(path);
  // A turn changes other progress, not this; a prune that drops nothing moves it no further.
  await store.commit(turn({ at: later }));
  await store.prune(later + 900);
  expect(store.completeFrom()).toBe(START + 500);
  expect(store.endedLeases(ALL).leases.map(({ id }) => id)).toEqual(["a-2"]);
});

test("a lease is flagged as idle in its row alone, and the flag goes as it came", async () => {
  const path = databasePath();
  const store = open(path);
  const live = leased(request("a-1"), lease(["GPU-a"]));
  const idle = { ...live, idleSince: START + 5 };
  await store.commit(turn({ gpus: [gpu("GPU-a")], allocations: [live] }));
  await store.commit(turn({ allocations: [idle] }));
  expect(store.load().allocations).toStrictEqual([idle]);
  await store.close();
  const reopened = openForTest(path);
  expect(reopened.load().allocations).toStrictEqual([idle]);
  await reopened.commit(turn({ allocations: [live] }));
  expect(reopened.load().allocations).toStrictEqual([live]);
});
