/**
 * A node that a controller gives work to. What it has taken is in its own books, as tasks that are tried once; its own
 * daemon leases for them, and its own worker runs them.
 *
 *  1. It obeys one controller: the first that it hears, until `controller.json` in its folder is removed and what it has
 *     of that one is over.
 *  2. What it has heard last is written down with the time at which that heartbeat was sent: holders of runs that may
 *     start elsewhere go by it, whether this process lives or not.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Message } from "../../broker/messages.ts";
import { Streams } from "../../broker/streams.ts";
import { readUptimeMark, uptimeMark, uptimeMs } from "../../platform/uptime.ts";
import { refusalOf } from "../../work/argv.ts";
import { WorkError } from "../../work/errors.ts";
import type { ExecutorSettings } from "../../work/executor-settings.ts";
import type { RunSeen, Task } from "../../work/model.ts";
import { chooseNode } from "../../work/node-choice.ts";
import { assignedTask, isSuperseded, reportTo } from "../../work/nodes.ts";
import { isOver, openTasksOf } from "../../work/state.ts";
import type { Books } from "../books.ts";
import type { Leases } from "../leases.ts";
import type { Log } from "../look.ts";
import { resultFile } from "../output.ts";
import {
  type Assign,
  commandsTo,
  EVENTS_STREAM,
  heartbeatOf,
  MAX_RESULT_BYTES,
  type NodeReport,
  type Stop,
  type Sync,
} from "./words.ts";

/** News go out together. */
const SOON_MS = 20;
const MAX_UNANSWERED = 1_000;

export interface MemberSettings {
  readonly url: string;
  readonly secret: Buffer;
  readonly node: string;
  /** Where the worker and its holders look: `work.dir`. */
  readonly dir: string;
  readonly resultsDir: string;
  readonly nodeUrl: string | null;
  readonly ttlMs: number;
  readonly intervalMs: number;
  readonly executors: Readonly<Record<string, ExecutorSettings>>;
  readonly maxTasks: number;
}

export class Member {
  readonly #books: Books;
  readonly #leases: Leases;
  readonly #settings: MemberSettings;
  readonly #log: Log;
  readonly #streams: Streams;
  readonly #leave: () => void;
  readonly #instance = Date.now();
  /** When each heartbeat that was not answered yet was sent, by the host's uptime. */
  readonly #sent = new Map<number, number>();
  readonly #finished = new Set<string>();
  #seq = 0;
  #answered = 0;
  #controller: string | null;
  #lastRuns = "";
  #hasSpoken = false;
  #beating: NodeJS.Timeout | null = null;
  #soon: NodeJS.Timeout | null = null;
  #isStopped = false;

  /** @throws Error when it cannot be read whom it obeys. */
  constructor(books: Books, leases: Leases, settings: MemberSettings, log: Log) {
    this.#books = books;
    this.#leases = leases;
    this.#settings = settings;
    this.#log = log;
    mkdirSync(settings.dir, { recursive: true });
    this.#controller = this.#kept() ?? this.#worksFor();
    const { url, secret, node } = settings;
    this.#streams = new Streams(
      { url, secret, stream: commandsTo(node), group: "node", log },
      { take: (message) => this.#take(message), restored: () => this.#report("hello") },
    );
    this.#leave = books.onChange(() => this.#news());
  }

  get up(): boolean {
    return this.#streams.up;
  }

