/** Running work, as the daemon offers it: leases in process, and the worker that is its child. */
import { type ChildProcess, spawn } from "node:child_process";
import type { EpochMs } from "../core/base/time.ts";
import { planOf } from "../core/explain/plan.ts";
import { indexNow } from "../core/host/indices.ts";
import type { Allocation } from "../core/model/allocation.ts";
import { AllocationNotFoundError, DomainError, RequestNeverFitsError } from "../core/model/errors.ts";
import { allocateAsk } from "../http/allocations/asks.ts";
import { queuedView } from "../http/allocations/views.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import type { Logger } from "../platform/logger.ts";
import { printable } from "../platform/printable.ts";
import type { Reply, Scheduler } from "../scheduler/scheduler.ts";
import { grantedBody } from "../wire/allocations/bodies.ts";
import type { Emptiness, GpuTrouble, LeasePlan, Leases, LeaseWish } from "../work-service/leases.ts";
import { emptinessOf, troubleOf } from "./leased-gpus.ts";

type LeaseSeen = Awaited<ReturnType<Leases["ask"]>>;

const WATCH_MS = 20_000;
const REFUSED_RETRY_MS = 5_000;
/** It can only be of no lease: without one, asking again may help. */
const NO_RETRY_MS = 60_000;
/** As `sortableIds` makes them. */
const BOOKS_NAME = /^[0-9a-z]{26}$/;

/** Leases of the scheduler in this process, asked for as their owners would. */
export class DaemonLeases implements Leases {
  readonly simulated: boolean;
  readonly #scheduler: Scheduler;

  constructor(scheduler: Scheduler, simulated: boolean) {
    this.#scheduler = scheduler;
    this.simulated = simulated;
  }

  async ask(wish: LeaseWish): Promise<LeaseSeen> {
    const actor = { principal: wish.owner, admin: false };
    const key = `work/${wish.books}/${wish.key}`;
    try {
      const kept = this.#scheduler.recall(wish.owner, key)?.ids[0] ?? this.#found(wish);
      if (kept !== undefined) return this.#seen(await this.#scheduler.read(kept, actor));
      const asked = { principal: wish.owner, key, fingerprint: "work" };
      return this.#seen(await this.#scheduler.allocate(this.#askOf(wish), actor, asked));
    } catch (error) {
      return refused(error);
    }
  }

