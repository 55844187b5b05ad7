/**
 * The clock that the stored instants stand on, and what is done when it was set between two runs.
 *
 * 1. Instants that are still to come, or that a wait or an age is counted from, move with the clock: those of live
 *    records, GPUs, webhooks to be sent and idempotency keys. What has ended keeps the times that were shown.
 * 2. The journal tells of the time before the move, so it folds to the state from a snapshot on that is taken with it.
 */
import type { DatabaseSync } from "node:sqlite";
import type { EpochMs } from "../core/base/time.ts";
import type { TimeRecord } from "../platform/clock.ts";
import { readState } from "./read-state.ts";
import type { Reads } from "./statements.ts";

/** What a start of the daemon writes down; see `clockAtStart`. */
export interface StartTime {
  readonly at: EpochMs;
  readonly bootId: string;
  readonly bootedAt: EpochMs | null;
  readonly movedMs: number;
}

/** `?1` is the time to move by. `json_replace` leaves alone what is not there. */
const MOVES: readonly string[] = [
  "UPDATE progress SET last_turn_at = last_turn_at + ?1",
  `UPDATE allocations SET submitted_at = submitted_at + ?1, claim_by = claim_by + ?1, idle_since = idle_since + ?1,
     preempting_since = preempting_since + ?1, head_since = head_since + ?1,
     notice = json_replace(notice, '$.at', (notice ->> '$.at') + ?1, '$.until', (notice ->> '$.until') + ?1),
     request = json_replace(request, '$.submittedAt', (request ->> '$.submittedAt') + ?1),
     lease = json_replace(lease, '$.grantedAt', (lease ->> '$.grantedAt') + ?1,
       '$.expiresAt', (lease ->> '$.expiresAt') + ?1, '$.nudge.at', (lease ->> '$.nudge.at') + ?1)
   WHERE ended_at IS NULL`,
  `UPDATE gpus SET body = json_replace(body, '$.hold.since', (body ->> '$.hold.since') + ?1,
     '$.cordon.at', (body ->> '$.cordon.at') + ?1,
     '$.cordon.drainBy', (body ->> '$.cordon.drainBy') + ?1,
     '$.fault.at', (body ->> '$.fault.at') + ?1,
     '$.lostSince', (body ->> '$.lostSince') + ?1,
     '$.foreignSince', (body ->> '$.foreignSince') + ?1,
     '$.hold.use.since', (body ->> '$.hold.use.since') + ?1,
     '$.hold.use.spans', json((
       SELECT json_group_array(json_array((value ->> 0) + ?1, (value ->> 1) + ?1, value ->> 2))
       FROM json_each(body, '$.hold.use.spans'))))`,
  `UPDATE host SET cordon = json_replace(cordon, '$.at', (cordon ->> '$.at') + ?1,
     '$.drainBy', (cordon ->> '$.drainBy') + ?1)`,
  `UPDATE gpus SET body = json_replace(body, '$.hold.overdueSince', (body ->> '$.hold.overdueSince') + ?1,
     '$.hold.shares', json((
       SELECT json_group_array(json_replace(value, '$.since', (value ->> '$.since') + ?1,
         '$.startedAt', (value ->> '$.startedAt') + ?1,
         '$.settledAt', (value ->> '$.settledAt') + ?1,
         '$.overSince', (value ->> '$.overSince') + ?1,
         '$.use.since', (value ->> '$.use.since') + ?1,
         '$.use.spans', json((
           SELECT json_group_array(json_array((span.value ->> 0) + ?1, (span.value ->> 1) + ?1, span.value ->> 2))
           FROM json_each(share.value, '$.use.spans') span))))
       FROM json_each(body, '$.hold.shares') share)),
     '$.hold.remains', json((
       SELECT json_group_array(json_replace(value, '$.since', (value ->> '$.since') + ?1,
         '$.submittedAt', (value ->> '$.submittedAt') + ?1))
       FROM json_each(body, '$.hold.remains'))))
   WHERE body ->> '$.hold.kind' = 'shared'`,
  `UPDATE outbox SET created_at = created_at + ?1, next_attempt_at = next_attempt_at + ?1,
     last_attempt_at = last_attempt_at + ?1
   WHERE state = 'pending'`,
  "UPDATE idempotency_keys SET at = at + ?1",
];

/** Runs inside a transaction of the caller's, before the first turn of a run. */
export function writeStart(database: DatabaseSync, reads: Reads, { at, bootId, bootedAt, movedMs }: StartTime): void {
  if (movedMs !== 0) {
    // Bound as an integer: a number would make the JSON's instants fractions.
    for (const sql of MOVES) database.prepare(sql).run(BigInt(movedMs));
    const { seq } = reads.lastSeq.get() as { seq: number };
    const state = JSON.stringify(readState(reads));
    database.prepare("INSERT OR REPLACE INTO snapshots (seq, at, state) VALUES (?, ?, ?)").run(seq, at, state);
  }
  const sql =
    "INSERT INTO clock (one, boot_id, booted_at) VALUES (1, ?1, ?2) ON CONFLICT (one) DO UPDATE SET boot_id = ?1, booted_at = ?2";
  database.prepare(sql).run(bootId, bootedAt);
}

/** `null`: nothing has happened yet whose time would matter. */
export function readLastTime(reads: Reads): TimeRecord | null {
  const { last_turn_at: lastAt } = (reads.progress.get() ?? { last_turn_at: null }) as { last_turn_at: number | null };
  if (lastAt === null) return null;
  const clock = reads.clock.get() as { boot_id: string; booted_at: number | null } | undefined;
  return { lastAt, bootId: clock?.boot_id ?? "", bootedAt: clock?.booted_at ?? null };
}
