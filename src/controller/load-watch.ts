/** What ready replicas say of their load at `/metrics`, in vLLM's names. Asked every 15 s; a silent one is left out. */
import type { LoadSeen } from "./reconcile/seen.ts";

const EVERY_MS = 15_000;
const TIMEOUT_MS = 2_000;
const MAX_BYTES = 2 * 2 ** 20;

type Metrics = LoadSeen["metrics"];

interface Before {
  readonly at: number;
  readonly requests: number;
}

export class LoadWatch {
  #known: ReadonlyMap<string, Metrics> = new Map();
  #askedAt = Number.NEGATIVE_INFINITY;
  readonly #before = new Map<string, Before>();

  async look(
    replicas: readonly { readonly replica: string; readonly url: string }[],
    now: number,
  ): Promise<ReadonlyMap<string, Metrics>> {
    if (now - this.#askedAt < EVERY_MS) return this.#known;
    this.#askedAt = now;
    const said = await Promise.all(
      replicas.map(async ({ replica, url }) => {
        const text = await pageOf(`${url}/metrics`);
        return text === null ? [] : [[replica, this.#metricsOf(replica, text, now)] as const];
      }),
    );
    const present = new Set(replicas.map(({ replica }) => replica));
    for (const replica of this.#before.keys()) if (!present.has(replica)) this.#before.delete(replica);
    this.#known = new Map(said.flat());
    return this.#known;
  }

  #metricsOf(replica: string, text: string, now: number): Metrics {
    const waiting = sumOf(text, "vllm:num_requests_waiting");
    const cache = sumOf(text, "vllm:kv_cache_usage_perc");
    const requests = sumOf(text, "vllm:request_success_total");
    const before = this.#before.get(replica);
    if (requests !== null) this.#before.set(replica, { at: now, requests });
    // A counter that went back is that of a new process: there is no rate yet.
    const rate =
      requests === null || before === undefined || requests < before.requests
        ? null
        : (requests - before.requests) / ((now - before.at) / 1_000);
    return {
      ...(waiting === null ? {} : { queue_length: waiting }),
      ...(cache === null ? {} : { kv_cache: cache * 100 }),
      ...(rate === null ? {} : { requests_per_second: rate }),
    };
  }
}

/** The sum over a metric's label sets; `null`: the page does not have it. */
export function sumOf(page: string, name: string): number | null {
  let sum: number | null = null;
  for (const line of page.split("\n")) {
    if (!line.startsWith(name) || !/[\s{]/.test(line.charAt(name.length))) continue;
    const value = Number(
      line
        .slice(line.lastIndexOf("}") + 1)
        .trim()
        .split(/\s+/)
        .at(line.includes("}") ? 0 : 1),
    );
    if (Number.isFinite(value)) sum = (sum ?? 0) + value;
  }
  return sum;
}

async function pageOf(url: string): Promise<string | null> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS), redirect: "error" });
    if (!answer.ok) {
      await answer.body?.cancel();
      return null;
    }
    return (await answer.text()).slice(0, MAX_BYTES);
  } catch {
    return null;
  }
}
