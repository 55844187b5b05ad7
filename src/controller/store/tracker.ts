/**
 * Holds the tables against what is there, once a minute (`RESOURCE_TRACK_INTERVAL`): nodes, deployments and pods.
 *
 *  1. Only what has changed is written.
 *  2. What is gone stays as `terminated` or `deleted`, for as long as history does.
 *  3. Rows that the Orchestration Service has left, and that are not of anything that is there, are not touched: they have
 *     no `cluster`.
 *  4. A row that the database does not take holds up no other: it is logged, and tried again the next time.
 */
import { hash } from "node:crypto";
import type { Objects } from "../objects/store.ts";
import type { Look } from "../reconcile/backend.ts";
import { type Database, DatabaseError, type Row, type Statement, type Value } from "./database.ts";
import { deploymentRow, goneRow, inventoryOf, type Projection, projectionOf, type RowValues } from "./projection.ts";
import { quoted } from "./schema.ts";

const ROWS_TOGETHER = 100;

type TableName = "gpu_nodes" | "deployments" | "pod_allocations";
const IDS: Readonly<Record<TableName, string>> = {
  gpu_nodes: "node_id",
  deployments: "deployment_id",
  pod_allocations: "allocation_id",
};
/** What tells that a row is still of something. */
const ALIVE: Readonly<Record<TableName, string>> = {
  gpu_nodes: "cluster IS NOT NULL AND status <> 'deleted'",
  deployments: "cluster IS NOT NULL AND terminated_at IS NULL",
  pod_allocations: "cluster IS NOT NULL AND terminated_at IS NULL",
};

export interface TrackerParts {
  readonly database: Database;
  readonly objects: Objects;
  /** `null`: nothing was seen yet, or the backend is away. */
  readonly seen: () => Look | null;
  readonly leads: () => boolean;
  readonly now: () => number;
  readonly everyMs: number;
  readonly log: { error(facts: object, message: string): void };
}

export class ResourceTracker {
  readonly #parts: TrackerParts;
  /** By table and id: what was written last, as a digest. The rows of a large cluster are several MiB. */
  readonly #written = new Map<string, string>();
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<void> = Promise.resolve();
  /** When the tables were last held against what is there; `null`: never. */
  trackedAt: number | null = null;

  constructor(parts: TrackerParts) {
    this.#parts = parts;
  }

  start(): void {
    const again = () => {
      this.#running = this.#running.then(() => this.track());
    };
    this.#timer = setInterval(again, this.#parts.everyMs);
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#running;
  }

  /** Never rejects: without the database the next one makes up for it. */
  async track(): Promise<void> {
    const { leads, seen, objects, now, log } = this.#parts;
    try {
      const look = seen();
      if (!leads() || look === null) {
        // Another one writes: what this one wrote last says nothing any more.
        this.#written.clear();
        return;
      }
      const workloads = objects.workloads();
      const projection = projectionOf(workloads, look.inventory?.() ?? inventoryOf(look, workloads));
      await this.#write(projection, new Date(now()).toISOString());
      this.trackedAt = now();
    } catch (error) {
      this.#written.clear();
      const isAway = error instanceof DatabaseError && error.kind === "away";
      if (!isAway) log.error({ err: error }, "what is there could not be written into the database");
    }
  }

