import { expect, test, vi } from "vitest";
import type { GpuReading } from "../../src/core/model/reading.ts";
import { ManualClock } from "../../src/platform/clock.ts";
import { UsageBusyError } from "../../src/ports/refusals.ts";
import type { EndedLeasePage, EndedLeaseQuery, Turn } from "../../src/ports/store.ts";
import {
  endedLease,
  type HeldLease,
  type Period,
  type Usage,
  UsageReports,
  UsageTally,
} from "../../src/scheduler/usage.ts";
import fc from "../fc.ts";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { seen } from "../fixtures/readings.ts";
import { ADMIN, h100, process } from "../simulation/simulated-host.ts";
import { ask, startScheduler } from "./harness.ts";

const lease = (over: Partial<HeldLease>): HeldLease => ({
  serviceName: "ocr",
  principal: "alice",
  from: 1_000,
  to: 3_000,
  gpus: [{ uuid: "GPU-a", part: 1, used: [] }],
  ...over,
});

function sumsOf(leases: readonly HeldLease[], period: Period) {
  const tally = new UsageTally(period);
  for (const each of leases) tally.add(each);
  return tally.sums();
}

const ALWAYS: Period = { from: 0, to: 100_000 };

test("a lease counts by its GPUs and its time, and its use by the spans in which each was used", () => {
  const gpus: HeldLease["gpus"] = [
    { uuid: "GPU-a", part: 1, used: [[1_000, 1_500, 500]] },
    { uuid: "GPU-b", part: 1, used: [] },
  ];
  const amount = { leases: 1, reservedMs: 4_000, usedMs: 500, wastedMs: 0 };
  expect(sumsOf([lease({ gpus })], ALWAYS)).toEqual({
    total: amount,
    services: [{ name: "ocr", ...amount }],
    principals: [{ name: "alice", ...amount }],
    gpus: [
      { name: "GPU-a", leases: 1, reservedMs: 2_000, usedMs: 500, wastedMs: 0 },
      { name: "GPU-b", leases: 1, reservedMs: 2_000, usedMs: 0, wastedMs: 0 },
    ],
  });
});

test("a shared lease counts for the part of the memory that is reserved for it, held and used", () => {
  const gpus: HeldLease["gpus"] = [{ uuid: "GPU-a", part: 0.25, used: [[1_000, 1_500, 500]] }];
  expect(sumsOf([lease({ gpus })], ALWAYS).total).toEqual({ leases: 1, reservedMs: 500, usedMs: 125, wastedMs: 0 });
  const ended = { serviceName: "a", principal: "x", used: [], grantedAt: 0, endedAt: 1_000 };
  const half = endedLease({ ...ended, gpus: [{ uuid: "GPU-a", memoryTotalMib: 80_000 }], sharedMib: 40_000 });
  const whole = endedLease({ ...ended, gpus: [{ uuid: "GPU-a", memoryTotalMib: 80_000 }], sharedMib: null });
  expect(sumsOf([half], ALWAYS).total.reservedMs).toBe(500);
  expect(sumsOf([whole], ALWAYS).total.reservedMs).toBe(1_000);
});

test("only the part in the period counts, of the lease and of its use", () => {
  const used = lease({ gpus: [{ uuid: "GPU-a", part: 1, used: [[1_200, 2_800, 1_600]] }] });
  const total = (from: number, to: number) => sumsOf([used], { from, to }).total;
  expect(total(2_000, 10_000)).toEqual({ leases: 1, reservedMs: 1_000, usedMs: 800, wastedMs: 0 });
  expect(total(0, 1_500)).toEqual({ leases: 1, reservedMs: 500, usedMs: 300, wastedMs: 0 });
  expect(total(3_000, 10_000)).toEqual({ leases: 0, reservedMs: 0, usedMs: 0, wastedMs: 0 });
  expect(sumsOf([used], { from: 0, to: 1_000 }).services).toEqual([]);
});

test("the largest come first, and equals by name", () => {
  const leases = ["b", "a", "c"].map((serviceName) => lease({ serviceName, to: serviceName === "c" ? 9_000 : 3_000 }));
  expect(sumsOf(leases, ALWAYS).services.map(({ name }) => name)).toEqual(["c", "a", "b"]);
});

