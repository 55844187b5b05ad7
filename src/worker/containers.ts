/**
 * The end of a run's container. Its engine keeps it beside the run's own processes: what is left there when these have
 * ended is ended and removed by the engine, before the run is over.
 */
import { spawn } from "node:child_process";
import type { Order } from "./folder.ts";

/** An engine that does not answer is asked again: until it has, the container may live. */
const REMOVE_MS = 60_000;
/** Podman says no the first time when its own watcher of the container was ended with it. Doubled up to the longest. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30_000;
/** What it says is all read by then. */
const SAYS_MS = 1_000;
const MAX_SAID = 4_096;
/** From `setpriv`: it could not be executed, or is not there. */
const CANNOT_BE_RUN: ReadonlySet<number | null> = new Set([126, 127]);

type Contained = Pick<Order, "run" | "env" | "remove">;

export class Removal {
  readonly #order: Contained;
  #isAsked = false;
  #isDone: boolean;
  #refusals = 0;
  #notBefore = 0;

  constructor(order: Contained) {
    this.#order = order;
    this.#isDone = order.remove === undefined;
  }

  /** How often in a row its engine has said no, or nothing in time. */
  get refusals(): number {
    return this.#refusals;
  }

  /** Whether nothing of it is left; asks for it, again after a pause while the engine does not say so. */
  isDone(): boolean {
    if (!this.#isDone && !this.#isAsked && performance.now() >= this.#notBefore) this.#ask();
    return this.#isDone;
  }

  #ask(): void {
    const { remove = [], env: whole, run } = this.#order;
    const [program = "", ...args] = remove;
    // With the run's mark in its environment it would be taken for one of its processes.
    const env = Object.fromEntries(Object.entries(whole).filter(([, value]) => value !== run));
    this.#isAsked = true;
    const stdio: ["ignore", "ignore", "pipe"] = ["ignore", "ignore", "pipe"];
    const asked = spawn(program, args, { env, stdio, timeout: REMOVE_MS, killSignal: "SIGKILL" });
    let said = "";
    asked.stderr.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-MAX_SAID);
    });
    let isAnswered = false;
    const answer = (isGone: boolean) => {
      if (isAnswered) return;
      isAnswered = true;
      asked.stderr.destroy();
      this.#answered(isGone);
    };
    // Without an engine there is no container either.
    asked.on("error", ({ code }: NodeJS.ErrnoException) => answer(code === "ENOENT" || code === "EACCES"));
    const judged = () => answer(CANNOT_BE_RUN.has(asked.exitCode) || asked.exitCode === 0 || isUnknown(said));
    asked.on("close", judged);
    asked.on("exit", () => void setTimeout(judged, SAYS_MS).unref());
  }

  #answered(isGone: boolean): void {
    this.#isAsked = false;
    this.#isDone = isGone;
    if (isGone) return;
    this.#notBefore = performance.now() + Math.min(FIRST_PAUSE_MS * 2 ** this.#refusals, LONGEST_PAUSE_MS);
    this.#refusals++;
  }
}

/** Engines have one number for this and for all else that may be wrong; the words are Docker's and Podman's. */
function isUnknown(said: string): boolean {
  return /no such container/i.test(said);
}