  start(): void {
    this.#streams.start();
    this.#beating = setInterval(() => this.#report("offer"), this.#settings.intervalMs);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#leave();
    if (this.#beating !== null) clearInterval(this.#beating);
    if (this.#soon !== null) clearTimeout(this.#soon);
    await this.#streams.stop();
  }

  // --- what it says ---

  #news(): void {
    if (this.#isStopped) return;
    this.#soon ??= setTimeout(() => {
      this.#soon = null;
      if (!this.#hasSpoken) this.#report("hello");
      else if (JSON.stringify(this.#runs()) !== this.#lastRuns) this.#report("state");
      this.#tellFinished();
    }, SOON_MS);
  }

  #runs(): RunSeen[] | null {
    return this.#controller === null ? null : reportTo(this.#books.state, this.#controller);
  }

  #report(type: "hello" | "offer" | "state" | "accepted"): void {
    if (this.#isStopped) return;
    const { node, nodeUrl, ttlMs } = this.#settings;
    const worker = [...this.#books.state.workers.values()].find(({ link }) => link === undefined);
    // Without a worker nothing can be run here: it says so by saying nothing.
    if (worker === undefined) return;
    const runs = this.#runs();
    this.#lastRuns = JSON.stringify(runs);
    this.#hasSpoken = true;
    const seq = ++this.#seq;
    this.#sent.set(seq, uptimeMs());
    if (this.#sent.size > MAX_UNANSWERED) this.#sent.delete(this.#sent.keys().next().value as number);
    const { instance: _i, lastSeen: _l, ...facts } = worker;
    const body: NodeReport = {
      instance: this.#instance,
      seq,
      controller: this.#controller,
      facts: { ...facts, node, freeGpus: this.#leases.freeGpus() },
      gpus: this.#leases.gpus(),
      url: nodeUrl,
      runs,
    };
    void this.#send(type, "", 0, body);
    void this.#streams.call(["SET", heartbeatOf(node), new Date().toISOString(), "PX", String(ttlMs)]);
  }

  #send(type: Message["type"], assignment: string, epoch: number, body: unknown): Promise<boolean> {
    const id = `${this.#instance}-${++this.#seq}`;
    return this.#streams.send(EVENTS_STREAM, { id, type, node: this.#settings.node, assignment, epoch, body });
  }

  /** Results go once by themselves, and again when they are asked for. */
  #tellFinished(): void {
    for (const task of this.#assigned()) {
      const { origin } = task;
      if (origin.kind !== "task" || this.#finished.has(origin.run)) continue;
      const run = this.#books.state.runs.get(origin.run);
      if (run?.phase === "ended" && run.publish !== "wanted") void this.#finish(origin.run);
    }
  }

  async #finish(run: string): Promise<void> {
    const task = this.#books.state.tasks.get(run);
    if (task?.origin === undefined) return;
    this.#finished.add(run);
    const text = await resultFile(this.#settings.resultsDir, run, "responses.json").then(String, () => null);
    const result = text !== null && text.length <= MAX_RESULT_BYTES ? text : null;
    await this.#send("finished", run, task.origin.epoch, { result });
  }

  #assigned() {
    return [...this.#books.state.tasks.values()].filter(
      (task): task is Task & { readonly origin: NonNullable<Task["origin"]> } =>
        task.origin !== undefined && task.origin.controller === this.#controller && !task.origin.settled,
    );
  }

  // --- what it hears ---

  #take(message: Message): void {
    if (message.node !== this.#settings.node) return;
    const body = message.body as { readonly controller: string };
    if (!this.#obeys(body.controller)) return;
    if (message.type === "assign") this.#accept(message.body as Assign);
    else if (message.type === "stop") this.#stopRun((message.body as Stop).order);
    else if (message.type === "recall") this.#recall(message.assignment);
    else if (message.type === "sync") this.#sync(message.body as Sync);
  }

  #accept({ controller, name, assignment }: Assign): void {
    const { state } = this.#books;
    const { run, epoch, kind, spec } = assignment;
    if (state.tasks.get(run) !== undefined || isSuperseded(state, assignment)) return;
    // It may have lain there until its controller has given it up. If not, it comes again after the next heartbeat.
    if (!this.#hasHeardWithin(assignment.fenceMs ?? null)) return;
    const refusal = refusalOf(kind, spec, this.#settings.executors);
    const own = [...state.workers.values()].filter(({ link }) => link === undefined);
    const offers = own.map((worker) => ({ worker, freeGpus: null }));
    const choice = chooseNode(spec, offers, this.#books.now());
    const why = refusal?.message ?? (choice.node === null ? choice.reason : null);
    const task = assignedTask(controller, name, assignment, this.#books.now());
    if (why !== null) {
      this.#decline(task, epoch, why, refusal !== null);
      return;
    }
    try {
      this.#books.command({ type: "submit-task", task, maxTasks: this.#settings.maxTasks });
      this.#report("accepted");
    } catch (error) {
      // A full disk is no answer: the message stays, and is read again.
      if (!(error instanceof WorkError) || error.code !== "work-full") throw error;
      this.#decline(task, epoch, error.message, false);
    }
  }

  /** It is kept as a task that is over, so that a copy of the message finds no room either. */
  #decline(task: Task, epoch: number, why: string, forGood: boolean): void {
    void this.#send("declined", task.id, epoch, { why, forGood });
    const over = { ...task, cancelling: true };
    this.#books.command({ type: "submit-task", task: over, maxTasks: Number.MAX_SAFE_INTEGER });
  }

  #hasHeardWithin(fenceMs: number | null): boolean {
    if (fenceMs === null) return true;
    const heardAt = readUptimeMark(this.#heardFile);
    return heardAt !== null && uptimeMs() - heardAt < fenceMs;
  }

  #stopRun({ run: id, epoch }: Stop["order"]): void {
    const task = this.#books.state.tasks.get(id);
    // It never came here: whoever waits for its end is told.
    if (task === undefined) void this.#send("declined", id, epoch, { why: "it never came here", forGood: false });
    else if (task.origin !== undefined) this.#cancel(task);
  }

  #cancel(task: Task): void {
    if (!isOver(task) && !task.cancelling) this.#books.command({ type: "cancel-task", id: task.id });
  }

  /** Another node could start it now: it is given back, if it has not begun. */
  #recall(id: string): void {
    const task = this.#books.state.tasks.get(id);
    if (task?.origin !== undefined && this.#books.state.runs.get(id)?.phase === "waiting") this.#cancel(task);
  }

  #sync({ instance, answers, stop, settled, deliver }: Sync): void {
    if (instance === this.#instance && answers > this.#answered) this.#heard(answers);
    for (const order of stop) this.#stopRun(order);
    for (const run of deliver) {
      const found = this.#books.state.runs.get(run);
      if (found?.phase === "ended" && found.publish !== "wanted") void this.#finish(run);
    }
    for (const id of settled) {
      if (this.#books.state.tasks.get(id)?.origin?.settled === false) {
        this.#books.command({ type: "settle-origin", id });
      }
    }
  }

  #heard(answers: number): void {
    this.#answered = answers;
    const sentAt = this.#sent.get(answers);
    for (const seq of this.#sent.keys()) if (seq <= answers) this.#sent.delete(seq);
    if (sentAt === undefined) return;
    writeWhole(this.#heardFile, uptimeMark(sentAt));
  }

  get #heardFile(): string {
    return join(this.#settings.dir, "heard.json");
  }

  #obeys(controller: string): boolean {
    if (this.#controller === null) {
      writeWhole(this.#file, JSON.stringify({ controller }));
      this.#controller = controller;
      this.#log.info({ controller }, "this node obeys a controller from now on");
    }
    if (this.#controller === controller) return true;
    const facts = { controller, obeyed: this.#controller, file: this.#file };
    this.#log.error(facts, "another controller commands this node, and is not obeyed");
    return false;
  }

  get #file(): string {
    return join(this.#settings.dir, "controller.json");
  }

  #kept(): string | null {
    try {
      const { controller } = JSON.parse(readFileSync(this.#file, "utf8")) as { readonly controller: unknown };
      if (typeof controller === "string") return controller;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw new Error(`${this.#file}: ${(error as Error).message}`);
    }
    throw new Error(`${this.#file}: expected {"controller": NAME}`);
  }

  /** The controller of work that is not over: its deadlines here go by what is heard of it, and of nobody else. */
  #worksFor(): string | null {
    const tasks = openTasksOf(this.#books.state);
    return tasks.find(({ origin }) => origin !== undefined)?.origin?.controller ?? null;
  }
}

/** Read by others at any time. */
function writeWhole(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o644, flush: true });
  renameSync(`${path}.new`, path);
}