const anyLease: fc.Arbitrary<HeldLease> = fc
  .record({
    serviceName: fc.constantFrom("a", "b", "c"),
    principal: fc.constantFrom("x", "y"),
    from: fc.nat(10_000),
    heldMs: fc.nat(10_000),
    gpus: fc.subarray(["GPU-1", "GPU-2", "GPU-3"], { minLength: 1 }),
    part: fc.oneof(fc.constant(1), fc.double({ min: 1e-5, max: 1, noNaN: true })),
    used: fc.array(fc.nat(10_000), { maxLength: 8 }),
  })
  .map(({ heldMs, gpus, part, used, ...rest }) => {
    const edges = used.map((ms) => rest.from + Math.min(ms, heldMs)).sort((a, b) => a - b);
    const spans = Array.from({ length: edges.length >> 1 }, (_, i) => {
      const [from, to] = edges.slice(2 * i, 2 * i + 2) as [number, number];
      return [from, to, Math.ceil((to - from) / (i + 1))] as const;
    });
    return {
      ...rest,
      to: rest.from + heldMs,
      gpus: gpus.map((uuid, i) => ({ uuid, part, used: i === 0 ? spans : [] })),
    };
  });

test("the sums over services, principals and GPUs are equal, and adjoining periods add up", () => {
  fc.assert(
    fc.property(fc.array(anyLease), fc.nat(20_000), fc.nat(20_000), fc.nat(20_000), (leases, a, b, c) => {
      const [from, middle, to] = [a, b, c].sort((one, other) => one - other) as [number, number, number];
      const sums = sumsOf(leases, { from, to });
      for (const rows of [sums.services, sums.principals, sums.gpus]) {
        expect(rows.reduce((sum, { reservedMs }) => sum + reservedMs, 0)).toBe(sums.total.reservedMs);
        expect(rows.reduce((sum, { usedMs }) => sum + usedMs, 0)).toBe(sums.total.usedMs);
      }
      expect(sums.total.usedMs).toBeLessThanOrEqual(sums.total.reservedMs);
      const halves = [sumsOf(leases, { from, to: middle }).total, sumsOf(leases, { from: middle, to }).total];
      for (const key of ["reservedMs", "usedMs"] as const) {
        expect(halves.reduce((sum, half) => sum + half[key], 0)).toBe(sums.total[key]);
      }
    }),
    { numRuns: 2_000 },
  );
});

const BUSY: Partial<GpuReading> = { processes: [process(1)], memoryUsedMib: 9_000 };

test("a report counts ended leases, running ones up to now, and offers", async () => {
  const { scheduler, clock, look } = await startScheduler(new MemoryStore(), { gpus: 2 });
  const start = clock.now();
  const alice = { principal: "alice", admin: false };
  const first = await scheduler.allocate(ask({ serviceName: "a", requiredGpus: 2 }), alice);
  await scheduler.allocate(ask({ serviceName: "b" }), ADMIN);
  clock.advance(10_000);
  const busy = [0, 1].map((index) => h100(`GPU-${index}`, { index, ...(index === 0 ? BUSY : {}) }));
  await scheduler.observe(seen(busy, clock.now()));
  clock.advance(2_000);
  await scheduler.release({ id: first.allocation.request.id, serviceName: null, fencingToken: null }, alice);
  await look();
  expect([...scheduler.state.allocations.values()].map(({ status }) => status)).toEqual(["offered"]);
  clock.advance(1_000);
  const usage = await scheduler.usage({ from: start, to: clock.now() });
  expect(usage).toMatchObject({
    now: clock.now(),
    completeFrom: null,
    total: { leases: 2, reservedMs: 25_000, usedMs: 2_000, wastedMs: 0 },
    services: [
      { name: "a", leases: 1, reservedMs: 24_000, usedMs: 2_000, wastedMs: 0 },
      { name: "b", leases: 1, reservedMs: 1_000, usedMs: 0, wastedMs: 0 },
    ],
    principals: [{ name: "alice" }, { name: "anonymous" }],
    gpus: [
      // The used one has not been seen empty yet.
      { name: "GPU-1", reservedMs: 13_000, usedMs: 0 },
      { name: "GPU-0", reservedMs: 12_000, usedMs: 2_000 },
    ],
  });
  expect((await scheduler.usage({ from: start - 9, to: start })).total.reservedMs).toBe(0);
  // What has not happened yet is not counted.
  expect((await scheduler.usage({ from: start, to: clock.now() + 3_600_000 })).total.reservedMs).toBe(25_000);
});

