/**
 * The parent of one run's process: a program of its own, which outlives worker and daemon. It starts what the order in
 * its folder says, once, writes down how it ended, and keeps its output. It obeys nobody: whoever wants the run to end
 * ends its processes, and the holder leaves when they have.
 *
 * Plain and small: there is one for each run.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { uptimeMs } from "../platform/uptime.ts";
import { ownGroupWasOutOfMemory, ownLimits, unitGroupOf } from "./cages.ts";
import { isFencedOff, keepFence } from "./fence.ts";
import { claimIn, type Exit, type Order, readIn, writeIn } from "./folder.ts";
import { LogFile } from "./log-file.ts";
import { processOf } from "./processes.ts";

const EXIT_TAKEN = 3;
/** Written again so often when the disk is full: how a run ended is not to be lost. */
const WRITE_RETRY_MS = 1_000;
/** Of the longest path that the kernel takes, with its end. */
const PATH_BYTES = 4_097;
const NEW_LINE = 0x0a;

function hold(folder: string): void {
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGPIPE", "SIGUSR2"] as const)
    process.on(signal, () => undefined);
  const order = readIn<Order>(folder, "order");
  const own = processOf(process.pid);
  if (order === null || own === null) process.exit(EXIT_TAKEN);
  const { pid, startTime } = own;
  const [group] = order.cage.kind === "systemd" ? unitGroupOf(process.pid) : [];
  const unit = order.cage.kind === "systemd" ? { ...(group === undefined ? {} : { group }), limits: ownLimits() } : {};
  const isFirst = claimIn(folder, "holder", { pid, startTime, bootId: order.bootId, at: Date.now(), ...unit });
  if (!isFirst) process.exit(EXIT_TAKEN);
  const { fence } = order;
  if (fence !== undefined && isFencedOff(fence)) {
    writeIn(folder, "fenced", { at: Date.now() });
    ended(folder, { code: null, signal: null, at: Date.now(), error: "the controller was not heard of in time" });
    return;
  }
  begin(folder, order);
  if (fence !== undefined) keepFence(folder, order, fence, { pid, startTime, ...unit });
}

function begin(folder: string, order: Order): void {
  const [program = "", ...args] = order.argv;
  let child: ChildProcess;
  try {
    for (const group of order.enter) writeFileSync(group, String(process.pid));
    // A session of its own: what it starts can be told by it.
    child = spawn(program, args, { cwd: order.cwd, env: order.env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  } catch (error) {
    ended(folder, { code: null, signal: null, at: Date.now(), error: String(error) });
    return;
  } finally {
    for (const group of order.leave) writeFileSync(group, String(process.pid));
  }
  for (const name of ["stdout", "stderr"] as const) {
    const log = new LogFile(join(order.logs, `${name}.log`), order.maxLogBytes, order.maxLogFiles);
    child[name]?.on("data", (chunk: Buffer) => log.write(chunk));
    child[name]?.on("close", () => log.end());
  }
  child.on("error", (error) => ended(folder, { code: null, signal: null, at: Date.now(), error: error.message }));
  child.on("exit", (code, signal) => {
    // Its unit is gone with its last process: whoever looks later finds nothing there.
    const oom = order.cage.kind === "systemd" && ownGroupWasOutOfMemory() ? { oom: true as const } : {};
    ended(folder, { code, signal, at: Date.now(), error: null, ...oom });
  });
  const { pid } = child;
  if (pid !== undefined) writeIn(folder, "child", { pid, startTime: processOf(pid)?.startTime ?? -1, at: Date.now() });
}

function ended(folder: string, exit: Exit): void {
  // Once: on a full disk it is written later, and is as long ago as it is.
  writeExit(folder, { ...exit, atUptimeMs: uptimeMs() });
}

function writeExit(folder: string, exit: Exit): void {
  try {
    if (readIn(folder, "exit") === null) writeIn(folder, "exit", exit);
  } catch (error) {
    // Without its folder there is nobody who could be told.
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") setTimeout(writeExit, WRITE_RETRY_MS, folder, exit);
  }
}

/** Process 1 of a name space of its own: passes signals on, and takes everything with it when it ends. */
function initialise(argv: readonly string[]): void {
  const [program = "", ...args] = argv;
  // Before there is a child, so that no signal comes too early: it is delivered when this function has returned.
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR2"] as const) {
    process.on(signal, () => child.kill(signal));
  }
  const child = spawn(program, args, { stdio: "inherit" });
  child.on("error", () => process.exit(127));
  child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal as NodeJS.Signals]));
}

/** Started ahead of its run: waits to be told of its folder. `null`: nobody will. */
function toldFolder(): string | null {
  const buffer = Buffer.alloc(PATH_BYTES);
  let length = 0;
  while (length < PATH_BYTES) {
    const count = readSync(0, buffer, length, PATH_BYTES - length, null);
    if (count === 0) return null;
    length += count;
    if (buffer[length - 1] === NEW_LINE) return buffer.toString("utf8", 0, length - 1);
  }
  return null;
}

function holdWhenTold(): void {
  const folder = toldFolder();
  if (folder === null) return;
  // What a list of processes shows: whose holder it is.
  process.title = `${process.argv[1]} ${folder}`;
  hold(folder);
}

const [mode, ...rest] = process.argv.slice(2);
if (mode === "--init") initialise(rest);
else if (mode === "--spare") holdWhenTold();
else if (mode !== undefined) hold(mode);
