/**
 * What running work costs, beside a bare spawn of node and beside task-spooler (Debian's `tsp`), in one run:
 * `npm run bench:work [-- --quick]` prints a table in Markdown. Processes are real; the 64 GPUs are a stand-in's.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { median, quantile } from "./measure.ts";
import { type Served, serveWork, sleep, stopAll } from "./processes.ts";
import { Report, row } from "./report.ts";
import { thisTree } from "./trees.ts";

const { values: given } = parseArgs({ options: { quick: { type: "boolean", default: false } } });
const ROUNDS = given.quick ? 5 : 40;
const CYCLE_SECONDS = given.quick ? 3 : 20;
const RUNS = given.quick ? 100 : 1_000;
const GPUS = 64;
const AT_ONCE = 16;
const SUBMITTERS = 32;
const report = new Report();
const scratch = mkdtempSync(join(tmpdir(), "gpu-orchestrator-bench-work-"));

interface Task {
  readonly task_id: string;
  readonly status: string;
  readonly error: string | null;
  readonly attempts: readonly {
    readonly run_id: string;
    readonly gpu_uuids: readonly string[];
    readonly started_at: string;
    readonly ended_at: string;
  }[];
}

// biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely.
async function call(server: Served, method: string, path: string, body?: object): Promise<any> {
  const answer = await fetch(server.url + path, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

async function submit(server: Served, command: readonly string[], gpus: number): Promise<string> {
  const hardware = gpus === 0 ? {} : { gpu: { count: gpus } };
  const spec = { taskType: "job", command, resources: { hardware } };
  const document = { apiVersion: "gpu-orchestrator/v1", kind: "Task", metadata: { name: "bench" }, spec };
  return (await call(server, "POST", "/api/v1/tasks", { yaml: JSON.stringify(document) })).task_id;
}

async function done(server: Served, id: string): Promise<Task> {
  for (;;) {
    const task: Task = await call(server, "GET", `/api/v1/tasks/${id}?wait=60s`);
    if (task.status === "DONE") return task;
    if (task.status === "FAILED" || task.status === "CANCELLED") throw new Error(`${id}: ${task.status} ${task.error}`);
  }
}

/** Writes the time of its first instruction where it can be found. */
const STAMP = `require("node:fs").writeFileSync(process.env.OUT_DIR + "/responses.json", JSON.stringify({ ok: true, at: Date.now() }))`;

/** From the submission, or the spawn, to the first instruction of a node: taken in turn. */
async function startTimes(server: Served): Promise<{ readonly ours: number[]; readonly bare: number[] }> {
  const [ours, bare]: [number[], number[]] = [[], []];
  for (let i = 0; i < ROUNDS; i++) {
    const begun = Date.now();
    const id = await submit(server, [process.execPath, "-e", STAMP], 1);
    await done(server, id);
    ours.push((await call(server, "GET", `/api/v1/tasks/${id}/result`)).at - begun);
    const from = Date.now();
    const env = { ...process.env, OUT_DIR: scratch };
    await new Promise((resolve) =>
      spawn(process.execPath, ["-e", STAMP], { env, stdio: "ignore" }).once("exit", resolve),
    );
    bare.push(JSON.parse(readFileSync(join(scratch, "responses.json"), "utf8")).at - from);
  }
  return { ours, bare };
}

/** Tasks from their submission to DONE, each with a lease, so many at once. */
async function cyclesASecond(server: Served): Promise<number> {
  const until = performance.now() + CYCLE_SECONDS * 1_000;
  let count = 0;
  const one = async () => {
    while (performance.now() < until) {
      await done(server, await submit(server, ["/bin/true"], 1));
      count++;
    }
  };
  const begun = performance.now();
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  return count / ((performance.now() - begun) / 1_000);
}

/** How many processes of node begin and end in a second, as many at once: a task's holder is one. */
async function spawnsASecond(): Promise<number> {
  const until = performance.now() + CYCLE_SECONDS * 500;
  let count = 0;
  const begun = performance.now();
  const one = async () => {
    while (performance.now() < until) {
      await new Promise((resolve) => spawn(process.execPath, ["-e", "0"], { stdio: "ignore" }).once("exit", resolve));
      count++;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  return count / ((performance.now() - begun) / 1_000);
}

/** The same number of jobs at once in task-spooler, which has neither GPUs nor a database; `null`: it is not installed. */
function spoolerASecond(): number | null {
  if (spawnSync("tsp", ["-V"]).error !== undefined) return null;
  const env = { ...process.env, TS_SOCKET: join(scratch, "tsp.sock"), TMPDIR: scratch, TS_SLOTS: String(AT_ONCE) };
  const tsp = (...args: string[]) => execFileSync("tsp", args, { env, encoding: "utf8" }).trim();
  tsp("-S", String(AT_ONCE));
  const jobs = given.quick ? 50 : 400;
  const begun = performance.now();
  let last = "";
  for (let i = 0; i < jobs; i++) last = tsp("-n", "/bin/true");
  tsp("-w", last);
  while (/ (?:running|queued) /.test(tsp())) spawnSync("sleep", ["0.01"]);
  const seconds = (performance.now() - begun) / 1_000;
  tsp("-K");
  return jobs / seconds;
}

/** What is a process's own, in MiB (proc(5), smaps_rollup). */
function privateMib(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const kb = [...text.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+) kB/gm)].reduce(
    (sum, [, each]) => sum + Number(each),
    0,
  );
  return kb / 1_024;
}