/** Lets something happen before each page but the first. */
class Interrupted extends MemoryStore {
  between: () => Promise<unknown> = async () => undefined;
  #done: Promise<unknown> = Promise.resolve();
  override endedLeases(query: EndedLeaseQuery): EndedLeasePage {
    const page = super.endedLeases(query);
    this.#done = this.#done.then(() => this.between());
    return page;
  }
  settled(): Promise<unknown> {
    return this.#done;
  }
}

test("what begins or ends while the pages are read counts as it stood when the report was asked for", async () => {
  const store = new Interrupted();
  const { scheduler, clock } = await startScheduler(store, { gpus: 8 });
  const grant = async () => (await scheduler.allocate(ask({ queue: false }), ADMIN)).allocation.request.id;
  const end = (id: string) => scheduler.release({ id, serviceName: null, fencingToken: null }, ADMIN);
  const from = clock.now();
  for (let i = 0; i < 1_500; i++) {
    const id = await grant();
    clock.advance(10);
    await end(id);
  }
  const held: string[] = [await grant(), await grant(), await grant()];
  clock.advance(500);
  const before = await scheduler.usage({ from, to: clock.now() + 9_000 });
  expect(before.total).toMatchObject({ leases: 1_503, reservedMs: 1_500 * 10 + 3 * 500 });

  let ends = 0;
  store.between = async () => {
    clock.advance(1);
    const id = held.pop();
    if (id !== undefined) await end(id);
    const brief = await grant();
    clock.advance(1);
    await end(brief);
    ends++;
    held.unshift(await grant());
  };
  const during = await scheduler.usage({ from, to: clock.now() + 9_000 });
  const endsMeanwhile = ends;
  await store.settled();
  // Or nothing happened in between.
  expect(endsMeanwhile).toBeGreaterThan(1);
  expect(during).toEqual(before);
  store.between = async () => undefined;
  const after = await scheduler.usage({ from, to: before.now });
  expect({ ...after, now: 0, to: 0 }).toEqual({ ...before, now: 0, to: 0 });
});

/** Its turns are there before they are acknowledged, as on a disk in another thread. */
class LateAcknowledging extends MemoryStore {
  acknowledged: Promise<void> = Promise.resolve();
  override async commit(turn: Turn): Promise<void> {
    await super.commit(turn);
    await this.acknowledged;
  }
}

test("a lease whose end is on disk and not yet acknowledged counts once", async () => {
  const store = new LateAcknowledging();
  const { scheduler, clock } = await startScheduler(store);
  const from = clock.now();
  const { allocation } = await scheduler.allocate(ask(), ADMIN);
  const { id } = allocation.request;
  clock.advance(1_000);
  const { promise, resolve } = Promise.withResolvers<void>();
  store.acknowledged = promise;
  const released = scheduler.release({ id, serviceName: null, fencingToken: null }, ADMIN);
  await vi.waitFor(() => expect(store.findEnded(id)).toBeDefined());
  expect(scheduler.state.allocations.size).toBe(1);
  clock.advance(10);
  expect((await scheduler.usage({ from, to: clock.now() })).total).toMatchObject({ leases: 1, reservedMs: 1_010 });
  resolve();
  await released;
  expect((await scheduler.usage({ from, to: clock.now() })).total).toMatchObject({ leases: 1, reservedMs: 1_000 });
});

test("leases that ended before the clock was set back count by the times that they show", async () => {
  const store = new MemoryStore();
  const { scheduler, clock } = await startScheduler(store);
  const { allocation } = await scheduler.allocate(ask(), ADMIN);
  clock.advance(10_000);
  await scheduler.release({ id: allocation.request.id, serviceName: null, fencingToken: null }, ADMIN);
  await scheduler.stop();
  const period = { from: clock.now() - 20_000, to: clock.now() + 20_000 };
  const { scheduler: again, clock: setBack } = await startScheduler(store, { clock: new ManualClock(period.from) });
  expect((await again.usage(period)).total).toMatchObject({ leases: 1, reservedMs: 10_000 });
  expect((await again.usage({ ...period, to: setBack.now() + 15_000 })).total.reservedMs).toBe(5_000);
});

