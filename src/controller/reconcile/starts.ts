/**
 * How long replicas of a workload take from their node until they serve, as this process has seen it. A replica that was
 * starting already when it was first seen counts from then on; one that crashed meanwhile does not count.
 */
import type { EpochMs } from "../../core/base/time.ts";
import type { ReplicaSeen, TrackSeen } from "./seen.ts";

export interface Starts {
  /** By name, of those that start: since when. */
  readonly since: ReadonlyMap<string, EpochMs>;
  /** Of the last that came to serve, in ms. */
  readonly tookMs: readonly number[];
}

export const NO_STARTS: Starts = { since: new Map(), tookMs: [] };

const KEPT = 100;
/** A start may take this many times what all but one in a hundred took. */
const SPARE = 2;

export function startsAfter(before: Starts, tracks: readonly TrackSeen[], now: EpochMs): Starts {
  const replicas = tracks.flatMap((track) => track.replicas);
  const starting = replicas.filter((replica) => isStarting(replica, before));
  const since = new Map(starting.map(({ name }) => [name, before.since.get(name) ?? now]));
  const took = replicas.flatMap(({ name, phase, restarts }) => {
    const begun = before.since.get(name);
    return phase === "ready" && restarts === 0 && begun !== undefined ? [now - begun] : [];
  });
  return { since, tookMs: took.length === 0 ? before.tookMs : [...before.tookMs, ...took].slice(-KEPT) };
}

/** What has served once, and does not now, is not starting: a kubelet says `started` before it is ready for the first time. */
function isStarting({ name, phase, restarts }: ReplicaSeen, before: Starts): boolean {
  return restarts === 0 && (phase === "starting" || (phase === "unready" && before.since.has(name)));
}

/** The time that a start is to be given by what was observed, in s: twice its 99th percentile; 0: nothing was. */
export function observedStartSeconds({ tookMs }: Starts): number {
  const slowest = tookMs.toSorted((a, b) => a - b)[Math.ceil(tookMs.length * 0.99) - 1];
  return slowest === undefined ? 0 : Math.ceil((SPARE * slowest) / 1_000);
}
