import type { AllocateAsk } from "../src/core/decisions/commands.ts";
import { decide } from "../src/core/decisions/decide.ts";
import { forecast } from "../src/core/explain/forecast.ts";
import { emptyHost } from "../src/core/host/changes.ts";
import type { HostState } from "../src/core/host/state.ts";
import type { Topology } from "../src/core/model/device.ts";
import type { Policy } from "../src/core/model/policy.ts";
import type { GpuReading } from "../src/core/model/reading.ts";
import { MAX_CLOSE_GPUS } from "../src/core/readings/closeness.ts";
import { gpuReading, seen } from "../test/fixtures/readings.ts";
import { ASK, DEFAULT_POLICY } from "../test/simulation/simulated-host.ts";
import { median } from "./measure.ts";

const POLICY: Policy = { ...DEFAULT_POLICY, maxQueueSize: 1_000_000 };
const ACTOR = { principal: "bench", admin: true };
const NOW = 1_800_000_000_000;
const SAMPLES = 7;
const SAMPLE_US = 50_000;

function ask(memoryMib: number, priority: number): AllocateAsk {
  return { ...ASK, serviceName: "bench", requiredGpus: 1, minMemoryMib: memoryMib, priority };
}

/** Every GPU with every other by 18 NVLinks, half of them beside each socket: eight are an H100 server. */
function wired(gpus: readonly GpuReading[]): Topology {
  return {
    gpus: gpus.map(({ uuid }, index) => ({
      uuid,
      numaNodes: [index < gpus.length / 2 ? 0 : 1],
      cpuAffinity: index < gpus.length / 2 ? "0-47,96-143" : "48-95,144-191",
    })),
    links: gpus.map((_, a) => gpus.map((__, b) => (a === b ? null : "NV18"))),
  };
}

function idleHost(gpus: number, policy = POLICY, firstMib?: number): HostState {
  const state = decide(emptyHost(policy), { type: "resume", bootId: "bench", fencingFloor: NOW }, NOW).state;
  const readings = Array.from({ length: gpus }, (_, index) =>
    gpuReading(index, index === 0 && firstMib !== undefined ? { memoryTotalMib: firstMib } : {}),
  );
  const observation = seen(readings, NOW, { topology: gpus > MAX_CLOSE_GPUS ? null : wired(readings) });
  return decide(state, { type: "observe", observation }, NOW).state;
}

/** A host whose GPUs are all leased and where `waiting` requests of mixed size and priority wait. */
function busyHost(gpus: number, waiting: number): { state: HostState; holder: string } {
  let state = idleHost(gpus);
  for (let i = 0; i < gpus + waiting; i++) {
    const id = `bench-${String(i).padStart(26, "0")}`;
    const command = {
      type: "allocate",
      id,
      actor: ACTOR,
      ask: ask(1_000 + ((i * 7_919) % 80_000), 1 + (i % 10)),
    } as const;
    state = decide(state, command, NOW).state;
  }
  return { state, holder: `bench-${String(0).padStart(26, "0")}` };
}

export interface DecisionFigure {
  readonly gpus: number;
  readonly waiting: number;
  /** One release and the grant that follows it. */
  readonly releaseUs: number;
  /** One request that has to queue. */
  readonly submitUs: number;
}

/** The time of one decision, in microseconds: the median of several samples of many decisions. */
export function measureDecision(gpus: number, waiting: number): DecisionFigure {
  const { state, holder } = busyHost(gpus, waiting);
  const release = { type: "release", id: holder, serviceName: null, fencingToken: null, actor: ACTOR } as const;
  const submit = { type: "allocate", id: "bench-newcomer", actor: ACTOR, ask: ask(40_000, 5) } as const;
  return {
    gpus,
    waiting,
    releaseUs: timeUs(() => decide(state, release, NOW + 1)),
    submitUs: timeUs(() => decide(state, submit, NOW + 1)),
  };
}

const HOUR = 3_600_000;
const SMALL_MIB = 40_000;

/** Who waits behind the head; the GPU that comes free has {@link SMALL_MIB}, and is lent for less than an hour. */
const BEHIND = {
  /** All sizes and durations. */
  mixed: (i: number) => ({
    memoryMib: 1_000 + ((i * 7_919) % 80_000),
    maxDurationMs: 60_000 + ((i * 104_729) % (10 * HOUR)),
  }),
  /** None can be served, and no sum over many of them says so: small ones last too long, short ones are too large. */
  adverse: (i: number) => ({
    memoryMib: i % 2 === 0 ? 1_000 : 80_000,
    maxDurationMs: i % 2 === 0 ? HOUR + i : HOUR - 600_000 - i,
  }),
} as const;

export interface BackfillFigure {
  readonly gpus: number;
  readonly waiting: number;
  /** A release, the reservation for the head, and the search for one that can be lent the GPU. */
  readonly releaseUs: number;
  /** The estimates for the first hundred in line. */
  readonly forecastUs: number;
}

/** The head of the line waits for all GPUs, whose leases end an hour later at the earliest. */
export function measureBackfill(gpus: number, waiting: number, behind: keyof typeof BEHIND): BackfillFigure {
  let state = idleHost(gpus, { ...POLICY, reserveAfterMs: 0 }, SMALL_MIB);
  const bring = (i: number, over: Partial<AllocateAsk>) => {
    const id = `bench-${String(i).padStart(26, "0")}`;
    state = decide(state, { type: "allocate", id, actor: ACTOR, ask: { ...ask(1_000, 5), ...over } }, NOW).state;
    return id;
  };
  const holder = bring(0, { preferredGpus: ["0"], maxDurationMs: HOUR });
  for (let i = 1; i < gpus; i++) bring(i, { maxDurationMs: HOUR });
  bring(gpus, { requiredGpus: gpus, maxDurationMs: HOUR });
  for (let i = 1; i <= waiting; i++) {
    const { memoryMib, maxDurationMs } = BEHIND[behind](i);
    bring(gpus + i, { minMemoryMib: memoryMib, maxDurationMs });
  }
  const release = { type: "release", id: holder, serviceName: null, fencingToken: null, actor: ACTOR } as const;
  return {
    gpus,
    waiting,
    releaseUs: timeUs(() => decide(state, release, NOW + 1)),
    forecastUs: timeUs(() => forecast(state, NOW + 1)),
  };
}

/** The time of granting `count` GPUs of an idle host at once, in microseconds. */
export function measureGrant(gpus: number, count: number): number {
  const state = idleHost(gpus);
  const submit = {
    type: "allocate",
    id: "bench-newcomer",
    actor: ACTOR,
    ask: { ...ask(40_000, 5), requiredGpus: count },
  } as const;
  return timeUs(() => decide(state, submit, NOW + 1));
}

/** CPU time of this thread, in microseconds: what else runs on the machine does not count. */
function cpuUs(): number {
  const { user, system } = process.threadCpuUsage();
  return user + system;
}

/** The median of some samples, each of as many rounds as fit into {@link SAMPLE_US}: the kernel's clock of CPU is coarse. */
function timeUs(action: () => void): number {
  let rounds = 0;
  for (const begun = cpuUs(); cpuUs() - begun < SAMPLE_US; rounds++) action();
  return median(
    Array.from({ length: SAMPLES }, () => {
      const start = cpuUs();
      for (let i = 0; i < rounds; i++) action();
      return (cpuUs() - start) / rounds;
    }),
  );
}
