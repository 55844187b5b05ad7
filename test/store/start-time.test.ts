import { expect, onTestFinished, test } from "vitest";
import type { Remains, Share } from "../../src/core/model/gpu.ts";
import { openDatabase } from "../../src/store/open.ts";
import { MIN_RETENTION_MS, SqliteStore } from "../../src/store/store.ts";
import { LocalWriter } from "../../src/store/writer.ts";
import { databasePath, open, openForTest } from "./files.ts";
import {
  ended,
  gpu,
  grantTurn,
  lease,
  leased,
  notification,
  queued,
  releaseTurn,
  request,
  START,
  turn,
} from "./turns.ts";

const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * 24 * HOUR_MS;
/** No instant of these tests is smaller, and nothing else in a record is as large but a fencing token. */
const LEAST_INSTANT = 1_000_000_000_000;
const BOOT = { bootId: "boot-1", bootedAt: START - HOUR_MS };

const NUDGE = { at: START + 5, by: "bob", message: "done by six?" };
const LEASE = { ...lease(["GPU-a"], 7), expiresAt: START + HOUR_MS, nudge: NUDGE };
const KEY = { principal: "ada", key: "k-1", fingerprint: "digest", at: START, ids: ["a-1"] };

const USE = { spans: [[START + 1, START + 3, 2] as const, [START + 4, START + 9, 4] as const], since: START + 12 };

const SHARES: readonly Share[] = [
  {
    allocationId: "a-5",
    since: START + 1,
    memoryMib: 1_024,
    startedAt: START + 2,
    settledAt: START + 3,
    overSince: START + 4,
    use: USE,
  },
  {
    allocationId: "a-6",
    since: START + 5,
    memoryMib: 1_024,
    startedAt: null,
    settledAt: null,
    overSince: null,
    use: { spans: [], since: START + 6 },
  },
];
const REMAINS: readonly Remains[] = [
  { allocationId: "a-7", since: START + 7, memoryMib: 1_024, pid: 4_711, submittedAt: START + 3 },
];

/** One of everything that has a time to come, or an age that counts. */
const EVERYTHING = turn({
  at: START + 5,
  events: [{ type: "resumed", at: START, bootId: "boot-1", fencingFloor: START }],
  bootId: "boot-1",
  cordon: { at: START + 2, by: "ops", reason: "a new driver", drainBy: START + 3_600_002 },
  nextFencingToken: START,
  gpus: [
    gpu("GPU-a", { kind: "leased", allocationId: "a-1", since: START, use: USE }),
    { ...gpu("GPU-b"), cordon: { at: START + 6, by: "ops", reason: "fan", drainBy: START + 60_006 } },
    { ...gpu("GPU-l"), lostSince: START + 7 },
    { ...gpu("GPU-u"), foreignSince: START + 7 },
    { ...gpu("GPU-x"), fault: { at: START + 8, reason: "Xid 48", scope: "all", sequence: 9 }, answeredUpTo: 3 },
    gpu("GPU-s", {
      kind: "shared",
      since: START,
      baselineMib: 4,
      shares: SHARES,
      remains: REMAINS,
      overdueSince: START,
    }),
    gpu("GPU-c", { kind: "reclaiming", allocationId: "a-9", since: START + 1, baselineMib: 4 }),
    gpu("GPU-d", { kind: "quarantined", cause: "ghost", since: START + 2, baselineMib: 4, reason: "busy" }),
  ],
  allocations: [
    {
      ...leased(request("a-1", { ttlMs: HOUR_MS }), LEASE),
      idleSince: START + 2,
      notice: { kind: "preempt", at: START + 4, until: START + 30_004, for: "a-3" },
    },
    {
      status: "offered",
      request: request("a-2"),
      lease: lease(["GPU-b"], 8, START + 3),
      claimBy: START + 60_000,
      notice: { kind: "drain", at: START + 6, until: START + 60_006, reason: "fan (ops)" },
    },
    { ...queued(request("a-3", { submittedAt: START + 4 })), preemptingSince: START + 4 },
    ended(request("a-4"), null, START + 5, "cancelled"),
  ],
  notifications: [notification("d-1", "a-2")],
  keys: [KEY],
});

/** `value` with every instant in it moved, wherever it stands. */
function moved(value: unknown, ms: number): unknown {
  return JSON.parse(JSON.stringify(value), (name, part) =>
    typeof part === "number" && part >= LEAST_INSTANT && !/token/i.test(name) ? part + ms : part,
  );
}

