/** The unix socket at which workers ask what is wanted of them. */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { join } from "node:path";
import { sortableIds } from "../platform/ids.ts";
import { WorkError } from "../work/errors.ts";
import { leaseOf } from "../work/evolve.ts";
import type { Run, RunSeen, RunUsage, WorkerFacts } from "../work/model.ts";
import { type WantedOfWorker, wantedOf } from "../work/wanted.ts";
import { isNewcomer } from "../work/workers.ts";
import type { Books } from "./books.ts";
import type { Leases } from "./leases.ts";
import type { Log } from "./look.ts";
import { Strangers } from "./strangers.ts";

/** An answer is held for so long while there is nothing to say. */
const HOLD_MS = 10_000;
const MAX_REPORT_BYTES = 64 * 2 ** 20;
/** Whose members may be workers of a daemon that is another user. */
const WORKER_GROUP = "gpu-orchestrator-worker";
/** In hexadecimal digits. */
const TOKEN_LENGTH = 64;

interface Report {
  readonly worker: WorkerFacts;
  readonly runs: readonly RunSeen[];
  readonly orphansStopped: number;
  readonly unkillable: number;
  /** Left out by a worker of an older version. */
  readonly isUnanswered?: boolean;
  readonly usage?: Readonly<Record<string, RunUsage>>;
}

interface Told extends WantedOfWorker {
  readonly books: string;
  readonly strangers?: Strangers["wanted"];
}

export interface GateFigures {
  readonly orphansStopped: number;
  readonly unkillable: number;
}

export class Gate {
  readonly #books: Books;
  readonly #log: Log;
  readonly #leases: Pick<Leases, "freeGpus" | "troubleOf">;
  readonly #server: Server;
  readonly #token: Buffer;
  readonly #tokenFile: string;
  readonly #socket: string;
  readonly #ending = new AbortController();
  /** Of the latest report. */
  figures: GateFigures = { orphansStopped: 0, unkillable: 0 };
  readonly strangers = new Strangers();
  readonly #newId = sortableIds();
  /** The worker that has had an answer from here: it knows whose books these are. */
  #met = 0;
  /** By run, of the latest report. */
  usage: Readonly<Record<string, RunUsage>> = {};

  constructor(books: Books, dir: string, log: Log, leases: Pick<Leases, "freeGpus" | "troubleOf">) {
    this.#books = books;
    this.#leases = leases;
    this.#log = log;
    mkdirSync(dir, { recursive: true, mode: 0o755 });
    this.#socket = join(dir, "worker.sock");
    this.#tokenFile = join(dir, "worker.token");
    this.#token = digest(tokenAt(this.#tokenFile));
    this.#server = createServer((req, res) => void this.#serve(req, res));
  }