async function holders(
  server: Served,
  dir: string,
): Promise<{ readonly mib: number[]; readonly bare: number; readonly seconds: number }> {
  const begun = performance.now();
  const ids = await Promise.all(Array.from({ length: GPUS }, () => submit(server, ["/bin/sleep", "600"], 1)));
  const isUp = async () => {
    const runs: { state: string }[] = await call(server, "GET", "/runs?state=running");
    return runs.length === GPUS;
  };
  while (!(await isUp())) await sleep(100);
  const seconds = (performance.now() - begun) / 1_000;
  const idle = spawn(process.execPath, ["-e", "setInterval(() => undefined, 1e6)"], { stdio: "ignore" });
  await sleep(3_000);
  const mib = readdirSync(join(dir, "runs")).flatMap((run) => {
    try {
      return [privateMib(JSON.parse(readFileSync(join(dir, "runs", run, "holder.json"), "utf8")).pid)];
    } catch {
      // Of a run that has ended.
      return [];
    }
  });
  const bare = privateMib(idle.pid as number);
  idle.kill("SIGKILL");
  await Promise.all(ids.map((id) => fetch(`${server.url}/api/v1/tasks/${id}`, { method: "DELETE" })));
  while ((await call(server, "GET", "/status")).runs > 0) await sleep(100);
  return { mib, bare, seconds };
}

/** All on the 64 GPUs, as fast as they are taken. @throws Error when one failed, or a GPU was in two runs at a time. */
async function manyRuns(server: Served): Promise<number> {
  const begun = performance.now();
  const ids: string[] = [];
  let left = RUNS;
  const one = async () => {
    while (left-- > 0) ids.push(await submit(server, ["/bin/true"], 1));
  };
  await Promise.all(Array.from({ length: SUBMITTERS }, one));
  const tasks: Task[] = [];
  for (const id of ids) tasks.push(await done(server, id));
  const seconds = (performance.now() - begun) / 1_000;
  const byGpu = Map.groupBy(
    tasks.flatMap(({ attempts }) => attempts),
    ({ gpu_uuids }) => gpu_uuids[0],
  );
  for (const [gpu, attempts] of byGpu) {
    const inOrder = attempts.sort((a, b) => Date.parse(a.started_at) - Date.parse(b.started_at));
    inOrder.forEach((one, i) => {
      const next = inOrder[i + 1];
      if (next !== undefined && Date.parse(one.ended_at) > Date.parse(next.started_at))
        throw new Error(`${gpu} was in ${one.run_id} and ${next.run_id} at a time`);
    });
  }
  return seconds;
}

const ms = (value: number) => `${value.toFixed(0)} ms`;

async function main(): Promise<void> {
  const { server, workDir } = await serveWork(thisTree(), GPUS);
  while ((await call(server, "GET", "/workers")).length === 0) await sleep(50);
  const [{ cage }] = await call(server, "GET", "/workers");
  await done(server, await submit(server, ["/bin/true"], 1));
  report.heading("## Running work", `Cage: ${cage}. ${AT_ONCE} tasks at once in the rows of cycles.`);
  report.table("what", "figure", "beside", "times");
  const { ours, bare } = await startTimes(server);
  const [from, to] = [median(ours), median(bare)];
  report.say(
    row(
      "submission to the first instruction of a node, p50",
      ms(from),
      `bare spawn: ${ms(to)}`,
      (from / to).toFixed(1),
    ),
  );
  report.say(row("the same, p95", ms(quantile(ours, 0.95)), `bare spawn: ${ms(quantile(bare, 0.95))}`, ""));
  const cycles = await cyclesASecond(server);
  const spooler = spoolerASecond();
  const tsp = spooler === null ? "tsp is not installed" : `task-spooler: ${spooler.toFixed(0)}`;
  const beside = `${tsp}; bare spawns of node: ${(await spawnsASecond()).toFixed(0)} a second`;
  report.say(row("durable task cycles, each with a lease", `${cycles.toFixed(1)} a second`, beside, ""));
  const { mib, bare: node, seconds: upIn } = await holders(server, workDir);
  const most = Math.max(...mib);
  report.say(
    row(
      `private memory of ${mib.length} holders, p50 and most`,
      `${median(mib).toFixed(1)} and ${most.toFixed(1)} MiB`,
      `bare node: ${node.toFixed(1)} MiB`,
      "",
    ),
  );
  report.say(row(`${GPUS} runs from submission to running`, `${upIn.toFixed(1)} s`, "", ""));
  const seconds = await manyRuns(server);
  report.say(
    row(
      `${RUNS} runs on ${GPUS} GPUs, none twice at a time`,
      `${seconds.toFixed(1)} s`,
      `${(RUNS / seconds).toFixed(1)} a second`,
      "",
    ),
  );
}

try {
  await main();
} finally {
  await stopAll();
  rmSync(scratch, { recursive: true, force: true });
}
