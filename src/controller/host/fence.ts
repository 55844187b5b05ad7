/**
 * Which of several controllers of one host took over last, as the daemon that all of them work for knows it.
 *
 * One that was alone goes on deciding while its database is away (store/lock.ts). Another one that reaches the database has
 * the lock then. Both reach the daemon, so that is where the first learns of the second: a workload without replicas bears
 * the name of who decides.
 *
 *  1. Only who has the database's lock in a session that lives writes its name there, before it decides anything.
 *  2. Where another one's name stood, it waits until that one has looked and ended what was under way.
 *  3. Who is cut off from the database and finds another's name rests, until the database says that it decides.
 *  4. A daemon that refuses the mark keeps nobody from deciding: that is told, once.
 */
import { createHash } from "node:crypto";
import { ApiProblem } from "../../client/errors.ts";
import type { WorkClient, WorkloadRecord } from "../../client/work.ts";
import { LABEL } from "../objects/meta.ts";
import { isRefusal } from "./refusal.ts";

/** A look each second, and the calls that one pass has begun. */
const SETTLE_MS = 5_000;
/** Before a daemon that has refused the mark is asked again. */
const REFUSED_MS = 60_000;

/** `alone`: it cannot be asked, and there was nobody else when it could. */
export type LockState = "held" | "alone" | "none";

export interface FenceParts {
  /** Of the database and schema that they share. */
  readonly shared: string;
  /** Of this process and no other. */
  readonly self: string;
  readonly executor: string;
  readonly lock: () => LockState;
  /** Another one has taken over. */
  readonly lost: () => void;
  /** Does not jump when the clock is set. */
  readonly steadyMs: () => number;
  readonly log: { warn(facts: object, message: string): void };
}

export class Fence {
  readonly #work: WorkClient;
  readonly #parts: FenceParts;
  readonly #id: string;
  /** From then on it may decide; `null`: its name does not stand there. */
  #mayFrom: number | null = null;
  /** When the daemon refused the mark last; `null`: it has it, or was not asked. */
  #refusedAt: number | null = null;

  constructor(work: WorkClient, parts: FenceParts) {
    this.#work = work;
    this.#parts = parts;
    this.#id = `controller-${createHash("sha256").update(parts.shared).digest("hex").slice(0, 8)}`;
  }

  get decides(): boolean {
    const { lock, steadyMs } = this.#parts;
    return lock() !== "none" && this.#mayFrom !== null && steadyMs() >= this.#mayFrom;
  }

  /** Before each look at what runs. @throws ApiProblem, Unreachable where the daemon does not answer. */
  async look(records: readonly WorkloadRecord[]): Promise<void> {
    const { self, lock, lost, steadyMs, log } = this.#parts;
    const mark = records.find(({ id }) => id === this.#id);
    const name = mark?.labels[LABEL.decides] ?? "";
    const state = lock();
    if (state === "held" && name !== self) {
      const before = this.#mayFrom;
      this.#mayFrom = null;
      const isKept = await this.#write(mark !== undefined, self);
      const settled = steadyMs() + (name === "" ? 0 : SETTLE_MS);
      this.#mayFrom = isKept ? settled : (before ?? settled);
    } else if (state === "held") this.#mayFrom ??= steadyMs();
    else if (this.#mayFrom !== null && (state === "none" || (name !== self && name !== ""))) {
      this.#mayFrom = null;
      if (state === "none") return;
      log.warn({}, "another controller of this host has taken over: this one rests until it reaches the database");
      lost();
    }
  }

  /** It decides no more, and whoever is next need not wait. */
  async release(): Promise<void> {
    if (this.#parts.lock() === "held" && this.#mayFrom !== null) await this.#write(true, "");
    this.#mayFrom = null;
  }

  /** @returns whether the daemon took it. */
  async #write(isThere: boolean, name: string): Promise<boolean> {
    const labels = { [LABEL.decides]: name };
    const { executor, self, steadyMs, log } = this.#parts;
    if (this.#refusedAt !== null && steadyMs() - this.#refusedAt < REFUSED_MS) return false;
    const document = { id: this.#id, name: this.#id, executor, replicas: 0, resources: { gpu: 0 }, labels };
    try {
      if (isThere) await this.#work.label(this.#id, labels);
      else await this.#work.createWorkload(JSON.stringify(document), `${this.#id}-${self}-${Date.now()}`);
      this.#refusedAt = null;
      return true;
    } catch (error) {
      // One that has no room for it keeps nobody from making some.
      if (!(error instanceof ApiProblem && (isRefusal(error) || error.code === "work-full"))) throw error;
      const { message: trouble } = error;
      if (this.#refusedAt === null) log.warn({ trouble }, "the daemon does not keep which controller decides");
      this.#refusedAt = steadyMs();
      return false;
    }
  }
}
