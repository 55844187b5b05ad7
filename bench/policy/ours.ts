/** The real core as one of the policies: every submission and every end is a command to `decide`. */
import type { AllocateAsk } from "../../src/core/decisions/commands.ts";
import { decide } from "../../src/core/decisions/decide.ts";
import { etaOf } from "../../src/core/explain/forecast.ts";
import { emptyHost } from "../../src/core/host/changes.ts";
import type { Event } from "../../src/core/host/events.ts";
import type { HostState } from "../../src/core/host/state.ts";
import type { AllocationId } from "../../src/core/model/ids.ts";
import type { Policy } from "../../src/core/model/policy.ts";
import { gpuReading, seen } from "../../test/fixtures/readings.ts";
import { ASK, DEFAULT_POLICY } from "../../test/simulation/simulated-host.ts";
import type { Told } from "./figures.ts";
import type { Discipline } from "./replay.ts";
import { HOST_GPUS, type Job } from "./trace.ts";

const START = 1_800_000_000_000;
const ACTOR = { principal: "bench", admin: true };
const NEVER_MS = Number.MAX_SAFE_INTEGER;

export interface OursSettings {
  readonly policy?: Partial<Policy>;
  /** How many of ten requests state their `max_duration`. */
  readonly statedOfTen?: number;
  /** Ask for everybody's ETA as he comes. */
  readonly estimates?: boolean;
  /** Whether the trace's classes of service count as priorities. */
  readonly priorities?: boolean;
}

/**
 * Of the rest of the daemon nothing is in the way: GPUs are idle and well whenever one looks, a grant is claimed at
 * once, and a GPU is free as soon as its lease has ended, as it is for the other policies.
 */
export class Ours implements Discipline {
  #state: HostState;
  readonly #statedOfTen: number;
  readonly #priorities: boolean;
  readonly #estimates: boolean;
  readonly #jobs = new Map<AllocationId, Job>();
  /** What each that had to wait was told when it came; only asked for with `estimates`. */
  readonly told: Told[] = [];

  constructor({ policy = {}, statedOfTen = 0, priorities = false, estimates = false }: OursSettings = {}) {
    this.#estimates = estimates;
    this.#statedOfTen = statedOfTen;
    this.#priorities = priorities;
    const settings = { maxQueueSize: NEVER_MS, staleAfterMs: NEVER_MS, verifyRelease: "never" } as const;
    const empty = emptyHost({ ...DEFAULT_POLICY, ...settings, ...policy });
    const gpus = Array.from({ length: HOST_GPUS }, (_, index) => gpuReading(index));
    this.#state = decide(empty, { type: "resume", bootId: "bench", fencingFloor: START }, START).state;
    this.#state = decide(this.#state, { type: "observe", observation: seen(gpus, START) }, START).state;
  }

  get state(): HostState {
    return this.#state;
  }

  /** Whether `job` states its `max_duration`: the same ones in every run. */
  states({ index }: Job): boolean {
    return index % 10 < this.#statedOfTen;
  }

  submitted(job: Job, nowMs: number): readonly Job[] {
    const id = idOf(job);
    this.#jobs.set(id, job);
    const ask: AllocateAsk = {
      ...ASK,
      requiredGpus: job.gpus,
      priority: this.#priorities ? job.priority : 5,
      maxDurationMs: this.states(job) ? job.statedMs : null,
    };
    const { events, state } = decide(this.#state, { type: "allocate", id, ask, actor: ACTOR }, START + nowMs);
    this.#state = state;
    if (this.#estimates) this.#estimate(job, nowMs);
    return this.#granted(events, nowMs);
  }

  ended(job: Job, nowMs: number): readonly Job[] {
    const id = idOf(job);
    this.#jobs.delete(id);
    const release = { type: "release", id, serviceName: null, fencingToken: null, actor: ACTOR } as const;
    const { events, state } = decide(this.#state, release, START + nowMs);
    this.#state = state;
    return this.#granted(events, nowMs);
  }

  #estimate(job: Job, nowMs: number): void {
    const allocation = this.#state.allocations.get(idOf(job));
    if (allocation?.status !== "queued") return;
    const eta = etaOf(allocation.request, this.#state, START + nowMs);
    this.told.push({ job, eta: eta === null ? null : { fromMs: eta.earliest - START, toMs: eta.latest - START } });
  }

  #granted(events: readonly Event[], nowMs: number): readonly Job[] {
    const started: Job[] = [];
    for (const event of events) {
      if (event.type !== "granted") continue;
      started.push(this.#jobs.get(event.id) as Job);
      if (event.claimBy === null) continue;
      this.#state = decide(this.#state, { type: "claim", id: event.id }, START + nowMs).state;
    }
    return started;
  }
}

function idOf({ index }: Job): AllocationId {
  return `bench-${String(index).padStart(26, "0")}`;
}
