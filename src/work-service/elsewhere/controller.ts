/**
 * The controller's side: what its nodes say goes into the books, and what the books want goes to the nodes.
 *
 *  1. Nothing hangs on one message: what a node has not said to have is sent again with the next answer to its heartbeat,
 *     when nothing lies there any more that it has not read. So a node that is slow is not buried under what it has.
 *  2. A node is silent when its assignments have run out, counted from the arrival of its last report, and some seconds:
 *     what its holders end by themselves is over by then, since they count from its sending.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Connect, Redis } from "../../broker/connection.ts";
import type { Message } from "../../broker/messages.ts";
import { isFull, Streams } from "../../broker/streams.ts";
import type { Cancel, Clock } from "../../platform/clock.ts";
import { writeWhole } from "../../platform/write-whole.ts";
import { WorkError } from "../../work/errors.ts";
import { mergedResponses } from "../../work/merge.ts";
import type { RunSeen } from "../../work/model.ts";
import { betterElsewhere, SILENT_MS, wantedOfNode } from "../../work/nodes.ts";
import { openRunsOf } from "../../work/state.ts";
import type { OpenBooks } from "../books.ts";
import type { Log } from "../look.ts";
import {
  type Assign,
  commandsTo,
  type Declined,
  EVENTS_STREAM,
  type Finished,
  LOCK,
  type NodeReport,
  type Stop,
  type Sync,
} from "./words.ts";

const SOON_MS = 10;
const LOOK_MS = 1_000;
const RECALL_AGAIN_MS = 10_000;
const LOCK_MS = 30_000;

export interface ControllerSettings {
  readonly url: string;
  readonly secret: Buffer;
  readonly resultsDir: string;
  readonly ttlMs: number;
  readonly intervalMs: number;
}

export interface ControllerParts {
  readonly books: OpenBooks;
  readonly clock: Clock;
  readonly log: Log;
  /** Left out: a real Redis. */
  readonly connect?: Connect;
}

export class Controller {
  readonly #books: OpenBooks;
  readonly #settings: ControllerSettings;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #streams: Streams;
  readonly #leave: () => void;
  readonly #startedAt: number;
  /** What each node said last. */
  readonly #reported = new Map<string, readonly RunSeen[]>();
  /** What it was told and when, by kind and run. */
  readonly #told = new Map<string, Map<string, number>>();
  readonly #recalled = new Map<string, number>();
  #count = 0;
  #looking: Cancel | null = null;
  #soon: Cancel | null = null;
  #isStopped = false;

  constructor({ books, clock, log, ...how }: ControllerParts, settings: ControllerSettings) {
    this.#books = books;
    this.#settings = settings;
    this.#clock = clock;
    this.#log = log;
    this.#startedAt = books.now();
    const { url, secret } = settings;
    this.#streams = new Streams(
      {
        url,
        secret,
        stream: EVENTS_STREAM,
        group: "controller",
        admit: (redis) => this.#lock(redis),
        clock,
        log,
        ...how,
      },
      { take: (message) => this.#take(message), restored: () => this.#restored() },
    );
    this.#leave = books.onChange(() => this.#later());
  }

  get up(): boolean {
    return this.#streams.up;
  }

  start(): void {
    this.#streams.start();
    const look = () => {
      this.#looking = this.#clock.after(LOOK_MS, look);
      this.#look();
    };
    this.#looking = this.#clock.after(LOOK_MS, look);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#leave();
    this.#looking?.();
    this.#soon?.();
    await this.#streams.stop();
  }

  // --- what it hears ---

