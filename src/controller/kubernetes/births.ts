/** How long pods wait for a node, and how long they then take to serve: each once, by the cluster's own clock. */
import { Durations, type Family } from "../watching/figures.ts";
import type { KubeObject } from "./watch.ts";

const SECONDS = [1, 2, 5, 10, 30, 60, 300, 1_800];

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly lastTransitionTime?: string;
}

export class Births {
  readonly #waits = new Durations("schedule_seconds", "From a pod's making to its node", SECONDS);
  readonly #starts = new Durations("start_seconds", "From a pod's node to its first answer", SECONDS);
  /** By uid: what has been taken of a pod already. */
  readonly #seen = new Map<string, "waits" | "placed" | "serves">();

  look(pods: readonly KubeObject[]): void {
    const there = new Set<string>();
    for (const pod of pods) {
      there.add(pod.metadata.uid);
      this.#take(pod);
    }
    for (const uid of this.#seen.keys()) if (!there.has(uid)) this.#seen.delete(uid);
  }

  #take({ metadata: { uid, creationTimestamp }, status }: KubeObject): void {
    const before = this.#seen.get(uid) ?? "waits";
    if (before === "serves") return;
    const { conditions = [] } = (status ?? {}) as { readonly conditions?: readonly Condition[] };
    const at = (type: string) => {
      const found = conditions.find((one) => one.type === type && one.status === "True");
      return found?.lastTransitionTime === undefined ? null : Date.parse(found.lastTransitionTime);
    };
    const [placed, ready] = [at("PodScheduled"), at("Ready")];
    if (placed === null) return;
    if (before === "waits") this.#waits.observe(Math.max(0, placed - Date.parse(creationTimestamp)) / 1_000);
    if (ready !== null) this.#starts.observe(Math.max(0, ready - placed) / 1_000);
    this.#seen.set(uid, ready === null ? "placed" : "serves");
  }

  families(): readonly Family[] {
    return [this.#waits.family(), this.#starts.family()];
  }
}
