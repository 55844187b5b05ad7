/**
 * One run of a program that may hang, print without end, or be beyond killing.
 *
 * 1. It ends for the caller at a known time: deadline, then SIGTERM, SIGKILL after {@link TERM_GRACE_MS}, given up
 *    after {@link KILL_GRACE_MS} more.
 * 2. A process in uninterruptible sleep outlives SIGKILL. It is let go of: nothing of it keeps this process alive,
 *    and `gone` tells when it ended after all.
 * 3. The program leads a process group of its own, so that what a wrapper script started is ended with it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Cancel, Clock } from "../../platform/clock.ts";
import type { OutputSieve } from "./sieve.ts";

/** From SIGTERM to SIGKILL. */
export const TERM_GRACE_MS = 500;
/** From SIGKILL to giving up. */
export const KILL_GRACE_MS = 500;
/** How long output may still arrive when the program has ended but something holds its pipes open. */
const DRAIN_MS = 500;
/** How many times as much as is kept may be left out: 128 GPUs with full accounting buffers print 134 MB. */
const MAX_SIFTED = 32;
/** Most of stderr that is kept. */
const MAX_STDERR_BYTES = 16 * 1024;

export type RunEnd =
  | {
      readonly kind: "exited";
      /** `null` when a signal ended it. */
      readonly exitCode: number | null;
      readonly signal: string | null;
      readonly stdout: Uint8Array;
      readonly stderr: string;
    }
  /** `code` is the system's, such as `ENOENT`. */
  | { readonly kind: "not-started"; readonly code: string }
  /** `abandoned`: it lives on. */
  | { readonly kind: "timed-out" | "flooded" | "stopped"; readonly abandoned: boolean };

export interface Run {
  /** Never rejects. */
  readonly end: Promise<RunEnd>;
  /** The process is no more. May be long after `end`; never rejects. */
  readonly gone: Promise<void>;
  /** `null` when it was not started. */
  readonly pid: number | null;
  /** Ends it before its deadline. */
  stop(): void;
}

export interface RunOptions {
  readonly program: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly timeoutMs: number;
  /** Of what the sieve keeps, if there is one. */
  readonly maxOutputBytes: number;
  /** Leaves out what nobody reads, as it comes. */
  readonly sieve?: OutputSieve;
  readonly clock: Clock;
  /** Sends a signal to a process group; a test may stand in for a process that no signal ends. */
  readonly signal?: SendSignal;
}

export type SendSignal = (group: number, signal: "SIGTERM" | "SIGKILL") => unknown;

const signalGroup: SendSignal = (group, signal) => process.kill(-group, signal);

/** Starts the program, without a shell. Never throws. */
export function startRun(options: RunOptions): Run {
  let child: ChildProcess;
  try {
    child = spawn(options.program, options.args, {
      cwd: "/",
      env: options.env,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
  } catch (error) {
    // A path with a NUL byte, too many open files: what spawn does not tell by its error event.
    return {
      end: Promise.resolve({ kind: "not-started", code: codeOf(error) }),
      gone: Promise.resolve(),
      pid: null,
      stop() {},
    };
  }
  return new ChildRun(child, options);
}

class ChildRun implements Run {
  readonly end: Promise<RunEnd>;
  readonly gone: Promise<void>;
  readonly pid: number | null;
  readonly #child: ChildProcess;
  readonly #clock: Clock;
  readonly #signal: SendSignal;
  readonly #settle: (end: RunEnd) => void;
  readonly #sieve: OutputSieve | null;
  readonly #stdout: Buffer[] = [];
  readonly #stderr: Buffer[] = [];
  /** Why it is being ended; `null` while it may run. */
  #cause: "timed-out" | "flooded" | "stopped" | null = null;
  #cancelTimer: Cancel;

  constructor(child: ChildProcess, options: RunOptions) {
    const end = Promise.withResolvers<RunEnd>();
    const gone = Promise.withResolvers<void>();
    this.end = end.promise;
    this.gone = gone.promise;
    this.#settle = end.resolve;
    this.#child = child;
    this.pid = child.pid ?? null;
    this.#clock = options.clock;
    this.#signal = options.signal ?? signalGroup;
    this.#cancelTimer = options.clock.after(options.timeoutMs, () => this.#stop("timed-out"));
    this.#sieve = options.sieve ?? null;
    this.#collect(options.maxOutputBytes);
    child.once("error", (error) => {
      if (this.pid !== null) return;
      gone.resolve();
      this.#finish({ kind: "not-started", code: codeOf(error) });
    });
    child.once("exit", () => {
      gone.resolve();
      this.#exited();
    });
    child.once("close", () => this.#closed());
  }

  stop(): void {
    this.#stop("stopped");
  }

  #collect(maxOutputBytes: number): void {
    let received = 0;
    let kept = 0;
    let complained = 0;
    this.#child.stdout?.on("data", (chunk: Buffer) => {
      received += chunk.length;
      const rest = this.#sieve === null ? chunk : Buffer.from(this.#sieve.push(chunk.toString("latin1")), "latin1");
      kept += rest.length;
      if (kept > maxOutputBytes || received > MAX_SIFTED * maxOutputBytes) this.#stop("flooded");
      else this.#stdout.push(rest);
    });
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      if (complained < MAX_STDERR_BYTES) this.#stderr.push(chunk.subarray(0, MAX_STDERR_BYTES - complained));
      complained += chunk.length;
    });
  }

  #stop(cause: "timed-out" | "flooded" | "stopped"): void {
    if (this.#cause !== null || this.pid === null) return;
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#cause = cause;
    this.#cancelTimer();
    this.#send("SIGTERM");
    this.#cancelTimer = this.#clock.after(TERM_GRACE_MS, () => {
      this.#send("SIGKILL");
      this.#cancelTimer = this.#clock.after(KILL_GRACE_MS, () => this.#abandon(cause));
    });
  }

  #send(signal: "SIGTERM" | "SIGKILL"): void {
    if (this.pid === null) return;
    try {
      this.#signal(this.pid, signal);
    } catch {
      // ESRCH: it has just ended. EPERM: it runs as somebody else, and is given up when its time is over.
    }
  }

  #abandon(cause: "timed-out" | "flooded" | "stopped"): void {
    this.#child.unref();
    this.#finish({ kind: cause, abandoned: true });
  }

  #exited(): void {
    this.#cancelTimer();
    if (this.#cause === null) {
      this.#cancelTimer = this.#clock.after(DRAIN_MS, () => this.#closed());
      return;
    }
    // A wrapper may go at SIGTERM and leave what it started.
    this.#send("SIGKILL");
    this.#finish({ kind: this.#cause, abandoned: false });
  }

  #closed(): void {
    if (this.#cause !== null || this.pid === null) return;
    this.#finish({
      kind: "exited",
      exitCode: this.#child.exitCode,
      signal: this.#child.signalCode,
      stdout: Buffer.concat([...this.#stdout, Buffer.from(this.#sieve?.end() ?? "", "latin1")]),
      stderr: Buffer.concat(this.#stderr).toString("utf8"),
    });
  }

  #finish(end: RunEnd): void {
    this.#cancelTimer();
    this.#child.stdout?.destroy();
    this.#child.stderr?.destroy();
    this.#settle(end);
  }
}

function codeOf(error: unknown): string {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return code ?? "unknown error";
}
