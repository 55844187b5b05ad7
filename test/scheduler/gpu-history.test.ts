/** What each GPU was, and whose, as it is written down and told. */
import { expect, onTestFinished, test } from "vitest";
import { ManualClock } from "../../src/platform/clock.ts";
import { GpuHistory } from "../../src/scheduler/gpu-history.ts";
import { MemoryHistory } from "../fixtures/memory-history.ts";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { ask, settled, startScheduler } from "./harness.ts";

const ANN = { principal: "ann", admin: true };
const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** A host of two GPUs, whose history is kept in `store`, as if by a daemon that has just started. */
async function host(store = new MemoryHistory(), clock = new ManualClock()) {
  const { scheduler, look } = await startScheduler(new MemoryStore(), { gpus: 2, clock });
  const history = new GpuHistory({ store, clock, state: () => scheduler.state });
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
  return { scheduler, clock, store, history, see: () => look(2), pass, told };
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

test("the time in which the daemon did not run is unknown, and what was before is still known", async () => {
  const first = await host();
  const start = first.clock.now();
  await first.pass(90 * SECOND);
  first.history.stop();
  first.clock.advance(10 * MINUTE);
  const again = await host(first.store, first.clock);
  await again.pass(2 * SECOND);
  const spans = again.told(start, first.clock.now()) ?? [];
  expect(spans.map(({ is }) => is)).toContain("unknown");
  expect(spans.at(-1)).toEqual({ ms: 2 * SECOND, is: "free" });
  const unknown = spans.filter(({ is }) => is === "unknown").reduce((sum, { ms }) => sum + ms, 0);
  expect(unknown).toBeGreaterThanOrEqual(10 * MINUTE);
  expect(unknown).toBeLessThanOrEqual(11 * MINUTE + 30 * SECOND);
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

test("before the first that is kept nothing is known", async () => {
  const { clock, told, pass } = await host();
  const start = clock.now();
  await pass(2 * SECOND);
  expect(told(start - MINUTE, clock.now())).toEqual([
    { ms: MINUTE, is: "unknown" },
    { ms: 2 * SECOND, is: "free" },
  ]);
});
