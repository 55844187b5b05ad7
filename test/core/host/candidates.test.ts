/** What the state keeps of its GPUs, and what counting them in buckets gives beside looking at each. */

import { expect, test } from "vitest";
import type { Allowance } from "../../../src/core/allocator/allowance.ts";
import { limitsNow } from "../../../src/core/allocator/fit.ts";
import { neverFits } from "../../../src/core/allocator/never-fits.ts";
import { place, placeByBucket } from "../../../src/core/allocator/place.ts";
import { freeGpus } from "../../../src/core/host/candidates.ts";
import { shapeOf } from "../../../src/core/host/demand.ts";
import type { Request } from "../../../src/core/model/allocation.ts";
import { DomainError } from "../../../src/core/model/errors.ts";
import fc from "../../fc.ts";
import { ADMIN, h100, SimulatedHost, seconds, t4 } from "../../simulation/simulated-host.ts";
import { checkCandidates } from "../../simulation/whole-checks.ts";
import { request } from "../../store/turns.ts";

const GPUS = 12;
const uuidOf = (at: number) => `GPU-${String(at).padStart(2, "0")}`;

const gpu = fc.nat(GPUS - 1);

type Step =
  | { readonly act: "ask"; readonly gpus: number; readonly shared: boolean }
  | { readonly act: "release"; readonly which: number }
  | { readonly act: "cordon" | "uncordon" | "vanish"; readonly gpu: number }
  | { readonly act: "use"; readonly gpu: number; readonly percent: number }
  | { readonly act: "wait"; readonly seconds: number }
  | { readonly act: "drain" | "undrain" | "blind" };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ act: fc.constant("ask"), gpus: fc.integer({ min: 1, max: 4 }), shared: fc.boolean() }),
  fc.record({ act: fc.constant("release"), which: fc.nat(GPUS) }),
  fc.record({ act: fc.constantFrom("cordon", "uncordon", "vanish"), gpu }),
  fc.record({ act: fc.constant("use"), gpu, percent: fc.constantFrom(0, 0, 50, 99) }),
  fc.record({ act: fc.constant("wait"), seconds: fc.constantFrom(1, 5, 20, 300) }),
  fc.record({ act: fc.constantFrom("drain", "undrain", "undrain", "undrain", "blind") }),
) as fc.Arbitrary<Step>;

function hostOf(): SimulatedHost {
  const readings = Array.from({ length: GPUS }, (_, at) => (at % 4 === 3 ? t4(uuidOf(at)) : h100(uuidOf(at))));
  return new SimulatedHost(readings, { reserveAfterMs: 0 });
}

function take(host: SimulatedHost, one: Step): void {
  switch (one.act) {
    case "ask":
      host.submit({ requiredGpus: one.gpus, minMemoryMib: 10_000, sharing: one.shared ? "shared" : "exclusive" });
      return;
    case "release": {
      const id = [...host.state.allocations.values()][one.which]?.request.id;
      if (id !== undefined) host.release(id);
      return;
    }
    case "cordon":
    case "uncordon":
      host.do({ type: one.act, gpu: uuidOf(one.gpu), reason: "test", actor: ADMIN });
      return;
    case "drain":
      host.do({ type: "drain", gpu: null, reason: "test", leaveMs: null, actor: ADMIN });
      return;
    case "undrain":
      host.do({ type: "undrain", reason: "test", actor: ADMIN });
      return;
    case "use":
      host.gpu(uuidOf(one.gpu), { utilizationPercent: one.percent });
      return;
    case "vanish": {
      const device = host.devices[one.gpu];
      if (device !== undefined) device.present = !device.present;
      return;
    }
    case "wait":
      host.advance(seconds(one.seconds));
      return;
    default:
      host.failProbe("timeout");
  }
}

const ANY_LENGTH: Allowance = {
  durationMs: Infinity,
  most: Infinity,
  closed: new Set(),
  apart: new Set(),
  cause: null,
};
/** Says the same, and has the GPUs looked at one by one. */
const TWICE = [{ ...ANY_LENGTH, durationMs: 1 }, ANY_LENGTH];

function demands(host: SimulatedHost): readonly Request[] {
  const base = request("r");
  return [1, 2, 5].flatMap((gpus) =>
    (["exclusive", "shared"] as const).flatMap((sharing) =>
      [null, "T4"].map((gpuModel) => ({
        ...base,
        sharing,
        gpuModel,
        submittedAt: host.now,
        requirement: { ...base.requirement, gpus, memoryMib: 10_000, maxUtilizationPercent: 80 },
      })),
    ),
  );
}

test("after any history the kept candidates are what a full look gives, and buckets answer as GPUs one by one do", () => {
  let placements = 0;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const host = hostOf();
      for (const one of steps) {
        try {
          take(host, one);
        } catch (error) {
          if (!(error instanceof DomainError)) throw error;
        }
        checkCandidates(host.state);
      }
      const { state, now } = host;
      const free = freeGpus(state, now);
      const models = state.gpus.models();
      for (const asked of demands(host)) {
        const shape = shapeOf(asked, models);
        expect(shape).toEqual(shapeOf(asked, state.gpus.values()));
        expect(limitsNow(shape, free, [ANY_LENGTH])).toEqual(limitsNow(shape, free, TWICE));
        const oneByOne = place(asked, free.all(), models, state.sight.closeness)?.map(({ gpu }) => gpu.uuid) ?? null;
        const byBucket = placeByBucket(asked, shape, free, state.sight.closeness);
        expect(byBucket?.map(({ gpu }) => gpu.uuid) ?? null).toEqual(oneByOne);
        if (oneByOne !== null) placements++;
      }
    }),
    { numRuns: 300 },
  );
  expect(placements).toBeGreaterThan(300);
});

test("a GPU whose reading has grown too old is not free, though nothing has happened to it", () => {
  const host = hostOf();
  const fresh = freeGpus(host.state, host.now);
  const until = host.now + host.state.policy.staleAfterMs;
  expect(fresh.all()).toHaveLength(GPUS);
  expect(freeGpus(host.state, until)).toBe(fresh);
  expect(freeGpus(host.state, until + 1).isEmpty).toBe(true);
});

test("GPUs that are alike are one bucket, whatever their number", () => {
  const alike = new SimulatedHost(Array.from({ length: 100 }, (_, at) => h100(uuidOf(at))));
  expect(freeGpus(alike.state, alike.now).buckets.map(({ members }) => members.length)).toEqual([100]);
  const id = alike.submit();
  expect(freeGpus(alike.state, alike.now).buckets.map(({ members }) => members.length)).toEqual([99]);
  alike.release(id);
  expect(freeGpus(alike.state, alike.now).buckets[0]?.members.map(({ gpu }) => gpu.uuid)).toEqual(
    Array.from({ length: 100 }, (_, at) => uuidOf(at)).sort(),
  );
});

test("whether a host could ever serve a request is told by its models, and by each device where GPUs are cut", () => {
  const host = hostOf();
  const [asked] = demands(host);
  if (asked === undefined) throw new Error("nobody asks");
  const of = (gpus: number, memoryMib: number) =>
    neverFits({ ...asked, requirement: { ...asked.requirement, gpus, memoryMib } }, host.state);
  expect(of(9, 20_000)).toBeNull();
  expect(of(10, 20_000)).toBe("asked for 10 GPUs with 20000 MiB each; this host has 9");
  expect(of(13, 1)).toBe("asked for 13 GPUs; this host has 12");
  host.gpu(uuidOf(0), { migMode: "Enabled" });
  host.observe();
  expect(of(9, 20_000)).toBe("asked for 9 GPUs with 20000 MiB each; this host has 8");
});
