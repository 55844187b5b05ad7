/**
 * A host with work on it, of real processes: books on disk, a worker of its own, and GPUs that are leased in memory.
 * Each part can be killed and started again.
 */
import { type ChildProcess, spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig } from "../../src/config/load.ts";
import type { ExecutorSettings, WorkConfig } from "../../src/config/work.ts";
import { steadyClock } from "../../src/platform/clock.ts";
import type { LeaseSeen } from "../../src/work/commands.ts";
import { readTask } from "../../src/work/documents/task.ts";
import { readWorkload } from "../../src/work/documents/workload.ts";
import type { Run, Task, Workload } from "../../src/work/model.ts";
import { newSlot } from "../../src/work/state.ts";
import { Books } from "../../src/work-service/books.ts";
import { Gate } from "../../src/work-service/gate.ts";
import type { Emptiness, GpuTrouble, LeasePlan, Leases, LeaseWish } from "../../src/work-service/leases.ts";
import { Look } from "../../src/work-service/look.ts";
import { WorkStore } from "../../src/work-service/store.ts";
import { signalAll } from "../../src/worker/cages.ts";
import { ProcessTable } from "../../src/worker/processes.ts";
import { PROFILE, TASK_SETTINGS, taskOf } from "../work/fixtures.ts";

const PROJECT = new URL("../..", import.meta.url).pathname;
const LOG = {
  info: () => undefined,
  warn: () => undefined,
  error: (facts: object, message: string) => console.error(message, facts),
};

interface Held {
  readonly id: string;
  readonly wish: LeaseWish;
  gpus: string[] | null;
  ended: string | null;
}

/** A daemon's leases without a daemon: they outlive it, as the real ones do. */
export class MemoryLeases implements Leases {
  readonly simulated = true;
  readonly all = new Map<string, Held>();
  readonly gpusHere: string[];
  /** Runs whose lease was given back while a process bore their mark. */
  readonly takenFromTheLiving: string[] = [];

  constructor(gpus: number) {
    this.gpusHere = Array.from({ length: gpus }, (_, i) => `GPU-${i}`);
  }

  async ask(wish: LeaseWish): Promise<LeaseSeen> {
    if (wish.gpus > this.gpusHere.length) return { status: "never", reason: `asked for ${wish.gpus} GPUs` };
    let held = this.all.get(wish.key);
    if (held === undefined) {
      held = { id: wish.key, wish, gpus: null, ended: null };
      this.all.set(wish.key, held);
    }
    this.#grant();
    return this.#seen(held);
  }

  async watch(id: string, _owner: string, signal: AbortSignal): Promise<LeaseSeen> {
    const held = this.all.get(id) as Held;
    for (let i = 0; i < 20 && held.gpus === null && !signal.aborted; i++) await pause(25);
    return this.#seen(held);
  }

