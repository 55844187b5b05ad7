import { DatabaseSync } from "node:sqlite";
import { expect, onTestFinished, test } from "vitest";
import type { Event } from "../../src/core/host/events.ts";
import {
  type Allocation,
  END_REASONS,
  type LiveAllocation,
  type Notice,
  type Request,
  SHARINGS,
} from "../../src/core/model/allocation.ts";
import type { Gpu, GpuHold, Remains, Share } from "../../src/core/model/gpu.ts";
import { type GpuUse, NO_USE } from "../../src/core/model/use.ts";
import type { AllocationQuery, Turn } from "../../src/ports/store.ts";
import { decodeState } from "../../src/store/records.ts";
import fc from "../fc.ts";
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

const USED: GpuUse = { spans: [[START, START + 5, 4]], since: START + 7 };
const SHARES: readonly Share[] = [
  {
    allocationId: "a-1",
    since: START,
    memoryMib: 1_024,
    startedAt: START,
    settledAt: START + 1,
    overSince: START + 2,
    use: USED,
  },
  {
    allocationId: "a-2",
    since: START,
    memoryMib: 2,
    startedAt: null,
    settledAt: null,
    overSince: null,
    use: NO_USE,
  },
];
const REMAINS: readonly Remains[] = [
  { allocationId: "a-3", since: START, memoryMib: 5, pid: 4_711, submittedAt: START },
  { allocationId: "a-4", since: START, memoryMib: 6, pid: null, submittedAt: START },
];
const EVERYTHING: AllocationQuery = { status: null, serviceName: null, principal: null, before: null, limit: 1_000 };

test("a new store is empty, and its clock has not begun", async () => {
  expect(openForTest().load()).toEqual({
    allocations: [],
    gpus: [],
    nextFencingToken: 1,
    bootId: null,
    cordon: null,
    bookings: [],
    lastTurnAt: null,
    lastSeq: 0,
  });
});

