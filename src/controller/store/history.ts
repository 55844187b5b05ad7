/**
 * What happened, on its way into the database.
 *
 *  1. Whoever tells something does not wait for it: rows are written in the order in which they were told, together.
 *  2. While the database is away up to {@link MAX_BUFFERED} wait; those after them are dropped and counted.
 *  3. What was written although its answer was lost is written again, and changes nothing: a row has an id, and what is ended
 *     had begun before.
 *  4. A row that the database will never take holds up no other: it is dropped, counted and logged.
 *  5. While the database is away the last {@link MAX_KNOWN} of each sort are told from memory.
 */
import { randomUUID } from "node:crypto";
import type { DeploymentEvent, History, ScalingBegun, ScalingEvent, ScalingQuery } from "../objects/store.ts";
import { type Database, DatabaseError, type Row, type Statement, type Value } from "./database.ts";

export const MAX_BUFFERED = 10_000;
const MAX_TOGETHER = 200;
const MAX_KNOWN = 1_000;
const RETRY_MS = 1_000;
/** Ended history stays for so long. */
export const HISTORY_MS = 90 * 86_400_000;

/** Of one call of the API. */
export interface AuditEntry {
  readonly at: number;
  readonly principal: string | null;
  readonly address: string | null;
  readonly action: string;
  readonly object: string | null;
  readonly result: string;
  readonly reason: string | null;
  readonly requestId: string | null;
  readonly count: number;
}

interface Log {
  error(facts: object, message: string): void;
}

export interface RecorderParts {
  readonly database: Database;
  /** Makes the row of a deployment that history refers to, if there is none yet. */
  readonly deployment: (deploymentId: string, tenantId: string, at: string) => Statement;
  readonly log: Log;
}

export class Recorder implements History {
  readonly #parts: RecorderParts;
  #waiting: Waiting[] = [];
  #scalings: ScalingEvent[] = [];
  #events: DeploymentEvent[] = [];
  /** Of deployments that were taken away: also while the database is away. */
  readonly #owners = new Map<string, string>();
  #writing: Promise<void> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;
  written = 0;
  dropped = 0;

  constructor(parts: RecorderParts) {
    this.#parts = parts;
  }

  get buffered(): number {
    return this.#waiting.length;
  }

