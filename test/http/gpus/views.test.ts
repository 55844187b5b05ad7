import { expect, test } from "vitest";
import { pciDevice } from "../../../src/core/base/pci-address.ts";
import type { Topology } from "../../../src/core/model/device.ts";
import { printable } from "../../../src/platform/printable.ts";
import { failed, gpuReading } from "../../fixtures/readings.ts";
import { startDaemon } from "../daemon.ts";

test("the status of a GPU shows the driver's figures, and null for those it does not give", async () => {
  const blind = gpuReading(1, {
    memoryTotalMib: null,
    memoryUsedMib: null,
    memoryFreeMib: null,
    utilizationPercent: null,
    temperatureC: null,
    powerDrawW: null,
  });
  const daemon = await startDaemon({ gpus: [gpuReading(0, { utilizationPercent: 0 }), blind] });
  const { json } = await daemon.call("GET", "/gpu/status");
  const at = new Date(daemon.clock.now()).toISOString();
  expect(json).toMatchObject({ simulated: false, driver_version: "570.86.15", cuda_version: "12.8" });
  expect(json.monitor).toEqual({
    healthy: true,
    last_reading_at: at,
    last_probe_at: at,
    failure: null,
    warnings: [],
    processes_hidden: false,
    kernel_log: null,
  });
  expect(json.gpus[0]).toMatchObject({
    id: 0,
    uuid: gpuReading(0).uuid,
    name: "NVIDIA H100 80GB HBM3",
    memory_total: 81_559,
    memory_used: 4,
    memory_free: 81_008,
    utilization: 0,
    temperature: 31,
    power_draw: 71.5,
    last_updated: at,
    allocated: false,
    allocated_to: null,
    state: "free",
    reason: null,
    since: null,
    ailment: null,
    holders: [],
  });
  expect(json.gpus[0]).not.toHaveProperty("allocated_at");
  expect(json.gpus[1]).toMatchObject({
    memory_total: null,
    memory_used: null,
    memory_free: null,
    utilization: null,
    temperature: null,
    power_draw: null,
    state: "unknown",
    reason: "the driver gives no memory reading",
  });
});

test("a GPU shows where it sits and how it is connected to each other, and null where that is not known", async () => {
  const gpus = [gpuReading(0), gpuReading(1), gpuReading(2)];
  const [a, b, c] = gpus.map(({ uuid }) => uuid) as [string, string, string];
  const daemon = await startDaemon({ gpus });
  const unknown = { numa_nodes: null, cpu_affinity: null, links: null };
  expect((await daemon.call("GET", "/gpu/status")).json.gpus).toMatchObject([unknown, unknown, unknown]);
  const topology: Topology = {
    gpus: [
      { uuid: a, numaNodes: [0, 1], cpuAffinity: "0-31,64-95" },
      { uuid: b, numaNodes: [], cpuAffinity: null },
    ],
    links: [
      [null, "NV18"],
      ["NV18", null],
    ],
  };
  await daemon.see(gpus, { topology });
  const { json: status } = await daemon.call("GET", "/gpu/status");
  expect(status.gpus).toMatchObject([
    { numa_nodes: [0, 1], cpu_affinity: "0-31,64-95", links: { [b]: "NV18" } },
    { numa_nodes: null, cpu_affinity: null, links: { [a]: "NV18" } },
    unknown,
  ]);
  expect(status.gpus[0].links).toEqual({ [b]: "NV18" });
  expect(status.gpus[2].uuid).toBe(c);
  expect((await daemon.call("GET", "/gpu/list")).json.gpus).toEqual(status.gpus);
});

test("a leased GPU shows who holds it, since when, and what ails it", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const { json: lease } = await daemon.allocate();
  const worker = {
    pid: 41,
    type: "C",
    name: "python",
    usedMemoryMib: 900,
    gpuInstanceId: null,
    computeInstanceId: null,
    origin: null,
  };
  const health = { ...gpuReading(0).health, remappedRowsFailure: true };
  await daemon.see([gpuReading(0, { memoryUsedMib: 1_000, processes: [worker], health })]);
  const [gpu] = (await daemon.call("GET", "/gpu/status")).json.gpus;
  expect(gpu).toMatchObject({
    allocated: true,
    allocated_to: "trainer",
    allocated_at: lease.allocated_at,
    state: "leased",
    reason: `leased to ${lease.id}`,
    since: lease.allocated_at,
    ailment: { state: "unhealthy", reason: "row remapping has failed" },
    holders: [
      {
        allocation_id: lease.id,
        service_name: "trainer",
        since: lease.allocated_at,
        in_use_since: lease.allocated_at,
        idle_since: null,
      },
    ],
    processes: [{ pid: 41, type: "C", name: "python", used_memory: 900 }],
    health: { remapped_rows_failure: true, slowdown: false },
  });

  const flagged = [
    { uuid: gpu.uuid, state: "unhealthy", reason: "row remapping has failed", since: expect.any(String) },
  ];
  expect((await daemon.call("GET", `/gpu/allocations/${lease.id}`)).json.ailing_gpus).toEqual(flagged);
  expect((await daemon.call("POST", `/gpu/allocations/${lease.id}/renew`)).json.ailing_gpus).toEqual(flagged);
  expect((await daemon.call("GET", "/gpu/list")).json.allocations[0].ailing_gpus).toEqual(flagged);

  await daemon.call("DELETE", `/gpu/allocations/${lease.id}`);
  const [after] = (await daemon.call("GET", "/gpu/status")).json.gpus;
  expect(after).toMatchObject({ allocated: false, allocated_to: null, state: "reclaiming", holders: [] });
});

