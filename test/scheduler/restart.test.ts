/** Deadlines over a restart of the daemon, with a wall clock that was set in between. */
import { expect, test } from "vitest";
import { emptyHost, withAllocation, withGpus } from "../../src/core/host/changes.ts";
import { evolve } from "../../src/core/host/evolve.ts";
import { clockAtStart } from "../../src/platform/clock.ts";
import type { SqliteStore } from "../../src/store/store.ts";
import { FakeHost } from "../fixtures/fake-host.ts";
import { ADMIN, DEFAULT_POLICY } from "../simulation/simulated-host.ts";
import { databasePath, open } from "../store/files.ts";
import { ask, type Running, startScheduler } from "./harness.ts";

const MINUTE_MS = 60_000;
const YEAR_MS = 365 * 24 * 60 * MINUTE_MS;
/** What a time measured by the uptime may be short of. */
const ERROR_MS = 30;

interface Run extends Running {
  readonly store: SqliteStore;
  stop(): Promise<void>;
}

/** A host that can be rebooted and whose wall clock can be set, and a daemon that is started and stopped on it. */
class Machine {
  readonly host = new FakeHost();
  readonly path = databasePath();
  bootId = "boot-1";

  constructor() {
    this.host.epochMs = 1_800_000_000_000;
  }

  pass(ms: number): void {
    this.host.awakeMs += ms;
  }

  setWall(byMs: number): void {
    this.host.epochMs += byMs;
  }

  reboot(): void {
    const wall = this.host.wallMs();
    this.bootId = `${this.bootId}+`;
    // Longer than the boot before lasted, which must not be taken for it.
    this.host.awakeMs = 600 * MINUTE_MS;
    this.host.sleptMs = 0;
    this.host.epochMs = wall - this.host.awakeMs;
  }

  async start(gpus = 2): Promise<Run> {
    const store = open(this.path);
    const time = clockAtStart(store.lastTime(), this.bootId, this.host);
    await store.begin({ at: time.clock.now(), bootId: this.bootId, ...time });
    const running = await startScheduler(store, { gpus, clock: time.clock as Running["clock"], bootId: this.bootId });
    const stop = async () => {
      await running.scheduler.stop();
      await store.close();
    };
    return { ...running, store, stop };
  }
}

function endOf({ scheduler }: Run, id: string): number {
  const { allocation } = scheduler.peek(id);
  if (allocation.status !== "leased" || allocation.lease.expiresAt === null) throw new Error(`${id} has no end`);
  return allocation.lease.expiresAt;
}

/** A lease of an hour after 20 minutes, two waiting requests, and a webhook to be sent: then the daemon stops. */
async function stoppedDaemon() {
  const machine = new Machine();
  const run = await machine.start();
  const held = await run.scheduler.allocate(ask({ ttlMs: 60 * MINUTE_MS }), ADMIN);
  const hard = await run.scheduler.allocate(ask({ ttlMs: 60 * MINUTE_MS, maxDurationMs: 50 * MINUTE_MS }), ADMIN);
  const first = await run.scheduler.allocate(ask({ queueTimeoutMs: 40 * MINUTE_MS }), ADMIN);
  machine.pass(MINUTE_MS);
  await run.look();
  const second = await run.scheduler.allocate(ask(), ADMIN);
  machine.pass(19 * MINUTE_MS);
  // The last that is written down.
  await run.scheduler.renew(hard.allocation.request.id, null, ADMIN);
  const ids = [held, hard, first, second].map(({ allocation }) => allocation.request.id);
  const [heldId, hardId, firstId, secondId] = ids as [string, string, string, string];
  await run.stop();
  return { machine, heldId, hardId, firstId, secondId };
}

test.each([
  ["untouched", 0],
  ["set a year ahead", YEAR_MS],
  ["set back a year", -YEAR_MS],
])("after a restart with the wall clock %s every lease has the time left that it really has", async (_, setMs) => {
  const { machine, heldId, hardId, firstId, secondId } = await stoppedDaemon();
  machine.pass(5 * MINUTE_MS);
  machine.setWall(setMs);
  const run = await machine.start();
  const now = run.clock.now();
  expect(Math.abs(now - machine.host.wallMs())).toBeLessThanOrEqual(ERROR_MS);
  const leftMs = (id: string) => endOf(run, id) - now;
  for (const [id, minutes] of [
    [heldId, 35],
    [hardId, 25],
  ] as const) {
    expect(leftMs(id)).toBeGreaterThanOrEqual(minutes * MINUTE_MS);
    expect(leftMs(id)).toBeLessThanOrEqual(minutes * MINUTE_MS + ERROR_MS);
  }
  // Waiting goes on where it was: order, time waited, and a newcomer comes last.
  const newcomer = await run.scheduler.allocate(ask(), ADMIN);
  const line = [...run.scheduler.state.line.order.values()].map(({ allocation }) => allocation.request);
  expect(line.map(({ id }) => id)).toEqual([firstId, secondId, newcomer.allocation.request.id]);
  const waitedMs = line.slice(0, 2).map(({ submittedAt }) => now - submittedAt);
  expect(waitedMs.map((ms) => Math.round(ms / MINUTE_MS))).toEqual([25, 24]);
  machine.pass(14 * MINUTE_MS);
  await run.look();
  expect(run.scheduler.peek(firstId).allocation.status).toBe("queued");
  machine.pass(2 * MINUTE_MS);
  await run.look();
  expect(run.scheduler.peek(firstId).allocation).toMatchObject({ outcome: { reason: "timed_out" } });
  await run.stop();
});

