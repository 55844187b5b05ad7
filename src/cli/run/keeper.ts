/**
 * The keeper: a process in a session of its own, which outlives gpuo by as long as it takes to give the GPUs back.
 *
 *  1. It renews the lease while the command runs, also while gpuo and the command are stopped.
 *  2. When the link to gpuo breaks, or the lease is lost, it ends the command and all that came from it: SIGTERM, and
 *     SIGKILL after the grace. Only then does it release, so that nobody is granted a GPU that is still in use.
 *  3. While it ends what is left of a lease that is still held, it renews on.
 *  4. Signals that are meant for the command do not end it.
 */
import { isPassing, pause } from "../../client/client.ts";
import { ApiProblem, type LeaseLost } from "../../client/errors.ts";
import { Renewal } from "../../client/renewal.ts";
import type { Allocation } from "../../client/types.ts";
import { clientOf } from "../connect.ts";
import { plural, spanText } from "../words.ts";
import { removeCage } from "./cage.ts";
import type { FromKeeper, Hold, ToKeeper } from "./link.ts";
import { endAll, type Family, isThere, killAll, membersOf, type Root, signalAll } from "./processes.ts";

/** How long releasing is tried again while the daemon does not answer. The lease ends by itself after its TTL. */
const RELEASE_PATIENCE_MS = 60_000;
const RELEASE_RETRY_MS = 500;
const WATCH_MS = 2_000;
/** What is kept free before the GPUs are taken back, so that the last SIGKILL is over by then: this, or a quarter. */
const BEFORE_END_MS = 5_000;
const BEFORE_END_PARTS = 4;

export function keep(): void {
  for (const signal of ["SIGINT", "SIGQUIT", "SIGTSTP", "SIGHUP", "SIGUSR1", "SIGUSR2"] as const)
    process.on(signal, () => {});
  let keeper: Keeper | null = null;
  process.on("message", (message: ToKeeper) => {
    if (message.kind === "hold") {
      keeper = new Keeper(message.hold, message.command);
      keeper.start();
    } else if (message.kind === "started") keeper?.commandStarted(message.command);
    else if (message.kind === "kill") keeper?.hurry();
    else void keeper?.finish("ended");
  });
  process.once("disconnect", () => {
    if (keeper === null) process.exit(0);
    void keeper.finish("orphaned");
  });
  process.once("SIGTERM", () => void keeper?.finish("orphaned"));
}

class Keeper {
  readonly #hold: Hold;
  readonly #renewal: Renewal;
  readonly #hurry = new AbortController();
  #family: Family;
  #lost: LeaseLost | null = null;
  #ending: Promise<unknown> | null = null;
  #isFinishing = false;
  /** What there was to say to the command came before the command. */
  #isWarningDue = false;
  #leaveBy: string | null = null;
  #nudgedAt: string | null = null;
  #leaving: NodeJS.Timeout | undefined;

