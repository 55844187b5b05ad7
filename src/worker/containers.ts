/**
 * The end of a run's container. Its engine keeps it beside the run's own processes: what is left there when these have
 * ended is ended and removed by the engine, before the run is over.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Order } from "./folder.ts";

/** An engine that does not answer is asked again: until it has, the container may live. */
const REMOVE_MS = 60_000;
/**
 * Podman says no the first time when its own watcher of the container was ended with it. One that is not there any more
 * is a no of some engines, too.
 */
const MOST_ANSWERS = 5;

type Contained = Pick<Order, "run" | "env" | "remove">;

export class Removal {
  readonly #order: Contained;
  #asked: ChildProcess | null = null;
  #isDone: boolean;
  #answers = 0;

  constructor(order: Contained) {
    this.#order = order;
    this.#isDone = order.remove === undefined;
  }

  /** Whether nothing of it is left; asks for it the first time. */
  isDone(): boolean {
    if (!this.#isDone && this.#asked === null) this.#ask();
    return this.#isDone;
  }

  #ask(): void {
    const { remove = [], env: whole, run } = this.#order;
    const [program = "", ...args] = remove;
    // With the run's mark in its environment it would be taken for one of its processes.
    const env = Object.fromEntries(Object.entries(whole).filter(([, value]) => value !== run));
    const asked = spawn(program, args, { env, stdio: "ignore", timeout: REMOVE_MS, killSignal: "SIGKILL" });
    this.#asked = asked;
    // It could not even be tried.
    asked.on("error", () => {
      this.#isDone = true;
    });
    asked.on("exit", (code) => {
      if (code !== null) this.#answers++;
      if (code === 0 || this.#answers >= MOST_ANSWERS) this.#isDone = true;
      this.#asked = null;
    });
  }
}