test("an allocation in every status comes back as it was, with everything in it", async () => {
  const text = fc.oneof(fc.string({ unit: "binary" }), fc.string());
  const instant = fc.integer({ min: 0, max: 2 ** 42 });
  const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null });
  const anyRequest: fc.Arbitrary<Request> = fc.record({
    id: fc.constant("trainer-1"),
    serviceName: fc.constantFrom("trainer", "a.b_c-d"),
    principal: fc.string(),
    workloadType: fc.constantFrom("training", "generic"),
    workloadData: fc.dictionary(text, fc.jsonValue({ noUnicodeString: false })) as fc.Arbitrary<
      Request["workloadData"]
    >,
    webhookUrl: maybe(fc.webUrl()),
    requirement: fc.record({
      gpus: fc.integer({ min: 1, max: 16 }),
      memoryMib: fc.integer({ min: 0, max: 200_000 }),
      priority: fc.integer({ min: 1, max: 10 }),
      maxUtilizationPercent: fc.double({ min: 0, max: 100, noNaN: true }),
      maxUtilizationExplicit: fc.boolean(),
    }),
    preferredGpus: fc.array(text),
    gpuModel: maybe(text),
    ttlMs: maybe(fc.integer({ min: 1 })),
    maxDurationMs: maybe(fc.integer({ min: 1 })),
    preemptible: fc.boolean(),
    queueTimeoutMs: maybe(fc.integer({ min: 1 })),
    migProfile: maybe(text),
    sharing: fc.constantFrom(...SHARINGS),
    fairShareDelayMs: fc.nat(),
    submittedAt: instant,
  });
  const anyLease = fc.record({
    gpus: fc.uniqueArray(
      fc.record({
        uuid: fc.constantFrom("GPU-a", "GPU-b", "00000000:01:00.0"),
        index: fc.nat(16),
        name: text,
        pciBusId: maybe(text),
        memoryTotalMib: maybe(fc.nat(200_000)),
        mig: maybe(
          fc.record({
            parentUuid: text,
            profile: text,
            gpuInstanceId: fc.nat(14),
            computeInstanceId: fc.nat(7),
          }),
        ),
        baselineMib: fc.nat(1_000),
        numaNodes: fc.array(fc.nat(7)),
        cpuAffinity: fc.constantFrom(null, "0-31,64-95", "7"),
      }),
      { selector: (held) => held.uuid, minLength: 1 },
    ),
    fencingToken: fc.maxSafeNat(),
    grantedAt: instant,
    expiresAt: maybe(instant),
    sharedMib: maybe(fc.integer({ min: 1, max: 81_559 })),
  });
  const anyUsed = fc.array(
    fc.record({
      uuid: fc.constantFrom("GPU-a", "GPU-b"),
      spans: fc.array(fc.tuple(instant, instant, fc.nat()), { minLength: 1 }),
    }),
  );
  const anyOutcome = fc.record({ reason: fc.constantFrom(...END_REASONS), at: instant, detail: maybe(fc.string()) });
  const anyNotice: fc.Arbitrary<Notice> = fc.oneof(
    fc.record({ kind: fc.constant("preempt"), at: instant, until: instant, for: fc.string() }),
    fc.record({ kind: fc.constant("drain"), at: instant, until: instant, reason: fc.string() }),
  );
  const anyAllocation: fc.Arbitrary<Allocation> = fc
    .oneof(
      fc.record({
        status: fc.constant("queued"),
        request: anyRequest,
        preemptingSince: maybe(instant),
        headSince: maybe(instant),
        seenAt: fc.constant(0),
      }),
      fc.record({
        status: fc.constant("offered"),
        request: anyRequest,
        lease: anyLease,
        claimBy: instant,
        notice: maybe(anyNotice),
      }),
      fc.record({
        status: fc.constant("leased"),
        request: anyRequest,
        lease: anyLease,
        idleSince: maybe(instant),
        notice: maybe(anyNotice),
      }),
      fc.record({
        status: fc.constant("ended"),
        request: anyRequest,
        lease: maybe(anyLease),
        used: anyUsed,
        outcome: anyOutcome,
      }),
      // What comes in over HTTP is plain JSON too: no null prototypes, no -0.
    )
    .map((allocation) => JSON.parse(JSON.stringify(allocation)) as Allocation);

  await fc.assert(
    fc.asyncProperty(anyAllocation, async (allocation) => {
      const store = open(":memory:");
      try {
        const gpus = ["GPU-a", "GPU-b", "00000000:01:00.0"].map((uuid) => gpu(uuid));
        await store.commit(turn({ allocations: [allocation], gpus }));
        if (allocation.status === "ended") {
          expect(store.findEnded("trainer-1")).toStrictEqual(allocation);
          expect(store.load().allocations).toEqual([]);
        } else {
          expect(store.load().allocations).toStrictEqual([allocation]);
          expect(store.findEnded("trainer-1")).toBeUndefined();
        }
        expect(store.list(EVERYTHING)).toStrictEqual([allocation]);
      } finally {
        await store.close();
      }
    }),
    { numRuns: 300 },
  );
});

test("a queued request's last sign of life is not kept: it comes back as 0", async () => {
  const store = openForTest();
  await store.commit(turn({ allocations: [{ ...queued(request("a-1")), seenAt: START + 5 }] }));
  expect(store.load().allocations).toEqual([{ ...queued(request("a-1")), seenAt: 0 }]);
});

test("a GPU comes back as it was in every hold, and a property that is not the model's does not", async () => {
  const store = openForTest();
  const gpus: Gpu[] = [
    gpu("GPU-1"),
    gpu("GPU-2", { kind: "leased", allocationId: "a-1", since: START, use: USED }),
    gpu("GPU-5", { kind: "shared", since: START, baselineMib: 4, shares: SHARES, remains: REMAINS, overdueSince: 7 }),
    gpu("GPU-3", { kind: "reclaiming", allocationId: "a-1", since: START, baselineMib: 3 }),
    {
      ...gpu("GPU-4", { kind: "quarantined", cause: "ghost", since: START, baselineMib: 3, reason: "busy" }),
      memoryTotalMib: null,
    },
  ];
  const stray = { ...gpus[0], utilization: 7 } as unknown as Gpu;
  await store.commit(turn({ gpus: [stray, ...gpus.slice(1)] }));
  expect(store.load().gpus).toStrictEqual(gpus.toSorted((a, b) => (a.uuid < b.uuid ? -1 : 1)));
});

const OLD_REASON = "memory or processes of an ended lease did not go in time";

