/** Use and idleness over commits and restarts. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { Usage } from "../../src/scheduler/usage.ts";
import { MIN_RETENTION_MS, openStore } from "../../src/store/store.ts";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { seen } from "../fixtures/readings.ts";
import { ADMIN, h100, minutes, process, seconds } from "../simulation/simulated-host.ts";
import { ask, type Running, startScheduler } from "./harness.ts";

const BUSY = { processes: [process(1)], memoryUsedMib: 9_000 };

function see({ scheduler, clock }: Running, busy: boolean): Promise<void> {
  return scheduler.observe(seen([h100("GPU-0", { index: 0, ...(busy ? BUSY : {}) })], clock.now()));
}

test("the webhook of an idle lease is written with its event, and again when it goes idle again", async () => {
  const store = new MemoryStore();
  const running = await startScheduler(store, { policy: { idleAfterMs: minutes(1), staleAfterMs: minutes(5) } });
  const { scheduler, clock, look } = running;
  const { allocation } = await scheduler.allocate(ask(), ADMIN);
  const { id } = allocation.request;
  for (const round of [1, 2]) {
    await look();
    clock.advance(minutes(1));
    await look();
    const turn = store.turns.at(-1);
    expect(turn?.events.map(({ type }) => type)).toEqual(["went-idle"]);
    expect(turn?.notifications).toMatchObject([{ allocationId: id, status: "idle", createdAt: clock.now() }]);
    expect(turn?.allocations).toMatchObject([{ idleSince: expect.any(Number) }]);
    await see(running, true);
    expect(store.turns.at(-1)?.events.map(({ type }) => type)).toEqual(["use-seen", "went-busy"]);
    expect(store.turns.at(-1)?.notifications).toEqual([]);
    clock.advance(round);
  }
});

test("a lease that is reclaimed tells its owner that it was revoked, and why", async () => {
  const store = new MemoryStore();
  const policy = { idleAfterMs: minutes(1), reclaimIdleAfterMs: minutes(1), staleAfterMs: minutes(5) };
  const { scheduler, clock, look } = await startScheduler(store, { policy });
  const { allocation } = await scheduler.allocate(ask(), ADMIN);
  clock.advance(minutes(2));
  await look();
  const [notification] = store.turns.at(-1)?.notifications ?? [];
  expect(notification).toMatchObject({ allocationId: allocation.request.id, status: "revoked" });
  expect(JSON.parse(notification?.body ?? "null")).toMatchObject({
    status: "revoked",
    reason: "idle",
    allocation: { end_reason: "idle", end_detail: "its GPUs were not used for 120 s" },
  });
});

test("use seen in the reading that comes with the end of the lease is in its record", async () => {
  const store = new MemoryStore();
  const running = await startScheduler(store);
  const { scheduler, clock } = running;
  const { allocation } = await scheduler.allocate(ask({ ttlMs: seconds(30) }), ADMIN);
  clock.advance(seconds(10));
  await see(running, true);
  // The same turn ends the use and the lease.
  const { id } = allocation.request;
  clock.advance(seconds(5));
  await Promise.all([see(running, false), scheduler.release({ id, serviceName: null, fencingToken: null }, ADMIN)]);
  expect(store.turns.at(-1)?.events.map(({ type }) => type)).toEqual(["use-gone", "ended"]);
  const { grantedAt } = allocation.status === "leased" ? allocation.lease : { grantedAt: 0 };
  expect(store.findEnded(id)?.used).toEqual([
    { uuid: "GPU-0", spans: [[grantedAt + 10_000, grantedAt + 15_000, 5_000]] },
  ]);
});

test("a restart changes neither what was used nor what is idle, and tells nobody again", async () => {
  const folder = mkdtempSync(join(tmpdir(), "gpu-orchestrator-idle-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const settings = { path: join(folder, "state.db"), retentionMs: MIN_RETENTION_MS };
  const policy = { idleAfterMs: seconds(20) };
  let store = openStore(settings);
  onTestFinished(() => store.close());
  let running = await startScheduler(store, { policy });
  const { clock } = running;
  const from = clock.now();
  const restarted = async () => {
    await running.scheduler.stop();
    await store.close();
    store = openStore(settings);
    running = await startScheduler(store, { policy, clock, gpus: 0 });
  };
  const usage = async (): Promise<Usage> => ({ ...(await running.scheduler.usage({ from, to: clock.now() })), now: 0 });
  const pass = async (ms: number, busy: boolean) => {
    for (let at = 0; at < ms; at += seconds(5)) {
      clock.advance(seconds(5));
      await see(running, busy);
    }
  };

  const { allocation: first } = await running.scheduler.allocate(ask(), ADMIN);
  await pass(seconds(5), true);
  await pass(seconds(5), false);
  await pass(seconds(10), true);
  await restarted();
  // In use for all that is known.
  clock.advance(seconds(60));
  await see(running, true);
  await running.scheduler.release({ id: first.request.id, serviceName: null, fencingToken: null }, ADMIN);
  await see(running, false);
  const { allocation: second } = await running.scheduler.allocate(ask({ serviceName: "idler" }), ADMIN);
  await pass(seconds(20), false);
  const before = await usage();
  expect(before.services).toEqual([
    { name: "svc", leases: 1, reservedMs: 80_000, usedMs: 5_000 + 5_000 + 60_000, wastedMs: 0 },
    { name: "idler", leases: 1, reservedMs: 20_000, usedMs: 0, wastedMs: 0 },
  ]);
  const { id } = second.request;
  const idleSince = () => {
    const live = running.scheduler.state.allocations.get(id);
    return live?.status === "leased" ? live.idleSince : null;
  };
  const flagged = idleSince();
  expect(flagged).not.toBeNull();

  await restarted();
  expect(await usage()).toEqual(before);
  expect(idleSince()).toBe(flagged);
  const told = store.due(Number.MAX_SAFE_INTEGER, 99).length;
  await pass(seconds(60), false);
  expect(idleSince()).toBe(flagged);
  expect(store.due(Number.MAX_SAFE_INTEGER, 99)).toHaveLength(told);
  await running.scheduler.stop();
});
