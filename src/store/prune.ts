import type { EpochMs } from "../core/base/time.ts";
import { KEY_LIFE_MS } from "../ports/store.ts";
import { readState } from "./read-state.ts";
import type { Pruning, Reads } from "./statements.ts";

/** Rows of each table that one call drops at most, so that no turn waits for long. */
export const PRUNE_ROWS = 1_000;
/** A new snapshot is taken when this many events have come since the last. */
export const SNAPSHOT_AFTER_EVENTS = 10_000;
/** Older snapshots are kept, for those who ask about a decision, up to this many bytes in all. */
export const SNAPSHOTS_KEPT_BYTES = 64 * 1024 * 1024;
/** Events kept behind the snapshot for those who replay them; older ones go, however young they are. */
export const JOURNAL_KEPT_EVENTS = 100_000;

export interface PruneLimits {
  readonly rows: number;
  readonly snapshotAfterEvents: number;
  readonly journalKeptEvents: number;
}

export const PRUNE_LIMITS: PruneLimits = {
  rows: PRUNE_ROWS,
  snapshotAfterEvents: SNAPSHOT_AFTER_EVENTS,
  journalKeptEvents: JOURNAL_KEPT_EVENTS,
};

/** Rows that one call dropped. */
export interface Pruned {
  readonly allocations: number;
  readonly deliveries: number;
  /** Turns of the journal. */
  readonly turns: number;
  /** Idempotency keys whose day is over. */
  readonly keys: number;
  /** Entries of the audit. */
  readonly audit: number;
  /** Another call would drop more. */
  readonly more: boolean;
}

/** Runs inside a transaction of the caller's. What ended, was settled or happened before `keepAfter` may go. */
export function pruneDatabase(
  reads: Reads,
  pruning: Pruning,
  now: EpochMs,
  keepAfter: EpochMs,
  keepAuditAfter: EpochMs,
  limits: PruneLimits,
): Pruned {
  // Deliveries first: a record stays as long as a delivery refers to it.
  const deliveries = Number(pruning.dropDeliveries.run(keepAfter, limits.rows).changes);
  const allocations = Number(pruning.dropEnded.run(keepAfter, limits.rows).changes);
  if (allocations > 0) pruning.noteDropped.run(keepAfter);
  const journal = pruneJournal(reads, pruning, now, keepAfter, limits);
  const keys = Number(pruning.dropKeys.run(now - KEY_LIFE_MS, limits.rows).changes);
  const audit = Number(pruning.dropAudit.run(keepAuditAfter, limits.rows).changes);
  const more = journal.more || Math.max(allocations, deliveries, keys, audit) === limits.rows;
  return { allocations, deliveries, turns: journal.turns, keys, audit, more };
}

/** The journal folds to the state from its latest snapshot on, so only what lies before that may go. */
function pruneJournal(reads: Reads, pruning: Pruning, now: EpochMs, keepAfter: EpochMs, limits: PruneLimits) {
  const lastSeq = seqOf(reads.lastSeq.get()) ?? 0;
  let snapshotSeq = seqOf(reads.latestSnapshotSeq.get()) ?? 0;
  if (lastSeq - snapshotSeq >= limits.snapshotAfterEvents) {
    pruning.writeSnapshot.run(lastSeq, now, JSON.stringify(readState(reads)));
    snapshotSeq = lastSeq;
  }
  const oldest = seqOf(reads.oldestSeq.get());
  if (oldest === null) return { turns: 0, more: false };
  // A turn bears the number of its last event, so a span of numbers holds at most as many turns.
  const last = Math.min(oldest + limits.rows - 1, snapshotSeq);
  const turns = Number(pruning.dropTurns.run(oldest, last, keepAfter, lastSeq - limits.journalKeptEvents).changes);
  pruning.dropOlderSnapshots.run(SNAPSHOTS_KEPT_BYTES);
  return { turns, more: turns > 0 && last < snapshotSeq };
}

function seqOf(row: unknown): number | null {
  return (row as { seq: number | null }).seq;
}
