/** The checker is only as good as what it refuses: for each invariant, histories that break it. */
import { expect, test } from "vitest";
import { findBreaches } from "./checker.ts";
import type { Action, Ask, Call, History, Journalled, LeaseSeen, SurvivingRecord, Survivors } from "./history.ts";

/** Deadlines are told in milliseconds since the epoch. */
const epoch = (at: number) => performance.timeOrigin + at;

function ask(mark: string, over: Partial<Ask> = {}): Ask {
  return { mark, service: "svc", gpus: 1, ttlSeconds: null, queue: true, webhookUrl: null, ...over };
}

function call(action: Action, from: number, to: number, status: number, body: object = {}): Call {
  return { client: "c", action, invokedAt: from, answer: { at: to, status, body } };
}

function lost(action: Action, from: number): Call {
  return { client: "c", action, invokedAt: from, answer: null };
}

const allocate = (mark: string, over: Partial<Ask> = {}, key: string | null = null): Action => ({
  what: "allocate",
  ask: ask(mark, over),
  key,
});
const release = (id: string): Action => ({ what: "release", id, token: null });
const read = (id: string): Action => ({ what: "read", id });
const held = (id: string, gpu: string, token: number) => ({ id, gpu_uuids: [gpu], fencing_token: token });
const lease = (gpu: string, token: number, expiresAt: number | null = null): LeaseSeen => ({
  gpus: [gpu],
  token,
  expiresAt,
});

function record(id: string, over: Partial<SurvivingRecord> = {}): SurvivingRecord {
  return { id, mark: id, status: "leased", lease: null, outcome: null, ...over };
}

const ended = (id: string, reason: string, at: number, over: Partial<SurvivingRecord> = {}) =>
  record(id, { status: "ended", outcome: { reason, at: epoch(at) }, ...over });

/** The journal that the records call for, so that a test need only say what is odd. */
function disk(readAt: number, records: readonly SurvivingRecord[], over: Partial<Survivors> = {}): Survivors {
  const events = records.flatMap(({ id, status, lease: its }) => [
    { type: "submitted", id, token: null, offered: false },
    ...(its === null ? [] : [{ type: "granted", id, token: its.token, offered: status === "offered" }]),
    ...(status === "ended" ? [{ type: "ended", id, token: null, offered: false }] : []),
  ]);
  const journal = events.map((event, i): Journalled => ({ seq: i + 1, ...event }));
  return { readAt, records, outbox: [], journal, keys: new Map(), ...over };
}

function breaches(calls: readonly Call[], survivors: readonly Survivors[] = [], over: Partial<History> = {}): string[] {
  return findBreaches({ calls: [...calls], survivors: [...survivors], deliveries: [], ...over });
}

const webhook = { webhookUrl: "http://127.0.0.1:9/hook" };
const row = { deliveryId: "d", allocationId: "a", status: "allocated", state: "pending" } as const;

test("a history without a fault has no breach", () => {
  const calls = [
    call(allocate("a"), 0, 1, 200, held("a", "G1", 10)),
    call(allocate("b", webhook), 2, 3, 202, { id: "b" }),
    call(release("a"), 4, 5, 200, { released: ["a"] }),
    call(read("b"), 6, 7, 200, { status: "leased", ...held("b", "G1", 11) }),
    call(release("a"), 8, 9, 200, { released: ["a"] }),
    call({ what: "renew", id: "a", token: null }, 10, 11, 409, { code: "allocation-ended" }),
    call({ what: "list" }, 12, 13, 200, { allocations: [{ status: "leased", ...held("b", "G1", 11) }], queue: [] }),
    lost(release("b"), 14),
    lost(allocate("c", {}, "k"), 14),
    call(allocate("c", {}, "k"), 16, 17, 202, { id: "c" }),
  ];
  const a = ended("a", "released", 4.5, { lease: lease("G1", 10) });
  const b = ended("b", "released", 15, { lease: lease("G1", 11) });
  const outbox = [{ ...row, allocationId: "b", state: "delivered" } as const];
  const deliveries = [{ at: 5.5, deliveryId: "d", allocationId: "b", status: "allocated", lease: lease("G1", 11) }];
  const left = disk(20, [a, b, record("c", { status: "queued" })], { outbox, keys: new Map([["k", ["c"]]]) });
  expect(breaches(calls, [left], { deliveries })).toEqual([]);
});

