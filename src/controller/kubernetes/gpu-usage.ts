/**
 * How busy the GPUs of pods and nodes are, as DCGM's exporter tells a Prometheus. Asked every 15 s, beside all else: where
 * nobody answers nothing is known, and what was known before is not taken for what is now.
 */
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { keyOf } from "../objects/meta.ts";
import type { LoadSeen } from "../reconcile/seen.ts";
import type { KubeObject } from "./watch.ts";

/** In percent, by GPU. */
const QUERY = "DCGM_FI_DEV_GPU_UTIL";
const EVERY_MS = 15_000;
const TIMEOUT_MS = 5_000;
const MAX_BYTES = 16 * 2 ** 20;

const answerSchema = z.object({
  data: z.object({
    resultType: z.literal("vector"),
    result: z.array(z.object({ metric: z.record(z.string(), z.string()), value: z.tuple([z.number(), z.string()]) })),
  }),
});

interface Known {
  readonly pods: ReadonlyMap<string, number>;
  readonly nodes: ReadonlyMap<string, number>;
}
const NOTHING: Known = { pods: new Map(), nodes: new Map() };

export class GpuUsage {
  readonly #endpoint: string | null;
  #known = NOTHING;
  #askedAt = Number.NEGATIVE_INFINITY;
  #isAsking = false;
  /** Why nobody answers; `null`: somebody does. */
  trouble: string | null = "not asked yet";

  /** @param endpoint of a Prometheus; `null`: there is none. */
  constructor(endpoint: string | null) {
    this.#endpoint = endpoint;
  }

  get isAsked(): boolean {
    return this.#endpoint !== null;
  }

  /** Asks anew where it is time. @returns what is known: as long as nothing is new, the same value. */
  look(now: number): unknown {
    if (this.#endpoint !== null && !this.#isAsking && now - this.#askedAt >= EVERY_MS) {
      this.#askedAt = now;
      this.#isAsking = true;
      void this.#ask(this.#endpoint).finally(() => {
        this.#isAsking = false;
      });
    }
    return this.#known;
  }

  async #ask(endpoint: string): Promise<void> {
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const answer = await fetch(`${endpoint}/api/v1/query?query=${QUERY}`, { signal, redirect: "error" });
      const text = await answer.text();
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      if (text.length > MAX_BYTES) throw new Error(`an answer of ${text.length} bytes`);
      this.#learn(knownIn(answerSchema.parse(JSON.parse(text)).data.result));
      this.trouble = null;
    } catch (error) {
      this.#learn(NOTHING);
      this.trouble = (error as Error).message;
    }
  }

  #learn(known: Known): void {
    if (!isDeepStrictEqual(this.#known, known)) this.#known = known;
  }

  /** The average of its GPUs; empty: nobody says. */
  of({ metadata: { name, namespace = "" } }: KubeObject): LoadSeen["metrics"] {
    const percent = this.#known.pods.get(keyOf({ namespace, name }));
    return percent === undefined ? {} : { gpu_utilization: percent };
  }

  /** The average of its GPUs; `null`: nobody says. */
  ofNode(name: string): number | null {
    return this.#known.nodes.get(name) ?? null;
  }
}

type Series = z.output<typeof answerSchema>["data"]["result"];

/**
 * A Prometheus that does not honour the exporter's labels keeps them as `exported_...`, and `pod` is then the exporter's
 * own. What is no number is nobody's figure.
 */
function knownIn(series: Series): Known {
  const [pods, nodes] = [new Map<string, number[]>(), new Map<string, number[]>()];
  const add = (to: Map<string, number[]>, key: string, percent: number) => {
    to.set(key, [...(to.get(key) ?? []), percent]);
  };
  for (const { metric, value } of series) {
    const percent = Number(value[1]);
    if (!Number.isFinite(percent) || percent < 0 || percent > 100) continue;
    const name = metric.exported_pod ?? metric.pod ?? "";
    const namespace = metric.exported_namespace ?? metric.namespace ?? "";
    if (name !== "") add(pods, keyOf({ namespace, name }), percent);
    const node = metric.Hostname ?? metric.node ?? "";
    if (node !== "") add(nodes, node, percent);
  }
  return { pods: averages(pods), nodes: averages(nodes) };
}

function averages(all: ReadonlyMap<string, readonly number[]>): ReadonlyMap<string, number> {
  return new Map([...all].map(([key, values]) => [key, values.reduce((sum, one) => sum + one, 0) / values.length]));
}
