/** What ready replicas say of their load at `/metrics`, in vLLM's names. Asked every 15 s; a silent one is left out. */
import type { LoadSeen } from "./reconcile/seen.ts";
import { pageAt, type ReplicaPage, readPage } from "./replica-page.ts";

const EVERY_MS = 15_000;
/** Thousands that were asked at once would keep a processor for a second, and whoever wants a workload waiting. */
const TOGETHER = 64;
const APART_MS = 100;

type Metrics = LoadSeen["metrics"];

interface Asked {
  readonly replica: string;
  readonly url: string;
}

export class LoadWatch {
  #known: ReadonlyMap<string, Metrics> = new Map();
  #askedAt = Number.NEGATIVE_INFINITY;
  #isAsking = false;
  readonly #before = new Map<string, ReplicaPage>();

  /** @param now is by a steady clock. What was said last; it is asked anew beside it, so that a silent replica holds up nobody. */
  look(replicas: () => readonly Asked[], now: number): ReadonlyMap<string, Metrics> {
    if (this.#isAsking || now - this.#askedAt < EVERY_MS) return this.#known;
    this.#askedAt = now;
    this.#isAsking = true;
    void this.#ask(replicas(), now).finally(() => {
      this.#isAsking = false;
    });
    return this.#known;
  }

  async #ask(replicas: readonly Asked[], now: number): Promise<void> {
    const answers: Promise<readonly [string, Metrics] | null>[] = [];
    for (let from = 0, at = now; from < replicas.length; from += TOGETHER, at += APART_MS) {
      if (from > 0) await pause();
      answers.push(...replicas.slice(from, from + TOGETHER).map((one) => this.#said(one, at)));
    }
    const said = (await Promise.all(answers)).filter((one) => one !== null);
    const present = new Set(replicas.map(({ replica }) => replica));
    for (const replica of this.#before.keys()) if (!present.has(replica)) this.#before.delete(replica);
    this.#known = new Map(said);
  }

  async #said({ replica, url }: Asked, at: number): Promise<readonly [string, Metrics] | null> {
    const text = await pageAt(`${url}/metrics`);
    return text === null ? null : [replica, this.#metricsOf(replica, text, at)];
  }

  #metricsOf(replica: string, text: string, now: number): Metrics {
    const page = readPage(text, now);
    const before = this.#before.get(replica);
    this.#before.set(replica, page);
    const { waiting, running, cache } = page;
    return {
      ...(waiting === null ? {} : { queue_length: waiting }),
      ...(running === null ? {} : { running }),
      ...(cache === null ? {} : { kv_cache: cache * 100 }),
      ...(before === undefined ? {} : since(before, page)),
    };
  }
}

/** A process that ends does not wait for it. */
function pause(): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, APART_MS).unref());
}

/** What has happened between two pages. A counter that went back is that of a new process: there is no rate yet. */
function since(before: ReplicaPage, now: ReplicaPage): Metrics {
  const seconds = (now.at - before.at) / 1_000;
  const grown = (of: (page: ReplicaPage) => number | null): number | null => {
    const [old, here] = [of(before), of(now)];
    return old === null || here === null || here < old || seconds <= 0 ? null : here - old;
  };
  const requests = grown(({ requests }) => requests);
  const tokens = grown(({ tokens }) => tokens);
  const asked = grown(({ prefixAsked }) => prefixAsked);
  const hit = grown(({ prefixHit }) => prefixHit);
  const latency = percentile(0.95, before.latency, now.latency);
  const slowest = percentile(0.99, before.latency, now.latency);
  const took = grown(({ latencySum }) => latencySum);
  const counted = grown(({ latency: of }) => of.get(Number.POSITIVE_INFINITY) ?? null);
  const answers = grown((page) => page.answers);
  const failures = grown((page) => page.failures) ?? 0;
  return {
    ...(requests === null ? {} : { requests_per_second: requests / seconds }),
    ...(tokens === null ? {} : { tokens_per_second: tokens / seconds }),
    ...(hit === null || asked === null || asked === 0 ? {} : { cache_hits: (hit / asked) * 100 }),
    ...(latency === null ? {} : { latency }),
    ...(slowest === null ? {} : { latency_p99: slowest }),
    ...(took === null || counted === null || counted === 0 ? {} : { latency_average: (took / counted) * 1_000 }),
    ...(answers === null || answers === 0 ? {} : { error_rate: failures / answers }),
  };
}

/** Milliseconds that this part of the requests between two pages took at most; `null`: there was none, or nobody says. */
function percentile(part: number, before: ReplicaPage["latency"], now: ReplicaPage["latency"]): number | null {
  const counts = [...now].map(([bound, count]) => [bound, count - (before.get(bound) ?? 0)] as const);
  const all = counts.find(([bound]) => bound === Number.POSITIVE_INFINITY)?.[1] ?? 0;
  if (all <= 0 || counts.some(([, count]) => count < 0)) return null;
  let [low, below] = [0, 0];
  for (const [bound, count] of counts.toSorted(([a], [b]) => a - b)) {
    if (count >= part * all) {
      // Beyond the last bound nobody knows how far: the bound is said, which is too little.
      if (bound === Number.POSITIVE_INFINITY) return low * 1_000;
      return (low + ((bound - low) * (part * all - below)) / (count - below)) * 1_000;
    }
    [low, below] = [bound, count];
  }
  return null;
}
