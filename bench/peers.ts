/** One command through a queue, beside other queues of one host: those that are installed here. */
import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";
import { median, quantile } from "./measure.ts";
import { serveDaemon, untilReady } from "./processes.ts";
import { type Report, row } from "./report.ts";
import type { Tree } from "./trees.ts";

const COMMAND = "true";
const WARM_UP = 3;

interface Way {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
}

/** Each waits for the command's end, and says by its exit status how that was. */
const PEERS: readonly Way[] = [
  { name: "task-spooler, `tsp -nf true`", program: "tsp", args: ["-nf", COMMAND] },
  { name: "Slurm, `srun true`", program: "srun", args: ["--ntasks=1", "--quiet", COMMAND] },
];

export async function measurePeers(report: Report, tree: Tree, rounds: number): Promise<void> {
  const ways: Way[] = [{ name: "`true` alone", program: COMMAND, args: [] }];
  const missing: string[] = [];
  for (const peer of PEERS) {
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
      execFileSync(way.program, way.args, { stdio: "ignore" });
      if (i >= WARM_UP) times.get(way)?.push(performance.now() - begun);
    }
  }
  report.table("way", "p50", "p90");
  for (const way of ways) {
    const own = times.get(way) ?? [];
    report.say(row(way.name, `${median(own).toFixed(1)} ms`, `${quantile(own, 0.9).toFixed(1)} ms`));
  }
  await daemon.stop();
  if (missing.length > 0) report.say();
  for (const line of missing) report.say(`Left out: ${line}.`);
}

/** `null`: it runs the command. */
function whyNot({ program, args }: Way): string | null {
  const { error, status, stderr } = spawnSync(program, args, { encoding: "utf8", timeout: 10_000 });
  if ((error as NodeJS.ErrnoException | undefined)?.code === "ENOENT") return "not installed here";
  if (error !== undefined) return error.message;
  return status === 0 ? null : `it exited with ${status} (${stderr.trim().split("\n")[0]})`;
}
