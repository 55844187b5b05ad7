import { expect, test } from "vitest";
import type { FamilyShape, Limit } from "../../../src/core/host/demand.ts";
import {
  compareKeys,
  dequeue,
  EMPTY_LINE,
  enqueue,
  firstWaiting,
  positionOf,
  queueKey,
  type WaitingLine,
} from "../../../src/core/host/line.ts";
import type { QueuedAllocation, Request } from "../../../src/core/model/allocation.ts";
import fc from "../../fc.ts";
import { DEFAULT_POLICY, minutes } from "../../simulation/simulated-host.ts";

const NOW = 1_800_000_000_000;

interface Wish {
  readonly gpus: number;
  readonly memoryMib: number;
  readonly maxDurationMs: number | null;
  readonly priority: number;
  readonly laterMs: number;
  readonly gone: boolean;
}

const wish: fc.Arbitrary<Wish> = fc.record({
  gpus: fc.integer({ min: 1, max: 3 }),
  memoryMib: fc.integer({ min: 0, max: 20 }),
  maxDurationMs: fc.option(fc.integer({ min: 1, max: 40 })),
  priority: fc.integer({ min: 1, max: 10 }),
  laterMs: fc.constantFrom(0, 0, 1, minutes(10), minutes(20)),
  gone: fc.boolean(),
});

const limit: fc.Arbitrary<Limit> = fc.record({
  memoryMib: fc.integer({ min: 0, max: 20 }),
  durationMs: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constant(Infinity)),
});

function queued(it: Wish, index: number): QueuedAllocation {
  const request: Request = {
    id: `svc-${String(index).padStart(26, "0")}`,
    serviceName: "svc",
    principal: "anonymous",
    workloadType: "generic",
    workloadData: {},
    webhookUrl: null,
    requirement: {
      gpus: it.gpus,
      memoryMib: it.memoryMib,
      priority: it.priority,
      maxUtilizationPercent: 80,
      maxUtilizationExplicit: false,
    },
    preferredGpus: [],
    gpuModel: null,
    ttlMs: null,
    maxDurationMs: it.maxDurationMs,
    preemptible: false,
    queueTimeoutMs: null,
    migProfile: null,
    sharing: "exclusive",
    fairShareDelayMs: 0,
    submittedAt: NOW + it.laterMs,
  };
  return { status: "queued", request, preemptingSince: null, headSince: null, seenAt: NOW };
}

function lineOf(wishes: readonly Wish[]): { line: WaitingLine; present: Request[] } {
  let line = EMPTY_LINE;
  const all = wishes.map(queued);
  for (const allocation of all) line = enqueue(line, allocation, { policy: DEFAULT_POLICY, windows: [] }, []);
  for (const [i, { gone }] of wishes.entries()) {
    if (gone) line = dequeue(line, (all[i] as QueuedAllocation).request, DEFAULT_POLICY);
  }
  return { line, present: all.filter((_, i) => wishes[i]?.gone === false).map(({ request }) => request) };
}

const keyOf = (request: Request) => queueKey(request, DEFAULT_POLICY);

test("the first that is within a limit is found, whatever the line and the limits", () => {
  const limitsByCount = fc.array(fc.array(limit, { maxLength: 3 }), { minLength: 3, maxLength: 3 });
  fc.assert(
    fc.property(fc.array(wish, { maxLength: 60 }), limitsByCount, (wishes, limits) => {
      const { line, present } = lineOf(wishes);
      const limitsOf = ({ gpus }: FamilyShape) => limits[gpus - 1] as Limit[];
      const expected = present
        .filter(({ requirement, maxDurationMs }) =>
          (limits[requirement.gpus - 1] as Limit[]).some(
            ({ memoryMib, durationMs }) =>
              requirement.memoryMib <= memoryMib && (maxDurationMs ?? Infinity) <= durationMs,
          ),
        )
        .sort((a, b) => compareKeys(keyOf(a), keyOf(b)))[0];
      expect(firstWaiting(line, limitsOf)?.key.id).toBe(expected?.id);
    }),
    { numRuns: 1_000 },
  );
});

test("the line is one total order: any two stand one before the other, and positions count from 1", () => {
  fc.assert(
    fc.property(fc.array(wish, { maxLength: 40 }), (wishes) => {
      const { line, present } = lineOf(wishes);
      const keys = [...line.order.values()].map(({ key }) => key);
      for (const [i, a] of keys.entries()) {
        for (const [j, b] of keys.entries()) expect(Math.sign(compareKeys(a, b))).toBe(Math.sign(i - j));
      }
      for (const [i, { id }] of keys.entries()) {
        const request = present.find((one) => one.id === id) as Request;
        expect(positionOf(line, request, DEFAULT_POLICY)).toBe(i + 1);
      }
      expect(keys).toHaveLength(present.length);
    }),
  );
});

test("priority, raised by one per ageing interval, decides; then submission; then the order within a millisecond", () => {
  fc.assert(
    fc.property(wish, wish, (a, b) => {
      const [first, second] = [queued(a, 1).request, queued(b, 2).request];
      const now = NOW + minutes(60);
      const urgency = ({ requirement, submittedAt }: Request) =>
        requirement.priority + (now - submittedAt) / DEFAULT_POLICY.agingIntervalMs;
      const expected =
        urgency(second) - urgency(first) || first.submittedAt - second.submittedAt || (first.id < second.id ? -1 : 1);
      expect(Math.sign(compareKeys(keyOf(first), keyOf(second)))).toBe(Math.sign(expected));
    }),
    { numRuns: 1_000 },
  );
});
