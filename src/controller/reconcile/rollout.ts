/**
 * How many replicas each revision is to have now. One look, one step: what was started or stopped is seen at the next.
 *
 *  1. Without older replicas the current revision has as many as are desired.
 *  2. `recreate`: older ones go first; the current one starts when none of them holds a GPU any more.
 *  3. `rolling` with a GPU to spare: one replica more than desired may be placed, and none that serves is missed.
 *  4. `rolling` without: one that serves is taken down, and its GPUs go to its successor. This is what keeps a rollout on
 *     a full host from waiting for itself.
 *  5. A lone replica without a spare GPU is replaced only where downtime is allowed; otherwise the rollout waits, and says
 *     `NoSpareGPU`.
 *  6. Where not all that are desired have room, those that had when the rollout began count: the others would wait for the
 *     GPUs that this rollout itself holds. A GPU that somebody else took meanwhile is waited for, and costs no other.
 *  7. Older replicas that do not serve take nothing away when they go, and go first: also those of a rollout that was
 *     changed or taken back in the middle. The budget counts what serves, of whatever revision.
 */
import { isPlaced, type ReplicaSeen, readyOf, type TrackSeen } from "./seen.ts";

export interface RolloutAsk {
  readonly revision: string;
  readonly desired: number;
  readonly strategy: "rolling" | "recreate";
  readonly allowDowntime: boolean;
  /** A node has the GPUs of one more replica free now. */
  readonly hasSpare: boolean;
  /** As many had GPUs when this rollout began: what it may miss is counted from there. */
  readonly base: number;
}

export interface RolloutStep {
  /** By revision; one that is not named is to have none. */
  readonly targets: ReadonlyMap<string, number>;
  readonly isRolling: boolean;
  /** One more than desired may be placed. */
  readonly surge: boolean;
  readonly blocked: "NoSpareGPU" | null;
}

export function rolloutStep(ask: RolloutAsk, tracks: readonly TrackSeen[]): RolloutStep {
  const { revision, desired } = ask;
  const old = tracks.filter((track) => track.revision !== revision && isLeft(track));
  const current = tracks.find((track) => track.revision === revision);
  const { hasSpare: surge } = ask;
  if (old.length === 0) return { targets: new Map([[revision, desired]]), isRolling: false, surge, blocked: null };
  if (ask.strategy === "recreate" || desired === 0) {
    return { targets: new Map([[revision, 0]]), isRolling: true, surge: false, blocked: null };
  }
  return rolling(ask, old, current);
}

function isLeft({ wanted, replicas }: TrackSeen): boolean {
  return wanted > 0 || replicas.length > 0;
}

function rolling(ask: RolloutAsk, old: readonly TrackSeen[], current: TrackSeen | undefined): RolloutStep {
  const { revision, desired } = ask;
  const placedOld = old.flatMap(({ replicas }) => replicas.filter(isPlaced)).length;
  const placedNow = (current?.replicas ?? []).filter(isPlaced).length;
  // A surplus that has its GPUs is the surge of rule 3 under way.
  const surge = ask.hasSpare || placedOld + placedNow > desired ? 1 : 0;
  const ready = [...old, ...(current === undefined ? [] : [current])].reduce((sum, track) => sum + readyOf(track), 0);
  const reachable = ask.hasSpare ? desired : Math.min(desired, Math.max(ask.base, placedOld + placedNow));
  const isLone = reachable === 1 && surge === 0;
  const mayMiss = surge === 1 || (isLone && !ask.allowDowntime) ? 0 : 1;
  let goable = Math.max(0, ready - (reachable - mayMiss));

  const targets = new Map<string, number>();
  for (const { revision: name, wanted, replicas } of old) {
    const serving = replicas.filter(({ phase }) => phase === "ready").length;
    const going = Math.min(serving, goable);
    goable -= going;
    targets.set(name, Math.min(wanted, serving - going));
  }
  const room = Math.max(0, desired + surge - placedOld);
  targets.set(revision, Math.min(desired, Math.max(room, placedNow)));
  const isWaiting = isLone && !ask.allowDowntime && placedNow === 0;
  return { targets, isRolling: true, surge: surge === 1, blocked: isWaiting ? "NoSpareGPU" : null };
}

/** The replicas that go when a track has too many: those that serve least. */
export function surplusOf(replicas: readonly ReplicaSeen[], target: number): readonly ReplicaSeen[] {
  const rank = { failed: 0, waiting: 1, starting: 2, unready: 3, ready: 4, stopping: 5 } as const;
  const live = replicas.filter(({ phase }) => phase !== "stopping");
  return live
    .toSorted((a, b) => rank[a.phase] - rank[b.phase] || (a.name < b.name ? 1 : -1))
    .slice(0, Math.max(0, live.length - target));
}
