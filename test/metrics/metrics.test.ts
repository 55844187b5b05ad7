import { expect, test } from "vitest";
import { pciDevice } from "../../src/core/base/pci-address.ts";
import type { GpuReading, Observation } from "../../src/core/model/reading.ts";
import { cutGpu, instance, twins } from "../fixtures/mig.ts";
import { ANYBODY } from "../monitor/simulated/simulated-daemon.ts";
import { family, watched } from "./scrape.ts";

const H100 = 'gpu_name="NVIDIA H100 80GB HBM3"';

/** What a source brought back, with the GPUs changed by `change`; `null` drops one. */
function altered(observation: Observation, change: (gpu: GpuReading) => GpuReading | null): Observation {
  if (!observation.ok) throw new Error("expected a reading");
  const gpus = observation.reading.gpus.map(change).filter((gpu) => gpu !== null);
  return { ...observation, reading: { ...observation.reading, gpus } };
}

test("how long a head waited whose start nobody knew is told, and how often others went before it", async () => {
  const { daemon, scrape } = await watched("h100x2");
  const holder = await daemon.allocate({ serviceName: "a" });
  const pair = await daemon.allocate({ serviceName: "b", requiredGpus: 2 });
  for (let i = 0; i < 3; i++) {
    daemon.clock.advance(20_000);
    await daemon.observe();
    await daemon.scheduler.read(pair, ANYBODY);
  }
  const passer = await daemon.allocate({ serviceName: "c" });
  expect((await scrape()).get("gpu_orchestrator_head_passes_total")).toBe(1);
  daemon.clock.advance(20_000);
  for (const id of [holder, passer]) await daemon.release(id);
  daemon.clock.advance(2_000);
  await daemon.observe();
  const page = await scrape();
  expect(page.get("gpu_orchestrator_head_passes_total")).toBe(1);
  expect(page.get("gpu_orchestrator_head_wait_seconds_count")).toBe(1);
  expect(page.get("gpu_orchestrator_head_wait_seconds_sum")).toBe(22);
});

test("a scripted history gives the figures that it should", async () => {
  const { daemon, scrape } = await watched("h100x2");
  const first = await daemon.allocate({ serviceName: "a" });
  const second = await daemon.allocate({ serviceName: "b", ttlMs: 100_000 });
  const waiter = await daemon.allocate({ serviceName: "c" });
  const quitter = await daemon.allocate({ serviceName: "c" });
  let page = await scrape();
  expect(page.get("gpu_orchestrator_allocations_active")).toBe(2);
  expect(page.get("gpu_orchestrator_queue_depth")).toBe(2);
  expect(page.get("gpu_allocator_gpus_allocated_total")).toBe(2);
  expect(page.get("gpu_orchestrator_gpus_total")).toBe(2);
  expect(page.get("gpu_orchestrator_gpus_available")).toBe(0);
  expect(family(page, "gpu_scheduler_scheduled_total")).toEqual({
    'status="immediate"': 2,
    'status="queued"': 2,
    'status="allocated_from_queue"': 0,
  });

  daemon.clock.advance(7_000);
  await daemon.release(quitter);
  await daemon.release(first);
  daemon.clock.advance(2_000);
  await daemon.observe();
  await daemon.scheduler.read(waiter, ANYBODY);
  page = await scrape();
  expect(page.get("gpu_orchestrator_allocations_active")).toBe(2);
  expect(page.get("gpu_orchestrator_queue_depth")).toBe(0);
  expect(family(page, "gpu_scheduler_scheduled_total")['status="allocated_from_queue"']).toBe(1);
  expect(page.get('gpu_scheduler_queue_wait_seconds_bucket{le="5"}')).toBe(0);
  expect(page.get('gpu_scheduler_queue_wait_seconds_bucket{le="10"}')).toBe(1);
  expect(page.get("gpu_scheduler_queue_wait_seconds_sum")).toBe(9);

  daemon.clock.advance(100_000);
  await daemon.observe();
  expect(daemon.scheduler.state.allocations.get(second)).toBeUndefined();
  expect(family(await scrape(), "gpu_orchestrator_allocations_total")).toEqual({
    'service="a",status="allocated"': 1,
    'service="b",status="allocated"': 1,
    'service="c",status="queued"': 2,
    'service="c",status="allocated"': 1,
    'service="c",status="cancelled"': 1,
    'service="a",status="released"': 1,
    'service="b",status="expired"': 1,
  });
});

