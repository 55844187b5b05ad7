/** The verbs of work: what is submitted, run, followed and stopped. */
import { randomUUID } from "node:crypto";
import { ApiProblem } from "../../client/errors.ts";
import { nodeTransport } from "../../client/node-transport.ts";
import {
  type RunRecord,
  type TaskRecord,
  WorkClient,
  type WorkerRecord,
  type WorkloadRecord,
} from "../../client/work.ts";
import { visible } from "../../platform/printable.ts";
import { wholeOf } from "../ask.ts";
import { type CommonOptions, type Context, contextOf, shown } from "../context.ts";
import { EXIT, NoSuchError, UsageError } from "../exits.ts";
import { textIn } from "../given.ts";
import { type Column, table } from "../table.ts";
import { plural, sinceText } from "../words.ts";

/** The API's own bounds. */
const MAX_REPLICAS = 64;
const MAX_TAIL = 10_000;
const STREAMS: readonly string[] = ["stdout", "stderr", "both"];

interface WorkContext extends Context {
  readonly work: WorkClient;
}

async function workContext(options: CommonOptions): Promise<WorkContext> {
  const context = await contextOf(options);
  return { ...context, work: new WorkClient({ transport: nodeTransport(context.url), key: () => context.key }) };
}

export async function submit(
  file: string,
  { dryRun, ...options }: CommonOptions & { readonly dryRun?: boolean },
): Promise<void> {
  const { work, terminal } = await workContext(options);
  const yaml = await textIn(file);
  if (dryRun === true) {
    terminal.data(await work.planTask(yaml));
    return;
  }
  // What a task and what a service is, its kind says; what is wrong with it, the daemon.
  if (/^\s*["']?kind["']?\s*:\s*["']?Service\b/m.test(yaml)) {
    const workload = await work.createWorkload(yaml, randomUUID());
    if (terminal.json) terminal.data(workload);
    else terminal.line(workload.id);
    return;
  }
  const answer = await work.submitTask(yaml, randomUUID());
  if (terminal.json) terminal.data(answer);
  else terminal.line(String(answer.task_id));
  if (answer.ok !== false) return;
  terminal.warn(visible(String(answer.error)));
  process.exitCode = EXIT.refused;
}

interface Row {
  readonly id: string;
  readonly name: string;
  readonly kind: string;
  readonly state: string;
  readonly owner: string;
  readonly since: string;
  readonly gpus: number;
  readonly detail: string;
}

const COLUMNS: (now: number) => readonly Column<Row>[] = (now) => [
  { head: "ID", cell: ({ id }) => id },
  { head: "NAME", cell: ({ name }) => visible(name), shrinksTo: 8 },
  { head: "KIND", cell: ({ kind }) => kind, goes: 2 },
  { head: "STATE", cell: ({ state }) => state },
  { head: "GPUS", cell: ({ gpus }) => String(gpus), align: "right", goes: 3 },
  { head: "OWNER", cell: ({ owner }) => visible(owner), goes: 4 },
  { head: "AGE", cell: ({ since }) => sinceText(since, now), align: "right", goes: 5 },
  { head: "DETAIL", cell: ({ detail }) => visible(detail.split("\n", 1)[0] as string), shrinksTo: 8, goes: 1 },
];

export async function ps({ all, ...options }: CommonOptions & { readonly all?: boolean }): Promise<void> {
  const context = await workContext(options);
  const { work, terminal } = context;
  await shown(context, options.watch, async () => {
    const [tasks, workloads] = await Promise.all([work.tasks(), work.workloads()]);
    const open = tasks.filter((task) => all === true || !isOver(task));
    if (terminal.json) {
      for (const record of [...workloads, ...open]) terminal.data(record);
      return [];
    }
    const rows = [...workloads.map(workloadRow), ...open.map(taskRow)];
    return rows.length === 0 ? ["nothing runs"] : table(rows, COLUMNS(Date.now()), terminal);
  });
}

function isOver({ status }: TaskRecord): boolean {
  return status === "DONE" || status === "FAILED" || status === "CANCELLED";
}

function taskRow(task: TaskRecord): Row {
  return {
    id: task.task_id,
    name: task.name,
    kind: "task",
    state: task.status,
    owner: task.owner,
    since: task.submitted_at,
    gpus: isOver(task) ? 0 : (task.attempts.at(-1)?.gpu_uuids.length ?? 0),
    detail: task.error ?? task.reason ?? "",
  };
}

