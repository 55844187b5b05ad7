/** Where replicas run. */
import type { Revision } from "../objects/revision.ts";
import type { Workload } from "../objects/workload.ts";
import type { Family } from "../watching/figures.ts";
import type { Inventory } from "./inventory.ts";
import type { Wanted } from "./reconcile.ts";
import type { Groups, LoadSeen, NodeSeen, TrackSeen } from "./seen.ts";

export interface Look {
  readonly nodes: readonly NodeSeen[];
  tracksOf(workload: Workload): readonly TrackSeen[];
  loadOf(workload: Workload): readonly LoadSeen[];
  /**
   * All that is decided on it from, but itself, the models and the time: where each value is the one that it was, nothing is
   * new. Absent: nobody can tell.
   */
  stampOf?(workload: Workload): readonly unknown[];
  /** What was made for it beside its replicas, and is there yet, by kind and name; absent: there is no such thing. */
  childrenOf?(workload: Workload): readonly string[];
  /** Where all replicas that serve are reached under one address; `null`: each has its own. */
  serviceOf(workload: Workload): string | null;
  /** Where they are reached from outside; absent or `null`: nowhere, as far as is known. */
  externalOf?(workload: Workload): string | null;
  /** How busy a node's GPUs are, in percent, as somebody has measured; `null`: nobody has. */
  gpuUtilizationOf?(node: string): number | null;
  /** More of the same, for those who keep books; absent: there is no more to be told. */
  inventory?(): Inventory;
  /** Whether it can be said who may reach a replica, and whom it may. */
  readonly isolates: boolean;
  readonly groups: Groups;
}

export interface DrainHow {
  readonly reason: string;
  /** `null`: only nothing new comes. */
  readonly deadlineMs: number | null;
  /** What is left at the deadline is stopped without asking. */
  readonly force: boolean;
}

export interface NodeDrain {
  readonly node: string;
  readonly status: "ready" | "draining" | "drained";
  readonly blockedBy: readonly string[];
}

/** @throws ControllerError `backend-unavailable`, `backend-refused`, `node-not-found` */
export interface Backend {
  readonly kind: "host" | "kubernetes";
  look(): Promise<Look>;
  /** What replicas of a new revision are started from; `null`: nothing that could be kept. */
  templateOf(workload: Workload, wanted: Wanted): Revision["template"];
  /**
   * Makes and removes what is missing or too much; calls nothing when nothing is.
   *
   * @param template is that of the revision, as it was when that was new.
   * @returns what somebody else had changed, in words.
   */
  apply(
    workload: Workload,
    wanted: Wanted,
    tracks: readonly TrackSeen[],
    template: Revision["template"],
  ): Promise<readonly string[]>;
  /** What runs there now of this revision was started from this; absent or `null`: that cannot be told. */
  runningTemplate?(workload: Workload, revision: string): Revision["template"];
  /**
   * What is of no single workload, after all of them; only where this process decides.
   *
   * @param undecided are the keys of workloads of which nothing was decided since the last look.
   */
  tend(now: number, undecided: ReadonlySet<string>): Promise<void>;
  /** For its pods only: it is shown by no call. One that is kept already stays. */
  keepToken(workload: Workload, token: string): Promise<void>;
  /** It is gone, and so is what is kept for it and goes with nothing else. */
  forget?(workload: Workload): Promise<void>;
  drain(node: string, how: DrainHow): Promise<NodeDrain>;
  uncordon(node: string): Promise<NodeDrain>;
  /** What its metrics have. */
  figures(): readonly Family[];
}