test("a quarantine that was stored without its cause has it when it is read, from a row and from a snapshot", async () => {
  const path = databasePath();
  const store = open(path);
  const held: [string, GpuHold][] = [
    ["GPU-1", { kind: "quarantined", cause: "overdue", since: START, baselineMib: 3, reason: OLD_REASON }],
    ["GPU-2", { kind: "quarantined", cause: "ghost", since: START, baselineMib: 0, reason: "100 % busy" }],
  ];
  const gpus = held.map(([uuid, hold]) => gpu(uuid, hold));
  await store.commit(turn({ gpus }));
  await store.close();
  const database = new DatabaseSync(path);
  const { changes } = database.prepare("UPDATE gpus SET body = json_remove(body, '$.hold.cause')").run();
  database.close();
  expect(changes).toBe(2);
  const state = openForTest(path).load();
  expect(state.gpus).toEqual(gpus);
  const older = { ...state, gpus: gpus.map((one) => ({ ...one, hold: { ...one.hold, cause: undefined } })) };
  expect(decodeState(JSON.stringify(older)).gpus).toEqual(gpus);
});

test("a GPU's hold is what was said last, whether its lease says the same or not", async () => {
  const path = databasePath();
  let store = open(path);
  const asked = request("a-1");
  const held = lease(["GPU-a"], 1, START + 1);
  const byLease: Extract<GpuHold, { kind: "leased" }> = {
    kind: "leased",
    allocationId: "a-1",
    since: START + 1,
    use: NO_USE,
  };
  const reclaiming: GpuHold = { kind: "reclaiming", allocationId: "a-1", since: START, baselineMib: 3 };
  const free: GpuHold = { kind: "free" };
  const live = [leased(asked, held)];
  const gone = [ended(asked, held, START + 2)];
  const steps: [Partial<Turn>, GpuHold][] = [
    [{ gpus: [gpu("GPU-a")] }, free],
    [{ allocations: live, gpus: [gpu("GPU-a", byLease)] }, byLease],
    [{ gpus: [gpu("GPU-a", { ...byLease, use: USED })] }, { ...byLease, use: USED }],
    [{ gpus: [gpu("GPU-a", byLease)] }, byLease],
    [{ gpus: [gpu("GPU-a", free)] }, free],
    [{ gpus: [gpu("GPU-a", { ...byLease, since: START })] }, { ...byLease, since: START }],
    [{ gpus: [gpu("GPU-a", byLease)] }, byLease],
    [{ allocations: gone }, byLease],
    [{ gpus: [gpu("GPU-a", reclaiming)] }, reclaiming],
    [{ gpus: [gpu("GPU-a")] }, free],
    [{ allocations: [leased(request("a-2"), lease(["GPU-a"], 2))] }, free],
  ];
  for (const [n, [changes, hold]] of steps.entries()) {
    await store.commit(turn({ at: START + n, ...changes }));
    expect(store.load().gpus).toStrictEqual([gpu("GPU-a", hold)]);
    if (n % 2 === 1) {
      await store.close();
      store = open(path);
      expect(store.load().gpus).toStrictEqual([gpu("GPU-a", hold)]);
    }
  }
  await store.close();
});

test("after any history of turns a reopened file holds the state, the order and the whole journal", async () => {
  const step = fc.record({
    op: fc.constantFrom("submit", "lease", "offer", "claim", "renew", "end"),
    pick: fc.nat(63),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(step, { maxLength: 6 }), { maxLength: 20 }), async (turns) => {
      const path = databasePath();
      const live = new Map<string, LiveAllocation>();
      const past: Allocation[] = [];
      const uuids = ["GPU-0", "GPU-1", "GPU-2"];
      const told: Event[] = [];
      let made = 0;
      let store = open(path);
      await store.commit(turn({ gpus: uuids.map((uuid) => gpu(uuid)) }));
      for (const [n, steps] of turns.entries()) {
        const changed = new Map<string, Allocation>();
        const events: Event[] = [];
        for (const { op, pick } of steps) {
          const next = advance(op, pick, [...live.values()], uuids, `s-${String(made).padStart(4, "0")}`, START + n);
          if (next === undefined) continue;
          made += 1;
          changed.set(next.request.id, next);
          if (next.status === "ended") {
            live.delete(next.request.id);
            past.push(next);
          } else live.set(next.request.id, next);
          events.push({ type: "claimed", id: next.request.id, at: START + n });
        }
        told.push(...events);
        await store.commit(
          turn({ at: START + n, allocations: [...changed.values()], events, nextFencingToken: made + 1 }),
        );
        if (n % 7 === 3) {
          await store.close();
          store = open(path);
        }
      }
      await store.close();
      store = open(path);
      try {
        const inOrder = [...live.values(), ...past].sort(byTime);
        expect(store.load().allocations).toStrictEqual(inOrder.filter(({ status }) => status !== "ended"));
        expect(store.list(EVERYTHING)).toStrictEqual(inOrder.toReversed());
        expect([...store.readJournal()].map(({ event }) => event)).toStrictEqual(told);
        expect([...store.readJournal()].map(({ seq }) => seq)).toEqual(told.map((_, i) => i + 1));
      } finally {
        await store.close();
      }
    }),
    { numRuns: 60 },
  );
});

