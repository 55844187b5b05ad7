/** The processes that a bench measures, and what they cost, as the kernel counts it. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Tree } from "./trees.ts";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export interface Served {
  readonly name: string;
  readonly pid: number;
  readonly url: string;
  readonly port: number;
  /** From the start of the process to the line that says that it serves, in ms. */
  readonly startMs: number;
  stop(): Promise<void>;
}

interface Started {
  readonly name: string;
  readonly args: readonly string[];
  /** Where it runs; removed when it has stopped. */
  readonly folder: string;
}

/** Those that run. */
const served = new Set<Served>();

/** Stops what a part that failed has left. */
export async function stopAll(): Promise<void> {
  for (const one of served) await one.stop();
}

async function serve({ name, args, folder }: Started): Promise<Served> {
  const begun = performance.now();
  const child = spawn(process.execPath, args, {
    cwd: folder,
    stdio: ["ignore", "pipe", "inherit"],
    // NODE_OPTIONS lets a profile be taken: NODE_OPTIONS=--cpu-prof npm run bench.
    env: {
      PATH: `${join(process.execPath, "..")}:${process.env.PATH}`,
      NODE_OPTIONS: process.env.NODE_OPTIONS ?? "",
    },
  });
  const url = await new Promise<string>((resolve, reject) => {
    const lines = createInterface({ input: child.stdout });
    lines.on("line", (line) => {
      const served = /"url":"(http:[^"]+)"/.exec(line)?.[1];
      if (served === undefined) return;
      // Of what comes later nothing is looked at: a line for each lease would cost the cores that are measured.
      lines.close();
      child.stdout.resume();
      resolve(served);
    });
    child.once("exit", (code) => reject(new Error(`${args.join(" ")} exited with ${code}`)));
  });
  const one: Served = {
    name,
    pid: child.pid as number,
    url,
    port: Number(new URL(url).port),
    startMs: performance.now() - begun,
    async stop() {
      served.delete(one);
      await ended(child);
      rmSync(folder, { recursive: true, force: true });
    },
  };
  served.add(one);
  return one;
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once("exit", () => resolve());
    child.kill("SIGTERM");
  });
}

const scratch = () => mkdtempSync(join(tmpdir(), "gpu-orchestrator-bench-"));

/** @param answers what it answers, by path. */
export function serveBare(answers: Readonly<Record<string, string>>): Promise<Served> {
  return serve({ name: "bare", args: [here("bare-server.ts"), JSON.stringify(answers)], folder: scratch() });
}

export interface Host {
  /** Idle GPUs that a stand-in for nvidia-smi shows, or simulated ones. */
  readonly gpus: number | "simulated";
  readonly inMemory?: boolean;
}

/** @returns a stand-in for nvidia-smi that shows so many idle GPUs. */
function showing(root: string, folder: string, count: number): string {
  const program = join(folder, "nvidia-smi");
  symlinkSync(join(root, "test/fixtures/fake-nvidia-smi.mjs"), program);
  writeFileSync(join(folder, "fake-nvidia-smi.json"), JSON.stringify({ mode: "gpus", count }));
  return program;
}

/** A built daemon on a fresh database. */
export function serveDaemon({ name, folder: root }: Tree, { gpus, inMemory = false }: Host): Promise<Served> {
  const folder = scratch();
  let config = "server:\n  port: 0\nlogging:\n  level: info\nscheduler:\n  max_queue_size: 10000\n";
  // One client that asks for all there is: no share is to be measured. Trees from before the limits know no such setting.
  if (/^limits:/m.test(readFileSync(join(root, "config.yaml.example"), "utf8"))) {
    config += "limits:\n  address:\n    requests_per_second: null\n    stored_mb_per_day: null\n";
  }
  if (inMemory) config += 'storage:\n  path: ":memory:"\n';
  if (gpus !== "simulated")
    config += `monitoring:\n  nvidia_smi_path: ${JSON.stringify(showing(root, folder, gpus))}\n`;
  writeFileSync(join(folder, "config.yaml"), config);
  const flags = gpus === "simulated" ? ["--simulate", "h100x8"] : [];
  const program = join(root, "dist/gpu-orchestrator.js");
  return serve({ name, args: [program, "serve", "--config", join(folder, "config.yaml"), ...flags], folder });
}

/** A built daemon that runs work on idle GPUs that a stand-in for nvidia-smi shows, and the folder of its runs. */
export async function serveWork(
  { name, folder: root }: Tree,
  gpus: number,
): Promise<{ readonly server: Served; readonly workDir: string }> {
  const folder = scratch();
  const programs = JSON.stringify(["/bin/true", "/bin/sleep", process.execPath]);
  writeFileSync(
    join(folder, "config.yaml"),
    `server: {port: 0}
monitoring: {nvidia_smi_path: ${JSON.stringify(showing(root, folder, gpus))}}
scheduler: {max_queue_size: 10000}
limits: {address: {requests_per_second: null, stored_mb_per_day: null, long_polls: null}}
work:
  enabled: true
  allow_unauthenticated: true
  allow_root: true
  allow_same_user: true
  executors: {process: {type: process, programs: ${programs}}}
  task_types: {job: process}
`,
  );
  const args = [join(root, "dist/gpu-orchestrator.js"), "serve", "--config", join(folder, "config.yaml")];
  const server = await serve({ name, args, folder });
  return { server, workDir: join(folder, "data/work") };
}

/** CPU time that all threads of a process have used, in ms (the kernel's Documentation/scheduler/sched-stats). */
export function cpuMs(pid: number): number {
  let ns = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      ns += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
    } catch (error) {
      // A thread may end between the list and the look.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  return ns / 1e6;
}

/** Resident memory of a process, in MiB (proc(5), VmRSS). */
export function residentMib(pid: number): number {
  const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(line?.[1]) / 1_024;
}

export async function untilReady(server: Served): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if ((await fetch(`${server.url}/readyz`)).status === 200) return;
    await sleep(25);
  }
  throw new Error(`${server.name} did not get ready`);
}

export const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
