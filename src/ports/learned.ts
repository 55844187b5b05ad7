import type { JsonObject } from "../core/base/json.ts";
import type { EpochMs } from "../core/base/time.ts";
import type { AuditEntry, Sender } from "./audit.ts";

/** What was seen of the leases of one kind. */
export interface Learned {
  /** Names the kind. */
  readonly key: string;
  readonly service: string;
  readonly workloadType: string;
  readonly model: string | null;
  readonly settings: JsonObject;
  /** The most that a GPU of each lease was seen to use, the latest last. */
  readonly peaksMib: readonly number[];
  readonly readings: number;
  readonly lastAt: EpochMs;
}

export interface LearnedKind extends Learned {
  /** MiB on each GPU; `null`: too little was seen. */
  readonly suggestedMib: number | null;
}

/** What was learned, for those who look at it. */
export interface Lessons {
  /** The latest first. */
  list(): readonly LearnedKind[];
  /**
   * @param key of one kind; `null`: all.
   * @param sender is kept in the audit.
   * @returns how many were forgotten.
   */
  forget(key: string | null, sender: Sender, at: EpochMs): Promise<number>;
}

export const NO_LESSONS: Lessons = { list: () => [], forget: () => Promise.resolve(0) };

/** Keeps what was learned over restarts. */
export interface LearnedStore {
  loadLearned(): readonly Learned[];
  /** Resolves when it is on disk. */
  saveLearned(learned: Learned): Promise<void>;
  /** @param key `null`: all of it. @param entry is kept with it. */
  forgetLearned(key: string | null, entry?: AuditEntry): Promise<void>;
}
