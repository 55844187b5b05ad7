/** Histories on a host with whole GPUs, instances, and compute instances that share their memory. */

import { expect, test } from "vitest";
import { place } from "../../../src/core/allocator/place.ts";
import { requestOf } from "../../../src/core/decisions/submit.ts";
import { candidates } from "../../../src/core/host/candidates.ts";
import { emptyHost } from "../../../src/core/host/changes.ts";
import { evolve } from "../../../src/core/host/evolve.ts";
import type { AllocationId } from "../../../src/core/model/ids.ts";
import { memoryPoolOf } from "../../../src/core/model/mig.ts";
import type { GpuReading, MigInstance } from "../../../src/core/model/reading.ts";
import fc from "../../fc.ts";
import { cutGpu, instance, twins } from "../../fixtures/mig.ts";
import {
  ADMIN,
  ASK,
  type Ask,
  DEFAULT_POLICY,
  h100,
  process,
  refusal,
  SimulatedHost,
  seconds,
} from "../../simulation/simulated-host.ts";

const [first, second] = twins(2);
const THIRD = instance(2, 2, { computeInstanceId: 2, profile: "1c.3g.71gb", memoryTotalMib: 71_424 });
const SMALL = [9, 10, 11].map((gi, at) => instance(3 + at, gi));
const CUTS: readonly (readonly MigInstance[])[] = [
  [first, second, THIRD, ...SMALL],
  [first, second, ...SMALL.slice(1)],
  SMALL,
  [],
];

function hostReadings(): GpuReading[] {
  return [h100("GPU-b"), cutGpu("GPU-a", CUTS[0] as readonly MigInstance[]), h100("GPU-c")];
}

const anyAsk: fc.Arbitrary<Ask> = fc.record({
  requiredGpus: fc.constantFrom(1, 1, 1, 2, 3),
  minMemoryMib: fc.constantFrom(1_000, 5_000, 9_984, 23_808, 35_712, 40_000, 71_424, 81_559),
  migProfile: fc.constantFrom(null, null, "1g.10gb", "1c.3g.71gb"),
  gpuModel: fc.constantFrom(null, null, "3g.71gb", "H100"),
  maxDurationMs: fc.constantFrom(null, seconds(20), seconds(200)),
  ttlMs: fc.constantFrom(null, seconds(30)),
});

type Step = (host: SimulatedHost, ids: AllocationId[]) => void;

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: anyAsk.map(
      (ask): Step =>
        (host, ids) =>
          void refusal(() => ids.push(host.submit(ask))),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.nat().map(
      (n): Step =>
        (host, ids) => {
          const id = ids[n % Math.max(1, ids.length)];
          if (id !== undefined) refusal(() => host.release(id));
        },
    ),
  },
  {
    weight: 3,
    arbitrary: fc.integer({ min: 1, max: 40 }).map(
      (s): Step =>
        (host) =>
          host.advance(seconds(s)),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(...CUTS).map(
      (migInstances): Step =>
        (host) =>
          host.gpu("GPU-a", { migInstances }),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom("Enabled", "Enabled", "Disabled").map(
      (migMode): Step =>
        (host) =>
          host.gpu("GPU-a", migMode === "Enabled" ? { migMode } : { migMode, migInstances: [] }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .record({
        ci: fc.constantFrom(0, 1, 2, null),
        usedMemoryMib: fc.constantFrom(100, 20_000, null),
        on: fc.boolean(),
      })
      .map(
        ({ ci, usedMemoryMib, on }): Step =>
          (host) => {
            const worker = process(7, { gpuInstanceId: 2, computeInstanceId: ci, usedMemoryMib });
            host.gpu("GPU-a", { processes: on ? [worker] : [] });
          },
      ),
  },
);

/** Promised of each memory that is shared, and what it has. */
function pools(host: SimulatedHost): Map<string, { promisedMib: number; totalMib: number }> {
  const found = new Map<string, { promisedMib: number; totalMib: number }>();
  for (const gpu of host.state.gpus.values()) {
    const name = memoryPoolOf(gpu);
    if (name === null || gpu.hold.kind !== "leased") continue;
    const askedMib = host.allocation(gpu.hold.allocationId).request.requirement.memoryMib;
    const pool = found.get(name) ?? { promisedMib: 0, totalMib: gpu.memoryTotalMib ?? 0 };
    found.set(name, { ...pool, promisedMib: pool.promisedMib + askedMib });
  }
  return found;
}

test("no history promises shared memory twice, mixes whole GPUs and instances, or leases both of one GPU", () => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 60 }), (steps) => {
      const host = new SimulatedHost(hostReadings());
      const ids: AllocationId[] = [];
      for (const step of steps) {
        step(host, ids);
        for (const { promisedMib, totalMib } of pools(host).values()) expect(promisedMib).toBeLessThanOrEqual(totalMib);
        const leased = host.state.gpus.values().filter(({ hold }) => hold.kind === "leased");
        for (const { mig } of leased) expect(leased.some(({ uuid }) => uuid === mig?.parentUuid)).toBe(false);
        for (const id of ids) {
          const gpus = host.lease(id)?.gpus ?? [];
          expect(new Set(gpus.map(({ mig }) => mig === null)).size).toBeLessThan(2);
          const { requirement, migProfile } = host.allocation(id).request;
          if (gpus.some(({ mig }) => mig !== null)) {
            expect(requirement.gpus === 1 || migProfile !== null).toBe(true);
          }
        }
      }
      const folded = host.log.reduce(evolve, emptyHost(DEFAULT_POLICY));
      expect(JSON.stringify(folded.gpus.values())).toBe(JSON.stringify(host.state.gpus.values()));
    }),
    { numRuns: 1_000 },
  );
});

test("whatever is free, a waiting request that could be placed beside nobody is placed", () => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 40 }), (steps) => {
      const host = new SimulatedHost(hostReadings(), { reserveAfterMs: seconds(1_000_000) });
      const ids: AllocationId[] = [];
      for (const step of steps) step(host, ids);
      host.observe();
      const free = candidates(host.state, host.now);
      for (const id of host.queue()) {
        const { request } = host.allocation(id);
        expect(place(request, free, host.state.gpus.values(), null)).toBeNull();
      }
    }),
    { numRuns: 300 },
  );
});

test("instances in any order give the same placement", () => {
  fc.assert(
    fc.property(anyAsk, fc.nat(), (ask, n) => {
      const host = new SimulatedHost(hostReadings());
      const free = candidates(host.state, host.now);
      const command = { type: "allocate", id: "svc-1", ask: { ...ASK, ...ask }, actor: ADMIN } as const;
      const request = requestOf(command, host.state, host.now);
      const turned = [...free.slice(n % free.length), ...free.slice(0, n % free.length)].reverse();
      const uuids = (given: typeof free) =>
        place(request, given, host.state.gpus.values(), null)?.map(({ gpu }) => gpu.uuid) ?? null;
      expect(uuids(turned)).toEqual(uuids(free));
    }),
    { numRuns: 300 },
  );
});
