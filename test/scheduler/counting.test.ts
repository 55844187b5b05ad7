import { expect, test } from "vitest";
import type { Actor } from "../../src/core/model/ids.ts";
import type { Policy } from "../../src/core/model/policy.ts";
import { ManualClock } from "../../src/platform/clock.ts";
import type { EndedLeasePage, EndedLeaseQuery } from "../../src/ports/store.ts";
import type { Scheduler } from "../../src/scheduler/scheduler.ts";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { NO_QUOTA, NO_QUOTAS } from "../simulation/simulated-host.ts";
import { ask, settled, startScheduler } from "./harness.ts";

const HOUR_MS = 3_600_000;
const ann: Actor = { principal: "ann", admin: false };
const limited = (hours: number): Partial<Policy> => ({
  quotas: {
    ...NO_QUOTAS,
    principals: { ann: { ...NO_QUOTA, gpuTime: { limitMs: hours * HOUR_MS, periodMs: 24 * HOUR_MS } } },
  },
});

const spentOf = (scheduler: Scheduler) => scheduler.state.accounts.byKey.get("principal ann")?.spent.ms ?? 0;

async function hold(scheduler: Scheduler, clock: ManualClock, ms: number): Promise<void> {
  const { allocation } = await scheduler.allocate(ask({ ttlMs: 24 * HOUR_MS }), ann);
  expect(allocation.status).toBe("leased");
  clock.advance(ms);
  await scheduler.release({ id: allocation.request.id, serviceName: null, fencingToken: null }, ann);
}

/** A store whose archive is read a page at a time, each when the test says so. */
class PagedStore extends MemoryStore {
  pages = 0;
  perPage = Number.POSITIVE_INFINITY;
  onPage: () => void = () => undefined;

  override endedLeases(query: EndedLeaseQuery): EndedLeasePage {
    this.pages++;
    const page = super.endedLeases({ ...query, limit: Math.min(query.limit, this.perPage) });
    this.onPage();
    return page;
  }
}

test("what was used is the same after a restart, to the millisecond", async () => {
  const store = new MemoryStore();
  const clock = new ManualClock();
  const first = await startScheduler(store, { clock, policy: limited(8) });
  await hold(first.scheduler, clock, 1_234_567);
  await first.look();
  await hold(first.scheduler, clock, 7_654_321);
  expect(spentOf(first.scheduler)).toBe(1_234_567 + 7_654_321);
  await first.scheduler.stop();
  const second = await startScheduler(store, { clock, policy: limited(8) });
  expect(second.scheduler.state.accounts.counted).toBe(true);
  expect(spentOf(second.scheduler)).toBe(1_234_567 + 7_654_321);
});

test("a quota that comes with a reload counts what was used before it", async () => {
  const { scheduler, clock, look } = await startScheduler(new MemoryStore());
  await hold(scheduler, clock as ManualClock, HOUR_MS);
  await look();
  await scheduler.reconfigure({ ...scheduler.state.policy, ...limited(1) }, 5_000);
  expect(spentOf(scheduler)).toBe(HOUR_MS);
  const { allocation, state, at } = await scheduler.allocate(ask(), ann);
  expect(allocation.status).toBe("queued");
  expect(state.accounts.byKey.get("principal ann")?.waiting).toBe(1);
  expect(at).toBe(clock.now());
});

test("leases that end while the archive is read, page by page, count once", async () => {
  const store = new PagedStore();
  const { scheduler, clock, look } = await startScheduler(store, { gpus: 3 });
  const ids: string[] = [];
  for (let i = 0; i < 3; i++) {
    const { allocation } = await scheduler.allocate(ask({ ttlMs: 24 * HOUR_MS }), ann);
    ids.push(allocation.request.id);
  }
  clock.advance(HOUR_MS);
  const release = (n: number) =>
    scheduler.release({ id: ids[n] as string, serviceName: null, fencingToken: null }, ann);
  await release(0);
  await look();
  store.perPage = 1;
  const ending: Promise<unknown>[] = [];
  store.onPage = () => {
    // Each is over before the next page is read, and stands on it.
    const n = ending.length + 1;
    if (n < 3) ending.push(release(n));
  };
  await scheduler.reconfigure({ ...scheduler.state.policy, ...limited(10) }, 5_000);
  await Promise.all(ending);
  await settled();
  expect(store.pages).toBeGreaterThan(1);
  expect(scheduler.state.accounts.counted).toBe(true);
  expect(spentOf(scheduler)).toBe(3 * HOUR_MS);
});

test("while the archive cannot be read nothing is granted under the quota; then it is counted by itself", async () => {
  const store = new PagedStore();
  const clock = new ManualClock();
  const before = await startScheduler(store, { clock });
  await hold(before.scheduler, clock, HOUR_MS);
  await before.scheduler.stop();
  store.onPage = () => {
    throw new Error("the disk is gone");
  };
  const { scheduler, bugs, look } = await startScheduler(store, { clock, policy: limited(2) });
  expect(bugs).toHaveLength(1);
  const { allocation } = await scheduler.allocate(ask(), ann);
  expect(allocation.status).toBe("queued");
  store.onPage = () => undefined;
  clock.advance(5_000);
  await settled();
  await look();
  expect(spentOf(scheduler)).toBe(HOUR_MS);
  expect(scheduler.state.allocations.get(allocation.request.id)?.status).toBe("offered");
});

test("who has no quota of GPU-hours reads no archive", async () => {
  const store = new PagedStore();
  const { scheduler } = await startScheduler(store);
  await scheduler.reconfigure({ ...scheduler.state.policy, maxQueueSize: 5 }, 5_000);
  expect(store.pages).toBe(0);
});

test("fair shares are the same after a restart", async () => {
  const store = new MemoryStore();
  const clock = new ManualClock();
  const policy = { fairShare: { halfLifeMs: HOUR_MS, maxDelayMs: 600_000 } };
  const first = await startScheduler(store, { clock, policy });
  await hold(first.scheduler, clock, HOUR_MS);
  await first.look();
  const bob = { principal: "bob", admin: false };
  await first.scheduler.allocate(ask(), bob);
  clock.advance(HOUR_MS / 2);
  await first.look();
  const waiting = await first.scheduler.allocate(ask(), ann);
  await first.scheduler.stop();
  const second = await startScheduler(store, { clock, policy });
  const again = await second.scheduler.allocate(ask(), { principal: "cyd", admin: false });
  expect(again.allocation.request.fairShareDelayMs).toBe(0);
  const delayed = await second.scheduler.allocate(ask(), ann);
  expect(delayed.allocation.request.fairShareDelayMs).toBe(waiting.allocation.request.fairShareDelayMs);
  expect(delayed.allocation.request.fairShareDelayMs).toBeGreaterThan(0);
});
