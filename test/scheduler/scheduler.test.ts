import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { emptyHost } from "../../src/core/host/changes.ts";
import { evolve } from "../../src/core/host/evolve.ts";
import { StorageUnavailableError } from "../../src/ports/refusals.ts";
import type { Store, Turn } from "../../src/ports/store.ts";
import { openStore, type SqliteStore } from "../../src/store/store.ts";
import { ADMIN, DEFAULT_POLICY } from "../simulation/simulated-host.ts";
import { ask, startScheduler } from "./harness.ts";

const MONTH_MS = 30 * 24 * 3_600_000;
const BOB = { principal: "bob", admin: false };
const EVE = { principal: "eve", admin: false };

const cleanups: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});
function open(path = ":memory:"): SqliteStore {
  const store = openStore({ path, retentionMs: MONTH_MS });
  cleanups.push(() => store.close());
  return store;
}
function temporaryFile(): string {
  const folder = mkdtempSync(join(tmpdir(), "gpu-orchestrator-test-"));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "state.db");
}

/** A real store that can be told to refuse, and that keeps the turns it took. */
class Fragile implements Store {
  readonly #store: SqliteStore;
  readonly turns: Turn[] = [];
  full = false;
  readonly commitsAside = false;
  constructor(store: SqliteStore) {
    this.#store = store;
  }
  load() {
    return this.#store.load();
  }
  async commit(turn: Turn) {
    if (this.full) throw new StorageUnavailableError("database or disk is full");
    await this.#store.commit(turn);
    this.turns.push(turn);
  }
  findEnded(id: string) {
    return this.#store.findEnded(id);
  }
  findKey(principal: string, key: string) {
    return this.#store.findKey(principal, key);
  }
  findDelivery(deliveryId: string) {
    return this.#store.findDelivery(deliveryId);
  }
  listDeliveries(query: Parameters<Store["listDeliveries"]>[0]) {
    return this.#store.listDeliveries(query);
  }
  list(query: Parameters<Store["list"]>[0]) {
    return this.#store.list(query);
  }
  endedLeases(query: Parameters<Store["endedLeases"]>[0]) {
    return this.#store.endedLeases(query);
  }
  completeFrom() {
    return this.#store.completeFrom();
  }
  readEvents(afterSeq: number, limit: number) {
    return this.#store.readEvents(afterSeq, limit);
  }
}

test("commands that arrive together are committed in one transaction, and each gets its own answer", async () => {
  const store = new Fragile(open());
  const { scheduler } = await startScheduler(store, { gpus: 8 });
  const before = store.turns.length;
  const replies = await Promise.all(Array.from({ length: 50 }, () => scheduler.allocate(ask(), ADMIN)));
  expect(store.turns.length - before).toBe(1);
  expect(replies.filter(({ allocation }) => allocation.status === "leased")).toHaveLength(8);
  expect(replies.filter(({ allocation }) => allocation.status === "queued")).toHaveLength(42);
});

test("nobody is answered before the commit", async () => {
  const store = new Fragile(open());
  const { scheduler } = await startScheduler(store);
  const { allocation } = await scheduler.allocate(ask(), ADMIN);
  expect(store.turns.at(-1)?.allocations.map(({ request }) => request.id)).toEqual([allocation.request.id]);
  expect(store.list({ status: "leased", serviceName: null, principal: null, before: null, limit: 10 })).toHaveLength(1);
});