  #seen({ id, gpus, ended }: Held): LeaseSeen {
    if (ended !== null) return { status: "missed", reason: ended };
    if (gpus === null)
      return {
        status: "queued",
        allocationId: id,
        waiting: { reason: "no GPU is free", position: 1, etaLatest: null },
      };
    return { status: "held", lease: { allocationId: id, gpuUuids: gpus, gpuIndices: [], env: {}, fencingToken: 1 } };
  }

  #grant(): void {
    for (const held of this.all.values()) {
      if (held.ended !== null || held.gpus !== null) continue;
      const isFit = (uuid: string) => this.holderOf(uuid) === null && this.sick.get(uuid)?.isFatal !== true;
      const free = this.gpusHere.filter(isFit);
      if (free.length >= held.wish.gpus) held.gpus = free.slice(0, held.wish.gpus);
    }
  }

  holderOf(uuid: string): string | null {
    for (const { id, gpus, ended } of this.all.values()) if (ended === null && gpus?.includes(uuid)) return id;
    return null;
  }

  endOf(id: string): string | null {
    return this.all.get(id)?.ended ?? null;
  }

  /** Of a GPU, by its name. */
  readonly sick = new Map<string, GpuTrouble>();
  /** What is left on GPUs of a run that has ended. */
  emptiness: Emptiness = { is: "empty" };

  troubleOf(id: string): GpuTrouble | null {
    return this.all.get(id)?.gpus?.flatMap((uuid) => this.sick.get(uuid) ?? [])[0] ?? null;
  }

  emptinessOf(): Emptiness {
    return this.emptiness;
  }

  marked(books: string) {
    return [...this.all.values()]
      .filter(({ ended, wish }) => ended === null && wish.books === books)
      .map(({ id, wish }) => ({ allocationId: id, run: wish.run, attempt: wish.attempt }));
  }

  markedByOthers(books: string) {
    return [...this.all.values()]
      .filter(({ ended, wish }) => ended === null && wish.books !== books)
      .map(({ id, wish, gpus }) => ({ allocationId: id, ...wish, gpuUuids: gpus ?? [] }));
  }

  async release(id: string): Promise<void> {
    const run = this.all.get(id)?.wish.run;
    if (run !== undefined && new ProcessTable().marks().has(run)) this.takenFromTheLiving.push(run);
    this.end(id, "released");
  }

  end(id: string, reason: string): void {
    const held = this.all.get(id);
    if (held !== undefined) held.ended ??= reason;
    this.#grant();
  }

  plan(): LeasePlan {
    return { fits: true, grantedNow: true, gpuUuids: [], reason: null };
  }

  mostQueued(): number {
    return 50;
  }

  busyness(): number | null {
    return null;
  }

  gpus() {
    return this.gpusHere.map((uuid, index) => ({ index, name: "NVIDIA H100", uuid }));
  }

  driver() {
    return { version: null, cuda: null };
  }

  freeGpus(): number {
    return this.gpusHere.filter((uuid) => this.holderOf(uuid) === null).length;
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** @throws Error when it does not come true: generous, for a machine that has much else to do. */
export async function until(what: string, test: () => boolean, ms = 30_000): Promise<void> {
  const deadline = Date.now() + ms;
  while (!test()) {
    if (Date.now() > deadline) throw new Error(`it did not happen in ${ms / 1_000} s: ${what}`);
    await pause(20);
  }
}

const EXECUTOR: ExecutorSettings = {
  type: "process",
  command: null,
  python: null,
  module: null,
  class: null,
  engine: "podman",
  programs: ["/bin/sh", "/bin/sleep", process.execPath],
  images: [],
  args: [],
  env: {},
  passEnv: [],
  userEnv: ["GREETING"],
  mounts: [],
  network: "none",
  cdi: true,
  allowRemoteCode: false,
};

export interface SiteOptions {
  readonly gpus?: number;
  readonly cage?: WorkConfig["cage"];
  readonly executors?: Readonly<Record<string, Partial<ExecutorSettings>>>;
  readonly work?: Partial<WorkConfig>;
  readonly node?: string;
}

interface Daemon {
  readonly books: Books;
  readonly gate: Gate;
  readonly look: Look;
  readonly store: WorkStore;
}

export class Site {
  readonly dir = mkdtempSync(join(tmpdir(), "gpuo-work-"));
  readonly leases: MemoryLeases;
  readonly #options: SiteOptions;
  #daemon: Daemon | null = null;
  worker: ChildProcess | null = null;
  /** With those that another has taken over from, or is to. */
  readonly #workers: ChildProcess[] = [];
  /** Over all sites of a test file: a run's id is the mark of its processes. */
  static #made = 0;

  constructor(options: SiteOptions = {}) {
    this.#options = options;
    this.leases = new MemoryLeases(options.gpus ?? 2);
  }

  async start(): Promise<this> {
    await this.startDaemon();
    this.startWorker();
    await until("the worker reports", () => this.books.state.workers.size > 0);
    return this;
  }

  get books(): Books {
    return (this.#daemon as Daemon).books;
  }

  get strangers(): Gate["strangers"] {
    return (this.#daemon as Daemon).gate.strangers;
  }

  get figures(): Gate["figures"] {
    return (this.#daemon as Daemon).gate.figures;
  }

  get isUp(): boolean {
    return this.#daemon !== null;
  }

  async startDaemon(): Promise<void> {
    const store = new WorkStore(join(this.dir, "work.db"));
    const books = new Books(store, steadyClock());
    const gate = new Gate(books, this.dir, LOG, this.leases);
    await gate.listen(false);
    const look = new Look(books, this.leases, steadyClock(), LOG, () => gate.strangers.living);
    this.#daemon = { store, books, gate, look };
  }

  /** As a kill would: nothing is told to anybody. */
  async killDaemon(): Promise<void> {
    const daemon = this.#daemon;
    this.#daemon = null;
    daemon?.look.stop();
    await daemon?.gate.close();
    daemon?.store.close();
  }

  startWorker(): void {
    const { cage = "auto", executors = {}, work = {} } = this.#options;
    const { config } = loadConfig({ path: null, explicit: false, env: {}, flags: {} });
    const named = Object.entries({ process: {}, ...executors }).map(([name, more]) => [name, { ...EXECUTOR, ...more }]);
    const settings = {
      work: {
        ...config.work,
        allowRoot: true,
        allowSameUser: true,
        cage,
        executors: Object.fromEntries(named),
        ...work,
      },
      dir: this.dir,
      resultsDir: join(this.dir, "results"),
      node: this.#options.node ?? "node-1",
      tags: [],
      topics: [],
      programs: {
        holder: join(PROJECT, "src/worker/holder.ts"),
        standIn: join(PROJECT, "src/worker/executors/stand-in.ts"),
        vllmTask: join(PROJECT, "src/worker/executors/vllm-task.ts"),
        python: join(PROJECT, "executors/python"),
      },
    };
    const file = join(this.dir, "settings.json");
    mkdirSync(this.dir, { recursive: true });
    // Whole or not at all: another worker may be reading it.
    writeFileSync(`${file}.new`, JSON.stringify({ settings, logLevel: process.env.WORKER_LOG ?? "error" }));
    renameSync(`${file}.new`, file);
    const program = join(PROJECT, "test/worker/worker-program.ts");
    this.worker = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", program, file], {
      stdio: ["ignore", "inherit", "inherit"],
    });
    this.#workers.push(this.worker);
  }

  async killWorker(): Promise<void> {
    const { worker } = this;
    this.worker = null;
    if (worker === null || worker.exitCode !== null || worker.signalCode !== null) return;
    const gone = new Promise((resolve) => worker.once("exit", resolve));
    worker.kill("SIGKILL");
    await gone;
  }

  submit(command: readonly string[], spec: object = {}, gpus = 1): string {
    const hardware = gpus === 0 ? {} : { gpu: { count: gpus } };
    const document = {
      apiVersion: "gpu-orchestrator/v1",
      kind: "Task",
      metadata: { name: "job" },
      spec: { taskType: "job", command, resources: { hardware }, ...spec },
    };
    const id = `task-${process.pid}-${++Site.#made}`;
    const task = taskOf(id, readTask(document as never, TASK_SETTINGS), "alice", Date.now());
    this.books.command({ type: "submit-task", task, maxTasks: 1_000 });
    return id;
  }

  serve(spec: object): string {
    const document = {
      apiVersion: "gpu-orchestrator/v1",
      kind: "Service",
      metadata: { name: "service" },
      spec: { executor: "process", resources: { hardware: { gpu: { count: 1 } } }, ...spec },
    };
    return this.workload(document);
  }

  /** A workload as it is sent, of a model that `work.models` of this site has. */
  workload(body: object): string {
    const settings = { models: this.#options.work?.models ?? {}, profiles: {}, byDefault: PROFILE };
    const draft = readWorkload(body as never, settings);
    const uid = `w${process.pid}n${++Site.#made}`;
    const workload: Workload = {
      ...draft,
      uid,
      id: uid,
      owner: "alice",
      slots: Array.from({ length: draft.replicas }, (_, replica) => newSlot(replica)),
      generation: 0,
      createdAt: Date.now(),
      updatedAt: Date.now(),
      deleted: false,
    };
    this.books.command({ type: "submit-workload", workload, maxWorkloads: 100 });
    return uid;
  }

  task(id: string): Task {
    return this.books.state.tasks.get(id) as Task;
  }

  /** The newest run of a task or workload. */
  run(uid: string): Run | undefined {
    return [...this.books.state.runs.values()].filter(({ job }) => job.uid === uid).at(-1);
  }

  /** @param ms how long that may take. */
  async isOver(id: string, ms?: number): Promise<Task> {
    await until(`${id} is over`, () => this.isUp && ["DONE", "FAILED", "CANCELLED"].includes(this.task(id).status), ms);
    return this.task(id);
  }

  async phase(uid: string, phase: Run["phase"], ms?: number): Promise<Run> {
    await until(`a run of ${uid} is ${phase}`, () => this.isUp && this.run(uid)?.phase === phase, ms);
    return this.run(uid) as Run;
  }

  read(run: string, file: string): string | null {
    const path = join(this.dir, "runs", run, file);
    return existsSync(path) ? readFileSync(path, "utf8") : null;
  }

  pidOf(run: string, file: "child" | "holder"): number {
    return JSON.parse(this.read(run, `${file}.json`) ?? "{}").pid;
  }

  /** What lives and bears the mark of one of its runs. */
  marked(): number[] {
    const runs = new Set([...this.books.state.runs.values()].map(({ id }) => id));
    return [...new ProcessTable().marks()].filter(([run]) => runs.has(run)).flatMap(([, pids]) => pids);
  }

  async close(waitMs = 60_000): Promise<void> {
    if (this.#daemon === null) await this.startDaemon();
    if (this.worker === null) this.startWorker();
    for (const { id, deleted } of [...this.books.state.workloads.values()]) {
      if (!deleted) this.books.command({ type: "delete-workload", id });
    }
    for (const id of [...this.books.state.openTasks.values()]) {
      if (!this.task(id).cancelling) this.books.command({ type: "cancel-task", id });
    }
    await until(
      "everything has stopped",
      () => this.books.state.openRuns.size === 0 && this.books.state.workloads.size === 0,
      waitMs,
    );
    await this.killWorker();
    for (const worker of this.#workers) worker.kill("SIGKILL");
    await this.killDaemon();
    // Of books that a test has thrown away, which no worker ends.
    const runs = join(this.dir, "runs");
    const table = new ProcessTable();
    for (const run of existsSync(runs) ? readdirSync(runs) : []) signalAll(table.family(null, run), "SIGKILL");
    rmSync(this.dir, { recursive: true, force: true });
  }
}
