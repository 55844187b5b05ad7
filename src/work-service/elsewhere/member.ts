/**
 * A node that a controller gives work to. What it has taken is in its own books, as tasks that are tried once; its own
 * daemon leases for them, and its own worker runs them.
 *
 *  1. It obeys one controller: the first that it hears, until `controller.json` in its folder is removed and what it has
 *     of that one is over.
 *  2. What it has heard last is written down with the time at which that heartbeat was sent: holders of runs that may
 *     start elsewhere go by it, whether this process lives or not.
 */
import type { Connect } from "../../broker/connection.ts";
import type { Message } from "../../broker/messages.ts";
import { Streams } from "../../broker/streams.ts";
import { readBootId } from "../../platform/boot-id.ts";
import type { Cancel, Clock } from "../../platform/clock.ts";
import { refusalOf } from "../../work/argv.ts";
import { WorkError } from "../../work/errors.ts";
import type { ExecutorSettings } from "../../work/executor-settings.ts";
import type { RunSeen, Task, WorkerFacts } from "../../work/model.ts";
import { chooseNode } from "../../work/node-choice.ts";
import { assignedTask, isSuperseded, reportTo } from "../../work/nodes.ts";
import { isOver, openTasksOf } from "../../work/state.ts";
import type { OpenBooks } from "../books.ts";
import type { Leases } from "../leases.ts";
import type { Log } from "../look.ts";
import type { NodeFiles } from "./node-files.ts";
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
/** Reports that an answer or an assignment may name. */
const MAX_REPORTS = 1_000;
/** How long a farewell may take. */
const BYE_MS = 1_000;

export interface MemberSettings {
  readonly url: string;
  readonly secret: Buffer;
  readonly node: string;
  readonly nodeUrl: string | null;
  readonly ttlMs: number;
  readonly intervalMs: number;
  readonly executors: Readonly<Record<string, ExecutorSettings>>;
  readonly maxTasks: number;
}

export interface MemberParts {
  readonly books: OpenBooks;
  readonly leases: Pick<Leases, "freeGpus" | "gpus">;
  readonly files: Pick<
    NodeFiles,
    "controllerFile" | "controller" | "obey" | "nextInstance" | "uptimeMs" | "heardAt" | "heard" | "result"
  >;
  readonly clock: Clock;
  readonly log: Log;
  /** Left out: a real Redis. */
  readonly connect?: Connect;
}

export class Member {
  readonly #books: OpenBooks;
  readonly #leases: MemberParts["leases"];
  readonly #files: MemberParts["files"];
  readonly #settings: MemberSettings;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #streams: Streams;
  readonly #leave: () => void;
  readonly #startedAt: number;
  /** Of this process: a later one has a higher. */
  readonly #instance: number;
  /** When each report of the last TTL was sent, by the host's uptime. */
  readonly #sent = new Map<number, number>();
  readonly #finished = new Set<string>();
  /** What was to stop before it came, for as long as it could still come. */
  readonly #refused = new Map<string, number>();
  #seq = 0;
  #answered = 0;
  #controller: string | null;
  #lastRuns = "";
  #hasSpoken = false;
  #hasAccepted = false;
  #beating: Cancel | null = null;
  #soon: Cancel | null = null;
  #isStopped = false;

  /** @throws Error when it cannot be read whom it obeys. */
  constructor({ books, leases, files, clock, log, ...how }: MemberParts, settings: MemberSettings) {
    this.#books = books;
    this.#leases = leases;
    this.#files = files;
    this.#settings = settings;
    this.#clock = clock;
    this.#log = log;
    this.#startedAt = clock.now();
    this.#instance = files.nextInstance(this.#startedAt);
    this.#controller = files.controller() ?? this.#worksFor();
    const { url, secret, node } = settings;
    this.#streams = new Streams(
      { url, secret, stream: commandsTo(node), group: "node", clock, log, ...how },
      { take: (message) => this.#take(message), restored: () => void this.#report("hello") },
    );
    this.#leave = books.onChange(() => this.#news());
  }

  get up(): boolean {
    return this.#streams.up;
  }

  start(): void {
    this.#streams.start();
    const beat = () => {
      this.#beating = this.#clock.after(this.#settings.intervalMs, beat);
      void this.#report("offer");
    };
    this.#beating = this.#clock.after(this.#settings.intervalMs, beat);
  }

  /** Stops and says so: nobody sends it anything more, and what it has not taken is not waited for. */
  async leave(): Promise<void> {
    const canSay = this.#streams.up;
    this.#endTimers();
    // What it has taken until here it has; of what comes later it is never told again.
    await this.#streams.quiet();
    if (canSay) await this.#within(BYE_MS, this.#report("bye"));
    await this.stop();
  }

  /** As a crash: nobody is told. */
  async stop(): Promise<void> {
    this.#endTimers();
    this.#isStopped = true;
    await this.#streams.stop();
  }