test("requests of one turn are counted as if each had had its own", async () => {
  const { daemon, scrape } = await watched("t4x2");
  await Promise.all(Array.from({ length: 5 }, (_, index) => daemon.allocate({ serviceName: `s${index % 2}` })));
  const page = await scrape();
  expect(family(page, "gpu_scheduler_scheduled_total")).toEqual({
    'status="immediate"': 2,
    'status="queued"': 3,
    'status="allocated_from_queue"': 0,
  });
  expect(Object.values(family(page, "gpu_orchestrator_allocations_total")).reduce((a, b) => a + b)).toBe(5);
});

test("what the database refused is not counted", async () => {
  const { daemon, scrape } = await watched("t4x1");
  daemon.store.failing = true;
  await expect(daemon.allocate()).rejects.toThrow();
  let page = await scrape();
  expect(family(page, "gpu_orchestrator_allocations_total")).toEqual({});
  expect(page.get("gpu_orchestrator_storage_healthy")).toBe(0);
  expect(page.get("gpu_orchestrator_storage_outages_total")).toBe(1);
  daemon.store.failing = false;
  await daemon.allocate();
  page = await scrape();
  expect(page.get("gpu_orchestrator_storage_healthy")).toBe(1);
  expect(page.get("gpu_orchestrator_storage_outages_total")).toBe(1);
});

test("each GPU's figures carry its index and name", async () => {
  const { daemon, scrape } = await watched("h100x2");
  const page = await scrape();
  const { gpus } = await daemon.reading();
  for (const [name, figure] of [
    ["utilization_percent", "utilizationPercent"],
    ["memory_used_mb", "memoryUsedMib"],
    ["memory_total_mb", "memoryTotalMib"],
    ["temperature_celsius", "temperatureC"],
    ["power_draw_watts", "powerDrawW"],
  ] as const) {
    expect(family(page, `gpu_orchestrator_gpu_${name}`)).toEqual({
      [`gpu_id="0",${H100}`]: gpus[0]?.[figure],
      [`gpu_id="1",${H100}`]: gpus[1]?.[figure],
    });
  }
});

test("a figure that the driver does not give is left out, and 0 is shown", async () => {
  const { daemon, scrape } = await watched("h100x2");
  const readings = altered(await daemon.source.probe(), (gpu) =>
    gpu.index === 1 ? gpu : { ...gpu, utilizationPercent: null, powerDrawW: null, temperatureC: null },
  );
  await daemon.scheduler.observe(readings);
  const page = await scrape();
  expect(family(page, "gpu_orchestrator_gpu_utilization_percent")).toEqual({ [`gpu_id="1",${H100}`]: 0 });
  expect(Object.keys(family(page, "gpu_orchestrator_gpu_power_draw_watts"))).toEqual([`gpu_id="1",${H100}`]);
  expect(Object.keys(family(page, "gpu_orchestrator_gpu_temperature_celsius"))).toEqual([`gpu_id="1",${H100}`]);
  expect(Object.keys(family(page, "gpu_orchestrator_gpu_memory_used_mb"))).toHaveLength(2);
});

