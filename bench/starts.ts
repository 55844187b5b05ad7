/** The start, the idle daemon, and one reading. */
import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";
import { parseNvidiaSmiInTurns } from "../src/monitor/nvidia-smi/parse.ts";
import { smiDocument } from "../test/fixtures/nvidia-smi-document.ts";
import { memoryAfter } from "./cycles.ts";
import { median, quantile } from "./measure.ts";
import { cpuMs, residentMib, serveDaemon, sleep } from "./processes.ts";
import { type Report, row } from "./report.ts";
import type { Tree } from "./trees.ts";

export interface StartsPlan {
  readonly starts: number;
  readonly idleSeconds: number;
  readonly cycles: number;
}

const SETTLING_MS = 3_000;

export async function measureStarts(report: Report, trees: readonly Tree[], plan: StartsPlan): Promise<void> {
  const bare: number[] = [];
  const times = new Map<Tree, number[]>(trees.map((tree) => [tree, []]));
  for (let i = 0; i < plan.starts; i++) {
    const begun = performance.now();
    execFileSync(process.execPath, ["-e", "0"]);
    bare.push(performance.now() - begun);
    for (const tree of trees) {
      const daemon = await serveDaemon(tree, { gpus: "simulated" });
      times.get(tree)?.push(daemon.startMs);
      await daemon.stop();
    }
  }
  report.table(
    "build",
    "start to listening",
    "times `node -e 0`",
    "idle memory",
    "idle CPU",
    `after ${plan.cycles} cycles`,
  );
  for (const tree of trees) {
    const own = times.get(tree) ?? [];
    const daemon = await serveDaemon(tree, { gpus: "simulated" });
    await sleep(SETTLING_MS);
    const before = cpuMs(daemon.pid);
    await sleep(plan.idleSeconds * 1_000);
    const share = (cpuMs(daemon.pid) - before) / (plan.idleSeconds * 10);
    const idleMib = residentMib(daemon.pid);
    await daemon.stop();
    const ratio = median(own.map((ms, i) => ms / (bare[i] ?? Number.NaN)));
    const busyMib = await memoryAfter(tree, plan.cycles);
    const mib = (value: number) => `${value.toFixed(0)} MiB`;
    const start = `${median(own).toFixed(0)} ms (largest ${quantile(own, 1).toFixed(0)})`;
    report.note("start", tree.name, ratio);
    report.note("idle memory", tree.name, idleMib);
    report.note("memory after cycles", tree.name, busyMib);
    report.say(row(tree.name, start, ratio.toFixed(2), mib(idleMib), `${share.toFixed(2)} %`, mib(busyMib)));
  }
}

/** How long a person waits for `gpuo status`, of 16 GPUs, beside a program that does nothing. */
export async function measureLooks(report: Report, trees: readonly Tree[], looks: number): Promise<void> {
  report.table("build", "gpuo status: median", "p95", "node -e 0: median", "times it");
  for (const tree of trees) {
    const program = join(tree.folder, "dist/gpu-orchestrator.js");
    const nowhere = [program, "status", "--url", "http://127.0.0.1:1"];
    if (spawnSync(process.execPath, nowhere, { encoding: "utf8" }).stderr.includes("unknown command")) {
      report.say(row(tree.name, "no such verb", "", "", ""));
      continue;
    }
    const daemon = await serveDaemon(tree, { gpus: 16 });
    const [own, bare]: [number[], number[]] = [[], []];
    const took = (args: readonly string[]) => {
      const begun = performance.now();
      execFileSync(process.execPath, args, { stdio: ["ignore", "ignore", "inherit"] });
      return performance.now() - begun;
    };
    const status = [program, "status", "--url", daemon.url];
    // Once without being counted: what is compiled is kept.
    took(status);
    for (let i = 0; i < looks; i++) {
      bare.push(took(["-e", "0"]));
      own.push(took(status));
    }
    await daemon.stop();
    report.note("looks", tree.name, median(own));
    report.note("looks p95", tree.name, quantile(own, 0.95));
    const ms = (value: number) => `${value.toFixed(0)} ms`;
    const times = (median(own) / median(bare)).toFixed(2);
    report.say(row(tree.name, ms(median(own)), ms(quantile(own, 0.95)), ms(median(bare)), times));
  }
}

export async function measureReadings(report: Report): Promise<void> {
  for (const count of [8, 16]) {
    const bytes = Buffer.from(smiDocument({ gpus: Array.from({ length: count }, () => ({})) }));
    const times: number[] = [];
    for (let i = 0; i < 60; i++) {
      const begun = performance.now();
      const result = await parseNvidiaSmiInTurns(bytes);
      times.push(performance.now() - begun);
      if (!result.ok) throw new Error(result.error.message);
    }
    const size = (bytes.length / 1_024).toFixed(0);
    report.say(`Parsing ${count} GPUs (${size} KiB): median ${median(times.slice(10)).toFixed(1)} ms.`);
  }
}
