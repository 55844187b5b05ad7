import type { Architecture } from "./architecture.ts";

/** What others know of a workload, looked up outside the core before it decides. */
export interface Known {
  /** Of `workload_data.model_path`: what its files say, or why they were not read; `null`: no path is given. */
  readonly file: ModelFile | { readonly problem: string } | null;
  /** Peaks seen under earlier leases for the same; `null`: too few. */
  readonly observed: Observed | null;
  /** What an advisor recommends; `null`: none was asked, or it said nothing usable. */
  readonly advice: Advice | null;
}

export const NOTHING_KNOWN: Known = { file: null, observed: null, advice: null };

/** A model's files, read under a directory that the settings allow. */
export interface ModelFile {
  /** The last part of the path. */
  readonly name: string;
  /** `null`: the fields say too little, or are of a kind that is not known here. */
  readonly architecture: Architecture | null;
  /** Of all weights as they are stored; `null`: there are none beside the configuration. */
  readonly weightBytes: number | null;
}

export interface Observed {
  /** Per GPU, with head-room. */
  readonly memoryMib: number;
  /** How many leases it comes from. */
  readonly runs: number;
  /** Whether it is asked for; otherwise it is only shown. */
  readonly counts: boolean;
}

/** Checked by whoever asked: whole numbers within what the API allows; `null`: it said nothing about that. */
export interface Advice {
  readonly from: string;
  readonly gpus: number | null;
  readonly memoryMib: number | null;
  readonly priority: number | null;
}
