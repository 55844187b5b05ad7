/**
 * What is told to others when a task has ended: a webhook, and the upload of its result. Each is written down with the
 * end that it tells of, in one transaction; the daemon's deliverer sends it.
 */
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { at } from "../work/documents/shape.ts";
import type { WorkEvent } from "../work/events.ts";
import type { Task } from "../work/model.ts";
import type { WorkState } from "../work/state.ts";
import { instant, taskView } from "./views.ts";

/** `ended`: a webhook of the status it ended with; `result`: what it wrote, to `output.destination`. */
type Kind = "ended" | "result";

export interface TaskDelivery {
  /** The `webhook-id`, the same at every attempt. */
  readonly id: string;
  readonly task: string;
  readonly kind: Kind;
  readonly principal: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** `null`: the task's result, as it is when it is sent. */
  readonly body: string | null;
  readonly createdAt: number;
  readonly attempts: number;
  readonly nextAttemptAt: number;
}

export interface TaskSettlement {
  readonly id: string;
  readonly at: number;
  readonly outcome: "delivered" | "retry" | "gave-up";
  readonly nextAttemptAt: number | null;
  readonly httpStatus: number | null;
  readonly error: string | null;
}

/** What became of one so far. */
export interface DeliveryRecord {
  readonly kind: Kind;
  readonly state: "pending" | "delivered" | "gave-up";
  readonly attempts: number;
  readonly nextAttemptAt: number | null;
  readonly httpStatus: number | null;
  readonly error: string | null;
}

/**
 * Those that the events of one turn call for. A task that a controller has given is told of by the controller.
 *
 * @param uploadsItself executors whose workers send the result themselves, as MLOC's do.
 */
export function deliveriesFor(
  events: readonly WorkEvent[],
  state: WorkState,
  now: number,
  uploadsItself: ReadonlySet<string> = new Set(),
): TaskDelivery[] {
  return events.flatMap((event) => {
    const task = event.type === "task-ended" ? state.tasks.get(event.id) : undefined;
    if (task === undefined || task.origin !== undefined) return [];
    const common = { task: task.id, principal: task.owner, createdAt: now, attempts: 0, nextAttemptAt: now };
    const told: TaskDelivery[] = [];
    if (task.webhookUrl !== null) {
      const body = JSON.stringify(webhookBody(state, task));
      told.push({ ...common, id: `${task.id}-ended`, kind: "ended", url: task.webhookUrl, headers: {}, body });
    }
    const destination = destinationOf(task);
    if (destination !== null && task.status === "DONE" && !uploadsItself.has(task.spec.executor)) {
      told.push({ ...common, ...destination, id: `${task.id}-result`, kind: "result", body: null });
    }
    return told;
  });
}

/** So begins what is wrong with the result itself, and tells nothing of the network. */
const OF_THE_RESULT = "the result ";
export const RESULT_INCOMPLETE = `${OF_THE_RESULT}of a replica is not there yet`;

/**
 * What became of its webhook, and of the upload of its result.
 *
 * @param toAdmin others are not told why there was no answer: they could look for open ports with it, as with a test.
 */
export function deliveriesView(records: readonly DeliveryRecord[], toAdmin: boolean) {
  return records.map(({ kind, state, attempts, nextAttemptAt, httpStatus, error }) => ({
    what: kind === "ended" ? "webhook" : "result",
    state,
    attempts,
    next_attempt_at: instant(nextAttemptAt),
    http_status: httpStatus,
    error: toAdmin || isToldToAll(httpStatus, error) ? error : "no answer; an admin is told why",
  }));
}

function isToldToAll(httpStatus: number | null, error: string | null): boolean {
  return httpStatus !== null || error === null || error.startsWith(OF_THE_RESULT);
}

/** The record without what was submitted, which may hold secrets. */
function webhookBody(state: WorkState, task: Task) {
  const { raw_yaml: _raw, parsed: _parsed, ...record } = taskView(state, task, false);
  return { status: task.status, task_id: task.id, task: record, finished_at: instant(task.finishedAt) };
}

/** More is left where it is: `GET /api/v1/tasks/ID/result` has it. */
const MAX_UPLOAD_BYTES = 16 * 2 ** 20;
/** Of what the parser says. */
const MAX_WHY = 200;

/** No later attempt will do better. */
export class UnfitResultError extends Error {
  readonly isFinal = true;
}

/**
 * A result as it is uploaded. It is written anew: we sign what we send, and a run's bytes could close the object that
 * they stand in and say more in our name.
 *
 * @throws UnfitResultError when it is no JSON, or too large.
 */
