import { createHash } from "node:crypto";
import type { EpochMs } from "../../core/base/time.ts";
import type { GpuUuid } from "../../core/model/ids.ts";
import type { GpuHealth, GpuProcess, GpuReading } from "../../core/model/reading.ts";
import type { GpuModel, Shape } from "./models.ts";
import { noiseAt, type Random } from "./random.ts";
import { appearsAt, isGone, isListed, memoryAt, utilizationAt, type Workload } from "./workload.ts";

/** How fast power and temperature follow the load: after this time two thirds of the way are done. */
const POWER_UP_MS = 2_000;
const POWER_DOWN_MS = 6_000;
const HEAT_UP_MS = 25_000;
const COOL_DOWN_MS = 60_000;
/** Degrees above idle under full load: an air-cooled GPU in a server then runs at 65 to 75 C. */
const FULL_LOAD_RISE_C = 38;
/** Of the power between idle and limit, what full load draws. */
const FULL_LOAD_SHARE = 0.92;
/** Neighbours differ: by so many degrees, and by such a share of their power. */
const SPREAD_C = 3;
const SPREAD_POWER = 0.03;
const POWER_UNREST = 0.015;
/** Bus numbers of eight GPUs in a real host go 53, 64, 75...: by 17. Sixteen must end below 100. */
const FIRST_BUS = 0x0a;
const BUS_STEP = 0x0f;

/** How far power and temperature stand from idle (0) to full load (1), at one instant. */
interface Warmth {
  readonly at: EpochMs;
  readonly power: number;
  readonly heat: number;
}

const COLD: Warmth = { at: -Infinity, power: 0, heat: 0 };

/**
 * One simulated GPU. What it shows at an instant depends on its leases and that instant, and not on how often it was
 * looked at before: {@link Warmth} moves in steps that compose.
 */
export class SimulatedGpu {
  readonly uuid: GpuUuid;
  readonly index: number;
  readonly model: GpuModel;
  readonly #seed: number;
  readonly #idleTemperatureC: number;
  readonly #idlePowerW: number;
  #warmth: Warmth = COLD;
  /** In the order in which they show; several share the GPU. */
  #workloads: readonly Workload[] = [];
  /** Of leases that have ended: what the driver has not taken back yet. */
  #leaving: readonly Workload[] = [];

  constructor(shape: Shape, index: number, random: Random) {
    this.uuid = simulatedUuid(shape.key, index);
    this.index = index;
    this.model = shape.model;
    this.#seed = Math.floor(random() * 2 ** 32);
    this.#idleTemperatureC = shape.model.idleTemperatureC + SPREAD_C * random();
    this.#idlePowerW = shape.model.idlePowerW * (1 + SPREAD_POWER * (2 * random() - 1));
  }

  get memoryTotalMib(): number {
    return this.model.memoryTotalMib;
  }

  /** `workload` runs here from its start on, which may lie before a restart of the daemon. */
  begin(workload: Workload): void {
    this.#settle(workload.startsAt);
    this.#workloads = [...this.#workloads, workload].sort((a, b) => appearsAt(a) - appearsAt(b));
  }

  end(pid: number, at: EpochMs): void {
    const workload = this.#workloads.find((one) => one.pid === pid);
    if (workload === undefined) return;
    this.#settle(at);
    this.#leaving = [...this.#leaving, { ...workload, endsAt: at }];
    this.#workloads = this.#workloads.filter((one) => one !== workload);
  }