/** One legal change of one allocation, or nothing when `op` has no object. */
function advance(
  op: string,
  pick: number,
  live: readonly LiveAllocation[],
  uuids: readonly string[],
  freshId: string,
  at: number,
): Allocation | undefined {
  const held = new Set(live.flatMap((other) => (other.status === "queued" ? [] : other.lease.gpus.map((g) => g.uuid))));
  const free = uuids.filter((uuid) => !held.has(uuid));
  if (op === "submit") return queued(request(freshId, { submittedAt: at }));
  const chosen = live[pick % Math.max(1, live.length)];
  if (chosen === undefined) return undefined;
  if (op === "end") return ended(chosen.request, chosen.status === "queued" ? null : chosen.lease, at);
  if (chosen.status === "queued") {
    if (free.length === 0) return undefined;
    const given = lease(free.slice(0, 1 + (pick % 2)), pick, at);
    if (op === "lease") return leased(chosen.request, given);
    const { request: asked } = chosen;
    if (op === "offer") return { status: "offered", request: asked, lease: given, claimBy: at + 5, notice: null };
    return undefined;
  }
  if (op === "claim") return leased(chosen.request, chosen.lease);
  if (op === "renew") return { ...chosen, lease: { ...chosen.lease, expiresAt: at + 9 } };
  return undefined;
}

function byTime(a: Allocation, b: Allocation): number {
  return a.request.submittedAt - b.request.submittedAt || (a.request.id < b.request.id ? -1 : 1);
}

test("events are numbered through and read on from any number, in the middle of a turn too", async () => {
  const path = databasePath();
  const store = openForTest(path);
  await store.commit(turn({ at: START + 1, gpus: ["GPU-a", "GPU-b"].map((uuid) => gpu(uuid)) }));
  await store.commit(grantTurn(["a-1", "a-2"], ["GPU-a", "GPU-b"], START + 2, 1));
  await store.commit(turn({ at: START + 3 }));
  await store.commit(turn({ at: START + 4, events: [{ type: "gpu-freed", uuid: "GPU-a", at: START + 4 }] }));

  expect([...store.readJournal()].map(({ seq, at, event }) => [seq, at - START, event.type])).toEqual([
    [1, 2, "submitted"],
    [2, 2, "granted"],
    [3, 2, "submitted"],
    [4, 2, "granted"],
    [5, 4, "gpu-freed"],
  ]);
  expect([...store.readJournal(3)].map(({ seq }) => seq)).toEqual([4, 5]);
  expect([...store.readJournal(5)]).toEqual([]);
});

