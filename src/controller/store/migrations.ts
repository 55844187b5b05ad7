/**
 * The steps from one version of the tables to the next. Entry n leads from version n to n + 1; one that is released is
 * never edited. {@link TABLES} is what the last one leads to.
 */
import { creating, TABLES } from "./schema.ts";

/** Of files of SQLite from before there was PostgreSQL. */
export const SQLITE_MIGRATIONS: readonly string[] = [
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
  [
    ...["objects", "versions", "scaling_events", "deployment_events", "idempotency_keys"].map(
      (name) => `ALTER TABLE ${name} RENAME TO old_${name}`,
    ),
    // An index keeps its name, and the new table's has the same.
    ...["idx_scaling_events_deployment", "idx_deployment_events_deployment", "idempotency_keys_by_age"].map(
      (name) => `DROP INDEX ${name}`,
    ),
    ...TABLES.flatMap((table) => creating("sqlite", table)),
    `INSERT INTO objects SELECT kind, namespace, name, metadata ->> 'uid', CAST(metadata ->> 'resourceVersion' AS INTEGER),
       metadata, spec, status FROM old_objects`,
    "INSERT INTO versions SELECT one, last FROM old_versions",
    // What is known of a deployment that is gone is its name: its history refers to it. The tracker fills in the others.
    `INSERT INTO deployments
       (deployment_id, deployment_name, tenant_id, model_id, model_name, status, cluster, created_at, terminated_at)
     SELECT deployment_id, deployment_id, min(tenant_id), '', '', 'terminated', 'local', min(initiated_at), max(initiated_at)
     FROM old_scaling_events GROUP BY deployment_id`,
    `INSERT INTO scaling_events SELECT id, event_id, deployment_id, tenant_id, scaling_type, from_replicas, to_replicas,
       trigger_reason, trigger_metrics, status, error_message, initiated_at, completed_at FROM old_scaling_events`,
    `INSERT INTO deployment_events SELECT id, 'old-' || id, deployment_id, at, type, reason, message FROM old_deployment_events`,
    "INSERT INTO idempotency_keys SELECT principal, key, fingerprint, at, id FROM old_idempotency_keys",
    ...["objects", "versions", "scaling_events", "deployment_events", "idempotency_keys"].map(
      (name) => `DROP TABLE old_${name}`,
    ),
  ].join(";\n"),
];