  readingAt(at: EpochMs): GpuReading {
    this.#settle(at);
    this.#leaving = this.#leaving.filter((workload) => !isGone(workload, at));
    const present = [...this.#leaving, ...this.#workloads];
    const { memoryTotalMib, memoryReservedMib, mig } = this.model;
    const usable = memoryTotalMib - memoryReservedMib;
    const memoryUsedMib = Math.min(
      usable,
      present.reduce((sum, workload) => sum + memoryAt(workload, at), 0),
    );
    return {
      uuid: this.uuid,
      index: this.index,
      minorNumber: this.index,
      name: this.model.name,
      serial: null,
      pciBusId: pciBusId(this.index),
      memoryTotalMib,
      // 0 stands for a driver that does not tell.
      memoryReservedMib: memoryReservedMib === 0 ? null : memoryReservedMib,
      memoryUsedMib,
      memoryFreeMib: usable - memoryUsedMib,
      utilizationPercent: Math.min(
        100,
        this.#workloads.reduce((sum, workload) => sum + utilizationAt(workload, at), 0),
      ),
      temperatureC: Math.round(this.#idleTemperatureC + FULL_LOAD_RISE_C * this.#warmth.heat),
      powerDrawW: this.#powerAt(at),
      powerLimitW: this.model.powerLimitW,
      computeMode: "Default",
      persistenceMode: "Enabled",
      migMode: mig ? "Disabled" : null,
      migInstances: [],
      processes: present.filter((workload) => isListed(workload, at)).map((workload) => processOf(workload, at)),
      health: healthy(this.model),
      errorValues: {},
    };
  }

  #powerAt(at: EpochMs): number {
    const { powerLimitW } = this.model;
    const span = (powerLimitW - this.#idlePowerW) * FULL_LOAD_SHARE;
    const drawn = (this.#idlePowerW + span * this.#warmth.power) * (1 + POWER_UNREST * noiseAt(this.#seed, at));
    return Math.round(Math.min(powerLimitW, drawn) * 100) / 100;
  }

  /** Brings the warmth up to `to`: under the load of all that show, from the instant on at which each does. */
  #settle(to: EpochMs): void {
    let load = 0;
    for (const workload of this.#workloads) {
      this.#warmth = warmed(this.#warmth, Math.min(1, load), Math.min(appearsAt(workload), to));
      load += workload.busyPercent / 100;
    }
    this.#warmth = warmed(this.#warmth, Math.min(1, load), to);
  }
}

/** The warmth at `to`, after a constant `load` since it was taken. */
function warmed(from: Warmth, load: number, to: EpochMs): Warmth {
  if (to <= from.at) return from;
  const elapsedMs = to - from.at;
  return {
    at: to,
    power: approached(from.power, load, elapsedMs, POWER_UP_MS, POWER_DOWN_MS),
    heat: approached(from.heat, load, elapsedMs, HEAT_UP_MS, COOL_DOWN_MS),
  };
}

/** First-order lag: the rest of the way shrinks by the same share in equal times. */
function approached(from: number, to: number, elapsedMs: number, upMs: number, downMs: number): number {
  return to + (from - to) * Math.exp(-elapsedMs / (to > from ? upMs : downMs));
}

export function processOf(workload: Workload, at: EpochMs): GpuProcess {
  return {
    pid: workload.pid,
    type: "C",
    name: workload.name,
    usedMemoryMib: memoryAt(workload, at),
    gpuInstanceId: null,
    computeInstanceId: null,
    origin: null,
  };
}

function healthy(model: GpuModel): GpuHealth {
  const errors = model.ecc ? 0 : null;
  const rows = model.repair === "rows" ? false : null;
  const noRows = model.repair === "rows" ? 0 : null;
  return {
    eccMode: model.ecc ? "Enabled" : null,
    eccCorrectedVolatile: errors,
    eccCorrectedAggregate: errors,
    eccUncorrectedVolatile: errors,
    eccUncorrectedAggregate: errors,
    sramThresholdExceeded: null,
    repairPending: null,
    retiredPages: model.repair === "pages" ? 0 : null,
    retiredPagesPending: model.repair === "pages" ? false : null,
    remappedRowsCorrectable: noRows,
    remappedRowsUncorrectable: noRows,
    remappedRowsPending: rows,
    remappedRowsFailure: rows,
    unrepairableMemory: null,
    recoveryAction: "None",
    fabricState: model.fabric ? "Completed" : null,
    fabricStatus: model.fabric ? "Success" : null,
    fabricHealth: null,
    slowdown: false,
    license: null,
  };
}

/** Always the same for the same place, so that a database outlives the daemon that simulated it. */
function simulatedUuid(modelKey: string, index: number): GpuUuid {
  const hex = createHash("sha256").update(`gpu-orchestrator simulated ${modelKey} ${index}`).digest("hex");
  const part = (from: number, length: number) => hex.slice(from, from + length);
  return `GPU-${part(0, 8)}-${part(8, 4)}-${part(12, 4)}-${part(16, 4)}-${part(20, 12)}`;
}

function pciBusId(index: number): string {
  const bus = (FIRST_BUS + BUS_STEP * index).toString(16).toUpperCase().padStart(2, "0");
  return `00000000:${bus}:00.0`;
}
