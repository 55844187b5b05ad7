/** One endless history, drawn from a seed. */
import { performance } from "node:perf_hooks";
import { seededRandom } from "../../src/monitor/simulated/random.ts";
import { drawOp, type Op } from "./ops.ts";
import { Simulation, type SimulationSettings } from "./simulation.ts";
import type { Tally } from "./tally.ts";

/** The whole is checked after every so many operations, at every start of the daemon and after every prune. */
export const CHECK_WHOLE_EVERY = 1_000;
/** Of the operations before a violation, so many are told. */
const TRAIL = 20;
/** Operations between two looks at the real world. */
const BREATHE_EVERY = 256;
const PROGRESS_EVERY = 100_000;
/** Seeds that follow each other would draw nearly the same numbers: they are spread far apart. */
const SEED_SPREAD = 0x9e3779b1;

const SETTINGS: Omit<SimulationSettings, "seed"> = {
  pruneLimits: { rows: 500, snapshotAfterEvents: 500, journalKeptEvents: 2_000 },
  keptMs: 180_000,
  checkWholeEvery: CHECK_WHOLE_EVERY,
};

/** As much of a simulation as a long run needs. */
export type Simulated = Pick<
  Simulation,
  "step" | "breathe" | "discard" | "checkWhole" | "journalHash" | "tally" | "mostLive" | "mostPending" | "bytes"
>;

export interface Summary {
  readonly ops: number;
  readonly seconds: number;
  /** SHA-256 over all turns that were ever committed, in order. */
  readonly journalHash: string;
  readonly mostLive: number;
  readonly mostPending: number;
  /** Of the database and its log, the largest that was seen. */
  readonly mostBytes: number;
  readonly tally: Tally;
}

/** Something was not as it must be. */
export class LongRunError extends Error {
  override readonly name = "LongRunError";
}

/**
 * @param onProgress told now and then how many operations are done.
 * @param begin makes the simulated host.
 * @throws LongRunError with the seed, the number of the operation and those before it.
 */
export async function runLong(
  ops: number,
  seed: number,
  onProgress: (done: number) => void = () => undefined,
  begin: (settings: SimulationSettings) => Promise<Simulated> = Simulation.begin,
): Promise<Summary> {
  const started = performance.now();
  const random = seededRandom(Math.imul(seed, SEED_SPREAD));
  const simulation = await begin({ ...SETTINGS, seed });
  const trail: Op[] = [];
  let done = 0;
  let mostBytes = 0;
  try {
    for (; done < ops; done++) {
      const op = drawOp(random, "long");
      if (trail.push(op) > TRAIL) trail.shift();
      await simulation.step(op);
      if (done % BREATHE_EVERY === 0) await simulation.breathe();
      if (done % CHECK_WHOLE_EVERY === 0) mostBytes = Math.max(mostBytes, simulation.bytes);
      if (done > 0 && done % PROGRESS_EVERY === 0) onProgress(done);
    }
    simulation.checkWhole();
  } catch (error) {
    const lines = trail.map((op, i) => `  ${done - trail.length + 1 + i}: ${JSON.stringify(op)}`);
    throw new LongRunError(`operation ${done} of seed ${seed}: ${error}\nbefore it:\n${lines.join("\n")}`, {
      cause: error,
    });
  } finally {
    simulation.discard();
  }
  const { tally, mostLive, mostPending } = simulation;
  const seconds = (performance.now() - started) / 1_000;
  return { ops, seconds, journalHash: simulation.journalHash(), mostLive, mostPending, mostBytes, tally };
}
