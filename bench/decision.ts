import { WORKLOAD_DEFAULTS } from "../src/core/analyzer/defaults.ts";
import type { AllocateAsk } from "../src/core/commands.ts";
import { decide } from "../src/core/decide.ts";
import type { GpuReading, Policy } from "../src/core/model.ts";
import { emptyHost, type HostState } from "../src/core/state.ts";
import { median } from "./measure.ts";

const POLICY: Policy = {
  workloadDefaults: WORKLOAD_DEFAULTS,
  maxQueueSize: 1_000_000,
  agingIntervalMs: 600_000,
  reserveAfterMs: 60_000,
  queueTimeoutMs: null,
  abandonAfterMs: 30_000,
  claimTimeoutMs: 60_000,
  defaultTtlMs: null,
  defaultTtlMultiplier: 2,
  verifyRelease: "when_used",
  reclaimTimeoutMs: 60_000,
  refreshIntervalMs: 5_000,
  staleAfterMs: 25_000,
};
const ACTOR = { principal: "bench", admin: true };
const NOW = 1_800_000_000_000;
const ROUNDS = 2_000;
const SAMPLES = 7;

function reading(index: number): GpuReading {
  return {
    uuid: `GPU-${String(index).padStart(4, "0")}`,
    index,
    minorNumber: index,
    name: "NVIDIA H100 80GB HBM3",
    serial: null,
    pciBusId: null,
    memoryTotalMib: 81_559,
    memoryUsedMib: 4,
    memoryFreeMib: 81_000,
    utilizationPercent: 0,
    temperatureC: 30,
    powerDrawW: 70,
    powerLimitW: 700,
    computeMode: null,
    persistenceMode: null,
    migMode: null,
    migInstances: [],
    processes: [],
    health: {
      eccUncorrectedVolatile: 0,
      eccUncorrectedAggregate: 0,
      retiredPagesPending: null,
      remappedRowsPending: null,
      remappedRowsFailure: null,
      recoveryAction: null,
      fabricState: null,
      fabricStatus: null,
      slowdown: null,
    },
    errorValues: {},
  };
}

function ask(memoryMib: number, priority: number): AllocateAsk {
  return {
    serviceName: "bench",
    workloadType: "generic",
    workloadData: {},
    requiredGpus: 1,
    minMemoryMib: memoryMib,
    maxUtilizationPercent: null,
    priority,
    webhookUrl: "http://127.0.0.1:9/",
    preferredGpus: [],
    gpuModel: null,
    ttlMs: null,
    maxDurationMs: null,
    preemptible: false,
    queue: true,
    queueTimeoutMs: null,
  };
}

/** A host whose GPUs are all leased and where `waiting` requests of mixed size and priority wait. */
function busyHost(gpus: number, waiting: number): { state: HostState; holder: string } {
  let state = decide(emptyHost(POLICY), { type: "resume", bootId: "bench", fencingFloor: NOW }, NOW).state;
  const seen = { simulated: true, driverVersion: null, cudaVersion: null, warnings: [] };
  const observation = {
    ok: true as const,
    startedAt: NOW,
    finishedAt: NOW,
    reading: { ...seen, gpus: Array.from({ length: gpus }, (_, i) => reading(i)) },
  };
  state = decide(state, { type: "observe", observation }, NOW).state;
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
  const time = (action: () => void) => {
    const rounds = gpus > 100 ? ROUNDS / 10 : ROUNDS;
    for (let i = 0; i < rounds / 4; i++) action();
    return median(
      Array.from({ length: SAMPLES }, () => {
        const start = performance.now();
        for (let i = 0; i < rounds; i++) action();
        return ((performance.now() - start) / rounds) * 1_000;
      }),
    );
  };
  return {
    gpus,
    waiting,
    releaseUs: time(() => decide(state, release, NOW + 1)),
    submitUs: time(() => decide(state, submit, NOW + 1)),
  };
}
