/** A simulated host with the real scheduler and store, to which things happen one by one; after each all must be well. */

import { canonicalJson } from "../../src/core/base/json.ts";
import type { HostState } from "../../src/core/host/state.ts";
import { DomainError } from "../../src/core/model/errors.ts";
import type { AllocationId } from "../../src/core/model/ids.ts";
import type { Policy } from "../../src/core/model/policy.ts";
import { seededRandom } from "../../src/monitor/simulated/random.ts";
import { KEY_LIFE_MS } from "../../src/ports/store.ts";
import type { PruneLimits } from "../../src/store/prune.ts";
import { Acknowledged } from "./acknowledged.ts";
import { Auditor } from "./auditor.ts";
import { Books, Causes, NOTHING_SEEN } from "./books.ts";
import { Clients } from "./clients.ts";
import { reservedWindows } from "./drawn-windows.ts";
import { EventLoop } from "./event-loop.ts";
import { type Op, POLICIES, type Return } from "./ops.ts";
import { SimulatedDaemon, TICK_MS } from "./simulated-daemon.ts";
import { type Look, SimulatedDriver } from "./simulated-driver.ts";
import { Tally } from "./tally.ts";
import { breach, fault } from "./violation.ts";
import { VirtualTime } from "./virtual-time.ts";
import { checkBooks, checkCandidates, checkFold, checkOverdue, checkStored, durableText } from "./whole-checks.ts";

/** Of the checks of the whole, one in so many reads every row: before a command, and after it if it is refused. */
const DIGEST_EVERY = 10;
/** A stand-still longer than this is seen as one, and gives grace. */
const PAUSE_MS = 1_000;
/** How often the daemon sees that it runs: a shorter stand-still may look as long as this one more. */
const BEAT_MS = 500;
/** After a sleep, the time in which the daemon must have noticed. */
const WAKE_UP_MS = 1_100;

export interface SimulationSettings {
  readonly seed: number;
  readonly pruneLimits: PruneLimits;
  /** How long what is over is kept, in ms of the simulated time. */
  readonly keptMs: number;
  /** The whole is checked after every so many steps; what has changed is, after every one. */
  readonly checkWholeEvery: number;
  readonly tally?: Tally;
}

/** What is put back when a backup is. */
interface Backup {
  readonly books: Books;
  readonly folded: HostState;
  readonly acknowledged: Acknowledged;
}

export class Simulation {
  readonly tally: Tally;
  readonly #settings: SimulationSettings;
  readonly #loop = new EventLoop();
  readonly #time = new VirtualTime();
  readonly #driver = new SimulatedDriver();
  readonly #causes = new Causes(POLICIES[0] as (typeof POLICIES)[number], NOTHING_SEEN);
  readonly #daemon: SimulatedDaemon;
  readonly #clients: Clients;
  readonly #auditor: Auditor;
  #backup: Backup | null = null;
  /** A probe under way. */
  #slowLook: Look | null = null;
  #tokenFloor = 0;
  #commitsSeen = 0;
  #refusalsSeen = 0;
  /** On the daemon's clock: since then it has run, and its disk has been well. */
  #wellSince = 0;
  /** Whether the store refused the last turn. */
  #diskFailing = false;
  #steps = 0;
  /** Of the file, after the latest transaction. */
  #version = 0;
  /** The same, when all of it was checked; `null`: not in this life of the daemon. */
  #wholeVersion: number | null = null;
  mostLive = 0;
  mostPending = 0;