  /** A key lives for a day, and a run may wait for longer: what bears its mark is its lease all the same. */
  #found({ books, run, attempt }: LeaseWish): string | undefined {
    return this.marked(books).find((lease) => lease.run === run && lease.attempt === attempt)?.allocationId;
  }

  #askOf(wish: Omit<LeaseWish, "key" | "run" | "attempt" | "books"> & Partial<LeaseWish>) {
    const { books, run, attempt } = wish;
    const mark = books === undefined ? {} : { books, run, attempt };
    const model = wish.model === null ? {} : { model: wish.model };
    return allocateAsk({
      service_name: wish.serviceName,
      workload_type: wish.workloadType,
      workload_data: { ...mark, ...model },
      required_gpus: wish.gpus,
      min_memory_mb: wish.memoryMib,
      priority: wish.priority,
      gpu_model: this.#productOf(wish.nameParts),
      max_duration: wish.maxDurationMs === null ? null : wish.maxDurationMs / 1_000,
    });
  }

  /** The API takes a part of one name: of several parts, the name of a GPU of this host that has them all. */
  #productOf(parts: readonly string[]): string | null {
    if (parts.length <= 1) return parts[0] ?? null;
    const names = [...this.#scheduler.state.gpus.values()].map(({ name }) => name);
    const has = (name: string) => parts.every((part) => name.toLowerCase().includes(part.toLowerCase()));
    return names.find(has) ?? parts.join("-");
  }

  async watch(allocationId: string, owner: string, signal: AbortSignal): Promise<LeaseSeen> {
    try {
      return this.#seen(await this.#scheduler.wait(allocationId, { principal: owner, admin: false }, WATCH_MS, signal));
    } catch (error) {
      if (error instanceof AllocationNotFoundError) return { status: "missed", reason: "its record is gone" };
      throw error;
    }
  }

  #seen({ allocation, state, at }: Reply<Allocation>): LeaseSeen {
    if (allocation.status === "ended") return { status: "missed", reason: allocation.outcome.reason };
    if (allocation.status === "queued") {
      const { id, reason, position, eta } = queuedView(allocation, state, at);
      const etaLatest: EpochMs | null = eta === null ? null : Date.parse(eta.latest);
      return { status: "queued", allocationId: id, waiting: { reason, position, etaLatest } };
    }
    const { id, gpu_uuids, gpu_ids, env, fencing_token } = grantedBody(allocation, indexNow(state));
    const given = Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined);
    return {
      status: "held",
      lease: {
        allocationId: id,
        gpuUuids: gpu_uuids,
        gpuIndices: gpu_ids,
        env: Object.fromEntries(given),
        fencingToken: fencing_token,
      },
    };
  }

  endOf(allocationId: string): string | null {
    try {
      const { allocation } = this.#scheduler.peek(allocationId);
      return allocation.status === "ended" ? allocation.outcome.reason : null;
    } catch (error) {
      // A database from before it: whatever was granted then is granted no more.
      return error instanceof AllocationNotFoundError ? "forgotten" : null;
    }
  }

  troubleOf(allocationId: string): GpuTrouble | null {
    const allocation = this.#peek(allocationId);
    return allocation === null ? null : troubleOf(allocation, this.#scheduler.state);
  }

  emptinessOf(allocationId: string, since: EpochMs): Emptiness {
    const allocation = this.#peek(allocationId);
    // A simulated GPU is in use as long as it is leased, whatever runs.
    if (allocation === null || this.simulated) return { is: "empty" };
    return emptinessOf(allocation, since, this.#scheduler.state, this.#scheduler.now());
  }

  /** `null`: there is no such lease any more, which is found out elsewhere. */
  #peek(allocationId: string): Allocation | null {
    try {
      return this.#scheduler.peek(allocationId).allocation;
    } catch (error) {
      if (error instanceof AllocationNotFoundError) return null;
      throw error;
    }
  }

  marked(books: string) {
    return [...this.#scheduler.state.allocations.values()].flatMap(({ request }) => {
      const { run, attempt, books: of } = request.workloadData;
      if (of !== books || typeof run !== "string" || typeof attempt !== "number") return [];
      return [{ allocationId: request.id, run, attempt }];
    });
  }

  markedByOthers(books: string) {
    return [...this.#scheduler.state.allocations.values()].flatMap((allocation) => {
      const { id, principal, workloadData } = allocation.request;
      const { run, attempt, books: of } = workloadData;
      // Nothing else that a client may keep there by these names looks so.
      if (typeof of !== "string" || of === books || !BOOKS_NAME.test(of)) return [];
      if (typeof run !== "string" || !run.startsWith("run-") || typeof attempt !== "number") return [];
      const gpuUuids =
        "lease" in allocation && allocation.lease !== null ? allocation.lease.gpus.map(({ uuid }) => uuid) : [];
      return [{ allocationId: id, run, attempt, owner: principal, gpuUuids }];
    });
  }

  async release(allocationId: string): Promise<void> {
    const actor = { principal: "work", admin: true };
    await this.#scheduler.release({ id: allocationId, serviceName: null, fencingToken: null }, actor);
  }

  plan(wish: Omit<LeaseWish, "key" | "run" | "attempt" | "books">): LeasePlan {
    const { state } = this.#scheduler;
    const plan = planOf(state, this.#askOf(wish), { principal: wish.owner, admin: false }, this.#scheduler.now());
    const gpuUuids = plan.outcome === "granted" ? plan.gpus.map(({ uuid }) => uuid) : [];
    const reason =
      plan.outcome === "granted" ? null : plan.outcome === "queued" ? plan.explanation.reason : plan.reason;
    const fits = plan.outcome !== "refused" || plan.code !== "request-never-fits";
    return { fits, grantedNow: plan.outcome === "granted", gpuUuids, reason };
  }

  mostQueued(): number {
    return Math.floor(this.#scheduler.state.policy.maxQueueSize / 2);
  }

  busyness(uuid: string): number | null {
    const percent = this.#scheduler.state.sight.gpus.get(uuid)?.reading.utilizationPercent ?? null;
    return percent === null ? null : percent / 100;
  }

  gpus() {
    return [...this.#scheduler.state.gpus.values()].map(({ index, name, uuid }) => ({ index, name, uuid }));
  }

  driver() {
    const { driverVersion, cudaVersion } = this.#scheduler.state.sight;
    return {
      version: driverVersion === null ? null : printable(driverVersion),
      cuda: cudaVersion === null ? null : printable(cudaVersion),
    };
  }

  freeGpus(): number | null {
    const { gpus } = this.#scheduler.state;
    return gpus.size === 0 ? null : [...gpus.values()].filter(({ hold }) => hold.kind === "free").length;
  }
}

function refused(error: unknown): LeaseSeen {
  if (error instanceof RequestNeverFitsError) return { status: "never", reason: error.message };
  if (!(error instanceof DomainError)) throw error;
  const { retryAfterMs = REFUSED_RETRY_MS } = error as DomainError & { readonly retryAfterMs?: number | null };
  return { status: "refused", reason: `${error.code}: ${error.message}`, retryMs: retryAfterMs ?? NO_RETRY_MS };
}

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;

/** The worker as the daemon's child: started again when it ends, and left alone with its runs when the daemon stops. */
export class EmbeddedWorker {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #argv: readonly string[];
  #child: ChildProcess | null = null;
  #pauseMs = FIRST_PAUSE_MS;
  #again: Cancel | null = null;
  #isStopped = false;

  constructor(argv: readonly string[], clock: Clock, log: Logger) {
    this.#argv = argv;
    this.#clock = clock;
    this.#log = log;
  }

  start(): void {
    const startedAt = this.#clock.now();
    const [program = "", ...args] = this.#argv;
    const child = spawn(program, args, { stdio: ["ignore", "inherit", "inherit"] });
    this.#child = child;
    const ended = (how: string) => {
      if (this.#isStopped || this.#child !== child) return;
      this.#child = null;
      if (this.#clock.now() - startedAt > LONGEST_PAUSE_MS) this.#pauseMs = FIRST_PAUSE_MS;
      this.#log.warn({ how, pause_ms: this.#pauseMs }, "the worker has ended, and is started again");
      this.#again = this.#clock.after(this.#pauseMs, () => this.start());
      this.#pauseMs = Math.min(LONGEST_PAUSE_MS, this.#pauseMs * 2);
    };
    child.once("exit", (code, signal) => ended(String(signal ?? code)));
    child.once("error", (error) => ended(error.message));
  }

  /** Its log is a file of its own, which is moved away with the daemon's. */
  reopenLog(): void {
    this.#child?.kill("SIGHUP");
  }

  stop(): void {
    this.#isStopped = true;
    this.#again?.();
    this.#child?.kill("SIGTERM");
    this.#child?.unref();
  }
}
