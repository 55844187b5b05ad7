import { WORKLOAD_DEFAULTS } from "../../src/core/analyzer/defaults.ts";
import type { AllocateAsk, Command } from "../../src/core/decisions/commands.ts";
import { decide } from "../../src/core/decisions/decide.ts";
import { explain } from "../../src/core/explain/explain.ts";
import { emptyHost, withAllocation, withBookings, withGpus } from "../../src/core/host/changes.ts";
import type { Event } from "../../src/core/host/events.ts";
import { positionOf } from "../../src/core/host/line.ts";
import { type HostState, nextDeadline } from "../../src/core/host/state.ts";
import type { Allocation, Lease } from "../../src/core/model/allocation.ts";
import type { Topology } from "../../src/core/model/device.ts";
import { DomainError, type ErrorCode } from "../../src/core/model/errors.ts";
import type { Actor, AllocationId } from "../../src/core/model/ids.ts";
import type { Policy, Quota, Quotas } from "../../src/core/model/policy.ts";
import type { GpuProcess, GpuReading, HostReading, ProbeFailure } from "../../src/core/model/reading.ts";
import { UseSums } from "../../src/scheduler/counting.ts";
import { gpuReading } from "../fixtures/readings.ts";

export const seconds = (n: number) => n * 1_000;
export const minutes = (n: number) => seconds(60 * n);

export const NO_QUOTA: Quota = { maxGpus: null, maxQueued: null, maxPriority: null, gpuTime: null };
export const NO_QUOTAS: Quotas = { principals: {}, services: {}, defaultPrincipal: NO_QUOTA, defaultService: NO_QUOTA };

export const DEFAULT_POLICY: Policy = {
  models: {},
  workloadDefaults: WORKLOAD_DEFAULTS,
  maxQueueSize: 100,
  agingIntervalMs: minutes(10),
  reserveAfterMs: minutes(1),
  patienceMs: minutes(720),
  endlessAfterMs: minutes(1_440),
  preferWide: true,
  holdLate: false,
  queueTimeoutMs: null,
  abandonAfterMs: seconds(30),
  claimTimeoutMs: seconds(60),
  defaultTtlMs: null,
  defaultMaxDurationMs: null,
  defaultTtlMultiplier: 2,
  verifyRelease: "when_used",
  degradedGpus: "exclude",
  reclaimTimeoutMs: seconds(60),
  idleAfterMs: minutes(15),
  reclaimIdleAfterMs: null,
  preemption: null,
  refreshIntervalMs: seconds(5),
  staleAfterMs: seconds(25),
  foreignUse: "exclude",
  foreignUseReadings: 3,
  foreignUseWebhookUrl: null,
  windows: [],
  quotas: NO_QUOTAS,
  sharing: {
    headroomPercent: 5,
    headroomMib: 512,
    maxLeasesPerGpu: 16,
    settleAfterMs: seconds(10),
    settleTimeoutMs: minutes(2),
  },
  fairShare: null,
};

/** A GPU as the simulated driver shows it. Change it with {@link SimulatedHost.gpu}. */
export interface Device {
  reading: GpuReading;
  present: boolean;
}

export function h100(uuid: string, over: Partial<GpuReading> = {}): GpuReading {
  return gpuReading(0, { uuid, ...over });
}

export const t4 = (uuid: string, over: Partial<GpuReading> = {}) =>
  h100(uuid, { name: "Tesla T4", memoryTotalMib: 15_360, memoryFreeMib: 14_900, ...over });

export function process(pid: number, over: Partial<GpuProcess> = {}): GpuProcess {
  return {
    pid,
    type: "C",
    name: "python",
    usedMemoryMib: 1_000,
    gpuInstanceId: null,
    computeInstanceId: null,
    origin: null,
    ...over,
  };
}

export const ADMIN: Actor = { principal: "anonymous", admin: true };

/** One GPU for whatever it is, with somebody to tell. */
export const ASK: AllocateAsk = {
  serviceName: "svc",
  workloadType: "generic",
  workloadData: {},
  requiredGpus: null,
  minMemoryMib: null,
  maxUtilizationPercent: null,
  priority: null,
  webhookUrl: "http://127.0.0.1:9/hook",
  preferredGpus: [],
  gpuModel: null,
  ttlMs: null,
  maxDurationMs: null,
  preemptible: false,
  queue: true,
  queueTimeoutMs: null,
  migProfile: null,
  sharing: "exclusive",
};

export type Ask = Partial<Omit<AllocateAsk, "workloadType">> & { actor?: Actor };

/** The real core over simulated GPUs and a clock that the test moves. */
export class SimulatedHost {
  state: HostState;
  now = 1_800_000_000_000;
  readonly log: Event[] = [];
  readonly ended = new Map<AllocationId, Allocation>();
  readonly devices: Device[];
  /** Refresh readings whenever time moves, as the monitor does; off for tests of a silent monitor. */
  monitoring = true;
  /** What the readings say of their lists of processes. */
  processesHidden = false;
  /** How the driver says that the GPUs are connected, from the next reading on. */
  topology: Topology | null = null;
  #serial = 0;

  constructor(gpus: readonly GpuReading[], policy: Partial<Policy> = {}) {
    this.state = emptyHost({ ...DEFAULT_POLICY, ...policy });
    this.devices = gpus.map((reading, index) => ({ reading: { ...reading, index }, present: true }));
    this.do({ type: "resume", bootId: "boot-1", fencingFloor: this.now });
    this.count();
    this.observe();
  }

