/**
 * Objects in a database: the truth of the backend `host`.
 *
 *  1. What is read comes from memory, also while the database is away.
 *  2. What a caller changes is in the database before the caller is told; without the database it is refused. A status is
 *     what a look has found: it is known at once, and written when the database takes it.
 *  3. Of two who change an object at the same time one begins again: its version tells.
 *  4. In PostgreSQL others write, too: {@link DatabaseObjects.refresh} reads what they have changed.
 */
import { randomUUID } from "node:crypto";
import { ControllerError } from "../objects/errors.ts";
import { legibleModelStatus, legibleStatus } from "../objects/legible.ts";
import { keyOf, type Metadata } from "../objects/meta.ts";
import type { Model, ModelSpec, ModelStatus } from "../objects/model.ts";
import type { Revision } from "../objects/revision.ts";
import type { Created, Objects, RequestKey, WorkloadDraft } from "../objects/store.ts";
import type { Workload, WorkloadStatus } from "../objects/workload.ts";
import { type Database, DatabaseError, type Row, type Statement } from "./database.ts";

/** Of a change that others were quicker than. */
const ATTEMPTS = 5;
const KEY_LIFE_MS = 86_400_000;

type Kind = "LLMWorkload" | "LLMModel" | "ControllerRevision";
interface Kept {
  readonly metadata: Metadata;
  readonly spec: unknown;
  readonly status: unknown;
}
interface KnownKey {
  readonly fingerprint: string;
  readonly id: string;
  readonly at: number;
}

/** It locks the row for the transaction: versions become visible in the order in which they were given. */
const NEXT_VERSION: Statement = { sql: "UPDATE versions SET last = last + 1 WHERE one = 1" };
const VERSION = "(SELECT last FROM versions WHERE one = 1)";

export class DatabaseObjects implements Objects {
  readonly #database: Database;
  readonly #workloads = new Map<string, Workload>();
  readonly #models = new Map<string, Model>();
  /** By uid of their workload. */
  readonly #revisions = new Map<string, readonly Revision[]>();
  readonly #keys = new Map<string, KnownKey>();
  readonly #listeners = new Set<() => void>();
  /** By key of workloads whose status is newer here than in the database. */
  readonly #unwritten = new Set<string>();
  /** Up to which the database was read; `null`: not yet. */
  #version: number | null = null;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Before that nothing is known of what is wanted. */
  get isLoaded(): boolean {
    return this.#version !== null;
  }