test("a page of events is bounded in number and in size, and the next begins where it ended", async () => {
  const store = openForTest();
  const freed = (n: number): Event[] =>
    Array.from({ length: n }, () => ({ type: "gpu-freed", uuid: "GPU-a", at: START }));
  await store.commit(turn({ at: START + 1, events: freed(1_000) }));
  await store.commit(turn({ at: START + 2, events: freed(10) }));
  const seqs = (afterSeq: number, limit: number) => store.readEvents(afterSeq, limit).map(({ seq }) => seq);
  expect(seqs(0, 3)).toEqual([1, 2, 3]);
  expect(seqs(997, 5)).toEqual([998, 999, 1_000, 1_001, 1_002]);
  expect(store.readEvents(999, 2).map(({ at }) => at - START)).toEqual([1, 2]);
  expect(seqs(1_005, 100)).toEqual([1_006, 1_007, 1_008, 1_009, 1_010]);
  expect(seqs(1_010, 100)).toEqual([]);
  expect(seqs(5_000, 100)).toEqual([]);

  // Each of a quarter of a megabyte: a page has the first, whatever its size, and no other.
  const large = request("a-1", { workloadData: { note: "x".repeat(256 * 1_024) } });
  for (let i = 0; i < 3; i++) await store.commit(turn({ events: [{ type: "submitted", request: large }] }));
  expect(seqs(1_010, 100)).toEqual([1_011]);
  expect(seqs(1_011, 100)).toEqual([1_012]);
  expect([...store.readJournal(1_000)].map(({ seq }) => seq).at(-1)).toBe(1_013);
  expect(store.load().lastSeq).toBe(1_013);
});

test("a page that is given up half-way leaves the log free to be folded into the file", async () => {
  const path = databasePath();
  const store = openForTest(path);
  for (let i = 0; i < 10; i++) await store.commit(turn({ events: [{ type: "gpu-freed", uuid: "GPU-a", at: START }] }));
  expect(store.readEvents(0, 3)).toHaveLength(3);
  const other = new DatabaseSync(path);
  onTestFinished(() => other.close());
  expect(other.prepare("PRAGMA wal_checkpoint(TRUNCATE)").get()).toMatchObject({ busy: 0 });
});

test("an event comes back as it was told, whatever type it has", async () => {
  const store = openForTest();
  const asked = request("a-1", { workloadData: { note: '\u2028 \ud83d\ude80 "quoted"' } });
  const events: Event[] = [
    { type: "submitted", request: asked },
    { type: "granted", id: "a-1", lease: lease(["GPU-a"]), claimBy: START + 60 },
    { type: "granted", id: "a-1", lease: lease(["GPU-a"]), claimBy: null },
    { type: "claimed", id: "a-1", at: START },
    { type: "renewed", id: "a-1", at: START, expiresAt: null },
    { type: "ended", id: "a-1", outcome: { reason: "expired", at: START, detail: null }, verify: ["GPU-a"] },
    { type: "gpu-seen", gpu: { uuid: "GPU-a", index: 0, name: "x", pciBusId: null, memoryTotalMib: null, mig: null } },
    { type: "use-seen", uuid: "GPU-a", allocationId: "a-1", at: START },
    { type: "use-gone", uuid: "GPU-a", allocationId: "a-1", at: START + 1 },
    { type: "went-idle", id: "a-1", at: START + 2, since: START + 1 },
    { type: "went-busy", id: "a-1", at: START + 3 },
    { type: "gpu-quarantined", uuid: "GPU-a", at: START, reason: "busy" },
    { type: "gpu-freed", uuid: "GPU-a", at: START },
    { type: "resumed", at: START, bootId: "boot", fencingFloor: START },
  ];
  await store.commit(turn({ events }));
  expect([...store.readJournal()].map(({ event }) => event)).toStrictEqual(events);
});

test("the fencing token, the boot and the time of the last turn survive, whichever turn set them", async () => {
  const path = databasePath();
  const store = open(path);
  await store.commit(turn({ at: START, nextFencingToken: 2 ** 53 - 1, bootId: "boot-1" }));
  await store.commit(turn({ at: START + 9, nextFencingToken: 2 ** 53 - 1, bootId: "boot-1" }));
  await store.close();
  expect(openForTest(path).load()).toMatchObject({
    nextFencingToken: 2 ** 53 - 1,
    bootId: "boot-1",
    lastTurnAt: START + 9,
  });
});

test("that the host is cordoned survives, and that it is not any more", async () => {
  const path = databasePath();
  const cordon = { at: START, by: "ops", reason: "a new driver", drainBy: START + 9 };
  for (const said of [cordon, { ...cordon, drainBy: null }, null, cordon]) {
    const store = open(path);
    await store.commit(turn({ cordon: said }));
    await store.commit(turn({ cordon: said }));
    await store.close();
    const again = open(path);
    expect(again.load().cordon).toEqual(said);
    await again.close();
  }
});

