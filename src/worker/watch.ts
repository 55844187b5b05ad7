/**
 * Follows one run by what is in its folder and in /proc, and takes it down its ladder when it is to stop: the signal,
 * the grace, SIGKILL to everything, until three looks find nothing.
 *
 * Nothing of this is only in memory: a worker that starts in the middle of it goes on from there.
 */
import { closeSync, constants, existsSync, fstatSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { join } from "node:path";
import { uptimeMs } from "../platform/uptime.ts";
import type { EndReason, RunEndSeen, RunSeen } from "../work/model.ts";
import { killAll, membersOf, removeGroups, signalAll, signalMain, wasOutOfMemory } from "./cages.ts";
import { Removal } from "./containers.ts";
import {
  type Beginning,
  claimIn,
  type Exit,
  type Order,
  pathIn,
  readIn,
  removeDrafts,
  removeOutput,
  type StopOrder,
  writeIn,
  writeLater,
} from "./folder.ts";
import { ageMs, type HolderName, isAlive, type Leader, type ProcessName, type ProcessTable } from "./processes.ts";

/** A cage is empty when so many looks in a row find nobody: what forks may be between two processes in one of them. */
const EMPTY_LOOKS = 3;
/** For so long it is looked at more often. */
const EMPTYING_MS = 300;
/** Looks at all processes are this far apart, however often there is news. */
const LOOK_GAP_MS = 40;
/** A holder that has written nothing for so long was never started. */
const HOLDER_START_MS = 10_000;
/** The holder writes the last lines before it leaves. */
const HOLDER_LEAVES_MS = 2_000;
/** An engine that says no so often says it for a while: somebody is to look. */
const REFUSED_OFTEN = 5;
const TAIL_LINES = 20;
const TAIL_BYTES = 16_384;
const MAX_RESULT_BYTES = 64 * 2 ** 20;

export type RunEnd = RunEndSeen;

interface Adoption {
  readonly books: string;
  /** Left out: it had not begun, or its worker was older. */
  readonly startedAt?: number;
}

export class RunWatch {
  readonly folder: string;
  readonly order: Order;
  #beginning: Beginning | null = null;
  #child: (ProcessName & { readonly at: number }) | null = null;
  #exit: Exit | null = null;
  #stop: StopOrder | null;
  #signalled: boolean;
  #emptyLooks = 0;
  #lookedAt = 0;
  #emptySince: number | null = null;
  #lost: EndReason | null = null;
  /** From when on its grace counts, and when its holder was last seen to live: by this process's own clock. */
  #graceFrom: number | null = null;
  #aliveAt: number | null = null;
  /** When its session was last seen to be its own, by the host's uptime: who forks and ends between two looks stays in it. */
  #ownAt: number | undefined = undefined;
  #adopted: Adoption | null;
  readonly #removal: Removal;
  /** Resolves when nothing secret of one that has ended is on the disk any more. */
  tidied: Promise<void> = Promise.resolve();
  /** `null`: it has not been asked yet. */
  ready: boolean | null = null;
  end: RunEnd | null;
  published: boolean;
  settled: boolean;
  /** Processes that SIGKILL has not ended; a container that its engine does not remove counts as one. */
  unkillable = 0;

  constructor(folder: string, order: Order) {
    this.folder = folder;
    this.order = order;
    this.#removal = new Removal(order);
    this.end = readIn<RunEnd>(folder, "end");
    this.#adopted = readIn<Adoption>(folder, "adopted");
    if (this.end !== null && Object.keys(order.env).length > 0) this.#tidyUp();
    this.published = readIn(folder, "published") !== null;
    this.settled = readIn(folder, "settled") !== null;
    this.#stop = readIn<StopOrder>(folder, "stop");
    // What was sent before this worker began is not known; a second signal does no harm.
    this.#signalled = false;
  }

  get child(): ProcessName | null {
    return this.#child;
  }

  get holder(): (HolderName & { readonly at: number }) | null {
    return this.#beginning === null || "givenUp" in this.#beginning ? null : this.#beginning;
  }

  /** Nobody is left of it, which only has to be seen often enough. */
  isEmptying(now: number): boolean {
    return this.end === null && this.#emptySince !== null && Math.abs(now - this.#emptySince) < EMPTYING_MS;
  }

  get isStopping(): boolean {
    return this.#stop !== null || this.#exit !== null || this.#lost !== null;
  }

  /** Which books it is of: since they were lost, those that have taken it. */
  get books(): string {
    return this.#adopted?.books ?? this.order.books;
  }

  adopt(books: string): void {
    if (this.books === books || this.order.assignment === undefined) return;
    // When it began is told to other books, whose clock may have been set since.
    const child = this.#child;
    const startedAt = child === null || !isAlive(child) ? null : Math.round(Date.now() - ageMs(child));
    this.#adopted = startedAt === null ? { books } : { books, startedAt };
    writeIn(this.folder, "adopted", this.#adopted);
  }

  /** Those books have no place for it: it is of the lost ones again. */
  disown(): void {
    rmSync(pathIn(this.folder, "adopted"), { force: true });
    this.#adopted = null;
  }

  stop(order: Omit<StopOrder, "at" | "why">, why: StopOrder["why"], now: number): void {
    if (this.#stop !== null || this.end !== null) return;
    this.#stop = { ...order, at: now, why };
    writeIn(this.folder, "stop", this.#stop);
  }

  /** @param look all processes: taken once for all runs that need it. */
  tick(now: number, bootId: string, look: () => ProcessTable): void {
    if (this.end !== null) return;
    this.#beginning ??= readIn<Beginning>(this.folder, "holder");
    if (this.order.bootId !== bootId) {
      this.#finish("rebooted", "the host has booted since", now);
      return;
    }
    if (this.#beginning === null) {
      this.#awaitHolder(now);
      return;
    }
    this.#child ??= readIn(this.folder, "child");
    this.#exit ??= readIn<Exit>(this.folder, "exit");
    const { holder } = this;
    if (holder === null) {
      this.#finish(null, "it was never started", now);
      return;
    }
    if (this.#exit === null) {
      if (isAlive(holder)) this.#aliveAt = performance.now();
      else {
        // It may have written its last in the meantime.
        this.#exit = readIn<Exit>(this.folder, "exit");
        if (this.#exit === null) this.#lost = "lost";
      }
    }
    if (this.#exit === null && this.#lost === null && this.#stop === null) return;
    this.#descend(now, look);
  }

  #awaitHolder(now: number): void {
    const isLate = now - this.order.orderedAt > HOLDER_START_MS;
    if (!isLate && this.#stop === null) return;
    if (claimIn(this.folder, "holder", { givenUp: true })) this.#beginning = { givenUp: true };
  }

  /** One step down the ladder. */
  #descend(now: number, look: () => ProcessTable): void {
    // A clock that is set back must not hold it up.
    if (now >= this.#lookedAt && now - this.#lookedAt < LOOK_GAP_MS) return;
    this.#lookedAt = now;
    const table = look();
    const members = membersOf(this.order, this.#leader(), this.holder, table);
    if (members.some((pid) => table.get(pid)?.session === this.#child?.pid)) this.#ownAt = table.takenAtMs;
    if (members.length === 0) {
      this.#emptyLooks++;
      this.#emptySince ??= now;
      const holder = this.holder as ProcessName;
      const isOver = this.#exit !== null || this.#lost !== null || !isAlive(holder);
      const waited = now - this.#emptySince;
      if (this.#emptyLooks < EMPTY_LOOKS || !isOver || (isAlive(holder) && waited < HOLDER_LEAVES_MS)) return;
      const isGone = this.#removal.isDone();
      this.unkillable = !isGone && this.#removal.refusals >= REFUSED_OFTEN ? 1 : 0;
      if (!isGone) return;
      this.#finish(this.#reason(), this.#detail(), now);
      return;
    }
    this.#emptyLooks = 0;
    this.#emptySince = null;
    if (this.#lost !== null) {
      this.#kill(members);
      return;
    }
    this.#signalOnce(members, table);
    const since = Math.min(this.#stop?.at ?? Number.POSITIVE_INFINITY, this.#exit?.at ?? Number.POSITIVE_INFINITY);
    // Of a worker before this one only the wall clock tells, which may have been set back since; from here on nobody sets it.
    this.#graceFrom ??= performance.now() - Math.max(0, now - since);
    const graceMs = this.#stop?.graceMs ?? this.order.graceMs;
    if (performance.now() - this.#graceFrom >= graceMs) this.#kill(members);
  }

  #leader(): Leader | null {
    if (this.#child === null) return null;
    // Of a holder that died nobody has written down when: its command ended with it.
    const wasAliveAt = this.#aliveAt === null ? undefined : uptimeMs() - (performance.now() - this.#aliveAt);
    const endedAt = this.#exit?.atUptimeMs ?? wasAliveAt;
    const known = [endedAt, this.#ownAt].filter((at) => at !== undefined);
    return { ...this.#child, ownUntilMs: known.length === 0 ? undefined : Math.max(...known) };
  }

  #kill(members: readonly number[]): void {
    this.unkillable = members.length;
    killAll(this.order, members, this.holder);
  }

  #signalOnce(members: readonly number[], table: ProcessTable): void {
    if (this.#stop === null || this.#signalled || this.#child === null) return;
    this.#signalled = true;
    const signal = `SIG${this.#stop.signal}` as NodeJS.Signals;
    if (this.#stop.to === "group") signalAll(members, signal);
    else if (this.#exit === null) signalMain(this.order, this.#child, table, signal);
  }

  #reason(): EndReason | null {
    if (readIn(this.folder, "fenced") !== null) return "lost";
    if (this.#lost !== null) return this.#lost;
    if (this.#exit !== null && this.#exit.error !== null) return "executor-failed";
    if (this.#stop?.why === "unhealthy") return "unhealthy";
    const isOutOfMemory = this.#exit?.oom === true || wasOutOfMemory(this.order);
    return this.#exit?.code !== 0 && isOutOfMemory ? "oom" : null;
  }

  #detail(): string {
    if (readIn(this.folder, "fenced") !== null) return "the controller was not heard of in time";
    if (this.#lost !== null) return "its holder died";
    if (this.#exit?.error) return this.#exit.error;
    return this.#exit?.signal === null || this.#exit === null ? "" : `ended by ${this.#exit.signal}`;
  }

  #finish(reason: EndReason | null, detail: string, now: number): void {
    const end: RunEnd = {
      at: this.#exit?.at ?? now,
      reason,
      detail,
      exitCode: this.#exit?.code ?? null,
      signal: this.#exit?.signal ?? null,
      resultOk: resultOk(join(this.folder, "out")),
      tail: this.#exit?.code === 0 ? [] : this.#tail(),
    };
    writeIn(this.folder, "end", end);
    this.end = end;
    this.#tidyUp();
  }

  /** Its control groups and what stood in its environment are of no more use. Who dies in between leaves them to the next worker. */
  #tidyUp(): void {
    rmSync(join(this.folder, "env"), { force: true });
    removeDrafts(this.folder);
    const { assignment, ...kept } = this.order;
    // Books that have adopted it may not know it yet; when they do not want it any more they have.
    const isKnown = this.#adopted === null || this.settled;
    const order: Order = {
      ...{ ...kept, env: {}, enter: [], leave: [] },
      ...(isKnown || assignment === undefined ? {} : { assignment }),
    };
    const removed = removeGroups(this.order.cage.groups);
    this.tidied = removed.then(() => writeLater(this.folder, "order", order)).catch(() => undefined);
  }

  #tail(): string[] {
    return ["stderr", "stdout"].flatMap((name) => lastLines(join(this.order.logs, `${name}.log`))).slice(-TAIL_LINES);
  }

  /** @param ours the books that it is told to; `null`: not known yet. */
  seen(ours: string | null = null): RunSeen {
    // Of one that the host went down with it is not known whether it had begun, so it may have.
    const begunAt = this.holder?.at ?? (this.end?.reason === "rebooted" ? this.order.orderedAt : null);
    const startedAt = this.#child?.at ?? (this.#exit?.error ? null : begunAt);
    return {
      run: this.order.run,
      phase: this.end !== null ? "ended" : this.isStopping ? "stopping" : this.#phase(),
      startedAt: this.#adopted?.startedAt ?? startedAt,
      port: this.order.port,
      ended: this.end,
      published: this.published,
      books: this.books,
      ...this.#caged(),
      ...this.#leased(),
      ...this.#forOtherBooks(ours),
    };
  }

  /** One that was over before it began is in none. */
  #caged(): Pick<RunSeen, "cage"> {
    const { argv, cage } = this.order;
    // Its unit's are seen by its holder; until then nobody knows which hold.
    const limits = cage.kind === "systemd" ? (this.holder?.limits ?? []) : cage.limits;
    return argv.length === 0 || this.#beginning === null ? {} : { cage: { kind: cage.kind, limits } };
  }

  #leased(): Pick<RunSeen, "allocationId"> {
    const allocationId = this.order.assignment?.lease?.allocationId;
    return allocationId === undefined || this.end !== null ? {} : { allocationId };
  }

  #forOtherBooks(ours: string | null): Pick<RunSeen, "ofJob" | "adopted"> {
    const { assignment } = this.order;
    if (assignment === undefined) return {};
    if (this.#adopted !== null && this.#adopted.books === ours) return { adopted: assignment };
    return ours === null || this.books === ours || this.end !== null ? {} : { ofJob: assignment.job };
  }

  #phase(): "starting" | "running" | "ready" | "unready" {
    if (this.#child === null) return "starting";
    return this.ready === null ? "running" : this.ready ? "ready" : "unready";
  }

  markPublished(): void {
    writeIn(this.folder, "published", { at: Date.now() });
    this.published = true;
  }

  /** Nothing is wanted of it any more; its logs stay until they are old. */
  settle(): void {
    writeIn(this.folder, "settled", { at: Date.now() });
    this.settled = true;
    if (this.#adopted !== null) this.#tidyUp();
    removeOutput(this.folder);
  }
}

/** What `responses.json` says; nothing that is not a plain file of moderate size is read. */
function resultOk(outDir: string): boolean | null {
  const text = readPlain(join(outDir, "responses.json"), MAX_RESULT_BYTES);
  if (text === null) return null;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && "ok" in value ? value.ok !== false : true;
  } catch {
    return false;
  }
}

/** A regular file that is no link; `null`: it is not there, is something else, or is larger than `most`. */
export function readPlain(path: string, most: number): string | null {
  let file: number;
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return null;
  }
  try {
    const stat = fstatSync(file);
    return stat.isFile() && stat.size <= most ? readFileSync(file, "utf8") : null;
  } finally {
    closeSync(file);
  }
}

function lastLines(path: string): string[] {
  if (!existsSync(path)) return [];
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const { size } = fstatSync(file);
    const buffer = Buffer.alloc(Math.min(size, TAIL_BYTES));
    readSync(file, buffer, 0, buffer.length, Math.max(0, size - buffer.length));
    const lines = buffer.toString("utf8").split("\n").filter(Boolean);
    // The first may have been cut; each begins with its time.
    return lines.slice(-TAIL_LINES).map((line) => line.slice(line.indexOf(" ") + 1));
  } finally {
    closeSync(file);
  }
}