test("a lease is neither lost nor prolonged by a clock that is wrong at one start and right again at the next", async () => {
  const { machine, heldId } = await stoppedDaemon();
  for (const setMs of [YEAR_MS, -YEAR_MS, -YEAR_MS, YEAR_MS]) {
    machine.pass(MINUTE_MS);
    machine.setWall(setMs);
    const run = await machine.start();
    machine.pass(MINUTE_MS);
    await run.look();
    await run.stop();
  }
  const run = await machine.start();
  const leftMs = endOf(run, heldId) - machine.host.wallMs();
  expect(Math.abs(leftMs - 32 * MINUTE_MS)).toBeLessThanOrEqual(4 * ERROR_MS);
  await run.stop();
});

test("over a reboot the wall clock counts: ahead of the end it leaves the grace, behind it takes nothing away", async () => {
  for (const [setMs, leftMs] of [
    [5 * MINUTE_MS, 35 * MINUTE_MS],
    [YEAR_MS, 10_000],
    [-YEAR_MS, 40 * MINUTE_MS],
  ] as const) {
    const { machine, heldId } = await stoppedDaemon();
    machine.reboot();
    machine.setWall(setMs);
    const run = await machine.start();
    expect(run.clock.now()).toBe(machine.host.wallMs());
    expect(endOf(run, heldId) - run.clock.now()).toBe(leftMs);
    await run.stop();
  }
});

test("fencing tokens are not below the wall clock at any start, and grow on when it is right again", async () => {
  const machine = new Machine();
  let last = 0;
  for (const setMs of [0, YEAR_MS, -YEAR_MS, -YEAR_MS]) {
    machine.pass(1_000);
    machine.setWall(setMs);
    const run = await machine.start();
    const { allocation } = await run.scheduler.allocate(ask(), ADMIN);
    const token = allocation.status === "leased" ? allocation.lease.fencingToken : 0;
    expect(token).toBeGreaterThan(last);
    expect(token).toBeGreaterThanOrEqual(machine.host.wallMs());
    last = token;
    await run.scheduler.release({ id: allocation.request.id, serviceName: null, fencingToken: null }, ADMIN);
    await run.stop();
  }
});

test("webhooks to be sent keep their wait, and idempotency keys their day", async () => {
  const { machine, heldId, firstId } = await stoppedDaemon();
  const before = await machine.start();
  const key = { principal: "anonymous", key: "k-1", fingerprint: "digest" };
  await before.scheduler.release({ id: heldId, serviceName: null, fencingToken: null }, ADMIN, key);
  const [delivery] = before.store.due(before.clock.now(), 9);
  expect(delivery).toMatchObject({ allocationId: firstId, status: "allocated" });
  if (delivery === undefined) throw new Error("no webhook");
  const at = before.clock.now();
  const failed = { httpStatus: 500, error: "500", outcome: "retry", nextAttemptAt: at + 2 * MINUTE_MS, at } as const;
  await before.scheduler.settle({
    ...failed,
    deliveryId: delivery.deliveryId,
    allocationId: firstId,
    status: "allocated",
  });
  await before.stop();

  machine.pass(MINUTE_MS);
  machine.setWall(-YEAR_MS);
  const after = await machine.start();
  const dueInMs = (after.store.nextDueAt() ?? 0) - after.clock.now();
  expect(Math.abs(dueInMs - MINUTE_MS)).toBeLessThanOrEqual(ERROR_MS);
  expect(after.scheduler.recall("anonymous", "k-1")?.ids).toEqual([heldId]);
  machine.pass(24 * 60 * MINUTE_MS - 2 * MINUTE_MS);
  expect(after.scheduler.recall("anonymous", "k-1")).toBeDefined();
  machine.pass(2 * MINUTE_MS);
  expect(after.scheduler.recall("anonymous", "k-1")).toBeUndefined();
  await after.stop();
});

test("invariant 8: from the snapshot of the move on, the journal folds to the state", async () => {
  const { machine, heldId } = await stoppedDaemon();
  machine.setWall(-YEAR_MS);
  const run = await machine.start();
  await run.scheduler.release({ id: heldId, serviceName: null, fencingToken: null }, ADMIN);
  machine.pass(MINUTE_MS);
  await run.look();
  await run.scheduler.allocate(ask({ ttlMs: MINUTE_MS }), ADMIN);
  const snapshot = run.store.latestSnapshot();
  if (snapshot === null) throw new Error("no snapshot was taken");
  let folded = withGpus(emptyHost(DEFAULT_POLICY), snapshot.state.gpus);
  for (const allocation of snapshot.state.allocations) folded = withAllocation(folded, allocation);
  const { nextFencingToken, bootId } = snapshot.state;
  folded = { ...folded, nextFencingToken, bootId };
  for (const { event } of run.store.readJournal(snapshot.seq)) folded = evolve(folded, event);
  const stored = run.store.load();
  const unseen = [...folded.allocations.values()].map((a) => (a.status === "queued" ? { ...a, seenAt: 0 } : a));
  expect(new Set(unseen)).toEqual(new Set(stored.allocations));
  expect([...folded.gpus.values()]).toEqual([...stored.gpus]);
  expect(folded.nextFencingToken).toBe(stored.nextFencingToken);
  await run.stop();
});
