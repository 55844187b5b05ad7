/**
 * The trace on a host whose GPUs are not alike: large ones, whole or shared, small ones, and MIG instances. What does not
 * keep a request waiting in the other tables does here: which GPUs suit it, how much memory is left, which instance.
 */
import type { AllocateAsk, Command } from "../../src/core/decisions/commands.ts";
import { decide } from "../../src/core/decisions/decide.ts";
import { emptyHost } from "../../src/core/host/changes.ts";
import { type HostState, nextDeadline } from "../../src/core/host/state.ts";
import type { AllocationId } from "../../src/core/model/ids.ts";
import type { Policy } from "../../src/core/model/policy.ts";
import { cutGpu, instance } from "../../test/fixtures/mig.ts";
import { gpuReading, seen } from "../../test/fixtures/readings.ts";
import { ASK, DEFAULT_POLICY } from "../../test/simulation/simulated-host.ts";
import { waitsOf } from "./figures.ts";
import type { Served } from "./replay.ts";
import { type Job, sample } from "./trace.ts";

const START = 1_800_000_000_000;
const ACTOR = { principal: "bench", admin: true };
const NEVER_MS = Number.MAX_SAFE_INTEGER;
const SEEDS = [11, 12, 13];
const LARGE = 4;
const SMALL = 2;
const INSTANCES = 7;
const LARGE_MIB = 81_559;
const PROFILE = "1g.10gb";
/** Part of a large GPU that an instance is. */
const SEVENTH = 1 / INSTANCES;
/** Whole GPUs' worth. */
const CAPACITY = LARGE + SMALL + 1;

/** What a request of the trace becomes here. */
interface Wanted {
  readonly ask: Partial<AllocateAsk>;
  /** GPUs' worth that it takes. */
  readonly weight: number;
}

function wantedBy({ index, gpus, milli }: Job): Wanted {
  if (gpus > 1) {
    const requiredGpus = Math.min(LARGE, gpus);
    return { ask: { requiredGpus, minMemoryMib: 20_000 }, weight: requiredGpus };
  }
  const part = milli / 1_000;
  if (part <= SEVENTH) return { ask: { migProfile: PROFILE, minMemoryMib: 4_096 }, weight: SEVENTH };
  if (part < 1) {
    return { ask: { sharing: "shared", minMemoryMib: Math.floor(part * LARGE_MIB * 0.9) }, weight: part };
  }
  // Of those that ask for one whole GPU, every other one would do with a small one.
  return { ask: { minMemoryMib: index % 2 === 0 ? 20_000 : 8_192 }, weight: 1 };
}

/** The same requests in the same order, stretched to `load` of what this host has. */
function jobsFor(seed: number, load: number, severalShare: number | null): readonly Job[] {
  const jobs = sample({ seed, load: 1, severalShare, requests: null });
  const lastMs = jobs.at(-1)?.submittedMs ?? 1;
  const asked = jobs.reduce((sum, job) => sum + wantedBy(job).weight * job.durationMs, 0);
  const stretch = asked / (CAPACITY * load * lastMs);
  return jobs.map((job) => ({ ...job, submittedMs: Math.round(job.submittedMs * stretch) }));
}

function inventory() {
  const large = Array.from({ length: LARGE }, (_, index) => gpuReading(index));
  const small = Array.from({ length: SMALL }, (_, index) =>
    gpuReading(LARGE + index, { name: "Tesla T4", memoryTotalMib: 15_360, memoryFreeMib: 14_900 }),
  );
  const instances = Array.from({ length: INSTANCES }, (_, index) => instance(index, index + 7));
  return [...large, ...small, cutGpu("GPU-cut", instances, { index: LARGE + SMALL })];
}

