/** The start, the idle daemon, and one reading. */
import { execFileSync } from "node:child_process";
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