  private constructor(settings: SimulationSettings) {
    this.#settings = settings;
    this.tally = settings.tally ?? new Tally();
    const { pruneLimits, keptMs, seed } = settings;
    this.#daemon = new SimulatedDaemon(
      {
        time: this.#time,
        loop: this.#loop,
        driver: this.#driver,
        random: seededRandom(seed),
        pruneLimits,
        keptMs,
        onLook: (look) => this.#causes.look(look),
      },
      this.#causes.policy,
    );
    this.#clients = new Clients({
      daemon: this.#daemon,
      driver: this.#driver,
      time: this.#time,
      causes: this.#causes,
      tally: this.tally,
      books: () => this.#auditor.books,
    });
    this.#auditor = new Auditor(this.tally, this.#causes.policy, {
      granted: (id, lease) => this.#clients.acknowledged.judgeGrant(id, lease, this.#time.trueMs),
      endMoved: (id, leftMs) => this.#clients.acknowledged.endMoved(id, leftMs, this.#time.trueMs),
      ended: (id, reason) => this.#clients.acknowledged.ended(id, reason),
    });
  }

  /** A daemon that has just begun to serve, with four idle GPUs in sight. Discard it. */
  static async begin(settings: SimulationSettings): Promise<Simulation> {
    const simulation = new Simulation(settings);
    try {
      await simulation.#comeBack({ awayMs: 0, reboot: false, wallAheadMs: null, dies: null });
      return simulation;
    } catch (error) {
      simulation.discard();
      throw error;
    }
  }

  discard(): void {
    this.#daemon.discard();
    this.#loop.close();
  }

  get bytes(): number {
    return this.#daemon.bytes;
  }

  /** Simulated time so far, in ms. */
  get elapsedMs(): number {
    return this.#time.trueMs;
  }

  breathe(): Promise<void> {
    return this.#loop.breathe();
  }

  journalHash(): string {
    return this.#auditor.journalHash();
  }

  /** Lets one thing happen. @throws Violation when something is not as it must be. */
  async step(op: Op): Promise<void> {
    await this.#happen(op);
    this.#steps += 1;
    checkCandidates(this.#daemon.life.scheduler.state);
    if (this.#steps % this.#settings.checkWholeEvery === 0) this.checkWhole();
    this.#causes.clear();
    this.#clients.renewCauses();
    this.#clients.noteWaits();
  }

  async #happen(op: Op): Promise<void> {
    this.tally.count("op", op.op);
    switch (op.op) {
      case "together":
        for (const one of op.ops) this.#clients.send(one);
        return this.#settle();
      case "pass":
        return this.#daemon.pass(op.ms, () => this.#audit());
      case "attempt":
        this.#clients.attempt(op.n);
        return;
      case "mood":
      case "cut":
      case "use instance":
      case "presence":
      case "driver":
      case "monitor":
      case "probe":
        return this.#look(op);
      case "pause":
        return this.#standStill(op.ms, op.suspended);
      case "restart":
        return this.#restart(op.back);
      case "crash":
        return this.#crash(op);
      case "backup":
        this.#daemon.backUp();
        this.#backup = {
          books: new Books(this.#auditor.books),
          folded: this.#auditor.folded,
          acknowledged: new Acknowledged(this.#clients.acknowledged),
        };
        return;
      case "restore":
        return this.#restore(op.back);
      case "trouble":
        this.tally.count("trouble", op.trouble);
        this.#daemon.disk.writer.makeTrouble(op.trouble, op.jobs, op.after);
        return;
      case "prune":
        return this.#prune();
      case "reconfigure":
        return this.#reconfigure(op);
      case "set clock":
        this.#setWall(op.aheadMs);
        return;
      case "keys":
        this.#clients.setKeys(op.principal, op.valid);
        return;
      default:
        return this.#ask(op);
    }
  }

  /** One client asks one thing. */
  async #ask(op: Parameters<Clients["send"]>[0]): Promise<void> {
    const { scheduler } = this.#daemon;
    const { view } = this.#daemon.disk;
    const { answered, refused } = this.#clients;
    const [{ lastSeq, submissions }, before] = [this.#auditor.books, scheduler.state];
    const digest = this.#steps % (DIGEST_EVERY * this.#settings.checkWholeEvery) === 0 ? view.digest() : null;
    this.#clients.send(op);
    await this.#loop.settle();
    const isRefused = this.#clients.refused > refused && this.#clients.answered === answered;
    if (!isRefused) {
      this.#audit();
      return;
    }
    // 12: what was due may have been written down with it, but nothing that it asked for.
    this.#causes.clearAsked();
    this.#clients.renewCauses();
    this.#audit();
    const { books } = this.#auditor;
    const what = `${op.op} was refused`;
    if (books.submissions !== submissions) breach(12, `${what}, and something was submitted`);
    if (books.lastSeq !== lastSeq) return;
    if (view.version() !== this.#version) breach(12, `${what}, and something was stored`);
    if (digest !== null && view.digest() !== digest) breach(12, `${what}, and the file is another`);
    const { state } = scheduler;
    const isSame =
      state.allocations === before.allocations &&
      state.gpus === before.gpus &&
      state.nextFencingToken === before.nextFencingToken;
    if (!isSame) breach(12, `${what}, and the state has changed`);
  }

  async #settle(): Promise<void> {
    await this.#loop.settle();
    this.#audit();
  }

  /** Everything has settled: what has become durable since the last time must be right. */
  #audit(): void {
    const { bug } = this.#daemon;
    const { writer } = this.#daemon.disk;
    if (bug !== null) fault("the scheduler met a bug", bug);
    if (this.#clients.broken !== null) throw this.#clients.broken;
    const refused = writer.refused - this.#refusalsSeen;
    this.tally.count("host", "transactions refused", refused);
    this.#refusalsSeen = writer.refused;
    const wasFailing = this.#diskFailing;
    if (!writer.dead) this.#noteDisk(refused > 0);
    // What a transaction ended at the very instant at which the next one failed had lost no time.
    if (wasFailing) this.#oweForDisk();
    if (writer.commits !== this.#commitsSeen) this.#auditCommits();
    if (!wasFailing) this.#oweForDisk();
    this.#clients.acknowledged.believe((id) => this.#auditor.books.live.get(id));
  }

  /** @param wasRefused one was since the last look, of which the next, at the same instant, may have told already. */
  #noteDisk(wasRefused: boolean): void {
    const { scheduler, now } = this.#daemon;
    const { troubled } = this.#daemon.disk.writer;
    this.#diskFailing = !scheduler.storageHealthy;
    if (troubled || this.#diskFailing) this.#wellSince = now;
    if (this.#diskFailing || wasRefused) this.#causes.resumes = Math.max(1, this.#causes.resumes);
  }

  /** What falls due while nothing can be stored is owed its time as well, and a resumption tells of it. */
  #oweForDisk(): void {
    if (this.#diskFailing && !this.#daemon.disk.writer.dead) this.#auditor.owe(this.#daemon.now, this.#causes.policy);
  }

  #auditCommits(): void {
    const { writer, view } = this.#daemon.disk;
    this.#commitsSeen = writer.commits;
    this.#version = view.version();
    const before = this.#auditor.books.lastSeq;
    const { wallAheadMs } = this.#daemon;
    const moment = { trueMs: this.#time.trueMs, tokenFloor: this.#tokenFloor, wallAheadMs };
    const touched = this.#auditor.follow(view, this.#causes, moment);
    this.#checkDeliveries();
    this.mostLive = Math.max(this.mostLive, this.#auditor.books.live.size);
    this.mostPending = Math.max(this.mostPending, this.#auditor.books.pending.size);
    for (const id of touched) this.#checkOne(id);
    if (writer.dead) return;
    const { life } = this.#daemon;
    const { allocations } = life.scheduler.state;
    if (allocations.size !== this.#auditor.folded.allocations.size)
      breach(8, "the state in memory is not the stored one");
    if (life.heard !== this.#auditor.books.lastSeq - before) fault("observers were not told what was committed");
    life.heard = 0;
  }

  /** 2, 3, 8: one record is the same in the journal, in memory and in its row. */
  #checkOne(id: AllocationId): void {
    const { writer, view } = this.#daemon.disk;
    const folded = this.#auditor.folded.allocations.get(id);
    const stored = view.allocation(id);
    const text = canonicalJson(stored === undefined || stored.status !== "queued" ? stored : { ...stored, seenAt: 0 });
    if (folded === undefined) {
      const reason = this.#auditor.books.ended.get(id)?.reason;
      if (stored?.status !== "ended" || stored.outcome.reason !== reason) breach(8, `${id} ended, and is ${text}`);
    } else if (text !== canonicalJson("seenAt" in folded ? { ...folded, seenAt: 0 } : folded)) {
      breach(8, `${id} folds to ${JSON.stringify(folded)}, and is stored as ${text}`);
    }
    if (writer.dead) return;
    const shown = this.#daemon.scheduler.state.allocations.get(id);
    if (shown?.status !== folded?.status) breach(8, `${id} is ${folded?.status}, and shown as ${shown?.status}`);
  }

  /** 10: what is no longer to be sent was delivered, given up, or withdrawn with its offer. */
  #checkDeliveries(): void {
    const { pending, live, outdated } = this.#auditor.books;
    const { view } = this.#daemon.disk;
    for (const deliveryId of this.#causes.redelivered) {
      const row = view.delivery(deliveryId);
      if (row?.state === "pending") pending.set(deliveryId, { id: row.allocation_id, status: row.status });
    }
    for (const [deliveryId, { id, status }] of pending) {
      const outcome = this.#causes.settled.get(deliveryId);
      const lapsed = outdated.has(deliveryId) || (status === "allocated" && !live.has(id ?? ""));
      if (outcome === undefined && !lapsed) continue;
      const state = view.delivery(deliveryId)?.state;
      if (state === "pending") {
        if (lapsed) breach(10, `${deliveryId} tells of what is not so any more, and is not withdrawn`);
        continue;
      }
      if (state !== outcome && !(lapsed && state === "withdrawn"))
        breach(10, `${deliveryId} is ${state} without a cause`);
      pending.delete(deliveryId);
      outdated.delete(deliveryId);
    }
  }

  /** Everything that is on disk, unless it is what it was when it was looked at last; and everything in memory. */
  checkWhole(): void {
    const { writer } = this.#daemon.disk;
    const { scheduler, clock } = this.#daemon.life;
    const { books, folded } = this.#auditor;
    if (this.#version !== this.#wholeVersion) {
      this.#wholeVersion = this.#version;
      this.#checkDurable();
    }
    const [shown, expected] = [durableText(scheduler.state), durableText(folded)];
    if (shown !== expected) breach(8, `in memory:\n${shown}\nfolded:\n${expected}`);
    const { nextFencingToken: token } = scheduler.state;
    if (token <= books.highestToken) breach(4, `the next is ${token}, after ${books.highestToken}`);
    checkOverdue(books, clock.now(), writer.troubled ? clock.now() : this.#wellSince);
  }

  #checkDurable(): void {
    const { view } = this.#daemon.disk;
    const { books, folded } = this.#auditor;
    this.tally.count("host", "checked as a whole");
    checkStored(view, folded);
    checkFold(view, folded);
    checkBooks(books, view, folded);
    this.#clients.acknowledged.check((id) => view.allocation(id));
  }

  #look(
    op: Extract<Op, { op: "mood" | "cut" | "use instance" | "presence" | "driver" | "monitor" | "probe" }>,
  ): Promise<void> | undefined {
    const uuid = this.#driver.uuids["gpu" in op ? op.gpu : 0] as string;
    switch (op.op) {
      case "mood":
        this.tally.count("mood", op.mood);
        this.#driver.change(uuid, { mood: op.mood });
        return;
      case "cut":
        this.#driver.cut(op.into);
        return;
      case "use instance":
        this.#driver.use(op.uuid, op.inUse);
        return;
      case "presence":
        this.#driver.change(uuid, { present: op.present });
        return;
      case "driver":
        this.#driver.failure = op.failure;
        return;
      case "monitor":
        this.#daemon.monitoring = op.on;
        return;
      case "probe": {
        const now = this.#daemon.now;
        const slow = this.#slowLook;
        this.#slowLook = null;
        if (slow !== null) {
          this.tally.count("host", "probed slowly");
          this.#daemon.observe({ ...slow, observation: { ...slow.observation, finishedAt: now } });
        } else if (op.slow) this.#slowLook = this.#driver.look(now);
        else this.#daemon.observe(this.#driver.look(now));
        return this.#settle();
      }
      default:
        return op satisfies never;
    }
  }

  /** The process (SIGSTOP), or the whole host, stands still. */
  async #standStill(ms: number, suspended: boolean): Promise<void> {
    const { clock } = this.#daemon.life;
    this.tally.count("host", suspended ? "slept" : "stopped");
    if (ms > PAUSE_MS) this.#auditor.owe(clock.now() + ms, this.#causes.policy);
    if (ms > PAUSE_MS - BEAT_MS) this.#causes.resumes += 1;
    this.#wellSince = clock.now() + ms;
    if (suspended) {
      this.#time.sleep(ms);
      return this.#daemon.pass(WAKE_UP_MS, () => this.#audit());
    }
    this.#time.pass(ms);
    clock.runDue();
    return this.#settle();
  }

  async #restart(back: Return): Promise<void> {
    this.#clients.hangUpOnAll();
    await this.#settle();
    await this.#daemon.stop(() =>
      this.#clients.send({ op: "renew", pick: { among: "nobody", n: 0 }, who: "admin", token: "none", key: null }),
    );
    this.#clients.daemonGone();
    await this.#comeBack(back);
  }

  async #crash({ point, during, back }: Extract<Op, { op: "crash" }>): Promise<void> {
    const { writer, store } = this.#daemon.disk;
    const { clock, movedMs } = this.#daemon.life;
    const commits = writer.commits;
    if (point === "after the answer") this.#clients.deaf = true;
    else writer.crashAt(point);
    if (during === "prune") store.prune(clock.now() - Math.max(0, movedMs)).catch(() => undefined);
    else for (const one of during) this.#clients.send(one);
    await this.#loop.settle();
    if (during === "prune") this.#pruned(clock.now() - Math.max(0, movedMs));
    this.#audit();
    const hit = point === "after the answer" ? writer.commits > commits : writer.dead;
    this.tally.count("crash", hit ? point : "between turns");
    this.#daemon.kill();
    this.#clients.daemonGone();
    await this.#comeBack(back);
  }

  async #restore(back: Return): Promise<void> {
    const backup = this.#backup;
    if (backup === null) return;
    this.#daemon.kill();
    this.#clients.daemonGone();
    this.#daemon.restore();
    // What came after the backup is lost, to those too who were told of it.
    this.#clients.acknowledged = new Acknowledged(backup.acknowledged);
    await this.#comeBack(back, backup);
  }

  /** The daemon starts, on what the last one left. */
  async #comeBack(back: Return, backup: Backup | null = null): Promise<void> {
    const { awayMs, reboot, wallAheadMs, dies } = back;
    this.#time.pass(awayMs);
    if (wallAheadMs !== null) this.#setWall(wallAheadMs);
    // The tokens' floor is the wall clock: whoever restores a backup must not have set it back as well.
    if (backup !== null) this.#time.setWallBeyond(this.#auditor.books.highestToken);
    if (reboot) {
      this.tally.count("host", "rebooted");
      this.#time.reboot();
      this.#driver.renumber();
    }
    this.#slowLook = null;
    this.#daemon.open();
    const { writer, view } = this.#daemon.disk;
    if (backup !== null) this.#auditor.rewind(backup.books, backup.folded, view);
    this.#wholeVersion = null;
    this.#diskFailing = false;
    this.#commitsSeen = 0;
    this.#refusalsSeen = 0;
    this.#checkDurable();
    this.#causes.resumes = 1;
    this.#causes.forgetSight();
    this.#tokenFloor = this.#time.wallMs;
    if (dies !== null) writer.crashAt(dies.point, dies.skip);
    await this.#daemon.start((now, movedMs) => {
      if (movedMs !== 0) {
        this.tally.count("clock", movedMs > 0 ? "moved on" : "moved back");
        this.#clients.acknowledged.move(movedMs, (id) => this.#auditor.books.live.has(id));
        this.#auditor.move(movedMs);
        this.#checkDurable();
      }
      this.#auditor.owe(now, this.#causes.policy);
      this.#wellSince = now;
    });
    this.#audit();
    if (!writer.dead) return;
    this.tally.count("crash", "during the start");
    this.#daemon.kill();
    await this.#comeBack({ awayMs: 0, reboot: false, wallAheadMs: null, dies: null });
  }

  #setWall(aheadMs: number): void {
    this.#time.setWallAhead(aheadMs);
    this.tally.count("clock", aheadMs > 0 ? "a year ahead" : aheadMs < 0 ? "a year behind" : "right");
  }

  async #prune(): Promise<void> {
    const { store, view } = this.#daemon.disk;
    const { clock, movedMs } = this.#daemon.life;
    // As the daemon does it: what seems older than it is, since the clock was set ahead, is kept.
    const now = clock.now() - Math.max(0, movedMs);
    const snapshot = view.snapshot()?.seq;
    store.prune(now).then(
      (pruned) => {
        for (const [what, n] of Object.entries(pruned)) this.tally.count("pruned", what, Number(n));
      },
      (error: unknown) => {
        if (!(error instanceof DomainError)) this.#daemon.bug ??= error;
      },
    );
    await this.#loop.settle();
    this.#pruned(now);
    this.#audit();
    if (view.snapshot()?.seq !== snapshot) this.tally.count("pruned", "snapshots taken");
    checkFold(view, this.#auditor.folded);
  }

  /** Whatever came of a prune at `now`: one that was refused may have been done, if its thread died after it. */
  #pruned(now: number): void {
    const { ended, keys } = this.#auditor.books;
    const isOver = (at: number) => at < now - this.#settings.keptMs;
    this.#auditor.outboxPruned(this.#daemon.disk.view);
    this.#clients.acknowledged.forget(isOver, (id) => ended.get(id)?.at ?? null);
    for (const [id, { at }] of ended) if (isOver(at)) ended.delete(id);
    for (const [key, { at }] of keys) if (now - at >= KEY_LIFE_MS) keys.delete(key);
  }

  async #reconfigure({ policy: n, windows }: Extract<Op, { op: "reconfigure" }>): Promise<void> {
    const before = this.#causes.policy;
    const policy: Policy = { ...(POLICIES[n] as Policy), windows: reservedWindows(windows, this.#time.wallMs) };
    this.#causes.policies.push(policy);
    this.#daemon.policy = policy;
    this.#daemon.scheduler.reconfigure(policy, TICK_MS).catch((error: unknown) => {
      if (!(error instanceof DomainError)) this.#daemon.bug ??= error;
      // The old settings stay.
      this.#causes.policies.push(before);
      this.#daemon.policy = before;
    });
    await this.#settle();
  }
}
