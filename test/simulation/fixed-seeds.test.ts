/** A few histories that are the same in every run: few enough to be run for each planted bug. */
import { expect, test } from "vitest";
import { seededRandom } from "../../src/monitor/simulated/random.ts";
import { drawOp, type Op } from "./ops.ts";
import { Simulation } from "./simulation.ts";

const HISTORIES = 60;
const LENGTH = 150;
const SEED_SPREAD = 0x9e3779b1;
/** Long enough for a busy machine: what this file finds, it finds by its checks and not by its time limit. */
const TIMEOUT_MS = 300_000;

/** @returns what was wrong, and after which steps; `null`: nothing. */
async function complaintOf(history: number): Promise<string | null> {
  const random = seededRandom(Math.imul(history + 1, SEED_SPREAD));
  const pruneLimits = { rows: 20, snapshotAfterEvents: 25, journalKeptEvents: 40 };
  const steps: Op[] = [];
  let simulation: Simulation | null = null;
  try {
    simulation = await Simulation.begin({ seed: history, pruneLimits, keptMs: 300_000, checkWholeEvery: 1 });
    while (steps.length < LENGTH) {
      const op = drawOp(random, "history");
      steps.push(op);
      await simulation.step(op);
    }
    return null;
  } catch (error) {
    return `history ${history}, step ${steps.length}: ${error}\n${steps
      .slice(-10)
      .map((op) => JSON.stringify(op))
      .join("\n")}`;
  } finally {
    await simulation?.breathe();
    simulation?.discard();
  }
}

test("histories of fixed seeds break no invariant", { timeout: TIMEOUT_MS }, async () => {
  for (let history = 0; history < HISTORIES; history++) expect(await complaintOf(history)).toBeNull();
});
