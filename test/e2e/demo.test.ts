/** `npm run demo`, without its installing and building: a host with life in it, or an empty one. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import type { WorkOverview } from "../../src/client/work.ts";
import { eventually, isBuilt, temporaryFolder } from "./daemon.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const SCRIPT = join(ROOT, "scripts/demo.mjs");

const demo = (...args: string[]) => demoIn(temporaryFolder(), args);

async function demoIn(folder: string, args: readonly string[]) {
  const child = spawn(process.execPath, [SCRIPT, "--port", "0", ...args], {
    cwd: folder,
    stdio: ["ignore", "pipe", "ignore"],
    env: { PATH: process.env.PATH ?? "" },
  });
  const ended = new Promise<number | null>((resolve) => {
    child.once("exit", resolve);
  });
  onTestFinished(async () => {
    child.kill("SIGTERM");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  const lines: string[] = [];
  const url = await new Promise<string>((resolve) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      lines.push(line);
      const at = /^the page is at (http:\S+)\/,/.exec(line)?.[1];
      if (at !== undefined) resolve(at);
    });
  });
  const list = async () => {
    const answer = await fetch(`${url}/gpu/list`);
    const { allocations, queue } = (await answer.json()) as { allocations: object[]; queue: object[] };
    return { leases: allocations.length, waiting: queue.length };
  };
  /** How services and tasks stand: `running`, `PENDING`, ... */
  const work = async (): Promise<string[]> => {
    const answer = await fetch(`${url}/work`);
    const { workloads, tasks } = (await answer.json()) as WorkOverview;
    return [...workloads.map(({ status }) => status.phase), ...tasks.map(({ status }) => status)];
  };
  return { child, ended, lines, list, work, folder, url };
}

/** `./gpuo`, as the README writes it. */
function gpuo(url: string, ...args: string[]): string {
  const env = { PATH: process.env.PATH ?? "", GPU_ORCHESTRATOR_URL: url };
  return execFileSync(join(ROOT, "gpuo"), args, { env, cwd: ROOT, encoding: "utf8", timeout: 120_000 }).trim();
}

function daemonOf({ pid }: ChildProcess): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")[0]);
}

/** Every process with its command line (proc(5)). */
function commands(): [pid: string, command: string][] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return [pid, readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")];
      } catch {
        // It is gone.
        return [pid, ""];
      }
    });
}

describe.skipIf(!isBuilt)("the demo (npm test builds it)", () => {
  test("stops with npm, also when that is killed or its terminal is closed", async () => {
    for (const signal of ["SIGKILL", "SIGHUP"] as const) {
      const folder = temporaryFolder();
      onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
      // As npm starts it: a child whose parent may go.
      const source = `const { spawn } = require("node:child_process");
        const child = spawn(process.execPath, [${JSON.stringify(SCRIPT)}, "--port", "0", "--no-life"], { stdio: ["ignore", "inherit", "ignore"] });
        process.on("SIGHUP", () => { child.kill("SIGHUP"); process.exit(); });`;
      const npm = spawn(process.execPath, ["-e", source], { cwd: folder, stdio: ["ignore", "pipe", "ignore"] });
      const url = await new Promise<string>((resolve) => {
        createInterface({ input: npm.stdout }).on("line", (line) => {
          const at = /^the page is at (http:\S+)\/,/.exec(line)?.[1];
          if (at !== undefined) resolve(at);
        });
      });
      npm.kill(signal);
      const answers = () =>
        fetch(`${url}/livez`).then(
          () => true,
          () => false,
        );
      await eventually(answers, (isThere) => !isThere, 20_000);
    }
  });

  test("shows leases and somebody who waits within ten seconds, says that it is simulated, and stops when told", async () => {
    const { child, ended, lines, list, work, folder } = await demo();
    await eventually(list, ({ leases, waiting }) => leases >= 4 && waiting >= 1, 10_000);
    // Programs are started for these, which takes a busy machine its time.
    await eventually(work, (states) => states.includes("running") && states.includes("DISPATCHED"), 30_000);
    expect(lines.some((line) => line.includes("SIMULATED"))).toBe(true);
    child.kill("SIGTERM");
    expect(await ended).toBe(0);
    // What it began has ended with it: runs name the folder that they run in.
    const named = ([, command]: readonly [string, string]) => command.includes(folder);
    expect(commands().filter(named)).toEqual([]);
  });

  test("runs each of templates/, and what runs outlives the daemon's kill -9", async () => {
    const first = await demo();
    await eventually(first.work, (states) => states.includes("running"), 60_000);
    const ids = readdirSync(join(ROOT, "templates")).map((name) => gpuo(first.url, "submit", `templates/${name}`));
    for (const id of ids.filter((one) => one.startsWith("workload-"))) gpuo(first.url, "stop", id);
    const tasks = ids.filter((id) => id.startsWith("task-"));
    const asked = tasks.find((id) => !gpuo(first.url, "wait", id).includes("FAILED")) as string;
    expect(gpuo(first.url, "logs", "-f", asked)).toContain("SIMULATED");
    expect(JSON.parse(gpuo(first.url, "results", asked))).toMatchObject({ ok: true, simulated: true });
    const open = gpuo(first.url, "submit", "templates/ppo_training_mistral.yaml");
    process.kill(daemonOf(first.child), "SIGKILL");
    await first.ended;
    const second = await demoIn(first.folder, []);
    expect(gpuo(second.url, "wait", open)).toContain("DONE");
    expect(gpuo(second.url, "ps")).toContain("chat-serving");
    for (const id of tasks) expect(gpuo(second.url, "wait", id)).toContain("DONE");
    second.child.kill("SIGTERM");
    await second.ended;
  });

  test("leaves the host empty where that is asked for", async () => {
    const { lines, list } = await demo("--no-life");
    expect(lines.at(-1)).not.toContain("come and go");
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    expect(await list()).toEqual({ leases: 0, waiting: 0 });
  });
});