  async #write({ nodes, deployments, pods }: Projection, at: string): Promise<void> {
    const tables: [TableName, readonly RowValues[]][] = [
      ["gpu_nodes", nodes],
      ["deployments", deployments],
      ["pod_allocations", pods],
    ];
    const { database } = this.#parts;
    const alive = await database.run(
      tables.map(([table]) => ({ sql: `SELECT ${IDS[table]} AS id FROM ${table} WHERE ${ALIVE[table]}` })),
    );
    for (const [index, [table, rows]] of tables.entries()) {
      const changed = rows.filter((row) => this.#written.get(keyIn(table, row)) !== digestOf(row));
      for (let from = 0; from < changed.length; from += ROWS_TOGETHER) {
        await this.#store(table, changed.slice(from, from + ROWS_TOGETHER), at);
      }
      const there = new Set(rows.map((row) => row[IDS[table]]));
      await this.#end(
        table,
        (alive[index] ?? []).filter(({ id }) => !there.has(id as string)),
        at,
      );
    }
    // Also of nodes that have not changed: it is what says that somebody has looked.
    const beat = nodes.map(({ node_id: id }) => id as string);
    for (let from = 0; from < beat.length; from += ROWS_TOGETHER) {
      const some = beat.slice(from, from + ROWS_TOGETHER);
      const places = some.map((_, at) => `$${at + 2}`).join(", ");
      const sql = `UPDATE gpu_nodes SET last_heartbeat = $1 WHERE status <> 'not_ready' AND node_id IN (${places})`;
      await database.run([{ sql, values: [at, ...some] }]);
    }
  }

  async #store(table: TableName, rows: readonly RowValues[], at: string): Promise<void> {
    try {
      await this.#parts.database.run(rows.flatMap((row) => storing(table, row, at)));
      for (const row of rows) this.#written.set(keyIn(table, row), digestOf(row));
    } catch (error) {
      if (!(error instanceof DatabaseError) || error.kind === "away") throw error;
      if (rows.length > 1) {
        for (const row of rows) await this.#store(table, [row], at);
        return;
      }
      const [row] = rows as readonly [RowValues];
      this.#parts.log.error(
        { err: error, table, id: row[IDS[table]] },
        "the database does not take a row of what is there",
      );
    }
  }

  async #end(table: TableName, gone: readonly Row[], at: string): Promise<void> {
    for (const { id } of gone) this.#written.delete(`${table} ${id}`);
    for (let from = 0; from < gone.length; from += ROWS_TOGETHER) {
      const ids = gone.slice(from, from + ROWS_TOGETHER).map(({ id }) => id as string);
      await this.#parts.database.run(ids.map((id) => ending(table, id, at)));
    }
  }
}

function keyIn(table: TableName, row: RowValues): string {
  return `${table} ${row[IDS[table]]}`;
}

function digestOf(row: RowValues): string {
  return hash("sha256", JSON.stringify(row), "base64");
}

function ending(table: TableName, id: string, at: string): Statement {
  const values = [at, id];
  if (table === "gpu_nodes") {
    const sql = "UPDATE gpu_nodes SET status = 'deleted', is_schedulable = false, updated_at = $1 WHERE node_id = $2";
    return { sql, values };
  }
  if (table === "deployments") {
    const sql = `UPDATE deployments SET status = 'terminated', ready_replicas = 0, available_replicas = 0,
      current_replicas = 0, terminated_at = $1, updated_at = $1 WHERE deployment_id = $2`;
    return { sql, values };
  }
  // A pod that has failed stays so.
  const sql = `UPDATE pod_allocations SET status = CASE status WHEN 'failed' THEN status ELSE 'terminated' END,
    is_ready = false, terminated_at = $1, updated_at = $1,
    terminated_reason = CASE status WHEN 'failed' THEN 'failed' ELSE 'gone' END WHERE allocation_id = $2`;
  return { sql, values };
}

/** A pod's name is given again on one host: the row of the one before makes room. */
function storing(table: TableName, row: RowValues, at: string): Statement[] {
  const stored = upsert(table, { ...row, updated_at: at });
  if (table !== "pod_allocations") return [stored];
  const values = [row.pod_name, row.namespace, row.allocation_id] as Value[];
  const sql = "DELETE FROM pod_allocations WHERE pod_name = $1 AND namespace = $2 AND allocation_id <> $3";
  return [{ sql, values }, stored];
}

function upsert(table: TableName, row: RowValues): Statement {
  const columns = Object.keys(row);
  const changed = columns.filter((name) => name !== IDS[table]);
  return {
    sql: `${inserting(table, columns)} ON CONFLICT (${IDS[table]})
          DO UPDATE SET ${changed.map((name) => `${quoted(name)} = excluded.${quoted(name)}`).join(", ")}`,
    values: Object.values(row),
  };
}

function inserting(table: TableName, columns: readonly string[]): string {
  const places = columns.map((_, at) => `$${at + 1}`).join(", ");
  return `INSERT INTO ${table} (${columns.map(quoted).join(", ")}) VALUES (${places})`;
}

/** Makes the row that history refers to, if there is none: the tracker comes once a minute only. */
export function deploymentNoted(objects: Objects, deploymentId: string, tenantId: string, at: string): Statement {
  const workload = objects.workloads().find(({ metadata }) => metadata.name === deploymentId);
  const row = workload === undefined ? goneRow(deploymentId, tenantId, at) : deploymentRow(workload);
  return {
    sql: `${inserting("deployments", Object.keys(row))} ON CONFLICT (deployment_id) DO NOTHING`,
    values: Object.values(row),
  };
}