/** Serves all of `jobs` with the core's own decisions; time stops at each command and each deadline. */
export function serve(jobs: readonly Job[], policy: Partial<Policy>, states: boolean): readonly Served[] {
  const settings = { maxQueueSize: NEVER_MS, staleAfterMs: NEVER_MS, verifyRelease: "never" } as const;
  let state: HostState = emptyHost({ ...DEFAULT_POLICY, ...settings, ...policy });
  let now = START;
  const started = new Map<number, number>();
  let ends: { readonly at: number; readonly id: AllocationId }[] = [];
  const take = (command: Command) => {
    const { events, state: after } = decide(state, command, now);
    state = after;
    for (const event of events) {
      if (event.type !== "granted") continue;
      const index = Number(event.id.slice(-26));
      started.set(index, now - START);
      ends.push({ at: now + (jobs[index] as Job).durationMs, id: event.id });
      if (event.claimBy !== null) state = decide(state, { type: "claim", id: event.id }, now).state;
    }
  };
  take({ type: "resume", bootId: "bench", fencingFloor: START });
  take({ type: "observe", observation: seen(inventory(), START) });
  let next = 0;
  while (started.size < jobs.length || ends.length > 0) {
    const job = jobs[next];
    const ending = ends.reduce((soonest, { at }) => Math.min(soonest, at), Infinity);
    const due = nextDeadline(state) ?? Infinity;
    const coming = job === undefined ? Infinity : START + job.submittedMs;
    now = Math.min(ending, due, coming);
    if (now === Infinity) throw new Error(`${jobs.length - started.size} requests never start`);
    if (now === due) take({ type: "tick" });
    else if (now === ending) {
      const done = ends.filter(({ at }) => at === now);
      ends = ends.filter(({ at }) => at !== now);
      for (const { id } of done) {
        if (state.allocations.get(id) === undefined) continue;
        take({ type: "release", id, serviceName: null, fencingToken: null, actor: ACTOR });
      }
    } else if (job !== undefined) {
      next++;
      const id = `bench-${String(job.index).padStart(26, "0")}`;
      const ask = { ...ASK, ...wantedBy(job).ask, priority: 5, maxDurationMs: states ? job.statedMs : null };
      take({ type: "allocate", id, ask, actor: ACTOR });
    }
  }
  return jobs.map((job) => ({ job, startedMs: started.get(job.index) as number }));
}

const ROWS: readonly { readonly name: string; readonly policy: Partial<Policy>; readonly states: boolean }[] = [
  // Nobody is ever a head: whoever fits goes.
  { name: "greedy", policy: { reserveAfterMs: NEVER_MS, preferWide: false }, states: false },
  { name: "ours, nothing stated", policy: {}, states: false },
  { name: "ours, `max_duration` stated", policy: {}, states: true },
];

/** Writes the section by `say`, line by line. */
export function mixed(
  mixes: readonly { readonly severalShare: number | null; readonly name: string }[],
  say: (line?: string) => void,
): void {
  say("## GPUs that are not alike");
  say();
  say(
    `A host of ${LARGE} large GPUs (80 GB), ${SMALL} small ones (15 GB) and ${INSTANCES} MIG instances (${PROFILE}). Of the trace, a request for several`,
  );
  say(
    `GPUs asks for large ones, ${LARGE} at most; one for up to a seventh of a GPU for an instance; one for another part for as much`,
  );
  say(
    "memory of a shared GPU; and of those for a whole GPU every other one would do with a small one. Loads are of the GPUs'",
  );
  say(
    `worth that is asked for, means over ${SEEDS.length} seeds. *Greedy* is the same allocator without heads and without a preference for wide ones.`,
  );
  say("Waits in hours; *max, several* is the longest wait of a request for several GPUs.");
  say();
  say("| mix | load | policy | in use | mean | p95 | max | max, several |");
  say("|---|---|---|---|---|---|---|---|");
  const hours = (seconds: number) => (seconds / 3_600).toFixed(seconds < 36_000 ? 2 : 0);
  for (const { severalShare, name } of mixes) {
    for (const load of [0.9, 1.1]) {
      const seeds = severalShare === null ? SEEDS.slice(0, 1) : SEEDS;
      for (const { name: policy, policy: settings, states } of ROWS) {
        const runs = seeds.map((seed) => serve(jobsFor(seed, load, severalShare), settings, states));
        const mean = (value: (run: readonly Served[]) => number) =>
          runs.reduce((sum, run) => sum + value(run), 0) / runs.length;
        const most = (value: (run: readonly Served[]) => number) => Math.max(...runs.map(value));
        const several = (run: readonly Served[]) => waitsOf(run.filter(({ job }) => job.gpus > 1)).max;
        const waits = [
          mean((run) => waitsOf(run).mean),
          mean((run) => waitsOf(run).p95),
          most((run) => waitsOf(run).max),
        ];
        const used = `${(mean(inUse) * 100).toFixed(1)} %`;
        say(`| ${[name, load, policy, used, ...[...waits, most(several)].map(hours)].join(" | ")} |`);
      }
    }
  }
  say();
}

/** Part of the host's worth in use from the first to the last submission. */
function inUse(served: readonly Served[]): number {
  const lastMs = served.at(-1)?.job.submittedMs ?? 0;
  const used = served.reduce((sum, { job, startedMs }) => {
    const end = Math.min(startedMs + job.durationMs, lastMs);
    return sum + wantedBy(job).weight * Math.max(0, end - startedMs);
  }, 0);
  return used / (CAPACITY * lastMs);
}
