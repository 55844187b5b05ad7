/** What is on disk, as somebody sees it who has nothing to do with the daemon but the file. */
import { createHash } from "node:crypto";
import { DatabaseSync } from "node:sqlite";
import type { EpochMs } from "../../src/core/base/time.ts";
import type { Event } from "../../src/core/host/events.ts";
import type { AllocationId, GpuUuid } from "../../src/core/model/ids.ts";
import type { StoredState } from "../../src/ports/store.ts";
import type { NotificationStatus } from "../../src/ports/webhooks.ts";
import { readState } from "../../src/store/read-state.ts";
import { ALLOCATION_COLUMNS, type AllocationRow, decodeAllocation, decodeState } from "../../src/store/records.ts";
import { prepareReads, type Reads } from "../../src/store/statements.ts";
import type { Snapshot } from "../../src/store/store.ts";

/** One row of the journal. */
export interface JournalTurn {
  /** Of its last event. */
  readonly seq: number;
  readonly at: EpochMs;
  readonly events: readonly Event[];
  /** What they came of, as it is stored. */
  readonly inputs: string | null;
}

export interface OutboxRow {
  readonly seq: number;
  readonly delivery_id: string;
  /** `null`: it tells the operator of a GPU. */
  readonly allocation_id: AllocationId | null;
  readonly status: NotificationStatus;
  readonly url: string;
  readonly body: string;
  readonly state: "pending" | "delivered" | "gave-up" | "withdrawn";
}

const OUTBOX_COLUMNS = "seq, delivery_id, allocation_id, status, url, body, state";

/** What guards a GPU of a live lease. */
export interface LeaseRow {
  readonly gpu_uuid: GpuUuid;
  readonly allocation_id: AllocationId;
  /** `null`: exclusive. */
  readonly shared_mib: number | null;
}

export class DurableView {
  readonly #database: DatabaseSync;
  readonly #reads: Reads;
  readonly #turns;
  readonly #outbox;
  readonly #delivery;
  readonly #pending;
  readonly #lastOutboxSeq;
  readonly #allocation;
  readonly #leases;
  readonly #version;
  readonly #snapshot;
  readonly #tables;

  constructor(file: string) {
    this.#database = new DatabaseSync(file, { readOnly: true });
    const sql = (text: string) => this.#database.prepare(text);
    this.#reads = prepareReads(this.#database);
    this.#turns = sql("SELECT seq, at, events, inputs FROM journal WHERE seq > ? ORDER BY seq");
    this.#outbox = sql(`SELECT ${OUTBOX_COLUMNS} FROM outbox WHERE seq > ? ORDER BY seq`);
    this.#delivery = sql(`SELECT ${OUTBOX_COLUMNS} FROM outbox WHERE delivery_id = ?`);
    this.#pending = sql(`SELECT ${OUTBOX_COLUMNS} FROM outbox WHERE next_attempt_at IS NOT NULL ORDER BY seq`);
    this.#lastOutboxSeq = sql("SELECT ifnull(max(seq), 0) AS seq FROM outbox");
    this.#allocation = sql(`SELECT ${ALLOCATION_COLUMNS} FROM allocations WHERE id = ?`);
    this.#leases = sql("SELECT gpu_uuid, allocation_id, shared_mib FROM live_leases ORDER BY gpu_uuid");
    this.#version = sql("PRAGMA data_version");
    this.#snapshot = sql("SELECT seq, at, state FROM snapshots ORDER BY seq DESC LIMIT 1");
    this.#tables = sql("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name");
  }

  close(): void {
    this.#database.close();
  }

  /** Changes whenever another connection has committed something (sqlite.org/pragma.html#pragma_data_version). */
  version(): number {
    return (this.#version.get() as { data_version: number }).data_version;
  }

  state(): StoredState {
    return readState(this.#reads);
  }

  turnsAfter(seq: number): JournalTurn[] {
    const rows = this.#turns.all(seq) as unknown as (Omit<JournalTurn, "events"> & { events: string })[];
    return rows.map((row) => ({ ...row, events: JSON.parse(row.events) }));
  }

  snapshot(): Snapshot | null {
    const row = this.#snapshot.get() as { seq: number; at: number; state: string } | undefined;
    return row === undefined ? null : { seq: row.seq, at: row.at, state: decodeState(row.state) };
  }

  allocation(id: AllocationId) {
    const row = this.#allocation.get(id) as AllocationRow | undefined;
    return row === undefined ? undefined : decodeAllocation(row);
  }

  /** Of which allocation each GPU is, as the database itself guards it. */
  leases(): readonly LeaseRow[] {
    return this.#leases.all() as unknown as LeaseRow[];
  }

  outboxAfter(seq: number): OutboxRow[] {
    return this.#outbox.all(seq) as unknown as OutboxRow[];
  }

  delivery(id: string): OutboxRow | undefined {
    return this.#delivery.get(id) as OutboxRow | undefined;
  }

  pendingDeliveries(): OutboxRow[] {
    return this.#pending.all() as unknown as OutboxRow[];
  }

  lastOutboxSeq(): number {
    return (this.#lastOutboxSeq.get() as { seq: number }).seq;
  }

  keptKeyAt(principal: string, key: string): EpochMs | null {
    const row = this.#reads.key.get(principal, key) as { at: number } | undefined;
    return row?.at ?? null;
  }

  /** SHA-256 over every row of every table. */
  digest(): string {
    const hash = createHash("sha256");
    for (const { name } of this.#tables.all() as { name: string }[]) {
      hash.update(JSON.stringify(this.#database.prepare(`SELECT * FROM "${name}" ORDER BY 1, 2`).all()));
    }
    return hash.digest("hex");
  }
}
