import type { DatabaseSync } from "node:sqlite";

/** Marks the file as ours, in the header's application id: the letters `GpuO`. */
export const APPLICATION_ID = 0x4770754f;

/**
 * Schema versions, oldest first; entry n leads from version n to n + 1. Never edited once released: add one.
 *
 * Instants are INTEGER milliseconds since the epoch. `request`, `lease` and the bodies are JSON, written by
 * records.ts. The rows of `allocations` are the state after the last turn; the journal tells how it came about.
 */
const MIGRATIONS: readonly string[] = [
  `
  -- One row, written by every turn; none before the first.
  CREATE TABLE progress (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    turns INTEGER NOT NULL, -- committed so far: tells whether a turn is here whose acknowledgement was lost
    last_turn_at INTEGER NOT NULL,
    next_fencing_token INTEGER NOT NULL,
    boot_id TEXT,
    complete_from INTEGER -- ended records before it may have been dropped; null: none ever was
  ) STRICT;

  -- One row, written when it changes; none before the first time.
  CREATE TABLE host (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    cordon TEXT -- that the host gets no new leases; null: it does
  ) STRICT;

  -- One row, written at every start: how the next one measures the time between.
  CREATE TABLE clock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    boot_id TEXT NOT NULL,
    booted_at INTEGER -- what the daemon's clock would have shown when the host booted
  ) STRICT;

  -- One row per turn: events are numbered through, and a row bears the number of its last.
  CREATE TABLE journal (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    events TEXT NOT NULL,
    inputs TEXT -- what they came of, for the verb replay; null: not captured
  ) STRICT;

  CREATE TABLE snapshots (
    seq INTEGER PRIMARY KEY, -- of the last event folded in
    at INTEGER NOT NULL,
    state TEXT NOT NULL
  ) STRICT;

  CREATE TABLE gpus (
    uuid TEXT PRIMARY KEY,
    body TEXT NOT NULL -- a null hold means: as the live leases say, so that most turns need not touch this table
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE allocations (
    id TEXT PRIMARY KEY,
    service TEXT NOT NULL,
    principal TEXT NOT NULL,
    status TEXT NOT NULL,
    submitted_at INTEGER NOT NULL,
    claim_by INTEGER,
    idle_since INTEGER,
    preempting_since INTEGER, -- of queued rows: since when leases have been preempted for it
    notice TEXT, -- of offered and leased rows: that it is to be taken back, and when
    ended_at INTEGER,
    end_reason TEXT,
    end_detail TEXT,
    used TEXT, -- of ended rows: when which of its GPUs were in use; null when none was
    lease TEXT,
    request TEXT NOT NULL,
    CHECK (CASE status
      WHEN 'queued' THEN lease IS NULL AND claim_by IS NULL AND ended_at IS NULL
      WHEN 'offered' THEN lease IS NOT NULL AND claim_by IS NOT NULL AND ended_at IS NULL
      WHEN 'leased' THEN lease IS NOT NULL AND claim_by IS NULL AND ended_at IS NULL
      WHEN 'ended' THEN ended_at IS NOT NULL AND end_reason IS NOT NULL AND claim_by IS NULL
      ELSE FALSE END),
    CHECK (idle_since IS NULL OR status = 'leased'),
    CHECK (preempting_since IS NULL OR status = 'queued'),
    CHECK (notice IS NULL OR status IN ('offered', 'leased')),
    CHECK (used IS NULL OR status = 'ended')
  ) STRICT;
  -- Holds what listings filter by, so that rows passed over are not read. One index, written in order of time:
  -- separate ones per service and principal cost a tenth of a turn more.
  CREATE INDEX allocations_by_time ON allocations (submitted_at, id, service, principal);
  CREATE INDEX allocations_live ON allocations (submitted_at, id) WHERE ended_at IS NULL;
  -- For accounting: a period's leases are those that ended after its begin. Half a microsecond per lease.
  CREATE INDEX leases_by_end ON allocations (ended_at) WHERE ended_at IS NOT NULL AND lease IS NOT NULL;

  -- Invariant 1. An exclusive lease has no others beside it; shared ones reserve no more memory than there is.
  CREATE TABLE live_leases (
    gpu_uuid TEXT NOT NULL REFERENCES gpus (uuid),
    allocation_id TEXT NOT NULL REFERENCES allocations (id),
    shared_mib INTEGER CHECK (shared_mib > 0), -- null: exclusive
    PRIMARY KEY (gpu_uuid, allocation_id)
  ) STRICT, WITHOUT ROWID;
  CREATE UNIQUE INDEX live_leases_exclusive ON live_leases (gpu_uuid) WHERE shared_mib IS NULL;
  CREATE TRIGGER live_leases_do_not_mix BEFORE INSERT ON live_leases
  WHEN EXISTS (
    SELECT 1 FROM live_leases
    WHERE gpu_uuid = NEW.gpu_uuid AND (shared_mib IS NULL OR NEW.shared_mib IS NULL))
  BEGIN SELECT RAISE(ABORT, 'invariant 1: an exclusive lease has no others beside it'); END;
  CREATE TRIGGER live_leases_fit BEFORE INSERT ON live_leases
  WHEN NEW.shared_mib + (SELECT total(shared_mib) FROM live_leases WHERE gpu_uuid = NEW.gpu_uuid)
    > (SELECT ifnull(body ->> '$.memoryTotalMib', 0) FROM gpus WHERE uuid = NEW.gpu_uuid)
  BEGIN SELECT RAISE(ABORT, 'invariant 1: more memory is reserved than there is'); END;
  CREATE TRIGGER live_leases_stay BEFORE UPDATE ON live_leases
  BEGIN SELECT RAISE(ABORT, 'a lease begins and ends, and does not change'); END;

  CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY,
    delivery_id TEXT NOT NULL UNIQUE,
    allocation_id TEXT REFERENCES allocations (id), -- null: tells the operator of a GPU
    status TEXT NOT NULL,
    url TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'gave-up', 'withdrawn')),
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER, -- of pending rows only
    settled_at INTEGER, -- of all others
    last_attempt_at INTEGER,
    http_status INTEGER, -- of the last attempt
    error TEXT, -- of the last attempt
    CHECK ((state = 'pending') = (next_attempt_at IS NOT NULL)),
    CHECK ((state = 'pending') = (settled_at IS NULL))
  ) STRICT;
  CREATE INDEX outbox_due ON outbox (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
  CREATE INDEX outbox_settled ON outbox (settled_at) WHERE settled_at IS NOT NULL;
  CREATE INDEX outbox_by_allocation ON outbox (allocation_id);

  -- Invariant 9: one key, one lease. Of requests that changed something only.
  CREATE TABLE idempotency_keys (
    principal TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    at INTEGER NOT NULL,
    ids TEXT NOT NULL, -- JSON: the allocations that were changed
    PRIMARY KEY (principal, key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX idempotency_keys_by_age ON idempotency_keys (at);
  `,
  `
  -- What each GPU was from then on, for the time line. No journal: it may be lost, and is bounded.
  CREATE TABLE gpu_history (
    gpu_uuid TEXT NOT NULL,
    at INTEGER NOT NULL,
    state TEXT NOT NULL,
    services TEXT NOT NULL, -- JSON: the names of those that held it
    idle INTEGER NOT NULL,
    PRIMARY KEY (gpu_uuid, at)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX gpu_history_by_time ON gpu_history (at);
  CREATE TABLE gpu_history_until (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at INTEGER NOT NULL -- the daemon ran until then
  ) STRICT;
  `,
  `
  -- What was learned of the memory that leases use: a row per kind of workload.
  CREATE TABLE IF NOT EXISTS learned (
    key TEXT PRIMARY KEY,
    last_at INTEGER NOT NULL,
    body TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- Of queued rows: since when it has been the head of the line without a certain start.
  ALTER TABLE allocations ADD COLUMN head_since INTEGER CHECK (head_since IS NULL OR status = 'queued');
  `,
  `
  -- Who changed or was refused what. Rows are added at the end and dropped from the begin.
  CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    principal TEXT, -- null: no key, or a wrong one
    key_id TEXT,
    address TEXT, -- null: the daemon itself
    action TEXT NOT NULL,
    object TEXT,
    result TEXT NOT NULL, -- 'done', or the code of the refusal
    reason TEXT,
    request_id TEXT,
    count INTEGER NOT NULL -- of refusals that it stands for
  ) STRICT;
  CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
  BEGIN SELECT RAISE(ABORT, 'the audit is only added to'); END;
  CREATE TRIGGER audit_goes_from_the_begin BEFORE DELETE ON audit
  WHEN EXISTS (SELECT 1 FROM audit WHERE seq < OLD.seq)
  BEGIN SELECT RAISE(ABORT, 'the audit is only added to'); END;
  `,
  `
  -- API keys, where auth.store is database; a revoked one is gone. The keys themselves are kept nowhere.
  CREATE TABLE api_keys (
    sha256 TEXT PRIMARY KEY,
    principal TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER -- null: never
  ) STRICT, WITHOUT ROWID;
  -- Also of keys that stand in the settings.
  CREATE TABLE key_uses (
    key_id TEXT PRIMARY KEY,
    at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- JSON: GPUs that are kept for a principal from a time for a while. By the wall clock as it was when the daemon started,
  -- so it moves with no other instant.
  ALTER TABLE host ADD COLUMN bookings TEXT NOT NULL DEFAULT '[]';
  `,
];

/** The schema that this program writes. */
export const SCHEMA_VERSION = MIGRATIONS.length;

/** Brings the schema from `version` to {@link SCHEMA_VERSION}, each step whole or not at all. */
export function migrate(database: DatabaseSync, version: number): void {
  for (let from = version; from < SCHEMA_VERSION; from++) {
    database.exec("BEGIN IMMEDIATE");
    try {
      database.exec(MIGRATIONS[from] as string);
      database.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${from + 1}; COMMIT`);
    } catch (error) {
      if (database.isTransaction) database.exec("ROLLBACK");
      throw error;
    }
  }
}