test("nothing is known of a clock before the first turn; afterwards, when it was and in which boot", async () => {
  const path = databasePath();
  const store = open(path);
  expect(store.lastTime()).toBeNull();
  await store.begin({ at: START, ...BOOT, movedMs: 0 });
  expect(store.lastTime()).toBeNull();
  await store.commit(EVERYTHING);
  await store.close();
  const again = openForTest(path);
  expect(again.lastTime()).toEqual({ lastAt: START + 5, ...BOOT });
  await again.begin({ at: START + 9, bootId: "boot-2", bootedAt: null, movedMs: 0 });
  expect(again.lastTime()).toEqual({ lastAt: START + 5, bootId: "boot-2", bootedAt: null });
});

test.each([YEAR_MS, -YEAR_MS])(
  "a clock that was set by %d ms takes along every instant that still counts",
  async (ms) => {
    const path = databasePath();
    const store = open(path);
    await store.commit(EVERYTHING);
    const before = store.load();
    const over = store.findEnded("a-4");
    await store.begin({ at: START + 100 + ms, ...BOOT, movedMs: ms });
    const after = store.load();
    await store.close();

    expect(after).toEqual(moved(before, ms));
    const again = openForTest(path);
    expect(again.load()).toEqual(after);
    expect(again.lastTime()?.lastAt).toBe(START + 5 + ms);
    expect(again.findEnded("a-4")).toEqual(over);
    expect(again.findKey("ada", "k-1")).toEqual({ ...KEY, at: START + ms });
    expect(again.due(START + ms - 1, 9)).toEqual([]);
    expect(again.due(START + ms, 9)).toMatchObject([{ deliveryId: "d-1", createdAt: START + ms }]);
    const ids = again.list({ status: null, serviceName: null, principal: null, before: null, limit: 9 });
    expect(ids.filter(({ status }) => status !== "ended").map((a) => a.request.id)).toEqual(["a-3", "a-2", "a-1"]);
  },
);

test("the journal folds from the snapshot that is taken with the move, and turns go on after it", async () => {
  const store = openForTest();
  const granted = grantTurn(["b-1"], ["GPU-x"], START, 1);
  await store.commit(granted);
  await store.begin({ at: START + 10 - YEAR_MS, ...BOOT, movedMs: -YEAR_MS });
  const snapshot = store.latestSnapshot();
  expect(snapshot).toMatchObject({ at: START + 10 - YEAR_MS, state: store.load() });
  expect([...store.readJournal(snapshot?.seq)]).toEqual([]);

  const [now] = store.load().allocations;
  if (now?.status !== "leased") throw new Error("the lease has gone");
  await store.commit(releaseTurn({ ...granted, allocations: [now] }, START + 20 - YEAR_MS));
  expect([...store.readJournal(snapshot?.seq)].map(({ event }) => event.type)).toEqual(["ended"]);
  expect(store.load()).toMatchObject({ allocations: [], gpus: [gpu("GPU-x")] });
  // A second move, with nothing in the journal since the snapshot of the first, replaces it.
  await store.begin({ at: START, ...BOOT, movedMs: 0 });
  await store.begin({ at: START + 30, ...BOOT, movedMs: YEAR_MS });
  await store.begin({ at: START + 30 - YEAR_MS, ...BOOT, movedMs: -YEAR_MS });
  expect(store.latestSnapshot()?.state).toEqual(store.load());
});

test("a move that does not fit on the disk is not made at all", async () => {
  const opened = openDatabase(databasePath());
  const store = new SqliteStore(opened, MIN_RETENTION_MS, new LocalWriter(opened.database));
  onTestFinished(() => store.close());
  await store.commit(EVERYTHING);
  const padding = { padding: "x".repeat(100_000) };
  await store.commit(turn({ at: START + 5, allocations: [queued(request("a-5", { workloadData: padding }))] }));
  const before = store.load();
  const used = Object.values(opened.database.prepare("PRAGMA page_count").get() ?? {})[0] as number;
  opened.database.exec(`PRAGMA max_page_count = ${used + 2}`);
  const time = { at: START + YEAR_MS, ...BOOT, movedMs: YEAR_MS };
  await expect(store.begin(time)).rejects.toMatchObject({ code: "storage-unavailable" });
  expect(store.load()).toEqual(before);
  expect(store.lastTime()).toMatchObject({ lastAt: START + 5, bootedAt: null });
  opened.database.exec("PRAGMA max_page_count = 1000000");
  await store.begin(time);
  expect(store.load()).toEqual(moved(before, YEAR_MS));
});
