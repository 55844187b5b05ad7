/**
 * The loop between work's books and the daemon that leases: what waits asks, what is held is looked after, and what no
 * run wants is given back. Level-triggered: each look goes by how things stand, and counts on no message.
 */
import type { Cancel, Clock } from "../platform/clock.ts";
import type { LeaseSeen } from "../work/commands.ts";
import type { HeldLease, Run, WorkSpec } from "../work/model.ts";
import { awaitsGpus } from "../work/runs.ts";
import { jobOf, openRunsOf } from "../work/state.ts";
import { countedOn, type Living, type MarkedLease, mayAsk, mayBeInUse, unwanted } from "../work/wanted.ts";
import type { Books } from "./books.ts";
import type { Leases, LeaseWish } from "./leases.ts";

/** How long a lease may have ended, or be wanted by nobody, before it is seen. */
const LOOK_MS = 1_000;
/** After news: many turns come together. */
const SOON_MS = 5;
const STALE_WORKER_TTLS = 10;
const WORKER_TTL_MS = 120_000;
const TASKS_KEPT_MS = 30 * 86_400_000;
const TASKS_KEPT = 10_000;
/** Of a service. */
const RUNS_KEPT = 100;
const RUNS_LOOK_MS = 600_000;

export interface Log {
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

export class Look {
  readonly #books: Books;
  readonly #leases: Leases;
  readonly #clock: Clock;
  readonly #log: Log;
  /** Runs whose lease is being asked for or watched, with the attempt. */
  readonly #underWay = new Set<string>();
  readonly #releasing = new Set<string>();
  readonly #ending = new AbortController();
  #next: Cancel | null = null;
  #runsAt = 0;
  #nextAt = Number.POSITIVE_INFINITY;
  readonly #leave: () => void;
  readonly #strangers: () => Living;

  /** @param strangers what is not in the books and may have processes. */
  constructor(books: Books, leases: Leases, clock: Clock, log: Log, strangers: () => Living = () => null) {
    this.#strangers = strangers;
    this.#books = books;
    this.#leases = leases;
    this.#clock = clock;
    this.#log = log;
    this.#leave = books.onChange(() => this.#arm(SOON_MS));
    this.#arm(0);
  }

  stop(): void {
    this.#leave();
    this.#next?.();
    this.#ending.abort();
  }