  constructor(hold: Hold, command: Root | null) {
    this.#hold = hold;
    this.#family = {
      allocationId: hold.lease.id,
      root: command,
      spared: [process.pid, hold.pid],
      cage: hold.cage,
    };
    this.#renewal = new Renewal({
      client: clientOf(hold),
      lease: hold.lease,
      heldAt: performance.now() - hold.heldForMs,
      isLocal: hold.isLocal,
      watchMs: WATCH_MS,
      onLost: (lost) => this.#leaseLost(lost),
      onRecord: (record) => {
        this.#readNudge(record);
        this.#heed(record);
      },
      onTrouble: (words) =>
        this.#say(
          words === null
            ? "the daemon answers again"
            : `the lease could not be renewed, and that is tried again: ${words}`,
        ),
    });
  }

  start(): void {
    this.#renewal.start();
    this.#notifyBeforeEnd();
    send({ kind: "ready" });
  }

  commandStarted(root: Root): void {
    this.#family = { ...this.#family, root };
    if (this.#isWarningDue) this.#warnCommand();
  }

  hurry(): void {
    this.#hurry.abort();
    killAll(this.#family, membersOf(this.#family));
  }

  /** The command has ended, or gpuo has: what is left of the lease ends, and the lease with it. */
  async finish(how: "ended" | "orphaned"): Promise<void> {
    if (this.#isFinishing) return;
    this.#isFinishing = true;
    clearTimeout(this.#leaving);
    const left = how === "ended" ? membersOf(this.#family) : [];
    const isKept = this.#hold.keepRunning && this.#lost !== null;
    if (left.length > 0 && !isKept)
      this.#say(`ending ${plural(left.length, "process", "processes")} that it left behind`);
    if (!isKept) await this.#end();
    this.#renewal.stop();
    if (this.#hold.cage !== null) removeCage(this.#hold.cage);
    await this.#release();
    send({ kind: "done" });
    process.exit(0);
  }

  /** Once: who asks again waits for the same end. */
  #end(): Promise<unknown> {
    const leftMs = Math.max(0, this.#renewal.leftMs);
    const graceMs = this.#lost === null ? Math.min(this.#hold.graceMs, leftMs) : this.#hold.graceMs;
    this.#ending ??= endAll(this.#family, graceMs, this.#hurry.signal);
    return this.#ending;
  }

  async #release(): Promise<void> {
    if (this.#lost !== null) return;
    const { id, fencing_token: token } = this.#hold.lease;
    for (const until = performance.now() + RELEASE_PATIENCE_MS; ; ) {
      try {
        await clientOf(this.#hold).remove(id, token);
        return;
      } catch (error) {
        if (error instanceof ApiProblem && error.code === "allocation-ended") return;
        if (!isPassing(error) || performance.now() > until) {
          const words = error instanceof Error ? error.message : String(error);
          this.#say(`${id} could not be released, and ends by itself: ${words}`);
          return;
        }
        await pause(RELEASE_RETRY_MS);
      }
    }
  }

  #leaseLost(lost: LeaseLost): void {
    if (this.#isFinishing) return;
    this.#lost = lost;
    const { keepRunning, graceMs } = this.#hold;
    const what = keepRunning
      ? "the command runs on, without its GPUs being kept for it"
      : `the command has ${spanText(graceMs)} to end`;
    this.#say(`${lost.message}; ${what}`);
    if (!keepRunning) void this.#end();
  }

  /** A lease that is to be taken back leaves in time, after its own kind of warning. */
  #heed({ notice }: Allocation): void {
    if (notice?.leave_by === this.#leaveBy || (notice === undefined && this.#leaveBy === null)) return;
    clearTimeout(this.#leaving);
    this.#leaveBy = notice?.leave_by ?? null;
    if (notice === undefined) {
      this.#say("it may stay after all");
      return;
    }
    const leftMs = Date.parse(notice.leave_by) - Date.now();
    this.#say(`the GPUs must be given back within ${spanText(leftMs)}: ${notice.detail}`);
    this.#warnCommand();
    if (this.#hold.keepRunning) return;
    const termInMs = leftMs - Math.min(BEFORE_END_MS, leftMs / BEFORE_END_PARTS) - this.#hold.graceMs;
    this.#leaving = setTimeout(() => void this.#end(), Math.max(0, termInMs));
  }

  /** A message from somebody who would like the GPUs. */
  #readNudge({ nudge }: Allocation): void {
    if (nudge === undefined || nudge.at === this.#nudgedAt) return;
    this.#nudgedAt = nudge.at;
    this.#say(`${nudge.by} asks: ${nudge.message}`);
  }

  #notifyBeforeEnd(): void {
    const { notifyBeforeMs, lease } = this.#hold;
    if (notifyBeforeMs === null || lease.max_duration_seconds === null || lease.allocated_at === undefined) return;
    const endsAt = Date.parse(lease.allocated_at) + lease.max_duration_seconds * 1_000;
    const inMs = Math.max(0, endsAt - notifyBeforeMs - Date.now());
    setTimeout(() => {
      this.#say(`the lease ends in ${spanText(endsAt - Date.now())}`);
      this.#warnCommand();
    }, inMs).unref();
  }

  #warnCommand(): void {
    const { preemptSignal } = this.#hold;
    const { root } = this.#family;
    if (preemptSignal === null) return;
    if (root === null) this.#isWarningDue = true;
    else if (isThere(root)) signalAll([root.pid], preemptSignal);
  }

  #say(words: string): void {
    send({ kind: "say", words });
  }
}

/** gpuo may be gone. */
function send(message: FromKeeper): void {
  if (process.connected) process.send?.(message, undefined, {}, () => {});
}
