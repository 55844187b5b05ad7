import type { EpochMs } from "../../core/base/time.ts";
import type { GpuUuid } from "../../core/model/ids.ts";
import type { GpuProcess, GpuReading, MigInstance } from "../../core/model/reading.ts";
import { processOf, type SimulatedGpu } from "./gpu.ts";
import type { Slice } from "./models.ts";
import { isGone, isListed, memoryAt, type Workload } from "./workload.ts";

/** A simulated GPU that is cut into MIG instances. Power and temperature are told of the whole, as if it were idle. */
export class SimulatedCutGpu {
  readonly instances: readonly SimulatedInstance[];
  readonly #gpu: SimulatedGpu;

  constructor(gpu: SimulatedGpu, slices: readonly Slice[]) {
    this.#gpu = gpu;
    this.instances = slices.map((slice) => new SimulatedInstance(gpu.uuid, slice));
  }

  readingAt(at: EpochMs): GpuReading {
    const reading = this.#gpu.readingAt(at);
    const usedMib = (those: readonly SimulatedInstance[]) => those.reduce((sum, one) => sum + one.memoryAt(at), 0);
    const migInstances = this.instances.map(({ uuid, slice }, index): MigInstance => {
      const sharers = this.instances.filter((other) => other.slice.gpuInstanceId === slice.gpuInstanceId);
      return { index, uuid, ...slice, memoryUsedMib: slice.memoryUsedMib + usedMib(sharers) };
    });
    const memoryUsedMib = (reading.memoryUsedMib ?? 0) + usedMib(this.instances);
    return {
      ...reading,
      memoryUsedMib,
      memoryFreeMib: (reading.memoryFreeMib ?? 0) - usedMib(this.instances),
      utilizationPercent: null,
      migMode: "Enabled",
      migInstances,
      processes: this.instances.flatMap((instance) => instance.processesAt(at)),
    };
  }
}

/** One of its instances: what a lease of it puts to use. */
export class SimulatedInstance {
  readonly uuid: GpuUuid;
  readonly slice: Slice;
  #workload: Workload | null = null;
  /** Of the lease before. */
  #leaving: Workload | null = null;

  constructor(parentUuid: GpuUuid, slice: Slice) {
    const ids = [slice.gpuInstanceId, slice.computeInstanceId].map((id) => id.toString(16).padStart(2, "0"));
    // Always the same for the same place, as its GPU's.
    this.uuid = `MIG-${parentUuid.slice("GPU-".length, -4)}${ids.join("")}`;
    this.slice = slice;
  }

  get memoryTotalMib(): number {
    return this.slice.memoryTotalMib;
  }

  begin(workload: Workload): void {
    this.#workload = workload;
  }

  end(pid: number, at: EpochMs): void {
    if (this.#workload?.pid !== pid) return;
    this.#leaving = { ...this.#workload, endsAt: at };
    this.#workload = null;
  }

  memoryAt(at: EpochMs): number {
    return this.#presentAt(at).reduce((sum, workload) => sum + memoryAt(workload, at), 0);
  }

  processesAt(at: EpochMs): GpuProcess[] {
    const { gpuInstanceId, computeInstanceId } = this.slice;
    return this.#presentAt(at)
      .filter((workload) => isListed(workload, at))
      .map((workload) => ({ ...processOf(workload, at), gpuInstanceId, computeInstanceId }));
  }

  #presentAt(at: EpochMs): Workload[] {
    if (this.#leaving !== null && isGone(this.#leaving, at)) this.#leaving = null;
    return [this.#leaving, this.#workload].filter((workload) => workload !== null);
  }
}
