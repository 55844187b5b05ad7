/**
 * MLOC's workers in the books: each is a node that takes one inference task at a time.
 *
 *  1. A task is published at most once: it is marked as handed out before, and whatever becomes of it then is not tried
 *     again.
 *  2. How it went says the file that the worker leaves, `RESULTS_DIR/<task>/responses.json`; without a readable one
 *     nobody knows.
 */
import { Mloc, type MlocWorker } from "../../broker/mloc.ts";
import type { JsonObject } from "../../core/base/json.ts";
import { isObject } from "../../work/documents/shape.ts";
import { isOnNode } from "../../work/evolve.ts";
import type { Run, RunOnNode, RunSeen, Task, WorkerFacts } from "../../work/model.ts";
import { topicOf } from "../../work/node-choice.ts";
import { openRunsOf } from "../../work/state.ts";
import type { Books } from "../books.ts";
import type { Log } from "../look.ts";
import { resultFile } from "../output.ts";

/** The file of a worker on another host may come a moment after its word. */
const FILE_MS = 5_000;
/** A worker that has nothing new is told to the books this often. */
const REPEAT_MS = 20_000;

/** More than any host has: whoever writes to that Redis tells of workers. */
const MAX_GPUS = 256;

interface MlocSettings {
  readonly url: string;
  /** The executors of the settings that are of this type. */
  readonly executors: readonly string[];
  readonly resultsDir: string;
}

export class MlocNodes {
  readonly #books: Books;
  readonly #settings: MlocSettings;
  readonly #log: Log;
  readonly #mloc: Mloc;
  readonly #leave: () => void;
  readonly #told = new Map<string, { readonly text: string; readonly at: number }>();
  readonly #missingSince = new Map<string, number>();
  #seq: number;
  #busy = false;
  #isStopped = false;

  constructor(books: Books, settings: MlocSettings, log: Log) {
    this.#books = books;
    this.#settings = settings;
    this.#log = log;
    // Beyond that of an earlier process, though the clock was set back since.
    const seqs = [...books.state.workers.values()].map(({ link }) => (link?.kind === "mloc" ? link.seq : 0));
    this.#seq = Math.max(Date.now(), ...seqs);
    this.#mloc = new Mloc(settings.url, log, (workers) => void this.#seen(workers));
    this.#leave = books.onChange(() => queueMicrotask(() => this.#dispatch()));
  }

  get up(): boolean {
    return this.#mloc.up;
  }

  start(): void {
    this.#mloc.start();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#leave();
    await this.#mloc.stop();
  }

  removeStale(): Promise<number> {
    return this.#mloc.removeStale();
  }

  /** One look at a time: reading results takes a while. */
  async #seen(workers: readonly MlocWorker[]): Promise<void> {
    if (this.#busy || this.#isStopped) return;
    this.#busy = true;
    try {
      for (const worker of workers) await this.#take(worker);
      const here = new Set(workers.map(({ id }) => id));
      for (const { node, link } of [...this.#books.state.workers.values()]) {
        if (link?.kind === "mloc" && !here.has(node)) await this.#gone(node);
      }
    } catch (error) {
      this.#log.error({ err: error }, "what MLOC's workers say could not be taken");
    } finally {
      this.#busy = false;
    }
  }

  /** What cannot be taken of one keeps nobody from hearing of the others. */
  async #take(worker: MlocWorker): Promise<void> {
    try {
      await this.#report(worker);
    } catch (error) {
      this.#log.error({ err: error, worker: worker.id }, "what one of MLOC's workers says could not be taken");
    }
  }

  async #report(worker: MlocWorker): Promise<void> {
    const known = this.#books.state.workers.get(worker.id);
    if (known !== undefined && known.link?.kind !== "mloc") return;
    const runs = await Promise.all(this.#runsOn(worker.id).map((run) => this.#runSeen(run, worker)));
    const facts = this.#factsOf(worker);
    const text = JSON.stringify([facts, runs]);
    const now = this.#books.now();
    const told = this.#told.get(worker.id);
    // One that is stale is not told again: to the books it would seem to have been heard of.
    if (told?.text === text && (worker.isStale || now - told.at < REPEAT_MS)) return;
    this.#told.set(worker.id, { text, at: now });
    const link = { ...(facts.link as NonNullable<WorkerFacts["link"]>), seq: ++this.#seq };
    this.#books.command({ type: "worker-reports", worker: { ...facts, link }, runs });
  }

  /** It has left, or was forgotten. */
  async #gone(node: string): Promise<void> {
    for (const run of this.#runsOn(node)) await this.#end(run, "its worker has gone");
    this.#books.command({ type: "remove-worker", node });
    this.#told.delete(node);
  }

  #runsOn(node: string): Run[] {
    return openRunsOf(this.#books.state).filter((run) => run.phase !== "waiting" && run.node === node);
  }

  #factsOf(worker: MlocWorker): WorkerFacts {
    const hardware = objectIn(worker.hardware);
    const told = objectIn(hardware.gpu).gpus;
    const gpus = Array.isArray(told) ? told.slice(0, MAX_GPUS).filter(isObject) : [];
    const startedAt = Date.parse(worker.startedAt ?? "") || 0;
    const isIdle = worker.status === "IDLE" && !worker.isStale;
    return {
      node: worker.id,
      // Its clock may be another than ours, and its process is told by nothing else: see #runSeen.
      instance: 0,
      pid: worker.pid ?? 0,
      startedAt,
      bootId: "",
      executors: this.#settings.executors,
      topics: [],
      tags: worker.tags,
      labels: {},
      cage: "none",
      endsSurely: false,
      hardware,
      freeGpus: isIdle ? gpus.length : 0,
      link: {
        kind: "mloc",
        seq: 0,
        gpus,
        url: null,
        ttlMs: 120_000,
        intervalMs: REPEAT_MS,
        isIdle,
        isStale: worker.isStale,
      },
    };
  }