  #arm(ms: number): void {
    const at = this.#clock.now() + ms;
    if (at >= this.#nextAt || this.#ending.signal.aborted) return;
    this.#next?.();
    this.#nextAt = at;
    this.#next = this.#clock.after(ms, () => {
      this.#nextAt = Number.POSITIVE_INFINITY;
      this.look();
      this.#arm(LOOK_MS);
    });
  }

  look(): void {
    try {
      this.#ask();
      this.#lookAfter();
      this.#giveBack();
      this.#books.command({
        type: "tidy",
        staleMs: STALE_WORKER_TTLS * WORKER_TTL_MS,
        before: this.#books.now() - TASKS_KEPT_MS,
        keep: TASKS_KEPT,
      });
      this.#removeRuns();
    } catch (error) {
      // A full disk, as a rule: the next look tries again.
      this.#log.error({ err: error }, "work's books could not be brought up to date");
    }
  }

  /** Now and then: it goes through all of them. */
  #removeRuns(): void {
    const now = this.#books.now();
    if (now < this.#runsAt) return;
    this.#runsAt = now + RUNS_LOOK_MS;
    this.#books.command({ type: "remove-ended-runs", before: now - TASKS_KEPT_MS, keep: RUNS_KEPT });
  }

  #ask(): void {
    const { state } = this.#books;
    for (const run of mayAsk(state, this.#leases.mostQueued(), this.#books.now())) {
      this.#once(run, () => this.#leases.ask(this.#wishOf(run)));
    }
    for (const run of openRunsOf(state)) {
      if (run.phase !== "waiting" || run.allocationId === null) continue;
      const id = run.allocationId;
      this.#once(run, () => this.#leases.watch(id, run.owner, this.#ending.signal));
    }
  }

  /** One question at a time for each attempt. */
  #once(run: Extract<Run, { phase: "waiting" }>, ask: () => Promise<LeaseSeen>): void {
    const { id, attempt } = run;
    const name = `${id}/${attempt}`;
    if (this.#underWay.has(name)) return;
    this.#underWay.add(name);
    ask()
      .then((seen) => {
        if (!this.#ending.signal.aborted) this.#books.command({ type: "lease-seen", run: id, attempt, seen });
      })
      .catch((error: unknown) => this.#log.error({ err: error, run: id }, "a lease could not be asked for"))
      .finally(() => {
        this.#underWay.delete(name);
        this.#arm(SOON_MS);
      });
  }

  #wishOf(run: Extract<Run, { phase: "waiting" }>): LeaseWish {
    return {
      ...wishFor(this.#books, run),
      key: `${run.id}/${run.epoch}/${run.attempt}`,
      run: run.id,
      attempt: run.attempt,
    };
  }

  #lookAfter(): void {
    for (const { allocationId } of countedOn(this.#books.state)) {
      const endReason = this.#leases.endOf(allocationId);
      if (endReason !== null) this.#books.command({ type: "lease-over", allocationId, endReason });
      const trouble = endReason === null ? this.#leases.troubleOf(allocationId) : null;
      if (trouble?.isFatal) this.#books.command({ type: "gpu-failed", allocationId, detail: trouble.detail });
    }
    for (const run of openRunsOf(this.#books.state)) if (awaitsGpus(run)) this.#awaitGpus(run.id, run.lease);
  }

  #awaitGpus(run: string, { allocationId, leftAt = 0 }: HeldLease): void {
    const emptiness = this.#leases.emptinessOf(allocationId, leftAt);
    if (emptiness.is === "empty") this.#books.command({ type: "gpus-empty", run });
    else if (emptiness.is === "overdue") this.#books.command({ type: "gpus-not-empty", run, detail: emptiness.detail });
  }

  #giveBack(): void {
    const { state, name } = this.#books;
    const ofOthers = this.#leases.markedByOthers(name);
    const counted = new Set(countedOn(state).map(({ allocationId }) => allocationId));
    // An adopted run's lease bears the mark of the books that it was asked for by, and of the run that asked.
    const isAdopted = ({ allocationId, run }: MarkedLease) =>
      counted.has(allocationId) || state.runs.get(run) !== undefined;
    const living = this.#strangers();
    for (const lease of unwanted(state, [...this.#leases.marked(name), ...ofOthers.filter(isAdopted)])) {
      const owner = state.runs.get(lease.run)?.owner ?? "";
      if (!mayBeInUse(state, lease, living)) this.#release(lease.allocationId, owner);
    }
    for (const lease of ofOthers.filter((one) => !isAdopted(one)))
      if (!mayBeInUse(state, lease, living)) this.#release(lease.allocationId, lease.owner);
  }

  #release(allocationId: string, owner: string): void {
    if (this.#releasing.has(allocationId)) return;
    this.#releasing.add(allocationId);
    this.#leases
      .release(allocationId, owner)
      .catch((error: unknown) =>
        this.#log.warn({ err: error, allocation_id: allocationId }, "a lease could not be given back yet"),
      )
      .finally(() => this.#releasing.delete(allocationId));
  }
}

function wishFor(books: Books, run: Run): Omit<LeaseWish, "key" | "run" | "attempt"> {
  const job = jobOf(books.state, run.job);
  const spec = job?.spec;
  if (job === undefined || spec === undefined || spec === null || spec.resources.gpu === null) {
    throw new Error(`run ${run.id} needs no lease`);
  }
  return { books: books.name, ...wishOf(run.owner, job.name, spec, spec.resources.gpu) };
}

/** What a run of this specification asks a lease for, wherever it stands in the books. */
export function wishOf(
  owner: string,
  name: string,
  spec: WorkSpec,
  gpu: NonNullable<WorkSpec["resources"]["gpu"]>,
): Omit<LeaseWish, "key" | "run" | "attempt" | "books"> {
  return {
    owner,
    serviceName: serviceNameOf(name),
    workloadType: workloadTypeOf(spec.taskType),
    model: analysedModel(spec),
    gpus: gpu.count,
    memoryMib: gpu.memoryMib,
    nameParts: gpu.nameParts,
    priority: spec.priority,
    maxDurationMs: spec.maxDurationMs,
  };
}

/**
 * The model whose memory the analyzer estimates. Not of what trains: how much that needs depends on its method, and the
 * estimate for training all weights would refuse an adapter's that fits.
 */
export function analysedModel({ taskType, identifier }: WorkSpec): string | null {
  return workloadTypeOf(taskType) === "inference" ? identifier : null;
}

/** A lease's service has fewer letters than a workload's name may have. */
export function serviceNameOf(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9._-]/g, "-").slice(0, 100) || "work";
}

export function workloadTypeOf(taskType: string): LeaseWish["workloadType"] {
  if (taskType === "inference" || taskType === "service") return "inference";
  return taskType === "ppo" || taskType === "training" ? "training" : "generic";
}
