import type { WorkConfig } from "../config/work.ts";

/** What a worker is told when it starts. */
export interface WorkerSettings {
  readonly work: WorkConfig;
  /** Absolute. */
  readonly dir: string;
  readonly resultsDir: string;
  readonly node: string;
  readonly tags: readonly string[];
  readonly topics: readonly string[];
  /** Our own programs and Python files. */
  readonly programs: {
    readonly holder: string;
    readonly standIn: string;
    readonly vllmTask: string;
    readonly python: string;
  };
}
