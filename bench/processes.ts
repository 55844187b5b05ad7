import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const PROGRAM = here("../dist/gpu-orchestrator.js");
const CLOCK_TICKS_PER_SECOND = 100;

export interface Served {
  readonly process: ChildProcess;
  readonly url: string;
  readonly port: number;
  /** From the start of the process to the line that says that it serves, in ms. */
  readonly startMs: number;
  stop(): Promise<void>;
}

async function serve(args: readonly string[], cwd: string): Promise<Served> {
  const begun = performance.now();
  const child = spawn(process.execPath, args, {
    cwd,
    stdio: ["ignore", "pipe", "inherit"],
    // NODE_OPTIONS lets a profile be taken: NODE_OPTIONS=--cpu-prof npm run bench.
    env: {
      PATH: `${join(process.execPath, "..")}:${process.env.PATH}`,
      NODE_OPTIONS: process.env.NODE_OPTIONS ?? "",
    },
  });
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const served = /"url":"(http:[^"]+)"/.exec(line)?.[1];
      if (served !== undefined) resolve(served);
    });
    child.once("exit", (code) => reject(new Error(`${args.join(" ")} exited with ${code}`)));
  });
  return {
    process: child,
    url,
    port: Number(new URL(url).port),
    startMs: performance.now() - begun,
    stop: () =>
      new Promise((resolve) => {
        child.once("exit", () => resolve());
        child.kill("SIGTERM");
      }),
  };
}

export function serveBare(answers: { [path: string]: string }): Promise<Served> {
  return serve([here("bare-server.ts"), JSON.stringify(answers)], tmpdir());
}

/** The built daemon on a fresh database, over a fake nvidia-smi that shows `gpus` idle GPUs, or simulated ones. */
export function serveDaemon(gpus: number | "simulated", extra = ""): Promise<Served> {
  const folder = mkdtempSync(join(tmpdir(), "gpu-orchestrator-bench-"));
  let config = `server:\n  port: 0\nlogging:\n  level: info\n${extra}`;
  if (gpus !== "simulated") {
    const program = join(folder, "nvidia-smi");
    symlinkSync(here("../test/fixtures/fake-nvidia-smi.mjs"), program);
    writeFileSync(join(folder, "fake-nvidia-smi.json"), JSON.stringify({ mode: "gpus", count: gpus }));
    config += `monitoring:\n  nvidia_smi_path: ${JSON.stringify(program)}\n`;
  }
  writeFileSync(join(folder, "config.yaml"), config);
  const flags = gpus === "simulated" ? ["--simulate", "h100x8"] : [];
  return serve([PROGRAM, "serve", "--config", join(folder, "config.yaml"), ...flags], folder);
}

/** CPU time that a process has used, in ms (proc(5), utime and stime). */
export function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return ((Number(fields[11]) + Number(fields[12])) * 1_000) / CLOCK_TICKS_PER_SECOND;
}

/** Resident memory of a process, in MiB (proc(5), VmRSS). */
export function residentMib(pid: number): number {
  const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(line?.[1]) / 1_024;
}

export interface LoadFigure {
  readonly requestsPerSecond: number;
  readonly refused: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuUsPerRequest: number;
}

export async function load(server: Served, connections: number, seconds: number): Promise<LoadFigure> {
  const pid = server.process.pid as number;
  const before = cpuMs(pid);
  const client = spawn(process.execPath, [here("load-client.ts"), `${server.port}`, `${connections}`, `${seconds}`], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  client.stdout.on("data", (chunk) => {
    output += chunk;
  });
  await new Promise<void>((resolve, reject) => {
    client.once("exit", (code) => (code === 0 ? resolve() : reject(new Error(`the load client exited with ${code}`))));
  });
  const figure = JSON.parse(output) as Omit<LoadFigure, "cpuUsPerRequest">;
  // The client's warm-up second counts in both, so the ratio is that of the whole run.
  const requests = figure.requestsPerSecond * (seconds + 1);
  return { ...figure, cpuUsPerRequest: ((cpuMs(pid) - before) * 1_000) / requests };
}