  beginScaling(event: ScalingBegun): void {
    const before = this.#endKnown(event.deploymentId, "cancelled", event.initiatedAt);
    remember(this.#scalings, { ...event, status: "in_progress", errorMessage: null, completedAt: null });
    const { eventId, deploymentId, tenantId, scalingType, fromReplicas, toReplicas, triggerReason, initiatedAt } =
      event;
    this.#add([
      this.#parts.deployment(deploymentId, tenantId, initiatedAt),
      ending(deploymentId, "cancelled", initiatedAt, before),
      {
        sql: `INSERT INTO scaling_events (event_id, deployment_id, tenant_id, scaling_type, from_replicas, to_replicas,
              trigger_reason, trigger_metrics, status, initiated_at)
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'in_progress', $9) ON CONFLICT (event_id) DO NOTHING`,
        values: [
          ...[eventId, deploymentId, tenantId, scalingType, fromReplicas, toReplicas, triggerReason],
          ...[JSON.stringify(event.triggerMetrics), initiatedAt],
        ],
      },
    ]);
  }

  endScaling(
    deploymentId: string,
    status: "success" | "failed" | "cancelled",
    at: string,
    why: string | null = null,
  ): void {
    const known = this.#endKnown(deploymentId, status, at, why);
    this.#add([ending(deploymentId, status, at, known, why)]);
  }

  /** @returns the id of the one that it ends, if this controller has seen one begin. */
  #endKnown(
    deploymentId: string,
    status: ScalingEvent["status"],
    completedAt: string,
    errorMessage: string | null = null,
  ): string | null {
    const index = this.#scalings.findIndex((one) => one.deploymentId === deploymentId && one.status === "in_progress");
    const known = this.#scalings[index];
    if (known === undefined) return null;
    this.#scalings[index] = { ...known, status, completedAt, errorMessage };
    return known.eventId;
  }

  noteDeployment(deploymentId: string, tenantId: string, at: string): void {
    this.#owners.delete(deploymentId);
    this.#owners.set(deploymentId, tenantId);
    const [oldest] = this.#owners.keys();
    if (this.#owners.size > MAX_KNOWN && oldest !== undefined) this.#owners.delete(oldest);
    this.#add([this.#parts.deployment(deploymentId, tenantId, at)]);
  }

  addEvent(event: DeploymentEvent): void {
    remember(this.#events, event);
    const { deploymentId, at, type, reason, message } = event;
    this.#add({
      into: "deployment_events (event_id, deployment_id, at, type, reason, message)",
      values: [randomUUID(), deploymentId, at, type, reason, message],
    });
  }

  addAudit({ at, principal, address, action, object, result, reason, requestId, count }: AuditEntry): void {
    this.#add({
      into: "audit (event_id, at, principal, address, action, object, result, reason, request_id, count)",
      values: [
        ...[randomUUID(), new Date(at).toISOString(), principal, address, action, object],
        ...[result, reason, requestId, count],
      ],
    });
  }

  async scalings(query: ScalingQuery): Promise<readonly ScalingEvent[]> {
    const { deploymentId, tenants, limit } = query;
    const conditions: string[] = [];
    const values: (string | number)[] = [];
    const value = (given: string | number) => `$${values.push(given)}`;
    if (deploymentId !== undefined) conditions.push(`deployment_id = ${value(deploymentId)}`);
    if (tenants?.length === 0) return [];
    if (tenants !== undefined) conditions.push(`tenant_id IN (${tenants.map(value).join(", ")})`);
    const where = conditions.length === 0 ? "" : `WHERE ${conditions.join(" AND ")}`;
    const sql = `SELECT * FROM scaling_events ${where} ORDER BY id DESC LIMIT ${value(limit)}`;
    const rows = await this.#read({ sql, values });
    if (rows !== null) return rows.map(scalingIn);
    const known = this.#scalings.filter(
      (one) =>
        (deploymentId === undefined || one.deploymentId === deploymentId) &&
        (tenants === undefined || tenants.includes(one.tenantId)),
    );
    return known.slice(0, limit);
  }

  async events(deploymentId: string, limit: number): Promise<readonly DeploymentEvent[]> {
    const sql = "SELECT * FROM deployment_events WHERE deployment_id = $1 ORDER BY id DESC LIMIT $2";
    const rows = await this.#read({ sql, values: [deploymentId, limit] });
    if (rows !== null) return rows.map(eventIn);
    return this.#events.filter((one) => one.deploymentId === deploymentId).slice(0, limit);
  }

  async tenantOf(deploymentId: string): Promise<string | null> {
    const known = this.#owners.get(deploymentId);
    if (known !== undefined) return known;
    const sql = "SELECT tenant_id FROM deployments WHERE deployment_id = $1";
    const [row] = (await this.#read({ sql, values: [deploymentId] })) ?? [];
    return row === undefined ? null : (row.tenant_id as string);
  }

  /** `null`: the database is away. What was told before is among the rows. */
  async #read(statement: Statement): Promise<readonly Row[] | null> {
    await this.flush();
    try {
      const [rows = []] = await this.#parts.database.run([statement]);
      return rows;
    } catch (error) {
      if (error instanceof DatabaseError && error.kind === "away") return null;
      throw error;
    }
  }

  #add(waiting: Waiting): void {
    if (this.#waiting.length >= MAX_BUFFERED) {
      this.dropped++;
      return;
    }
    this.#waiting.push(waiting);
    if (this.#timer === null) void this.flush();
  }

  /** Writes what waits, unless the database is away. Never rejects. */
  flush(): Promise<void> {
    this.#writing ??= this.#write().finally(() => {
      this.#writing = null;
    });
    return this.#writing;
  }

  async #write(): Promise<void> {
    while (this.#waiting.length > 0) {
      const some = this.#waiting.slice(0, MAX_TOGETHER);
      try {
        await this.#parts.database.run(statementsOf(some));
        this.#waiting.splice(0, some.length);
        this.written += some.length;
      } catch (error) {
        if (error instanceof DatabaseError && error.kind !== "away") {
          if (!(await this.#writeEach(some))) return this.#later();
        } else return this.#later();
      }
    }
  }

  /** @returns whether all were written or given up. */
  async #writeEach(some: readonly Waiting[]): Promise<boolean> {
    for (const one of some) {
      try {
        await this.#parts.database.run(statementsOf([one]));
        this.written++;
      } catch (error) {
        if (!(error instanceof DatabaseError) || error.kind === "away") return false;
        this.dropped++;
        this.#parts.log.error({ err: error }, "the database does not take a row of history: it is dropped");
      }
      this.#waiting.shift();
    }
    return true;
  }

  #later(): void {
    if (this.#closed || this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.flush();
    }, RETRY_MS).unref();
  }

  /** History beyond its time goes, and with a deployment that has ended so long ago all that is its. */
  async prune(now: number): Promise<void> {
    const before = new Date(now - HISTORY_MS).toISOString();
    const older = (sql: string): Statement => ({ sql, values: [before] });
    await this.#parts.database.run([
      older("DELETE FROM deployment_events WHERE at < $1"),
      older("DELETE FROM audit WHERE at < $1"),
      older("DELETE FROM scaling_events WHERE status <> 'in_progress' AND initiated_at < $1"),
      // The Orchestration Service's own rows have no cluster: they are not ours to delete.
      older("DELETE FROM pod_allocations WHERE cluster IS NOT NULL AND terminated_at < $1"),
      older("DELETE FROM deployments WHERE cluster IS NOT NULL AND terminated_at < $1"),
      older(
        `DELETE FROM gpu_nodes WHERE cluster IS NOT NULL AND status = 'deleted' AND updated_at < $1
         AND NOT EXISTS (SELECT 1 FROM pod_allocations WHERE pod_allocations.node_id = gpu_nodes.node_id)`,
      ),
    ]);
  }

  /** What waits is written if the database is there; what is not, is lost. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.flush();
  }
}

/** A row of its own, which others can go with in one statement, or what has to be done one after the other. */
type Waiting = Inserted | readonly Statement[];
interface Inserted {
  /** A table and its columns, the first of which says that the row is there already. */
  readonly into: string;
  readonly values: readonly Value[];
}

