/**
 * A controller and its nodes in virtual time: the real books, controller, members and streams; hosts, processes and Redis
 * are simulated. Everything can die between any two steps. What dies keeps what is on disk, and nothing else.
 */
import { createHash } from "node:crypto";
import type { WorkCommand } from "../../../src/work/commands.ts";
import { decide } from "../../../src/work/decide.ts";
import type { WorkEvent } from "../../../src/work/events.ts";
import { emptyWork, isOver, openRunsOf, type WorkState } from "../../../src/work/state.ts";
import type { OpenBooks } from "../../../src/work-service/books.ts";
import { Controller } from "../../../src/work-service/elsewhere/controller.ts";
import { Member } from "../../../src/work-service/elsewhere/member.ts";
import { DaemonDied, World } from "../../work/world.ts";
import { BLANK, SECRET } from "../hosts.ts";
import { Judges } from "./judges.ts";
import { SimRedis } from "./sim-redis.ts";
import { Killed, SimProcess, VirtualTime } from "./time.ts";

/** A run with a grace of ten seconds is fenced off 35 s after the last answered heartbeat was sent. */
const TIMES = { ttlMs: 60_000, intervalMs: 5_000 };
const TICK_MS = 1_000;
/** Long after no message of it can be on its way; real nodes keep it for days. */
const FORGOTTEN_MS = 2 * TIMES.ttlMs;
/** Of two seconds: several times what any history has needed. */
const SETTLE_ROUNDS = 120;
const EXECUTORS = {
  process: { ...BLANK, type: "process", programs: ["/bin/true"] },
  vllm: { ...BLANK, type: "vllm" },
} as const;
const SETTINGS = { url: "redis://simulated", secret: SECRET, ...TIMES };

/** The books of one process: they end with it, and what they have written does not. */
class SimBooks implements OpenBooks {
  readonly #disk: Disk;
  readonly #process: SimProcess;
  readonly #listeners = new Set<(events: readonly WorkEvent[]) => void>();

  constructor(disk: Disk, process: SimProcess) {
    this.#disk = disk;
    this.#process = process;
  }

  get state(): WorkState {
    return this.#disk.state;
  }

  get name(): string {
    return this.#disk.name;
  }

  now(): number {
    return this.#process.now();
  }

