import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { AllocationQuery } from "../ports/store.ts";
import type { DeliveryQuery } from "../ports/webhooks.ts";
import { ALLOCATION_COLUMNS } from "./records.ts";

const RECORD_COLUMNS =
  "delivery_id, allocation_id, status, url, created_at, state, attempts, next_attempt_at, last_attempt_at, settled_at, " +
  "http_status, error";
const DELIVERY_COLUMNS = "delivery_id, allocation_id, status, url, body, created_at, attempts, next_attempt_at";

/** What is only read: prepared on the connection of the main thread, and beside the writes. */
export function prepareReads(database: DatabaseSync) {
  const sql = (text: string): StatementSync => database.prepare(text);
  return {
    progress: sql("SELECT turns, last_turn_at, next_fencing_token, boot_id FROM progress"),
    host: sql("SELECT cordon, bookings FROM host"),
    clock: sql("SELECT boot_id, booted_at FROM clock"),
    gpus: sql("SELECT body FROM gpus ORDER BY uuid"),
    liveAllocations: sql(
      `SELECT ${ALLOCATION_COLUMNS} FROM allocations WHERE ended_at IS NULL ORDER BY submitted_at, id`,
    ),
    allocation: sql(`SELECT ${ALLOCATION_COLUMNS} FROM allocations WHERE id = ?`),
    endedAllocation: sql(`SELECT ${ALLOCATION_COLUMNS} FROM allocations WHERE id = ? AND ended_at IS NOT NULL`),
    submittedAt: sql("SELECT submitted_at FROM allocations WHERE id = ?"),
    endedLeases: sql(
      `SELECT rowid, id, service, principal, submitted_at, ended_at, used, lease FROM allocations
       WHERE ended_at IS NOT NULL AND lease IS NOT NULL AND (ended_at, rowid) > (?, ?)
       ORDER BY ended_at, rowid LIMIT ?`,
    ),
    completeFrom: sql("SELECT complete_from FROM progress"),

    historyUntil: sql("SELECT at FROM gpu_history_until"),
    changes: sql(
      `SELECT gpu_uuid, at, state, services, idle FROM gpu_history WHERE at > ? AND at <= ?
       ORDER BY at DESC, gpu_uuid LIMIT ?`,
    ),
    lastChange: sql(
      `SELECT gpu_uuid, at, state, services, idle FROM gpu_history WHERE gpu_uuid = ? AND at <= ?
       ORDER BY at DESC LIMIT 1`,
    ),

    key: sql("SELECT fingerprint, at, ids FROM idempotency_keys WHERE principal = ? AND key = ?"),

    turnsAfter: sql("SELECT seq, at, events FROM journal WHERE seq > ? ORDER BY seq LIMIT ?"),
    lastSeq: sql(
      "SELECT max(ifnull((SELECT max(seq) FROM journal), 0), ifnull((SELECT max(seq) FROM snapshots), 0)) AS seq",
    ),
    oldestSeq: sql("SELECT min(seq) AS seq FROM journal"),
    latestSnapshot: sql("SELECT seq, at, state FROM snapshots ORDER BY seq DESC LIMIT 1"),
    latestSnapshotSeq: sql("SELECT max(seq) AS seq FROM snapshots"),

    // By principal in turn, and each one's by time.
    dueDeliveries: sql(
      `SELECT ${DELIVERY_COLUMNS}, owner FROM (
         SELECT seq AS row, owner, row_number() OVER (PARTITION BY owner ORDER BY at, seq) AS place FROM (
           SELECT o.seq, o.next_attempt_at AS at, a.principal AS owner
           FROM outbox o LEFT JOIN allocations a ON a.id = o.allocation_id WHERE o.next_attempt_at <= ?))
       JOIN outbox ON seq = row ORDER BY place, next_attempt_at, seq LIMIT ?`,
    ),
    pendingOf: sql(
      `SELECT count(*) AS n FROM (
         SELECT 1 FROM outbox o JOIN allocations a ON a.id = o.allocation_id
         WHERE o.next_attempt_at IS NOT NULL AND a.principal = ? LIMIT ?)`,
    ),
    delivery: sql(`SELECT ${RECORD_COLUMNS} FROM outbox WHERE delivery_id = ?`),
    deliverySeq: sql("SELECT seq FROM outbox WHERE delivery_id = ?"),
    learned: sql("SELECT body FROM learned ORDER BY last_at, key"),
    apiKeys: sql("SELECT sha256, principal, role, created_at, expires_at FROM api_keys ORDER BY created_at, sha256"),
    keyUses: sql("SELECT key_id, at FROM key_uses"),
    auditBounds: sql("SELECT (SELECT min(seq) FROM audit) AS oldest, (SELECT max(seq) FROM audit) AS newest"),
    audit: sql(
      `SELECT seq, at, principal, key_id, address, action, object, result, reason, request_id, count FROM audit
       WHERE seq >= ?1 AND seq < ?2 AND (?3 IS NULL OR principal = ?3) AND (?4 IS NULL OR action = ?4)
         AND (?5 IS NULL OR object = ?5) AND (?6 IS NULL OR result = ?6) AND (?7 = 0 OR result != ?8)
         AND (?9 IS NULL OR at >= ?9) AND (?10 IS NULL OR at < ?10)
       ORDER BY seq DESC LIMIT ?11`,
    ),

    nextDueAt: sql("SELECT min(next_attempt_at) AS at FROM outbox WHERE next_attempt_at IS NOT NULL"),
  };
}