/** In their order; what goes into the same table goes there together. */
function statementsOf(waiting: readonly Waiting[]): Statement[] {
  const statements: Statement[] = [];
  let together: Inserted[] = [];
  const end = () => {
    const [first] = together;
    if (first !== undefined) statements.push(inserting(first.into, together));
    together = [];
  };
  for (const one of waiting) {
    const isRow = "into" in one;
    if (!isRow || one.into !== together[0]?.into) end();
    if (isRow) together.push(one);
    else statements.push(...one);
  }
  end();
  return statements;
}

function inserting(into: string, rows: readonly Inserted[]): Statement {
  const values: Value[] = [];
  const places = rows.map((row) => `(${row.values.map((value) => `$${values.push(value)}`).join(", ")})`);
  return { sql: `INSERT INTO ${into} VALUES ${places.join(", ")} ON CONFLICT (event_id) DO NOTHING`, values };
}

/** The newest is the first. */
function remember<T>(known: T[], one: T): void {
  known.unshift(one);
  if (known.length > MAX_KNOWN) known.pop();
}

/**
 * Not what has begun since: it may be there already, when a transaction whose answer was lost is made again.
 *
 * @param known began before, whatever the clock said.
 */
function ending(
  deploymentId: string,
  status: string,
  at: string,
  known: string | null,
  why: string | null = null,
): Statement {
  return {
    sql: `UPDATE scaling_events SET status = $1, completed_at = $2, error_message = $5
          WHERE deployment_id = $3 AND status = 'in_progress' AND (initiated_at < $2 OR event_id = $4)`,
    values: [status, at, deploymentId, known, why],
  };
}

function scalingIn(row: Row): ScalingEvent {
  return {
    eventId: row.event_id as string,
    deploymentId: row.deployment_id as string,
    tenantId: row.tenant_id as string,
    scalingType: row.scaling_type as ScalingEvent["scalingType"],
    fromReplicas: row.from_replicas as number,
    toReplicas: row.to_replicas as number,
    triggerReason: (row.trigger_reason as string | null) ?? "",
    triggerMetrics: JSON.parse((row.trigger_metrics as string | null) ?? "{}") as Record<string, number>,
    status: row.status as ScalingEvent["status"],
    errorMessage: row.error_message as string | null,
    initiatedAt: row.initiated_at as string,
    completedAt: row.completed_at as string | null,
  };
}

function eventIn(row: Row): DeploymentEvent {
  return {
    deploymentId: row.deployment_id as string,
    at: row.at as string,
    type: row.type as string,
    reason: row.reason as string,
    message: row.message as string,
  };
}