test("a full disk: every command is refused, nothing is granted, readings go on, and it recovers by itself", async () => {
  const store = new Fragile(open());
  const { scheduler, look, bugs } = await startScheduler(store, { gpus: 2 });
  const held = await scheduler.allocate(ask(), ADMIN);
  const heard: (boolean | undefined)[] = [];
  scheduler.observeWith({ storage: (healthy) => heard.push(healthy) });

  store.full = true;
  const before = scheduler.state;
  const attempts = await Promise.allSettled([
    scheduler.allocate(ask(), ADMIN),
    scheduler.release({ id: held.allocation.request.id, serviceName: null, fencingToken: null }, ADMIN),
    scheduler.renew(held.allocation.request.id, null, ADMIN),
  ]);
  for (const attempt of attempts) {
    expect(attempt.status === "rejected" && attempt.reason).toBeInstanceOf(StorageUnavailableError);
  }
  expect(scheduler.state.allocations).toBe(before.allocations);
  expect(scheduler.storageHealthy).toBe(false);
  const seen = scheduler.state.sight.lastGoodProbeAt;
  await look();
  expect(scheduler.state.sight.lastGoodProbeAt).toBe(seen);

  store.full = false;
  expect((await scheduler.allocate(ask(), ADMIN)).allocation.status).toBe("leased");
  expect(heard).toEqual([false, true]);
  expect(bugs).toEqual([]);
});

test("with a full disk a reading that would change the books still shows its figures", async () => {
  const store = new Fragile(open());
  const { scheduler, look, clock } = await startScheduler(store, { gpus: 1 });
  store.full = true;
  clock.advance(1_000);
  // A second GPU appears: that is an event, and cannot be stored.
  await expect(look(2)).rejects.toThrow(StorageUnavailableError);
  expect(scheduler.state.sight.gpus.size).toBe(2);
  expect(scheduler.state.gpus.size).toBe(1);
  store.full = false;
  await look(2);
  expect(scheduler.state.gpus.size).toBe(2);
});

test("a restart finds leases, queue, order, tokens and pending webhooks as they were", async () => {
  const path = temporaryFile();
  const first = openStore({ path, retentionMs: MONTH_MS });
  const { scheduler, clock } = await startScheduler(first, { gpus: 2 });
  const a = await scheduler.allocate(ask({ ttlMs: 60_000 }), BOB);
  await scheduler.allocate(ask(), BOB);
  const low = await scheduler.allocate(ask({ priority: 2 }), BOB);
  const high = await scheduler.allocate(ask({ priority: 9 }), BOB);
  const third = await scheduler.allocate(ask({ priority: 9 }), BOB);
  await scheduler.release({ id: a.allocation.request.id, serviceName: null, fencingToken: null }, BOB);
  const before = scheduler.state;
  await scheduler.stop();
  await first.close();

  const second = open(path);
  const again = await startScheduler(second, { gpus: 2, clock });
  const after = again.scheduler.state;
  expect([...after.line.order.values()].map(({ key }) => key.id)).toEqual([
    third.allocation.request.id,
    low.allocation.request.id,
  ]);
  expect(after.allocations.get(high.allocation.request.id)?.status).toBe("offered");
  expect([...after.gpus.values()]).toEqual([...before.gpus.values()]);
  expect(after.nextFencingToken).toBeGreaterThanOrEqual(before.nextFencingToken);
  expect(second.due(clock.now(), 10).map(({ allocationId }) => allocationId)).toEqual([high.allocation.request.id]);
});

test("the stored journal folds to the state that was stored", async () => {
  const store = open(temporaryFile());
  const { scheduler, clock } = await startScheduler(store, { gpus: 4 });
  for (let i = 0; i < 30; i++) {
    const { allocation } = await scheduler.allocate(
      ask({ ttlMs: i % 3 === 0 ? 5_000 : null, priority: 1 + (i % 9) }),
      ADMIN,
    );
    if (i % 4 === 0)
      await scheduler.release({ id: allocation.request.id, serviceName: null, fencingToken: null }, ADMIN);
    clock.advance(500);
    await new Promise((resolve) => setImmediate(resolve));
  }
  const folded = [...store.readJournal()].map(({ event }) => event).reduce(evolve, emptyHost(DEFAULT_POLICY));
  const stored = store.load();
  const live = [...folded.allocations.values()].map((a) => (a.status === "queued" ? { ...a, seenAt: 0 } : a));
  const byId = (a: { request: { id: string } }, b: { request: { id: string } }) =>
    a.request.id < b.request.id ? -1 : 1;
  expect(live.sort(byId)).toEqual([...stored.allocations].sort(byId));
  expect([...folded.gpus.values()]).toEqual([...stored.gpus]);
  expect(folded.nextFencingToken).toBe(stored.nextFencingToken);
});