  command(command: WorkCommand): readonly WorkEvent[] {
    if (!this.#process.alive) throw new Killed();
    if (this.#disk.refuses === command.type) throw new Error("the disk is full");
    const { events, state } = decide(this.#disk.state, command, this.now());
    if (events.length === 0) return events;
    this.#disk.state = state;
    this.#disk.told(command, events);
    if (this.#disk.diesAfter === command.type) {
      this.#disk.diesAfter = null;
      this.#process.kill();
      throw new Killed();
    }
    for (const listener of this.#listeners) listener(events);
    return events;
  }

  onChange(listener: (events: readonly WorkEvent[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

interface Disk {
  readonly name: string;
  state: WorkState;
  /** What cannot be stored at present. */
  refuses?: WorkCommand["type"] | null;
  /** Its daemon is killed right after it has written this. */
  diesAfter: WorkCommand["type"] | null;
  told(command: WorkCommand, events: readonly WorkEvent[]): void;
}

/** A host that is given work: its GPUs, worker, holders and processes, and its daemon while that lives. */
export class SimNode extends World implements Disk {
  readonly name: string;
  diesAfter: WorkCommand["type"] | null = null;
  refuses: WorkCommand["type"] | null = null;
  obeys: string | null = null;
  /** Of its daemon's processes. */
  lastInstance = 0;
  /** The next answer to its worker is lost on its way. */
  loseAnswer = false;
  daemon: { readonly process: SimProcess; readonly books: SimBooks; readonly member: Member } | null = null;
  readonly told: Disk["told"];
  readonly #judges: Judges;

  constructor(name: string, gpus: number, told: Disk["told"], judges: Judges) {
    super(gpus, name);
    this.name = name;
    this.told = told;
    this.#judges = judges;
  }

  protected override hasBegun(run: string, slot: string): void {
    this.#judges.begins(this.name, run, slot);
  }

  override command(command: WorkCommand): void {
    this.daemon?.books.command(command);
  }

  begin(time: VirtualTime, redis: SimRedis, log: SimLog): void {
    if (this.daemon?.process.alive === true) return;
    const process = new SimProcess(time);
    const books = new SimBooks(this, process);
    const files = {
      controllerFile: `${this.name}/controller.json`,
      controller: () => this.obeys,
      obey: (controller: string) => {
        this.obeys = controller;
      },
      nextInstance: (now: number) => {
        this.lastInstance = Math.max(now, this.lastInstance + 1);
        return this.lastInstance;
      },
      uptimeMs: () => time.now,
      heardAt: () => this.heardAt,
      heard: (at: number) => {
        if (!process.alive) return;
        this.heardAt = at;
        this.#judges.heard(this.name, at);
      },
      result: async () => null,
    };
    const free = () => [...this.gpus.values()].filter((holder) => holder === null).length;
    const leases = {
      freeGpus: free,
      gpus: () => [...this.gpus.keys()].map((uuid, index) => ({ index, name: "NVIDIA H100", uuid })),
    };
    const parts = { books, leases, files, clock: process, log, connect: redis.connector(this.name, process) };
    const member = new Member(parts, {
      ...SETTINGS,
      node: this.name,
      nodeUrl: null,
      executors: EXECUTORS,
      maxTasks: 1_000,
    });
    this.daemon = { process, books, member };
    member.start();
  }

  /** What its daemon, its worker and its holders do by themselves. */
  tick(now: number): void {
    this.now = now;
    this.keepFences();
    if (this.daemon?.process.alive === true) {
      try {
        this.look();
        this.judgeLook();
        this.command({ type: "remove-ended-tasks", before: now - FORGOTTEN_MS, keep: 0 });
        this.sync(!this.loseAnswer);
        this.loseAnswer = false;
      } catch (error) {
        if (!(error instanceof DaemonDied) && !(error instanceof Killed)) throw error;
        this.daemon.process.kill();
      }
    }
    for (let i = 0; i < 4; i++) this.startOne(i);
    this.ladder();
  }

  /** After a look no lease is held for a run that is over, and no run goes on without its lease. */
  judgeLook(): void {
    for (const { id, run, status } of this.allocations.values()) {
      const found = this.state.runs.get(run);
      // A worker has begun it, and none has said yet to this daemon what lives.
      if (this.strangers.living === null && found?.phase === "ended" && found.handedOut === true) continue;
      if (status === "held" && (found === undefined || found.phase === "ended")) {
        this.violations.push(`${id} is held for ${run}, which is over`);
      }
    }
    for (const run of openRunsOf(this.state)) {
      if (run.phase === "waiting" || run.phase === "ended" || run.phase === "stopping" || run.lease === null) continue;
      if (this.allocations.get(run.lease.allocationId)?.status === "ended") {
        this.violations.push(`${run.id} goes on without its lease`);
      }
    }
  }
}

interface SimLog {
  info(): void;
  warn(): void;
  error(facts: object, message: string): void;
}

export class Cluster implements Disk {
  readonly name = "books-1";
  readonly time = new VirtualTime();
  readonly redis = new SimRedis(this.time);
  readonly nodes: readonly SimNode[];
  readonly violations: string[] = [];
  readonly judges = new Judges(() => ({ now: this.time.now, books: this.state, ttlMs: TIMES.ttlMs }));
  state: WorkState = emptyWork();
  diesAfter: WorkCommand["type"] | null = null;
  head: { readonly process: SimProcess; readonly books: SimBooks; readonly controller: Controller } | null = null;
  readonly #hash = createHash("sha256");
  #nextTick = this.time.now;

  constructor(gpus: readonly number[]) {
    this.nodes = gpus.map((count, i) => {
      const name = `node-${i}`;
      const told = (command: WorkCommand, events: readonly WorkEvent[]) => {
        this.#note(name, command, events);
        this.judges.wrote(name, events);
      };
      return new SimNode(name, count, told, this.judges);
    });
    this.redis.onSent = (stream, fields) => this.judges.sent(stream, fields);
    this.redis.onRead = (user, fields) => this.judges.read(user, fields);
    this.beginHead();
    for (const node of this.nodes) this.begin(node);
  }

  told(command: WorkCommand, events: readonly WorkEvent[]): void {
    this.#note("head", command, events);
  }

  #note(who: string, command: WorkCommand, events: readonly WorkEvent[]): void {
    this.#hash.update(JSON.stringify([who, this.time.now, command.type, events]));
  }

  /** Of all that was written by anybody: two runs of one history have the same. */
  hash(): string {
    return this.#hash.copy().digest("hex");
  }

  readonly #log: SimLog = {
    info: () => undefined,
    warn: () => undefined,
    error: (facts, message) => {
      const { err } = facts as { readonly err?: unknown };
      if (!(err instanceof Killed))
        this.violations.push(`${message}: ${err instanceof Error ? err.stack : JSON.stringify(facts)}`);
    },
  };

  begin(node: SimNode): void {
    node.begin(this.time, this.redis, this.#log);
  }

  beginHead(): void {
    if (this.head?.process.alive === true) return;
    const process = new SimProcess(this.time);
    const books = new SimBooks(this, process);
    const parts = { books, clock: process, log: this.#log, connect: this.redis.connector("head", process) };
    const controller = new Controller(parts, { ...SETTINGS, resultsDir: "/nowhere" });
    this.head = { process, books, controller };
    controller.start();
  }

  /** What a client asks; a daemon that is dead answers nobody. */
  ask(command: WorkCommand): void {
    try {
      this.head?.books.command(command);
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
    }
  }

  async pass(ms: number): Promise<void> {
    const end = this.time.now + ms;
    while (this.#nextTick <= end) {
      await this.time.advance(this.#nextTick - this.time.now);
      this.#nextTick += TICK_MS;
      for (const node of this.nodes) node.tick(this.time.now);
      this.ask({ type: "tick" });
      this.judge();
    }
    await this.time.advance(end - this.time.now);
    this.judge();
  }

  judge(): void {
    for (const node of this.nodes) {
      this.violations.push(...node.violations.splice(0).map((text) => `${node.name}: ${text}`));
      this.judges.lives(node.name, node.folders.values());
    }
    this.violations.push(...this.judges.violations.splice(0));
    const living = new Map<string, string>();
    for (const node of this.nodes) {
      const gpus = new Map<string, string>();
      for (const { run, slot, alive, allocationId } of node.folders.values()) {
        if (alive === 0) continue;
        if (slot.startsWith("task-")) {
          const other = living.get(slot);
          if (other !== undefined) this.violations.push(`${slot} lives as ${other} and as ${run} on ${node.name}`);
          living.set(slot, `${run} on ${node.name}`);
        }
        for (const gpu of node.allocations.get(allocationId ?? "")?.gpus ?? []) {
          const other = gpus.get(gpu);
          if (other !== undefined) this.violations.push(`${gpu} of ${node.name} is used by ${other} and ${run}`);
          gpus.set(gpu, run);
        }
      }
    }
    for (const { id, retry } of this.state.tasks.values()) {
      for (const { replica } of this.state.tasks.get(id)?.slots ?? []) {
        const begun = this.begun(`${id}/${replica}`);
        if (begun > 1 + retry.max + retry.lost) this.violations.push(`${id}/${replica} was begun ${begun} times`);
      }
    }
  }

  begun(slot: string): number {
    return this.nodes.reduce((sum, node) => sum + (node.begun.get(slot) ?? 0), 0);
  }

  /** Nothing dies any more, and all that runs comes to its end. */
  async settle(): Promise<void> {
    this.redis.begin(false);
    this.redis.isFull = false;
    this.redis.release();
    this.redis.breaks.clear();
    for (const user of ["head", ...this.nodes.map(({ name }) => name)]) this.redis.set(user, "open");
    for (const one of [this, ...this.nodes]) one.diesAfter = null;
    for (let i = 0; i < SETTLE_ROUNDS && !this.#isQuiet(); i++) {
      this.beginHead();
      for (const node of this.nodes) {
        node.crashAt = null;
        if (!node.workerUp) node.restartWorker();
        this.begin(node);
        for (let n = 0; n < 8; n++) node.exitOne(0, 0, 0);
      }
      for (const { id, deleted } of [...this.state.workloads.values()])
        if (!deleted) this.ask({ type: "delete-workload", id });
      await this.pass(2_000);
      if (this.violations.length > 0) return;
    }
  }

  /** Nothing is open, here or on a node. */
  #isQuiet(): boolean {
    const open = this.open();
    return open.length === 0;
  }

  /** What is not over, in words. */
  open(): string[] {
    const tasks = [...this.state.tasks.values()]
      .filter((task) => !isOver(task))
      .map(({ id, slots }) => `${id} ${JSON.stringify(slots)}`);
    const workloads = [...this.state.workloads.values()].map(({ uid, slots }) => `${uid} ${JSON.stringify(slots)}`);
    const here = this.nodes.flatMap((node) => [
      ...[...node.state.tasks.values()].filter((task) => !isOver(task)).map(({ id }) => `${id} on ${node.name}`),
      ...[...node.state.tasks.values()]
        .filter(({ origin }) => origin?.settled === false)
        .map(({ id }) => `${id} on ${node.name} is not settled`),
      ...[...node.gpus]
        .filter(([, holder]) => holder !== null)
        .map(([uuid, holder]) => `${uuid} of ${node.name} is leased: ${holder}`),
      ...[...node.folders.values()].filter(({ alive }) => alive > 0).map(({ run }) => `${run} lives on ${node.name}`),
    ]);
    const waiting = this.redis.waiting();
    return [...tasks, ...workloads, ...here, ...(waiting === 0 ? [] : [`${waiting} messages are not acknowledged`])];
  }

  end(): void {
    this.head?.process.kill();
    for (const { daemon } of this.nodes) daemon?.process.kill();
  }
}
