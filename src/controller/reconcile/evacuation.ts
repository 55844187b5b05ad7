/**
 * A lone replica whose node is to be emptied: its successor comes up on another node before it goes. Of more than one,
 * the budget decides which goes when, and nothing is surged. Pure.
 */
import { drainingIn, type Extent, hasRoomFor } from "./fleet.ts";
import type { Seen } from "./seen.ts";

export interface Evacuation {
  readonly extra: 0 | 1;
  /** Replicas that go before others. */
  readonly leaving: readonly string[];
  /** Replicas that are not evicted now: the only ones that serve, while a successor comes up. */
  readonly spared: readonly string[];
}

export const STAYING: Evacuation = { extra: 0, leaving: [], spared: [] };

export function evacuationOf(
  desired: number,
  plan: Extent,
  revision: string,
  { tracks, nodes }: Pick<Seen, "tracks" | "nodes">,
): Evacuation {
  const draining = drainingIn(nodes);
  const replicas = (tracks.find((track) => track.revision === revision)?.replicas ?? []).filter(
    ({ phase }) => phase !== "stopping" && phase !== "failed",
  );
  const leaving = replicas.filter(({ node, phase }) => phase === "ready" && node !== null && draining.has(node));
  const [lone, ...others] = leaving;
  if (desired !== 1 || lone === undefined) return STAYING;
  if (others.length > 0) {
    // The successor's own node is to be emptied, too, before the old one is gone: one of them serves on.
    const servesElsewhere = replicas.some((one) => one.phase === "ready" && !leaving.includes(one));
    const spared = servesElsewhere ? [] : [lone.name];
    return { extra: 0, leaving: leaving.map(({ name }) => name).filter((name) => !spared.includes(name)), spared };
  }
  const successor = replicas.find(({ name }) => name !== lone.name);
  if (successor?.phase === "ready") return { extra: 0, leaving: [lone.name], spared: [] };
  // Without a GPU for it, a successor would wait for the very one that is to go.
  const isUnderWay = successor !== undefined && successor.phase !== "waiting";
  const canCome = isUnderWay || plan.gpus === 0 || hasRoomFor(nodes, plan);
  return canCome ? { extra: 1, leaving: [lone.name], spared: [lone.name] } : STAYING;
}

/** In the middle of a rollout that surges: its successor is of the new revision, and comes up without another one. */
export function rollingEvacuation(
  desired: number,
  surge: boolean,
  { tracks, nodes }: Pick<Seen, "tracks" | "nodes">,
): Evacuation {
  const draining = drainingIn(nodes);
  const ready = tracks.flatMap(({ replicas }) => replicas).filter(({ phase }) => phase === "ready");
  const servesElsewhere = ready.some(({ node }) => node === null || !draining.has(node));
  if (desired !== 1 || !surge || servesElsewhere) return STAYING;
  return { ...STAYING, spared: ready.map(({ name }) => name) };
}
