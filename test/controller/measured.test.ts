/** What a status says of use and performance. */
import { expect, test } from "vitest";
import { measuredOf } from "../../src/controller/reconcile/measured.ts";
import { look, NOW, seen, track, workload } from "./objects.ts";

const LOAD = [
  {
    replica: "a",
    metrics: { cpu_cores: 1.5, memory_bytes: 2 ** 30, requests_per_second: 3, latency: 800, latency_p99: 1_999.6 },
  },
  { replica: "b", metrics: { cpu_cores: 0.5, requests_per_second: 5, latency: 1_200, queue_length: 2, running: 7 } },
];

test("use and rates are those of all replicas together, latencies their mean, and what nobody says is absent", () => {
  expect(measuredOf(LOAD, {}, NOW)).toEqual({
    resourceUsage: { cpu: 2, memory: 2 ** 30 },
    performanceMetrics: {
      requestsPerSecond: 8,
      p95Latency: "1000ms",
      p99Latency: "2000ms",
      queueLength: 2,
      activeConnections: 7,
      lastUpdated: new Date(NOW).toISOString(),
    },
  });
  expect(measuredOf([], {}, NOW)).toEqual({});
});

test("the time of the figures moves when they do, and they go when nobody says them any more", () => {
  const of = workload({ replicas: 1 });
  const at = (now: number, load: typeof LOAD, status = {}) =>
    look({ ...of, status }, seen([track("r", ["ready"])], { load, now })).status;
  const first = at(NOW, LOAD);
  expect(at(NOW + 60_000, LOAD, first).performanceMetrics).toEqual(first.performanceMetrics);
  const changed = at(NOW + 60_000, LOAD.slice(1), first).performanceMetrics;
  expect(changed).toMatchObject({ requestsPerSecond: 5, lastUpdated: new Date(NOW + 60_000).toISOString() });
  const silent = at(NOW + 60_000, [], first);
  expect([silent.performanceMetrics, silent.resourceUsage]).toEqual([undefined, undefined]);
});