test("instances have figures of their own, and none among those of whole GPUs", async () => {
  const { daemon, scrape } = await watched("h100x2");
  await daemon.scheduler.observe(
    altered(await daemon.source.probe(), (gpu) =>
      gpu.index === 0 ? gpu : cutGpu(gpu.uuid, [instance(0, 9), instance(1, 10), ...twins(2)], { index: 1 }),
    ),
  );
  await daemon.allocate({ minMemoryMib: 9_000 });
  const page = await scrape();
  expect(page.get("gpu_orchestrator_gpus_total")).toBe(2);
  expect(page.get("gpu_orchestrator_gpus_available")).toBe(1);
  expect(page.get("gpu_allocator_gpus_allocated_total")).toBe(0);
  expect(page.get("gpu_orchestrator_allocations_active")).toBe(1);
  expect(Object.keys(family(page, "gpu_orchestrator_gpu_memory_total_mb"))).toHaveLength(2);
  expect(Object.keys(family(page, "gpu_orchestrator_gpu_state"))).toHaveLength(2 * 12);
  const parent = `gpu_id="1",gpu_uuid="${daemon.scheduler.state.gpus.get("MIG-9-0")?.mig?.parentUuid}"`;
  expect(family(page, "gpu_orchestrator_mig_devices")).toEqual({
    [`${parent},profile="1g.10gb",state="leased"`]: 1,
    [`${parent},profile="1g.10gb",state="free"`]: 1,
    [`${parent},profile="1c.3g.71gb",state="free"`]: 1,
    [`${parent},profile="2c.3g.71gb",state="free"`]: 1,
  });
  const labels = `${parent},mig_uuid="MIG-9-0",profile="1g.10gb"`;
  expect(family(page, "gpu_orchestrator_mig_device_memory_total_bytes")[labels]).toBe(9_984 * 2 ** 20);
  expect(family(page, "gpu_orchestrator_mig_device_memory_used_bytes")[labels]).toBe(9 * 2 ** 20);
});

test("a GPU that is no longer seen loses its figures, not its place in the inventory", async () => {
  const { daemon, scrape } = await watched("h100x2");
  await daemon.scheduler.observe(altered(await daemon.source.probe(), (gpu) => (gpu.index === 0 ? null : gpu)));
  const page = await scrape();
  expect(Object.keys(family(page, "gpu_orchestrator_gpu_memory_total_mb"))).toEqual([`gpu_id="1",${H100}`]);
  expect(page.get("gpu_orchestrator_gpus_total")).toBe(2);
  expect(page.get("gpu_orchestrator_gpus_available")).toBe(1);
});

test("figures older than stale_after are left out until there are new ones", async () => {
  const { daemon, scrape } = await watched("h100x2", { staleAfterMs: 20_000 });
  daemon.clock.advance(20_000);
  expect((await scrape()).get("gpu_orchestrator_gpus_available")).toBe(2);
  daemon.clock.advance(1);
  const page = await scrape();
  expect(family(page, "gpu_orchestrator_gpu_temperature_celsius")).toEqual({});
  expect(page.get("gpu_orchestrator_gpus_available")).toBe(0);
  expect(page.get("gpu_orchestrator_gpus_total")).toBe(2);
  await daemon.observe();
  expect(Object.keys(family(await scrape(), "gpu_orchestrator_gpu_temperature_celsius"))).toHaveLength(2);
});

test("each GPU is in exactly one state", async () => {
  const { daemon, scrape } = await watched("h100x4");
  const used = await daemon.allocate();
  daemon.clock.advance(10_000);
  await daemon.observe();
  await daemon.release(used);
  await daemon.allocate();
  await daemon.scheduler.observe(altered(await daemon.source.probe(), (gpu) => (gpu.index === 3 ? null : gpu)));
  const states = Object.entries(family(await scrape(), "gpu_orchestrator_gpu_state"));
  expect(states).toHaveLength(4 * 12);
  const current = states.filter(([, value]) => value === 1).map(([labels]) => /state="(\w+)"/.exec(labels)?.[1]);
  expect(current.sort()).toEqual(["free", "leased", "reclaiming", "unknown"]);
  expect(states.filter(([, value]) => value === 0)).toHaveLength(44);
});

