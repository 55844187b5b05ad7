/**
 * The daemon's scheduler and store, the real ones, on a simulated host: a real file, simulated time, GPUs and disk
 * troubles. It can be stopped, killed at a labelled point and started again, as often as one likes.
 *
 * A kill is what SIGKILL leaves behind: the file and its log as they are at that instant, an unfinished transaction
 * included, and the lock set free. The next start finds those.
 */
import { copyFileSync, existsSync, mkdtempSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Policy } from "../../src/core/model/policy.ts";
import { Idempotency } from "../../src/http/exchange/idempotency.ts";
import type { Random } from "../../src/monitor/simulated/random.ts";
import { clockAtStart } from "../../src/platform/clock.ts";
import { sortableIds } from "../../src/platform/ids.ts";
import { Scheduler } from "../../src/scheduler/scheduler.ts";
import { type OpenDatabase, openDatabase } from "../../src/store/open.ts";
import type { PruneLimits } from "../../src/store/prune.ts";
import { MIN_RETENTION_MS, SqliteStore } from "../../src/store/store.ts";
import { DurableView } from "./durable-view.ts";
import type { EventLoop } from "./event-loop.ts";
import { FaultyWriter } from "./faulty-writer.ts";
import type { Look, SimulatedDriver } from "./simulated-driver.ts";
import { fault } from "./violation.ts";
import { ProgramClock, type VirtualTime } from "./virtual-time.ts";

/** How often the daemon looks for due deadlines without being woken; the default of `cleanup_interval`. */
export const TICK_MS = 5_000;
/** Where there is one, a disk in memory: a simulation syncs it some ten thousand times a second. */
const MEMORY_DISK = "/dev/shm";

export interface DaemonParts {
  readonly time: VirtualTime;
  readonly loop: EventLoop;
  readonly driver: SimulatedDriver;
  readonly random: Random;
  readonly pruneLimits: PruneLimits;
  /** How long what is over is kept, in ms. */
  readonly keptMs: number;
  /** The daemon is told of a look at the GPUs; comes before it acts on it. */
  readonly onLook: (look: Look) => void;
}

/** An open database. */
interface Disk {
  readonly opened: OpenDatabase;
  readonly writer: FaultyWriter;
  readonly store: SqliteStore;
  readonly view: DurableView;
}

/** What lives from a start to the next stop or kill. */
interface Life {
  readonly scheduler: Scheduler;
  readonly idempotency: Idempotency;
  readonly clock: ProgramClock;
  /** By how much this start moved the instants of before. */
  readonly movedMs: number;
  /** Events that observers heard of. */
  heard: number;
}

export class SimulatedDaemon {
  readonly #parts: DaemonParts;
  readonly #folder: string;
  readonly #file: string;
  #disk: Disk | null = null;
  #life: Life | null = null;
  policy: Policy;
  /** Probes go out by themselves. */
  monitoring = true;

  constructor(parts: DaemonParts, policy: Policy) {
    this.#parts = parts;
    this.policy = policy;
    this.#folder = mkdtempSync(join(existsSync(MEMORY_DISK) ? MEMORY_DISK : tmpdir(), "gpu-orchestrator-simulation-"));
    this.#file = join(this.#folder, "orchestrator.db");
  }

  get disk(): Disk {
    return this.#disk ?? fault("the simulated daemon has no database open");
  }

  get life(): Life {
    return this.#life ?? fault("the simulated daemon is not running");
  }

  get scheduler(): Scheduler {
    return this.life.scheduler;
  }

  /** Its own time. */
  get now(): number {
    return this.life.clock.now();
  }

  /** By how much the wall clock is ahead of its own time; 0 while it does not run. */
  get wallAheadMs(): number {
    return this.#life === null ? 0 : this.#parts.time.wallMs - this.#life.clock.now();
  }

  /** Bytes of the database and its log. */
  get bytes(): number {
    return [this.#file, `${this.#file}-wal`].reduce(
      (sum, name) => sum + (statSync(name, { throwIfNoEntry: false })?.size ?? 0),
      0,
    );
  }