test("1: a GPU that two clients hold at once", () => {
  const calls = [
    call(allocate("a"), 0, 1, 200, held("a", "G1", 10)),
    call(allocate("b"), 2, 3, 200, held("b", "G1", 11)),
    call(release("a"), 4, 5, 200, { released: ["a"] }),
  ];
  expect(breaches(calls)).toEqual(["1: G1 was leased to a and b at once"]);
});

test("1: a GPU may have changed hands as soon as its release was sent, though no answer came", () => {
  const first = call(allocate("a"), 0, 1, 200, held("a", "G1", 10));
  const second = call(allocate("b"), 2, 3, 200, held("b", "G1", 11));
  expect(breaches([first, lost(release("a"), 1.5), second])).toEqual([]);
  expect(breaches([first, lost({ what: "release-service", service: "svc" }, 1.5), second])).toEqual([]);
  // What a daemon did not do before it was killed, it did not do later.
  const kill = disk(1.7, [record("a", { lease: lease("G1", 10) })]);
  expect(
    breaches([lost({ what: "release-service", service: "svc" }, -1), first, second], [disk(-0.5, []), kill]),
  ).toContain("1: G1 was leased to a and b at once");
});

test("1: a lease with a TTL may be over at its end, and not before", () => {
  const ttl = { ttlSeconds: 1 };
  const first = (expiresAt: number) =>
    call(allocate("a", ttl), 0, 1, 200, {
      ...held("a", "G1", 10),
      expires_at: new Date(epoch(expiresAt)).toISOString(),
    });
  const second = call(allocate("b"), 2_000, 2_001, 200, held("b", "G1", 11));
  expect(breaches([first(1_000), second])).toEqual([]);
  expect(breaches([first(9_000), second])).toEqual(["1: G1 was leased to a and b at once"]);
});

test("1: a GPU in two leases on disk, or in one list", () => {
  const calls = [lost(allocate("a"), 0), lost(allocate("b"), 0)];
  const records = [record("a", { lease: lease("G1", 10) }), record("b", { lease: lease("G1", 11) })];
  expect(breaches(calls, [disk(5, records)])).toContain("1: G1 is a's and b's on disk after kill 1");
  const allocations = [
    { status: "leased", ...held("a", "G1", 10) },
    { status: "leased", ...held("b", "G1", 11) },
  ];
  const list = call({ what: "list" }, 1, 2, 200, { allocations, queue: [] });
  expect(breaches([...calls, list])).toContain("1: G1 is a's and b's in a list");
});

test("2: a lease or a place in the queue that is gone after a kill", () => {
  const leased = call(allocate("a"), 0, 1, 200, held("a", "G1", 10));
  expect(breaches([leased], [disk(5, [])])).toEqual(["2: a (c: allocate 200: leased) is gone after kill 1"]);
  const queued = call(allocate("a"), 0, 1, 202, { id: "a" });
  expect(breaches([queued], [disk(5, [])])).toEqual(["2: a (c: allocate 202: queued) is gone after kill 1"]);
});

test("2: a record that goes back: a release undone, a lease that waits again", () => {
  const calls = [
    call(allocate("a"), 0, 1, 200, held("a", "G1", 10)),
    call(release("a"), 2, 3, 200, { released: ["a"] }),
  ];
  const revived = disk(5, [record("a", { lease: lease("G1", 10) })]);
  expect(breaches(calls, [revived])).toContain(
    "2: a was ended (c: release 200), and is leased (on disk after kill 1) again",
  );
  const waiting = disk(5, [record("a", { status: "queued" })]);
  expect(breaches(calls.slice(0, 1), [waiting])).toContain(
    "2: a was leased (c: allocate 200), and is queued (on disk after kill 1) again",
  );
  // A list is told of by what it does not show, too.
  const list = call({ what: "list" }, 4, 5, 200, { allocations: [], queue: [] });
  expect(
    breaches(
      [...calls.slice(0, 1), list],
      [revived].map((kill) => ({ ...kill, readAt: 9 })),
    ),
  ).toContain("2: a was ended (c: list 200), and is leased (on disk after kill 1) again");
});

