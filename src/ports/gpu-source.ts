import type { Observation } from "../core/model/reading.ts";

/** Where GPU readings come from. */
export interface GpuSource {
  readonly name: "nvidia-smi" | "simulated";
  /** Runs that could not be killed, since the start. */
  readonly abandonedTotal: number;
  /** Whether a run that could not be killed is still alive, so that nothing can be read. */
  readonly stuck: boolean;
  /** Never rejects: a failure is an observation too. Never two at once. */
  probe(): Promise<Observation>;
  close(): Promise<void>;
}