function workloadRow({ id, name, owner, createdAt, status }: WorkloadRecord): Row {
  return {
    id,
    name,
    kind: "service",
    state: `${status.phase} ${status.readyReplicas}/${status.replicas}`,
    owner,
    since: createdAt,
    gpus: status.nodes.reduce((sum, { gpu_uuids }) => sum + gpu_uuids.length, 0),
    detail: status.message || (status.nodes.find(({ url }) => url !== null)?.url ?? ""),
  };
}

/** What an id means: what has it, or the only one of all workloads and the latest tasks whose id begins so. */
export async function found(
  work: Pick<WorkClient, "task" | "tasks" | "workloads">,
  id: string,
): Promise<{ readonly kind: "task" | "workload" | "run"; readonly id: string }> {
  if (id.startsWith("run-")) return { kind: "run", id };
  if ((await ifThere(work.task(id))) !== null) return { kind: "task", id };
  const [tasks, workloads] = await Promise.all([work.tasks(), work.workloads()]);
  const named = [
    ...tasks.map((task) => ({ kind: "task" as const, id: task.task_id })),
    ...workloads.map((workload) => ({ kind: "workload" as const, id: workload.id })),
  ];
  const exact = named.find((one) => one.id === id);
  const [only, ...others] = exact === undefined ? named.filter((one) => one.id.startsWith(id)) : [exact];
  if (only === undefined) throw new NoSuchError(`nothing of that name: ${id}; gpuo ps --all shows what there is`);
  if (others.length > 0) throw new NoSuchError(`${id} begins ${others.length + 1} ids; write more of it`);
  return only;
}

/** The run whose logs are meant: the newest of a task, the first of a workload that has one. */
async function runOf(work: WorkClient, id: string): Promise<string> {
  const { kind, id: whole } = await found(work, id);
  if (kind === "run") return whole;
  const run =
    kind === "task"
      ? (await work.task(whole)).attempts.at(-1)?.run_id
      : (await work.workload(whole)).status.nodes.find(({ run_id }) => run_id !== null)?.run_id;
  if (run === undefined || run === null) throw new NoSuchError(`${whole} has not run yet`);
  return run;
}

interface LogOptions extends CommonOptions {
  readonly follow?: boolean;
  readonly tail: string;
  readonly since?: string;
  readonly stream?: string;
}

export async function logs(id: string, { follow, tail, since, stream, ...options }: LogOptions): Promise<void> {
  wholeOf("--tail", tail, 0, MAX_TAIL);
  if (stream !== undefined && !STREAMS.includes(stream))
    throw new UsageError(`--stream ${stream}: expected stdout, stderr or both`);
  const { work } = await workContext(options);
  const query = {
    tail,
    ...(follow === true ? { follow: "true" } : {}),
    ...(since === undefined ? {} : { since }),
    ...(stream === undefined ? {} : { stream }),
  };
  const leave = new AbortController();
  process.once("SIGINT", () => leave.abort());
  try {
    for await (const piece of work.logs(await runOf(work, id), query, leave.signal)) process.stdout.write(piece);
  } catch (error) {
    if (!leave.signal.aborted) throw error;
  }
}

export async function stop(ids: readonly string[], options: CommonOptions): Promise<void> {
  const { work, terminal } = await workContext(options);
  for (const given of ids) {
    const { kind, id } = await found(work, given);
    if (kind === "task") await work.cancelTask(id);
    else if (kind === "workload") await work.deleteWorkload(id);
    else await work.stopRun(id);
    terminal.say(`${id} is being stopped`);
  }
}

/**
 * Its exit code says how the task ended.
 *
 * @returns whether there is such a task; one there is not may be a request of a service called task.
 */
export async function waitedFor(name: string, options: CommonOptions): Promise<boolean> {
  const { work, terminal } = await workContext(options);
  const whole = await taskNamed(name, work);
  if (whole === null) return false;
  for (;;) {
    const task = await work.task(whole, "30s");
    if (!isOver(task)) continue;
    if (terminal.json) terminal.data(task);
    else terminal.line(task.error === null ? task.status : `${task.status}: ${visible(task.error)}`);
    if (task.status !== "DONE") process.exitCode = EXIT.refused;
    return true;
  }
}

const SERVICE_LOOK_MS = 1_000;

/**
 * Until each of its replicas serves; where it cannot be any more the exit code says so.
 *
 * @returns whether there is such a service.
 */
