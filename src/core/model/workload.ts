import type { JsonObject } from "../base/json.ts";

export const WORKLOAD_TYPES = ["training", "inference", "embedding", "ocr", "graph_processing", "generic"] as const;

export type WorkloadType = (typeof WORKLOAD_TYPES)[number];

export const MIN_PRIORITY = 1;

export const MAX_PRIORITY = 10;

/** What a workload needs, after the analyzer: every number has its source in {@link Analysis.sources}. */
export interface Requirement {
  /** Whole GPUs, from 1. */
  readonly gpus: number;
  /** MiB that each of them must have. */
  readonly memoryMib: number;
  /** 1 to 10; higher is more urgent. */
  readonly priority: number;
  /** A GPU busier than this, in percent, is passed over. */
  readonly maxUtilizationPercent: number;
  /** True when the caller stated it: only then does a missing utilisation reading exclude a GPU. */
  readonly maxUtilizationExplicit: boolean;
}

/** What a caller asks for, as far as the analyzer is concerned. `null` means not stated. */
export interface WorkloadAsk {
  readonly workloadType: WorkloadType;
  readonly workloadData: JsonObject;
  readonly requiredGpus: number | null;
  readonly minMemoryMib: number | null;
  readonly maxUtilizationPercent: number | null;
  readonly priority: number | null;
}

/** Defaults and thresholds of one workload type; see contract section 5. Sizes and counts are plain numbers. */
export interface WorkloadDefaults {
  readonly defaultGpus: number;
  readonly defaultMemoryMib: number;
  readonly defaultPriority: number;
  readonly maxUtilizationPercent: number;
  readonly largeBatchSize: number;
  readonly xlargeBatchSize: number;
  readonly highConcurrency: number;
  readonly veryHighConcurrency: number;
}

/** The analyzer's answer: the requirement, and where each number of it came from, in words. */
export interface Analysis {
  readonly requirement: Requirement;
  readonly sources: {
    readonly requiredGpus: string;
    readonly minMemoryMib: string;
    readonly priority: string;
    readonly maxUtilization: string;
  };
  /** Further facts worth showing, such as "this figure is a rule of thumb". */
  readonly notes: readonly string[];
}
