/** Where replicas run. */
import type { Workload } from "../objects/workload.ts";
import type { Inventory } from "./inventory.ts";
import type { Wanted } from "./reconcile.ts";
import type { LoadSeen, NodeSeen, TrackSeen } from "./seen.ts";

export interface Look {
  readonly nodes: readonly NodeSeen[];
  tracksOf(workload: Workload): readonly TrackSeen[];
  loadOf(workload: Workload): readonly LoadSeen[];
  /** Where all replicas that serve are reached under one address; `null`: each has its own. */
  serviceOf(workload: Workload): string | null;
  /** More of the same, for those who keep books; absent: there is no more to be told. */
  inventory?(): Inventory;
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
  /** Makes and removes what is missing or too much; calls nothing when nothing is. */
  apply(workload: Workload, wanted: Wanted, tracks: readonly TrackSeen[]): Promise<void>;
  /** For its pods only: it is shown by no call. One that is kept already stays. */
  keepToken(workload: Workload, token: string): Promise<void>;
  drain(node: string, how: { readonly reason: string; readonly deadlineMs: number | null }): Promise<NodeDrain>;
  uncordon(node: string): Promise<NodeDrain>;
}