  async #runSeen(run: Run, worker: MlocWorker): Promise<RunSeen> {
    const seen = { run: run.id, port: null, ended: null, published: false };
    if (!isOnNode(run)) return { ...seen, phase: "ended", startedAt: null, published: true };
    const task = run.job.uid;
    const startedAt = run.startedAt ?? (worker.began === task || worker.ended === task ? this.#books.now() : null);
    const hasRestarted = run.startedAt !== null && worker.status === "IDLE" && worker.ended !== task;
    if (worker.ended === task) return this.#ended(run, startedAt, "its worker has left no readable result", seen);
    if (worker.isStale) return this.#ended(run, startedAt, "its worker is not heard of", seen);
    if (hasRestarted) return this.#ended(run, startedAt, "its worker has begun anew", seen);
    if (startedAt === null && this.#isLate(run)) {
      return this.#ended(run, this.#books.now(), "its worker did not say that it began", seen);
    }
    return { ...seen, phase: startedAt === null ? "starting" : "running", startedAt };
  }

  #isLate(run: RunOnNode): boolean {
    const task = this.#books.state.tasks.get(run.job.uid);
    return this.#books.now() - run.handedOutAt >= (task?.spec.startTimeoutMs ?? 0);
  }

  async #ended(
    run: RunOnNode,
    startedAt: number | null,
    detail: string,
    seen: Omit<RunSeen, "phase" | "startedAt">,
  ): Promise<RunSeen> {
    const ok = await this.#resultOf(run.job.uid);
    const now = this.#books.now();
    const since = this.#missingSince.get(run.id) ?? now;
    this.#missingSince.set(run.id, since);
    if (ok === null && now - since < FILE_MS) return { ...seen, phase: "running", startedAt: startedAt ?? now };
    this.#missingSince.delete(run.id);
    const how = ok === null ? ({ reason: "outcome-unknown", detail } as const) : { reason: null, detail: "" };
    const ended = { at: now, ...how, exitCode: ok === null ? null : 0, signal: null, resultOk: ok, tail: [] };
    return { ...seen, phase: "ended", startedAt: startedAt ?? now, ended };
  }

  async #end(run: Run, detail: string): Promise<void> {
    const node = run.phase === "waiting" ? null : run.node;
    const worker = node === null ? undefined : this.#books.state.workers.get(node);
    if (worker === undefined) return;
    const { lastSeen: _, ...facts } = worker;
    const nothing = { run: run.id, port: null, ended: null, published: true };
    const seen = isOnNode(run)
      ? await this.#ended(run, run.startedAt, detail, nothing)
      : ({ ...nothing, phase: "ended", startedAt: null } as const);
    const link = { ...(facts.link as NonNullable<WorkerFacts["link"]>), seq: ++this.#seq };
    this.#books.command({ type: "worker-reports", worker: { ...facts, link }, runs: [seen] });
  }

  /** @returns whether it says that it is well; `null`: there is none, or nobody can read it. */
  async #resultOf(task: string): Promise<boolean | null> {
    try {
      const value: unknown = JSON.parse(
        (await resultFile(this.#settings.resultsDir, task, "responses.json")).toString(),
      );
      if (typeof value !== "object" || value === null) return null;
      return !("ok" in value) || value.ok !== false;
    } catch {
      return null;
    }
  }

  #dispatch(): void {
    if (this.#isStopped || !this.#mloc.up) return;
    for (const run of openRunsOf(this.#books.state)) {
      if (run.phase !== "assigned") continue;
      const worker = this.#books.state.workers.get(run.node);
      const task = this.#books.state.tasks.get(run.job.uid);
      if (worker?.link?.kind !== "mloc" || task === undefined) continue;
      this.#books.command({ type: "hand-out", node: worker.node, instance: worker.instance });
      void this.#publish(run.id, worker.node, task);
    }
  }

  async #publish(run: string, worker: string, task: Task): Promise<void> {
    const message = {
      task_id: task.id,
      task: task.spec.document,
      assigned_worker: worker,
      dispatched_at: new Date().toISOString(),
    };
    try {
      const heard = await this.#mloc.publish(topicOf(task.spec.taskType), worker, message);
      // Then nobody can have begun it.
      if (heard === null || heard === 0) {
        const why = "nobody listens to its topic";
        this.#books.command({ type: "run-declined", run, why, forGood: false });
      }
    } catch (error) {
      this.#log.warn({ err: error, run }, "whether a task was published is not known: its worker will say");
    }
  }
}

function objectIn(value: unknown): JsonObject {
  return isObject(value) ? value : {};
}