export type Reads = ReturnType<typeof prepareReads>;

/** For making a turn again. */
export function prepareReplay(database: DatabaseSync) {
  const sql = (text: string): StatementSync => database.prepare(text);
  return {
    turnOf: sql("SELECT seq, at, events, inputs FROM journal WHERE seq >= ? ORDER BY seq LIMIT 1"),
    turnsBackFrom: sql("SELECT seq, at, events, inputs FROM journal WHERE seq <= ? ORDER BY seq DESC"),
    turnsBetween: sql("SELECT seq, at, events, inputs FROM journal WHERE seq > ? AND seq < ? ORDER BY seq"),
    turnsFrom: sql("SELECT seq, at, events, inputs FROM journal WHERE seq >= ? ORDER BY seq"),
    timeOf: sql("SELECT seq, at FROM journal WHERE seq >= ? ORDER BY seq LIMIT 1"),
    snapshotBefore: sql("SELECT seq, state FROM snapshots WHERE seq < ? ORDER BY seq DESC LIMIT 1"),
    lastSeq: sql("SELECT ifnull(max(seq), 0) AS seq FROM journal"),
  };
}

export type ReplayReads = ReturnType<typeof prepareReplay>;

/** What a turn is made of. */
export function prepareWrites(database: DatabaseSync) {
  const sql = (text: string): StatementSync => database.prepare(text);
  return {
    progress: sql(
      `INSERT INTO progress (one, turns, last_turn_at, next_fencing_token, boot_id) VALUES (1, ?, ?, ?, ?)
       ON CONFLICT (one) DO UPDATE SET turns = excluded.turns, last_turn_at = excluded.last_turn_at,
         next_fencing_token = excluded.next_fencing_token, boot_id = ifnull(excluded.boot_id, boot_id)`,
    ),
    host: sql(`INSERT INTO host (one, cordon, bookings) VALUES (1, ?1, ?2)
      ON CONFLICT (one) DO UPDATE SET cordon = ?1, bookings = ?2`),
    appendEvents: sql("INSERT INTO journal (seq, at, events, inputs) VALUES (?, ?, ?, ?)"),
    writeGpu: sql("INSERT INTO gpus (uuid, body) VALUES (?, ?) ON CONFLICT (uuid) DO UPDATE SET body = excluded.body"),
    dropGpu: sql("DELETE FROM gpus WHERE uuid = ?"),
    insertAllocation: sql(
      `INSERT INTO allocations (id, service, principal, submitted_at, ${ALLOCATION_COLUMNS})
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    // A row keeps its request for life, and its lease as long as the lease is the same.
    updateStanding: sql(
      `UPDATE allocations SET status = ?, claim_by = ?, idle_since = ?, preempting_since = ?, head_since = ?, notice = ?,
         ended_at = ?, end_reason = ?, end_detail = ?, used = ?
       WHERE id = ?`,
    ),
    updateWithLease: sql(
      `UPDATE allocations SET status = ?, claim_by = ?, idle_since = ?, preempting_since = ?, head_since = ?, notice = ?,
         ended_at = ?, end_reason = ?, end_detail = ?, used = ?, lease = ?
       WHERE id = ?`,
    ),
    updateRequest: sql("UPDATE allocations SET request = ? WHERE id = ?"),
    holdGpu: sql("INSERT INTO live_leases (gpu_uuid, allocation_id, shared_mib) VALUES (?, ?, ?)"),
    letGoGpu: sql("DELETE FROM live_leases WHERE gpu_uuid = ? AND allocation_id = ?"),
    insertDelivery: sql(
      `INSERT INTO outbox (delivery_id, allocation_id, status, url, body, created_at, state, next_attempt_at)
       VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'pending', ?6)`,
    ),
    settleDelivery: sql(
      `UPDATE outbox SET state = ?, next_attempt_at = ?, settled_at = ?, last_attempt_at = ?, http_status = ?, error = ?,
         attempts = attempts + 1
       WHERE delivery_id = ? AND state = 'pending'`,
    ),
    withdrawGrant: sql(
      `UPDATE outbox SET state = 'withdrawn', next_attempt_at = NULL, settled_at = ?
       WHERE allocation_id = ? AND status = 'allocated' AND state = 'pending'`,
    ),
    withdrawNotices: sql(
      `UPDATE outbox SET state = 'withdrawn', next_attempt_at = NULL, settled_at = ?
       WHERE allocation_id = ? AND status = 'preempting' AND state = 'pending'`,
    ),
    // Not of a grant that has ended meanwhile, in this very turn perhaps.
    redeliver: sql(
      `UPDATE outbox SET state = 'pending', next_attempt_at = ?, settled_at = NULL
       WHERE delivery_id = ? AND state != 'withdrawn' AND NOT (status = 'allocated' AND EXISTS (
         SELECT 1 FROM allocations WHERE id = allocation_id AND ended_at IS NOT NULL))`,
    ),
    learn: sql(
      "INSERT INTO learned (key, last_at, body) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET last_at = excluded.last_at, body = excluded.body",
    ),
    forgetLearned: sql("DELETE FROM learned WHERE ?1 IS NULL OR key = ?1"),
    forgetKey: sql("DELETE FROM idempotency_keys WHERE principal = ? AND key = ? AND at <= ?"),
    addApiKey: sql("INSERT INTO api_keys (sha256, principal, role, created_at, expires_at) VALUES (?, ?, ?, ?, ?)"),
    dropApiKey: sql("DELETE FROM api_keys WHERE sha256 = ?"),
    noteKeyUse: sql("INSERT INTO key_uses (key_id, at) VALUES (?1, ?2) ON CONFLICT (key_id) DO UPDATE SET at = ?2"),
    // Of keys that are neither in the settings nor here any more.
    dropKeyUses: sql(
      `DELETE FROM key_uses WHERE key_id NOT IN (SELECT value FROM json_each(?))
         AND NOT EXISTS (SELECT 1 FROM api_keys WHERE substr(sha256, 1, length(key_id)) = key_id)`,
    ),
    audit: sql(
      `INSERT INTO audit (at, principal, key_id, address, action, object, result, reason, request_id, count)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    keepKey: sql("INSERT INTO idempotency_keys (principal, key, fingerprint, at, ids) VALUES (?, ?, ?, ?, ?)"),
    // The clock may have been set between two runs: what was later then is replaced.
    keepChange: sql("INSERT OR REPLACE INTO gpu_history (gpu_uuid, at, state, services, idle) VALUES (?, ?, ?, ?, ?)"),
    // The last change of a GPU in the inventory says what it still is, however old it is.
    dropChanges: sql(
      `DELETE FROM gpu_history WHERE
         at < max(?, ifnull((SELECT at FROM gpu_history ORDER BY at DESC LIMIT 1 OFFSET ?), 0))
         AND (at < (SELECT max(at) FROM gpu_history AS later WHERE later.gpu_uuid = gpu_history.gpu_uuid)
           OR gpu_uuid NOT IN (SELECT uuid FROM gpus))`,
    ),
    noteHistory: sql("INSERT INTO gpu_history_until (one, at) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET at = ?1"),
  };
}

