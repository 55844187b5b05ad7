/**
 * A lone replica whose node is to be emptied: its successor comes up on another node before it goes. Of more than one,
 * the budget decides which goes when, and nothing is surged. Pure.
 */
import type { Plan } from "./plan.ts";
import { hasRoomFor, type Seen } from "./seen.ts";

export interface Evacuation {
  readonly extra: 0 | 1;
  /** Replicas that go before others. */
  readonly leaving: readonly string[];
}

export const STAYING: Evacuation = { extra: 0, leaving: [] };

export function evacuationOf(
  desired: number,
  { gpus, product }: Pick<Plan, "gpus" | "product">,
  revision: string,
  { tracks, nodes }: Pick<Seen, "tracks" | "nodes">,
): Evacuation {
  const draining = new Set(nodes.filter((node) => node.draining).map(({ name }) => name));
  const replicas = (tracks.find((track) => track.revision === revision)?.replicas ?? []).filter(
    ({ phase }) => phase !== "stopping" && phase !== "failed",
  );
  const leaving = replicas.filter(({ node, phase }) => phase === "ready" && node !== null && draining.has(node));
  const [lone] = leaving;
  if (desired !== 1 || lone === undefined || leaving.length > 1) return STAYING;
  const successor = replicas.find(({ name }) => name !== lone.name);
  if (successor?.phase === "ready") return { extra: 0, leaving: [lone.name] };
  // Without a GPU for it, a successor would wait for the very one that is to go.
  const isUnderWay = successor !== undefined && successor.phase !== "waiting";
  const canCome = isUnderWay || gpus === 0 || hasRoomFor(nodes, gpus, product);
  return canCome ? { extra: 1, leaving: [lone.name] } : STAYING;
}
