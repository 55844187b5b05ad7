/** Entry n leads from version n to n + 1. Never edited once released: add one. */
export const MIGRATIONS: readonly string[] = [
  `
  -- The truth on one host: objects as Kubernetes would keep them.
  CREATE TABLE objects (
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    metadata TEXT NOT NULL,
    spec TEXT NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
  ) STRICT, WITHOUT ROWID;
  -- One row: the last resourceVersion that was given.
  CREATE TABLE versions (one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL) STRICT;
  INSERT INTO versions VALUES (1, 0);
  -- With the second seed's columns.
  CREATE TABLE scaling_events (
    id INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    deployment_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    scaling_type TEXT NOT NULL,
    from_replicas INTEGER NOT NULL,
    to_replicas INTEGER NOT NULL,
    trigger_reason TEXT NOT NULL,
    trigger_metrics TEXT NOT NULL,
    status TEXT NOT NULL,
    error_message TEXT,
    initiated_at TEXT NOT NULL,
    completed_at TEXT
  ) STRICT;
  CREATE INDEX idx_scaling_events_deployment ON scaling_events (deployment_id);
  CREATE TABLE deployment_events (
    id INTEGER PRIMARY KEY,
    deployment_id TEXT NOT NULL,
    at TEXT NOT NULL,
    type TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL
  ) STRICT;
  CREATE INDEX idx_deployment_events_deployment ON deployment_events (deployment_id);
  `,
  `
  -- Of calls that made a deployment, with it in one transaction.
  CREATE TABLE idempotency_keys (
    principal TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    at INTEGER NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (principal, key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX idempotency_keys_by_age ON idempotency_keys (at);
  `,
];