test("while a report is made, others are answered; a third report at once is refused", async () => {
  const store = new Interrupted();
  const { scheduler, clock } = await startScheduler(store, { gpus: 1 });
  const from = clock.now();
  for (let i = 0; i < 1_000; i++) {
    const { allocation } = await scheduler.allocate(ask(), ADMIN);
    clock.advance(1);
    await scheduler.release({ id: allocation.request.id, serviceName: null, fencingToken: null }, ADMIN);
  }
  const order: string[] = [];
  const report = async (name: string): Promise<Usage> => {
    const usage = await scheduler.usage({ from, to: clock.now() });
    order.push(name);
    return usage;
  };
  const reports = [report("first"), report("second")];
  await expect(report("third")).rejects.toThrow(UsageBusyError);
  await scheduler.allocate(ask(), ADMIN);
  order.push("lease");
  for (const usage of await Promise.all(reports))
    expect(usage.total).toMatchObject({ leases: 1_000, reservedMs: 1_000 });
  expect(order[0]).toBe("lease");
  expect((await report("fourth")).total.reservedMs).toBe(1_000);
});

test("a report that fails makes room for the next", async () => {
  const store = new MemoryStore();
  const reports = new UsageReports(store);
  const { scheduler, clock } = await startScheduler(store);
  const make = () => reports.make({ from: 0, to: 1 }, scheduler.state, clock.now());
  const broken = Object.assign(store, {
    endedLeases: () => {
      throw new Error("the disk is gone");
    },
  });
  for (let i = 0; i < 3; i++) await expect(make()).rejects.toThrow("the disk is gone");
  Reflect.deleteProperty(broken, "endedLeases");
  expect((await make()).total.leases).toBe(0);
});

test("a period with more leases or names than one report may have is refused", async () => {
  const endless: EndedLeasePage = {
    leases: [],
    next: { endedAt: 0, row: 0 },
  };
  const names = (): EndedLeasePage => ({
    ...endless,
    leases: Array.from({ length: 100 }, () => ({
      id: `svc-${serial++}`,
      serviceName: `svc-${serial}`,
      principal: "x",
      gpus: [{ uuid: "GPU-0", memoryTotalMib: null }],
      sharedMib: null,
      used: [],
      fencingToken: 0,
      grantedAt: 0,
      endedAt: 1,
    })),
  });
  let serial = 0;
  const store = new MemoryStore();
  const { scheduler, clock } = await startScheduler(store);
  const make = (page: () => EndedLeasePage) =>
    new UsageReports(Object.assign(store, { endedLeases: page })).make(
      { from: 0, to: 1 },
      scheduler.state,
      clock.now(),
    );
  await expect(make(() => endless)).rejects.toThrow(/more than 1000000 leases/);
  await expect(make(names)).rejects.toThrow(/more than 10000 services or principals/);
});

test("a lease of ten minutes that used less than a quarter wastes the rest, in whichever period", () => {
  const minutes = (count: number) => count * 60_000;
  const used = (from: number, to: number) => [[minutes(from), minutes(to), minutes(to - from)] as const];
  const held = (to: number, spans: ReturnType<typeof used>) =>
    lease({ from: 0, to: minutes(to), gpus: [{ uuid: "GPU-a", part: 1, used: spans }] });
  const wasted = (one: HeldLease, period: Period = { from: 0, to: minutes(60) }) =>
    sumsOf([one], period).total.wastedMs;
  expect(wasted(held(20, used(0, 4)))).toBe(minutes(16));
  expect(wasted(held(20, used(0, 5)))).toBe(0);
  expect(wasted(held(9, []))).toBe(0);
  const idle = held(20, used(0, 4));
  const parts = [0, 3, 10, 20].map(minutes);
  const sum = [0, 1, 2].reduce(
    (all, part) => all + wasted(idle, { from: parts[part] ?? 0, to: parts[part + 1] ?? 0 }),
    0,
  );
  expect(sum).toBe(minutes(16));
});
