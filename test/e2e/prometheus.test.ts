import { afterEach, expect, test } from "vitest";
import { isInstalled } from "../metrics/scrape.ts";
import { eventually, isBuilt, startDaemon } from "./daemon.ts";
import { TestPrometheus } from "./test-prometheus.ts";

const IN_MEMORY = 'storage:\n  path: ":memory:"\n';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

test.skipIf(!isBuilt || !isInstalled("prometheus"))(
  "a real Prometheus scrapes the daemon and sees its GPUs and an allocation (needs the built program and prometheus)",
  async () => {
    const daemon = await startDaemon({ simulate: "h100x8", config: IN_MEMORY });
    cleanups.push(
      () => daemon.removeFolder(),
      () => daemon.end("SIGKILL"),
    );
    const prometheus = await TestPrometheus.scraping(new URL(daemon.url).host);
    const becomes = (expression: string, wanted: number) =>
      eventually(
        () => prometheus.value(expression),
        (value) => value === wanted,
        20_000,
      );

    await becomes("up", 1);
    await becomes("gpu_orchestrator_gpus_total", 8);
    await becomes("gpu_orchestrator_gpus_available", 8);
    await becomes("count(gpu_orchestrator_gpu_temperature_celsius)", 8);
    await becomes("gpu_orchestrator_allocations_active", 0);

    const { status, body } = await daemon.allocate({ service_name: "trainer", required_gpus: 3 });
    expect(status).toBe(200);
    await becomes("gpu_orchestrator_allocations_active", 1);
    await becomes("gpu_allocator_gpus_allocated_total", 3);
    await becomes("gpu_orchestrator_gpus_available", 5);
    await becomes('gpu_orchestrator_allocations_total{service="trainer",status="allocated"}', 1);
    await becomes('gpu_scheduler_scheduled_total{status="immediate"}', 1);
    await becomes('sum(gpu_orchestrator_http_requests_total{endpoint="/gpu/allocate",method="POST",status="200"})', 1);
    const leased = await prometheus.query('gpu_orchestrator_gpu_state{state="leased"} == 1');
    expect(leased.map(({ metric }) => Number(metric.gpu_id)).sort()).toEqual(body.gpu_ids);
    expect(leased.map(({ metric }) => metric.gpu_uuid).sort()).toEqual([...body.gpu_uuids].sort());

    await daemon.release(body.id);
    await becomes("gpu_orchestrator_allocations_active", 0);
    await becomes('gpu_orchestrator_allocations_total{service="trainer",status="released"}', 1);
    expect(await prometheus.scrapeError()).toBe("");
  },
);

test.skipIf(!isBuilt)("metrics_enabled: false takes the page away (needs the built program)", async () => {
  const daemon = await startDaemon({ config: `${IN_MEMORY}monitoring:\n  metrics_enabled: false\n` });
  cleanups.push(
    () => daemon.removeFolder(),
    () => daemon.end("SIGKILL"),
  );
  expect((await daemon.call("GET", "/metrics")).status).toBe(404);
  expect((await daemon.call("GET", "/healthz")).status).toBe(200);
});
