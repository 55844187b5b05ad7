import { expect, test } from "vitest";
import type { HoldingAllocation, LeasedGpu, Request } from "../../../src/core/model/allocation.ts";
import { grantedBody } from "../../../src/wire/allocations/bodies.ts";
import { GrantedTexts } from "../../../src/wire/allocations/granted-text.ts";
import fc from "../../fc.ts";
import { SEED } from "../../seed.ts";
import { h100, minutes, SimulatedHost } from "../../simulation/simulated-host.ts";

/** A lease as the core grants it; the properties below change what it says. */
const host = new SimulatedHost([h100("GPU-a")]);
const GRANTED = host.allocation(host.submit({ maxDurationMs: minutes(5) })) as HoldingAllocation;
const [LEASED] = GRANTED.lease.gpus as [LeasedGpu];

const text = fc.oneof(fc.constantFrom("bench", 'a "quoted" \\ name', "tab\t", "ä\u202e"), fc.string({ maxLength: 8 }));
const ms = fc.option(fc.integer({ min: 1, max: 1e10 }), { nil: null });
const instant = fc.integer({ min: 1_700_000_000_000, max: 1_700_000_000_003 });

const gpu: fc.Arbitrary<LeasedGpu> = fc.record({
  uuid: fc.constantFrom("GPU-a", "GPU-b"),
  index: fc.nat(3),
  name: text,
  pciBusId: fc.option(text, { nil: null }),
  memoryTotalMib: fc.option(fc.integer({ min: 1, max: 80_000 }), { nil: null }),
  mig: fc.constantFrom(null, null, null, {
    parentUuid: "GPU-p",
    profile: "1g.10gb",
    gpuInstanceId: 1,
    computeInstanceId: 0,
  }),
  baselineMib: fc.nat(10),
  numaNodes: fc.constantFrom([], [0], [0, 1], [1]),
  cpuAffinity: fc.constantFrom(null, "0-3", "4-7", "6,4-5"),
});

const request: fc.Arbitrary<Partial<Request>> = fc.record(
  {
    id: text,
    serviceName: text,
    requirement: fc.record({
      gpus: fc.constant(1),
      memoryMib: fc.oneof(fc.nat(80_000), fc.double({ min: 0, max: 1e6, noNaN: true })),
      priority: fc.integer({ min: 1, max: 10 }),
      maxUtilizationPercent: fc.double({ min: 1, max: 100, noNaN: true }),
      maxUtilizationExplicit: fc.boolean(),
    }),
    ttlMs: ms,
    maxDurationMs: ms,
    preemptible: fc.boolean(),
    submittedAt: instant,
    exactGpus: fc.constant(["GPU-a"]),
    boundTo: fc.constant({ pid: 7, startTicks: 9 }),
  },
  { requiredKeys: ["id", "serviceName", "requirement", "ttlMs", "maxDurationMs", "preemptible", "submittedAt"] },
);

const grant = fc.record({
  request,
  gpus: fc.oneof(fc.array(gpu, { minLength: 1, maxLength: 1 }), fc.array(gpu, { minLength: 2, maxLength: 2 })),
  grantedAt: instant,
  expiresAt: fc.option(instant, { nil: null }),
  sharedMib: fc.constantFrom(null, null, null, 4_096),
  index: fc.option(fc.nat(2), { nil: null }),
});

test("the text of a grant is what its body says, whatever was granted before on the same GPU", () => {
  fc.assert(
    fc.property(fc.array(grant, { minLength: 1, maxLength: 6 }), (grants) => {
      const texts = new GrantedTexts();
      for (const { request, gpus, grantedAt, expiresAt, sharedMib, index } of grants) {
        const lease = { ...GRANTED.lease, gpus, grantedAt, expiresAt, sharedMib };
        const allocation = { ...GRANTED, request: { ...GRANTED.request, ...request }, lease };
        const indexOf = () => index;
        expect(texts.of(allocation, indexOf)).toBe(JSON.stringify(grantedBody(allocation, indexOf)));
      }
    }),
    { seed: SEED, numRuns: 1_000 },
  );
});

test("a GPU that is counted otherwise now, or says something else of itself, is told so", () => {
  const texts = new GrantedTexts();
  const of = (over: Partial<LeasedGpu>, index: number) =>
    JSON.parse(texts.of({ ...GRANTED, lease: { ...GRANTED.lease, gpus: [{ ...LEASED, ...over }] } }, () => index));
  expect(of({}, 0).gpu_ids).toEqual([0]);
  expect(of({}, 3)).toMatchObject({ gpu_ids: [3], env: { GPU_ORCHESTRATOR_GPU_INDICES: "3" } });
  expect(of({ cpuAffinity: "8-15" }, 3).cpu_affinity).toBe("8-15");
  expect(of({ numaNodes: [1] }, 3).devices[0].numa_nodes).toEqual([1]);
});
