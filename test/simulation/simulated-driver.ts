/** The GPUs of a simulated host, and what a driver shows of them. */
import type { EpochMs } from "../../src/core/base/time.ts";
import type { GpuUuid } from "../../src/core/model/ids.ts";
import type { GpuReading, Observation, ProbeFailureKind } from "../../src/core/model/reading.ts";
import { failed, gpuReading, seen } from "../fixtures/readings.ts";
import { process as processOf } from "./simulated-host.ts";

/** What a GPU does or suffers, and what follows from it for grants: said here once more, apart from the program. */
interface MoodFacts {
  /** May be granted while no lease holds it. */
  readonly grantable: boolean;
  /** MiB; `null`: the driver does not say. */
  readonly usedMib: number | null;
  readonly utilizationPercent: number | null;
  /** A process computes there, or memory is in use that no process explains. */
  readonly inUse: boolean;
  readonly shows: Partial<GpuReading>;
}

function facts(over: Partial<MoodFacts>): MoodFacts {
  return { grantable: true, usedMib: 4, utilizationPercent: 0, inUse: false, shows: {}, ...over };
}

const HEALTH = gpuReading(0).health;
/** Of the process on a busy GPU. */
export const BUSY_PID = 11;

export const MOODS = {
  idle: facts({}),
  strained: facts({ utilizationPercent: 40, shows: { health: { ...HEALTH, slowdown: true } } }),
  loaded: facts({ utilizationPercent: 95 }),
  unmeasured: facts({ utilizationPercent: null }),
  desktop: facts({ usedMib: 3_000, shows: { processes: [processOf(7, { type: "G", name: "Xorg" })] } }),
  busy: facts({
    grantable: false,
    usedMib: 5_000,
    utilizationPercent: 90,
    inUse: true,
    shows: { processes: [processOf(BUSY_PID)] },
  }),
  "foreign memory": facts({ grantable: false, usedMib: 5_000, inUse: true }),
  ghost: facts({ grantable: false, utilizationPercent: 100 }),
  blind: facts({ grantable: false, usedMib: null }),
  lost: facts({ grantable: false, usedMib: null, shows: { errorValues: { utilization: "GPU is lost" } } }),
  "memory errors": facts({ grantable: false, shows: { health: { ...HEALTH, eccUncorrectedVolatile: 2 } } }),
  "remapping failed": facts({ grantable: false, shows: { health: { ...HEALTH, remappedRowsFailure: true } } }),
  mig: facts({ grantable: false, shows: { migMode: "Enabled" } }),
} as const satisfies Record<string, MoodFacts>;
export type Mood = keyof typeof MOODS;

/** Failures after which no earlier reading counts; after the others they count until they are stale. */
export const BLINDING: readonly ProbeFailureKind[] = ["driver", "missing", "no-devices", "gpu-lost"];

/** An observation, and what was really behind it. */
export interface Look {
  readonly observation: Observation;
  /** Of the GPUs that the reading shows; `null`: there was no reading. */
  readonly moods: ReadonlyMap<GpuUuid, Mood> | null;
}

interface Device {
  readonly uuid: GpuUuid;
  readonly name: string;
  readonly totalMib: number;
  index: number;
  mood: Mood;
  present: boolean;
  /** As shown; made anew when something changes. */
  reading: GpuReading | null;
}

function device(index: number, uuid: GpuUuid, name: string, totalMib: number): Device {
  return { uuid, name, totalMib, index, mood: "idle", present: true, reading: null };
}

const H100 = "NVIDIA H100 80GB HBM3";
const T4 = "Tesla T4";

export class SimulatedDriver {
  readonly devices: readonly Device[] = [
    device(0, "GPU-a", H100, 81_559),
    device(1, "GPU-b", H100, 81_559),
    device(2, "GPU-c", T4, 15_360),
    device(3, "GPU-d", T4, 15_360),
  ];
  /** Why probes fail; `null`: they do not. */
  failure: ProbeFailureKind | null = null;

  get uuids(): readonly GpuUuid[] {
    return this.devices.map(({ uuid }) => uuid);
  }

  change(uuid: GpuUuid, to: Partial<Pick<Device, "mood" | "present">>): void {
    const found = this.devices.find((one) => one.uuid === uuid);
    if (found !== undefined) Object.assign(found, to, { reading: null });
  }

  /** A reboot may number the GPUs anew. */
  renumber(): void {
    for (const one of this.devices) {
      one.index = (one.index + 1) % this.devices.length;
      one.reading = null;
    }
  }

  /** One probe that begins and ends at `at`. */
  look(at: EpochMs): Look {
    if (this.failure !== null) return { observation: failed(at, { kind: this.failure }), moods: null };
    const present = this.devices.filter((one) => one.present);
    const observation = seen(present.map(readingOf), at, { simulated: true });
    return { observation, moods: new Map(present.map(({ uuid, mood }) => [uuid, mood])) };
  }
}

function readingOf(one: Device): GpuReading {
  if (one.reading === null) {
    const { usedMib, utilizationPercent, shows } = MOODS[one.mood] as MoodFacts;
    one.reading = gpuReading(one.index, {
      uuid: one.uuid,
      name: one.name,
      pciBusId: `00000000:${one.uuid.slice(-1)}0:00.0`,
      memoryTotalMib: one.totalMib,
      memoryUsedMib: usedMib,
      memoryFreeMib: usedMib === null ? null : one.totalMib - usedMib,
      utilizationPercent,
      ...shows,
    });
  }
  return one.reading;
}
