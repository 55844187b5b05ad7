import type { EpochMs } from "../base/time.ts";
import type { AllocationId, GpuUuid } from "../model/ids.ts";
import type { GpuReading, ProbeFailure } from "../model/reading.ts";
import type { Closeness } from "../readings/closeness.ts";
import type { Ailment } from "../readings/health.ts";

/** Control groups, and the lease that their processes belong to; `null` when there are several. */
export type Groups = ReadonlyMap<string, AllocationId | null>;

/** The latest reading of one GPU. */
export interface GpuSight {
  readonly reading: GpuReading;
  /** When the probe that gave it began. */
  readonly startedAt: EpochMs;
  readonly finishedAt: EpochMs;
  /** What the reading says against new leases, gravest first. */
  readonly ailments: readonly LastingAilment[];
  /** It was sick or missing, and its readings have been good since; `null`: there is nothing to recover from. */
  readonly recovery: Recovery | null;
  /** Readings in a row that show the GPU used without a lease, and such that show it busy for nobody. */
  readonly foreignReadings: number;
  readonly ghostReadings: number;
  /** The leases that processes belong to, by pid; one of no lease is left out. */
  readonly owners: ReadonlyMap<number, AllocationId>;
  /** The present series of readings that tell use from none; `null` when there has been none. */
  readonly watch: Watch | null;
  /** How long its memory has stood still; `null` when it cannot be read. */
  readonly stillness: Stillness | null;
  /** How long nobody has been seen to use it; `null`: somebody is, or it cannot be told. */
  readonly quiet: Quiet | null;
}

/** Memory in use at one level, within {@link IDLE_DRIFT}, while nobody uses the GPU as far as is seen. */
export interface Quiet {
  readonly mib: number;
  readonly since: EpochMs;
}

/** Memory in use at one level, within {@link SETTLED_SLACK_MIB}. */
export interface Stillness {
  readonly mib: number;
  /** The first reading at this level. */
  readonly since: EpochMs;
  /** Up to {@link READINGS_TO_SETTLE}. */
  readonly readings: number;
}

/** Readings of one GPU with no gap longer than `staleAfterMs` between them: what was not seen in it did not last. */
export interface Watch {
  /** When the first of them ended: by then it had looked. */
  readonly since: EpochMs;
  /** When the latest of them was taken. */
  readonly until: EpochMs;
}

export interface LastingAilment extends Ailment {
  /** Since when readings have said so. */
  readonly since: EpochMs;
}

/** A GPU must be seen well several times in a row before it is granted again, or it would be granted between two fits. */
export interface Recovery {
  /** Since the first good reading. */
  readonly since: EpochMs;
  readonly goodReadings: number;
  /** What it recovers from. */
  readonly from: Ailment;
}

/** A GPU of the inventory that good readings do not show. */
export interface Absence {
  readonly since: EpochMs;
  /** Good readings without it, in a row. */
  readonly readings: number;
}

/** Since the kernel's ring of records begins; at most since the boot. */
export interface XidCount {
  readonly count: number;
  readonly lastAt: EpochMs;
  /** Number of the last record. */
  readonly sequence: number;
}

export interface KernelLogSight {
  /** Why it cannot be read; `null`: it can. */
  readonly problem: string | null;
  /** How often records were overwritten before they could be read. */
  readonly missed: number;
  /** Number of the last record that mattered. */
  readonly sequence: number;
}

/** What the monitor sees. */
export interface Sight {
  readonly gpus: ReadonlyMap<GpuUuid, GpuSight>;
  /** The latest probe's failure; `null` after a good one, or before the first. */
  readonly failure: ProbeFailure | null;
  readonly lastProbeAt: EpochMs | null;
  readonly lastGoodProbeAt: EpochMs | null;
  readonly simulated: boolean;
  readonly driverVersion: string | null;
  readonly cudaVersion: string | null;
  readonly warnings: readonly string[];
  /** Processes of others may be missing from the readings. */
  readonly processesHidden: boolean;
  /** How the GPUs are connected, as far as the latest reading knows; `null`: not known. */
  readonly closeness: Closeness | null;
  readonly missing: ReadonlyMap<GpuUuid, Absence>;
  /** The errors that the kernel's log tells of, by their number. */
  readonly xids: ReadonlyMap<GpuUuid, ReadonlyMap<number, XidCount>>;
  /** `null`: nothing has been heard of it. */
  readonly kernelLog: KernelLogSight | null;
  readonly groups: Groups;
  /** As the driver counts: see indices.ts. */
  readonly indices: ReadonlyMap<GpuUuid, number>;
  /** GPUs that came to a slot in which another had been, by when they were first seen there. */
  readonly newcomers: ReadonlyMap<GpuUuid, EpochMs>;
  /** GPUs of the inventory that have not been seen since the boot; none when the daemon did not see a boot. */
  readonly unseenSinceBoot: ReadonlySet<GpuUuid>;
}

export const NOTHING_SEEN: Sight = {
  gpus: new Map(),
  failure: null,
  lastProbeAt: null,
  lastGoodProbeAt: null,
  simulated: false,
  driverVersion: null,
  cudaVersion: null,
  warnings: [],
  processesHidden: false,
  closeness: null,
  missing: new Map(),
  xids: new Map(),
  kernelLog: null,
  groups: new Map(),
  indices: new Map(),
  newcomers: new Map(),
  unseenSinceBoot: new Set(),
};
