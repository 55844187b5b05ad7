/** Makes a run's folder from its assignment, and starts its holder. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chownSync, existsSync, readdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { userInfo } from "node:os";
import { join } from "node:path";
import { isLoopback } from "../config/config.ts";
import { isExecutable } from "../platform/executable.ts";
import {
  commandOf,
  environmentOf,
  modelNameOf,
  notAllowed,
  openToOthers,
  type Place,
  removalOf,
} from "../work/argv.ts";
import { WorkError } from "../work/errors.ts";
import type { ExecutorSettings } from "../work/executor-settings.ts";
import type { Assignment } from "../work/model.ts";
import { HEARD_FILE } from "../work/nodes.ts";
import { type CageKind, makeCage } from "./cages.ts";
import { claimDurably, claimIn, makeFolder, type Order, writeIn } from "./folder.ts";
import type { WorkerSettings } from "./settings.ts";
import { SpareHolder } from "./spare.ts";

const MAX_LOG_BYTES = 10 * 2 ** 20;
const MAX_LOG_FILES = 5;
const MAX_PIDS = 4_096;
const VERSION_TIMEOUT_MS = 60_000;
const MAX_SECRET_BYTES = 65_536;
const SECRET_FOLDER = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;

export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

/** Whose runs of `owner` are; `null`: the worker's own. @throws WorkError `not-allowed` */
export function userOf(owner: string, { work }: Pick<WorkerSettings, "work">): User | null {
  const { runAs, allowRoot, allowSameUser } = work;
  const name =
    typeof runAs === "object" && runAs !== null
      ? Object.hasOwn(runAs, owner)
        ? (runAs[owner] as string)
        : null
      : runAs;
  const own = userInfo();
  if (name === null && typeof runAs === "object" && runAs !== null)
    throw notAllowed("work.run_as", `a user for ${owner}`);
  const user = name === null ? { name: own.username, uid: own.uid, gid: own.gid, home: own.homedir } : userNamed(name);
  if (user.uid === own.uid && !allowSameUser) {
    throw new WorkError(
      "not-allowed",
      `runs would be of the worker's own user ${user.name}: set work.run_as, or work.allow_same_user`,
    );
  }
  if (user.uid === 0 && !allowRoot) throw notAllowed("work.allow_root", "a run as root");
  return user.uid === own.uid ? null : user;
}

function userNamed(name: string): User {
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((entry) => entry.startsWith(`${name}:`));
  const [, , uid, gid, , home] = line?.split(":") ?? [];
  if (uid === undefined || gid === undefined || home === undefined) {
    throw new WorkError("not-allowed", `work.run_as: there is no user ${name}`);
  }
  return { name, uid: Number(uid), gid: Number(gid), home };
}

export interface Starter {
  readonly settings: WorkerSettings;
  readonly books: string;
  readonly bootId: string;
  readonly cage: CageKind;
  /** Ports that runs have, and from here on its own. */
  readonly taken: Set<number>;
  /** `null`: each run's is started with it. */
  readonly spare: SpareHolder | null;
}

/** Nobody's fault: its replica may get another run, where its service is. */
export class ServiceAwayError extends Error {}

/**
 * Writes everything that the run needs, its order last, and starts its holder.
 *
 * @returns false when its order is there already: another worker of this node has started it.
 * @throws WorkError when the host does not let it be run, ServiceAwayError when it cannot now.
 */