test("releasing twice is fine, releasing what never existed is not, and only its owner may do either", async () => {
  const { scheduler } = await startScheduler(open());
  const { allocation } = await scheduler.allocate(ask(), BOB);
  const target = { id: allocation.request.id, serviceName: null, fencingToken: null };
  await expect(scheduler.release(target, EVE)).rejects.toMatchObject({ code: "not-owner" });
  expect((await scheduler.release(target, BOB))[0]?.outcome.reason).toBe("released");
  expect((await scheduler.release(target, BOB))[0]?.outcome.reason).toBe("released");
  await expect(scheduler.release(target, EVE)).rejects.toMatchObject({ code: "not-owner" });
  await expect(scheduler.release({ ...target, fencingToken: 1 }, BOB)).rejects.toMatchObject({
    code: "fencing-token-mismatch",
  });
  // An id with another service's name has nothing to release.
  expect(await scheduler.release({ ...target, serviceName: "other" }, BOB)).toEqual([]);
  await expect(scheduler.release({ ...target, id: "svc-nothing" }, BOB)).rejects.toMatchObject({
    code: "allocation-not-found",
  });
});

test("two releases of one lease in the same turn are both fine", async () => {
  const { scheduler } = await startScheduler(open());
  const { allocation } = await scheduler.allocate(ask(), BOB);
  const target = { id: allocation.request.id, serviceName: null, fencingToken: null };
  const both = await Promise.all([scheduler.release(target, BOB), scheduler.release(target, BOB)]);
  expect(both.map(([record]) => record?.status)).toEqual(["ended", "ended"]);
});

test("a renewal of what has ended is refused as ended", async () => {
  const { scheduler } = await startScheduler(open());
  const { allocation } = await scheduler.allocate(ask(), BOB);
  await scheduler.release({ id: allocation.request.id, serviceName: null, fencingToken: null }, BOB);
  await expect(scheduler.renew(allocation.request.id, null, BOB)).rejects.toMatchObject({ code: "allocation-ended" });
  await expect(scheduler.renew("svc-nothing", null, BOB)).rejects.toMatchObject({ code: "allocation-not-found" });
});

test("a deadline is met by its own timer, not by the safety net", async () => {
  const { scheduler, clock } = await startScheduler(open(), { policy: {} });
  const { allocation } = await scheduler.allocate(ask({ ttlMs: 1_234 }), BOB);
  clock.advance(1_233);
  await new Promise((resolve) => setImmediate(resolve));
  expect(scheduler.state.allocations.get(allocation.request.id)?.status).toBe("leased");
  clock.advance(1);
  await new Promise((resolve) => setImmediate(resolve));
  expect(scheduler.state.allocations.get(allocation.request.id)).toBeUndefined();
});

test("reading an offer as its owner claims it; reading it as somebody else does not", async () => {
  const { scheduler } = await startScheduler(open());
  const holder = await scheduler.allocate(ask(), BOB);
  const waiting = await scheduler.allocate(ask(), BOB);
  await scheduler.release({ id: holder.allocation.request.id, serviceName: null, fencingToken: null }, BOB);
  const { id } = waiting.allocation.request;
  expect((await scheduler.read(id, EVE)).allocation.status).toBe("offered");
  expect((await scheduler.read(id, BOB)).allocation.status).toBe("leased");
});