test("Xid errors are counted by GPU and number, and it is told whether the log can be read", async () => {
  const { daemon, scrape } = await watched("h100x2");
  expect(family(await scrape(), "gpu_orchestrator_gpu_xid_errors_total")).toEqual({});
  expect((await scrape()).has("gpu_orchestrator_kernel_log_readable")).toBe(false);
  const gpu = await daemon.gpu(1);
  const error = {
    kind: "xid",
    device: pciDevice(gpu.pciBusId ?? "") ?? "",
    at: 0,
    fatal: false,
    action: null,
  } as const;
  const reports = [
    { ...error, xid: 31, sequence: 7, count: 5 },
    { ...error, xid: 79, sequence: 9, count: 1 },
  ];
  await daemon.scheduler.readKernelLog({ reports, problem: null, missed: 0 });
  const labels = `gpu_id="1",${H100},gpu_uuid="${gpu.uuid}"`;
  expect(family(await scrape(), "gpu_orchestrator_gpu_xid_errors_total")).toEqual({
    [`${labels},xid="31"`]: 5,
    [`${labels},xid="79"`]: 1,
  });
  expect((await scrape()).get("gpu_orchestrator_kernel_log_readable")).toBe(1);
  expect((await scrape()).get("gpu_orchestrator_gpus_available")).toBe(1);
  await daemon.scheduler.readKernelLog({ reports: [], problem: "EPERM", missed: 0 });
  expect((await scrape()).get("gpu_orchestrator_kernel_log_readable")).toBe(0);
});

test("what ails a GPU is told though a lease hides its state, and no more once it is well", async () => {
  const { daemon, scrape } = await watched("h100x2");
  const id = await daemon.allocate();
  const [held] = daemon.held(id);
  const lose = (gpu: GpuReading) => (gpu.index === held ? { ...gpu, errorValues: { x: "GPU is lost" } } : gpu);
  await daemon.scheduler.observe(altered(await daemon.source.probe(), lose));
  const ailing = async () =>
    Object.entries(family(await scrape(), "gpu_orchestrator_gpu_ailing"))
      .filter(([, value]) => value === 1)
      .map(([labels]) => [/gpu_id="(\d+)"/.exec(labels)?.[1], /state="(\w+)"/.exec(labels)?.[1]]);
  expect(await ailing()).toEqual([[String(held), "lost"]]);
  await daemon.observe();
  expect(await ailing()).toEqual([[String(held), "recovering"]]);
  await daemon.observe();
  await daemon.observe();
  expect(await ailing()).toEqual([]);
});

test("who gets no new leases, who is empty of them, and who has been told to leave are counted", async () => {
  const { daemon, scrape } = await watched("h100x2");
  const id = await daemon.allocate();
  const figures = async () => {
    const page = await scrape();
    const leaving = family(page, "gpu_orchestrator_leaving_leases");
    const names = ["gpu_orchestrator_gpus_cordoned", "gpu_orchestrator_gpus_drained"];
    return [...names.map((name) => page.get(name)), leaving['reason="drained"'], leaving['reason="preempted"']];
  };
  expect(await figures()).toEqual([0, 0, 0, 0]);
  const admin = { principal: "ops", admin: true };
  await daemon.scheduler.drain(null, { ms: 60_000 }, "a new driver", admin);
  expect(await figures()).toEqual([2, 1, 1, 0]);
  await daemon.scheduler.release({ id, serviceName: null, fencingToken: null }, admin);
  expect(await figures()).toEqual([2, 2, 0, 0]);
});

test("idle leases are counted by service, and a service keeps its series when it has none any more", async () => {
  const { daemon, scrape } = await watched("h100x4", { idleAfterMs: 10_000 });
  const quiet = async () => daemon.scheduler.observe(altered(await daemon.source.probe(), empty));
  const idle = async () => family(await scrape(), "gpu_orchestrator_idle_leases");
  for (const [serviceName, requiredGpus] of [
    ["a", 2],
    ["a", 1],
    ["b", 1],
  ] as const) {
    await daemon.allocate({ serviceName, requiredGpus, ttlMs: serviceName === "b" ? 3_600_000 : null });
  }
  await quiet();
  expect(await idle()).toEqual({});
  daemon.clock.advance(10_000);
  await quiet();
  expect(await idle()).toEqual({ 'service="a"': 2 });
  await daemon.observe();
  expect(await idle()).toEqual({ 'service="a"': 0 });
});

/** As if the lease's program had never come. */
function empty(gpu: GpuReading): GpuReading {
  return { ...gpu, processes: [], memoryUsedMib: 4 };
}

