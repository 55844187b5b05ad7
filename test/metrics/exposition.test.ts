import { spawnSync } from "node:child_process";
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { pciDevice } from "../../src/core/base/pci-address.ts";
import { gaugeFamily } from "../../src/metrics/families.ts";
import { ANYBODY } from "../monitor/simulated/simulated-daemon.ts";
import { isInstalled, type Watched, watched } from "./scrape.ts";

const TEXT = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/** What Prometheus 2.42 and 3 send. */
const PROMETHEUS_2 =
  "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
const PROMETHEUS_3 =
  "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";

/** A daemon after something of everything, so that every family has series. */
async function lively(): Promise<Watched> {
  const host = await watched("h100x2", { idleAfterMs: 5_000 });
  const { daemon, metrics } = host;
  const first = await daemon.allocate({ requiredGpus: 2, serviceName: "a.b-c_d" });
  const second = await daemon.allocate({ requiredGpus: 2 });
  daemon.clock.advance(10_000);
  await daemon.release(first);
  daemon.clock.advance(5_000);
  await daemon.observe();
  const unused = await daemon.source.probe();
  await daemon.scheduler.read(second, ANYBODY);
  const device = pciDevice((await daemon.gpu(0)).pciBusId ?? "") ?? "";
  const error = { kind: "xid", device, xid: 31, at: 0, fatal: false, action: null, sequence: 1, count: 1 } as const;
  await daemon.scheduler.readKernelLog({ reports: [error], problem: null, missed: 0 });
  daemon.clock.advance(5_000);
  await daemon.scheduler.observe({ ...unused, startedAt: daemon.clock.now(), finishedAt: daemon.clock.now() });
  metrics.observeRequest({ method: "POST", endpoint: "/gpu/allocate", status: 200, seconds: 0.002 });
  metrics.observeRequest({ method: "GET", endpoint: "/gpu/allocations/{id}", status: 404, seconds: 0.001 });
  metrics.observeRequest({ method: "GET", endpoint: "/gpu/events", status: 200, seconds: null });
  return host;
}

test.each([
  [undefined, TEXT],
  ["", TEXT],
  ["*/*", TEXT],
  ["text/plain", TEXT],
  ["text/html,application/xhtml+xml,*/*;q=0.8", TEXT],
  ["application/openmetrics-text", OPEN_METRICS],
  ["Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", OPEN_METRICS],
  ["application/openmetrics-text;version=0.0.1", TEXT],
  ["application/openmetrics-text;q=0", TEXT],
  ["application/openmetrics-text;q=0.2, text/plain;q=0.9", TEXT],
  ["application/openmetrics-text;q=nonsense", TEXT],
  [`,;,=;${"q=,".repeat(1_000)}`, TEXT],
  [PROMETHEUS_2, OPEN_METRICS],
  [PROMETHEUS_3, OPEN_METRICS],
])("Accept %j gets %s", async (accept, contentType) => {
  const { metrics } = await watched("t4x1");
  expect((await metrics.render(accept)).contentType).toBe(contentType);
});

test("OpenMetrics names counters' families without _total, ends with EOF, and has the same series", async () => {
  const { metrics, scrape } = await lively();
  const { body } = await metrics.render("application/openmetrics-text");
  expect(body.endsWith("\n# EOF\n")).toBe(true);
  expect(body).toContain("\n# TYPE gpu_orchestrator_allocations counter\n");
  expect(body).toContain('\ngpu_orchestrator_allocations_total{service="a.b-c_d",status="allocated"} 1\n');
  expect(body).toContain("\n# TYPE gpu_orchestrator_gpus_total gauge\n");
  expect(body).not.toContain("_total_total");
  expect(body).not.toMatch(/\n\n/);
  expect([...(await scrape("application/openmetrics-text")).keys()]).toEqual([...(await scrape()).keys()]);
});

test("one format leaves no trace in the other, not even at the same time", async () => {
  const { metrics, scrape } = await lively();
  const before = [...(await scrape()).keys()];
  const pages = await Promise.all(
    [PROMETHEUS_2, undefined, PROMETHEUS_2, undefined].map((accept) => metrics.render(accept)),
  );
  expect(pages.map(({ contentType }) => contentType)).toEqual([OPEN_METRICS, TEXT, OPEN_METRICS, TEXT]);
  expect(pages.map(({ body }) => body.includes("# EOF"))).toEqual([true, false, true, false]);
  expect(pages.map(({ body }) => body.includes("# TYPE gpu_scheduler_scheduled_total counter"))).toEqual([
    false,
    true,
    false,
    true,
  ]);
  expect([...(await scrape()).keys()]).toEqual(before);
});

test("every family that has no figure yet is announced all the same", async () => {
  const { metrics } = await lively();
  const { body } = await metrics.render(undefined);
  const announced = [...body.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name);
  expect(new Set(announced).size).toBe(announced.length);
  expect(announced).toEqual(
    expect.arrayContaining([
      "gpu_orchestrator_allocations_total",
      "gpu_orchestrator_allocations_active",
      "gpu_allocator_gpus_allocated_total",
      "gpu_orchestrator_queue_depth",
      "gpu_scheduler_queue_wait_seconds",
      "gpu_scheduler_scheduled_total",
      "gpu_orchestrator_gpu_utilization_percent",
      "gpu_orchestrator_gpu_memory_used_mb",
      "gpu_orchestrator_gpu_memory_total_mb",
      "gpu_orchestrator_gpu_temperature_celsius",
      "gpu_orchestrator_gpu_power_draw_watts",
      "gpu_orchestrator_gpus_total",
      "gpu_orchestrator_gpus_available",
      "gpu_orchestrator_http_request_duration_seconds",
      "gpu_orchestrator_http_requests_total",
    ]),
  );
  expect(body).toMatch(/^gpu_orchestrator_idle_leases\{service="svc"\} 1$/m);
  const buckets = [...body.matchAll(/^gpu_scheduler_queue_wait_seconds_bucket\{le="(.*?)"\}/gm)].map(([, le]) => le);
  expect(buckets).toEqual(["1", "5", "10", "30", "60", "120", "300", "600", "+Inf"]);
});

test.skipIf(!isInstalled("promtool"))("promtool finds nothing but the old names", async () => {
  const { body } = await (await lively()).metrics.render(undefined);
  const { stdout, stderr } = spawnSync("promtool", ["check", "metrics"], { input: body, encoding: "utf8" });
  expect(`${stdout}${stderr}`.trim().split("\n").sort()).toEqual([
    'gpu_allocator_gpus_allocated_total non-counter metrics should not have "_total" suffix',
    "gpu_orchestrator_gpu_memory_total_mb metric names should not contain abbreviated units",
    "gpu_orchestrator_gpu_memory_used_mb metric names should not contain abbreviated units",
    'gpu_orchestrator_gpus_total non-counter metrics should not have "_total" suffix',
  ]);
});

test("control characters in a label, such as a driver's name for a GPU may have, are written out", async () => {
  const registry = new Registry();
  const read = () => [{ labels: { gpu_name: "H100\u001b[2J\u202e\n" }, value: 1 }];
  gaugeFamily(registry, { name: "gpus", help: "GPUs", labelNames: ["gpu_name"], read });
  expect(await registry.metrics()).toContain('gpu_name="H100\\\\u{1b}[2J\\\\u{202e}\\\\u{a}"');
});