test("an idle lease is shown as such on its GPUs and in its record, until it is used", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)], policy: { idleAfterMs: 10_000 } });
  const { json: lease } = await daemon.allocate();
  const holder = async () => (await daemon.call("GET", "/gpu/status")).json.gpus[0].holders[0];
  const record = async () => (await daemon.call("GET", `/gpu/allocations/${lease.id}`)).json;
  expect(await holder()).toMatchObject({ in_use_since: null, idle_since: null });
  expect(await record()).not.toHaveProperty("idle_since");
  daemon.clock.advance(10_000);
  await daemon.see([gpuReading(0)]);
  expect(await holder()).toMatchObject({ in_use_since: null, idle_since: lease.allocated_at });
  expect(await record()).toMatchObject({ status: "leased", idle_since: lease.allocated_at });
  expect((await daemon.call("GET", "/gpu/list")).json.allocations[0].idle_since).toBe(lease.allocated_at);
  await daemon.see([gpuReading(0, { memoryUsedMib: 9_000 })]);
  expect(await holder()).toMatchObject({ in_use_since: new Date(daemon.clock.now()).toISOString(), idle_since: null });
  expect(await record()).not.toHaveProperty("idle_since");
});

test("a GPU that reads well again says how many more good readings are wanted, and shows the new figures", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  await daemon.see([gpuReading(0, { errorValues: { "temperature/gpu_temp": "GPU is lost" }, temperatureC: null })]);
  await daemon.see([gpuReading(0, { temperatureC: 33 })]);
  const [gpu] = (await daemon.call("GET", "/gpu/status")).json.gpus;
  expect(gpu).toMatchObject({ state: "recovering", temperature: 33 });
  expect(gpu.reason).toBe(
    '2 more good readings are wanted after: the driver says "GPU is lost" (temperature/gpu_temp)',
  );
});

test("a free GPU says what speaks against it for some, and every field of its health is shown", async () => {
  const { health } = gpuReading(0);
  const cutOff = { ...health, fabricHealth: "Unhealthy", remappedRowsCorrectable: 4, eccCorrectedAggregate: 12 };
  const hot = { ...health, slowdown: true };
  const daemon = await startDaemon({ gpus: [gpuReading(0, { health: cutOff }), gpuReading(1, { health: hot })] });
  const { gpus } = (await daemon.call("GET", "/gpu/status")).json;
  expect(gpus).toMatchObject([
    { state: "free", reason: "only for requests of one GPU: its NVLink fabric is unhealthy", memory_reserved: 480 },
    { state: "free", reason: "taken last: the driver slows it for heat or by the power brake" },
  ]);
  expect(gpus[0].health).toEqual({
    unrepairable_memory: null,
    license: null,
    ecc_mode: "Enabled",
    ecc_corrected_volatile: 0,
    ecc_corrected_aggregate: 12,
    ecc_uncorrected_volatile: 0,
    ecc_uncorrected_aggregate: 0,
    sram_threshold_exceeded: false,
    repair_pending: false,
    retired_pages: null,
    retired_pages_pending: null,
    remapped_rows_correctable: 4,
    remapped_rows_uncorrectable: 0,
    remapped_rows_pending: false,
    remapped_rows_failure: false,
    recovery_action: "None",
    fabric_state: "Completed",
    fabric_status: "Success",
    fabric_health: "Unhealthy",
    slowdown: false,
  });
  const { json: lease } = await daemon.allocate({ preferred_gpus: [gpuReading(0).uuid] });
  expect((await daemon.call("GET", `/gpu/allocations/${lease.id}`)).json.ailing_gpus).toMatchObject([
    { uuid: gpuReading(0).uuid, state: "isolated", reason: "its NVLink fabric is unhealthy" },
  ]);
});