export async function serviceWaitedFor(name: string, options: CommonOptions): Promise<boolean> {
  const { work, terminal } = await workContext(options);
  for (;;) {
    const workload = await ifThere(work.workload(name));
    if (workload === null) return false;
    const { phase, message, replicas, readyReplicas, nodes } = workload.status;
    const serves = phase === "running" && readyReplicas === replicas;
    const isOver = phase === "failed" || phase === "completed";
    if (serves || isOver) {
      if (terminal.json) terminal.data(workload);
      else terminal.line([phase, ...nodes.flatMap(({ url }) => url ?? []), visible(message)].filter(Boolean).join(" "));
      if (phase === "failed") process.exitCode = EXIT.refused;
      return true;
    }
    await new Promise((resolve) => setTimeout(resolve, SERVICE_LOOK_MS));
  }
}

const THERE_IS_NONE: ReadonlySet<string> = new Set(["task-not-found", "workload-not-found", "work-disabled"]);

/** @returns its whole id: of any task by that, by what it begins with of the latest ones. */
export async function taskNamed(name: string, work: Pick<WorkClient, "task" | "tasks">): Promise<string | null> {
  if ((await ifThere(work.task(name))) !== null) return name;
  const tasks = (await ifThere(work.tasks())) ?? [];
  const ids = tasks.map(({ task_id: id }) => id).filter((id) => id.startsWith(name));
  if (ids.length > 1) throw new NoSuchError(`${name} begins ${ids.length} ids; write more of it`);
  return ids[0] ?? null;
}

async function ifThere<T>(asked: Promise<T>): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ApiProblem && THERE_IS_NONE.has(error.code)) return null;
    throw error;
  }
}

export async function results(id: string, options: CommonOptions): Promise<void> {
  const { work, terminal } = await workContext(options);
  const { id: whole } = await found(work, id);
  const result = await work.result(whole);
  if (terminal.json) terminal.data(result);
  else console.log(JSON.stringify(result, null, 2));
}

export async function scale(given: string, replicas: string, options: CommonOptions): Promise<void> {
  const count = wholeOf("how many replicas?", replicas, 0, MAX_REPLICAS);
  const { work, terminal } = await workContext(options);
  const { kind, id } = await found(work, given);
  if (kind !== "workload") throw new UsageError(`${id} is a ${kind}: only a service has replicas`);
  const workload = await work.scale(id, count);
  if (terminal.json) return terminal.data(workload);
  const { status } = workload;
  terminal.say(`${plural(status.replicas, "replica is", "replicas are")} wanted, ${status.readyReplicas} ready`);
}

const LOST_COLUMNS: readonly Column<RunRecord>[] = [
  { head: "RUN", cell: ({ run_id }) => run_id },
  { head: "STATE", cell: ({ state }) => state },
  { head: "GPUS", cell: ({ gpu_uuids }) => String(gpu_uuids.length), align: "right" },
  { head: "OWNER", cell: ({ owner }) => visible(owner), goes: 2 },
  { head: "NODE", cell: ({ node }) => visible(node ?? ""), goes: 1 },
];

/** Without names it says which runs of lost books there are. */
export async function adoptRuns(runs: readonly string[], options: CommonOptions): Promise<void> {
  const { work, terminal } = await workContext(options);
  for (const run of runs) {
    const record = await work.adoptRun(run);
    if (terminal.json) terminal.data(record);
    else terminal.say(`${run} is being taken into the books, with the others of its task or service`);
  }
  if (runs.length > 0) return;
  const lost = (await work.runs()).filter(({ lost_books: books }) => books !== undefined);
  if (terminal.json) for (const run of lost) terminal.data(run);
  else
    for (const line of lost.length === 0 ? ["no run is of lost books"] : table(lost, LOST_COLUMNS, terminal))
      terminal.line(line);
}

export async function workers(options: CommonOptions): Promise<void> {
  const context = await workContext(options);
  const { work, terminal } = context;
  const columns: readonly Column<WorkerRecord>[] = [
    { head: "NODE", cell: ({ worker_id }) => visible(worker_id) },
    { head: "STATE", cell: ({ status, stale }) => (stale ? "STALE" : status) },
    { head: "RUNS", cell: ({ runs }) => String(runs.length), align: "right" },
    { head: "CAGE", cell: ({ cage }) => cage, goes: 1 },
    { head: "EXECUTORS", cell: ({ executors }) => executors.join(" "), shrinksTo: 8 },
    { head: "SEEN", cell: ({ last_seen }) => sinceText(last_seen, Date.now()), align: "right" },
  ];
  const all = await work.workers();
  if (terminal.json) for (const worker of all) terminal.data(worker);
  else
    for (const line of all.length === 0 ? ["no worker has reported"] : table(all, columns, terminal))
      terminal.line(line);
}