  /** Reads what was changed since the last time, by others or before this process began. @throws ControllerError */
  async refresh(): Promise<void> {
    const [[versions] = []] = await this.#stored([{ sql: "SELECT last FROM versions WHERE one = 1" }]);
    const last = Number(versions?.last ?? 0);
    if (last === this.#version) return;
    const [changed = [], there = [], keys = []] = await this.#stored([
      { sql: "SELECT * FROM objects WHERE version > $1", values: [this.#version ?? -1] },
      { sql: "SELECT kind, namespace, name FROM objects" },
      { sql: "SELECT * FROM idempotency_keys WHERE at > $1", values: [Date.now() - KEY_LIFE_MS] },
    ]);
    for (const row of changed) {
      if (row.kind === "ControllerRevision") this.#learn(String(row.uid), partIn(row.spec) as Revision);
      else this.#keepRow(row);
    }
    this.#dropOthers(new Set(there.map((row) => `${row.kind} ${row.namespace}/${row.name}`)), last);
    for (const { principal, key, fingerprint, id, at } of keys) {
      const known = { fingerprint: String(fingerprint), id: String(id), at: Number(at) };
      this.#keys.set(JSON.stringify([principal, key]), known);
    }
    this.#version = last;
    this.#tell();
  }

  /** What is not in the database any more; what this one has made since `last` was read is not there yet. */
  #dropOthers(there: ReadonlySet<string>, last: number): void {
    const isGone = (kind: Kind, { metadata }: { readonly metadata: Metadata }) =>
      Number(metadata.resourceVersion) <= last && !there.has(`${kind} ${keyOf(metadata)}`);
    for (const [key, one] of this.#workloads) if (isGone("LLMWorkload", one)) this.#workloads.delete(key);
    for (const [key, one] of this.#models) if (isGone("LLMModel", one)) this.#models.delete(key);
    const uids = new Set([...this.#workloads.values()].map(({ metadata }) => metadata.uid));
    for (const uid of this.#revisions.keys()) if (!uids.has(uid)) this.#revisions.delete(uid);
  }

  workloads(): readonly Workload[] {
    return [...this.#workloads.values()].sort((a, b) => (keyOf(a.metadata) < keyOf(b.metadata) ? -1 : 1));
  }

  models(): readonly Model[] {
    return [...this.#models.values()].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  }

  async put(draft: WorkloadDraft): Promise<Workload> {
    return (await this.create(draft, null)).workload;
  }

  async create(draft: WorkloadDraft, key: RequestKey | null): Promise<Created> {
    this.#demandLoaded();
    for (let attempt = 1; ; attempt++) {
      const old = this.#workloads.get(keyOf(draft));
      if (old !== undefined && old.metadata.deletionTimestamp !== null) {
        throw new ControllerError("conflict", `${keyOf(draft)} is being deleted`);
      }
      const made = await this.#tryPut(draft, old, key);
      if (made !== null) return { workload: this.#told(made), isNew: true };
      await this.#refreshAll();
      const known = key === null ? undefined : this.recall(key.principal, key.key);
      if (known !== undefined && key !== null) return { workload: this.#madeBy(key, known), isNew: false };
      if (attempt === ATTEMPTS) throw new ControllerError("conflict", `${keyOf(draft)} is changed by others meanwhile`);
    }
  }

  /** @returns null when somebody else was quicker. */
  async #tryPut(draft: WorkloadDraft, old: Workload | undefined, key: RequestKey | null): Promise<Workload | null> {
    const isSame = old !== undefined && JSON.stringify(old.spec) === JSON.stringify(draft.spec);
    const metadata = metadataOf(draft, old?.metadata, isSame);
    const kept = key === null ? [] : keeping(key, draft.name);
    const row = await this.#written(writing("LLMWorkload", metadata, draft.spec, old?.metadata), kept);
    if (row === null) return null;
    if (key !== null) {
      const { principal, key: name, fingerprint } = key;
      this.#keys.set(JSON.stringify([principal, name]), { fingerprint, id: draft.name, at: Date.now() });
    }
    return this.#keepRow(row) as Workload;
  }

  #madeBy(key: RequestKey, known: { readonly fingerprint: string; readonly ids: readonly string[] }): Workload {
    const workload = this.workloads().find(({ metadata }) => metadata.name === known.ids[0]);
    if (workload !== undefined && known.fingerprint === key.fingerprint) return workload;
    throw new ControllerError("conflict", "another request was made under this Idempotency-Key");
  }

  recall(principal: string, key: string): { fingerprint: string; ids: readonly string[] } | undefined {
    const known = this.#keys.get(JSON.stringify([principal, key]));
    if (known === undefined || known.at <= Date.now() - KEY_LIFE_MS) return undefined;
    return { fingerprint: known.fingerprint, ids: [known.id] };
  }

  async putModel(name: string, labels: Metadata["labels"], spec: ModelSpec): Promise<Model> {
    this.#demandLoaded();
    for (let attempt = 1; ; attempt++) {
      const old = this.#models.get(name)?.metadata;
      const isSame = old !== undefined && JSON.stringify(this.#models.get(name)?.spec) === JSON.stringify(spec);
      const metadata = metadataOf({ namespace: "", name, labels, annotations: {} }, old, isSame);
      const row = await this.#written(writing("LLMModel", metadata, spec, old));
      if (row !== null) return this.#told(this.#keepRow(row)) as Model;
      if (attempt === ATTEMPTS) throw new ControllerError("conflict", `${name} is changed by others meanwhile`);
      await this.#refreshAll();
    }
  }

  async putStatus({ metadata }: Workload, status: WorkloadStatus): Promise<void> {
    const key = keyOf(metadata);
    // What somebody has changed meanwhile stays: only the status is ours to write.
    const now = this.#workloads.get(key);
    if (now === undefined || now.metadata.uid !== metadata.uid) return;
    this.#workloads.set(key, { ...now, status });
    this.#unwritten.add(key);
    await this.writeStatuses();
  }

  /** One that cannot be written is worked out again at the next look. @throws ControllerError */
  async putModelStatus({ metadata: { name, uid } }: Model, status: ModelStatus): Promise<void> {
    const sql = `UPDATE objects SET status = $1, version = ${VERSION}
                 WHERE kind = 'LLMModel' AND namespace = '' AND name = $2 AND uid = $3 RETURNING *`;
    const [, [row] = []] = await this.#stored([NEXT_VERSION, { sql, values: [JSON.stringify(status), name, uid] }]);
    if (row !== undefined) this.#keepRow(row);
  }

  /** Those that could not be written before. One that cannot be now is tried again at the next call. */
  async writeStatuses(): Promise<void> {
    for (const key of this.#unwritten) {
      const workload = this.#workloads.get(key);
      this.#unwritten.delete(key);
      if (workload === undefined) continue;
      const { metadata, status } = workload;
      try {
        const [, [row] = []] = await this.#database.run([
          NEXT_VERSION,
          {
            sql: `UPDATE objects SET status = $1, version = ${VERSION}
                  WHERE kind = 'LLMWorkload' AND namespace = $2 AND name = $3 AND uid = $4 RETURNING version`,
            values: [JSON.stringify(status), metadata.namespace, metadata.name, metadata.uid],
          },
        ]);
        const now = this.#workloads.get(key);
        if (row === undefined || now?.metadata.uid !== metadata.uid) continue;
        this.#workloads.set(key, { ...now, metadata: { ...now.metadata, resourceVersion: String(row.version) } });
      } catch {
        this.#unwritten.add(key);
        return;
      }
    }
  }

  /** Another controller decides now, and its statuses are the truth. */
  dropUnwritten(): void {
    this.#unwritten.clear();
  }

  async remove({ metadata }: Workload): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const now = this.#workloads.get(keyOf(metadata));
      if (now === undefined || now.metadata.deletionTimestamp !== null) return;
      const marked = { ...now.metadata, deletionTimestamp: new Date().toISOString() };
      const row = await this.#written(writing("LLMWorkload", marked, now.spec, now.metadata));
      if (row !== null) {
        this.#told(this.#keepRow(row));
        return;
      }
      if (attempt === ATTEMPTS)
        throw new ControllerError("conflict", `${metadata.name} is changed by others meanwhile`);
      await this.#refreshAll();
    }
  }

  async removeModel({ metadata }: Model): Promise<void> {
    await this.#drop("LLMModel", metadata);
    this.#models.delete(metadata.name);
    this.#tell();
  }

  async forget({ metadata }: Workload): Promise<void> {
    const { uid } = metadata;
    await this.#stored([{ sql: "DELETE FROM objects WHERE kind = 'ControllerRevision' AND uid = $1", values: [uid] }]);
    await this.#drop("LLMWorkload", metadata);
    this.#revisions.delete(uid);
    this.#workloads.delete(keyOf(metadata));
    this.#tell();
  }

  revisions({ metadata: { uid } }: Workload): readonly Revision[] {
    return this.#revisions.get(uid) ?? [];
  }

  async keepRevision({ metadata }: Workload, revision: Revision): Promise<void> {
    const { namespace, uid } = metadata;
    const name = `${metadata.name}-${revision.name}`;
    const sql = `INSERT INTO objects (kind, namespace, name, uid, metadata, spec, status, version)
                 VALUES ('ControllerRevision', $1, $2, $3, $4, $5, '{}', ${VERSION})
                 ON CONFLICT (kind, namespace, name) DO UPDATE
                 SET uid = excluded.uid, spec = excluded.spec, version = excluded.version`;
    const values = [namespace, name, uid, JSON.stringify({ name, namespace, uid }), JSON.stringify(revision)];
    await this.#stored([NEXT_VERSION, { sql, values }]);
    this.#learn(uid, revision);
  }

  async dropRevision({ metadata: { namespace, name, uid } }: Workload, revision: Revision): Promise<void> {
    const sql = "DELETE FROM objects WHERE kind = 'ControllerRevision' AND namespace = $1 AND name = $2";
    await this.#stored([NEXT_VERSION, { sql, values: [namespace, `${name}-${revision.name}`] }]);
    const left = (this.#revisions.get(uid) ?? []).filter((one) => one.name !== revision.name);
    this.#revisions.set(uid, left);
  }

  #learn(uid: string, revision: Revision): void {
    const others = (this.#revisions.get(uid) ?? []).filter(({ name }) => name !== revision.name);
    this.#revisions.set(uid, [...others, revision]);
  }

  subscribe(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => this.#listeners.delete(changed);
  }

  /** Keys beyond their time go. */
  async prune(now: number): Promise<void> {
    for (const [name, { at }] of this.#keys) if (at <= now - KEY_LIFE_MS) this.#keys.delete(name);
    await this.#stored([{ sql: "DELETE FROM idempotency_keys WHERE at <= $1", values: [now - KEY_LIFE_MS] }]);
  }

  /** @returns the object as it is then; null when somebody else was quicker. */
  async #written(statement: Statement, more: readonly Statement[] = []): Promise<Row | null> {
    try {
      const [, [row = null] = []] = await this.#database.run([NEXT_VERSION, statement, ...more]);
      return row;
    } catch (error) {
      if (error instanceof DatabaseError && error.kind === "taken") return null;
      throw asStorageError(error);
    }
  }

  #demandLoaded(): void {
    if (!this.isLoaded) throw new ControllerError("storage-unavailable", "the database has not been read yet");
  }

  async #drop(kind: Kind, { namespace, name, uid }: Metadata): Promise<void> {
    const sql = "DELETE FROM objects WHERE kind = $1 AND namespace = $2 AND name = $3 AND uid = $4";
    await this.#stored([NEXT_VERSION, { sql, values: [kind, namespace, name, uid] }]);
  }

  /** Also what was changed without a new version being seen: somebody was quicker. */
  async #refreshAll(): Promise<void> {
    this.#version = -1;
    await this.refresh();
  }

  /** What is known here already in a newer version stays, and so does a status that is still to be written. */
  #keepRow(row: Row): Workload | Model {
    const kind = row.kind as Kind;
    const metadata = metadataIn(row);
    const legible = kind === "LLMWorkload" ? legibleStatus : legibleModelStatus;
    const object: Kept = { metadata, spec: partIn(row.spec), status: legible(partIn(row.status)) };
    const key = kind === "LLMWorkload" ? keyOf(metadata) : metadata.name;
    const kept = kind === "LLMWorkload" ? this.#workloads : this.#models;
    const known = kept.get(key);
    if (known !== undefined && Number(known.metadata.resourceVersion) > Number(row.version)) return known;
    if (kind === "LLMModel") {
      this.#models.set(key, object as Model);
      return object as Model;
    }
    const isNewer = this.#unwritten.has(key) && known?.metadata.uid === metadata.uid;
    const workload = (isNewer ? { ...object, status: (known as Workload).status } : object) as Workload;
    this.#workloads.set(key, workload);
    return workload;
  }

  async #stored(statements: readonly Statement[]): Promise<readonly (readonly Row[])[]> {
    try {
      return await this.#database.run(statements);
    } catch (error) {
      throw asStorageError(error);
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

/** What a hand in the database has made unreadable is as nothing: its workload is not accepted, and all others go on. */
function partIn(text: unknown): object {
  try {
    const said: unknown = JSON.parse(String(text));
    return typeof said === "object" && said !== null ? said : {};
  } catch {
    return {};
  }
}

function metadataIn({ metadata, name, namespace, uid, version }: Row): Metadata {
  const { generation, labels, annotations, creationTimestamp, deletionTimestamp } = partIn(
    metadata,
  ) as Partial<Metadata>;
  return {
    ...{ name: String(name), namespace: String(namespace), uid: String(uid), resourceVersion: String(version) },
    generation: generation ?? 1,
    labels: labels ?? {},
    annotations: annotations ?? {},
    creationTimestamp: creationTimestamp ?? new Date(0).toISOString(),
    deletionTimestamp: deletionTimestamp ?? null,
  };
}

function asStorageError(error: unknown): unknown {
  if (!(error instanceof DatabaseError)) return error;
  return new ControllerError("storage-unavailable", `the change could not be stored: ${error.message}`);
}

/** Its rows are the object as it is then; none: it is not what it was. */
function writing(kind: Kind, metadata: Metadata, spec: unknown, old: Metadata | undefined): Statement {
  const { namespace, name, uid } = metadata;
  const values = [kind, namespace, name, uid, JSON.stringify(metadata), JSON.stringify(spec)];
  if (old === undefined) {
    const sql = `INSERT INTO objects (kind, namespace, name, uid, metadata, spec, status, version)
                 VALUES ($1, $2, $3, $4, $5, $6, '{}', ${VERSION}) RETURNING *`;
    return { sql, values };
  }
  const sql = `UPDATE objects SET uid = $4, metadata = $5, spec = $6, version = ${VERSION}
               WHERE kind = $1 AND namespace = $2 AND name = $3 AND version = $7 RETURNING *`;
  return { sql, values: [...values, Number(old.resourceVersion)] };
}

/** One that is beyond its time makes room; one that is not, fails the whole. */
function keeping({ principal, key, fingerprint }: RequestKey, id: string): Statement[] {
  const now = Date.now();
  return [
    {
      sql: `DELETE FROM idempotency_keys WHERE principal = $1 AND "key" = $2 AND at <= $3`,
      values: [principal, key, now - KEY_LIFE_MS],
    },
    {
      sql: `INSERT INTO idempotency_keys (principal, "key", fingerprint, at, id) VALUES ($1, $2, $3, $4, $5)`,
      values: [principal, key, fingerprint, now, id],
    },
  ];
}

function metadataOf(
  { namespace, name, labels, annotations }: Omit<WorkloadDraft, "spec">,
  old: Metadata | undefined,
  isSameSpec: boolean,
): Metadata {
  return {
    name,
    namespace,
    uid: old?.uid ?? randomUUID(),
    generation: (old?.generation ?? 0) + (isSameSpec ? 0 : 1),
    // Its row's version says.
    resourceVersion: "",
    labels,
    annotations,
    creationTimestamp: old?.creationTimestamp ?? new Date().toISOString(),
    deletionTimestamp: null,
  };
}
