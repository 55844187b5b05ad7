/** What a workload uses, of all its replicas that have been measured, with the LLM Orchestrator's field names. */
import type { RunUsage, Workload } from "../work/model.ts";
import type { WorkState } from "../work/state.ts";
import { instant, liveRun } from "./views.ts";

/** An older measurement says nothing of now. */
const FRESH_MS = 60_000;

export interface WorkloadMetrics {
  readonly requestsPerSecond: number | null;
  readonly averageLatency: string | null;
  readonly errorRate: number | null;
  readonly cpuUsage: number | null;
  readonly memoryUsage: number | null;
  readonly gpuUsage: number | null;
  readonly lastUpdated: string | null;
}

/** @returns `null`: nothing has been measured. */
export function workloadMetrics(
  state: WorkState,
  { slots, spec }: Workload,
  usage: Readonly<Record<string, RunUsage>>,
  busyness: (uuid: string) => number | null,
  now: number,
): WorkloadMetrics | null {
  const runs = slots.flatMap((slot) => {
    const run = liveRun(state, slot);
    const measured = run === undefined ? undefined : usage[run.id];
    return run === undefined || measured === undefined || now - measured.at > FRESH_MS ? [] : [{ run, measured }];
  });
  if (runs.length === 0 || spec === null) return null;
  const all = runs.map(({ measured }) => measured);
  const gpus = runs.flatMap(({ run }) => ("lease" in run ? (run.lease?.gpuUuids ?? []) : []));
  const rates = known(all.map(({ requestsPerSecond }) => requestsPerSecond));
  const latency = mean(known(all.map(({ latencyMs }) => latencyMs)));
  return {
    requestsPerSecond: rates.length === 0 ? null : rates.reduce((sum, rate) => sum + rate, 0),
    averageLatency: latency === null ? null : `${Math.round(latency)}ms`,
    errorRate: mean(known(all.map(({ errorRate }) => errorRate))),
    cpuUsage: mean(all.map(({ cpuMillis }) => cpuMillis / spec.resources.cpuMillis)),
    memoryUsage: mean(all.map(({ memoryBytes }) => memoryBytes / spec.resources.memoryBytes)),
    gpuUsage: mean(known(gpus.map(busyness))),
    lastUpdated: instant(Math.max(...all.map(({ at }) => at))),
  };
}

function known(values: readonly (number | null)[]): number[] {
  return values.filter((value) => value !== null);
}

function mean(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}
