/**
 * Looks back at decisions of a database that is in use. A decision is made again in a thread of its own, since that takes
 * as long as reading some hundred turns: requests are served meanwhile. The thread is started when it is wanted, and ends
 * when it is not.
 */
import { statSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { carried } from "../platform/executable.ts";
import { type Grant, type PastDecision, type PastDecisions, ProgramReplacedError } from "../ports/past-decisions.ts";
import { OverloadedError } from "../ports/refusals.ts";
import type { Found, LookBackInput } from "./store-worker.ts";

/** Beside this module, as a source file, or as the build has made it. */
const ENTRY = new URL(`./store-worker.${import.meta.url.endsWith(".ts") ? "ts" : "cjs"}`, import.meta.url);
/** Questions under way: they are answered one after the other. */
const MAX_ASKED = 16;
const IDLE_MS = 10_000;

interface Asked {
  readonly principal: string;
  readonly resolve: (decision: PastDecision | null) => void;
  readonly reject: (error: unknown) => void;
}

export class LookBack implements PastDecisions {
  readonly #file: string;
  readonly #entry: URL;
  /** Which file that was when the daemon started. */
  readonly #built: string | null;
  /** In the order in which the thread answers. */
  #asked: Asked[] = [];
  #worker: Worker | null = null;
  #idle: NodeJS.Timeout | undefined;

  constructor(file: string, entry = ENTRY) {
    this.#file = file;
    this.#entry = entry;
    this.#built = buildOf(entry);
  }

  async grantOf(grant: Grant, principal: string): Promise<PastDecision | null> {
    const asksAlready = this.#asked.some((one) => one.principal === principal);
    if (asksAlready || this.#asked.length >= MAX_ASKED) throw new OverloadedError();
    clearTimeout(this.#idle);
    this.#worker ??= this.#start();
    const worker = this.#worker;
    return new Promise((resolve, reject) => {
      this.#asked.push({ principal, resolve, reject });
      worker.postMessage(grant);
    });
  }

  #start(): Worker {
    const workerData: LookBackInput = { lookBackIn: this.#file };
    const options = { name: "look-back", workerData };
    const own = carried("store-worker.js");
    const worker =
      own === null ? new Worker(this.#entry, options) : new Worker(own.toString(), { ...options, eval: true });
    // The process does not stay for an answer that nobody may want any more.
    worker.unref();
    let cause: unknown = null;
    worker.on("message", ({ decision }: Found) => {
      this.#asked.shift()?.resolve(decision);
      if (this.#asked.length > 0) return;
      this.#idle = setTimeout(() => this.#end(worker), IDLE_MS);
      this.#idle.unref();
    });
    worker.on("error", (error) => {
      cause = error;
    });
    worker.on("exit", (code) => this.#ended(worker, cause ?? new Error(`the look-back thread ended with ${code}`)));
    return worker;
  }

  #end(worker: Worker): void {
    this.#worker = null;
    void worker.terminate();
  }

  #ended(worker: Worker, cause: unknown): void {
    if (this.#worker !== worker) return;
    this.#worker = null;
    const isReplaced = buildOf(this.#entry) !== this.#built;
    const error = isReplaced ? new ProgramReplacedError("the program was replaced", { cause }) : cause;
    for (const { reject } of this.#asked) reject(error);
    this.#asked = [];
  }
}

/** `null`: there is no such file; the executable carries it, and is in use as long as it runs. */
function buildOf(entry: URL): string | null {
  const stat = statSync(entry, { throwIfNoEntry: false });
  return stat === undefined ? null : `${stat.ino} ${stat.mtimeMs}`;
}
