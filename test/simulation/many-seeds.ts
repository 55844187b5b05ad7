/** Many long runs, each of a seed of its own and in a process of its own, as many at once as there are cores. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { performance } from "node:perf_hooks";

/** Of a run that failed: what was broken, and the operations before it. */
const SHOWN_LINES = 40;

interface Ran {
  readonly seed: number;
  readonly status: number | null;
  readonly output: string;
}

/**
 * @param program that makes one run: `--ops N --seed S`.
 * @param seeds each makes `opsEach` operations. After one that failed no other begins.
 * @returns the exit status.
 */
export async function runSeeds(
  program: string,
  opsEach: number,
  seeds: readonly number[],
  say: (line: string) => void,
): Promise<number> {
  const started = performance.now();
  const left = [...seeds];
  const failed: number[] = [];
  let done = 0;
  const worker = async (): Promise<void> => {
    for (let seed = left.shift(); seed !== undefined && failed.length === 0; seed = left.shift()) {
      const { status, output } = await runOne(program, opsEach, seed);
      const lines = output.trimEnd().split("\n");
      if (status !== 0) {
        failed.push(seed);
        for (const line of lines.slice(-SHOWN_LINES)) say(line);
        continue;
      }
      done += opsEach;
      // The rate and the journal's hash.
      say(`seed ${seed}: ${lines.slice(-2).join(", ")}; ${done} operations in all`);
    }
  };
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), seeds.length) }, worker));
  const minutes = (performance.now() - started) / 60_000;
  say(
    `${done} operations of ${seeds.length} seeds in ${minutes.toFixed(1)} min; failed: ${failed.join(", ") || "none"}`,
  );
  return failed.length === 0 ? 0 : 1;
}

async function runOne(program: string, ops: number, seed: number): Promise<Ran> {
  const args = [...process.execArgv, program, "--ops", `${ops}`, "--seed", `${seed}`];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  const [status] = (await once(child, "close")) as [number | null];
  return { seed, status, output };
}
