/** One command through a queue, beside other queues of one host: those that are installed here. */
import { execFileSync, spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median, quantile } from "./measure.ts";
import { serveDaemon, untilReady } from "./processes.ts";
import { type Report, row } from "./report.ts";
import { startSlurm } from "./slurm.ts";
import type { Tree } from "./trees.ts";

const COMMAND = "true";
const WARM_UP = 3;

interface Way {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** It waits for the command's end, and says by its exit status how that was; so does Slurm's. */
const SPOOLER: Way = {
  name: "task-spooler, `tsp -nf true`",
  program: "tsp",
  args: ["-nf", COMMAND],
  // Its first client starts its queue: not that of whoever runs the bench.
  env: { TS_SOCKET: join(tmpdir(), `gpu-orchestrator-bench-${process.pid}.tsp`) },
};
const SLURM: Way = { name: "Slurm, `srun true`", program: "srun", args: ["--ntasks=1", "--quiet", COMMAND] };

export async function measurePeers(report: Report, tree: Tree, rounds: number): Promise<void> {
  const ways: Way[] = [{ name: "`true` alone", program: COMMAND, args: [] }];
  const missing: string[] = [];
  const slurm = await startSlurm();
  if (typeof slurm === "string") missing.push(`${SLURM.name}: ${slurm}`);
  for (const peer of [SPOOLER, ...(typeof slurm === "string" ? [] : [{ ...SLURM, env: slurm.env }])]) {
    const why = whyNot(peer);
    if (why === null) ways.push(peer);
    else missing.push(`${peer.name}: ${why}`);
  }
  const daemon = await serveDaemon(tree, { gpus: 8 });
  await untilReady(daemon);
  const args = [join(tree.folder, "dist/gpu-orchestrator.js"), "run", "--url", daemon.url, "--", COMMAND];
  ways.push({ name: "ours, `gpuo run -- true`", program: process.execPath, args });
  const times = new Map<Way, number[]>(ways.map((way) => [way, []]));
  for (let i = 0; i < WARM_UP + rounds; i++) {
    for (const way of ways) {
      const begun = performance.now();
      execFileSync(way.program, way.args, { stdio: "ignore", env: { ...process.env, ...way.env } });
      if (i >= WARM_UP) times.get(way)?.push(performance.now() - begun);
    }
  }
  report.table("way", "p50", "p90");
  for (const way of ways) {
    const own = times.get(way) ?? [];
    report.say(row(way.name, `${median(own).toFixed(1)} ms`, `${quantile(own, 0.9).toFixed(1)} ms`));
  }
  await daemon.stop();
  if (typeof slurm !== "string") await slurm.stop();
  if (ways.includes(SPOOLER)) spawnSync(SPOOLER.program, ["-K"], { env: { ...process.env, ...SPOOLER.env } });
  if (missing.length > 0) report.say();
  for (const line of missing) report.say(`Left out: ${line}.`);
}

/** `null`: it runs the command. */
function whyNot({ program, args, env }: Way): string | null {
  const given = { encoding: "utf8", timeout: 10_000, env: { ...process.env, ...env } } as const;
  const { error, status, stderr } = spawnSync(program, args, given);
  if ((error as NodeJS.ErrnoException | undefined)?.code === "ENOENT") return "not installed here";
  if (error !== undefined) return error.message;
  return status === 0 ? null : `it exited with ${status} (${stderr.trim().split("\n")[0]})`;
}
