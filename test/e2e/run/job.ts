/** A `gpuo run` of the built program, on a terminal or without one, and what becomes of it. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { PROGRAM, type TestDaemon } from "../daemon.ts";

const TERMINAL = fileURLToPath(new URL("./terminal.py", import.meta.url));

export const hasPython = spawnSync("python3", ["-c", "import pty, os; os.waitstatus_to_exitcode"]).status === 0;

/** What a script says of itself: its lease and its pid. */
export const STAY = "echo id=$GPU_ORCHESTRATOR_ALLOCATION_ID= pid=$$=";

/** The script, made to say that it runs: after the trap it begins with, if any, so that a signal sent then finds the trap. */
export function withStay(script: string): string {
  const trap = /^trap .*\n/.exec(script)?.[0] ?? "";
  return `${trap}${STAY}\n${script.slice(trap.length)}`;
}

export interface Job {
  readonly process: ChildProcess;
  /** What was written so far; on a terminal all is on its screen, `output`. */
  readonly output: () => string;
  readonly errors: () => string;
  /** Its exit code, 128 + n for a signal. */
  readonly ended: Promise<number>;
  /** gpuo itself. */
  readonly pid: () => number;
  readonly keys: (text: string) => void;
  /** Waits until it has written this. */
  readonly writes: (text: string | RegExp) => Promise<void>;
}

export interface JobOptions {
  /** Of a terminal; without it there is none. */
  readonly columns?: number;
  readonly env?: Record<string, string>;
  readonly input?: string;
  readonly shell?: boolean;
}

const SIGNALS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGTERM: 15,
};

/** @param args of `gpuo`; with `shell`, an interactive shell is started instead, to be typed into. */
export function startJob(daemon: TestDaemon, args: readonly string[], options: JobOptions = {}): Job {
  const gpuo = options.shell === true ? ["bash", "--norc", "--noprofile", "-i"] : [process.execPath, PROGRAM, ...args];
  const own = options.columns === undefined ? gpuo : ["python3", TERMINAL, String(options.columns), ...gpuo];
  const [file = "", ...rest] = own;
  const child = spawn(file, rest, {
    cwd: daemon.folder,
    stdio: "pipe",
    // No terminal of the test's own either.
    detached: options.columns === undefined,
    env: {
      PATH: process.env.PATH ?? "",
      HOME: daemon.folder,
      USER: "ada",
      TERM: "xterm",
      GPU_ORCHESTRATOR_URL: daemon.url,
      ...options.env,
    },
  });
  const written = { output: "", errors: "" };
  child.stdout.on("data", (data: Buffer) => (written.output += data.toString()));
  child.stderr.on("data", (data: Buffer) => (written.errors += data.toString()));
  if (options.columns === undefined) child.stdin.end(options.input ?? "");
  const ended = new Promise<number>((resolve) => {
    child.once("close", (code, signal) => resolve(code ?? 128 + (SIGNALS[signal ?? ""] ?? 0)));
  });
  return {
    process: child,
    output: () => written.output,
    errors: () => written.errors,
    ended,
    pid: () => (options.columns === undefined ? (child.pid as number) : Number(/pid (\d+)/.exec(written.errors)?.[1])),
    keys: (text) => child.stdin.write(text),
    writes: (text) =>
      until(
        () => contains(written.output + written.errors, text),
        () => `${text}, but only: ${written.output}${written.errors}`,
      ),
  };
}

function contains(all: string, text: string | RegExp): boolean {
  return typeof text === "string" ? all.includes(text) : text.test(all);
}

export async function until(
  holds: () => boolean | Promise<boolean>,
  what: () => string,
  timeoutMs = 20_000,
): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The children of a process whose command line has this. */
export function childrenOf(pid: number, having: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((child) => {
      try {
        const stat = readFileSync(`/proc/${child}/stat`, "latin1");
        const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
        return parent === pid && readFileSync(`/proc/${child}/cmdline`, "latin1").includes(having);
      } catch {
        return false;
      }
    });
}

export function keeperOf(job: Job): number {
  return childrenOf(job.pid(), "keeper")[0] as number;
}

export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
  } catch {
    return false;
  }
}

/** Waits until a process is gone. */
export function gone(pid: number, timeoutMs?: number): Promise<void> {
  return until(
    () => !isAlive(pid),
    () => `process ${pid} is gone`,
    timeoutMs,
  );
}

export async function recordOf(daemon: TestDaemon, id: string) {
  return (await daemon.call("GET", `/gpu/allocations/${id}`)).body;
}

/** Waits until the lease has ended, and says how. */
export async function endOf(daemon: TestDaemon, id: string, timeoutMs?: number): Promise<string> {
  await until(
    async () => (await recordOf(daemon, id)).status === "ended",
    () => `${id} has ended`,
    timeoutMs,
  );
  return (await recordOf(daemon, id)).end_reason;
}
