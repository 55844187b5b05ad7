/** What each GPU was, and whose, as it is written down and told. */
import { expect, onTestFinished, test } from "vitest";
import { withoutGpu } from "../../src/core/host/changes.ts";
import type { HostState } from "../../src/core/host/state.ts";
import type { Policy } from "../../src/core/model/policy.ts";
import { ManualClock } from "../../src/platform/clock.ts";
import { GpuChanges } from "../../src/scheduler/gpu-changes.ts";
import { GpuHistory } from "../../src/scheduler/gpu-history.ts";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { h100, SimulatedHost } from "../simulation/simulated-host.ts";
import { ask, settled, startScheduler } from "./harness.ts";

const ANN = { principal: "ann", admin: true };
const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** A host of two GPUs, whose history is kept in `file`, as if by a daemon that has just started. */
async function host(policy: Partial<Policy> = {}, file = new MemoryStore(), clock = new ManualClock()) {
  const store = file.history;
  const { scheduler, look } = await startScheduler(file, { gpus: 2, clock, policy });
  const history = new GpuHistory({ store, clock, scheduler });
  history.start();
  await settled();
  onTestFinished(async () => {
    history.stop();
    await scheduler.stop();
  });
  const pass = async (ms: number) => {
    clock.advance(ms);
    await settled();
  };
  const told = (from: number, to: number, gpu = 0) =>
    history
      .spans(from, to)
      .get(`GPU-${gpu}`)
      ?.map((span) => ({
        ms: span.to - span.from,
        is: [span.state, ...span.services, ...(span.isIdle ? ["idle"] : [])].join(" "),
      }));
  return { scheduler, clock, file, store, history, see: () => look(2), pass, told };
}

test("who had a GPU is told without a gap, from when to when", async () => {
  const { scheduler, clock, told, pass } = await host();
  const start = clock.now();
  await pass(4 * SECOND);
  const { allocation } = await scheduler.allocate(ask({ serviceName: "trainer" }), ANN);
  await pass(6 * SECOND);
  await scheduler.release({ id: allocation.request.id, serviceName: null, fencingToken: null }, ANN);
  await pass(4 * SECOND);
  const taken = allocation.status === "queued" ? [] : allocation.lease.gpus.map(({ index }) => index);
  expect(told(start, clock.now(), taken[0])).toEqual([
    { ms: 4 * SECOND, is: "free" },
    { ms: 6 * SECOND, is: "leased trainer" },
    { ms: 4 * SECOND, is: "reclaiming" },
  ]);
  expect(told(start, clock.now(), taken[0] === 0 ? 1 : 0)).toEqual([{ ms: 14 * SECOND, is: "free" }]);
});

test("what is written is what has changed, and nothing while nothing does", async () => {
  const { store, pass, see } = await host();
  expect(store.changes).toHaveLength(2);
  for (let minute = 0; minute < 5; minute++) {
    await see();
    await pass(10 * SECOND);
  }
  expect(store.changes).toHaveLength(2);
});

test("a reading that has grown stale is unknown from then on, without any turn", async () => {
  const { clock, told, pass } = await host();
  const start = clock.now();
  await pass(10 * MINUTE);
  expect(told(start, clock.now())?.map(({ is }) => is)).toEqual(["free", "unknown"]);
});

/** How long is told to be unknown around ten minutes without a daemon, of a GPU that nobody holds; and what is told. */
async function around(end: (first: Awaited<ReturnType<typeof host>>) => Promise<void>) {
  const first = await host();
  const start = first.clock.now();
  for (let second = 0; second < 90; second += 10) {
    await first.see();
    await first.pass(10 * SECOND);
  }
  await end(first);
  await first.scheduler.stop();
  first.clock.advance(10 * MINUTE);
  const again = await host({}, first.file, first.clock);
  await again.pass(2 * SECOND);
  const spans = again.told(start, first.clock.now()) ?? [];
  return {
    unknown: spans.filter(({ is }) => is === "unknown").reduce((sum, { ms }) => sum + ms, 0),
    names: spans.map(({ is }) => is),
  };
}

test("the time in which the daemon did not run is unknown, and what was before is still known", async () => {
  const { unknown, names } = await around(({ history }) => history.stop());
  expect([names[0], names.at(-1)]).toEqual(["free", "free"]);
  expect(unknown).toBe(10 * MINUTE);
});

