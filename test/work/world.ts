/**
 * A world for the books to live in: a host that leases GPUs, a worker with folders and processes, and time. Everything
 * can die between any two steps; what dies keeps what is on disk, and nothing else.
 */
import type { WorkCommand } from "../../src/work/commands.ts";
import { decide } from "../../src/work/decide.ts";
import type { WorkEvent } from "../../src/work/events.ts";
import { isOnNode, leaseOf } from "../../src/work/evolve.ts";
import type { Assignment, EndReason, RunSeen, Task, WorkerFacts } from "../../src/work/model.ts";
import { awaitsGpus } from "../../src/work/runs.ts";
import { emptyWork, jobOf, openRunsOf, restoredWork, type WorkState } from "../../src/work/state.ts";
import { countedOn, mayAsk, mayBeInUse, unwanted, type WantedOfWorker, wantedOf } from "../../src/work/wanted.ts";
import { isNewcomer } from "../../src/work/workers.ts";
import { restoredBooks } from "../../src/work-service/restored.ts";
import { Strangers } from "../../src/work-service/strangers.ts";

/** How long a GPU may take to be empty. */
const RECLAIM_MS = 60_000;

interface Allocation {
  readonly id: string;
  readonly run: string;
  readonly attempt: number;
  /** Those that asked for it. */
  readonly books: string;
  readonly count: number;
  status: "queued" | "held" | "ended";
  endReason: string;
  gpus: string[];
  /** A look has seen that it ended: from then on nothing counts on it. */
  endSeen?: true;
}

interface Folder {
  readonly run: string;
  /** Those that it was begun for, or those that have adopted it since. */
  books: string;
  readonly madeFor: string;
  /** As it was told; `null`: it was over before it began. */
  readonly assignment: Assignment | null;
  adopted: boolean;
  readonly bootId: string;
  readonly slot: string;
  readonly allocationId: string | null;
  /** Processes of the cage that live. */
  alive: number;
  holder: boolean;
  starts: number;
  started: boolean;
  startedAt: number | null;
  /** How old the last answered heartbeat may be, and how long its end may take from then on. */
  readonly fence: { readonly withinMs: number; readonly graceMs: number } | null;
  ready: boolean;
  exit: { code: number | null; reason: EndReason | null } | null;
  stopping: boolean;
  published: boolean;
  settled: boolean;
}

interface Backup {
  readonly state: WorkState;
  readonly booksName: string;
  readonly allocations: readonly Allocation[];
  readonly keys: readonly (readonly [string, string])[];
}

const TAKES_LEASE: ReadonlySet<EndReason> = new Set(["lease-ended", "preempted", "rebooted", "gpu-failed"]);

/** Where the daemon may die: after what it did, before what it was about to do. */
export const CRASH_POINTS = [
  "asked, not recorded",
  "answered, not recorded",
  "released, not recorded",
  "handed out, not sent",
  "report taken, not answered",
] as const;
export type CrashPoint = (typeof CRASH_POINTS)[number];

export class DaemonDied extends Error {}

export class World {
  state: WorkState = emptyWork();
  now = 1_000_000;
  readonly gpus: Map<string, string | null>;
  readonly allocations = new Map<string, Allocation>();
  readonly keys = new Map<string, string>();
  readonly folders = new Map<string, Folder>();
  readonly violations: string[] = [];
  /** How often each slot's work was really begun. */
  readonly begun = new Map<string, number>();
  /** GPUs that are lost, and those on which something of an ended run is left. Neither is granted. */
  readonly failed = new Set<string>();
  readonly dirty = new Set<string>();
  crashAt: CrashPoint | null = null;
  workerUp = true;
  instance = 1;
  /** When the last heartbeat was sent that a controller has answered; `null`: none since the host is up. */
  heardAt: number | null = null;
  readonly node: string;
  bootId = "boot-1";
  orphansStopped = 0;
  /** The present generation of them. */
  booksName = "books-1";
  /** What runs and is not in the books: the daemon's own part. */
  strangers = new Strangers();
  /** Those that the worker was last told of; `null`: none since it began. */
  #heardOf: string | null = null;
  #looked: { readonly instance: number; readonly runs: ReadonlySet<string> } | null = null;
  /** The worker that has had an answer. */
  #answered = 0;
  #made = 0;
  #backup: Backup | null = null;

