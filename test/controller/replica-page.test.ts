/** What is read of a replica's own page of figures, and of one that means no good. */
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { pageAt, readPage } from "../../src/controller/replica-page.ts";

describe("a page", () => {
  test("is added up over its label sets, and what several engines say of their caches is averaged", () => {
    const page = readPage(
      `# HELP vllm:num_requests_waiting Number of requests waiting
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a}b"} 3.0
vllm:num_requests_waiting{engine="1",model_name="a \\"}\\" b"} 4.0 # {trace_id="7"} 0.5
vllm:num_requests_waiting_by_reason{engine="0"} 100
vllm:num_requests_running 2 1700000000000
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
vllm:generation_tokens_total{engine="0"} NaN
vllm:e2e_request_latency_seconds_bucket{le="1.0",engine="0"} 1
vllm:e2e_request_latency_seconds_bucket{le="1.0",engine="1"} 2
vllm:e2e_request_latency_seconds_bucket{engine="0",le="+Inf"} 9
vllm:e2e_request_latency_seconds_bucket{engine="0"} 9
http_requests_total{handler="/v1",status="2xx"} 10
http_requests_total{handler="/v1",status="5xx"} 5
vllm:prefix_cache_hits_total`,
      7,
    );
    expect(page).toMatchObject({ at: 7, waiting: 7, running: 2, cache: 0.5, answers: 15, failures: 5 });
    expect(page).toMatchObject({ tokens: null, requests: null, prefixHit: null });
    expect([...page.latency]).toEqual([
      [1, 3],
      [Number.POSITIVE_INFINITY, 9],
    ]);
  });

  test("of nothing, or of lines that are none, says nothing", () => {
    for (const text of ["", "\n\n", "vllm:", "vllm:num_requests_waiting{", 'vllm:num_requests_waiting{a="', "<html>"]) {
      const { at: _, latency, ...figures } = readPage(text, 0);
      expect(Object.values(figures).every((value) => value === null)).toBe(true);
      expect(latency.size).toBe(0);
    }
  });
});

describe("a replica", () => {
  async function replica(answers: RequestListener): Promise<string> {
    const server = createServer(answers);
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
  }

  test("that answers is read whole, in letters of any length", async () => {
    const text = "# \u{1f600}\u00e9\n".repeat(20_000);
    expect(await pageAt(await replica((_req, res) => res.end(text)))).toBe(text);
  });

  test.each<[string, RequestListener]>([
    ["that says too much", (_req, res) => void res.end("x".repeat(2 * 2 ** 20 + 1))],
    ["that never ends", (_req, res) => void res.write("vllm:num_requests_waiting 1\n")],
    ["that never answers", () => undefined],
    ["that refuses", (_req, res) => void res.writeHead(503).end("vllm:num_requests_waiting 1\n")],
    ["that sends elsewhere", (_req, res) => void res.writeHead(302, { location: "http://127.0.0.1:1/" }).end()],
  ])("%s is silent", async (_what, answers) => {
    expect(await pageAt(await replica(answers))).toBeNull();
  });

  test("that breaks off is silent at once", async () => {
    const began = performance.now();
    expect(await pageAt(await replica((_req, res) => void res.write("vllm:", () => res.destroy())))).toBeNull();
    expect(performance.now() - began).toBeLessThan(1_500);
  });

  test("without an address, or at one where nobody listens, is silent", async () => {
    expect(await pageAt("http://not an address:8000/metrics")).toBeNull();
    expect(await pageAt("http://127.0.0.1:1/metrics")).toBeNull();
  });
});