test("services beyond the first hundred share one series", async () => {
  const { daemon, scrape } = await watched("t4x1", { maxQueueSize: 1_000 });
  for (let i = 0; i < 150; i++) await daemon.allocate({ serviceName: `service-${i}` });
  const counts = family(await scrape(), "gpu_orchestrator_allocations_total");
  expect(Object.keys(counts)).toHaveLength(101);
  expect(counts['service="service-99",status="queued"']).toBe(1);
  expect(counts['service="other",status="queued"']).toBe(50);
});

test("requests are counted and timed by method, route and status", async () => {
  const { metrics, scrape } = await watched("t4x1");
  const name = "gpu_orchestrator_http_request_duration_seconds";
  for (const seconds of [0.0005, 0.001, 0.004, 61]) {
    metrics.observeRequest({ method: "POST", endpoint: "/gpu/allocate", status: 200, seconds });
  }
  metrics.observeRequest({ method: "POST", endpoint: "/gpu/allocate", status: 422, seconds: 0.5 });
  metrics.observeRequest({ method: "GET", endpoint: "/gpu/allocate", status: 405, seconds: 0.5 });
  const page = await scrape();
  const labels = 'method="POST",endpoint="/gpu/allocate",status="200"';
  expect(family(page, "gpu_orchestrator_http_requests_total")).toEqual({
    [labels]: 4,
    'method="POST",endpoint="/gpu/allocate",status="422"': 1,
    'method="GET",endpoint="/gpu/allocate",status="405"': 1,
  });
  const upTo = (le: string) => page.get(`${name}_bucket{le="${le}",${labels}}`);
  expect([upTo("0.001"), upTo("0.0025"), upTo("0.005"), upTo("60"), upTo("+Inf")]).toEqual([2, 2, 3, 3, 4]);
  expect(page.get(`${name}_sum{${labels}}`)).toBeCloseTo(61.0055);
  expect(page.get(`${name}_count{${labels}}`)).toBe(4);
});

test("a stream is counted as a request and not timed, and as a stream for as long as it is read", async () => {
  const { daemon, metrics, scrape } = await watched("t4x1");
  const labels = 'method="GET",endpoint="/gpu/events",status="200"';
  const duration = "gpu_orchestrator_http_request_duration_seconds";
  metrics.observeRequest({ method: "GET", endpoint: "/gpu/events", status: 200, seconds: null });
  const readers = [daemon.scheduler.events.open(null), daemon.scheduler.events.open(0)];
  let page = await scrape();
  expect(family(page, "gpu_orchestrator_http_requests_total")).toEqual({ [labels]: 1 });
  expect(page.has(`${duration}_count{${labels}}`)).toBe(false);
  expect(page.get("gpu_orchestrator_event_streams")).toBe(2);
  // Where some are timed, the others are no part of the figures.
  metrics.observeRequest({ method: "GET", endpoint: "/gpu/events", status: 200, seconds: 0.5 });
  readers.pop()?.close();
  page = await scrape();
  expect(family(page, "gpu_orchestrator_http_requests_total")).toEqual({ [labels]: 2 });
  expect([page.get(`${duration}_count{${labels}}`), page.get(`${duration}_sum{${labels}}`)]).toEqual([1, 0.5]);
  expect(page.get("gpu_orchestrator_event_streams")).toBe(1);
});

test("no caller can fill the memory with methods or routes", async () => {
  const { metrics, scrape } = await watched("t4x1");
  for (let i = 0; i < 500; i++) {
    metrics.observeRequest({ method: "GET", endpoint: `/${i}`, status: 200, seconds: 0 });
    metrics.observeRequest({ method: `M${i}`, endpoint: "/0", status: 200, seconds: 0 });
  }
  const counts = family(await scrape(), "gpu_orchestrator_http_requests_total");
  expect(Object.keys(counts)).toHaveLength(102);
  expect(counts['method="GET",endpoint="other",status="200"']).toBe(400);
  expect(counts['method="other",endpoint="/0",status="200"']).toBe(500);
});

