/** Runs the built program as a user would: a real process, a real file, real sockets on loopback. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const PROGRAM = fileURLToPath(new URL("../../dist/gpu-orchestrator.js", import.meta.url));
export const isBuilt = existsSync(PROGRAM);
const START_MS = 30_000;

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely by tests.
  readonly body: any;
}

export interface DaemonOptions {
  /** How long it may take until it serves. */
  readonly startMs?: number;
  /** YAML beside what the harness itself sets. */
  readonly config?: string;
  readonly simulate?: string | null;
  readonly folder?: string;
  /** A free one when left out. */
  readonly port?: number;
  readonly env?: Record<string, string>;
  /** A module that is loaded before the program, in each of its threads. */
  readonly preload?: string;
  /** What to put before the command: a program that runs it as the test's own child. */
  readonly under?: readonly string[];
}

/** The program ended before it served. */
export class DaemonEndedError extends Error {
  override readonly name = "DaemonEndedError";
  readonly signal: NodeJS.Signals | null;
  readonly log: readonly string[];

  constructor(how: number | NodeJS.Signals | null, log: readonly string[]) {
    super(`exited with ${how}:\n${log.join("\n")}`);
    this.signal = typeof how === "string" ? how : null;
    this.log = log;
  }
}

export class TestDaemon {
  readonly folder: string;
  readonly url: string;
  readonly process: ChildProcess;
  readonly log: readonly string[];

  constructor(folder: string, url: string, child: ChildProcess, log: readonly string[]) {
    this.folder = folder;
    this.url = url;
    this.process = child;
    this.log = log;
  }

  async call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    const answer = await fetch(this.url + path, {
      method,
      headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const text = await answer.text();
    const json = answer.headers.get("content-type")?.includes("json") === true;
    return { status: answer.status, headers: answer.headers, body: json ? JSON.parse(text) : text };
  }

  allocate(body: Record<string, unknown> = {}): Promise<Answer> {
    return this.call("POST", "/gpu/allocate", { service_name: "svc", ...body });
  }

  release(allocationId: string): Promise<Answer> {
    return this.call("POST", "/gpu/release", { allocation_id: allocationId });
  }

  /** Ends the process and waits until it is gone; returns its exit code, or the signal that ended it. */
  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<number | string> {
    const { process: child } = this;
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode ?? child.signalCode ?? "unknown";
    const gone = new Promise<number | string>((resolve) => {
      child.once("exit", (code, by) => resolve(code ?? by ?? "unknown"));
    });
    child.kill(signal);
    return gone;
  }

  removeFolder(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), "gpu-orchestrator-e2e-"));
}

/** Starts the program on a free port and waits until it says that it serves. */
export async function startDaemon(options: DaemonOptions = {}): Promise<TestDaemon> {
  const folder = options.folder ?? temporaryFolder();
  const file = join(folder, "config.yaml");
  writeFileSync(file, options.config ?? "");
  const simulate = options.simulate === undefined ? "h100x8" : options.simulate;
  const startMs = options.startMs ?? START_MS;
  const preload = options.preload === undefined ? [] : ["--import", options.preload];
  const node = [process.execPath, ...preload, PROGRAM];
  const command = [...(options.under ?? []), ...node, "serve", "--config", file, "--port", String(options.port ?? 0)];
  if (simulate !== null) command.push("--simulate", simulate);
  const [program = "", ...args] = command;
  const child = spawn(program, args, {
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env.PATH ?? "", ...options.env },
  });
  const log: string[] = [];
  const url = await new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`not serving after ${startMs} ms:\n${log.join("\n")}`));
    }, startMs);
    const read = (line: string) => {
      log.push(line);
      const served = /"url":"((?:https?|unix):[^"]+)".*"msg":"serving"/.exec(line)?.[1];
      if (served === undefined) return;
      clearTimeout(timer);
      resolve(served);
    };
    for (const stream of [child.stdout, child.stderr]) {
      if (stream !== null) createInterface({ input: stream }).on("line", read);
    }
    // Not at the exit: its last words may still be in the pipe.
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      reject(new DaemonEndedError(code ?? signal, log));
    });
  });
  return new TestDaemon(folder, url, child, log);
}

/** Asks again and again until the answer satisfies, or fails after `timeoutMs`. */
export async function eventually<T>(
  ask: () => Promise<T>,
  satisfied: (answer: T) => boolean,
  timeoutMs = 10_000,
): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (satisfied(answer)) return answer;
    if (performance.now() > end) throw new Error(`not within ${timeoutMs} ms; last: ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
