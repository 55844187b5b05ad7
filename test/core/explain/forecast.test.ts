import { expect, test } from "vitest";
import { type Eta, forecast, MAX_FORECASTS } from "../../../src/core/explain/forecast.ts";
import type { AllocationId } from "../../../src/core/model/ids.ts";
import fc from "../../fc.ts";
import {
  type Ask,
  h100,
  minutes,
  NO_QUOTA,
  NO_QUOTAS,
  SimulatedHost,
  seconds,
  t4,
} from "../../simulation/simulated-host.ts";

/** What a GPU may take after a lease until it is seen empty: `reclaim_timeout`. */
const settling = seconds(60);
const etas = (host: SimulatedHost) => forecast(host.state, host.now);

test("the first in line can count on the GPU when its lease has lasted as long as it may, and was seen empty", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit({ maxDurationMs: minutes(60), ttlMs: minutes(90) });
  host.advance(minutes(20));
  const id = host.submit();
  expect(etas(host).get(id)).toEqual({ earliest: host.now, latest: host.now + minutes(40) + settling });
});

test("those behind can count on it when each before them has had it as long as it may", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit({ maxDurationMs: minutes(60) });
  host.submit({ maxDurationMs: minutes(30) });
  host.submit({ maxDurationMs: minutes(10) });
  const last = host.submit();
  expect(etas(host).get(last)?.latest).toBe(host.now + minutes(100) + 3 * settling);
});

test("there is no estimate where a lease without a max_duration is in the way, whatever its TTL", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { preferWide: false });
  host.submit({ ttlMs: minutes(5) });
  host.submit({ maxDurationMs: minutes(60) });
  const single = host.submit();
  const pair = host.submit({ requiredGpus: 2, maxDurationMs: minutes(1) });
  const behind = host.submit();
  expect(etas(host).get(single)?.latest).toBe(host.now + minutes(60) + settling);
  expect([pair, behind].map((id) => etas(host).get(id))).toEqual([null, null]);
});

test("one that a wider request may pass has no estimate, nor has one that counts on its GPUs", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], {
    patienceMs: minutes(30),
    abandonAfterMs: minutes(999),
  });
  for (let i = 0; i < 2; i++) host.submit({ maxDurationMs: minutes(60) });
  const open = host.submit();
  const stated = host.submit({ maxDurationMs: minutes(10) });
  const end = host.now + minutes(60) + settling;
  expect([open, stated].map((id) => etas(host).get(id))).toEqual([null, null]);
  host.reconfigure({ preferWide: false });
  expect([open, stated].map((id) => etas(host).get(id)?.latest)).toEqual([end, end]);
});

test("a request for one model does not wait for those who wait for another", () => {
  const host = new SimulatedHost([h100("GPU-a"), t4("GPU-b")]);
  host.submit({ gpuModel: "H100" });
  host.submit({ gpuModel: "T4", maxDurationMs: minutes(10) });
  const large = host.submit({ gpuModel: "H100" });
  const small = host.submit({ gpuModel: "T4", maxDurationMs: minutes(5) });
  expect(etas(host).get(large)).toBeNull();
  expect(etas(host).get(small)?.latest).toBe(host.now + minutes(10) + settling);
});

test("one that needs a sick GPU has no estimate, and those behind do not wait for it", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  host.gpu("GPU-b", { memoryUsedMib: null });
  host.observe();
  host.submit({ maxDurationMs: minutes(10) });
  const pair = host.submit({ requiredGpus: 2, maxDurationMs: minutes(60) });
  const single = host.submit();
  expect(etas(host).get(pair)).toBeNull();
  expect(etas(host).get(single)?.latest).toBe(host.now + minutes(10) + settling);
});

test("the earliest goes by the short ones of the leases that ended of late, once there are enough of them", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const serve = (ms: number) => {
    const id = host.submit({ maxDurationMs: minutes(10) });
    host.advance(ms);
    host.release(id);
    host.advance(seconds(10));
  };
  for (let i = 0; i < 9; i++) serve(minutes(5 + (i % 3)));
  host.submit({ maxDurationMs: minutes(60) });
  const early = host.submit();
  expect(etas(host).get(early)?.earliest).toBe(host.now);
  host.release(early);
  host.do({
    type: "release",
    id: null,
    serviceName: "svc",
    fencingToken: null,
    actor: { principal: "anonymous", admin: true },
  });
  host.advance(seconds(10));
  for (let i = 0; i < 9; i++) serve(minutes(5));
  host.submit({ maxDurationMs: minutes(60) });
  host.submit({ maxDurationMs: minutes(20) });
  const id = host.submit();
  expect(etas(host).get(id)?.earliest).toBe(host.now + minutes(30) + minutes(10));
});

