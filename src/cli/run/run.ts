/**
 * `gpuo run`: GPUs for as long as a command runs.
 *
 *  1. There is no command without a keeper that has said that it is ready; a keeper that dies is replaced.
 *  2. On a terminal the command is in gpuo's process group: what the keyboard sends reaches it by the kernel, and is not
 *     passed on. Without one it leads a group of its own.
 *  3. The exit code is the command's, and 128 + n for a signal n; gpuo's own failures are 124 to 127 and 75.
 *  4. The GPUs are given back before gpuo ends, after all that came from the command has ended.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { isatty } from "node:tty";
import type { AllocateBody } from "../../client/types.ts";
import { thisProgram } from "../../platform/executable.ts";
import { type AskOptions, askOf, durationOf } from "../ask.ts";
import { clientOf, connectionOf, isLocal } from "../connect.ts";
import type { CommonOptions } from "../context.ts";
import { EXIT, UsageError, wordsOf } from "../exits.ts";
import { exactGpus, gpusOf } from "../names.ts";
import { planLines } from "../verbs/ask.ts";
import { acquire, type Held } from "./acquire.ts";
import { makeCage, startedIn } from "./cage.ts";
import {
  argumentsFor,
  CannotRun,
  deathSignalPrefix,
  environmentFor,
  programOf,
  refuseBareContainer,
  type Visible,
} from "./command.ts";
import type { FromKeeper, Hold, ToKeeper } from "./link.ts";
import { type Root, rootOf, startTimeOf } from "./processes.ts";
import { Voice } from "./voice.ts";

const DEFAULT_TTL = "2m";
/** Of a lease that ends with its process: no renewal need tell that it is alive. */
const BOUND_TTL = "10m";
const DEFAULT_GRACE = "30s";
/** Two interrupts within this end the command at once. */
const DOUBLE_INTERRUPT_MS = 2_000;
/** From a process that is started to its first word. */
const KEEPER_START_MS = 20_000;
const KEEPER_PAUSE_MS = 500;

export interface RunOptions extends CommonOptions, AskOptions {
  /** commander's `--no-wait` is `false`. */
  readonly wait?: string | boolean;
  readonly dryRun?: boolean;
  readonly visible?: string;
  readonly grace?: string;
  readonly keepRunning?: boolean;
  readonly notifyBefore?: string;
  readonly preemptSignal?: string;
}

/** Never throws: what goes wrong is said, and is the exit code. */
export async function runCommand(command: readonly string[], options: RunOptions): Promise<void> {
  const voice = new Voice(options.quiet === true);
  try {
    process.exitCode = await new Run(command, options, voice).exitCode();
  } catch (error) {
    for (const line of wordsOf(error)) voice.warn(line);
    process.exitCode = error instanceof CannotRun ? error.exitCode : EXIT.ownFailure;
  }
  // The link to the keeper, and calls that were given up, would hold the process.
  process.exit();
}

/** How its command is treated when the lease ends. */
type Terms = Pick<Hold, "graceMs" | "keepRunning" | "preemptSignal" | "notifyBeforeMs">;

class Run {
  readonly #command: readonly string[];
  readonly #options: RunOptions;
  readonly #voice: Voice;
  readonly #giveUp = new AbortController();
  readonly #leads = !hasTerminal();
  #child: ChildProcess | null = null;
  #root: Root | null = null;
  #keeper: ChildProcess | null = null;
  #interruptedAt = Number.NEGATIVE_INFINITY;
  #isOver = false;

  constructor(command: readonly string[], options: RunOptions, voice: Voice) {
    this.#command = command;
    this.#options = options;
    this.#voice = voice;
  }

