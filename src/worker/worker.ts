/**
 * The worker: starts and stops what the controller wants, and says what it sees.
 *
 *  1. It remembers nothing that is not in the runs' folders: killed and started again, it goes on.
 *  2. While the controller is silent it starts nothing and gives nothing up. What runs, runs.
 *  3. It touches no process that does not bear the mark of one of its runs.
 */
import {
  accessSync,
  constants,
  type FSWatcher,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  watch as watchFolder,
} from "node:fs";
import { arch, cpus, networkInterfaces, totalmem } from "node:os";
import { join } from "node:path";
import { readBootId } from "../platform/boot-id.ts";
import { nextInstance } from "../platform/instance.ts";
import type { Logger } from "../platform/logger.ts";
import { VLLM_KEY } from "../work/argv.ts";
import { WorkError } from "../work/errors.ts";
import type { Assignment, WorkerFacts } from "../work/model.ts";
import { type CageKind, chooseCage, groupsNamed, membersOf, removeGroups, signalAll } from "./cages.ts";
import { claimIn, makeFolder, type Order, readIn, removeDrafts, writeIn } from "./folder.ts";
import { leftovers, removeOldDrafts, removeRun } from "./leftovers.ts";
import { answersWell, completes } from "./probes.ts";
import { isAlive, listensOn, MARK, ProcessTable } from "./processes.ts";
import { type Publication, publish } from "./results.ts";
import type { WorkerSettings } from "./settings.ts";
import type { SpareHolder } from "./spare.ts";
import { prepare, ServiceAwayError, spareHolder } from "./start.ts";
import { SupersededError, syncOnce, type Wanted } from "./sync.ts";
import { UsageMeter } from "./usage.ts";
import { type RunEnd, RunWatch } from "./watch.ts";

const TICK_MS = 100;
/** After a file in a run's folder has changed, and while a cage that is empty must be seen to be so. */
const SOON_MS = 10;
const EMPTYING_TICK_MS = 45;
/** So many are prepared at a time. */
const STARTS_AT_ONCE = 8;
/** How soon the daemon is asked again when it was not there, or told something that could not be done yet. */
const RETRY_MS = 500;
/** News goes out at once, but not more often than this. */
const NEWS_MS = 20;
/** Node's copying of folders says EIO whatever was the matter. */
const FULL: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EIO"]);
const CLEAN_MS = 3_600_000;

export type WorkerEnd = "superseded" | "stopped" | "homeless";

export interface RunningWorker {
  /** Resolves when a newer worker has taken over, it was stopped, or its folder and all of its runs are gone. Runs go on. */
  readonly done: Promise<WorkerEnd>;
  stop(): void;
}

export function startWorker(settings: WorkerSettings, log: Logger): RunningWorker {
  const worker = new Worker(settings, log);
  return { done: worker.run(), stop: () => worker.stop() };
}

class Worker {
  readonly #settings: WorkerSettings;
  readonly #log: Logger;
  readonly #runsDir: string;
  /** Which folder it was at the start. */
  readonly #home: string | null;
  readonly #cage: CageKind;
  readonly #spare: SpareHolder | null;
  readonly #facts: WorkerFacts;
  readonly #watches = new Map<string, RunWatch>();
  readonly #starting = new Set<string>();
  /** What tells that a run's folder has changed, by run. */
  readonly #ears = new Map<string, FSWatcher>();
  #soon: NodeJS.Timeout | null = null;
  readonly #probing = new Map<string, { due: number; failures: number; busy: boolean; checkAt: number }>();
  readonly #usage = new UsageMeter();
  #orphansStopped = 0;
  #books: string | null = null;
  #lastNews = "";
  #poll: AbortController | null = null;
  #isStopped = false;
  #isAnswered = false;
  /** Results could not be put in place: the daemon asks for them at once, until they are. */
  #mustTryAgain = false;