test("who needs fewer GPUs, or them for less time, may be earlier than one before it; who does not, may not", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { reserveAfterMs: 0 });
  for (let i = 0; i < 10; i++) {
    const id = host.submit({ maxDurationMs: minutes(1) });
    host.advance(seconds(45));
    host.release(id);
    host.advance(seconds(10));
  }
  host.submit({ maxDurationMs: minutes(60) });
  host.submit({ maxDurationMs: minutes(60) });
  host.submit({ requiredGpus: 2, maxDurationMs: minutes(20) });
  const single = host.submit({ maxDurationMs: minutes(1) });
  const pair = host.submit({ requiredGpus: 2, maxDurationMs: minutes(20) });
  const first = host.now + 0.75 * minutes(60);
  expect(etas(host).get(single)?.earliest).toBe(first);
  expect(etas(host).get(pair)?.earliest).toBe(first + 0.75 * minutes(20));
});

test("there is no estimate beyond the first hundred, and none where no GPU has a current reading", () => {
  const host = new SimulatedHost([h100("GPU-a")], { maxQueueSize: 200 });
  for (let i = 0; i < MAX_FORECASTS + 3; i++) host.submit({ maxDurationMs: minutes(1) });
  expect(etas(host).size).toBe(MAX_FORECASTS);
  expect([...etas(host).values()].every((eta) => eta !== null)).toBe(true);
  host.monitoring = false;
  host.advance(seconds(30));
  expect([...etas(host).values()].every((eta) => eta === null)).toBe(true);
});

const ask: fc.Arbitrary<Ask> = fc.record({
  requiredGpus: fc.integer({ min: 1, max: 3 }),
  gpuModel: fc.constantFrom(null, null, "H100", "T4"),
  minMemoryMib: fc.constantFrom(null, null, 20_000),
  maxDurationMs: fc.oneof(
    { weight: 9, arbitrary: fc.integer({ min: 1, max: 60 }).map(minutes) },
    { weight: 1, arbitrary: fc.constant(null) },
  ),
  priority: fc.constantFrom(5, 5, 5, 9),
});

/** Ends a lease after this part of what it may last; more than 1: it is ended at its hard end. */
const part = fc.constantFrom(0.1, 0.5, 0.9, 2, 2);

test("nobody is granted after the latest instant that was foreseen, as long as nobody new comes", () => {
  const step = fc.record({ ask, part, waitMs: fc.constantFrom(0, 0, seconds(30), minutes(10)) });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 25, size: "max" }), (steps) => {
      const gpus = [h100("GPU-a"), h100("GPU-b"), h100("GPU-c"), t4("GPU-d"), t4("GPU-e")];
      const host = new SimulatedHost(gpus, { reserveAfterMs: 0, verifyRelease: "never", staleAfterMs: minutes(1e9) });
      host.monitoring = false;
      const parts = new Map<AllocationId, number>();
      const releaseDue = () => {
        for (const allocation of [...host.state.allocations.values()]) {
          if (allocation.status === "queued") continue;
          const { id, maxDurationMs } = allocation.request;
          if (allocation.status === "offered") host.claim(id);
          const lastsMs = (parts.get(id) as number) * (maxDurationMs ?? minutes(200));
          if (host.now >= allocation.lease.grantedAt + lastsMs) host.release(id);
        }
      };
      const pass = (ms: number) => {
        for (let left = ms; left > 0; left -= seconds(30)) {
          releaseDue();
          host.advance(Math.min(left, seconds(30)));
        }
      };
      for (const { ask: asked, part: lasts, waitMs } of steps) {
        try {
          parts.set(host.submit(asked), lasts);
        } catch {
          continue;
        }
        pass(waitMs);
      }
      const foreseen = new Map<AllocationId, Eta | null>();
      for (let round = 0; host.queue().length > 0 && round < 3_000; round++) {
        for (const [id, eta] of etas(host)) {
          const before = foreseen.get(id)?.latest ?? Infinity;
          // What was foreseen is kept or bettered as time goes on.
          expect(eta?.latest ?? Infinity).toBeLessThanOrEqual(before);
          foreseen.set(id, eta);
        }
        pass(minutes(5));
      }
      for (const [id, eta] of foreseen) {
        if (eta === null) continue;
        expect(host.lease(id)?.grantedAt).toBeLessThanOrEqual(eta.latest);
      }
    }),
    { numRuns: Number(process.env.FORECASTS ?? 200) },
  );
});

test("one that its own quota may keep has no estimate; those behind it do not wait for it", () => {
  const quotas = { ...NO_QUOTAS, services: { few: { ...NO_QUOTA, maxGpus: 1 } } };
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { quotas });
  host.submit({ serviceName: "few", maxDurationMs: minutes(10) });
  host.submit({ maxDurationMs: minutes(20) });
  const over = host.submit({ serviceName: "few", maxDurationMs: minutes(10) });
  const other = host.submit({ maxDurationMs: minutes(5) });
  expect(etas(host).get(over)).toBeNull();
  expect(etas(host).get(other)?.latest).toBe(host.now + minutes(10) + settling);
});
