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

/** A model that the settings add to the catalogue. */
export interface OwnModel {
  readonly id: string;
  /** The fields of its `config.json`. */
  readonly config: JsonObject;
}

/** By the canonical form of their names. */
export type OwnModels = Readonly<Record<string, OwnModel>>;

/** Who gave a number: the caller, the figures of its model, a rule or default, earlier leases, an advisor. */
export type SourceKind = "explicit" | "model" | "rule" | "observed" | "advisor";

/** What a model takes, over all its GPUs together; the parts add up to `totalMib`. */
export interface MemoryEstimate {
  readonly weightsMib: number;
  /** 0 but in training, like the optimizer's. */
  readonly gradientsMib: number;
  readonly optimizerMib: number;
  readonly kvCacheMib: number;
  readonly activationsMib: number;
  readonly overheadMib: number;
  readonly totalMib: number;
  /** What each GPU must have. */
  readonly perGpuMib: number;
}

/** The analyzer's answer: the requirement, and where each number of it came from, in words. */
export interface Analysis {
  readonly requirement: Requirement;
  /** `null`: no model is named whose size anybody knows. */
  readonly memory: MemoryEstimate | null;
  /** Over how many GPUs the model's tensors are split when it is served; `null`: it is not, or no model is known. */
  readonly tensorParallel: number | null;
  readonly source: {
    readonly requiredGpus: SourceKind;
    readonly minMemoryMib: SourceKind;
    readonly priority: SourceKind;
    readonly maxUtilization: SourceKind;
  };
  /** How far the memory figure can be trusted: `high` is what published measurements bear out. */
  readonly confidence: "high" | "medium" | "low";
  readonly sources: {
    readonly requiredGpus: string;
    readonly minMemoryMib: string;
    readonly priority: string;
    readonly maxUtilization: string;
  };
  /** Further facts worth showing, such as "this figure is a rule of thumb". */
  readonly notes: readonly string[];
}
