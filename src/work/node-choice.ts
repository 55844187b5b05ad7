/** Which node a run goes to: the controller proposes, the node's own daemon leases or declines. */
import { compareText } from "../core/base/order.ts";
import type { Worker, WorkSpec } from "./model.ts";

/** A worker that was not heard of for so long takes nothing new. */
export const STALE_AFTER_MS = 120_000;
/** Beyond two heartbeats. */
const LATE_MS = 5_000;

export interface Offer {
  readonly worker: Pick<Worker, "node" | "executors" | "topics" | "tags" | "labels" | "lastSeen" | "hardware" | "link">;
  /** `null`: not known. */
  readonly freeGpus: number | null;
}

export type NodeChoice =
  | { readonly node: string; readonly isHere: boolean; readonly startsNow: boolean }
  | { readonly node: null; readonly reason: string };

/** Topics are MLOC's: `tasks.<taskType>`. A worker that names none takes all. */
export function topicOf(taskType: string): string {
  return `tasks.${taskType}`;
}

/** Whether a node was heard of lately enough to be given something new. */
export function isAwake({ lastSeen, link }: Pick<Worker, "lastSeen" | "link">, now: number): boolean {
  if (link?.hasLeft === true) return false;
  const longest = link === undefined ? STALE_AFTER_MS : Math.min(STALE_AFTER_MS, 2 * link.intervalMs + LATE_MS);
  return now - lastSeen < longest;
}

/**
 * Chooses among `offers`: who can start now, then the fewest GPUs left over, then the name.
 *
 * @returns why none of them will do, when none will.
 */
export function chooseNode(spec: WorkSpec, offers: readonly Offer[], now: number): NodeChoice {
  if (offers.length === 0) return { node: null, reason: "no-worker" };
  const suitable = offers.filter(({ worker }) => suits(spec, worker));
  if (suitable.length === 0) return { node: null, reason: "no-suitable-worker" };
  const awake = suitable.filter(({ worker }) => isAwake(worker, now));
  if (awake.length === 0) return { node: null, reason: "worker-stale" };
  // One of MLOC's has no line: what it cannot take now it is not told of.
  const open = awake.filter(({ worker: { link } }) => link?.kind !== "mloc" || link.isIdle);
  if (open.length === 0) return { node: null, reason: "workers-busy" };
  const wanted = spec.resources.gpu?.count ?? 0;
  const leftOver = ({ freeGpus }: Offer) => (freeGpus ?? 0) - wanted;
  const [best] = [...open].sort(
    (a, b) =>
      Number(leftOver(a) < 0) - Number(leftOver(b) < 0) ||
      leftOver(a) - leftOver(b) ||
      compareText(a.worker.node, b.worker.node),
  );
  const { worker } = best as Offer;
  return { node: worker.node, isHere: worker.link === undefined, startsNow: leftOver(best as Offer) >= 0 };
}

export function suits(spec: WorkSpec, worker: Offer["worker"]): boolean {
  if (!worker.executors.includes(spec.executor)) return false;
  const isTask = spec.taskType !== "service";
  if (isTask && worker.topics.length > 0 && !worker.topics.includes(topicOf(spec.taskType))) return false;
  if (!spec.tags.every((tag) => worker.tags.includes(tag))) return false;
  if (!Object.entries(spec.nodeSelector).every(([key, value]) => worker.labels[key] === value)) return false;
  return worker.link?.kind !== "mloc" || hasHardware(spec, worker);
}

/** As MLOC's own server compares what is asked with what a worker tells of its host. */
function hasHardware({ resources }: WorkSpec, { hardware, link }: Offer["worker"]): boolean {
  const { cpu, memory } = hardware as {
    readonly cpu?: { readonly logical_cores?: unknown } | null;
    readonly memory?: { readonly total_bytes?: unknown } | null;
  };
  const cores = cpu?.logical_cores;
  if ((typeof cores === "number" ? cores : 0) * 1_000 < resources.cpuMillis) return false;
  const bytes = memory?.total_bytes;
  if (typeof bytes === "number" && bytes < resources.memoryBytes) return false;
  const { gpu } = resources;
  const fitting = (link?.gpus ?? []).filter(({ name }) =>
    (gpu?.nameParts ?? []).every((part) => typeof name === "string" && name.toLowerCase().includes(part.toLowerCase())),
  );
  return fitting.length >= (gpu?.count ?? 0);
}