test("2: a lease that survives with another GPU or another token", () => {
  const calls = [call(allocate("a"), 0, 1, 200, held("a", "G1", 10))];
  for (const other of [lease("G2", 10), lease("G1", 11)]) {
    expect(breaches(calls, [disk(5, [record("a", { lease: other })])]).join()).toMatch(/2: the lease of a changed/);
  }
});

test("2: a queue that comes back in another order", () => {
  const calls = [
    call(allocate("a"), 0, 1, 202, { id: "a" }),
    call(allocate("b"), 2, 3, 202, { id: "b" }),
    call({ what: "list" }, 4, 5, 200, { allocations: [], queue: [{ id: "b" }, { id: "a" }] }),
  ];
  expect(breaches(calls)).toEqual(["2: b stands before a, which was submitted first"]);
});

test("3: an end that comes twice", () => {
  const calls = [
    call(allocate("a"), 0, 1, 200, held("a", "G1", 10)),
    call(release("a"), 2, 3, 200, { released: ["a"] }),
  ];
  const first = ended("a", "released", 2.5, { lease: lease("G1", 10) });
  const second = ended("a", "released", 9.5, { lease: lease("G1", 10) });
  expect(breaches(calls, [disk(5, [first]), disk(20, [second])]).join()).toMatch(/3: a ended more than once/);
  const once = disk(5, [first]);
  const twice = {
    ...once,
    journal: [...once.journal, { seq: 9, type: "ended", id: "a", token: null, offered: false }],
  };
  expect(breaches(calls, [twice])).toEqual(["3: a is ended, and the journal ends it 2 times"]);
  expect(breaches(calls, [{ ...once, journal: [] }])).toEqual(["3: a is ended, and the journal ends it 0 times"]);
});

test("3: an end that nobody asked for, or that nothing calls for, or that comes too early", () => {
  const granted = (ttlSeconds: number | null) => [
    call(allocate("a", { ttlSeconds }), 0, 1, 200, {
      ...held("a", "G1", 10),
      expires_at: new Date(epoch(1_000)).toISOString(),
    }),
  ];
  const end = (reason: string, at: number) => [disk(5_000, [ended("a", reason, at, { lease: lease("G1", 10) })])];
  expect(breaches(granted(1), end("expired", 1_001))).toEqual([]);
  expect(breaches(granted(1), end("expired", 900)).join()).toMatch(
    /3: a expired .* ms before the end that was promised/,
  );
  expect(breaches(granted(null), end("expired", 1_001))).toEqual(["3: a ended as expired, which nothing calls for"]);
  expect(breaches(granted(null), end("rebooted", 900))).toEqual(["3: a ended as rebooted, which nothing calls for"]);
  expect(breaches(granted(null), end("released", 900))).toEqual(["3: a was released, and nobody had asked for it"]);
});

test("4: a token that is used twice, or does not grow", () => {
  const calls = (first: number, second: number) => [
    call(allocate("a"), 0, 1, 200, held("a", "G1", first)),
    call(allocate("b"), 2, 3, 200, held("b", "G2", second)),
  ];
  expect(breaches(calls(10, 11))).toEqual([]);
  expect(breaches(calls(11, 10))).toEqual(["4: b was granted after a, with token 10 after 11"]);
  expect(breaches(calls(10, 10))).toContain("4: a and b have the same token 10");
  // Those that overlap may have been taken in either order.
  const overlapping = [
    call(allocate("a"), 0, 5, 200, held("a", "G1", 11)),
    call(allocate("b"), 2, 3, 200, held("b", "G2", 10)),
  ];
  expect(breaches(overlapping)).toEqual([]);
  const records = [record("a", { lease: lease("G1", 11) }), record("b", { lease: lease("G2", 10) })];
  expect(breaches(overlapping, [disk(9, records)])).toEqual(["4: in the journal b has token 10 after 11"]);
});

test("9: a key that led to two leases, a request that was refused and is there, and one that nobody made", () => {
  const keyed = allocate("a", {}, "k");
  const calls = [lost(keyed, 0), call(keyed, 2, 3, 200, held("a2", "G2", 11))];
  const records = [
    record("a1", { mark: "a", lease: lease("G1", 10) }),
    record("a2", { mark: "a", lease: lease("G2", 11) }),
  ];
  expect(breaches(calls, [disk(5, records)])).toContain("9: a (key k) led to a2 and a1");
  const refused = [call(allocate("a", { queue: false }), 0, 1, 503, { code: "no-gpu-free" })];
  const there = [disk(5, [record("a", { lease: lease("G1", 10) })])];
  expect(breaches(refused, there)).toEqual(["9: a was refused, and there is a"]);
  expect(breaches([], there)).toEqual(["9: a is nobody's wish"]);
});