  constructor(settings: WorkerSettings, log: Logger) {
    this.#settings = settings;
    this.#log = log;
    this.#runsDir = join(settings.dir, "runs");
    mkdirSync(this.#runsDir, { recursive: true, mode: 0o755 });
    this.#home = folderAt(this.#runsDir);
    this.#cage = chooseCage(settings.work.cage);
    this.#spare = spareHolder(this.#cage, settings);
    this.#facts = {
      node: settings.node,
      instance: nextInstance(settings.dir, "worker", Date.now()),
      pid: process.pid,
      startedAt: Date.now(),
      bootId: readBootId(),
      executors: Object.entries(settings.work.executors)
        .flatMap(([name, { type }]) => (type === "mloc" ? [] : [name]))
        .sort(),
      topics: settings.topics,
      tags: settings.tags,
      labels: settings.work.labels,
      cage: this.#cage,
      endsSurely: this.#cage !== "session",
      sameUser: settings.work.allowSameUser,
      hardware: hardware(),
    };
    this.#adopt();
    this.#cleanUp();
    this.#log.info({ runs: this.#watches.size, cage: this.#cage }, "the worker has taken up its runs");
  }

  /** Takes up what an earlier worker has left. */
  #adopt(): void {
    for (const name of readdirSync(this.#runsDir)) this.#takeUp(name);
  }

  /** What is on disk of a run, whoever has put it there; `null`: nothing that was begun. */
  #takeUp(run: string): RunWatch | null {
    const known = this.#watches.get(run);
    if (known !== undefined) return known;
    const folder = join(this.#runsDir, run);
    const order = readIn<Order>(folder, "order");
    if (order === null) return null;
    const watch = new RunWatch(folder, order);
    if (!watch.settled) {
      this.#watches.set(order.run, watch);
      this.#listen(order.run, folder);
    }
    return watch;
  }

  /** Only to be sooner than the next look: a host that has no more of these goes without. */
  #listen(run: string, folder: string): void {
    try {
      const ear = watchFolder(folder, { persistent: false }, () => this.#tickIn(SOON_MS));
      ear.on("error", () => this.#stopListening(run));
      this.#ears.set(run, ear);
    } catch {
      this.#ears.delete(run);
    }
  }

  #stopListening(run: string): void {
    this.#ears.get(run)?.close();
    this.#ears.delete(run);
  }

  #tickIn(ms: number): void {
    this.#soon ??= setTimeout(() => {
      this.#soon = null;
      if (!this.#isStopped) this.#tick();
    }, ms);
  }

  #cleanUp(): void {
    let old: readonly string[] = [];
    try {
      old = leftovers(this.#runsDir, Date.now(), (name) => this.#starting.has(name));
    } catch (error) {
      this.#log.error({ err: error }, "the folders of runs cannot be looked through");
    }
    for (const run of old) {
      try {
        removeRun(this.#runsDir, run);
        const groups = groupsNamed(this.#cage, run);
        void removeGroups(groups);
      } catch (error) {
        this.#log.error({ err: error, run }, "the folder of an old run cannot be removed");
      }
    }
    removeOldDrafts(this.#settings.resultsDir, Date.now()).catch((error: unknown) =>
      this.#log.error({ err: error }, "what was left of results cannot be removed"),
    );
  }

  async run(): Promise<WorkerEnd> {
    const timer = setInterval(() => this.#tick(), TICK_MS);
    const cleaning = setInterval(() => this.#cleanUp(), CLEAN_MS);
    try {
      while (!this.#isStopped) {
        try {
          await this.#sync();
          if (this.#mustTryAgain) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        } catch (error) {
          if (error instanceof SupersededError) return "superseded";
          if (this.#isStopped) break;
          if (this.#isHomeless()) return "homeless";
          if (!isAbort(error)) {
            this.#log.debug({ err: error }, "the daemon is not there");
            await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
          } else await new Promise((resolve) => setTimeout(resolve, NEWS_MS));
        }
      }
      return "stopped";
    } finally {
      clearInterval(timer);
      clearInterval(cleaning);
      clearTimeout(this.#soon ?? undefined);
      this.#spare?.stop();
      for (const run of [...this.#ears.keys()]) this.#stopListening(run);
    }
  }

  /** Whoever would take over from it asks in another folder: nobody could ever tell it to end. */
  #isHomeless(): boolean {
    const now = folderAt(this.#runsDir);
    if (now === this.#home || now === "unknown") return false;
    const table = new ProcessTable();
    const lives = [...this.#watches.values()].some(
      ({ order, end, child, holder }) =>
        end === null && ((holder !== null && isAlive(holder)) || membersOf(order, child, holder, table).length > 0),
    );
    if (lives) return false;
    this.#log.warn(
      { dir: this.#settings.dir },
      "work.dir was removed or replaced, and no run of it lives: the worker ends",
    );
    return true;
  }

  stop(): void {
    this.#isStopped = true;
    this.#poll?.abort();
  }

  async #sync(): Promise<void> {
    const { dir } = this.#settings;
    const runs = [...this.#watches.values()].map((watch) => watch.seen(this.#books));
    this.#lastNews = JSON.stringify(runs);
    this.#poll = new AbortController();
    const unkillable = [...this.#watches.values()].filter((watch) => watch.unkillable > 0).length;
    const report = {
      worker: this.#facts,
      runs,
      orphansStopped: this.#orphansStopped,
      unkillable,
      isUnanswered: !this.#isAnswered,
      usage: this.#usage.all,
    };
    const wanted = await syncOnce(join(dir, "worker.sock"), join(dir, "worker.token"), report, this.#poll.signal);
    this.#books = wanted.books;
    // The worker before this one has been obeyed until here, and is refused from now on: all that it has begun is there.
    if (!this.#isAnswered) this.#adopt();
    this.#isAnswered = true;
    await this.#obey(wanted);
  }

  #tick(): void {
    let table: ProcessTable | null = null;
    const look = () => {
      table ??= new ProcessTable();
      return table;
    };
    const now = Date.now();
    for (const watch of this.#watches.values()) {
      try {
        watch.tick(now, this.#facts.bootId, look);
        if (this.#books !== null && watch.books !== this.#books) continue;
        this.#probe(watch, performance.now(), look);
        this.#measure(watch, now, look);
      } catch (error) {
        this.#log.error({ err: error, run: watch.order.run }, "a run cannot be followed");
      }
    }
    const watches = [...this.#watches.values()];
    if (JSON.stringify(watches.map((watch) => watch.seen(this.#books))) !== this.#lastNews) this.#poll?.abort();
    if (watches.some((watch) => watch.isEmptying(now))) this.#tickIn(EMPTYING_TICK_MS);
  }

  async #obey({ start, stop, publish: publications, settled, orphans, books, strangers }: Wanted): Promise<void> {
    const now = Date.now();
    for (const run of strangers?.stop ?? []) {
      const watch = this.#watches.get(run);
      watch?.stop({ signal: "TERM", graceMs: watch.order.graceMs, to: "main" }, null, now);
    }
    for (const run of strangers?.adopt ?? []) this.#watches.get(run)?.adopt(books);
    for (const run of strangers?.disown ?? []) this.#watches.get(run)?.disown();
    for (const run of strangers?.settle ?? []) {
      const watch = this.#watches.get(run);
      if (watch?.end) this.#settle(watch);
    }
    for (const order of stop) this.#stop(order, books, now);
    await this.#startAll(start, books);
    this.#mustTryAgain = false;
    for (const publication of publications) {
      const watch = this.#watches.get(publication.run);
      if (watch?.end === undefined || watch.end === null || watch.published) continue;
      if (!this.#publish(watch, watch.end, publication)) this.#mustTryAgain = true;
    }
    const over = settled.flatMap((run) => {
      const watch = this.#watches.get(run);
      return watch === undefined || watch.end === null || watch.books !== books ? [] : [watch];
    });
    this.#endStrays(over);
    for (const watch of over) this.#settle(watch);
    for (const run of orphans) {
      const watch = this.#watches.get(run);
      if (watch === undefined || watch.books !== books) continue;
      if (watch.end === null) {
        if (!watch.isStopping) this.#orphansStopped++;
        watch.stop({ signal: "TERM", graceMs: watch.order.graceMs, to: "main" }, null, now);
      } else {
        this.#settle(watch);
      }
    }
  }

  /**
   * What is wrong with one run's output holds up no other's. Only a full disk, or a folder of results that is none, is
   * worth another attempt: it may be one again, and the output is in the run's own until then.
   *
   * @returns false when it is to be tried again.
   */
  #publish(watch: RunWatch, end: RunEnd, publication: Publication): boolean {
    try {
      if (!publish(watch.folder, end, publication, this.#settings.resultsDir)) return false;
    } catch (error) {
      this.#log.error({ err: error, run: publication.run }, "a run's output cannot be kept");
      const isFull = FULL.has((error as NodeJS.ErrnoException).code ?? "");
      if (isFull || !isWritableFolder(this.#settings.resultsDir)) return false;
    }
    try {
      watch.markPublished();
    } catch (error) {
      this.#log.error({ err: error, run: publication.run }, "it cannot be written down that a run's output is kept");
      return false;
    }
    return true;
  }

  #settle(watch: RunWatch): void {
    const { run } = watch.order;
    try {
      watch.settle();
    } catch (error) {
      this.#log.error({ err: error, run }, "what is left of a run cannot be removed");
    }
    if (!watch.settled) return;
    this.#stopListening(run);
    this.#watches.delete(run);
    this.#probing.delete(run);
  }

  #stop({ run, ...order }: Wanted["stop"][number], books: string, now: number): void {
    if (this.#starting.has(run)) return;
    const watch = this.#takeUp(run);
    if (watch !== null) {
      watch.stop({ signal: order.signal, graceMs: order.graceMs, to: order.to as "main" | "group" }, null, now);
      return;
    }
    // A stone with its name on it: an order to start it that comes late finds that it is over.
    this.#refuse(run, books, order.epoch, "it was stopped before it began", null);
  }

  async #startAll(start: readonly Assignment[], books: string): Promise<void> {
    const left = [...start];
    const taken = new Set(
      [...this.#watches.values()].flatMap(({ order, end }) =>
        order.port === null || end !== null ? [] : [order.port],
      ),
    );
    const oneAfterTheOther = async () => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) await this.#start(next, books, taken);
    };
    const lines = await Promise.allSettled(Array.from({ length: STARTS_AT_ONCE }, oneAfterTheOther));
    // Not before all have ended: what is told next is obeyed by nobody else meanwhile.
    for (const line of lines) if (line.status === "rejected") throw line.reason;
  }

  async #start(assignment: Assignment, books: string, taken: Set<number>): Promise<void> {
    const { run, epoch } = assignment;
    if (this.#starting.has(run) || this.#takeUp(run) !== null) return;
    const folder = join(this.#runsDir, run);
    this.#starting.add(run);
    try {
      makeFolder(folder, 0o755);
      const starter = {
        settings: this.#settings,
        books,
        bootId: this.#facts.bootId,
        cage: this.#cage,
        taken,
        spare: this.#spare,
      };
      const isOurs = await prepare(folder, assignment, starter);
      this.#takeUp(run);
      if (!isOurs) return;
      this.#log.info(
        { run, executor: assignment.spec.executor, gpu_uuids: assignment.lease?.gpuUuids ?? [] },
        "run started",
      );
    } catch (error) {
      const isAway = error instanceof ServiceAwayError;
      if (!(error instanceof WorkError) && !isAway) this.#log.error({ err: error, run }, "a run could not be started");
      const detail = error instanceof Error ? error.message : String(error);
      this.#refuse(run, books, epoch, detail, isAway ? null : "executor-failed");
    } finally {
      this.#starting.delete(run);
    }
  }

  /** A run that is over before it began. */
  #refuse(run: string, books: string, epoch: number, detail: string, reason: "executor-failed" | null): void {
    const folder = join(this.#runsDir, run);
    makeFolder(folder, 0o755);
    const order: Order = { ...NOTHING, run, books, epoch, bootId: this.#facts.bootId, orderedAt: Date.now() };
    const end = { at: Date.now(), reason, detail, exitCode: null, signal: null, resultOk: null, tail: [] };
    // Where another worker has begun it after all it is not over.
    if (claimIn(folder, "order", order)) {
      writeIn(folder, "end", end);
      // Of a start that was given up half way, here or by a worker that died.
      removeDrafts(folder);
      rmSync(join(folder, "env"), { force: true });
      void removeGroups(groupsNamed(this.#cage, run));
    }
    this.#takeUp(run);
  }

  /** Ends what bears the mark of a run that is over: what came out of its cage alive. */
  #endStrays(over: readonly RunWatch[]): void {
    if (over.length === 0) return;
    const table = new ProcessTable();
    const marks = table.marks();
    for (const { order } of over) {
      const strays = marks.get(order.run) ?? [];
      if (strays.length === 0) continue;
      this.#orphansStopped++;
      this.#log.warn({ run: order.run, pids: strays, mark: MARK }, "processes of an ended run are stopped");
      signalAll(strays, "SIGKILL");
    }
  }

  #measure({ order, end, ready, child, holder }: RunWatch, now: number, look: () => ProcessTable): void {
    const { run, port, probes } = order;
    if (end !== null) this.#usage.forget(run);
    else if (port !== null && ready === true && child !== null) {
      this.#usage.look(run, probes.host, port, () => membersOf(order, child, holder, look()), now);
    }
  }

  /** @param now by a clock that nobody sets. */
  #probe(watch: RunWatch, now: number, look: () => ProcessTable): void {
    const { readiness, liveness, host } = watch.order.probes;
    const { port } = watch.order;
    if (port === null || watch.end !== null || watch.isStopping || watch.child === null) return;
    if (readiness === null) {
      // Nothing says how it is asked: it is ready when it listens.
      if (watch.ready !== true && listensOn(port, membersOf(watch.order, watch.child, watch.holder, look())))
        watch.ready = true;
      return;
    }
    const state = this.#probing.get(watch.order.run) ?? { due: 0, failures: 0, busy: false, checkAt: now };
    this.#probing.set(watch.order.run, state);
    if (state.busy || now < state.due) return;
    state.busy = true;
    // Until it is ready it is asked more often.
    state.due = now + (watch.ready === true ? readiness.intervalMs : Math.min(readiness.intervalMs, 500));
    void (async () => {
      const answers = await answersWell(host, port, readiness.http);
      const isOwn = answers && listensOn(port, membersOf(watch.order, watch.child, watch.holder, new ProcessTable()));
      if (isOwn || watch.ready !== null) watch.ready = isOwn;
      if (liveness !== null && isOwn && performance.now() - state.checkAt >= liveness.intervalMs) {
        state.checkAt = performance.now();
        const { probes, env } = watch.order;
        const lives = !liveness.completion || (await completes(probes, port, liveness.timeoutMs, env[VLLM_KEY]));
        state.failures = lives ? 0 : state.failures + 1;
        if (state.failures >= liveness.failures) {
          watch.stop({ signal: "TERM", graceMs: watch.order.graceMs, to: "main" }, "unhealthy", Date.now());
        }
      }
      state.busy = false;
    })();
  }
}

const NOTHING: Omit<Order, "run" | "books" | "epoch" | "bootId" | "orderedAt"> = {
  argv: [],
  env: {},
  cwd: "/",
  logs: "",
  maxLogBytes: 0,
  maxLogFiles: 0,
  enter: [],
  leave: [],
  cage: { kind: "session", groups: [], limits: [] },
  graceMs: 0,
  port: null,
  probes: { readiness: null, liveness: null, host: "", model: null },
};

/** A folder that is made anew may get the number of the one before. `null`: nothing is there. */
function folderAt(path: string): string | null {
  try {
    const stat = statSync(path, { throwIfNoEntry: false });
    return stat === undefined ? null : `${stat.dev} ${stat.ino} ${stat.birthtimeMs}`;
  } catch {
    return "unknown";
  }
}

function isWritableFolder(path: string): boolean {
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}

/** As MLOC's workers tell it; the GPUs are the daemon's to tell. */
function hardware(): WorkerFacts["hardware"] {
  const ip = Object.values(networkInterfaces())
    .flat()
    .find((address) => address?.family === "IPv4" && !address.internal)?.address;
  return {
    cpu: { logical_cores: cpus().length, model: cpus()[0]?.model ?? arch() },
    memory: { total_bytes: totalmem() },
    network: { ip: ip ?? "127.0.0.1" },
  };
}