export function uploadOf(id: string, bytes: Buffer): Buffer {
  if (bytes.length > MAX_UPLOAD_BYTES) {
    throw new UnfitResultError(`${OF_THE_RESULT}has more than ${MAX_UPLOAD_BYTES / 2 ** 20} MiB`);
  }
  try {
    return Buffer.from(JSON.stringify({ task_id: id, result: JSON.parse(bytes.toString()) }));
  } catch (error) {
    throw new UnfitResultError(`${OF_THE_RESULT}is no JSON: ${(error as Error).message.slice(0, MAX_WHY)}`);
  }
}

/** Where its result goes, beside this host; `null`: nowhere. */
export function destinationOf({
  spec: { document },
}: Pick<Task, "spec">): Pick<TaskDelivery, "url" | "headers"> | null {
  const url = at(document, "spec", "output", "destination", "url");
  if (typeof url !== "string") return null;
  const headers = at(document, "spec", "output", "destination", "headers");
  return { url, headers: (headers ?? {}) as Readonly<Record<string, string>> };
}

/** Entry 2 of the migrations. */
export const DELIVERIES_TABLE = `
  CREATE TABLE deliveries (
    id TEXT PRIMARY KEY,
    task TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('ended', 'result')),
    principal TEXT NOT NULL,
    url TEXT NOT NULL,
    headers TEXT NOT NULL,
    body TEXT,
    created_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'gave-up')),
    attempts INTEGER NOT NULL,
    -- Of a pending one.
    next_attempt_at INTEGER CHECK ((next_attempt_at IS NOT NULL) = (state = 'pending')),
    http_status INTEGER,
    error TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX deliveries_due ON deliveries (next_attempt_at) WHERE state = 'pending';
  CREATE INDEX deliveries_by_task ON deliveries (task);
  `;

/** The table in use. */
export class DeliveryRows {
  readonly #put: StatementSync;
  readonly #drop: StatementSync;
  readonly #due: StatementSync;
  readonly #next: StatementSync;
  readonly #settle: StatementSync;
  readonly #ofTask: StatementSync;
  readonly #pending: StatementSync;

  constructor(database: DatabaseSync) {
    this.#put = database.prepare(
      "INSERT OR IGNORE INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending', 0, ?, NULL, NULL)",
    );
    this.#drop = database.prepare("DELETE FROM deliveries WHERE task = ?");
    // The oldest of every principal, then the second oldest of every, so that nobody's many hide another's one.
    this.#due = database.prepare(`
      SELECT * FROM (
        SELECT *, row_number() OVER (PARTITION BY principal ORDER BY created_at, id) AS place
        FROM deliveries WHERE state = 'pending' AND next_attempt_at <= ?
      ) ORDER BY place, created_at, id LIMIT ?`);
    this.#next = database.prepare("SELECT min(next_attempt_at) AS at FROM deliveries WHERE state = 'pending'");
    this.#settle = database.prepare(`
      UPDATE deliveries SET state = ?, attempts = attempts + 1, next_attempt_at = ?, http_status = ?, error = ?
      WHERE id = ? AND state = 'pending'`);
    this.#ofTask = database.prepare("SELECT * FROM deliveries WHERE task = ? ORDER BY id");
    this.#pending = database.prepare(
      "SELECT count(*) AS n FROM (SELECT 1 FROM deliveries WHERE state = 'pending' AND principal = ? LIMIT ?)",
    );
  }

  put({ id, task, kind, principal, url, headers, body, createdAt, nextAttemptAt }: TaskDelivery): void {
    this.#put.run(id, task, kind, principal, url, JSON.stringify(headers), body, createdAt, nextAttemptAt);
  }

  dropOf(task: string): void {
    this.#drop.run(task);
  }

  due(now: number, limit: number): TaskDelivery[] {
    return this.#due.all(now, limit).map((row) => ({
      id: row.id as string,
      task: row.task as string,
      kind: row.kind as Kind,
      principal: row.principal as string,
      url: row.url as string,
      headers: JSON.parse(row.headers as string),
      body: row.body as string | null,
      createdAt: row.created_at as number,
      attempts: row.attempts as number,
      nextAttemptAt: row.next_attempt_at as number,
    }));
  }

  nextDueAt(): number | null {
    return (this.#next.get() as { at: number | null }).at;
  }

  settle({ id, outcome, nextAttemptAt, httpStatus, error }: TaskSettlement): void {
    this.#settle.run(outcome === "retry" ? "pending" : outcome, nextAttemptAt, httpStatus, error, id);
  }

  ofTask(task: string): DeliveryRecord[] {
    return this.#ofTask.all(task).map((row) => ({
      kind: row.kind as Kind,
      state: row.state as DeliveryRecord["state"],
      attempts: row.attempts as number,
      nextAttemptAt: row.next_attempt_at as number | null,
      httpStatus: row.http_status as number | null,
      error: row.error as string | null,
    }));
  }

  /** How many of a principal are still to be sent, counted up to `atMost`. */
  pendingOf(principal: string, atMost: number): number {
    return (this.#pending.get(principal, atMost) as { n: number }).n;
  }
}