export async function prepare(folder: string, assignment: Assignment, starter: Starter): Promise<boolean> {
  const { settings, books, bootId, cage: kind } = starter;
  const { spec, run, lease } = assignment;
  const executor = executorOf(spec.executor, settings);
  const user = userOf(assignment.owner, settings);
  const { serviceHost: name } = settings.work;
  const objection = openToOthers(assignment.kind, spec, executor, { name, isLoopback: isLoopback(name) });
  if (objection !== null) throw objection;
  const { service } = assignment;
  if (spec.service !== undefined && service === undefined) {
    throw new ServiceAwayError(`its service ${spec.service} does not serve on this node now`);
  }
  const isServing = assignment.kind === "service" || (executor.type === "vllm" && service === undefined);
  const port = isServing ? await freePort(settings, starter.taken) : 0;
  const out = join(folder, "out");
  const logs = join(folder, "logs");
  makeFolder(out, 0o700);
  makeFolder(logs, 0o750);
  const place: Place = {
    run,
    replica: assignment.replica,
    replicas: assignment.replicas,
    host: settings.work.serviceHost,
    port,
    taskFile: join(folder, "task.json"),
    outDir: out,
    node: settings.node,
    gpuUuids: lease?.gpuUuids ?? [],
    nodeProgram: process.execPath,
    standIn: settings.programs.standIn,
    vllmTask: settings.programs.vllmTask,
    pythonFolder: settings.programs.python,
    vllmVersion: executor.type === "vllm" ? vllmVersion(executor) : null,
    user,
    envFile: join(folder, "env"),
    modelArgs: modelArgs(assignment, settings),
  };
  const { argv } =
    executor.type === "process"
      ? commandOf(assignment.kind, { ...spec, command: resolved(spec.command) }, opened(executor), place)
      : commandOf(assignment.kind, spec, executor, place);
  const env = environmentOf(assignment.kind, spec, executor, place, {
    home: user?.home ?? userInfo().homedir,
    own: process.env,
    lease: lease?.env ?? {},
    gpuIndices: lease?.gpuIndices ?? [],
    secrets: secretsOf(assignment, settings),
    fencingToken: lease?.fencingToken ?? null,
    job: assignment.job,
    ...(service === undefined ? {} : { service }),
  });
  const limits = { memoryBytes: spec.resources.memoryBytes, cpuMillis: spec.resources.cpuMillis, pids: MAX_PIDS };
  const cage = await makeCage(kind, run, limits, holderBy([NO_DEBUGGER], settings));
  const { readiness, liveness } = spec;
  const order: Order = {
    run,
    books,
    epoch: assignment.epoch,
    bootId,
    orderedAt: Date.now(),
    // A name space of its own is made before the user is changed.
    argv:
      cage.prefix.length === 0
        ? [...asUser(user), ...argv]
        : [...asUser(null), ...cage.prefix, ...asUser(user), ...argv],
    env,
    cwd: out,
    logs,
    maxLogBytes: MAX_LOG_BYTES,
    maxLogFiles: MAX_LOG_FILES,
    enter: cage.enter,
    leave: cage.leave,
    cage: cage.record,
    graceMs: spec.stop.graceMs,
    port: port === 0 ? null : port,
    ...(executor.type === "container" ? {} : { uid: user?.uid ?? process.getuid?.() ?? 0 }),
    probes: { readiness, liveness, host: settings.work.serviceHost, model: modelNameOf(spec) },
    ...(executor.type === "container" ? { remove: [...asUser(user), ...removalOf(run, executor)] } : {}),
    ...fenceOf(assignment, settings),
    ...(assignment.record === undefined ? {} : { assignment }),
  };
  if (!(await claimDurably(folder, "order", order))) return false;
  if (!writesForRun(folder, place, spec.document, executor.type === "container" ? envFileOf(env) : null)) return true;
  if (cage.holderPrefix.length > 0 || !starter.spare?.take(folder))
    startHolder([...cage.holderPrefix, ...holderProgram(settings), folder], "ignore");
  return true;
}

/**
 * What the run reads, by whoever has its order and nobody else: of two workers that prepare it at once each has a port and
 * an environment of its own.
 *
 * @returns false when the run is over, since that could not be written.
 */
function writesForRun(folder: string, place: Place, document: object, env: string | null): boolean {
  const { taskFile, envFile, outDir, user } = place;
  try {
    writeFileSync(taskFile, JSON.stringify(document), { mode: 0o640 });
    if (env !== null) writeFileSync(envFile, env, { mode: 0o600 });
    const readable = env === null ? [outDir, taskFile] : [outDir, taskFile, envFile];
    if (user !== null) for (const path of readable) chownSync(path, user.uid, user.gid);
    return true;
  } catch (error) {
    const end = { at: Date.now(), reason: "executor-failed", detail: String(error), exitCode: null, signal: null };
    claimIn(folder, "holder", { givenUp: true });
    writeIn(folder, "end", { ...end, resultOk: null, tail: [] });
    return false;
  }
}

function fenceOf({ fenceMs, spec }: Assignment, { dir }: WorkerSettings): Pick<Order, "fence"> {
  if (fenceMs === undefined || fenceMs === null) return {};
  const { signal, graceMs } = spec.stop;
  return { fence: { file: join(dir, HEARD_FILE), withinMs: fenceMs, signal, graceMs } };
}

/** A holder that waits for its run; `null`: in this cage it is its unit that begins with the run. */
export function spareHolder(kind: CageKind, settings: WorkerSettings): SpareHolder | null {
  return kind === "systemd"
    ? null
    : new SpareHolder(() => startHolder([...holderProgram(settings), "--spare"], "pipe"));
}

function holderProgram(settings: WorkerSettings): readonly string[] {
  return holderBy([NO_DEBUGGER, ...FRUGAL, ...FRUGAL_CODE], settings);
}

/** In a session of its own, with nothing of ours open: it goes on when this process ends. */
function startHolder([program = "", ...args]: readonly string[], stdin: "ignore" | "pipe"): ChildProcess {
  const env = { PATH: process.env.PATH ?? "", ...(isExecutable() ? { NODE_OPTIONS: FRUGAL.join(" ") } : {}) };
  const child = spawn(program, args, { detached: true, stdio: [stdin, "ignore", "ignore"], cwd: "/", env });
  child.on("error", () => undefined);
  child.unref();
  return child;
}