  #endTimers(): void {
    this.#leave();
    this.#beating?.();
    this.#soon?.();
    // Nothing that is under way begins another.
    this.#soon = () => undefined;
  }

  async #within(ms: number, work: Promise<unknown>): Promise<void> {
    await new Promise<void>((resolve) => {
      const cancel = this.#clock.after(ms, resolve);
      void work.then(() => {
        cancel();
        resolve();
      });
    });
  }

  // --- what it says ---

  #news(): void {
    if (this.#isStopped) return;
    this.#soon ??= this.#clock.after(SOON_MS, () => {
      this.#soon = null;
      if (!this.#hasSpoken) void this.#report("hello");
      else if (JSON.stringify(this.#runs()) !== this.#lastRuns)
        void this.#report(this.#hasAccepted ? "accepted" : "state");
      this.#tellFinished();
    });
  }

  #runs(): RunSeen[] | null {
    return this.#controller === null ? null : reportTo(this.#books.state, this.#controller);
  }

  async #report(type: "hello" | "offer" | "state" | "accepted" | "bye"): Promise<void> {
    if (this.#isStopped) return;
    const { node, nodeUrl, ttlMs } = this.#settings;
    const worker = [...this.#books.state.workers.values()].find(({ link }) => link === undefined);
    const runs = this.#runs();
    this.#lastRuns = JSON.stringify(runs);
    this.#hasAccepted = false;
    this.#hasSpoken = true;
    const { instance: _i, lastSeen: _l, ...facts } = worker ?? this.#withoutWorker();
    const body: NodeReport = {
      instance: this.#instance,
      seq: this.#nextReport(),
      controller: this.#controller,
      facts: { ...facts, node, freeGpus: this.#leases.freeGpus() },
      hasWorker: worker !== undefined,
      gpus: this.#leases.gpus(),
      url: nodeUrl,
      runs,
    };
    const sent = this.#send(type, "", 0, body);
    const mark = heartbeatOf(node);
    if (type === "bye") void this.#streams.call(["DEL", mark]);
    else void this.#streams.call(["SET", mark, new Date().toISOString(), "PX", String(ttlMs)]);
    await sent;
  }

  #nextReport(): number {
    const now = this.#files.uptimeMs();
    for (const [seq, at] of this.#sent) {
      if (now - at < this.#settings.ttlMs && this.#sent.size < MAX_REPORTS) break;
      this.#sent.delete(seq);
    }
    this.#sent.set(++this.#seq, now);
    return this.#seq;
  }

  /** It is listed, and takes nothing. */
  #withoutWorker(): WorkerFacts & { readonly lastSeen: number } {
    const open = { executors: [], topics: [], tags: [], labels: {}, hardware: {} };
    const { node } = this.#settings;
    const process_ = { node, instance: 0, pid: process.pid, startedAt: this.#startedAt, bootId: readBootId() };
    return { ...process_, ...open, cage: "none", endsSurely: true, lastSeen: this.#startedAt };
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
    const text = await this.#files.result(run);
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

  #accept({ controller, name, assignment, knows }: Assign): void {
    const { state } = this.#books;
    const { run, epoch, kind, spec } = assignment;
    // A copy from another day, or what was left for a process before this one: what is still wanted comes again.
    if (knows.instance !== this.#instance || !this.#isRecent(knows.seq)) return;
    if (state.tasks.get(run) !== undefined || this.#refused.has(run) || isSuperseded(state, assignment)) return;
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
      this.#hasAccepted = true;
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

  /** Whether it is one of the last TTL. */
  #isRecent(seq: number): boolean {
    const sentAt = this.#sent.get(seq);
    return sentAt !== undefined && this.#files.uptimeMs() - sentAt < this.#settings.ttlMs;
  }

  #hasHeardWithin(fenceMs: number | null): boolean {
    if (fenceMs === null) return true;
    const heardAt = this.#files.heardAt();
    return heardAt !== null && this.#files.uptimeMs() - heardAt < fenceMs;
  }

  #stopRun({ run: id, epoch }: Stop["order"]): void {
    const task = this.#books.state.tasks.get(id);
    if (task === undefined) this.#refuse(id, epoch);
    else if (task.origin !== undefined) this.#cancel(task);
  }

  /** It never came here: whoever waits for its end is told. Should it come yet, it finds no room. */
  #refuse(run: string, epoch: number): void {
    const now = this.#files.uptimeMs();
    for (const [id, at] of this.#refused) if (now - at >= this.#settings.ttlMs) this.#refused.delete(id);
    this.#refused.set(run, now);
    void this.#send("declined", run, epoch, { why: "it never came here", forGood: false });
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
    if (sentAt !== undefined) this.#files.heard(sentAt);
  }

  #obeys(controller: string): boolean {
    if (this.#controller === null) {
      this.#files.obey(controller);
      this.#controller = controller;
      this.#log.info({ controller }, "this node obeys a controller from now on");
    }
    if (this.#controller === controller) return true;
    const facts = { controller, obeyed: this.#controller, file: this.#files.controllerFile };
    this.#log.error(facts, "another controller commands this node, and is not obeyed");
    return false;
  }

  /** The controller of work that is not over: its deadlines here go by what is heard of it, and of nobody else. */
  #worksFor(): string | null {
    const tasks = openTasksOf(this.#books.state);
    return tasks.find(({ origin }) => origin !== undefined)?.origin?.controller ?? null;
  }
}