export type Writes = ReturnType<typeof prepareWrites>;

/** One statement to run, with its parameters: all that passes between the threads. */
export type Write = readonly [statement: keyof Writes, ...parameters: (string | number | null)[]];

export function preparePruning(database: DatabaseSync) {
  const sql = (text: string): StatementSync => database.prepare(text);
  return {
    dropTurns: sql("DELETE FROM journal WHERE seq BETWEEN ? AND ? AND (at < ? OR seq <= ?)"),
    writeSnapshot: sql("INSERT INTO snapshots (seq, at, state) VALUES (?, ?, ?)"),
    // A snapshot is of no use once the journal no longer leads on from it without a gap. Of the others the newest are
    // kept, up to a number of bytes.
    dropOlderSnapshots: sql(
      `DELETE FROM snapshots WHERE seq < (SELECT max(seq) FROM snapshots WHERE seq < (
         SELECT ifnull(min(seq), (SELECT max(seq) + 1 FROM snapshots)) FROM journal))
       OR seq IN (SELECT seq FROM (
         SELECT seq, sum(octet_length(state)) OVER (ORDER BY seq DESC) AS total, max(seq) OVER () AS latest FROM snapshots
       ) WHERE total > ? AND seq < latest)`,
    ),
    // Searched by submission, which is never after the end: so requests that held nothing need no index on their end.
    dropEnded: sql(
      `DELETE FROM allocations WHERE rowid IN (
         SELECT rowid FROM allocations
         WHERE submitted_at < ?1 AND ended_at < ?1
           AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.allocation_id = allocations.id)
         ORDER BY submitted_at, id LIMIT ?2)`,
    ),
    noteDropped: sql("UPDATE progress SET complete_from = max(ifnull(complete_from, 0), ?)"),
    dropKeys: sql(
      `DELETE FROM idempotency_keys WHERE (principal, key) IN (
         SELECT principal, key FROM idempotency_keys WHERE at <= ? ORDER BY at LIMIT ?)`,
    ),
    // The first that is not old enough ends it, so that what is left is without gaps. The newest stays, however old: its
    // number is what the next one's is counted from.
    dropAudit: sql(
      `DELETE FROM audit WHERE seq <= (
         SELECT ifnull(min(seq) FILTER (WHERE at >= ?1) - 1, max(seq)) FROM (SELECT seq, at FROM audit ORDER BY seq LIMIT ?2))
       AND seq < (SELECT max(seq) FROM audit)`,
    ),
    dropDeliveries: sql(
      "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox WHERE settled_at < ? ORDER BY settled_at LIMIT ?)",
    ),
  };
}