test("Xid errors stand with their GPU, what they mean and when; the status says whether the log can be read", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0), gpuReading(1)] });
  const device = pciDevice(gpuReading(1).pciBusId ?? "") ?? "";
  const error = { kind: "xid", device, at: Date.UTC(2026, 10, 1), fatal: false, action: null } as const;
  const reports = [
    { ...error, xid: 79, sequence: 9, count: 1 },
    { ...error, xid: 31, sequence: 7, count: 5 },
    { ...error, xid: 555, sequence: 8, count: 1 },
  ];
  await daemon.scheduler.readKernelLog({ reports, problem: null, missed: 3 });
  const { json } = await daemon.call("GET", "/gpu/status");
  expect(json.monitor.kernel_log).toEqual({ readable: true, problem: null, overruns: 3 });
  expect(json.gpus[0]).toMatchObject({ state: "free", xid_errors: [] });
  const last_seen = "2026-11-01T00:00:00.000Z";
  expect(json.gpus[1]).toMatchObject({
    state: "quarantined",
    reason: "Xid 79: the GPU has fallen off the bus",
    xid_errors: [
      { xid: 31, meaning: "a program's access to memory that it does not have", count: 5, last_seen },
      { xid: 79, meaning: "the GPU has fallen off the bus", count: 1, last_seen },
      { xid: 555, meaning: null, count: 1, last_seen },
    ],
  });
  const cleared = await daemon.call("POST", `/gpu/gpus/1/clear-quarantine`, { body: { reason: "reseated" } });
  expect(cleared.json).toMatchObject({ state: "free", reason: null });
  await daemon.scheduler.readKernelLog({ reports: [], problem: "EPERM", missed: 3 });
  expect((await daemon.call("GET", "/gpu/status")).json.monitor.kernel_log).toEqual({
    readable: false,
    problem: "EPERM",
    overruns: 3,
  });
});

test("figures stay, with their age, when the monitor fails; the state says that they are stale", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const readAt = new Date(daemon.clock.now()).toISOString();
  daemon.clock.advance(30_000);
  await daemon.scheduler.observe(failed(daemon.clock.now(), { kind: "timeout", message: "no answer in 10 s" }));
  const { json } = await daemon.call("GET", "/gpu/status");
  expect(json.gpus[0]).toMatchObject({ state: "unknown", last_updated: readAt, memory_used: 4, temperature: 31 });
  expect(json.gpus[0].reason).toContain("no answer in 10 s");
  expect(json.monitor).toMatchObject({
    healthy: false,
    last_reading_at: readAt,
    failure: { kind: "timeout", message: "no answer in 10 s" },
  });
});

test("GPUs are in index order; those missing from the latest reading have no index, and come last", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(2), gpuReading(0), gpuReading(1)] });
  await daemon.see([gpuReading(2), gpuReading(0)], { simulated: true });
  const { json } = await daemon.call("GET", "/gpu/status");
  expect(json.gpus.map(({ id, state }: { id: number; state: string }) => [id, state])).toEqual([
    [0, "free"],
    [2, "free"],
    [null, "unknown"],
  ]);
  expect(json.simulated).toBe(true);
  expect(json.gpus[2]).toMatchObject({ memory_total: null, last_updated: null, health: null, processes: [] });
});

test("GPUs that the store would not record are shown all the same", async () => {
  const daemon = await startDaemon({ gpus: null });
  daemon.store.failing = true;
  await expect(daemon.see([gpuReading(0)])).rejects.toThrow();
  const { json } = await daemon.call("GET", "/gpu/status");
  expect(json.gpus).toMatchObject([
    { id: 0, memory_used: 4, state: "unknown", reason: expect.stringContaining("store") },
  ]);
});

test("process names cannot act on a terminal or turn the line around", async () => {
  const hostile = "\u001b]0;x\u0007 evil \u202egpj.exe\u0085\ud800<script>";
  const process = {
    pid: 7,
    type: "C",
    name: hostile,
    usedMemoryMib: 900,
    gpuInstanceId: null,
    computeInstanceId: null,
    origin: null,
  };
  const daemon = await startDaemon({ gpus: [gpuReading(0, { processes: [process] })] });
  const { text, json } = await daemon.call("GET", "/gpu/status");
  expect(json.gpus[0].processes[0].name).toBe("\\u{1b}]0;x\\u{7} evil \\u{202e}gpj.exe\\u{85}\\u{d800}<script>");
  expect(json.gpus[0].reason).toContain("\\u{202e}");
  expect(text).not.toMatch(/[\p{Cc}\p{Cf}]/u);
});

test("long text of others is cut", () => {
  expect(printable("x".repeat(10_000))).toHaveLength(515);
});

test("a list with a thousand waiting asks for each kind of request only once why it waits", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)], policy: { maxQueueSize: 1_000 } });
  await Promise.all(Array.from({ length: 1_001 }, (_, i) => daemon.allocate({ priority: 1 + (i % 10) })));
  const startedAt = performance.now();
  const { json } = await daemon.call("GET", "/gpu/list");
  const tookMs = performance.now() - startedAt;
  expect(json.queue).toHaveLength(1_000);
  expect(json.queue.map(({ position }: { position: number }) => position)).toEqual(
    Array.from({ length: 1_000 }, (_, i) => i + 1),
  );
  expect(tookMs).toBeLessThan(1_000);
});