test("probes are timed, failures told apart, and the last success stays known", async () => {
  const { daemon, scrape } = await watched("t4x1");
  const lastSuccess = (await scrape()).get("gpu_orchestrator_monitor_last_success_timestamp_seconds");
  expect(lastSuccess).toBe(daemon.clock.now() / 1_000);
  const startedAt = daemon.clock.now();
  daemon.clock.advance(3_000);
  const failure = { kind: "gpu-lost", message: "GPU is lost", exitCode: 15 } as const;
  await daemon.scheduler.observe({ ok: false, startedAt, finishedAt: daemon.clock.now(), failure });
  const page = await scrape();
  expect(family(page, "gpu_orchestrator_monitor_probe_failures_total")).toEqual({
    'kind="missing"': 0,
    'kind="timeout"': 0,
    'kind="driver"': 0,
    'kind="gpu_lost"': 1,
    'kind="garbled"': 0,
    'kind="exit"': 0,
    'kind="no_devices"': 0,
  });
  expect(page.get("gpu_orchestrator_monitor_probe_duration_seconds_sum")).toBe(3);
  expect(page.get("gpu_orchestrator_monitor_last_success_timestamp_seconds")).toBe(lastSuccess);
  expect(page.get("gpu_orchestrator_monitor_simulated")).toBe(1);
});

test("a probe that cannot be ended is told while it lives, and counted for good", async () => {
  const source = { abandonedTotal: 0, stuck: false };
  const { scrape } = await watched("t4x1", {}, source);
  const figures = async () => {
    const page = await scrape();
    return [
      page.get("gpu_orchestrator_monitor_probes_abandoned_total"),
      page.get("gpu_orchestrator_monitor_probe_stuck"),
    ];
  };
  expect(await figures()).toEqual([0, 0]);
  Object.assign(source, { abandonedTotal: 1, stuck: true });
  expect(await figures()).toEqual([1, 1]);
  source.stuck = false;
  expect(await figures()).toEqual([1, 0]);
});

test("webhooks, reloads and the build are told", async () => {
  const { daemon, metrics, scrape } = await watched("t4x1");
  const startedAt = daemon.clock.now() / 1_000;
  metrics.webhookSettled({ outcome: "retry" });
  metrics.webhookSettled({ outcome: "retry" });
  metrics.webhookSettled({ outcome: "gave-up" });
  daemon.clock.advance(60_000);
  metrics.configReload(false);
  let page = await scrape();
  expect(family(page, "gpu_orchestrator_webhook_attempts_total")).toEqual({
    'outcome="delivered"': 0,
    'outcome="retry"': 2,
    'outcome="gave_up"': 1,
  });
  expect(page.get("gpu_orchestrator_config_last_reload_successful")).toBe(0);
  expect(page.get("gpu_orchestrator_config_last_reload_success_timestamp_seconds")).toBe(startedAt);
  metrics.configReload(true);
  page = await scrape();
  expect(page.get("gpu_orchestrator_config_last_reload_successful")).toBe(1);
  expect(page.get("gpu_orchestrator_config_last_reload_success_timestamp_seconds")).toBe(startedAt + 60);
  const build = `gpu_orchestrator_build_info{version="1.2.3",node_version="${process.versions.node}"}`;
  expect(page.get(build)).toBe(1);
});

test("the process shows its own time, memory and age", async () => {
  const { scrape } = await watched("t4x1");
  const page = await scrape();
  expect(page.get("process_cpu_seconds_total")).toBeGreaterThan(0.01);
  expect(page.get("process_resident_memory_bytes")).toBeGreaterThan(10e6);
  expect(page.get("nodejs_heap_size_used_bytes")).toBeGreaterThan(1e6);
  expect(Math.abs((page.get("process_start_time_seconds") ?? 0) - Date.now() / 1_000)).toBeLessThan(3_600);
  expect(page.get("nodejs_eventloop_active_seconds_total")).toBeGreaterThanOrEqual(0);
});

test.runIf(process.platform === "linux")("open files are counted against their limit", async () => {
  const page = await (await watched("t4x1")).scrape();
  expect(page.get("process_open_fds")).toBeGreaterThan(2);
  expect(page.get("process_max_fds")).toBeGreaterThan(page.get("process_open_fds") ?? 0);
});
