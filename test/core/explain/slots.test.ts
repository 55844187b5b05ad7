import { expect, test } from "vitest";
import { futureCandidates } from "../../../src/core/allocator/candidates.ts";
import { type GpuSet, GpuSets } from "../../../src/core/explain/gpu-sets.ts";
import { PassableSlots } from "../../../src/core/explain/passing.ts";
import { type Claimant, FreeTimes, Slots } from "../../../src/core/explain/slots.ts";
import { candidates } from "../../../src/core/host/candidates.ts";
import type { FamilyShape } from "../../../src/core/host/demand.ts";
import fc from "../../fc.ts";
import { h100, SimulatedHost, t4 } from "../../simulation/simulated-host.ts";

const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b"), h100("GPU-c"), t4("GPU-d"), t4("GPU-e")]);
const gpus = futureCandidates(host.state, candidates(host.state, host.now), host.now);
const NOW = 1;

interface Asked extends Omit<Claimant, "suiting"> {
  readonly model: "H100" | "T4" | "";
  readonly memoryMib: number;
  /** When it has its GPUs, and for how long. */
  readonly begin: number;
  readonly lastsMs: number;
}

interface Slot {
  readonly claimant: Claimant;
  readonly begin: number;
  readonly end: number;
}

const instant = fc.oneof({ weight: 6, arbitrary: fc.nat(20) }, { weight: 1, arbitrary: fc.constant(Infinity) });
const line = fc.array(
  fc.record<Asked>({
    gpus: fc.integer({ min: 1, max: 4 }),
    durationMs: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constant(Infinity)),
    shares: fc.boolean(),
    priority: fc.integer({ min: 1, max: 2 }),
    isPassable: fc.boolean(),
    model: fc.constantFrom("H100", "T4", ""),
    memoryMib: fc.constantFrom(1_000, 40_000),
    begin: instant,
    lastsMs: instant,
  }),
  { maxLength: 25 },
);
const freeTimes = fc.array(instant, { minLength: gpus.length, maxLength: gpus.length });

function claimantOf({ model, memoryMib, ...asked }: Asked, sets: GpuSets): Claimant {
  const names = new Set(gpus.map(({ gpu }) => gpu.name).filter((name) => name.includes(model)));
  const any = { maxUtilizationPercent: 100, maxUtilizationExplicit: false, only: null, quotas: null, memberOf: 0 };
  const shape: FamilyShape = { ...any, gpus: asked.gpus, shared: asked.shares, names };
  return { ...asked, suiting: sets.usable(`${model} ${asked.gpus} ${asked.shares}`, shape, memoryMib) };
}

/** By definition: at each instant at which something changes, every GPU of `among` and every slot is looked at. */
function fullLook(
  wanted: number,
  among: GpuSet,
  freeFrom: readonly number[],
  slots: readonly Slot[],
  keeps: (slot: Slot, at: number) => number,
): number {
  const instants = [...freeFrom, ...slots.flatMap(({ begin, end }) => [begin, end])].filter((at) => at !== Infinity);
  for (const at of instants.sort((a, b) => a - b)) {
    const kept = slots.reduce((sum, slot) => sum + keeps(slot, at), 0);
    const come = freeFrom.filter((from, place) => among.has[place] === 1 && from <= at).length;
    if (come - kept >= wanted) return Math.max(NOW, at);
  }
  return Infinity;
}

/** Tells `kept` of each of a line whom enough GPUs suit, and `check` of it and of those before it. */
function alongLine(
  asked: readonly Asked[],
  sets: GpuSets,
  kept: Pick<Slots, "add">,
  check: (claimant: Claimant, before: readonly Slot[]) => void,
): void {
  const slots: Slot[] = [];
  for (const one of asked) {
    const claimant = claimantOf(one, sets);
    if (claimant.suiting.size < claimant.gpus) continue;
    check(claimant, slots);
    const slot = { claimant, begin: one.begin, end: one.begin + one.lastsMs };
    kept.add(slot.claimant, slot.begin, slot.end);
    slots.push(slot);
  }
}

function inBoth(a: GpuSet, b: GpuSet): number {
  return a.has.filter((has, place) => has === 1 && b.has[place] === 1).length;
}

test("a start behind all is what a full look at every GPU and every slot finds", () => {
  fc.assert(
    fc.property(freeTimes, line, (freeFrom, asked) => {
      const sets = new GpuSets(gpus);
      const kept = new Slots(sets, new FreeTimes(freeFrom));
      alongLine(asked, sets, kept, (claimant, before) => {
        const among = claimant.suiting;
        const found = kept.startBehindAll(claimant.gpus, among, NOW);
        const expected = fullLook(claimant.gpus, among, freeFrom, before, ({ claimant: other, begin, end }, at) => {
          const both = inBoth(other.suiting, among);
          if (at < begin) return both;
          return at < end ? Math.min(both, other.gpus) : 0;
        });
        expect(found).toBe(expected);
      });
    }),
    { numRuns: 500 },
  );
});

/** Whether `claimant` may have its GPUs before `before`, whom `ahead` stand before. */
function mayPass(claimant: Claimant, before: Claimant, ahead: readonly Slot[]): boolean {
  const needsAnother = inBoth(before.suiting, claimant.suiting) < claimant.suiting.size;
  const isShorter =
    claimant.durationMs < before.durationMs && ahead.some(({ claimant: { gpus: several } }) => several > 1);
  if (needsAnother || isShorter || claimant.gpus < before.gpus || (claimant.shares && before.shares)) return true;
  const isWiderEqual = claimant.gpus > before.gpus && claimant.priority === before.priority;
  return before.isPassable && isWiderEqual && claimant.durationMs === Infinity;
}

test("a start that passes others is what a full look at every GPU and at all who cannot be passed finds", () => {
  fc.assert(
    fc.property(freeTimes, line, (freeFrom, asked) => {
      const sets = new GpuSets(gpus);
      const kept = new PassableSlots(sets, new FreeTimes(freeFrom));
      alongLine(asked, sets, kept, (claimant, before) => {
        const firm = before.filter((slot, place) => !mayPass(claimant, slot.claimant, before.slice(0, place)));
        const { gpus: wanted, suiting } = claimant;
        const expected = fullLook(wanted, suiting, freeFrom, firm, ({ claimant: other, begin, end }, at) => {
          if (at < begin) return suiting.size;
          return at < end ? other.gpus : 0;
        });
        expect(kept.start(claimant, NOW)).toBe(expected);
      });
    }),
    { numRuns: 500 },
  );
});
