import { expect, test } from "vitest";
import type { Event } from "../../src/core/host/events.ts";
import type { AllocationQuery } from "../../src/ports/store.ts";
import { JOURNAL_KEPT_EVENTS, PRUNE_ROWS, SNAPSHOT_AFTER_EVENTS } from "../../src/store/prune.ts";
import { MIN_RETENTION_MS } from "../../src/store/store.ts";
import { databasePath, open, openForTest } from "./files.ts";
import { ended, gpu, lease, leased, notification, queued, request, START, turn } from "./turns.ts";

const EVERYTHING: AllocationQuery = { status: null, serviceName: null, principal: null, before: null, limit: 10_000 };
const freed = (n: number): Event[] =>
  Array.from({ length: n }, () => ({ type: "gpu-freed", uuid: "GPU-a", at: START }));

test("a record is kept 30 days from its end, however long ago it was submitted", async () => {
  const store = openForTest();
  const early = ended(request("a-1"), null, START + 10, "cancelled");
  const late = ended(request("a-2"), null, START + 11, "cancelled");
  await store.commit(turn({ allocations: [early, late] }));

  expect(await store.prune(START + 10 + MIN_RETENTION_MS)).toEqual({
    allocations: 0,
    deliveries: 0,
    turns: 0,
    keys: 0,
    audit: 0,
    more: false,
  });
  expect((await store.prune(START + 11 + MIN_RETENTION_MS)).allocations).toBe(1);
  expect(store.list(EVERYTHING)).toEqual([late]);
  expect(store.findEnded("a-1")).toBeUndefined();
});

test("what is live stays for ever", async () => {
  const store = openForTest();
  const live = [queued(request("a-1")), leased(request("a-2"), lease(["GPU-a"]))];
  await store.commit(turn({ gpus: [gpu("GPU-a")], allocations: live }));
  expect(await store.prune(START + 100 * MIN_RETENTION_MS)).toMatchObject({ allocations: 0, more: false });
  expect(store.load().allocations).toEqual(live);
  expect(store.load().gpus).toHaveLength(1);
});

test("a record stays as long as a webhook about it is undelivered, and goes with the webhook's own retention", async () => {
  const store = openForTest();
  const gone = ended(request("a-1"), null, START, "expired");
  await store.commit(turn({ allocations: [gone], notifications: [notification("d-1", "a-1", { status: "expired" })] }));
  const muchLater = START + 2 * MIN_RETENTION_MS;
  expect(await store.prune(muchLater)).toMatchObject({ allocations: 0, deliveries: 0 });
  expect(store.due(muchLater, 9)).toHaveLength(1);

  await store.commit(
    turn({
      at: muchLater,
      settlements: [
        {
          deliveryId: "d-1",
          allocationId: "a-1",
          status: "expired",
          at: muchLater,
          outcome: "gave-up",
          nextAttemptAt: null,
          httpStatus: null,
          error: "no answer",
        },
      ],
    }),
  );
  expect(await store.prune(muchLater + MIN_RETENTION_MS)).toMatchObject({ allocations: 0, deliveries: 0 });
  expect(await store.prune(muchLater + MIN_RETENTION_MS + 1)).toMatchObject({ allocations: 1, deliveries: 1 });
});

test("one call drops a bounded number and says that there is more", async () => {
  const store = openForTest();
  const many = Array.from({ length: PRUNE_ROWS + 5 }, (_, i) => ended(request(`a-${i}`), null, START, "cancelled"));
  await store.commit(turn({ allocations: many }));
  const now = START + MIN_RETENTION_MS + 1;
  expect(await store.prune(now)).toMatchObject({ allocations: PRUNE_ROWS, more: true });
  expect(await store.prune(now)).toMatchObject({ allocations: 5, more: false });
  expect(store.list(EVERYTHING)).toEqual([]);
});

test("the journal is never cut before there is a snapshot behind which to cut", async () => {
  const store = openForTest();
  await store.commit(turn({ events: freed(SNAPSHOT_AFTER_EVENTS - 1) }));
  expect((await store.prune(START + 9 * MIN_RETENTION_MS)).turns).toBe(0);
  expect(store.latestSnapshot()).toBeNull();
  expect([...store.readJournal()]).toHaveLength(SNAPSHOT_AFTER_EVENTS - 1);
});

test("a snapshot holds the state at its number, and only what is behind it and old enough goes", async () => {
  const path = databasePath();
  const store = open(path);
  const live = [queued(request("a-1")), leased(request("a-2"), lease(["GPU-a"]))];
  await store.commit(turn({ at: START, events: freed(5_000) }));
  await store.commit(
    turn({ at: START + 10, events: freed(5_000), gpus: [gpu("GPU-a")], allocations: live, bootId: "b" }),
  );
  const state = store.load();

  expect(await store.prune(START + 10 + MIN_RETENTION_MS)).toMatchObject({ turns: 1 });
  expect(store.latestSnapshot()).toStrictEqual({ seq: 10_000, at: START + 10 + MIN_RETENTION_MS, state });
  expect(store.readJournal().next().value).toMatchObject({ seq: 5_001 });
  // The first number says that those between are gone.
  expect(store.readEvents(17, 1)).toMatchObject([{ seq: 5_001 }]);

  // Everything behind the snapshot has gone; numbers go on from it, over a restart too.
  expect(await store.prune(START + 9 * MIN_RETENTION_MS)).toMatchObject({ turns: 1 });
  expect([...store.readJournal()]).toEqual([]);
  await store.close();
  const reopened = openForTest(path);
  expect(reopened.load().lastSeq).toBe(10_000);
  await reopened.commit(turn({ at: START + 20, events: freed(2) }));
  expect([...reopened.readJournal()].map(({ seq }) => seq)).toEqual([10_001, 10_002]);
  expect((await reopened.prune(START + 99 * MIN_RETENTION_MS)).turns).toBe(0);
  expect(reopened.latestSnapshot()?.seq).toBe(10_000);
});

test("what was pruned between two events that are kept is seen as missing: no page reaches over it", async () => {
  const store = openForTest();
  // The clock was ahead, and was set back before the daemon was started again.
  const ahead = START + 9 * MIN_RETENTION_MS;
  await store.commit(turn({ at: ahead, events: freed(100) }));
  await store.commit(turn({ at: START, events: freed(100) }));
  await store.commit(turn({ at: START + 10, events: freed(SNAPSHOT_AFTER_EVENTS) }));
  expect(await store.prune(START + 10 + MIN_RETENTION_MS)).toMatchObject({ turns: 1 });
  const seqs = (afterSeq: number) => store.readEvents(afterSeq, 1_000).map(({ seq }) => seq);
  expect([seqs(0)[0], seqs(0).at(-1)]).toEqual([1, 100]);
  expect(seqs(100)[0]).toBe(201);
  expect(seqs(150)[0]).toBe(201);
});

test("the journal is bounded by number as well as by age, in bounded steps", async () => {
  const store = openForTest();
  const turns = 30;
  for (let i = 0; i < turns; i++) await store.commit(turn({ events: freed(JOURNAL_KEPT_EVENTS / 25) }));
  let dropped = 0;
  for (let more = true; more; ) {
    const pruned = await store.prune(START);
    dropped += pruned.turns;
    more = pruned.more;
  }
  expect(dropped).toBe(5);
  expect(store.readJournal().next().value).toMatchObject({ seq: JOURNAL_KEPT_EVENTS / 5 + 1 });
});
