/** The time line's rows, and what they say. */
import type { EpochMs } from "../core/base/time.ts";
import { type GpuChange, HISTORY_KEPT_MS, HISTORY_KEPT_ROWS } from "../ports/history.ts";
import type { Reads, Write } from "./statements.ts";

interface ChangeRow {
  readonly gpu_uuid: string;
  readonly at: number;
  readonly state: string;
  readonly services: string;
  readonly idle: number;
}

/** Keeps the changes, and notes that the daemon ran until then. */
export function historyWrites(changes: readonly GpuChange[], now: EpochMs): Write[] {
  const rows = changes.map(
    ({ uuid, at, state, services, isIdle }): Write => [
      "keepChange",
      uuid,
      at,
      state,
      JSON.stringify(services),
      isIdle ? 1 : 0,
    ],
  );
  return [...rows, ["noteHistory", now]];
}

/** Drops what is too old or too much. */
export function historyCuts(now: EpochMs): Write[] {
  return [["dropChanges", now - HISTORY_KEPT_MS, HISTORY_KEPT_ROWS]];
}

export function readHistoryUntil(reads: Reads): EpochMs | null {
  return (reads.historyUntil.get() as { at: number } | undefined)?.at ?? null;
}

/** Oldest first. */
export function readChanges(reads: Reads, from: EpochMs, to: EpochMs, limit: number): GpuChange[] {
  return reads.changes.all(from, to, limit).map(changeOf).reverse();
}

export function readLastChanges(reads: Reads, uuids: readonly string[], at: EpochMs): GpuChange[] {
  return uuids.flatMap((uuid) => {
    const row = reads.lastChange.get(uuid, at);
    return row === undefined ? [] : [changeOf(row)];
  });
}

function changeOf(row: unknown): GpuChange {
  const { gpu_uuid, at, state, services, idle } = row as ChangeRow;
  return { uuid: gpu_uuid, at, state, services: JSON.parse(services) as string[], isIdle: idle === 1 };
}
