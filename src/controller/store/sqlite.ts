/** Objects and their history in one SQLite file: the truth of the backend `host`. */
import { randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { ControllerError } from "../objects/errors.ts";
import { keyOf, type Metadata } from "../objects/meta.ts";
import type { Model, ModelSpec } from "../objects/model.ts";
import type {
  Created,
  DeploymentEvent,
  History,
  Objects,
  RequestKey,
  ScalingBegun,
  ScalingEvent,
  WorkloadDraft,
} from "../objects/store.ts";
import type { Workload, WorkloadStatus } from "../objects/workload.ts";
import { MIGRATIONS } from "./migrations.ts";

/** Marks the file as ours, in the header's application id: the letters `GpuC`. */
const APPLICATION_ID = 0x47707543;
const BUSY_TIMEOUT_MS = 500;
/** Ended history stays for so long. */
const HISTORY_MS = 90 * 86_400_000;

const KEY_LIFE_MS = 86_400_000;

type Kind = "LLMWorkload" | "LLMModel";
interface Row {
  readonly kind: Kind;
  readonly metadata: string;
  readonly spec: string;
  readonly status: string;
}

export class SqliteObjects implements Objects, History {
  readonly #database: DatabaseSync;
  readonly #workloads = new Map<string, Workload>();
  readonly #models = new Map<string, Model>();
  readonly #listeners = new Set<() => void>();

  /**
   * Opens or makes the file at `path`, or `:memory:`.
   *
   * @throws Error when it is another program's, or of a newer version.
   */
  constructor(path: string) {
    if (path !== ":memory:") mkdirSync(dirname(resolve(path)), { recursive: true, mode: 0o750 });
    this.#database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
    try {
      this.#database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF");
      migrate(this.#database, path);
      for (const row of this.#database.prepare("SELECT * FROM objects").all() as unknown as Row[]) this.#keep(row);
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  close(): void {
    this.#database.close();
  }

  workloads(): readonly Workload[] {
    return [...this.#workloads.values()].sort((a, b) => (keyOf(a.metadata) < keyOf(b.metadata) ? -1 : 1));
  }

  models(): readonly Model[] {
    return [...this.#models.values()].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  }

  put(draft: WorkloadDraft): Promise<Workload> {
    return this.#put(draft, null);
  }

  async create(draft: WorkloadDraft, key: RequestKey | null): Promise<Created> {
    return { workload: await this.#put(draft, key), isNew: true };
  }

  async #put(draft: WorkloadDraft, key: RequestKey | null): Promise<Workload> {
    const old = this.#workloads.get(keyOf(draft));
    if (old !== undefined && old.metadata.deletionTimestamp !== null) {
      throw new ControllerError("conflict", `${keyOf(draft)} is being deleted`);
    }
    const isSame = old !== undefined && JSON.stringify(old.spec) === JSON.stringify(draft.spec);
    const metadata = this.#metadata(draft, old?.metadata, isSame);
    this.#guarded(() => this.#database.exec("BEGIN IMMEDIATE"));
    try {
      const made = this.#write("LLMWorkload", { metadata, spec: draft.spec, status: old?.status ?? {} }) as Workload;
      if (key !== null) this.#keepKey(key, draft.name);
      this.#guarded(() => this.#database.exec("COMMIT"));
      return this.#told(made);
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      if (old === undefined) this.#workloads.delete(keyOf(draft));
      else this.#workloads.set(keyOf(draft), old);
      throw error;
    }
  }

  #keepKey({ principal, key, fingerprint }: RequestKey, id: string): void {
    this.#run(
      "INSERT OR REPLACE INTO idempotency_keys VALUES (?, ?, ?, ?, ?)",
      principal,
      key,
      fingerprint,
      Date.now(),
      id,
    );
  }

  recall(principal: string, key: string): { fingerprint: string; ids: readonly string[] } | undefined {
    const row = this.#database
      .prepare("SELECT fingerprint, id FROM idempotency_keys WHERE principal = ? AND key = ? AND at > ?")
      .get(principal, key, Date.now() - KEY_LIFE_MS) as { fingerprint: string; id: string } | undefined;
    return row === undefined ? undefined : { fingerprint: row.fingerprint, ids: [row.id] };
  }

  async putModel(name: string, labels: Metadata["labels"], spec: ModelSpec): Promise<Model> {
    const old = this.#models.get(name)?.metadata;
    const metadata = this.#metadata({ namespace: "", name, labels, annotations: {} }, old, false);
    return this.#told(this.#write("LLMModel", { metadata, spec, status: {} })) as Model;
  }

  async putStatus({ metadata }: Workload, status: WorkloadStatus): Promise<void> {
    // What somebody has changed meanwhile stays: only the status is ours to write.
    const now = this.#workloads.get(keyOf(metadata));
    if (now === undefined || now.metadata.uid !== metadata.uid) return;
    this.#write("LLMWorkload", { ...now, metadata: { ...now.metadata, resourceVersion: this.#version() }, status });
  }

  async remove({ metadata }: Workload): Promise<void> {
    const now = this.#workloads.get(keyOf(metadata));
    if (now === undefined || now.metadata.deletionTimestamp !== null) return;
    const deletionTimestamp = new Date().toISOString();
    this.#told(this.#write("LLMWorkload", { ...now, metadata: { ...now.metadata, deletionTimestamp } }));
  }

  async removeModel({ metadata }: Model): Promise<void> {
    this.#drop("LLMModel", metadata);
    this.#models.delete(metadata.name);
    this.#tell();
  }

  async forget({ metadata }: Workload): Promise<void> {
    this.#drop("LLMWorkload", metadata);
    this.#workloads.delete(keyOf(metadata));
    this.#tell();
  }

  subscribe(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => this.#listeners.delete(changed);
  }

  beginScaling(event: ScalingBegun): void {
    this.endScaling(event.deploymentId, "cancelled", event.initiatedAt);
    const { eventId, deploymentId, tenantId, scalingType, fromReplicas, toReplicas, triggerReason } = event;
    this.#run(
      `INSERT INTO scaling_events (event_id, deployment_id, tenant_id, scaling_type, from_replicas, to_replicas,
       trigger_reason, trigger_metrics, status, initiated_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'in_progress', ?)`,
      ...[eventId, deploymentId, tenantId, scalingType, fromReplicas, toReplicas, triggerReason],
      ...[JSON.stringify(event.triggerMetrics), event.initiatedAt],
    );
  }

  endScaling(deploymentId: string, status: ScalingEvent["status"], at: string): void {
    this.#run(
      `UPDATE scaling_events SET status = ?, completed_at = ? WHERE deployment_id = ? AND status = 'in_progress'`,
      ...[status, at, deploymentId],
    );
  }

  scalings({ deploymentId, limit }: { readonly deploymentId?: string; readonly limit: number }): ScalingEvent[] {
    const rows = this.#database
      .prepare("SELECT * FROM scaling_events WHERE ? IS NULL OR deployment_id = ? ORDER BY id DESC LIMIT ?")
      .all(deploymentId ?? null, deploymentId ?? null, limit);
    return rows.map((row) => ({
      eventId: row.event_id as string,
      deploymentId: row.deployment_id as string,
      tenantId: row.tenant_id as string,
      scalingType: row.scaling_type as ScalingEvent["scalingType"],
      fromReplicas: row.from_replicas as number,
      toReplicas: row.to_replicas as number,
      triggerReason: row.trigger_reason as string,
      triggerMetrics: JSON.parse(row.trigger_metrics as string) as Record<string, number>,
      status: row.status as ScalingEvent["status"],
      errorMessage: row.error_message as string | null,
      initiatedAt: row.initiated_at as string,
      completedAt: row.completed_at as string | null,
    }));
  }

  addEvent({ deploymentId, at, type, reason, message }: DeploymentEvent): void {
    this.#run(
      "INSERT INTO deployment_events (deployment_id, at, type, reason, message) VALUES (?, ?, ?, ?, ?)",
      ...[deploymentId, at, type, reason, message],
    );
  }

  events(deploymentId: string, limit: number): DeploymentEvent[] {
    return this.#database
      .prepare(
        `SELECT deployment_id AS deploymentId, at, type, reason, message FROM deployment_events
         WHERE deployment_id = ? ORDER BY id DESC LIMIT ?`,
      )
      .all(deploymentId, limit) as unknown as DeploymentEvent[];
  }

  /** Ended history beyond its time goes. */
  prune(now: number): void {
    const before = new Date(now - HISTORY_MS).toISOString();
    this.#run("DELETE FROM idempotency_keys WHERE at <= ?", now - KEY_LIFE_MS);
    this.#run("DELETE FROM deployment_events WHERE at < ?", before);
    this.#run("DELETE FROM scaling_events WHERE status <> 'in_progress' AND initiated_at < ?", before);
  }

  #metadata(
    { namespace, name, labels, annotations }: Omit<WorkloadDraft, "spec">,
    old: Metadata | undefined,
    isSameSpec: boolean,
  ): Metadata {
    return {
      name,
      namespace,
      uid: old?.uid ?? randomUUID(),
      generation: (old?.generation ?? 0) + (isSameSpec ? 0 : 1),
      resourceVersion: this.#version(),
      labels,
      annotations,
      creationTimestamp: old?.creationTimestamp ?? new Date().toISOString(),
      deletionTimestamp: null,
    };
  }

  #version(): string {
    const row = this.#guarded(() =>
      this.#database.prepare("UPDATE versions SET last = last + 1 RETURNING last").get(),
    ) as { last: number };
    return String(row.last);
  }

  #write(kind: Kind, object: { metadata: Metadata; spec: unknown; status: unknown }): Workload | Model {
    const row: Row = {
      kind,
      metadata: JSON.stringify(object.metadata),
      spec: JSON.stringify(object.spec),
      status: JSON.stringify(object.status),
    };
    const { namespace, name } = object.metadata;
    this.#run(
      "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)",
      ...[kind, namespace, name, row.metadata, row.spec, row.status],
    );
    return this.#keep(row);
  }

  #keep({ kind, metadata, spec, status }: Row): Workload | Model {
    const object = { metadata: JSON.parse(metadata), spec: JSON.parse(spec), status: JSON.parse(status) };
    if (kind === "LLMWorkload") this.#workloads.set(keyOf(object.metadata), object as Workload);
    else this.#models.set(object.metadata.name, object as Model);
    return object;
  }

  #drop(kind: Kind, { namespace, name }: Metadata): void {
    this.#run("DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?", kind, namespace, name);
  }

  #run(sql: string, ...values: SQLInputValue[]): void {
    this.#guarded(() => this.#database.prepare(sql).run(...values));
  }

  #guarded<T>(act: () => T): T {
    try {
      return act();
    } catch (error) {
      throw new ControllerError("storage-unavailable", `the change could not be stored: ${(error as Error).message}`);
    }
  }

  #tell(): void {
    for (const changed of this.#listeners) changed();
  }

  /** Not of a status: whoever writes one has just looked. */
  #told<T>(object: T): T {
    this.#tell();
    return object;
  }
}

function migrate(database: DatabaseSync, path: string): void {
  const pragma = (name: string) => Object.values(database.prepare(`PRAGMA ${name}`).get() as object)[0] as number;
  const version = pragma("user_version");
  const isForeign = pragma("application_id") !== APPLICATION_ID && (version > 0 || pragma("page_count") > 0);
  if (isForeign && database.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get() !== undefined) {
    throw new Error(`${path} is no database of the controller`);
  }
  if (version > MIGRATIONS.length) {
    throw new Error(`${path} is of a newer version (${version}; this one knows ${MIGRATIONS.length})`);
  }
  for (const [index, sql] of MIGRATIONS.slice(version).entries()) {
    database.exec("BEGIN IMMEDIATE");
    database.exec(sql);
    database.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${version + index + 1}`);
    database.exec("COMMIT");
  }
}