export type Pruning = ReturnType<typeof preparePruning>;

/** What tells which record a live row is: the state has the record, so that it need not be read out of the row's texts. */
const LIVE_COLUMNS = "id, status, ended_at";
const LISTED_COLUMNS = `id, ${ALLOCATION_COLUMNS.replace(/\b(lease|request)\b/g, "iif(ended_at IS NULL, NULL, $1) AS $1")}`;

/** The text of a listing; its parameters are the filters that are set, in this order, then the cursor, then the limit. */
export function listSql(query: AllocationQuery): string {
  const conditions: string[] = [];
  if (query.status !== null) conditions.push("status = ?");
  const isOfLive = query.status !== null && query.status !== "ended";
  // Leads to the index of the live rows alone.
  if (isOfLive) conditions.push("ended_at IS NULL");
  if (query.serviceName !== null) conditions.push("service = ?");
  if (query.principal !== null) conditions.push("principal = ?");
  if (query.before !== null) conditions.push("(submitted_at, id) < (?, ?)");
  const where = conditions.length === 0 ? "" : `WHERE ${conditions.join(" AND ")}`;
  return `SELECT ${isOfLive ? LIVE_COLUMNS : LISTED_COLUMNS} FROM allocations ${where} ORDER BY submitted_at DESC, id DESC LIMIT ?`;
}

/** The text of a listing of webhooks; its parameters are the filters that are set, in this order, then the limit. */
export function listDeliveriesSql(query: DeliveryQuery): string {
  const conditions: string[] = [];
  if (query.state !== null) conditions.push("state = ?");
  if (query.allocationId !== null) conditions.push("allocation_id = ?");
  if (query.before !== null) conditions.push("seq < ?");
  const where = conditions.length === 0 ? "" : `WHERE ${conditions.join(" AND ")}`;
  return `SELECT ${RECORD_COLUMNS} FROM outbox ${where} ORDER BY seq DESC LIMIT ?`;
}
