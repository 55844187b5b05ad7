/** What a status says of use and performance: of what the ready replicas say, with the first seed's names. Pure. */
import { isDeepStrictEqual } from "node:util";
import type { WorkloadStatus } from "../objects/workload.ts";
import type { LoadSeen } from "./seen.ts";

type Measured = Pick<WorkloadStatus, "resourceUsage" | "performanceMetrics">;

/** A figure that nobody says is absent, and so is a whole part of which none is. */
export function measuredOf(load: readonly LoadSeen[], before: WorkloadStatus, now: number): Measured {
  const said = (name: string) => load.flatMap(({ metrics }) => metrics[name] ?? []);
  const sum = (name: string) => (said(name).length === 0 ? null : said(name).reduce((total, one) => total + one, 0));
  const mean = (name: string) => {
    const total = sum(name);
    return total === null ? null : total / said(name).length;
  };
  const usage = known({ cpu: sum("cpu_cores"), memory: sum("memory_bytes"), gpu: mean("gpu_utilization") });
  const performance = known({
    requestsPerSecond: sum("requests_per_second"),
    averageLatency: milliseconds(mean("latency_average")),
    p95Latency: milliseconds(mean("latency")),
    p99Latency: milliseconds(mean("latency_p99")),
    tokensPerSecond: sum("tokens_per_second"),
    errorRate: mean("error_rate"),
    queueLength: rounded(sum("queue_length")),
    activeConnections: rounded(sum("running")),
  });
  return {
    ...(usage === null ? {} : { resourceUsage: usage }),
    ...(performance === null ? {} : { performanceMetrics: dated(performance, before.performanceMetrics, now) }),
  };
}

type Performance = NonNullable<WorkloadStatus["performanceMetrics"]>;

/** As long as nothing changes it is as old as it was: a look that changes nothing writes nothing. */
function dated(found: Performance, before: Performance | undefined, now: number): Performance {
  const { lastUpdated = null, ...old } = before ?? {};
  const isSame = lastUpdated !== null && isDeepStrictEqual(old, found);
  return { ...found, lastUpdated: isSame ? lastUpdated : new Date(now).toISOString() };
}

function known<T extends Readonly<Record<string, number | string | null>>>(figures: T) {
  const entries = Object.entries(figures).filter(([, value]) => value !== null);
  if (entries.length === 0) return null;
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], null> };
}

function rounded(value: number | null): number | null {
  return value === null ? null : Math.round(value);
}

function milliseconds(value: number | null): string | null {
  return value === null ? null : `${Math.round(value)}ms`;
}