test("every filter and every page of a listing agrees with a plain sort", async () => {
  const store = openForTest();
  const all: Allocation[] = Array.from({ length: 90 }, (_, i) => {
    const asked = request(`s${i % 3}-${String((i * 37) % 90).padStart(3, "0")}`, {
      serviceName: `s${i % 3}`,
      principal: `p${i % 2}`,
      // Five to an instant, so that ids decide.
      submittedAt: START + Math.floor(i / 5),
    });
    return i % 4 === 0 ? queued(asked) : ended(asked, null, START + 1_000, "cancelled");
  });
  await store.commit(turn({ allocations: all }));
  const newestFirst = all.toSorted(byTime).toReversed();

  for (const status of [null, "queued", "ended", "leased"] as const) {
    for (const serviceName of [null, "s1", "unknown"]) {
      for (const principal of [null, "p0"]) {
        const expected = newestFirst
          .filter((allocation) => status === null || allocation.status === status)
          .filter(({ request: asked }) => serviceName === null || asked.serviceName === serviceName)
          .filter(({ request: asked }) => principal === null || asked.principal === principal);
        const paged: Allocation[] = [];
        for (let before: string | null = null; ; ) {
          const page: readonly Allocation[] = store.list({ status, serviceName, principal, before, limit: 7 });
          paged.push(...page);
          if (page.length < 7) break;
          before = page.at(-1)?.request.id ?? null;
        }
        expect(paged).toStrictEqual(expected);
      }
    }
  }
});

test("a listing takes the live records at hand, but for those that the file is ahead of", async () => {
  const store = openForTest();
  const [waits, other] = [queued(request("a-1")), queued(request("a-2"))];
  const over = ended(request("a-3"), null, START + 1, "cancelled");
  await store.commit(turn({ allocations: [waits, other, over] }));
  const atHand = new Map<string, LiveAllocation>([
    ["a-1", { ...waits, seenAt: START + 5 }],
    ["a-2", leased(request("a-2"), lease(["GPU-a"]))],
    ["a-3", queued(request("a-3"))],
  ]);
  const listed = store.list(EVERYTHING, (id) => atHand.get(id));
  expect(listed.find(({ request: { id } }) => id === "a-1")).toBe(atHand.get("a-1"));
  expect(listed.filter(({ request: { id } }) => id !== "a-1")).toStrictEqual([over, other]);
});

test("a page after an id that does not exist is empty", async () => {
  const store = openForTest();
  await store.commit(turn({ allocations: [queued(request("a-1"))] }));
  expect(store.list({ ...EVERYTHING, before: "a-0" })).toEqual([]);
});

test("a GPU changes hands within one turn", async () => {
  const store = openForTest();
  await store.commit(turn({ gpus: [gpu("GPU-a")] }));
  const first = grantTurn(["a-1"], ["GPU-a"], START, 1);
  await store.commit(first);
  const next = leased(request("a-2"), lease(["GPU-a"], 2));
  await store.commit(turn({ allocations: [next, ...releaseTurn(first, START + 1).allocations] }));
  expect(store.load().allocations).toEqual([next]);
});

test("a request may come and go in one turn", async () => {
  const store = openForTest();
  const gone = ended(request("a-1"), null, START, "cancelled");
  await store.commit(
    turn({ allocations: [gone], notifications: [notification("d-1", "a-1", { status: "cancelled" })] }),
  );
  expect(store.findEnded("a-1")).toEqual(gone);
  expect(store.due(START, 10)).toHaveLength(1);
});

test.each<Partial<Gpu>>([
  { lostSince: START + 1 },
  { foreignSince: START + 1 },
  { answeredUpTo: 9 },
  { cordon: { at: START, by: "ops", reason: "fan", drainBy: START + 9 } },
  { fault: { at: START, reason: "Xid 48", scope: "several", sequence: 7 } },
])("what is said of a GPU survives, though nothing else of it changes: %o", async (word) => {
  const path = databasePath();
  const granted = grantTurn(["a-1"], ["GPU-a"], START, 1);
  const [held] = granted.gpus as [Gpu];
  const store = open(path);
  await store.commit(granted);
  await store.commit(turn({ gpus: [held] }));
  await store.commit(turn({ gpus: [{ ...held, ...word }] }));
  await store.close();
  expect(open(path).load().gpus).toEqual([{ ...held, ...word }]);
});