  /** As the scheduler does it after a start and a change of quotas: what was used is read from the archive. */
  count(): void {
    if (this.state.accounts.counted) return;
    this.do({ type: "recount" });
    const sums = new UseSums(this.state, this.now);
    for (const record of this.ended.values()) {
      if (record.status !== "ended" || record.lease === null) continue;
      const { request, lease, used, outcome } = record;
      sums.add({ ...request, ...lease, used, endedAt: outcome.at });
    }
    const { at, spent, faded } = sums;
    this.do({ type: "counted", round: this.state.accounts.round, at, spent, faded });
  }

  /** What a reload does. */
  reconfigure(policy: Partial<Policy>): void {
    this.do({ type: "reconfigure", policy: { ...this.state.policy, ...policy } });
    this.count();
  }

  /** The daemon is killed and started again: what is not durable is gone. */
  restart(bootId = "boot-1"): void {
    const { policy, allocations, gpus, nextFencingToken, bootId: before, bookings } = this.state;
    let state = withGpus(withBookings(emptyHost(policy), bookings), [...gpus.values()]);
    for (const allocation of allocations.values()) state = withAllocation(state, allocation);
    this.state = { ...state, nextFencingToken, bootId: before };
    this.do({ type: "resume", bootId, fencingFloor: this.now });
    this.count();
    this.observe();
  }

  /** @throws DomainError when it is refused; the state is then as it was. */
  do(command: Command): readonly Event[] {
    const { events, ended, state } = decide(this.state, command, this.now);
    for (const record of ended) this.ended.set(record.request.id, record);
    this.state = state;
    this.log.push(...events);
    return events;
  }

  submit(ask: Ask = {}): AllocationId {
    const { actor = ADMIN, ...rest } = ask;
    const serviceName = rest.serviceName ?? "svc";
    const id = `${serviceName}-${String(++this.#serial).padStart(26, "0")}`;
    this.do({
      type: "allocate",
      id,
      actor,
      ask: { ...ASK, serviceName, ...rest },
    });
    return id;
  }

  release(id: AllocationId, actor = ADMIN): void {
    this.do({ type: "release", id, serviceName: null, fencingToken: null, actor });
  }

  renew(id: AllocationId, fencingToken: number | null = null, actor = ADMIN): void {
    this.do({ type: "renew", id, fencingToken, actor });
  }

  touch(id: AllocationId): void {
    this.do({ type: "touch", id, actor: ADMIN, waitMs: 0 });
  }

  hangUp(id: AllocationId): void {
    this.do({ type: "hang-up", id });
  }

  claim(id: AllocationId): void {
    this.do({ type: "claim", id });
  }

  /** One good probe that begins and ends now, or began earlier. */
  observe(startedAt = this.now): readonly Event[] {
    const reading: HostReading = {
      simulated: true,
      driverVersion: null,
      cudaVersion: null,
      gpus: this.devices.filter(({ present }) => present).map(({ reading: gpu }) => gpu),
      topology: this.topology,
      warnings: [],
      processesHidden: this.processesHidden,
    };
    return this.do({ type: "observe", observation: { ok: true, startedAt, finishedAt: this.now, reading } });
  }

  failProbe(kind: ProbeFailure["kind"], message = "probe failed"): void {
    const failure = { kind, message, exitCode: null };
    this.do({ type: "observe", observation: { ok: false, startedAt: this.now, finishedAt: this.now, failure } });
  }

  /** Changes what the driver shows of a GPU from the next reading on. */
  gpu(uuid: string, over: Partial<GpuReading>): void {
    const device = this.devices.find(({ reading }) => reading.uuid === uuid);
    if (device === undefined) throw new Error(`no simulated GPU ${uuid}`);
    device.reading = { ...device.reading, ...over };
  }

  /** Moves time on, stopping at each deadline and, if monitoring, at each refresh. */
  advance(ms: number): void {
    const target = this.now + ms;
    const step = this.state.policy.refreshIntervalMs;
    for (;;) {
      const due = nextDeadline(this.state) ?? Number.POSITIVE_INFINITY;
      const refresh = this.monitoring ? (Math.floor(this.now / step) + 1) * step : Number.POSITIVE_INFINITY;
      const at = Math.min(due, refresh, target);
      this.now = Math.max(this.now, at);
      if (this.monitoring && at === refresh) this.observe();
      this.do({ type: "tick" });
      if (at >= target) return;
    }
  }

  allocation(id: AllocationId): Allocation {
    const allocation = this.state.allocations.get(id) ?? this.ended.get(id);
    if (allocation === undefined) throw new Error(`no allocation ${id}`);
    return allocation;
  }

  lease(id: AllocationId): Lease | null {
    const allocation = this.allocation(id);
    return "lease" in allocation ? allocation.lease : null;
  }

  gpusOf(id: AllocationId): readonly string[] | null {
    return this.lease(id)?.gpus.map(({ uuid }) => uuid) ?? null;
  }

  endReason(id: AllocationId): string | null {
    const allocation = this.allocation(id);
    return allocation.status === "ended" ? allocation.outcome.reason : null;
  }

  position(id: AllocationId): number {
    return positionOf(this.state.line, this.allocation(id).request, this.state.policy);
  }

  whyQueued(id: AllocationId): Record<string, string | null> {
    return Object.fromEntries(explain(this.allocation(id).request, this.state, this.now).gpus);
  }

  /** Waiting ids in serving order. */
  queue(): AllocationId[] {
    return [...this.state.line.order.values()].map(({ key }) => key.id);
  }
}

/** The code of the refusal that `action` meets; `null` when it is accepted. Anything but a refusal is rethrown. */
export function refusal(action: () => unknown): ErrorCode | null {
  try {
    action();
    return null;
  } catch (error) {
    if (error instanceof DomainError) return error.code;
    throw error;
  }
}
