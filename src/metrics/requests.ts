import type { Metric, Registry } from "prom-client";
import { counterFamily } from "./families.ts";
import { BoundedLabel, OTHER } from "./tally.ts";

/** prom-client's usual ones, which dashboards ask for, with finer ones below them and the longest wait above. */
const BUCKETS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60] as const;
const METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
/** The API has some twenty routes; raw paths, should they ever get here, must not fill the memory. */
const MAX_ENDPOINTS = 100;

export interface ObservedRequest {
  readonly method: string;
  /** The route's template, such as `/gpu/allocations/{id}`; one word for all unknown paths. */
  readonly endpoint: string;
  readonly status: number;
  /** `null` of a stream, which is as long as its client likes: it is counted and not timed. */
  readonly seconds: number | null;
}

interface Series {
  readonly labels: { readonly method: string; readonly endpoint: string; readonly status: string };
  readonly method: string;
  readonly status: number;
  /** Observations per bucket, not added up; those beyond the last bucket are only in `count`. */
  readonly buckets: number[];
  sum: number;
  /** Of those that were timed. */
  count: number;
  /** Of all. */
  answered: number;
}

/**
 * How long requests took, and how many there were. Every request passes here, so it counts by itself: prom-client's
 * histogram and counter take more than a microsecond together, since they check and join the labels at each
 * observation.
 */
export class RequestTimes {
  readonly #byEndpoint = new Map<string, Series[]>();
  readonly #endpoints = new BoundedLabel(MAX_ENDPOINTS);

  constructor(registry: Registry) {
    registerHistogram(
      registry,
      "gpu_orchestrator_http_request_duration_seconds",
      "Time from a request's arrival to the end of its answer, waits included and streams left out",
      () => this.#series().filter(({ count }) => count > 0),
    );
    counterFamily(registry, {
      name: "gpu_orchestrator_http_requests_total",
      help: "Requests answered; a stream counts when it begins",
      labelNames: ["method", "endpoint", "status"],
      read: () => this.#series().map(({ labels, answered }) => ({ labels, value: answered })),
    });
  }

  observe({ method, endpoint, status, seconds }: ObservedRequest): void {
    const series = this.#find(method, endpoint, status) ?? this.#add(method, endpoint, status);
    series.answered++;
    if (seconds === null) return;
    for (let i = 0; i < BUCKETS_S.length; i++) {
      if (seconds > (BUCKETS_S[i] as number)) continue;
      series.buckets[i] = (series.buckets[i] as number) + 1;
      break;
    }
    series.sum += seconds;
    series.count++;
  }

  /** Among the few methods and statuses of one route, looking at each is quicker than joining a key. */
  #find(method: string, endpoint: string, status: number): Series | undefined {
    const candidates = this.#byEndpoint.get(endpoint);
    if (candidates === undefined) return undefined;
    for (const series of candidates) if (series.status === status && series.method === method) return series;
    return undefined;
  }

  #add(rawMethod: string, rawEndpoint: string, status: number): Series {
    const method = METHODS.has(rawMethod) ? rawMethod : OTHER;
    const endpoint = this.#endpoints.of(rawEndpoint);
    const existing = this.#find(method, endpoint, status);
    if (existing !== undefined) return existing;
    const series: Series = {
      labels: { method, endpoint, status: String(status) },
      method,
      status,
      buckets: BUCKETS_S.map(() => 0),
      sum: 0,
      count: 0,
      answered: 0,
    };
    const candidates = this.#byEndpoint.get(endpoint);
    if (candidates === undefined) this.#byEndpoint.set(endpoint, [series]);
    else candidates.push(series);
    return series;
  }

  #series(): readonly Series[] {
    return [...this.#byEndpoint.values()].flat();
  }
}

function registerHistogram(registry: Registry, name: string, help: string, read: () => readonly Series[]): void {
  const type = "histogram";
  const get = async () => ({ name, help, type, values: read().flatMap((series) => samplesOf(name, series)) });
  // A registry asks a metric for nothing else; the type, though, knows only prom-client's own classes.
  registry.registerMetric({ name, help, type, get } as unknown as Metric);
}

/** What prom-client's own histograms hand to their registry: labels that it joins once and remembers, and `le`. */
interface SharedSample {
  readonly metricName: string;
  readonly labels: { readonly le?: number | string };
  readonly sharedLabels: Series["labels"];
  readonly value: number;
}

function samplesOf(name: string, { labels, buckets, sum, count }: Series): SharedSample[] {
  let upToHere = 0;
  const bucket = `${name}_bucket`;
  const samples: SharedSample[] = BUCKETS_S.map((le, index) => {
    upToHere += buckets[index] as number;
    return { metricName: bucket, labels: { le }, sharedLabels: labels, value: upToHere };
  });
  samples.push({ metricName: bucket, labels: { le: "+Inf" }, sharedLabels: labels, value: count });
  samples.push({ metricName: `${name}_sum`, labels: {}, sharedLabels: labels, value: sum });
  samples.push({ metricName: `${name}_count`, labels: {}, sharedLabels: labels, value: count });
  return samples;
}
