/**
 * Which of several controllers of one host took over last, as the daemon that all of them work for knows it.
 *
 * One that was alone goes on deciding while its database is away (store/lock.ts). Another one that reaches the database has
 * the lock then. Both reach the daemon, so that is where the first learns of the second: a workload without replicas bears
 * the name of who decides.
 *
 *  1. Only who has the database's lock in a session that lives writes its name there, before it decides anything.
 *  2. Where another one's name stood, it waits until that one must have looked, or stopped, and ended what was under way. That
 *     holds too where the answer to its mark was lost, and it finds its name there at the next look.
 *  3. Who is cut off from the database decides only shortly after a look at which nobody else had taken over. It finds another's
 *     name, or that one has been there and gone, and rests until the database says that it decides.
 *  4. A daemon that refuses the mark, or has no room for it, keeps nobody from deciding: that is told, once, and asked again
 *     now and then. One that cannot write now can carry out no decision either.
 */
import { createHash } from "node:crypto";
import { ApiProblem } from "../../client/errors.ts";
import type { WorkClient, WorkloadRecord } from "../../client/work.ts";
import { LABEL } from "../objects/meta.ts";
import { isRefusal } from "./refusal.ts";

/** {@link ALONE_MS}, and the calls that were begun before. */
const SETTLE_MS = 5_000;
/** How long one that is cut off decides by its last look. There is one each second. */
const ALONE_MS = 3_000;
const ASK_AGAIN_MS = 60_000;

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
  /** When its latest look began. */
  #lookedAt = Number.NEGATIVE_INFINITY;
  /** Another one's name stood where its own is written. */
  #mustSettle = false;
  /** `null`: the daemon keeps the mark. */
  #refusedAt: number | null = null;
  #hasWarned = false;

  constructor(work: WorkClient, parts: FenceParts) {
    this.#work = work;
    this.#parts = parts;
    this.#id = `controller-${createHash("sha256").update(parts.shared).digest("hex").slice(0, 8)}`;
  }

  get decides(): boolean {
    const { lock, steadyMs } = this.#parts;
    const now = steadyMs();
    if (this.#mayFrom === null || now < this.#mayFrom) return false;
    const state = lock();
    return state === "held" || (state === "alone" && now - this.#lookedAt <= ALONE_MS);
  }

  /**
   * With each look at what runs.
   *
   * @param askedAt when `records` were asked for.
   * @throws Unreachable where the daemon does not answer.
   */
  async look(records: readonly WorkloadRecord[], askedAt: number): Promise<void> {
    const { self, lock } = this.#parts;
    const mark = records.find(({ id }) => id === this.#id);
    const name = mark?.labels[LABEL.decides];
    const state = lock();
    this.#lookedAt = askedAt;
    if (state === "held") await this.#take(mark !== undefined, name ?? "");
    else if (state === "none" || (name !== undefined && name !== self)) this.#rest(state);
  }

  async #take(isThere: boolean, name: string): Promise<void> {
    const { self, steadyMs } = this.#parts;
    if (name !== self) {
      const isRefused = this.#refusedAt !== null;
      if (isRefused && steadyMs() - (this.#refusedAt as number) < ASK_AGAIN_MS) return;
      if (name !== "" && !isRefused) {
        this.#mustSettle = true;
        this.#mayFrom = null;
      }
      if ((await this.#write(isThere, self)) === "failed") return;
    }
    this.#mayFrom ??= steadyMs() + (this.#mustSettle ? SETTLE_MS : 0);
    this.#mustSettle = false;
  }

  #rest(state: LockState): void {
    if (this.#mayFrom === null) return;
    this.#mayFrom = null;
    if (state === "none") return;
    const { lost, log } = this.#parts;
    log.warn({}, "another controller of this host has taken over: this one rests until it reaches the database");
    lost();
  }

  /** It decides no more, and whoever is next need not wait. */
  async release(): Promise<void> {
    if (this.#parts.lock() === "held" && this.#mayFrom !== null) await this.#write(true, "");
    this.#mayFrom = null;
  }

  async #write(isThere: boolean, name: string): Promise<"kept" | "refused" | "failed"> {
    const { executor, self, steadyMs } = this.#parts;
    const labels = { [LABEL.decides]: name };
    const document = { id: this.#id, name: this.#id, executor, replicas: 0, resources: { gpu: 0 }, labels };
    try {
      if (isThere) await this.#work.label(this.#id, labels);
      else await this.#work.createWorkload(JSON.stringify(document), `${this.#id}-${self}-${Date.now()}`);
      this.#refusedAt = null;
      this.#hasWarned = false;
      return "kept";
    } catch (error) {
      if (!(error instanceof ApiProblem)) throw error;
      this.#warn(error.message);
      if (!isFinal(error)) return "failed";
      this.#refusedAt = steadyMs();
      return "refused";
    }
  }

  #warn(trouble: string): void {
    if (!this.#hasWarned) this.#parts.log.warn({ trouble }, "the daemon does not keep which controller decides");
    this.#hasWarned = true;
  }
}

/** Whether the mark will not be taken soon: not where it came there, or went, between the look and the call. */
function isFinal(problem: ApiProblem): boolean {
  if (problem.status === 404 || problem.status === 409) return false;
  return isRefusal(problem) || problem.code === "work-full";
}
