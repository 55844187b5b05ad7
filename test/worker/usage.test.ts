/** What a service uses: its processes by /proc, its requests by vLLM's own counters. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { emptyWork, withRun, withWorkload } from "../../src/work/state.ts";
import { workloadMetrics } from "../../src/work-service/usage.ts";
import { parseRequests, UsageMeter } from "../../src/worker/usage.ts";
import { aWorkload } from "../work/fixtures.ts";

const page = (ok: number, failed: number, seconds: number) => `# HELP vllm:request_success_total x
vllm:request_success_total{engine="0",finished_reason="stop",model_name="a"} ${ok}
vllm:request_success_total{engine="0",finished_reason="error",model_name="a"} ${failed}
vllm:e2e_request_latency_seconds_sum{engine="0",model_name="a"} ${seconds}
vllm:e2e_request_latency_seconds_count{engine="0",model_name="a"} ${ok + failed}
vllm:num_requests_running{engine="0"} 3
http_requests_total{handler="/x"} 9
`;

test("vLLM's counters are read over all labels, and no other page is taken for them", () => {
  expect(parseRequests(page(8, 2, 1.5))).toEqual({ count: 10, failed: 2, latencyCount: 10, latencySeconds: 1.5 });
  expect(parseRequests("process_cpu_seconds_total 4\n")).toBe(null);
});

test("rates are of the time between two measurements; what the engine does not tell is unknown", async () => {
  let body = page(10, 0, 1);
  const server = createServer((_, res) => res.writeHead(body === "" ? 404 : 200).end(body));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const meter = new UsageMeter();
  const measure = async (now: number) => {
    let looked = false;
    const members = () => {
      looked = true;
      return [process.pid];
    };
    meter.look("run-1", "127.0.0.1", port, members, now);
    await new Promise((resolve) => setTimeout(resolve, 100));
    return looked;
  };
  expect([await measure(0), meter.all]).toEqual([true, {}]);
  // Too soon.
  expect(await measure(5_000)).toBe(false);
  body = page(28, 2, 3);
  const until = performance.now() + 60;
  while (performance.now() < until);
  await measure(10_000);
  const used = meter.all["run-1"];
  expect(used).toMatchObject({ at: 10_000, requestsPerSecond: 2, latencyMs: 100, errorRate: 0.1 });
  expect(used?.cpuMillis).toBeGreaterThan(0);
  expect(used?.memoryBytes).toBeGreaterThan(2 ** 20);
  body = "";
  await measure(20_000);
  expect(meter.all["run-1"]).toMatchObject({ requestsPerSecond: null, latencyMs: null, errorRate: null });
  meter.forget("run-1");
  expect(meter.all).toEqual({});
});

test("a workload's metrics are of its replicas together, in parts of what it asked for, and nothing when they are old", () => {
  const ids = ["r0", "r1"];
  let state = emptyWork();
  const workload = aWorkload("w", 2);
  const slots = workload.slots.map((slot, i) => ({ ...slot, live: ids[i] as string }));
  state = withWorkload(state, { ...workload, slots });
  ids.forEach((id, replica) => {
    const lease = { allocationId: id, gpuUuids: [`GPU-${replica}`], gpuIndices: [], env: {}, fencingToken: 1 };
    const job = { kind: "workload", uid: "w" } as const;
    const on = { lease, node: "n", handedOutAt: 0, known: true, startedAt: 0, readyAt: 0, port: 1 };
    state = withRun(state, {
      id,
      job,
      owner: "alice",
      replica,
      epoch: 1,
      generation: 0,
      createdAt: 0,
      phase: "ready",
      ...on,
    });
  });
  const { cpuMillis, memoryBytes } = workload.spec?.resources ?? { cpuMillis: 1, memoryBytes: 1 };
  const one = {
    at: 1_000,
    cpuMillis: cpuMillis / 2,
    memoryBytes: memoryBytes / 4,
    requestsPerSecond: 3,
    latencyMs: 70,
    errorRate: 0,
  };
  const usage = { r0: one, r1: { ...one, at: 2_000, latencyMs: 80, requestsPerSecond: null } };
  const busy = (uuid: string) => (uuid === "GPU-0" ? 0.5 : null);
  const record = state.workloads.get("w") as typeof workload;
  expect(workloadMetrics(state, record, usage, busy, 3_000)).toEqual({
    requestsPerSecond: 3,
    averageLatency: "75ms",
    errorRate: 0,
    cpuUsage: 0.5,
    memoryUsage: 0.25,
    gpuUsage: 0.5,
    lastUpdated: "1970-01-01T00:00:02.000Z",
  });
  expect(workloadMetrics(state, record, usage, busy, 90_000)).toBe(null);
  expect(workloadMetrics(state, record, {}, busy, 3_000)).toBe(null);
});
