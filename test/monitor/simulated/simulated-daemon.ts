import type { AllocateAsk } from "../../../src/core/decisions/commands.ts";
import type { Actor } from "../../../src/core/model/ids.ts";
import type { Policy } from "../../../src/core/model/policy.ts";
import type { GpuReading, HostReading } from "../../../src/core/model/reading.ts";
import { SimulatedSource } from "../../../src/monitor/simulated/source.ts";
import { ManualClock } from "../../../src/platform/clock.ts";
import { sortableIds } from "../../../src/platform/ids.ts";
import type { Observer } from "../../../src/ports/observer.ts";
import { Scheduler } from "../../../src/scheduler/scheduler.ts";
import { MemoryStore } from "../../fixtures/memory-store.ts";
import { DEFAULT_POLICY } from "../../simulation/simulated-host.ts";

export const ANYBODY: Actor = { principal: "anonymous", admin: true };

const PLAIN_ASK: AllocateAsk = {
  serviceName: "svc",
  workloadType: "generic",
  workloadData: {},
  requiredGpus: null,
  minMemoryMib: null,
  maxUtilizationPercent: null,
  priority: null,
  webhookUrl: null,
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

/** The real scheduler over a simulated source and a clock that the test moves; nothing probes but the test. */
export class SimulatedDaemon {
  readonly clock: ManualClock;
  readonly store: MemoryStore;
  readonly source: SimulatedSource;
  readonly scheduler: Scheduler;

  private constructor(shape: string, policy: Partial<Policy>, clock: ManualClock, store: MemoryStore) {
    this.clock = clock;
    this.store = store;
    this.source = new SimulatedSource({ shape, clock });
    const parts = { store, clock, newId: sortableIds(), policy: { ...DEFAULT_POLICY, ...policy } };
    this.scheduler = new Scheduler({ ...parts, tickIntervalMs: 5_000, observers: [this.source] }, store.load());
  }

  static async start(shape: string, policy: Partial<Policy> = {}, ...observers: Observer[]): Promise<SimulatedDaemon> {
    const daemon = new SimulatedDaemon(shape, policy, new ManualClock(), new MemoryStore());
    return daemon.#serve(observers);
  }

  /** Another daemon on the same database, after the same time: what a restart leaves. */
  async restarted(shape: string): Promise<SimulatedDaemon> {
    await this.scheduler.stop();
    return new SimulatedDaemon(shape, {}, this.clock, this.store).#serve([]);
  }

  async #serve(observers: readonly Observer[]): Promise<SimulatedDaemon> {
    for (const observer of observers) this.scheduler.observeWith(observer);
    await this.scheduler.start("boot-1", this.clock.now());
    await this.observe();
    return this;
  }

  /** @returns the id. */
  async allocate(ask: Partial<AllocateAsk> = {}): Promise<string> {
    const { allocation } = await this.scheduler.allocate({ ...PLAIN_ASK, ...ask }, ANYBODY);
    return allocation.request.id;
  }

  async release(id: string): Promise<void> {
    await this.scheduler.release({ id, serviceName: null, fencingToken: null }, ANYBODY);
  }

  /** The indices of the GPUs that an allocation holds. */
  held(id: string): number[] {
    const allocation = this.scheduler.state.allocations.get(id);
    if (allocation === undefined || allocation.status === "queued") return [];
    return allocation.lease.gpus.map(({ index }) => index);
  }

  async reading(): Promise<HostReading> {
    const observation = await this.source.probe();
    if (!observation.ok) throw new Error("the simulated source never fails");
    return observation.reading;
  }

  async gpu(index: number): Promise<GpuReading> {
    const gpu = (await this.reading()).gpus[index];
    if (gpu === undefined) throw new Error(`no GPU ${index}`);
    return gpu;
  }

  /** What the monitor does at every interval. */
  async observe(): Promise<void> {
    await this.scheduler.observe(await this.source.probe());
  }
}