  async exitCode(): Promise<number> {
    const { visible = "uuid" } = this.#options;
    if (visible !== "uuid" && visible !== "index") throw new UsageError(`--visible ${visible}: expected uuid or index`);
    // Whoever has waited for hours is not to hear then that a flag was wrong.
    const terms = this.#terms();
    const waitMs = this.#waitMs();
    programOf(this.#command[0] ?? "");
    refuseBareContainer(this.#command);
    if (this.#command[0]?.endsWith("vllm") && visible === "uuid") {
      this.#voice.say("vLLM before 0.24 cannot take GPUs by UUID: --visible index gives it their indices");
    }
    const connection = await connectionOf(this.#options, process.env, (words) => this.#voice.warn(`warning: ${words}`));
    const clientWith = (patienceMs: number) => clientOf(connection, patienceMs);
    const named = await exactGpus(this.#options.gpu, clientWith(0));
    const body = { ...this.#body(isLocal(connection.url)), ...named };
    if (this.#options.dryRun === true) {
      const plan = await clientWith(0).plan(body);
      if (this.#options.json === true) console.log(JSON.stringify(plan));
      else for (const line of planLines(plan)) console.log(line);
      return plan.outcome === "refused" ? EXIT.ownFailure : 0;
    }
    this.#listen();
    const held = await acquire(body, DEFAULT_TTL, clientWith, { waitMs, giveUp: this.#giveUp.signal }, this.#voice);
    const { lease } = held;
    this.#voice.clear();
    this.#voice.say(`GPU ${gpusOf(lease)} leased as ${lease.id}`);
    try {
      return await this.#withKeeper(this.#hold(held, connection, terms), held, visible);
    } catch (error) {
      await clientWith(KEEPER_START_MS)
        .remove(lease.id, lease.fencing_token)
        .catch(() => {});
      throw error;
    }
  }

  #body(onThisHost: boolean): AllocateBody {
    const body = askOf(this.#options, this.#command);
    if (!onThisHost) return { ttl: DEFAULT_TTL, ...body };
    // Its descendants are shown as the lease's.
    const workload_data = { ...body.workload_data, pid: process.pid };
    if (body.ttl !== undefined) return { ...body, workload_data };
    // In a container the number may be another process's on the host.
    const bound = { ...workload_data, pid_start_ticks: startTimeOf("self") };
    return { ...body, ttl: BOUND_TTL, bind_pid: true, workload_data: bound };
  }

  #waitMs(): number | "forever" | null {
    const { wait } = this.#options;
    if (wait === false) return null;
    return typeof wait === "string" ? durationOf("--wait", wait).ms : "forever";
  }

  #terms(): Terms {
    const { grace = DEFAULT_GRACE, keepRunning, notifyBefore, preemptSignal, maxDuration } = this.#options;
    if (notifyBefore !== undefined && maxDuration === undefined)
      throw new UsageError(`--notify-before ${notifyBefore}: before which end? give --max-duration`);
    const wantsSignal = preemptSignal !== undefined || notifyBefore !== undefined;
    return {
      graceMs: /^0s?$/.test(grace) ? 0 : durationOf("--grace", grace).ms,
      keepRunning: keepRunning === true,
      preemptSignal: wantsSignal ? signalOf(preemptSignal ?? "SIGUSR1") : null,
      notifyBeforeMs: notifyBefore === undefined ? null : durationOf("--notify-before", notifyBefore).ms,
    };
  }

  #hold({ lease, heldAt }: Held, { url, key }: Pick<Hold, "url" | "key">, terms: Terms): Hold {
    const heldForMs = performance.now() - heldAt;
    const cage = makeCage(lease.id);
    return { url, key, isLocal: isLocal(url), lease, heldForMs, ...terms, cage, pid: process.pid };
  }

  async #withKeeper(hold: Hold, { lease }: Held, visible: Visible): Promise<number> {
    const env = environmentFor(lease, visible);
    await this.#startKeeper(hold);
    if (this.#giveUp.signal.aborted)
      throw new CannotRun(EXIT.signal + numberOf(this.#giveUp.signal.reason), "ended before the command began");
    const [file = "", ...args] = [...deathSignalPrefix(), ...argumentsFor(this.#command, lease)];
    const child = startedIn(hold.cage, () =>
      spawn(file, args, { stdio: "inherit", env: { ...process.env, ...env }, detached: this.#leads }),
    );
    const ended = new Promise<number>((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => resolve(signal === null ? (code ?? 0) : EXIT.signal + numberOf(signal)));
    });
    if (child.pid !== undefined) {
      this.#child = child;
      this.#root = rootOf(child.pid, this.#leads);
      this.#tell({ kind: "started", command: this.#root });
    }
    let code: number;
    try {
      code = await ended;
    } catch (error) {
      const { code: why, message } = error as NodeJS.ErrnoException;
      throw new CannotRun(why === "ENOENT" ? EXIT.notFound : EXIT.cannotRun, message);
    }
    this.#child = null;
    await this.#settled();
    return code;
  }

  /** Until the keeper has ended what was left, and has given the GPUs back. */
  #settled(): Promise<void> {
    this.#isOver = true;
    const keeper = this.#keeper;
    if (keeper === null || !keeper.connected) return Promise.resolve();
    return new Promise((resolve) => {
      keeper.once("exit", () => resolve());
      keeper.on("message", (message: FromKeeper) => message.kind === "done" && resolve());
      this.#tell({ kind: "ended" });
    });
  }

  #startKeeper(hold: Hold): Promise<void> {
    const [program, ...args] = thisProgram();
    const keeper = spawn(program, [...args, "keeper"], {
      cwd: "/",
      detached: true,
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    });
    this.#keeper = keeper;
    const startedAt = performance.now();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new CannotRun(EXIT.ownFailure, "the keeper did not start")),
        KEEPER_START_MS,
      );
      keeper.on("message", (message: FromKeeper) => {
        if (message.kind === "ready") {
          clearTimeout(timer);
          resolve();
        } else if (message.kind === "say") this.#voice.warn(message.words);
      });
      keeper.once("error", reject);
      keeper.once("exit", () => {
        clearTimeout(timer);
        reject(new CannotRun(EXIT.ownFailure, "the keeper ended at its start"));
        this.#replaceKeeper(hold, performance.now() - startedAt);
      });
      this.#tell({ kind: "hold", hold, command: this.#root });
    });
  }

  /** @param livedMs its renewals until then are not known here: the lease counts as held since it was first seen. */
  #replaceKeeper(hold: Hold, livedMs: number): void {
    if (this.#child === null || this.#isOver) return;
    this.#voice.warn("the keeper of the lease was killed; another one takes over");
    const ttlMs = (hold.lease.ttl_seconds ?? 0) * 1_000;
    // At worst the last one had just not renewed: so much is certain, and the first renewal is due at once.
    const heldForMs = Math.min(hold.heldForMs + livedMs, ttlMs / 3);
    const again = () =>
      this.#startKeeper({ ...hold, heldForMs }).catch((error: unknown) => {
        for (const line of wordsOf(error)) this.#voice.warn(line);
      });
    // One that dies at its start would be replaced without a pause.
    setTimeout(again, livedMs < KEEPER_PAUSE_MS ? KEEPER_PAUSE_MS : 0);
  }

  #tell(message: ToKeeper): void {
    if (this.#keeper?.connected) this.#keeper.send(message, () => {});
  }

  /** Signals go to whoever they are meant for: to gpuo while it waits, to the command while it runs (2). */
  #listen(): void {
    for (const signal of ["SIGINT", "SIGQUIT"] as const) process.on(signal, () => this.#fromKeyboard(signal));
    for (const signal of ["SIGTERM", "SIGHUP"] as const) {
      process.on(signal, () => (this.#child === null ? this.#giveUp.abort(signal) : this.#pass(signal)));
    }
    for (const signal of ["SIGUSR1", "SIGUSR2"] as const) process.on(signal, () => this.#pass(signal));
  }

  #fromKeyboard(signal: "SIGINT" | "SIGQUIT"): void {
    if (this.#child === null && !this.#isOver) {
      this.#giveUp.abort(signal);
      return;
    }
    const now = performance.now();
    if (signal === "SIGINT" && now - this.#interruptedAt <= DOUBLE_INTERRUPT_MS) this.#tell({ kind: "kill" });
    this.#interruptedAt = now;
    if (this.#leads) this.#pass(signal);
  }

  #pass(signal: NodeJS.Signals): void {
    const pid = this.#child?.pid;
    if (pid === undefined) return;
    try {
      process.kill(this.#leads ? -pid : pid, signal);
    } catch {
      // It has just ended.
    }
  }
}

function signalOf(text: string): NodeJS.Signals {
  const name = text.toUpperCase().replace(/^(?:SIG)?/, "SIG");
  if (!Object.hasOwn(constants.signals, name)) throw new UsageError(`--preempt-signal ${text}: no such signal`);
  return name as NodeJS.Signals;
}

function numberOf(signal: NodeJS.Signals): number {
  return constants.signals[signal] ?? 0;
}

/** Whether a keyboard can reach gpuo's process group, wherever its output goes. */
function hasTerminal(): boolean {
  try {
    const stat = readFileSync("/proc/self/stat", "latin1");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[4] !== "0";
  } catch {
    return [0, 1, 2].some((fd) => isatty(fd));
  }
}
