/** A history that the judges once took for a breach: what they say of it must stay what it is. */
import { expect, test } from "vitest";
import type { Op } from "./ops.ts";
import { ASK, seconds } from "./simulated-host.ts";
import { Simulation } from "./simulation.ts";
import { Tally } from "./tally.ts";

const allGpus = { ...ASK, requiredGpus: 4, minMemoryMib: 1_000 };
const allocate = (maxDurationMs: number | null): Op => ({
  op: "allocate",
  ask: { ...allGpus, maxDurationMs },
  principal: "ann",
  key: null,
  hangsUp: false,
});
/** A turn that grants what it frees is followed, at the same instant, by one in which the waiting client claims it. */
const HANDING_ON: readonly Op[] = [
  allocate(seconds(10)),
  allocate(null),
  { op: "wait", pick: { among: "live", n: 1 }, who: "owner", waitMs: seconds(30) },
  { op: "pass", ms: seconds(9) },
];

async function played(ops: readonly Op[]): Promise<Tally> {
  const tally = new Tally();
  const pruneLimits = { rows: 20, snapshotAfterEvents: 25, journalKeptEvents: 40 };
  const simulation = await Simulation.begin({ seed: 0, pruneLimits, keptMs: seconds(300), checkWholeEvery: 1, tally });
  try {
    for (const op of ops) await simulation.step(op);
  } finally {
    await simulation.breathe();
    simulation.discard();
  }
  return tally;
}

test("a lease that ends in the turn before the disk is full is owed no grace", async () => {
  const tally = await played([
    ...HANDING_ON,
    { op: "trouble", trouble: "refused at COMMIT", jobs: 1, after: 1 },
    { op: "pass", ms: seconds(1) },
  ]);
  expect(tally.of("host", "transactions refused")).toBe(1);
  expect(tally.of("end", "max_duration")).toBe(1);
});