  constructor(gpus: number, node = "node-1") {
    this.node = node;
    this.gpus = new Map(Array.from({ length: gpus }, (_, i) => [`GPU-${i}`, null]));
  }

  /** What a command brings of books that stand as they are. */
  static between(state: WorkState, command: WorkCommand, now: number): readonly WorkEvent[] {
    return decide(state, command, now).events;
  }

  command(command: WorkCommand): void {
    const { events, state } = decide(this.state, command, this.now);
    this.state = state;
    for (const event of events) {
      // What was over before these books had it they are yet to hear.
      if (event.type === "run-adopted") delete this.allocations.get(event.lease?.allocationId ?? "")?.endSeen;
      const id = event.type === "run-assigned" ? (event.lease?.allocationId ?? "") : "";
      if (this.allocations.get(id)?.endSeen === true)
        this.violations.push(`${id} had ended when it was handed on to ${command.type}`);
    }
  }

  #mayDie(point: CrashPoint): void {
    if (this.crashAt !== point) return;
    this.crashAt = null;
    this.strangers = new Strangers();
    throw new DaemonDied(point);
  }

  // The daemon's loop: a look at leases, then time.

  look(): void {
    // Those that waited for a GPU on which somebody else's process was.
    this.grant();
    for (const run of mayAsk(this.state, 50, this.now)) this.#ask(run.id, run.attempt);
    for (const run of openRunsOf(this.state))
      if (run.phase === "waiting" && run.allocationId !== null) this.#watch(run.id);
    for (const lease of countedOn(this.state)) {
      const { allocationId } = lease;
      // What was granted since the backup is granted no more.
      const { status, endReason } = this.allocations.get(allocationId) ?? { status: "ended", endReason: "forgotten" };
      if (status === "ended") this.command({ type: "lease-over", allocationId, endReason });
    }
    this.#lookAtGpus();
    this.#giveBack();
    this.#judgeLeases();
    for (const one of this.allocations.values())
      if (one.status === "ended" && !this.#isStoppedOtherwise(one.id)) one.endSeen = true;
    this.command({ type: "tick" });
    this.#judgeTimes();
  }

  /** Of a run that is stopping for another reason the books go by that until it has ended. */
  #isStoppedOtherwise(id: string): boolean {
    return openRunsOf(this.state).some(
      (run) => run.phase === "stopping" && leaseOf(run)?.allocationId === id && !TAKES_LEASE.has(run.why),
    );
  }

  /** When time has passed nothing runs longer than it may, or takes longer to begin. */
  #judgeTimes(): void {
    for (const run of openRunsOf(this.state)) {
      if (!isOnNode(run) || run.phase === "stopping") continue;
      const { startTimeoutMs = 0, timeoutMs = null, readiness = null } = jobOf(this.state, run.job)?.spec ?? {};
      const hasBegun = readiness === null ? run.startedAt !== null : run.readyAt !== null;
      if (!hasBegun && this.now - run.handedOutAt >= startTimeoutMs) this.violations.push(`${run.id} begins for ever`);
      if (run.startedAt !== null && timeoutMs !== null && this.now - run.startedAt >= timeoutMs)
        this.violations.push(`${run.id} runs longer than its timeout`);
    }
  }

  /** As `Look` does. */
  #giveBack(): void {
    const live = [...this.allocations.values()].filter(({ status }) => status !== "ended");
    const known = (run: string) => this.state.runs.get(run) !== undefined;
    const counted = new Set(countedOn(this.state).map(({ allocationId }) => allocationId));
    const isOurs = ({ id, books, run }: Allocation) => books === this.booksName || counted.has(id) || known(run);
    const ours = live.filter(isOurs).map(({ id, run, attempt }) => ({ allocationId: id, run, attempt }));
    const left = unwanted(this.state, ours).filter((lease) => !mayBeInUse(this.state, lease, this.strangers.living));
    const lost = live.filter((one) => !isOurs(one) && !this.#mayLive(one));
    for (const id of [...left.map(({ allocationId }) => allocationId), ...lost.map((one) => one.id)]) {
      this.#release(id);
      this.#mayDie("released, not recorded");
    }
  }

  #mayLive({ id, run, attempt }: Pick<Allocation, "id" | "run" | "attempt">): boolean {
    return mayBeInUse(this.state, { allocationId: id, run, attempt }, this.strangers.living);
  }

  /** Before time passes on after a look no lease is without a run that wants it, and no run goes on without its lease. */
  #judgeLeases(): void {
    const { runs, tasks, workloads } = this.state;
    for (const { run: id, allocationId, alive } of this.folders.values()) {
      const run = runs.get(id);
      const inBooks = run === undefined || run.phase === "ended" ? null : leaseOf(run);
      if (alive > 0 && inBooks !== null && inBooks.allocationId !== allocationId)
        this.violations.push(`${id} lives on ${allocationId}, and its books say ${inBooks.allocationId}`);
    }
    const wanted = new Set<string>();
    for (const run of runs.values()) {
      const lease = leaseOf(run);
      if (lease === null) continue;
      wanted.add(lease.allocationId);
      const isStopping = run.phase === "stopping" || run.phase === "ended";
      if (!isStopping && this.allocations.get(lease.allocationId)?.status !== "held")
        this.violations.push(`${run.id} goes on without ${lease.allocationId}`);
    }
    for (const { slots } of [...tasks.values(), ...workloads.values()])
      for (const { kept } of slots) if (kept !== null) wanted.add(kept.allocationId);
    for (const { id, run, attempt, status } of this.allocations.values()) {
      const asking = runs.get(run);
      const isAsking = asking?.phase === "waiting" && asking.attempt === attempt;
      // Nobody knows yet what lives, or it does.
      const mayLive = this.#mayLive({ id, run, attempt });
      if (status !== "ended" && !wanted.has(id) && !isAsking && !mayLive)
        this.violations.push(`${id} has no run that wants it`);
    }
  }

  #lookAtGpus(): void {
    for (const { allocationId, gpuUuids } of countedOn(this.state)) {
      const detail = gpuUuids.find((uuid) => this.failed.has(uuid));
      if (detail !== undefined) this.command({ type: "gpu-failed", allocationId, detail });
    }
    for (const run of openRunsOf(this.state)) {
      if (!awaitsGpus(run)) continue;
      const detail = run.lease.gpuUuids.find((uuid) => this.dirty.has(uuid));
      if (detail === undefined) this.command({ type: "gpus-empty", run: run.id });
      else if (this.now - (run.lease.leftAt ?? 0) >= RECLAIM_MS)
        this.command({ type: "gpus-not-empty", run: run.id, detail });
    }
    for (const run of openRunsOf(this.state)) {
      if (!isOnNode(run) || run.phase === "stopping") continue;
      const sick = leaseOf(run)?.gpuUuids.find((uuid) => this.failed.has(uuid));
      if (sick !== undefined) this.violations.push(`${run.id} goes on, on ${sick}, which is lost`);
    }
  }

  #ask(run: string, attempt: number): void {
    const key = `${run}/${attempt}`;
    let id = this.keys.get(key);
    if (id === undefined) {
      const record = this.state.runs.get(run);
      const task =
        record?.job.kind === "task"
          ? this.state.tasks.get(record.job.uid)
          : this.state.workloads.get(record?.job.uid ?? "");
      const count = task?.spec?.resources.gpu?.count ?? 0;
      if (count > this.gpus.size) {
        this.command({ type: "lease-seen", run, attempt, seen: { status: "never", reason: "too many GPUs" } });
        return;
      }
      id = `allocation-${++this.#made}`;
      this.keys.set(key, id);
      const asked = { id, run, attempt, books: this.booksName, count, status: "queued", endReason: "" } as const;
      this.allocations.set(id, { ...asked, gpus: [] });
      this.grant();
      this.#mayDie("asked, not recorded");
    }
    this.#record(run, attempt, id);
  }

  #watch(run: string): void {
    const record = this.state.runs.get(run);
    if (record?.phase !== "waiting" || record.allocationId === null) return;
    this.#record(run, record.attempt, record.allocationId);
  }

  #record(run: string, attempt: number, id: string): void {
    const { status, gpus, endReason } = this.allocations.get(id) as Allocation;
    this.#mayDie("answered, not recorded");
    const waiting = { reason: "0 GPUs free", position: 1, etaLatest: null };
    const lease = { allocationId: id, gpuUuids: gpus, gpuIndices: [], env: {}, fencingToken: this.#made };
    if (status === "queued")
      this.command({ type: "lease-seen", run, attempt, seen: { status, allocationId: id, waiting } });
    else if (status === "held") this.command({ type: "lease-seen", run, attempt, seen: { status, lease } });
    else this.command({ type: "lease-seen", run, attempt, seen: { status: "missed", reason: endReason } });
  }

  /** The host's own: first come, first served. */
  grant(): void {
    for (const allocation of this.allocations.values()) {
      if (allocation.status !== "queued") continue;
      const isFit = (uuid: string) => !this.failed.has(uuid) && !this.dirty.has(uuid) && !this.#isOccupied(uuid);
      const free = [...this.gpus].filter(([uuid, holder]) => holder === null && isFit(uuid)).map(([uuid]) => uuid);
      if (free.length < allocation.count) return;
      allocation.status = "held";
      allocation.gpus = free.slice(0, allocation.count);
      for (const uuid of allocation.gpus) this.gpus.set(uuid, allocation.id);
    }
  }

  /** By a process of no lease: one that was granted since the backup is in no books. */
  #isOccupied(uuid: string): boolean {
    return [...this.folders.values()].some(({ alive, assignment }) => {
      const lease = alive > 0 ? assignment?.lease : null;
      return lease?.gpuUuids.includes(uuid) === true && !this.allocations.has(lease.allocationId);
    });
  }

  #release(id: string): void {
    const users = [...this.folders.values()].filter(({ allocationId, alive }) => allocationId === id && alive > 0);
    if (users.length > 0) this.violations.push(`${id} was released while ${users[0]?.run} had processes`);
    this.endAllocation(id, "released");
  }

  endAllocation(id: string, reason: string): void {
    const allocation = this.allocations.get(id);
    if (allocation === undefined || allocation.status === "ended") return;
    allocation.status = "ended";
    allocation.endReason = reason;
    for (const uuid of allocation.gpus) this.gpus.set(uuid, null);
    this.grant();
  }

  // The worker.

  facts(): WorkerFacts {
    return {
      node: this.node,
      instance: this.instance,
      pid: 1,
      startedAt: 0,
      bootId: this.bootId,
      executors: ["vllm", "process", "echo", "ppo"],
      topics: [],
      tags: [],
      labels: {},
      cage: "cgroup",
      endsSurely: true,
      hardware: {},
    };
  }

  /** One round of the worker's long poll. `answered` false: the answer is lost on its way. */
  sync(answered: boolean): void {
    if (!this.workerUp) return;
    const isUnanswered = this.#answered !== this.instance;
    const reports = this.#ours(this.#reports(), isUnanswered);
    const isFirst = isNewcomer(this.state, this.facts(), isUnanswered);
    this.command({ type: "worker-reports", worker: this.facts(), runs: reports, isUnanswered });
    this.#mayDie("report taken, not answered");
    if (isFirst) {
      if (answered) this.#hearsAnswer();
      return;
    }
    const { alive } = this.strangers;
    this.command({ type: "hand-out", node: this.node, instance: this.instance, alive });
    const wanted = wantedOf(this.state, this.node, reports);
    const { strangers } = this;
    const ofOthers = strangers.wanted;
    this.#mayDie("handed out, not sent");
    if (!answered) return;
    this.#hearsAnswer();
    this.#obeyOfStrangers(ofOthers);
    this.#obey(wanted);
  }

  /** As `Gate` does: what is ours of a report, once what was adopted is in the books. */
  #ours(reports: readonly RunSeen[], isUnanswered: boolean): readonly RunSeen[] {
    const isKnown = (run: string) => this.state.runs.get(run) !== undefined;
    const isOver = (run: string) => this.state.runs.get(run)?.phase === "ended";
    const take = () => this.strangers.take(reports, this.booksName, isKnown, !isUnanswered, isOver);
    const ours = take();
    const isNewest = (this.state.workers.get(this.node)?.instance ?? 0) <= this.instance;
    const jobs = Map.groupBy(isNewest ? this.strangers.adopted : [], ({ adopted }) => adopted.job);
    if (jobs.size === 0) return ours;
    for (const of of jobs.values()) {
      const runs = of.map(({ adopted: assignment, startedAt, port }) => ({ assignment, startedAt, port }));
      this.command({ type: "adopt-runs", node: this.node, uid: `adopted-${++this.#made}`, runs });
    }
    const known = take();
    for (const job of jobs.keys()) this.strangers.hasAdopted(job);
    return known;
  }

  #obeyOfStrangers({ stop, settle, adopt, disown }: Strangers["wanted"]): void {
    const folders = (runs: readonly string[]) => runs.flatMap((run) => this.folders.get(run) ?? []);
    for (const folder of folders(stop)) folder.stopping = true;
    for (const folder of folders(adopt)) {
      if (folder.books === this.booksName || folder.assignment === null) continue;
      folder.books = this.booksName;
      folder.adopted = true;
    }
    for (const folder of folders(disown)) {
      folder.books = folder.madeFor;
      folder.adopted = false;
    }
    for (const folder of folders(settle)) folder.settled = true;
  }

  /** `work.db` is gone, with all that it said; leases, folders and processes are not. */
  loseBooks(): void {
    this.state = emptyWork();
    this.booksName = `books-${Number(this.booksName.slice("books-".length)) + 1}`;
    this.strangers = new Strangers();
  }

  /** Of leases and work, in one file. */
  takeBackup(): void {
    this.#backup = {
      state: this.state,
      booksName: this.booksName,
      allocations: [...this.allocations.values()].map((one) => ({ ...one, gpus: [...one.gpus] })),
      keys: [...this.keys],
    };
  }

  /** Both are as they were then; folders and processes are as they are now. */
  restoreBackup(): void {
    if (this.#backup === null) return;
    // It takes its time: the daemon is stopped, and started again.
    this.now += 1_000;
    const { state, booksName, allocations, keys } = this.#backup;
    const { tasks, workloads, runs, workers, lastEpoch } = state;
    const stored = {
      tasks: [...tasks.values()],
      workloads: [...workloads.values()],
      runs: [...runs.values()],
      workers: [...workers.values()],
      lastEpoch,
    };
    this.state = restoredWork(restoredBooks(stored, this.now));
    this.booksName = booksName;
    this.strangers = new Strangers();
    this.allocations.clear();
    for (const one of allocations) this.allocations.set(one.id, { ...one, gpus: [...one.gpus] });
    this.keys.clear();
    for (const [key, id] of keys) this.keys.set(key, id);
    for (const uuid of this.gpus.keys()) {
      const holder = [...this.allocations.values()].find(
        ({ status, gpus }) => status === "held" && gpus.includes(uuid),
      );
      this.gpus.set(uuid, holder?.id ?? null);
    }
  }

  /** An admin's word on one that the books do not know. */
  adoptOne(pick: number): void {
    const { all } = this.strangers;
    const one = all[pick % Math.max(1, all.length)];
    if (one !== undefined) this.strangers.adopt(one.run);
  }

  stopStranger(pick: number): void {
    const { all } = this.strangers;
    const one = all[pick % Math.max(1, all.length)];
    if (one !== undefined) this.strangers.stop(one.run);
  }

  /** With the first it looks again. */
  #hearsAnswer(): void {
    this.#heardOf = this.booksName;
    this.#answered = this.instance;
    if (this.#looked?.instance === this.instance) this.#looked = null;
  }

  #reports(): RunSeen[] {
    const looked = this.instance === this.#looked?.instance ? this.#looked.runs : null;
    const open = [...this.folders.values()].filter(({ settled }) => !settled);
    return open.filter(({ run }) => looked?.has(run) !== false).map((folder) => this.#seen(folder));
  }

  #seen(folder: Folder): RunSeen {
    const { run, started, startedAt, ready, published, alive, holder, exit, stopping } = folder;
    const allocationId = folder.assignment === null ? null : folder.allocationId;
    const lease = allocationId === null ? {} : { allocationId };
    const common = { run, startedAt, port: null, published, books: folder.books, ...lease, ...this.#ofOthers(folder) };
    if (folder.bootId !== this.bootId) return { ...common, phase: "ended", ended: ending("rebooted", null) };
    if (!holder && started && exit === null) {
      // The holder has died: what it held is killed, and only then is it over.
      folder.alive = 0;
      return { ...common, phase: "ended", ended: ending("lost", null) };
    }
    if (exit !== null && alive === 0) return { ...common, phase: "ended", ended: ending(exit.reason, exit.code) };
    if (stopping || exit !== null) return { ...common, phase: "stopping", ended: null };
    return { ...common, phase: !started ? "starting" : ready ? "ready" : "running", ended: null };
  }

  /** As a worker says it, once it knows whose books it is asked for. */
  #ofOthers({ assignment, adopted, books, exit, alive, bootId }: Folder): Pick<RunSeen, "ofJob" | "adopted"> {
    const ours = this.#heardOf;
    if (assignment === null || ours === null) return {};
    if (books === ours) return adopted ? { adopted: assignment } : {};
    const hasEnded = (exit !== null && alive === 0) || bootId !== this.bootId;
    return hasEnded ? {} : { ofJob: assignment.job };
  }

  #obey({ start, stop, publish, settled, orphans }: WantedOfWorker): void {
    for (const assignment of start) {
      const { run, lease, job, replica, fenceMs, spec } = assignment;
      if (this.folders.has(run)) continue;
      const fence = typeof fenceMs === "number" ? { withinMs: fenceMs, graceMs: spec.stop.graceMs } : null;
      const allocationId = lease?.allocationId ?? null;
      this.folders.set(run, this.#folder(run, `${job}/${replica}`, allocationId, fence, assignment));
    }
    for (const { run } of stop) {
      const folder = this.folders.get(run);
      // A tombstone: whatever is still on its way finds that it is over.
      if (folder === undefined)
        this.folders.set(run, { ...this.#folder(run, "", null), exit: { code: null, reason: "cancelled" } });
      else if (!folder.started) folder.exit ??= { code: null, reason: "cancelled" };
      else folder.stopping = true;
    }
    for (const { run } of publish) {
      const folder = this.folders.get(run);
      if (folder !== undefined) folder.published = true;
    }
    for (const run of settled) {
      const folder = this.folders.get(run);
      if (folder !== undefined) folder.settled = true;
    }
    for (const run of orphans) {
      const folder = this.folders.get(run);
      if (folder === undefined) continue;
      const hasEnded = folder.exit !== null && folder.alive === 0;
      if (hasEnded || folder.bootId !== this.bootId || !folder.holder) {
        folder.alive = 0;
        folder.settled = true;
        continue;
      }
      if (!folder.stopping && folder.exit === null) this.orphansStopped++;
      // Down the ladder, as any other.
      folder.stopping = true;
      if (!folder.started) folder.exit ??= { code: null, reason: "cancelled" };
    }
  }

  #folder(
    run: string,
    slot: string,
    allocationId: string | null,
    fence: Folder["fence"] = null,
    assignment: Assignment | null = null,
  ): Folder {
    return {
      run,
      books: this.booksName,
      madeFor: this.booksName,
      assignment,
      adopted: false,
      slot,
      allocationId,
      bootId: this.bootId,
      alive: 0,
      holder: true,
      starts: 0,
      started: false,
      startedAt: null,
      fence,
      ready: false,
      exit: null,
      stopping: false,
      published: false,
      settled: false,
    };
  }

  /** Its holder starts what is in a folder. */
  startOne(pick: number): void {
    const folder = this.#pick(pick, ({ started, exit, bootId }) => !started && exit === null && bootId === this.bootId);
    if (folder === undefined || !this.workerUp) return;
    if (folder.fence !== null && this.#isFenced(folder.fence.withinMs)) {
      folder.exit = { code: null, reason: "lost" };
      return;
    }
    folder.started = true;
    folder.startedAt = this.now;
    folder.starts++;
    folder.alive = 3;
    if (folder.starts > 1) this.violations.push(`${folder.run} was started twice`);
    this.begun.set(folder.slot, (this.begun.get(folder.slot) ?? 0) + 1);
    this.hasBegun(folder.run, folder.slot);
    const others = [...this.folders.values()].filter(({ slot, alive }) => slot === folder.slot && alive > 0);
    if (others.length > 1) this.violations.push(`${others.map(({ run }) => run).join(" and ")} run at once`);
    const allocation = folder.allocationId === null ? null : this.allocations.get(folder.allocationId);
    const sharers = [...this.folders.values()].filter(
      (other) =>
        other !== folder &&
        other.alive > 0 &&
        folder.allocationId !== null &&
        other.allocationId === folder.allocationId,
    );
    if (sharers.length > 0) this.violations.push(`${folder.run} has the lease of ${sharers[0]?.run}, which still runs`);
    const dirty = allocation?.gpus.find((uuid) => this.dirty.has(uuid));
    if (dirty !== undefined) this.violations.push(`${folder.run} was started on ${dirty}, which is not empty`);
    if (allocation?.status === "queued") this.violations.push(`${folder.run} was started without its lease`);
  }

  /** A run's process lives from here on. */
  protected hasBegun(_run: string, _slot: string): void {}

  #isFenced(afterMs: number): boolean {
    return this.heardAt === null || this.now - this.heardAt >= afterMs;
  }

  /** Holders end what nothing was heard for, whether a worker lives or not: as late as they may. */
  keepFences(): void {
    for (const folder of this.folders.values()) {
      const { fence, alive, holder } = folder;
      if (fence === null || alive === 0) continue;
      // What it held is killed with a holder, by the kernel.
      if (!holder) folder.alive = 0;
      else if (this.#isFenced(fence.withinMs + fence.graceMs)) {
        folder.alive = 0;
        folder.exit ??= { code: null, reason: "lost" };
      }
    }
  }

  #pick(pick: number, test: (folder: Folder) => boolean): Folder | undefined {
    const found = [...this.folders.values()].filter(test);
    return found[pick % Math.max(1, found.length)];
  }

  readyOne(pick: number): void {
    const folder = this.#pick(
      pick,
      ({ started, ready, exit, alive }) => started && !ready && exit === null && alive > 0,
    );
    if (folder !== undefined) folder.ready = true;
  }

  /** The main process ends; others of its cage may stay. */
  exitOne(pick: number, code: number, left: number): void {
    const folder = this.#pick(
      pick,
      ({ started, exit, alive, holder }) => started && holder && exit === null && alive > 0,
    );
    if (folder === undefined) return;
    folder.exit = { code, reason: null };
    folder.alive = left;
  }

  /** Memory of a run that has ended, and not of one that is about to start, is not given back at once. */
  leaveMemory(pick: number): void {
    const folder = this.#pick(pick, ({ exit, alive, started }) => started && exit !== null && alive === 0);
    const others = (id: string | null) =>
      [...this.folders.values()].some((one) => one.allocationId === id && one.alive > 0);
    const allocation = this.allocations.get(folder?.allocationId ?? "");
    if (folder === undefined || allocation?.status !== "held" || others(allocation.id)) return;
    // Before anybody has said that they are empty.
    const counted = countedOn(this.state).find(({ allocationId }) => allocationId === allocation.id);
    const isSeenEmpty = openRunsOf(this.state).some(
      (run) => leaseOf(run)?.allocationId === allocation.id && run.id !== folder.run && !awaitsGpus(run),
    );
    if (counted !== undefined && !isSeenEmpty) for (const uuid of allocation.gpus) this.dirty.add(uuid);
  }

  memoryReturns(): void {
    this.dirty.clear();
    this.grant();
  }

  failGpu(pick: number): void {
    this.failed.add(`GPU-${pick % this.gpus.size}`);
  }

  gpusReturn(): void {
    this.failed.clear();
    this.grant();
  }

  killHolder(pick: number): void {
    const folder = this.#pick(pick, ({ started, exit, alive }) => started && exit === null && alive > 0);
    if (folder !== undefined) folder.holder = false;
  }

  /** The worker goes on with its ladders. */
  ladder(): void {
    if (!this.workerUp) return;
    for (const folder of this.folders.values()) {
      if (folder.stopping && folder.started && folder.exit === null) folder.exit = { code: null, reason: null };
      if (folder.exit !== null) folder.alive = 0;
    }
  }

  reboot(): void {
    this.bootId = `boot-${Number(this.bootId.slice(5)) + 1}`;
    this.instance++;
    this.#heardOf = null;
    this.heardAt = null;
    this.#looked = null;
    for (const folder of this.folders.values()) folder.alive = 0;
  }

  restartWorker(): void {
    this.workerUp = true;
    this.instance++;
    this.#heardOf = null;
  }

  /** The next worker looks into the folders. Until it reports, the one before it may live and be obeyed. */
  nextWorkerLooks(): void {
    this.#looked = { instance: this.instance + 1, runs: new Set(this.folders.keys()) };
  }

  /** Lets everything that runs come to its end, with nothing dying any more. */
  settle(rounds = 400): void {
    this.crashAt = null;
    this.workerUp = true;
    this.memoryReturns();
    this.gpusReturn();
    for (let round = 0; round < rounds; round++) {
      this.now += 5_000;
      this.look();
      this.sync(true);
      for (let i = 0; i < this.strangers.all.length; i++) this.stopStranger(i);
      for (let i = 0; i < 4; i++) this.startOne(0);
      for (let i = 0; i < 4; i++) this.exitOne(0, 0, 0);
      this.ladder();
    }
  }

  task(id: string): Task {
    return this.state.tasks.get(id) as Task;
  }

  readonly #names = new Set<string>();

  /** Names are given once: no later books have one that lost books have given. */
  isNew(name: string): boolean {
    return !this.#names.has(name) && this.#names.add(name) !== null;
  }

  wasAdopted(task: string): boolean {
    return this.task(task).warnings.some((warning) => warning.includes("its books were lost"));
  }

  endServices(): void {
    for (const { id, deleted } of [...this.state.workloads.values()])
      if (!deleted) this.command({ type: "delete-workload", id });
  }
}

function ending(reason: EndReason | null, exitCode: number | null): NonNullable<RunSeen["ended"]> {
  return { at: 0, reason, detail: "", exitCode, signal: null, resultOk: null, tail: [] };
}