  /** Opens the database, and asks nothing of it yet. */
  open(): void {
    const { pruneLimits, keptMs } = this.#parts;
    const opened = openDatabase(this.#file);
    const writer = new FaultyWriter(opened.database, pruneLimits, keptMs);
    const store = new SqliteStore(opened, MIN_RETENTION_MS, writer);
    this.#disk = { opened, writer, store, view: new DurableView(this.#file) };
  }

  /**
   * Begins to serve. The process may die in this: see `disk.writer.dead`.
   *
   * @param begun comes when the time of this run is written down, and before anything else is: with the instant on the
   *   daemon's clock, and what those of before were moved by, in ms.
   */
  async start(begun: (now: number, movedMs: number) => void): Promise<void> {
    const { time, loop, random } = this.#parts;
    const { store, writer } = this.disk;
    const { clock: steady, bootedAt, movedMs } = clockAtStart(store.lastTime(), time.bootId, time.sources);
    const failed = (error: unknown) => {
      this.bug ??= error;
    };
    store.begin({ at: steady.now(), bootId: time.bootId, bootedAt, movedMs }).catch(failed);
    await loop.settle();
    if (writer.commits > 0) begun(steady.now(), movedMs);
    if (writer.dead) return;
    const clock = new ProgramClock(() => steady.now());
    const parts = {
      store,
      clock,
      newId: sortableIds((count) => Uint8Array.from({ length: count }, () => Math.floor(random() * 256))),
      policy: this.policy,
      tickIntervalMs: TICK_MS,
      wallAheadMs: () => time.wallMs - clock.now(),
      onBug: failed,
    };
    const scheduler = new Scheduler(parts, store.load());
    const life: Life = { scheduler, idempotency: new Idempotency(scheduler), clock, movedMs, heard: 0 };
    scheduler.observeWith({
      committed: ({ events }) => {
        life.heard += events.length;
      },
    });
    this.#life = life;
    scheduler.start(time.bootId, time.wallMs).catch(failed);
    await loop.settle();
    if (writer.dead) return;
    this.#poll();
    await loop.settle();
  }

  /** What the scheduler called a bug. */
  bug: unknown = null;

  /** Now, and again after each interval. */
  #poll(): void {
    const { clock } = this.life;
    if (this.monitoring) this.observe(this.#parts.driver.look(clock.now()));
    clock.after(this.policy.refreshIntervalMs, () => this.#poll());
  }

  /** Tells the daemon what a probe brought. */
  observe(look: Look): void {
    this.#parts.onLook(look);
    // A reading that could not be stored was seen all the same.
    this.scheduler.observe(look.observation).catch(() => undefined);
  }

  /** Lets `ms` of true time pass, each timer at its time. `settled` comes after each. */
  async pass(ms: number, settled: () => void): Promise<void> {
    const { time, loop } = this.#parts;
    const { clock } = this.life;
    const { writer } = this.disk;
    const until = time.trueMs + ms;
    while (!writer.dead) {
      const left = until - time.trueMs;
      const untilNext = clock.untilNextMs() ?? Number.POSITIVE_INFINITY;
      time.pass(Math.min(left, untilNext));
      clock.runDue();
      await loop.settle();
      settled();
      if (untilNext > left) return;
    }
  }

  /** Drains and closes, as on SIGTERM. `late` comes when nothing is accepted any more. */
  async stop(late: () => void): Promise<void> {
    const { loop } = this.#parts;
    const { store, view } = this.disk;
    const { scheduler } = this.life;
    const stopped = scheduler.stop();
    late();
    await loop.settle();
    await stopped;
    view.close();
    const closed = store.close();
    await loop.settle();
    await closed;
    this.#life = null;
    this.#disk = null;
  }

  /** The process is killed at this instant. */
  kill(): void {
    const { opened, writer, view } = this.disk;
    writer.dead = true;
    view.close();
    const left = ["", "-wal"].filter((suffix) => existsSync(`${this.#file}${suffix}`));
    for (const suffix of left) copyFileSync(`${this.#file}${suffix}`, `${this.#file}.left${suffix}`);
    // Closing tidies up, which the dead do not: what they left is put back.
    opened.close();
    for (const suffix of left) renameSync(`${this.#file}.left${suffix}`, `${this.#file}${suffix}`);
    this.#life = null;
    this.#disk = null;
  }

  /** Copies the database while the daemon runs, as SQLite does it. */
  backUp(): void {
    const copy = `${this.#file}.backup`;
    rmSync(copy, { force: true });
    this.disk.opened.database.prepare("VACUUM INTO ?").run(copy);
  }

  /** Puts the latest backup in the place of the database of a daemon that does not run. */
  restore(): void {
    for (const suffix of ["-wal", "-shm"]) rmSync(`${this.#file}${suffix}`, { force: true });
    copyFileSync(`${this.#file}.backup`, this.#file);
  }

  /** Ends it, and removes its files. */
  discard(): void {
    if (this.#disk !== null) this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
