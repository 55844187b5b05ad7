/** What a backend shows of the world, as the reconcilers take it in. Values only; whoever looks fills them. */
import type { EpochMs } from "../../core/base/time.ts";
import type { Model } from "../objects/model.ts";

export interface NodeSeen {
  readonly name: string;
  readonly product: string | null;
  /** Of each GPU; `null`: nobody says. */
  readonly gpuMemoryMib: number | null;
  readonly gpus: number;
  /** GPUs that nobody else can get now, pods that are only bound to the node included. */
  readonly usedGpus: number;
  readonly ready: boolean;
  /** Not cordoned. */
  readonly schedulable: boolean;
  /** What runs there is to go. */
  readonly draining: boolean;
  /** Nothing is left there that could go. */
  readonly isEmpty: boolean;
}

export const STUCK_REASONS = [
  "ImagePull",
  "Unschedulable",
  "CrashLoop",
  "OutOfMemory",
  "ModelFetch",
  "NoProgress",
] as const;
export type StuckReason = (typeof STUCK_REASONS)[number];

export interface ReplicaSeen {
  readonly name: string;
  /** Of a group: all of its pods, the first of which the replica is called by. */
  readonly pods?: readonly string[];
  /** `waiting`: it has no GPU yet. `stopping` ones still hold theirs. */
  readonly phase: "waiting" | "starting" | "ready" | "unready" | "stopping" | "failed";
  readonly node: string | null;
  readonly url: string | null;
  readonly gpus: number;
  readonly restarts: number;
  readonly trouble: { readonly reason: StuckReason; readonly message: string } | null;
  /** Why it waits, and for how long; `null`: it does not, or nobody says. */
  readonly waiting: { readonly reason: string; readonly position: number | null; readonly eta: string | null } | null;
}

/** Whether a replica may be larger than a node: never, where somebody would run it, or where somebody does. */
export type Groups = "never" | "lacking" | "there";

/** The replicas of one revision. */
export interface TrackSeen {
  readonly revision: string;
  /** As many were asked for last. */
  readonly wanted: number;
  readonly replicas: readonly ReplicaSeen[];
}

/** Figures of one replica; absent: it did not say. */
export interface LoadSeen {
  readonly replica: string;
  readonly metrics: Readonly<Partial<Record<string, number>>>;
}

export interface Seen {
  readonly tracks: readonly TrackSeen[];
  readonly nodes: readonly NodeSeen[];
  readonly models: readonly Model[];
  readonly load: readonly LoadSeen[];
  /** What leads to all replicas that serve; `null`: each is called for itself. */
  readonly service: string | null;
  /** The same from outside; `null`: nothing does. */
  readonly external: string | null;
  /** Whether it can be said who may reach a replica. */
  readonly isolates: boolean;
  readonly groups: Groups;
  /** What was made for it beside its replicas, and is there yet; absent: nothing is. */
  readonly children?: readonly string[];
  /** GPUs that its tenant may have for it, beside those of the tenant's others; `null`: as many as there are. */
  readonly tenantGpus: number | null;
  readonly now: EpochMs;
}

/** It has had its GPUs. One that has failed since counts: its place in the budget is taken until it is replaced. */
export function isPlaced({ phase }: ReplicaSeen): boolean {
  return phase !== "waiting";
}

export function readyOf({ replicas }: TrackSeen): number {
  return replicas.filter(({ phase }) => phase === "ready").length;
}

/** By part of the name, as `resources.gpuType` has it. */
export function isOfProduct({ product }: Pick<NodeSeen, "product">, wanted: string | null): boolean {
  if (wanted === null) return true;
  const name = (product ?? "").toLowerCase();
  return wanted
    .toLowerCase()
    .split(/[-_ ]+/)
    .every((part) => name.includes(part));
}
