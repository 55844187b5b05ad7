/** What the controller counts, and what it reads of its replicas. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { Births } from "../../src/controller/kubernetes/births.ts";
import type { KubeObject } from "../../src/controller/kubernetes/watch.ts";
import { LoadWatch } from "../../src/controller/load-watch.ts";
import { Count, Durations, family, pageOf } from "../../src/controller/watching/figures.ts";

test("figures are written as Prometheus reads them", () => {
  const count = new Count("calls_total", "Calls", [{ code: "200" }]);
  count.add({ code: 'a "b"\n' });
  const took = new Durations("took_seconds", "Time", [1, 5]);
  for (const seconds of [0.5, 1, 3, 60]) took.observe(seconds);
  expect(pageOf([count.family(), took.family(), family("up", "Up", "gauge", [[{}, 1]])])).toBe(
    `# HELP llm_orchestrator_calls_total Calls
# TYPE llm_orchestrator_calls_total counter
llm_orchestrator_calls_total{code="200"} 0
llm_orchestrator_calls_total{code="a \\"b\\"\\n"} 1
# HELP llm_orchestrator_took_seconds Time
# TYPE llm_orchestrator_took_seconds histogram
llm_orchestrator_took_seconds_bucket{le="1"} 2
llm_orchestrator_took_seconds_bucket{le="5"} 3
llm_orchestrator_took_seconds_bucket{le="+Inf"} 4
llm_orchestrator_took_seconds_sum 64.5
llm_orchestrator_took_seconds_count 4
# HELP llm_orchestrator_up Up
# TYPE llm_orchestrator_up gauge
llm_orchestrator_up 1
`,
  );
});

test("a pod's wait for a node and its start are counted once each", () => {
  const births = new Births();
  const pod = (conditions: object[]) =>
    ({
      metadata: { uid: "u", creationTimestamp: "2026-01-01T00:00:00Z" },
      status: { conditions },
    }) as unknown as KubeObject;
  const placed = { type: "PodScheduled", status: "True", lastTransitionTime: "2026-01-01T00:00:03Z" };
  const ready = { type: "Ready", status: "True", lastTransitionTime: "2026-01-01T00:01:03Z" };
  const sums = () => births.families().map(({ samples }) => samples.slice(-2).map(({ value }) => value));
  births.look([pod([])]);
  expect(sums()).toEqual([
    [0, 0],
    [0, 0],
  ]);
  for (const conditions of [[placed], [placed, ready], [placed, ready]]) births.look([pod(conditions)]);
  expect(sums()).toEqual([
    [3, 1],
    [60, 1],
  ]);
});

describe("the load of a replica", () => {
  async function replica(pages: string[]) {
    const server = createServer((_req, res) => res.end(pages.length > 1 ? pages.shift() : pages[0]));
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const watch = new LoadWatch();
    let asked = Number.NEGATIVE_INFINITY;
    return async (now: number) => {
      const known = watch.look(() => [{ replica: "r", url }], now);
      if (now - asked >= 15_000) {
        asked = now;
        await expect.poll(() => watch.look(() => [], now) !== known, { interval: 10, timeout: 20_000 }).toBe(true);
      }
      return watch.look(() => [], now).get("r");
    };
  }
  const page = (of: { requests: number; tokens: number; within1: number; within5: number; hits: number }) => `
vllm:num_requests_waiting{engine="0"} 3
vllm:num_requests_running{engine="0"} 2
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:request_success_total{finished_reason="stop"} ${of.requests}
vllm:generation_tokens_total{engine="0"} ${of.tokens}
vllm:prefix_cache_queries_total{engine="0"} ${of.hits * 2}
vllm:prefix_cache_hits_total{engine="0"} ${of.hits}
vllm:e2e_request_latency_seconds_bucket{engine="0",le="1.0"} ${of.within1}
vllm:e2e_request_latency_seconds_bucket{engine="0",le="5.0"} ${of.within5}
vllm:e2e_request_latency_seconds_bucket{engine="0",le="+Inf"} ${of.requests}
`;

  test("has rates and the 95th percentile of what happened between two looks", async () => {
    const look = await replica([
      page({ requests: 100, tokens: 1_000, within1: 100, within5: 100, hits: 10 }),
      page({ requests: 200, tokens: 4_000, within1: 150, within5: 200, hits: 20 }),
    ]);
    expect(await look(0)).toEqual({ queue_length: 3, running: 2, kv_cache: 50 });
    expect(await look(20_000)).toEqual({
      queue_length: 3,
      running: 2,
      kv_cache: 50,
      requests_per_second: 5,
      tokens_per_second: 150,
      cache_hits: 50,
      // 50 of 100 within a second, and the 95th of them at nine tenths of the way from 1 s to 5 s.
      latency: 4_600,
      latency_p99: 4_920,
    });
  });

  test("is asked for beside others, 64 together and the next a tenth of a second later", async () => {
    const times: number[] = [];
    const server = createServer((_req, res) => {
      times.push(performance.now());
      res.end("vllm:num_requests_waiting 1\n");
    });
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    onTestFinished(() => void server.close());
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const watch = new LoadWatch();
    const all = Array.from({ length: 150 }, (_, index) => ({ replica: `r${index}`, url }));
    watch.look(() => all, 0);
    await expect.poll(() => watch.look(() => [], 0).size, { timeout: 20_000 }).toBe(150);
    const [first = 0] = times;
    const delay = (index: number) => (times[index] ?? 0) - first;
    expect(delay(64)).toBeGreaterThan(60);
    expect(delay(128)).toBeGreaterThan(160);
    expect(watch.look(() => [], 0).get("r149")).toEqual({ queue_length: 1 });
  });

  test("has no rate when its process is new, and no latency when nobody asked", async () => {
    const look = await replica([
      page({ requests: 100, tokens: 1_000, within1: 100, within5: 100, hits: 10 }),
      page({ requests: 10, tokens: 10, within1: 10, within5: 10, hits: 1 }),
      page({ requests: 10, tokens: 10, within1: 10, within5: 10, hits: 1 }),
    ]);
    await look(0);
    expect(await look(20_000)).toEqual({ queue_length: 3, running: 2, kv_cache: 50 });
    expect(await look(40_000)).toMatchObject({ requests_per_second: 0 });
    expect(await look(40_000)).not.toHaveProperty("latency");
  });
});