test("a delivered webhook claims the grant, and a settlement of another one does not", async () => {
  const store = open();
  const { scheduler, clock } = await startScheduler(store);
  const holder = await scheduler.allocate(ask(), BOB);
  const waiting = await scheduler.allocate(ask(), BOB);
  await scheduler.release({ id: holder.allocation.request.id, serviceName: null, fencingToken: null }, BOB);
  const [delivery] = store.due(clock.now(), 10);
  if (delivery === undefined) throw new Error("no webhook is due");
  const settlement = {
    deliveryId: delivery.deliveryId,
    allocationId: delivery.allocationId,
    status: delivery.status,
    at: clock.now(),
    nextAttemptAt: clock.now() + 1_000,
    httpStatus: 500,
    error: null,
  };
  await scheduler.settle({ ...settlement, outcome: "retry" });
  expect(scheduler.state.allocations.get(waiting.allocation.request.id)?.status).toBe("offered");
  await scheduler.settle({ ...settlement, outcome: "delivered", nextAttemptAt: null, httpStatus: 200 });
  expect(scheduler.state.allocations.get(waiting.allocation.request.id)?.status).toBe("leased");
  expect(store.due(clock.now() + 60_000, 10)).toEqual([]);
});

test("an unclaimed offer stops its webhook and tells its end by another", async () => {
  const store = open();
  const { scheduler, clock } = await startScheduler(store);
  const holder = await scheduler.allocate(ask({ webhookUrl: null }), BOB);
  const waiting = await scheduler.allocate(ask(), BOB);
  await scheduler.release({ id: holder.allocation.request.id, serviceName: null, fencingToken: null }, BOB);
  clock.advance(60_000);
  await new Promise((resolve) => setImmediate(resolve));
  const due = store.due(clock.now(), 10);
  expect(due.map(({ status }) => status)).toEqual(["unclaimed"]);
  expect(JSON.parse(due[0]?.body ?? "{}")).toMatchObject({
    status: "unclaimed",
    request_id: waiting.allocation.request.id,
  });
});

test("after stop, commands are refused and what was accepted is committed", async () => {
  const store = new Fragile(open());
  const { scheduler } = await startScheduler(store);
  const accepted = scheduler.allocate(ask(), BOB);
  const stopped = scheduler.stop();
  await expect(scheduler.allocate(ask(), BOB)).rejects.toMatchObject({ code: "shutting-down" });
  expect((await accepted).allocation.status).toBe("leased");
  await stopped;
});

test("a client that waits is told of its grant, and has claimed it", async () => {
  const { scheduler } = await startScheduler(open());
  const holder = await scheduler.allocate(ask(), BOB);
  const waiting = await scheduler.allocate(ask({ webhookUrl: null }), BOB);
  const told = scheduler.wait(waiting.allocation.request.id, BOB, 60_000, new AbortController().signal);
  await new Promise((resolve) => setImmediate(resolve));
  await scheduler.release({ id: holder.allocation.request.id, serviceName: null, fencingToken: null }, BOB);
  expect((await told).allocation.status).toBe("leased");
});

test("a wait ends at its time with the record as it is, and earlier when the client goes away", async () => {
  const { scheduler, clock } = await startScheduler(open());
  await scheduler.allocate(ask(), BOB);
  const waiting = await scheduler.allocate(ask({ webhookUrl: null }), BOB);
  const { id } = waiting.allocation.request;
  const patient = scheduler.wait(id, BOB, 20_000, new AbortController().signal);
  await new Promise((resolve) => setImmediate(resolve));
  clock.advance(20_000);
  expect((await patient).allocation.status).toBe("queued");
  const leaving = new AbortController();
  const short = scheduler.wait(id, BOB, 60_000, leaving.signal);
  await new Promise((resolve) => setImmediate(resolve));
  leaving.abort();
  expect((await short).allocation.status).toBe("queued");
  // It went away: it is abandoned by the time of a silent client, not of a waiting one.
  clock.advance(30_000);
  await new Promise((resolve) => setImmediate(resolve));
  expect(scheduler.state.allocations.get(id)).toBeUndefined();
});

test("a hang-up before the answer makes a lease an offer, and its webhook is told", async () => {
  const store = open();
  const { scheduler, clock } = await startScheduler(store);
  const { allocation } = await scheduler.allocate(ask(), BOB);
  await scheduler.hangUp(allocation.request.id);
  expect(scheduler.state.allocations.get(allocation.request.id)?.status).toBe("offered");
  expect(store.due(clock.now(), 10).map(({ status }) => status)).toEqual(["allocated"]);
});