  #take(message: Message): void {
    const { type, node, assignment } = message;
    if (type === "declined") this.#declined(message, message.body as Declined);
    else if (type === "finished") this.#finished(assignment, node, message.body as Finished);
    else this.#report(node, type, message.body as NodeReport);
  }

  #report(node: string, type: Message["type"], report: NodeReport): void {
    const { name, state } = this.#books;
    const { instance, seq, controller, facts, hasWorker, gpus, url, runs } = report;
    if (controller !== null && controller !== name) return;
    const known = state.workers.get(node);
    if (known !== undefined && known.link === undefined) {
      this.#log.error({ node }, "another host goes by the name of this one: set work.node there");
      return;
    }
    const { ttlMs, intervalMs } = this.#settings;
    const link = { kind: "member", seq, gpus, url, ttlMs, intervalMs, isIdle: true, hasWorker } as const;
    try {
      this.#books.command({ type: "worker-reports", worker: { ...facts, node, instance, link }, runs });
    } catch (error) {
      if (!(error instanceof WorkError) || error.code !== "worker-superseded") throw error;
      this.#log.warn({ node }, "an earlier process of a node still speaks, or spoke late");
      return;
    }
    // One that came twice has changed nothing, and is answered no worse for it.
    if (runs !== null) this.#reported.set(node, runs);
    if (type === "bye") {
      this.#told.delete(node);
      this.#books.command({ type: "node-leaves", node, instance, seq, runs: runs ?? [] });
      // Unless something of ours is there still.
      this.#books.command({ type: "remove-worker", node });
      return;
    }
    const isHeartbeat = type === "hello" || type === "offer";
    // Before the answer, which lies there too until it is read.
    if (isHeartbeat) void this.#tellAgain(node);
    this.#tell(node, isHeartbeat ? { instance, answers: seq } : null);
  }

  #declined({ assignment, node, epoch }: Message, { why, forGood }: Declined): void {
    const run = this.#books.state.runs.get(assignment);
    if (run === undefined || run.epoch !== epoch || run.phase === "waiting" || run.node !== node) return;
    this.#books.command({ type: "run-declined", run: assignment, why, forGood });
  }

  /** The file first: when the books say that it is there, it is. */
  #finished(id: string, node: string, { result }: Finished): void {
    const run = this.#books.state.runs.get(id);
    if (run?.phase !== "ended" || run.publish !== "wanted" || run.node !== node) return;
    const task = this.#books.state.tasks.get(run.job.uid);
    if (task !== undefined && result !== null) this.#keep(task.id, run.replica, task.slots.length, result);
    this.#books.command({ type: "run-delivered", run: id });
  }

  #keep(task: string, replica: number, replicas: number, result: string): void {
    const root = join(this.#settings.resultsDir, task);
    const fileOf = (one: number) => join(root, "replicas", String(one), "responses.json");
    if (replicas === 1) {
      writeResult(join(root, "responses.json"), result);
      return;
    }
    writeResult(fileOf(replica), result);
    const texts = Array.from({ length: replicas }, (_, one) => textOf(fileOf(one)));
    writeResult(join(root, "responses.json"), mergedResponses(texts));
  }

  // --- what it says ---

  #restored(): void {
    this.#told.clear();
    this.#later();
  }

  #later(): void {
    if (this.#isStopped) return;
    this.#soon ??= this.#clock.after(SOON_MS, () => {
      this.#soon = null;
      for (const { node, link } of [...this.#books.state.workers.values()]) {
        if (link?.kind === "member" && link.hasLeft !== true) this.#tell(node, null);
      }
    });
  }

  /** Everything that is open, but what it was told and may not have read yet. */
  #tell(node: string, heartbeat: { readonly instance: number; readonly answers: number } | null): void {
    const worker = this.#books.state.workers.get(node);
    if (worker?.link === undefined) return;
    if (openRunsOf(this.#books.state).some((run) => run.phase === "assigned" && run.node === node)) {
      // Before it is told: from then on it may have begun.
      this.#books.command({ type: "hand-out", node, instance: worker.instance });
    }
    const { name } = this.#books;
    const { assign, ...wanted } = wantedOfNode(this.#books.state, node, this.#reported.get(node) ?? []);
    const told = this.#told.get(node) ?? new Map<string, number>();
    this.#told.set(node, told);
    const now = this.#books.now();
    const isNews = (kind: string, run: string) => !told.has(`${kind} ${run}`) && told.set(`${kind} ${run}`, now);
    const rest = [...wanted.settled.map((run) => ["settled", run]), ...wanted.deliver.map((run) => ["deliver", run])];
    const hasRest = rest.filter(([kind = "", run = ""]) => isNews(kind, run)).length > 0;
    if (heartbeat !== null || hasRest) {
      // Before the assignments: a node that has heard nothing lately takes none with a deadline.
      const sync: Sync = { controller: name, ...(heartbeat ?? { instance: 0, answers: 0 }), ...wanted };
      void this.#send("sync", node, "", 0, sync);
    }
    const knows = { instance: worker.instance, seq: worker.link.seq };
    for (const { name: job, assignment } of assign) {
      const body: Assign = { controller: name, name: job, assignment, knows };
      if (isNews("assign", assignment.run)) void this.#send("assign", node, assignment.run, assignment.epoch, body);
    }
    for (const order of wanted.stop) {
      const body: Stop = { controller: name, order };
      if (isNews("stop", order.run)) void this.#send("stop", node, order.run, order.epoch, body);
    }
  }

  /** What has lain there for a TTL is nothing to a node any more, whatever lies before it. */
  async #tellAgain(node: string): Promise<void> {
    const told = [...(this.#told.get(node) ?? [])];
    if (told.length === 0) return;
    const waiting = await this.#streams.call(["XLEN", commandsTo(node)]);
    const now = this.#books.now();
    const gone = told.filter(([, at]) => waiting === 0 || now - at >= this.#settings.ttlMs);
    for (const [key] of gone) this.#told.get(node)?.delete(key);
    if (gone.length > 0 && !this.#isStopped) this.#tell(node, null);
  }

  async #send(type: Message["type"], node: string, run: string, epoch: number, body: unknown): Promise<void> {
    const id = `${this.#startedAt}-${++this.#count}`;
    const message = { id, type, node, assignment: run, epoch, body };
    if (await this.#streams.send(commandsTo(node), message)) return;
    // Redis will be back, and a heartbeat with it: then everything is said again.
    this.#told.delete(node);
  }

  // --- time ---

  #look(): void {
    try {
      const { state } = this.#books;
      const now = this.#books.now();
      const since = (lastSeen: number) => now - Math.max(lastSeen, this.#startedAt);
      const silent = [...state.workers.values()].filter(
        ({ link, lastSeen }) => link?.kind === "member" && since(lastSeen) >= link.ttlMs + SILENT_MS,
      );
      const nodes = silent.map(({ node }) => node);
      if (nodes.length > 0) this.#books.command({ type: "nodes-silent", nodes });
      this.#recall(now);
      this.#forget();
      if (this.#streams.isReading) void this.#keepLock();
    } catch (error) {
      this.#log.error({ err: error }, "the nodes could not be looked after");
    }
  }

  /** What was left for nodes that are not in the books any more. */
  #forget(): void {
    for (const node of [...this.#told.keys()]) {
      if (this.#books.state.workers.get(node) !== undefined) continue;
      this.#told.delete(node);
      this.#reported.delete(node);
      void this.#streams.call(["DEL", commandsTo(node)]);
    }
  }

  #recall(now: number): void {
    for (const run of betterElsewhere(this.#books.state, now)) {
      if (now - (this.#recalled.get(run.id) ?? 0) < RECALL_AGAIN_MS) continue;
      this.#recalled.set(run.id, now);
      this.#books.command({ type: "recall-run", run: run.id });
      void this.#send("recall", run.node, run.id, run.epoch, { controller: this.#books.name });
    }
    for (const id of this.#recalled.keys()) {
      if (this.#books.state.openRuns.get(id) === undefined) this.#recalled.delete(id);
    }
  }

  /**
   * Whoever holds it reads what the nodes say. It is no fence, since it may run out while its holder sleeps: nodes obey
   * the controller that they heard first, whoever reads.
   *
   * @throws Error when another holds it.
   */
  async #lock(redis: Redis): Promise<void> {
    const { name } = this.#books;
    const isRefused = await redis.call(["SET", LOCK, name, "NX", "PX", String(LOCK_MS)]).then(
      () => false,
      (error: unknown) => {
        if (!isFull(error)) throw error;
        return true;
      },
    );
    const holder = await redis.call(["GET", LOCK]);
    // A Redis that is full has room again when what lies there is read: it is, though nobody can hold the lock.
    if (holder !== name && !(isRefused && holder === null)) {
      throw new Error(`the controller ${holder} uses this Redis`);
    }
  }

  /** One that ran out meanwhile may be another's by now: who has lost it reads no more. */
  async #keepLock(): Promise<void> {
    const { name } = this.#books;
    const holder = await this.#streams.call(["GET", LOCK]);
    if (holder === name) await this.#streams.call(["PEXPIRE", LOCK, String(LOCK_MS)]);
    else if (holder === null) await this.#streams.call(["SET", LOCK, name, "NX", "PX", String(LOCK_MS)]);
    else this.#streams.readAnew();
  }
}

function textOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

function writeResult(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o750 });
  writeWhole(path, text, 0o640);
}
