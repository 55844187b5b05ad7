import type { EpochMs } from "../base/time.ts";
import type { MigIdentity, Topology } from "./device.ts";
import type { GpuUuid } from "./ids.ts";

/** Where a process comes from, as the kernel tells it. */
export interface ProcessOrigin {
  /** Login name, or the number when it has none; `null`: not told. */
  readonly user: string | null;
  readonly startedAt: EpochMs;
  /** Its parent, that one's parent and so on, init left out. */
  readonly ancestors: readonly { readonly pid: number; readonly startedAt: EpochMs }[];
  /** Its control group's path; `null` for the root group, or when it is not told. */
  readonly cgroup: string | null;
}

/** One process on a GPU. The name comes from any local user: hostile text wherever it is shown. */
export interface GpuProcess {
  readonly pid: number;
  /** `C`, `G`, `C+G`, `M+C`; `null` in drivers that do not say. */
  readonly type: string | null;
  /** As the driver printed it, padding included; `null` when its bytes were not text. */
  readonly name: string | null;
  readonly usedMemoryMib: number | null;
  readonly gpuInstanceId: number | null;
  readonly computeInstanceId: number | null;
  /** `null`: it is gone, or its pid means nothing here, as in a container without the host's pids. */
  readonly origin: ProcessOrigin | null;
}

/** A MIG instance as the driver shows it on its GPU. See instances.ts for what becomes of it. */
export interface MigInstance {
  /** Its number within its GPU; it changes when others are destroyed. */
  readonly index: number;
  /** `null`, both or none: not known now. Such an instance is not granted. */
  readonly uuid: GpuUuid | null;
  readonly profile: string | null;
  readonly gpuInstanceId: number;
  readonly computeInstanceId: number;
  /** Of the whole GPU instance, here and below: its compute instances share it. */
  readonly memoryTotalMib: number | null;
  readonly memoryUsedMib: number | null;
  readonly multiprocessorCount: number | null;
}

/** What the driver says of a GPU's health; `null` is no reading, never "fine". */
export interface GpuHealth {
  /** `Enabled` or `Disabled`. */
  readonly eccMode: string | null;
  /** Memory errors since the driver was loaded (volatile), and over the GPU's life (aggregate). */
  readonly eccCorrectedVolatile: number | null;
  readonly eccCorrectedAggregate: number | null;
  readonly eccUncorrectedVolatile: number | null;
  readonly eccUncorrectedAggregate: number | null;
  /** More uncorrectable SRAM errors than NVIDIA lets pass. */
  readonly sramThresholdExceeded: boolean | null;
  /** A memory channel or a processing cluster is repaired at the next reset. */
  readonly repairPending: boolean | null;
  /** Pages of memory that were taken out of use, before Ampere; rows that were replaced, since. */
  readonly retiredPages: number | null;
  readonly retiredPagesPending: boolean | null;
  readonly remappedRowsCorrectable: number | null;
  readonly remappedRowsUncorrectable: number | null;
  readonly remappedRowsPending: boolean | null;
  readonly remappedRowsFailure: boolean | null;
  /** Memory is bad, and no means to repair it is left. */
  readonly unrepairableMemory: boolean | null;
  /** What must be done about it, in the driver's words: see readings/recovery.ts. */
  readonly recoveryAction: string | null;
  /** Of the NVSwitches, where there are any: `Not Started`, `In Progress` or `Completed`. */
  readonly fabricState: string | null;
  /** `Success`, or what went wrong. */
  readonly fabricStatus: string | null;
  /** `Healthy`, `Unhealthy` or `Limited Capacity`. */
  readonly fabricHealth: string | null;
  /** True when the driver slows the clocks for heat or by the power brake. */
  readonly slowdown: boolean | null;
  /** Of a virtual GPU: `Licensed (...)`, or words that begin with `Unlicensed`. */
  readonly license: string | null;
}

/** One GPU in one reading. A figure that the driver does not give is `null`, never 0. */
export interface GpuReading {
  readonly uuid: GpuUuid;
  /** As the driver counts now: what `nvidia-smi -i` takes. Not the minor number. No two GPUs of a reading share it. */
  readonly index: number;
  readonly minorNumber: number | null;
  readonly name: string;
  readonly serial: string | null;
  readonly pciBusId: string | null;
  readonly memoryTotalMib: number | null;
  /** Where `memoryTotalMib` is from, when the driver does not tell it (unified memory); left out: the driver. */
  readonly memorySource?: "settings" | "host";
  /** MiB that are in use although nobody uses it, by the settings; left out: none. */
  readonly idleMemoryMib?: number;
  /** What the driver keeps for itself; neither used nor free. `null` in drivers that do not tell. */
  readonly memoryReservedMib: number | null;
  readonly memoryUsedMib: number | null;
  readonly memoryFreeMib: number | null;
  readonly utilizationPercent: number | null;
  readonly temperatureC: number | null;
  readonly powerDrawW: number | null;
  readonly powerLimitW: number | null;
  readonly computeMode: string | null;
  readonly persistenceMode: string | null;
  readonly migMode: string | null;
  readonly migInstances: readonly MigInstance[];
  /** Of an instance that was made a reading of its own (instances.ts); left out: a whole GPU. */
  readonly mig?: MigIdentity;
  /** MiB of its memory that others use who share it, and which is not in `memoryUsedMib`; left out: none. */
  readonly othersUseMib?: number;
  readonly processes: readonly GpuProcess[];
  readonly health: GpuHealth;
  /** Field path to the words that stood where a figure should: `GPU is lost`, `Unknown Error`, `ERR!`. */
  readonly errorValues: { readonly [path: string]: string };
}

export interface HostReading {
  readonly simulated: boolean;
  readonly driverVersion: string | null;
  readonly cudaVersion: string | null;
  readonly gpus: readonly GpuReading[];
  /** The lists of processes may lack some: the daemon does not share the host's pids. They lack none when left out. */
  readonly processesHidden?: boolean;
  /** MiB of the host's own memory, which an integrated GPU shares; left out: not known. */
  readonly hostMemoryMib?: number;
  /** GPUs of which it says nothing, neither that they are well nor that they are gone; none when left out. */
  readonly unread?: readonly GpuUuid[];
  /** Instances that may be there or not (instances.ts): what was read of them before does not hold any more. */
  readonly doubted?: readonly GpuUuid[];
  /** `null`: not known. The same object from one reading to the next while nothing new is known. */
  readonly topology: Topology | null;
  /** Said by the source beside a usable reading, such as a corrupted infoROM. */
  readonly warnings: readonly string[];
}

/** Why a probe gave no reading. */
export type ProbeFailureKind = "missing" | "timeout" | "driver" | "gpu-lost" | "garbled" | "exit" | "no-devices";

export interface ProbeFailure {
  readonly kind: ProbeFailureKind;
  readonly message: string;
  readonly exitCode: number | null;
}

/** What one probe brought back. `startedAt` decides what a reading can prove: it must begin after a lease's end. */
export type Observation =
  | {
      readonly ok: true;
      readonly startedAt: EpochMs;
      readonly finishedAt: EpochMs;
      readonly reading: HostReading;
    }
  | {
      readonly ok: false;
      readonly startedAt: EpochMs;
      readonly finishedAt: EpochMs;
      readonly failure: ProbeFailure;
    };
