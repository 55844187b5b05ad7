/**
 * `npm run test:simulate -- --ops N --seed S`: one history of N operations against the real scheduler and store, with
 * every invariant checked. The same N and S give the same history, and the same hash of its journal. Ends with 1 when
 * an invariant was broken.
 *
 * With `--seeds K` the N operations are split between the seeds S to S + K - 1, each with a process of its own.
 */
import { randomInt } from "node:crypto";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { CHECK_WHOLE_EVERY, LongRunError, runLong } from "./long-run.ts";
import { runSeeds } from "./many-seeds.ts";

const DEFAULT_OPS = "100000";
const MAX_SEED = 2 ** 31 - 1;
const MAX_SEEDS = 10_000;

/** @returns the exit status. */
export async function main(
  args: readonly string[],
  say: (line: string) => void,
  begin?: Parameters<typeof runLong>[3],
): Promise<number> {
  const {
    ops: opsText,
    seed: seedText,
    seeds: seedsText,
  } = parseArgs({
    args: [...args],
    options: { ops: { type: "string", default: DEFAULT_OPS }, seed: { type: "string" }, seeds: { type: "string" } },
  }).values;
  const ops = wholeNumber("--ops", opsText, Number.MAX_SAFE_INTEGER);
  const seed = seedText === undefined ? randomInt(MAX_SEED) : wholeNumber("--seed", seedText, MAX_SEED);
  if (seedsText !== undefined) {
    const count = wholeNumber("--seeds", seedsText, MAX_SEEDS);
    const seeds = Array.from({ length: count }, (_, at) => (seed + at) % MAX_SEED);
    const opsEach = Math.ceil(ops / Math.max(1, count));
    say(`${count} seeds from ${seed} on, ${opsEach} operations each`);
    return runSeeds(fileURLToPath(import.meta.url), opsEach, seeds, say);
  }
  say(`seed ${seed}, ${ops} operations; the whole is checked every ${CHECK_WHOLE_EVERY}`);
  try {
    const progress = (done: number) => say(`${done} operations`);
    const summary = await runLong(ops, seed, progress, begin);
    for (const line of summary.tally.lines()) say(line);
    const { seconds, mostLive, mostPending, mostBytes } = summary;
    say(
      `at most ${mostLive} live, ${mostPending} webhooks undelivered, ${(mostBytes / 2 ** 20).toFixed(1)} MiB on disk`,
    );
    say(`${ops} operations in ${seconds.toFixed(1)} s, ${((seconds * 1e6) / ops).toFixed(0)} us each`);
    say(`journal ${summary.journalHash}`);
    return 0;
  } catch (error) {
    if (!(error instanceof LongRunError)) throw error;
    say(error.message);
    return 1;
  }
}

function wholeNumber(name: string, text: string, most: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value > most)
    throw new RangeError(`${name}: expected a whole number up to ${most}, got ${text}`);
  return value;
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2), (line) => console.log(line));
