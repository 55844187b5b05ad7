/** The GPUs of a simulated host, and what a driver shows of them. */
import type { EpochMs } from "../../src/core/base/time.ts";
import type { MigIdentity } from "../../src/core/model/device.ts";
import type { GpuUuid } from "../../src/core/model/ids.ts";
import type { GpuReading, MigInstance, Observation, ProbeFailureKind } from "../../src/core/model/reading.ts";
import { instance, twins } from "../fixtures/mig.ts";
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
/** Of a MIG instance with nobody there, in MiB; and what a process there takes. */
const IDLE_INSTANCE_MIB = 9;
const BUSY_INSTANCE_MIB = 5_000;

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
  // Of a GPU that is cut, while nobody uses any of its instances, and while somebody does.
  cut: facts({ grantable: false, utilizationPercent: null, shows: { migMode: "Enabled" } }),
  "cut, in use": facts({ grantable: false, usedMib: 5_000, utilizationPercent: null, inUse: true }),
  // Of an instance: the driver tells how busy it is of the whole GPU alone.
  "idle instance": facts({ usedMib: IDLE_INSTANCE_MIB, utilizationPercent: null }),
  "busy instance": facts({
    grantable: false,
    usedMib: IDLE_INSTANCE_MIB + BUSY_INSTANCE_MIB,
    utilizationPercent: null,
    inUse: true,
  }),
} as const satisfies Record<string, MoodFacts>;
export type Mood = keyof typeof MOODS;
/** What can befall a whole GPU; the others follow from how one is cut. */
export const WHOLE_MOODS = (Object.keys(MOODS) as Mood[]).filter((mood) => !/cut|instance/.test(mood));
/** Of a GPU that is cut, these concern every instance; of the other moods it shows nothing then. */
const SICK: readonly Mood[] = ["lost", "memory errors", "remapping failed"];

/** The GPU that can be cut, and how; `null`: it is whole. An instance has the same UUID each time, as after a reboot. */
export const CUT_GPU = "GPU-e";
/** Three compute instances share one memory. */
const SHARERS = [...twins(2), instance(2, 2, { computeInstanceId: 2, profile: "1c.3g.71gb", memoryTotalMib: 71_424 })];
export const CUTS: readonly (readonly MigInstance[] | null)[] = [
  [...SHARERS, instance(3, 9)],
  SHARERS,
  [instance(0, 9), instance(1, 10)],
  [],
  null,
];
/** Every instance that there can be, by UUID. */
export const INSTANCES: ReadonlyMap<GpuUuid, MigInstance> = new Map(
  CUTS.flatMap((cut) => cut ?? []).map((one) => [one.uuid as GpuUuid, one]),
);

/** What an instance is a part of; `null`: a whole GPU. */
export function identityOf(uuid: GpuUuid): MigIdentity | null {
  const found = INSTANCES.get(uuid);
  if (found === undefined) return null;
  const { profile, gpuInstanceId, computeInstanceId } = found;
  return { parentUuid: CUT_GPU, profile: profile as string, gpuInstanceId, computeInstanceId };
}

/** MiB that whoever uses an instance has of its memory. */
export function takenOfInstanceMib(mood: Mood): number {
  return mood === "busy instance" ? BUSY_INSTANCE_MIB : 0;
}

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
    device(4, CUT_GPU, H100, 81_559),
  ];
  #cut = CUTS[0] as (typeof CUTS)[number];
  readonly #busy = new Set<GpuUuid>();
  /** Why probes fail; `null`: they do not. */
  failure: ProbeFailureKind | null = null;

  /** Every device that there is or can be: the GPUs, then their instances. */
  get uuids(): readonly GpuUuid[] {
    return [...this.devices.map(({ uuid }) => uuid), ...INSTANCES.keys()];
  }

  /** Cuts the GPU that can be cut anew, as nvidia-smi does it: whoever was on an instance is gone. */
  cut(n: number): void {
    this.#cut = CUTS[n] as (typeof CUTS)[number];
    this.#busy.clear();
    this.change(CUT_GPU, {});
  }

  /** Whether somebody uses an instance from now on. One that does not exist is used by nobody. */
  use(uuid: GpuUuid, inUse: boolean): void {
    if (inUse && this.#instances.some((one) => one.uuid === uuid)) this.#busy.add(uuid);
    else this.#busy.delete(uuid);
    this.change(CUT_GPU, {});
  }

  get #instances(): readonly MigInstance[] {
    return this.#cut ?? [];
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
    const readings = present.map((one) => (one.uuid === CUT_GPU ? this.#readingOfCut(one) : readingOf(one)));
    const observation = seen(readings, at, { simulated: true });
    return { observation, moods: new Map(present.flatMap((one) => this.#moodsOf(one))) };
  }

  /** Of a GPU and its instances, as a reading shows them. */
  #moodsOf({ uuid, mood }: Device): readonly (readonly [GpuUuid, Mood])[] {
    if (uuid !== CUT_GPU || this.#cut === null) return [[uuid, mood]];
    if (SICK.includes(mood)) return [uuid, ...this.#cut.map((one) => one.uuid as GpuUuid)].map((one) => [one, mood]);
    const instances = this.#cut.map(({ uuid: name }): readonly [GpuUuid, Mood] => {
      return [name as GpuUuid, this.#busy.has(name as GpuUuid) ? "busy instance" : "idle instance"];
    });
    return [[uuid, this.#busy.size > 0 ? "cut, in use" : "cut"], ...instances];
  }

  #readingOfCut(one: Device): GpuReading {
    if (one.reading !== null || this.#cut === null) return readingOf(one);
    const isSick = SICK.includes(one.mood);
    // A GPU that is lost tells nothing of who is there.
    const busy = isSick ? [] : this.#cut.filter(({ uuid }) => this.#busy.has(uuid as GpuUuid));
    const usedMib = (gpuInstanceId: number) =>
      IDLE_INSTANCE_MIB + BUSY_INSTANCE_MIB * busy.filter((other) => other.gpuInstanceId === gpuInstanceId).length;
    const whole = readingOf({ ...one, mood: isSick ? one.mood : "cut" });
    one.reading = {
      ...whole,
      migMode: "Enabled",
      utilizationPercent: null,
      memoryUsedMib: whole.memoryUsedMib === null ? null : whole.memoryUsedMib + BUSY_INSTANCE_MIB * busy.length,
      migInstances: this.#cut.map((cut) => ({
        ...cut,
        memoryUsedMib: one.mood === "lost" ? null : usedMib(cut.gpuInstanceId),
      })),
      processes: busy.map(({ gpuInstanceId, computeInstanceId }) =>
        processOf(20 + gpuInstanceId * 2 + computeInstanceId, {
          gpuInstanceId,
          computeInstanceId,
          usedMemoryMib: BUSY_INSTANCE_MIB,
        }),
      ),
    };
    return one.reading;
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
