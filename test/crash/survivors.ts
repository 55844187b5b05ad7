/** Reads what a killed daemon left on disk, from a copy: the log in it is the next daemon's to recover, not ours. */
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Event } from "../../src/core/host/events.ts";
import type { Lease, Request } from "../../src/core/model/allocation.ts";
import type { Journalled, LeaseSeen, OutboxRow, Status, SurvivingRecord, Survivors } from "./history.ts";

/** Where these daemons keep their database, from their folder. */
export const DATABASE = "host.db";

/** @throws when SQLite finds the file damaged. */
export function readSurvivors(folder: string): Survivors {
  const source = join(folder, DATABASE);
  const copies = mkdtempSync(join(tmpdir(), "gpu-orchestrator-survivors-"));
  try {
    const copy = join(copies, "copy.db");
    for (const suffix of ["", "-wal"]) {
      if (existsSync(source + suffix)) copyFileSync(source + suffix, copy + suffix);
    }
    const database = new DatabaseSync(copy);
    try {
      return readDatabase(database);
    } finally {
      database.close();
    }
  } finally {
    rmSync(copies, { recursive: true });
  }
}

/** Webhooks that the daemon which lives on the file has still to deliver. */
export function countPending(folder: string): number {
  const database = new DatabaseSync(join(folder, DATABASE), { readOnly: true });
  try {
    const row = database.prepare("SELECT count(*) AS n FROM outbox WHERE state = 'pending'").get() as { n: number };
    return row.n;
  } finally {
    database.close();
  }
}

function readDatabase(database: DatabaseSync): Survivors {
  const readAt = performance.now();
  const integrity = database.prepare("PRAGMA integrity_check").get() as { integrity_check: string };
  if (integrity.integrity_check !== "ok") throw new Error(`a kill damaged the file: ${integrity.integrity_check}`);
  // Killed before its first migration: there is nothing yet.
  const tables = database.prepare("SELECT count(*) AS n FROM sqlite_schema").get() as { n: number };
  if (tables.n === 0) return { readAt, records: [], outbox: [], journal: [], keys: new Map() };
  return {
    readAt,
    records: database
      .prepare("SELECT id, status, lease, request, ended_at, end_reason FROM allocations")
      .all()
      .map((row) => survivingRecord(row as unknown as RecordRow)),
    outbox: database
      .prepare("SELECT delivery_id AS deliveryId, allocation_id AS allocationId, status, state FROM outbox")
      .all() as unknown as OutboxRow[],
    journal: database.prepare("SELECT seq, events FROM journal ORDER BY seq").all().flatMap(journalled),
    keys: new Map(
      database
        .prepare("SELECT key, ids FROM idempotency_keys")
        .all()
        .map(({ key, ids }) => [String(key), JSON.parse(String(ids)) as string[]]),
    ),
  };
}

interface RecordRow {
  readonly id: string;
  readonly status: Status;
  readonly lease: string | null;
  readonly request: string;
  readonly ended_at: number | null;
  readonly end_reason: string | null;
}

function survivingRecord(row: RecordRow): SurvivingRecord {
  const request = JSON.parse(row.request) as Request;
  const { ended_at: at, end_reason: reason } = row;
  return {
    id: row.id,
    mark: String(request.workloadData.mark),
    status: row.status,
    lease: row.lease === null ? null : leaseSeen(JSON.parse(row.lease) as Lease),
    outcome: at === null || reason === null ? null : { at, reason },
  };
}

function leaseSeen({ gpus, fencingToken: token, expiresAt }: Lease): LeaseSeen {
  return { gpus: gpus.map(({ uuid }) => uuid), token, expiresAt };
}

function journalled(row: Record<string, unknown>): Journalled[] {
  const events = JSON.parse(row.events as string) as Event[];
  return events.map((event, i) => ({
    seq: (row.seq as number) - events.length + 1 + i,
    type: event.type,
    id: event.type === "submitted" ? event.request.id : "id" in event ? event.id : null,
    token: event.type === "granted" ? event.lease.fencingToken : null,
    offered: event.type === "reoffered" || (event.type === "granted" && event.claimBy !== null),
  }));
}
