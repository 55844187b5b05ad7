import type { Observation } from "../core/model/reading.ts";

/** Where GPU readings come from. */
export interface GpuSource {
  readonly name: "nvidia-smi" | "simulated";
  /** Runs that could not be ended, since the start; one that is so still counts in `stuck`. */
  readonly abandonedTotal: number;
  /** Whether such a run is still alive, so that nothing can be read. */
  readonly stuck: boolean;
  /** Never rejects: a failure is an observation too. Never two at once. */
  probe(): Promise<Observation>;
  close(): Promise<void>;
}
