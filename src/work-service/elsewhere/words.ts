/** What controller and members say to each other; each sends all that it knows, so that no single message is needed. */
import type { Assignment, RunSeen, WorkerFacts } from "../../work/model.ts";
import type { WantedOfNode } from "../../work/nodes.ts";
import type { WantedOfWorker } from "../../work/wanted.ts";

export const EVENTS_STREAM = "gpuo:evt";
export const LOCK = "gpuo:lock";

export function commandsTo(node: string): string {
  return `gpuo:cmd:${node}`;
}

export function heartbeatOf(node: string): string {
  return `gpuo:hb:${node}`;
}

/** Of a node: what it is, and all that it has of this controller. A heartbeat, which the controller answers. */
export interface NodeReport {
  readonly instance: number;
  readonly seq: number;
  /** Whom it obeys; `null`: nobody yet. */
  readonly controller: string | null;
  readonly facts: Omit<WorkerFacts, "link" | "instance">;
  readonly hasWorker: boolean;
  readonly gpus: readonly { readonly name: string; readonly uuid: string }[];
  readonly url: string | null;
  /** `null`: it does not know yet whose runs are asked for. */
  readonly runs: readonly RunSeen[] | null;
}

export interface Assign {
  readonly controller: string;
  readonly name: string;
  readonly assignment: Assignment;
  /**
   * A report of the node's that the controller has had before it wrote this: no copy from another day can name one that
   * this process of the node has sent lately.
   */
  readonly knows: { readonly instance: number; readonly seq: number };
}

export interface Stop {
  readonly controller: string;
  readonly order: WantedOfWorker["stop"][number];
}

/** The answer to a heartbeat, and what is open. */
export interface Sync extends Omit<WantedOfNode, "assign"> {
  readonly controller: string;
  readonly instance: number;
  readonly answers: number;
}

export interface Declined {
  readonly why: string;
  readonly forGood: boolean;
}

export interface Finished {
  /** Its `responses.json`; `null`: there is none, or it is too large for a message. */
  readonly result: string | null;
}

/** Larger results stay on their node. */
export const MAX_RESULT_BYTES = 256 * 2 ** 10;
