/**
 * What has not changed since the last look is the same value as then: it is worked out once, and whoever decides sees at a
 * glance that nothing is new.
 */
import type { NodeSeen, TrackSeen } from "../reconcile/seen.ts";
import { nodesSeen, tracksSeen } from "./pods.ts";
import type { KubeObject } from "./watch.ts";

interface Group {
  readonly pods: readonly KubeObject[];
  readonly tracks: readonly TrackSeen[];
}

const NONE: readonly TrackSeen[] = [];

export class Sameness {
  #nodes: readonly NodeSeen[] = [];
  /** By the key of a workload. */
  #groups: ReadonlyMap<string, Group> = new Map();

  nodes(seen: readonly NodeSeen[]): readonly NodeSeen[] {
    if (!areSame(this.#nodes, seen, isSameNode)) this.#nodes = seen;
    return this.#nodes;
  }

  /** @param own are the pods of each workload, by its key. */
  tracks(own: ReadonlyMap<string, readonly KubeObject[]>): (key: string) => readonly TrackSeen[] {
    const before = this.#groups;
    const groups = new Map(
      [...own].map(([key, pods]): [string, Group] => {
        const known = before.get(key);
        if (known !== undefined && areSame(known.pods, pods, Object.is)) return [key, known];
        return [key, { pods, tracks: tracksSeen(pods) }];
      }),
    );
    this.#groups = groups;
    return (key) => groups.get(key)?.tracks ?? NONE;
  }
}

/** Whether the reconcilers see no difference: kubelets write into their nodes all the time. */
export function isSameToUs(before: KubeObject, after: KubeObject): boolean {
  return areSame(nodesSeen([before], []), nodesSeen([after], []), isSameNode);
}

function isSameNode(one: NodeSeen, other: NodeSeen): boolean {
  return (Object.keys(one) as (keyof NodeSeen)[]).every((name) => one[name] === other[name]);
}

function areSame<T>(some: readonly T[], others: readonly T[], same: (one: T, other: T) => boolean): boolean {
  return some.length === others.length && some.every((one, index) => same(one, others[index] as T));
}
