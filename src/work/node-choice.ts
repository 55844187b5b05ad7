/** Which node a run goes to: the controller proposes, the node's own daemon leases or declines. */
import { compareText } from "../core/base/order.ts";
import type { Worker, WorkSpec } from "./model.ts";

/** A worker that was not heard of for so long takes nothing new. */
export const STALE_AFTER_MS = 120_000;

export interface Offer {
  readonly worker: Pick<Worker, "node" | "executors" | "topics" | "tags" | "labels" | "lastSeen">;
  /** `null`: not known, as of a node whose daemon is not this one. */
  readonly freeGpus: number | null;
}

export type NodeChoice = { readonly node: string } | { readonly node: null; readonly reason: string };

/** Topics are MLOC's: `tasks.<taskType>`. A worker that names none takes all. */
export function topicOf(taskType: string): string {
  return `tasks.${taskType}`;
}

/**
 * Chooses among `offers`: who can start now, then the fewest GPUs left over, then the name.
 *
 * @returns why none of them will do, when none will.
 */
export function chooseNode(spec: WorkSpec, offers: readonly Offer[], now: number): NodeChoice {
  if (offers.length === 0) return { node: null, reason: "no-worker" };
  const awake = offers.filter(({ worker }) => now - worker.lastSeen < STALE_AFTER_MS);
  if (awake.length === 0) return { node: null, reason: "worker-stale" };
  const suitable = awake.filter(({ worker }) => suits(spec, worker));
  if (suitable.length === 0) return { node: null, reason: "no-suitable-worker" };
  const wanted = spec.resources.gpu?.count ?? 0;
  const leftOver = ({ freeGpus }: Offer) => (freeGpus ?? 0) - wanted;
  const [best] = [...suitable].sort(
    (a, b) =>
      Number(leftOver(a) < 0) - Number(leftOver(b) < 0) ||
      leftOver(a) - leftOver(b) ||
      compareText(a.worker.node, b.worker.node),
  );
  return { node: (best as Offer).worker.node };
}

function suits(spec: WorkSpec, worker: Offer["worker"]): boolean {
  if (!worker.executors.includes(spec.executor)) return false;
  const isTask = spec.taskType !== "service";
  if (isTask && worker.topics.length > 0 && !worker.topics.includes(topicOf(spec.taskType))) return false;
  if (!spec.tags.every((tag) => worker.tags.includes(tag))) return false;
  return Object.entries(spec.nodeSelector).every(([key, value]) => worker.labels[key] === value);
}