/** The executable has its flags built in, but for those that it takes from the environment. */
function holderBy(flags: readonly string[], { programs }: WorkerSettings): readonly string[] {
  return [process.execPath, ...(isExecutable() ? [] : flags), programs.holder];
}

/** Node opens a debugger on SIGUSR1 otherwise, and the holder may be root. It blocks the signal, listeners or not. */
const NO_DEBUGGER = "--disable-sigusr1";
/** It does little and keeps little. */
const FRUGAL = ["--max-semi-space-size=1", "--max-old-space-size=16", "--v8-pool-size=1"];
const FRUGAL_CODE = ["--no-opt"];

/** The kernel ends the command when its holder dies; what it has started, the cage. */
function asUser(user: User | null): string[] {
  const change = user === null ? [] : [`--reuid=${user.uid}`, `--regid=${user.gid}`, "--init-groups"];
  return ["setpriv", ...change, "--no-new-privs", "--pdeathsig=KILL", "--"];
}

function executorOf(name: string, { work }: WorkerSettings): ExecutorSettings {
  if (!Object.hasOwn(work.executors, name)) throw notAllowed(`work.executors.${name}`, `the executor ${name}`);
  return work.executors[name] as ExecutorSettings;
}

/** With links resolved, on both sides: the program is one of this host's. That of a container is in its image. */
function resolved(command: readonly string[] | null): readonly string[] | null {
  return command === null ? null : [realPath(command[0] ?? ""), ...command.slice(1)];
}

function opened(executor: ExecutorSettings): ExecutorSettings {
  return { ...executor, programs: executor.programs.map(realPath) };
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function modelArgs({ kind, spec }: Assignment, { work }: WorkerSettings): readonly string[] {
  if (kind !== "service") return [];
  const name = modelNameOf(spec) ?? "";
  return (Object.hasOwn(work.models, name) ? work.models[name] : work.models["*"])?.args ?? [];
}

function secretsOf({ spec, owner }: Assignment, { work }: WorkerSettings): Record<string, string> {
  return Object.fromEntries(
    spec.secrets.flatMap((name) => {
      const secret = Object.hasOwn(work.secrets, name) ? work.secrets[name] : undefined;
      if (secret === undefined || (secret.principals.length > 0 && !secret.principals.includes(owner))) {
        const folder = Object.hasOwn(work.secretFolders, owner) ? work.secretFolders[owner] : undefined;
        const found = folder === undefined || secret !== undefined ? [] : secretsIn(folder, name);
        if (found.length > 0) return found;
        throw notAllowed(`work.secrets.${name}`, `the secret ${name} for ${owner}`);
      }
      return [[name, valueIn(secret.file)]];
    }),
  );
}

/** Each file in the folder of this name is a variable. */
function secretsIn(folder: string, name: string): (readonly [string, string])[] {
  const of = join(folder, name);
  if (!SECRET_FOLDER.test(name) || !existsSync(of)) return [];
  const files = readdirSync(of).filter((file) => VARIABLE.test(file));
  return files.map((file) => [file, valueIn(join(of, file))]);
}

function valueIn(file: string): string {
  return readFileSync(file, "utf8").slice(0, MAX_SECRET_BYTES).trimEnd();
}

/** One `NAME=value` a line: a value of several lines cannot be said in it. */
function envFileOf(env: Readonly<Record<string, string>>): string {
  const own = new Set(["PATH", "HOME", "TASK_FILE", "OUT_DIR"]);
  const lines = Object.entries(env).filter(([name, value]) => !own.has(name) && !value.includes("\n"));
  return `${[...lines.map(([name, value]) => `${name}=${value}`), "OUT_DIR=/results"].join("\n")}\n`;
}

const versions = new Map<string, readonly [number, number] | null>();

function vllmVersion({ command }: ExecutorSettings): readonly [number, number] | null {
  const [program = "vllm", ...args] = command ?? ["vllm"];
  const key = JSON.stringify([program, ...args]);
  if (!versions.has(key)) {
    const { stdout } = spawnSync(program, [...args, "--version"], { encoding: "utf8", timeout: VERSION_TIMEOUT_MS });
    const [, major, minor] = /(\d+)\.(\d+)/.exec(stdout ?? "") ?? [];
    versions.set(key, minor === undefined ? null : [Number(major), Number(minor)]);
  }
  return versions.get(key) ?? null;
}

const MAX_PORT_TRIES = 200;

async function freePort({ work }: WorkerSettings, taken: Set<number>): Promise<number> {
  const { from, to } = work.ports;
  const count = to - from + 1;
  const first = Math.floor(Math.random() * count);
  for (let i = 0; i < Math.min(count, MAX_PORT_TRIES); i++) {
    const port = from + ((first + i) % count);
    if (taken.has(port)) continue;
    // Before it is asked: others choose at the same time.
    taken.add(port);
    if (await canListen(work.serviceHost, port)) return port;
  }
  throw new WorkError("not-allowed", "work.ports: none of them is free");
}

function canListen(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, host, () => server.close(() => resolve(true)));
  });
}
