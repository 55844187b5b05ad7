/** What the time line of the GPUs is kept in. */
import type { EpochMs } from "../core/base/time.ts";
import type { GpuUuid } from "../core/model/ids.ts";

/** How long it is kept, in ms, and how many rows of it at most. */
export const HISTORY_KEPT_MS = 8 * 24 * 3_600_000;
export const HISTORY_KEPT_ROWS = 100_000;

/** What a GPU is from then on, until the next of its changes. */
export interface GpuChange {
  readonly uuid: GpuUuid;
  readonly at: EpochMs;
  readonly state: string;
  /** The services that hold it or parts of it. */
  readonly services: readonly string[];
  /** Whether all that hold it are flagged as idle. */
  readonly isIdle: boolean;
}

export interface HistoryStore {
  /**
   * Keeps the changes, drops what is too old or too much, and notes that the daemon ran until then.
   *
   * @throws StorageUnavailableError when nothing was written.
   */
  keepHistory(changes: readonly GpuChange[], now: EpochMs): Promise<void>;
  /** Until when the daemon is known to have run; `null`: it never did. */
  historyUntil(): EpochMs | null;
  /** The changes after `from` and up to `to`: the newest `limit` of them, oldest first. */
  gpuChanges(from: EpochMs, to: EpochMs, limit: number): readonly GpuChange[];
  /** Of each of the GPUs, the last change up to then that is kept. */
  lastChanges(uuids: readonly GpuUuid[], at: EpochMs): readonly GpuChange[];
}
