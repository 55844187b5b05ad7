import { MAX_CLOSE_GPUS } from "../src/core/allocator/closeness.ts";
import type { AllocateAsk } from "../src/core/commands.ts";
import { decide } from "../src/core/decide.ts";
import type { GpuReading, Policy, Topology } from "../src/core/model.ts";
import { emptyHost, type HostState } from "../src/core/state.ts";
import { gpuReading, seen } from "../test/fixtures/readings.ts";
import { ASK, DEFAULT_POLICY } from "../test/simulation/simulated-host.ts";
import { median } from "./measure.ts";

const POLICY: Policy = { ...DEFAULT_POLICY, maxQueueSize: 1_000_000 };
const ACTOR = { principal: "bench", admin: true };
const NOW = 1_800_000_000_000;
const ROUNDS = 2_000;
const SAMPLES = 7;

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

function idleHost(gpus: number): HostState {
  const state = decide(emptyHost(POLICY), { type: "resume", bootId: "bench", fencingFloor: NOW }, NOW).state;
  const readings = Array.from({ length: gpus }, (_, index) => gpuReading(index));
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
  const rounds = gpus > 100 ? ROUNDS / 10 : ROUNDS;
  return {
    gpus,
    waiting,
    releaseUs: timeUs(() => decide(state, release, NOW + 1), rounds),
    submitUs: timeUs(() => decide(state, submit, NOW + 1), rounds),
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
  return timeUs(() => decide(state, submit, NOW + 1), ROUNDS);
}

function timeUs(action: () => void, rounds: number): number {
  for (let i = 0; i < rounds / 4; i++) action();
  return median(
    Array.from({ length: SAMPLES }, () => {
      const start = performance.now();
      for (let i = 0; i < rounds; i++) action();
      return ((performance.now() - start) / rounds) * 1_000;
    }),
  );
}