  /**
   * @param shared with workers of another user, which the members of `group` are, if the host has it; otherwise the
   * owner's alone.
   */
  listen(shared: boolean, group = WORKER_GROUP): Promise<void> {
    // What a daemon that was killed has left. Two at once are refused by the database's lock.
    rmSync(this.#socket, { force: true });
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.#socket, () => {
        chmodSync(this.#socket, shared ? 0o660 : 0o600);
        if (shared) this.#giveTo(group);
        resolve();
      });
    });
  }

  #giveTo(group: string): void {
    const gid = groupId(group);
    try {
      if (gid !== null) for (const path of [this.#socket, this.#tokenFile]) chownSync(path, -1, gid);
    } catch (error) {
      this.#log.warn(
        { err: error, group },
        "the worker's socket cannot be given to its group: the daemon must be a member of it",
      );
    }
  }

  async close(): Promise<void> {
    this.#ending.abort();
    await new Promise((resolve) => {
      this.#server.close(resolve);
      this.#server.closeAllConnections();
    });
  }

  async #serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const gone = new AbortController();
    res.on("close", () => gone.abort());
    try {
      const given = /^Bearer (\S+)$/.exec(req.headers.authorization ?? "")?.[1] ?? "";
      if (!timingSafeEqual(digest(given), this.#token)) answer(res, 401, { error: "wrong token" });
      else if (req.method !== "POST" || req.url !== "/sync") answer(res, 404, { error: "there is only POST /sync" });
      else {
        const signal = AbortSignal.any([gone.signal, this.#ending.signal]);
        answer(res, 200, await this.#sync(JSON.parse(await bodyOf(req)) as Report, signal));
      }
    } catch (error) {
      if (error instanceof WorkError && error.code === "worker-superseded") answer(res, 409, { error: error.message });
      else {
        if (!gone.signal.aborted) this.#log.error({ err: error }, "a worker's report could not be taken");
        answer(res, 500, { error: "see the daemon's log" });
      }
    }
  }

  /** Takes the report, and answers as soon as something is wanted that the worker has not got. */
  async #sync(report: Report, signal: AbortSignal): Promise<Told> {
    const runs = this.#ours(report).map((run) => this.#explained(run));
    // What it is and which it has, it does not say of itself.
    const worker = { ...report.worker, freeGpus: this.#leases.freeGpus() };
    this.figures = { orphansStopped: report.orphansStopped, unkillable: report.unkillable };
    this.usage = report.usage ?? {};
    const { isUnanswered = false } = report;
    const isFirst = isNewcomer(this.#books.state, worker, isUnanswered);
    this.#books.command({ type: "worker-reports", worker, runs, isUnanswered });
    // From here on the one before it is refused: whatever that one has begun it finds when it looks again.
    const { name: books } = this.#books;
    if (isFirst) return { start: [], stop: [], publish: [], settled: [], orphans: [], books };
    const until = Date.now() + (this.#met === worker.instance ? HOLD_MS : 0);
    this.#met = worker.instance;
    for (;;) {
      // Before it is told: from then on it may have begun.
      const { alive } = this.strangers;
      this.#books.command({ type: "hand-out", node: worker.node, instance: worker.instance, alive });
      const wanted = wantedOf(this.#books.state, worker.node, runs);
      const strangers = this.strangers.wanted;
      const isNews = Object.values(strangers).some((of) => of.length > 0) || saysSomething(wanted, runs);
      const leftMs = until - Date.now();
      if (isNews || leftMs <= 0 || signal.aborted) return { ...wanted, books, strangers };
      await this.#change(leftMs, signal);
    }
  }

  /** Of a report, once what an admin has adopted of lost books is in ours. */
  #ours({ worker, runs, isUnanswered = false }: Report): readonly RunSeen[] {
    const { state, name } = this.#books;
    const isKnown = (run: string) => this.#books.state.runs.get(run) !== undefined;
    const isOver = (run: string) => this.#books.state.runs.get(run)?.phase === "ended";
    const take = () => this.strangers.take(runs, name, isKnown, !isUnanswered, isOver);
    const ours = take();
    // An older worker has none of it to say any more, and is refused below.
    const isNewest = (state.workers.get(worker.node)?.instance ?? 0) <= worker.instance;
    const jobs = Map.groupBy(isNewest ? this.strangers.adopted : [], ({ adopted }) => adopted.job);
    if (jobs.size === 0) return ours;
    for (const [job, of] of jobs) {
      const adopted = of.map(({ adopted: assignment, startedAt, port }) => ({ assignment, startedAt, port }));
      this.#books.command({
        type: "adopt-runs",
        node: worker.node,
        uid: this.#newId(this.#books.now()),
        runs: adopted,
      });
      const all = of.map(({ run }) => run);
      const [taken, left] = partition(all, (run) => this.#books.state.runs.get(run) !== undefined);
      this.#log.warn({ job, runs: taken, left_out: left }, "runs of lost books are in these from now on");
    }
    const known = take();
    for (const job of jobs.keys()) this.strangers.hasAdopted(job);
    return known;
  }

  async #change(ms: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    const leave = this.strangers.onStop(() => woken.abort());
    await this.#books.change(ms, AbortSignal.any([signal, woken.signal]));
    leave();
  }

  /** A run that has failed on a GPU that is sick: no exit code tells that. */
  #explained(seen: RunSeen): RunSeen {
    const { ended } = seen;
    const run = ended === null || ended.reason !== null || ended.exitCode === 0 ? undefined : this.#run(seen);
    const lease = run === undefined ? null : leaseOf(run);
    const trouble = lease === null || lease.elsewhere === true ? null : this.#leases.troubleOf(lease.allocationId);
    if (ended === null || trouble === null) return seen;
    return { ...seen, ended: { ...ended, reason: "gpu-failed", detail: trouble.detail } };
  }

  #run({ run }: RunSeen): Run | undefined {
    return this.#books.state.runs.get(run);
  }
}

function partition<T>(all: readonly T[], isFirst: (one: T) => boolean): readonly [T[], T[]] {
  return [all.filter(isFirst), all.filter((one) => !isFirst(one))];
}

function saysSomething({ start, stop, publish, settled, orphans }: WantedOfWorker, runs: readonly RunSeen[]): boolean {
  if (settled.length > 0) return true;
  const seen = new Map(runs.map((report) => [report.run, report]));
  return (
    start.some(({ run }) => !seen.has(run)) ||
    stop.some(({ run }) => !isStopping(seen.get(run))) ||
    publish.some(({ run }) => seen.get(run)?.published === false) ||
    orphans.some((run) => seen.get(run)?.phase !== "stopping")
  );
}

function isStopping(seen: RunSeen | undefined): boolean {
  return seen?.phase === "stopping" || seen?.phase === "ended";
}

function answer(res: ServerResponse, status: number, body: object): void {
  if (res.headersSent || res.destroyed) return;
  res.writeHead(status, { "Content-Type": "application/json" });
  res.end(JSON.stringify(body));
}

function bodyOf(req: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    req.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MAX_REPORT_BYTES) reject(new Error("the report is too large"));
      else chunks.push(chunk);
    });
    req.on("end", () => resolve(Buffer.concat(chunks).toString("utf8")));
    req.on("error", reject);
  });
}

/** `null`: the host has no such group. */
function groupId(name: string): number | null {
  const groups = existsSync("/etc/group") ? readFileSync("/etc/group", "utf8").split("\n") : [];
  const [, , gid] = groups.find((line) => line.startsWith(`${name}:`))?.split(":") ?? [];
  return gid === undefined ? null : Number(gid);
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/**
 * Made once, and kept: a worker that outlives the daemon has it already. One that a crash or a full disk has cut short
 * is made anew: an empty one would let everybody in.
 */
function tokenAt(path: string): string {
  const kept = existsSync(path) ? readFileSync(path, "utf8").trim() : "";
  if (kept.length >= TOKEN_LENGTH) return kept;
  const made = randomBytes(TOKEN_LENGTH / 2).toString("hex");
  const fresh = `${path}.new`;
  // Its mode holds only for a file that is created.
  rmSync(fresh, { force: true });
  writeFileSync(fresh, made, { mode: 0o640, flush: true });
  renameSync(fresh, path);
  return made;
}
