/**
 * What pods use of CPU and memory, as metrics.k8s.io tells it. Asked every 15 s, beside all else: where nobody answers, nothing
 * is known, and what was known before is not taken for what is now.
 */
import { isDeepStrictEqual } from "node:util";
import { parseMemoryBytes } from "../../work/quantities.ts";
import { keyOf } from "../objects/meta.ts";
import type { LoadSeen } from "../reconcile/seen.ts";
import type { KubeConnection } from "./connection.ts";
import { requestsOf } from "./inventory.ts";
import { OURS } from "./owned.ts";
import type { KubeObject } from "./watch.ts";

const PATH = "/apis/metrics.k8s.io/v1beta1/pods";
const EVERY_MS = 15_000;

interface PodMetrics {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly containers?: readonly { readonly usage?: { readonly cpu?: string; readonly memory?: string } }[];
}

interface Use {
  readonly cores: number;
  readonly bytes: number;
}

export class PodUsage {
  readonly #connection: KubeConnection;
  #known: ReadonlyMap<string, Use> = new Map();
  #askedAt = Number.NEGATIVE_INFINITY;
  #isAsking = false;
  /** Why nobody answers; `null`: somebody does. */
  trouble: string | null = "not asked yet";

  constructor(connection: KubeConnection) {
    this.#connection = connection;
  }

  /** Asks anew where it is time. @returns what is known: as long as nothing is new, the same value. */
  look(now: number): unknown {
    if (!this.#isAsking && now - this.#askedAt >= EVERY_MS) {
      this.#askedAt = now;
      this.#isAsking = true;
      void this.#ask().finally(() => {
        this.#isAsking = false;
      });
    }
    return this.#known;
  }

  async #ask(): Promise<void> {
    try {
      const query = { labelSelector: OURS };
      const { items } = await this.#connection.call<{ readonly items: readonly PodMetrics[] }>(PATH, { query });
      this.#learn(new Map(items.flatMap((one) => usesIn(one))));
      this.trouble = null;
    } catch (error) {
      this.#learn(new Map());
      this.trouble = (error as Error).message;
    }
  }

  #learn(known: ReadonlyMap<string, Use>): void {
    if (!isDeepStrictEqual(this.#known, known)) this.#known = known;
  }

  /** In percent of what it has requested, as an HPA counts; empty: nobody says. */
  of(pod: KubeObject): LoadSeen["metrics"] {
    const { name, namespace = "" } = pod.metadata;
    const use = this.#known.get(keyOf({ namespace, name }));
    if (use === undefined) return {};
    const { cpuMillis, memoryBytes } = requestsOf(pod);
    return {
      cpu_cores: use.cores,
      memory_bytes: use.bytes,
      ...(cpuMillis === null ? {} : { cpu: ((use.cores * 1_000) / cpuMillis) * 100 }),
      ...(memoryBytes === null ? {} : { memory: (use.bytes / memoryBytes) * 100 }),
    };
  }
}

/** Of all its containers; none where one of them is not told of. */
function usesIn({ metadata, containers = [] }: PodMetrics): (readonly [string, Use])[] {
  let [cores, bytes] = [0, 0];
  for (const { usage } of containers) {
    const [cpu, memory] = [coresIn(usage?.cpu), usage?.memory === "0" ? 0 : parseMemoryBytes(usage?.memory)];
    if (cpu === null || memory === null) return [];
    cores += cpu;
    bytes += memory;
  }
  return containers.length === 0 ? [] : [[keyOf(metadata), { cores, bytes }]];
}

/** Such as `187543210n`, `250m` or `2`. */
function coresIn(given: string | undefined): number | null {
  const [, amount, unit = ""] = /^(\d+(?:\.\d+)?)([num]?)$/.exec(given ?? "") ?? [];
  if (amount === undefined) return null;
  return Number(amount) / { "": 1, m: 1e3, u: 1e6, n: 1e9 }[unit as "" | "m" | "u" | "n"];
}