test("9: a key that is not kept with its lease, or that survives without it", () => {
  const calls = [lost(allocate("a", {}, "k"), 0)];
  const there = [record("a", { lease: lease("G1", 10) })];
  expect(breaches(calls, [disk(5, there, { keys: new Map([["k", ["a"]]]) })])).toEqual([]);
  expect(breaches(calls, [disk(5, there)])).toEqual(["9: a is there after kill 1, and under its key k []"]);
  expect(breaches(calls, [disk(5, [], { keys: new Map([["k", ["a"]]]) })])).toEqual([
    "9: k is kept after kill 1, and not its a",
  ]);
});

test("10: a grant from the queue, or an end by time, without its webhook", () => {
  const queued = call(allocate("a", webhook), 0, 1, 202, { id: "a" });
  const offered = record("a", { status: "offered", lease: lease("G1", 10) });
  expect(breaches([queued], [disk(5, [offered])]).join()).toMatch(/^10: no webhook tells that a is allocated/);
  expect(breaches([queued], [disk(5, [offered], { outbox: [row] })])).toEqual([]);
  const cancelled = [queued, lost(release("a"), 2)];
  expect(breaches(cancelled, [disk(5, [ended("a", "cancelled", 3)])]).join()).toMatch(
    /^10: no webhook tells that a is cancelled/,
  );
  const expired = call(allocate("a", { ...webhook, ttlSeconds: 1 }), 0, 1, 200, held("a", "G1", 10));
  expect(breaches([expired], [disk(5, [ended("a", "expired", 3, { lease: lease("G1", 10) })])]).join()).toMatch(
    /^10: no webhook tells that a is expired/,
  );
});

test("10: a webhook that is given up, or withdrawn although its grant lasts", () => {
  const calls = [call(allocate("a", webhook), 0, 1, 202, { id: "a" }), lost(release("a"), 2)];
  const offered = record("a", { status: "offered", lease: lease("G1", 10) });
  const over = ended("a", "released", 3, { lease: lease("G1", 10) });
  const after = (it: SurvivingRecord, state: "withdrawn" | "gave-up") =>
    breaches(calls, [disk(5, [it], { outbox: [{ ...row, state }] })]);
  expect(after(over, "withdrawn")).toEqual([]);
  expect(after(offered, "withdrawn")).toEqual(["10: that a is allocated will not be told: withdrawn"]);
  expect(after(over, "gave-up")).toEqual(["10: that a is allocated will not be told: gave-up"]);
});

test("10: a webhook that counts as delivered and never came, one that came and is not on disk, and one that went back", () => {
  const calls = [call(allocate("a", webhook), 0, 1, 202, { id: "a" })];
  const offered = record("a", { status: "offered", lease: lease("G1", 10) });
  const after = (state: "pending" | "delivered", readAt = 5) =>
    disk(readAt, [offered], { outbox: [{ ...row, state }] });
  const came = { at: 3, deliveryId: "d", allocationId: "a", status: "allocated", lease: lease("G1", 10) };
  expect(breaches(calls, [after("delivered")], { deliveries: [came] })).toEqual([]);
  expect(breaches(calls, [after("delivered")])).toEqual(["10: a's allocated counts as delivered, and never came"]);
  const stranger = { ...came, deliveryId: "e" };
  expect(breaches(calls, [after("pending")], { deliveries: [stranger] })).toEqual([
    "10: a's allocated came, and is not on disk",
  ]);
  expect(breaches(calls, [after("delivered"), after("pending", 9)], { deliveries: [came] })).toEqual([
    "10: delivery d was delivered after kill 1, and is pending",
  ]);
});

test("an answer that the contract does not know", () => {
  expect(breaches([call(allocate("a"), 0, 1, 500, { code: "internal" })])).toContain(
    "c allocate: 500 internal is no answer to that",
  );
  expect(breaches([call(release("a"), 0, 1, 404, { code: "allocation-not-found" })])).toContain(
    "c release: 404 allocation-not-found is no answer to that",
  );
});