test("of a daemon that was killed no more than its last minute is unknown, too", async () => {
  const { unknown } = await around(async ({ store, history }) => {
    store.failing = true;
    await history.stop();
    store.failing = false;
  });
  expect(unknown).toBeGreaterThanOrEqual(10 * MINUTE);
  expect(unknown).toBeLessThanOrEqual(11 * MINUTE);
});

test("a lease is written down with the turn that grants or ends it, before anybody looks", async () => {
  const { scheduler, store, file, pass } = await host();
  await pass(10 * SECOND);
  const written = store.changes.length;
  const { allocation } = await scheduler.allocate(ask({ serviceName: "trainer", requiredGpus: 2 }), ANN);
  expect(file.turns.at(-1)?.gpuChanges.map(({ state, services }) => [state, ...services])).toEqual([
    ["leased", "trainer"],
    ["leased", "trainer"],
  ]);
  expect(store.changes).toHaveLength(written + 2);
  await pass(10 * SECOND);
  await scheduler.release({ id: allocation.request.id, serviceName: null, fencingToken: null }, ANN);
  expect(file.turns.at(-1)?.gpuChanges.map(({ state }) => state)).toEqual(["reclaiming", "reclaiming"]);
});

test("a cordon of the whole host is written down of all GPUs, and that a lease sits idle of its own", async () => {
  const { scheduler, file, see, pass } = await host({ idleAfterMs: MINUTE, staleAfterMs: 5 * MINUTE });
  const last = () => file.turns.at(-1)?.gpuChanges.map(({ state, isIdle }) => [state, isIdle]);
  await pass(10 * SECOND);
  await scheduler.allocate(ask(), ANN);
  await see();
  await pass(MINUTE);
  await see();
  expect(last()).toEqual([["leased", true]]);
  await pass(10 * SECOND);
  await scheduler.drain(null, { ms: null }, "kernel", { principal: "root", admin: true });
  expect(last()).toEqual([["cordoned", false]]);
});

test("leases that come and go within two seconds make no more changes than looks do", async () => {
  const { scheduler, file, store, pass } = await host();
  await pass(10 * SECOND);
  const [before, turns] = [store.changes.length, file.turns.length];
  for (let round = 0; round < 50; round++) {
    const { allocation } = await scheduler.allocate(ask({ serviceName: `of-${round}`, requiredGpus: 2 }), ANN);
    await scheduler.release({ id: allocation.request.id, serviceName: null, fencingToken: null }, ANN);
  }
  expect(file.turns.length - turns).toBeGreaterThanOrEqual(50);
  expect(store.changes.length - before).toBeLessThanOrEqual(2);
});

test("what a full disk did not take is written when it takes it again, with its time", async () => {
  const { scheduler, clock, store, told, pass } = await host();
  const start = clock.now();
  store.failing = true;
  await scheduler.allocate(ask({ serviceName: "trainer", requiredGpus: 2 }), ANN);
  await pass(10 * SECOND);
  store.failing = false;
  await pass(10 * SECOND);
  expect(told(start, clock.now())?.at(-1)).toMatchObject({ is: "leased trainer" });
  expect(told(start, clock.now())?.at(-1)?.ms).toBeGreaterThanOrEqual(19 * SECOND);
});

test("of a GPU that has left the inventory nothing is remembered: back again, it is written down anew", () => {
  const all = new SimulatedHost([h100("GPU-0"), h100("GPU-1")]);
  const changes = new GpuChanges();
  const found = (state: HostState) => {
    const news = changes.ofLook(state, all.now);
    changes.written(news);
    return news.map(({ uuid }) => uuid);
  };
  expect([found(all.state), found(all.state)]).toEqual([["GPU-0", "GPU-1"], []]);
  expect(found(withoutGpu(all.state, "GPU-1"))).toEqual([]);
  expect(found(all.state)).toEqual(["GPU-1"]);
});

test("before the first that is kept nothing is known", async () => {
  const { clock, told, pass } = await host();
  const start = clock.now();
  await pass(2 * SECOND);
  expect(told(start - MINUTE, clock.now())).toEqual([
    { ms: MINUTE, is: "unknown" },
    { ms: 2 * SECOND, is: "free" },
  ]);
});
