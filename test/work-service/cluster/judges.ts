/**
 * Who looks on at a cluster and asks it nothing: what was written to Redis and read from it, and which processes live.
 *
 *  1. A node goes by no later heartbeat than one whose answer it has read, and by when that was sent.
 *  2. What may start elsewhere is over 15 s before its assignment is, counted from that heartbeat.
 *  3. A task's run is over in the controller's books only when no process of it lives on any node.
 *  4. What bears a lower epoch than a run of the same replica that has begun does not begin any more: of a task on any
 *     node, of a workload on the same.
 *  5. A node forgets a run only when the controller wants nothing of it any more.
 */
import { type Message, opened } from "../../../src/broker/messages.ts";
import type { WorkEvent } from "../../../src/work/events.ts";
import type { WorkState } from "../../../src/work/state.ts";
import { commandsTo, EVENTS_STREAM, type NodeReport, type Sync } from "../../../src/work-service/elsewhere/words.ts";
import { SECRET } from "../hosts.ts";

const MARGIN_MS = 15_000;
/** Holders look each second, and a history may stand between two looks. */
const LOOK_MS = 2_000;
/** Of what has happened on a node, the last few. */
const SHOWN = 3;

export interface Watched {
  readonly now: number;
  /** The controller's books. */
  readonly books: WorkState;
  readonly ttlMs: number;
}

interface Lives {
  readonly run: string;
  readonly slot: string;
  readonly alive: number;
}

export class Judges {
  readonly violations: string[] = [];
  readonly #watched: () => Watched;
  /** When each report was written, by node, process and number. */
  readonly #sent = new Map<string, number>();
  /** The latest heartbeat of each node whose answer it has read. */
  readonly #answered = new Map<string, number>();
  /** The newest epoch that has begun, of each replica. */
  readonly #begun = new Map<string, number>();

  constructor(watched: () => Watched) {
    this.#watched = watched;
  }

  sent(stream: string, fields: readonly string[]): void {
    const message = stream === EVENTS_STREAM ? opened(fields, stream, SECRET) : null;
    if (message === null || !isReport(message)) return;
    const { instance, seq } = message.body as NodeReport;
    const key = `${message.node} ${instance} ${seq}`;
    // A copy is no heartbeat.
    if (!this.#sent.has(key)) this.#sent.set(key, this.#watched().now);
  }

  read(node: string, fields: readonly string[]): void {
    const message = opened(fields, commandsTo(node), SECRET);
    if (message?.type !== "sync") return;
    const { instance, answers } = message.body as Sync;
    const at = this.#sent.get(`${node} ${instance} ${answers}`);
    if (at !== undefined) this.#answered.set(node, Math.max(at, this.#answered.get(node) ?? 0));
  }

  /** (1) */
  heard(node: string, at: number): void {
    const answered = this.#answered.get(node);
    if (answered === undefined || at > answered) {
      this.violations.push(`${node} goes by a heartbeat of ${at}, and the last that was answered is of ${answered}`);
    }
  }

  /** (4) */
  begins(node: string, run: string, slot: string): void {
    const epoch = this.#watched().books.runs.get(run)?.epoch;
    if (epoch === undefined) return;
    const key = slot.startsWith("task-") ? slot : `${slot} on ${node}`;
    const newest = this.#begun.get(key) ?? 0;
    if (epoch < newest) this.violations.push(`${run} begins on ${node} under epoch ${epoch}, after ${newest}`);
    this.#begun.set(key, Math.max(epoch, newest));
  }

  /** (2) and (3) */
  lives(node: string, folders: Iterable<Lives>): void {
    const { books, now, ttlMs } = this.#watched();
    for (const { run, slot, alive } of folders) {
      if (alive === 0 || !slot.startsWith("task-")) continue;
      if (books.runs.get(run)?.phase === "ended") {
        this.violations.push(`${run} lives on ${node}, and is over in the controller's books`);
      }
      const lost = books.tasks.get(slot.slice(0, slot.indexOf("/")))?.retry.lost ?? 0;
      const silentMs = now - (this.#answered.get(node) ?? 0);
      if (lost > 0 && silentMs > ttlMs - MARGIN_MS + LOOK_MS) {
        this.violations.push(`${run} lives on ${node}, of which no heartbeat was answered for ${silentMs} ms`);
      }
    }
    this.violations.splice(SHOWN);
  }

  /** (5) */
  wrote(node: string, events: readonly WorkEvent[]): void {
    for (const event of events) {
      if (event.type !== "origin-settled") continue;
      const run = this.#watched().books.runs.get(event.id);
      if (run === undefined || (run.phase === "ended" && run.publish !== "wanted")) continue;
      this.violations.push(`${node} forgets ${event.id}, which is ${run.phase} for its controller`);
    }
  }
}

function isReport({ type }: Message): boolean {
  return !["declined", "finished"].includes(type);
}
