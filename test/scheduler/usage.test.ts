import fc from "fast-check";
import { expect, test } from "vitest";
import { type LeaseSpan, usageOf } from "../../src/scheduler/usage.ts";

const lease = (over: Partial<LeaseSpan>): LeaseSpan => ({
  serviceName: "ocr",
  principal: "alice",
  gpus: ["GPU-a"],
  grantedAt: 1_000,
  endedAt: 3_000,
  ...over,
});

test("a lease counts by its GPUs and its time", () => {
  const usage = usageOf([lease({ gpus: ["GPU-a", "GPU-b"] })], 0, 10_000, 10_000);
  expect(usage.totalGpuMs).toBe(4_000);
  expect(usage.services).toEqual([{ name: "ocr", gpuMs: 4_000, leases: 1 }]);
  expect(usage.gpus).toEqual([
    { name: "GPU-a", gpuMs: 2_000, leases: 1 },
    { name: "GPU-b", gpuMs: 2_000, leases: 1 },
  ]);
});

test("only the part in the period counts, and a running lease counts up to now", () => {
  expect(usageOf([lease({})], 2_000, 10_000, 10_000).totalGpuMs).toBe(1_000);
  expect(usageOf([lease({})], 0, 1_500, 10_000).totalGpuMs).toBe(500);
  expect(usageOf([lease({})], 3_000, 10_000, 10_000).services).toEqual([]);
  expect(usageOf([lease({ endedAt: null })], 0, 10_000, 4_000).totalGpuMs).toBe(3_000);
});

test("the sums over services, principals and GPUs are equal, and adjoining periods add up", () => {
  const span = fc.record({
    serviceName: fc.constantFrom("a", "b", "c"),
    principal: fc.constantFrom("x", "y"),
    gpus: fc.subarray(["GPU-1", "GPU-2", "GPU-3"], { minLength: 1 }),
    grantedAt: fc.nat(10_000),
    endedAt: fc.option(fc.nat(20_000)),
  });
  fc.assert(
    fc.property(fc.array(span), fc.nat(20_000), fc.nat(20_000), (leases, a, b) => {
      const [from, to] = a < b ? [a, b] : [b, a];
      const usage = usageOf(leases, from, to, 20_000);
      for (const rows of [usage.services, usage.principals, usage.gpus]) {
        expect(rows.reduce((sum, { gpuMs }) => sum + gpuMs, 0)).toBe(usage.totalGpuMs);
      }
      const middle = Math.floor((from + to) / 2);
      const halves = usageOf(leases, from, middle, 20_000).totalGpuMs + usageOf(leases, middle, to, 20_000).totalGpuMs;
      expect(halves).toBe(usage.totalGpuMs);
    }),
  );
});
