import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parseCpuList } from "../../../src/core/base/cpu-list.ts";
import type { GpuReading } from "../../../src/core/model/reading.ts";
import { idleCeilingMib } from "../../../src/core/readings/use.ts";
import { parseShape } from "../../../src/monitor/simulated/models.ts";
import { SimulatedSource } from "../../../src/monitor/simulated/source.ts";
import { ManualClock } from "../../../src/platform/clock.ts";
import { ANYBODY, SimulatedDaemon } from "./simulated-daemon.ts";

const CAPTURES = "../shared/fixtures/nvidia-smi/expected";

async function readings(shape: string): Promise<readonly GpuReading[]> {
  const observation = await new SimulatedSource({ shape, clock: new ManualClock() }).probe();
  return observation.ok ? observation.reading.gpus : [];
}

test.each([
  ["h100x8", "NVIDIA H100 80GB HBM3", 8],
  ["a100x4", "NVIDIA A100-SXM4-80GB", 4],
  ["a100-40gbx2", "NVIDIA A100-SXM4-40GB", 2],
  ["t4x1", "Tesla T4", 1],
  ["h200x8", "NVIDIA H200", 8],
  ["b200x8", "NVIDIA B200", 8],
  ["gb200x4", "NVIDIA GB200", 4],
  ["l40sx4", "NVIDIA L40S", 4],
  ["rtx4090x2", "NVIDIA GeForce RTX 4090", 2],
  ["rtx3090x1", "NVIDIA GeForce RTX 3090", 1],
  ["a10gx1", "NVIDIA A10G", 1],
  ["v100x16", "Tesla V100-PCIE-32GB", 16],
  ["H100x8", "NVIDIA H100 80GB HBM3", 8],
])("%s is a host of %s", (shape, name, count) => {
  expect(parseShape(shape)).toMatchObject({ model: { name }, count });
});

test.each(["h100x2-mig", "h200x1-mig", "a100x8-mig", "A100X1-MIG"])(
  "%s is a host whose last GPU is cut",
  async (shape) => {
    const gpus = await readings(shape);
    expect(gpus.map(({ migMode }) => migMode)).toEqual([...gpus.slice(1).map(() => "Disabled"), "Enabled"]);
    const last = gpus.at(-1) as GpuReading;
    expect(last.utilizationPercent).toBeNull();
    expect(new Set(last.migInstances.map(({ uuid }) => uuid)).size).toBeGreaterThanOrEqual(4);
    for (const { uuid } of last.migInstances) expect(uuid).toMatch(/^MIG-[0-9a-f-]{36}$/);
  },
);

test("the instances of a cut H100 and A100 are those of the real ones", async () => {
  const cut = async (shape: string) =>
    (await readings(shape)).at(-1)?.migInstances.map(({ uuid: _, profile, ...instance }) => ({ ...instance, profile }));
  if (!existsSync(CAPTURES)) return;
  const real = (capture: string) =>
    JSON.parse(readFileSync(`${CAPTURES}/${capture}.json`, "utf8")).gpus[0].mig_instances;
  for (const [shape, capture, ignored] of [
    ["a100x1-mig", "telegraf-a100-sxm4-mig-v12", {}],
    ["h100x1-mig", "derived-h100-mig-processes", { memoryUsedMib: expect.any(Number) }],
  ] as const) {
    expect(await cut(shape)).toEqual(
      real(capture).map((instance: { [field: string]: number }) => ({
        index: instance.index,
        gpuInstanceId: instance.gpu_instance_id,
        computeInstanceId: instance.compute_instance_id,
        memoryTotalMib: instance.memory_total_mib,
        memoryUsedMib: instance.memory_used_mib,
        multiprocessorCount: instance.multiprocessor_count,
        profile: expect.any(String),
        ...ignored,
      })),
    );
  }
});

test("a lease of an instance is put to use there, beside others of the same memory", async () => {
  const daemon = await SimulatedDaemon.start("h200x1-mig");
  const [first, second] = [
    await daemon.allocate({ gpuModel: "1c.3g", minMemoryMib: 30_000 }),
    await daemon.allocate({ gpuModel: "2c.3g", minMemoryMib: 20_000 }),
  ];
  daemon.clock.advance(10_000);
  await daemon.observe();
  const [gpu] = (await daemon.reading()).gpus;
  expect(gpu?.processes.map(({ computeInstanceId }) => computeInstanceId)).toEqual([0, 1]);
  const used = gpu?.migInstances.map(({ memoryUsedMib }) => memoryUsedMib ?? 0) ?? [];
  expect(used[0]).toBe(used[1]);
  expect(used[0]).toBeGreaterThan(30_000);
  expect(used.slice(2)).toEqual([17, 9, 9]);
  const states = () => daemon.scheduler.state.gpus.values().map(({ hold }) => hold.kind);
  expect(states()).toEqual(["free", "leased", "leased", "free", "free", "free"]);
  await daemon.release(first);
  expect(states()).toEqual(["free", "reclaiming", "leased", "free", "free", "free"]);
  daemon.clock.advance(5_000);
  await daemon.observe();
  expect(states()).toEqual(["free", "free", "leased", "free", "free", "free"]);
  expect(daemon.scheduler.state.allocations.get(second)?.status).toBe("leased");
});

test.each([
  "",
  "t4x2-mig",
  "h100x8-migs",
  "h100",
  "h100x0",
  "h100x17",
  "h100x08",
  "h100x-1",
  "h100x1.5",
  "8xh100",
  "constructorx2",
  "mi300x8",
  " h100x8",
])("%j is no host, and the source says what is", (shape) => {
  expect(parseShape(shape)).toBeNull();
  expect(() => new SimulatedSource({ shape, clock: new ManualClock() })).toThrow(
    /expected MODELxCOUNT, such as h100x8, with 1 to 16 of: h100, h200/,
  );
});

test.skipIf(!existsSync(CAPTURES)).each([
  ["h100x1", "k8sinfra-hw-h100x8-580"],
  ["a100x1", "telegraf-a100-sxm4-mig-v12"],
  ["a100-40gbx1", "k8sinfra-hw-a100-570"],
  ["gb200x1", "k8sinfra-hw-gb200x4-580"],
  ["l40sx1", "k8sinfra-hw-l40s-595"],
  ["t4x1", "k8sinfra-hw-t4-595"],
  ["a10gx1", "telegraf-a10g"],
  ["rtx3090x1", "telegraf-rtx3090-v13"],
])("an idle %s looks like the real one of %s", async (shape, capture) => {
  const real = JSON.parse(readFileSync(`${CAPTURES}/${capture}.json`, "utf8")).gpus[0];
  const [gpu] = await readings(shape);
  expect(gpu?.name).toBe(real.product_name);
  expect(gpu?.memoryTotalMib).toBe(real.memory_total_mib);
  expect(gpu?.powerLimitW).toBe(real.power_limit_w);
  expect(Math.abs((gpu?.powerDrawW ?? 0) - real.power_draw_w)).toBeLessThan(0.05 * real.power_draw_w);
  expect((gpu?.temperatureC ?? 0) - real.temperature_c).toBeGreaterThanOrEqual(0);
  expect((gpu?.temperatureC ?? 0) - real.temperature_c).toBeLessThanOrEqual(3);
  // Each capacity is rounded for itself, so together they miss the total by one or two.
  const usable = real.memory_used_mib + real.memory_free_mib;
  expect(Math.abs((gpu?.memoryFreeMib ?? 0) - usable)).toBeLessThanOrEqual(2);
  expect(gpu?.migMode === null).toBe(real.mig_mode_current === null);
  expect(gpu?.health.fabricState).toBe(real.fabric_state);
});

test("the GPUs of a host differ in UUID and ascend in PCI address, and are the same after every start", async () => {
  const first = await readings("h100x16");
  const uuids = first.map(({ uuid }) => uuid);
  expect(new Set(uuids).size).toBe(16);
  for (const uuid of uuids) expect(uuid).toMatch(/^GPU-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/);
  expect(first.map(({ index }) => index)).toEqual([...Array(16).keys()]);
  const addresses = first.map(({ pciBusId }) => pciBusId as string);
  expect(addresses).toEqual([...addresses].sort());
  expect(new Set(addresses).size).toBe(16);
  for (const address of addresses) expect(address).toMatch(/^00000000:[0-9A-F]{2}:00\.0$/);
  expect(await readings("h100x16")).toEqual(first);
  expect((await readings("h200x16")).some(({ uuid }) => uuids.includes(uuid))).toBe(false);
});

test("a host never passes for a real one", async () => {
  const daemon = await SimulatedDaemon.start("t4x1");
  expect(await daemon.reading()).toMatchObject({ simulated: true, driverVersion: "simulated" });
  expect(daemon.scheduler.state.sight.simulated).toBe(true);
});

test("a lease is put to use after a while: a process of the service, memory below the ask, load, heat", async () => {
  const daemon = await SimulatedDaemon.start("h100x8");
  const id = await daemon.allocate({ serviceName: "train.llm", workloadType: "training", minMemoryMib: 40_000 });
  const [index] = daemon.held(id) as [number];
  const idle = await daemon.gpu(index);
  expect(idle).toMatchObject({ processes: [], memoryUsedMib: 0, utilizationPercent: 0 });

  daemon.clock.advance(1_500);
  const loading = await daemon.gpu(index);
  expect(loading.processes).toHaveLength(1);
  expect(loading.memoryUsedMib).toBeGreaterThan(0);

  daemon.clock.advance(60_000);
  const busy = await daemon.gpu(index);
  const [process] = busy.processes;
  expect(process).toMatchObject({ type: "C", name: "train.llm", usedMemoryMib: busy.memoryUsedMib });
  expect(process?.pid).toBeGreaterThan(2_000);
  expect(process?.pid).toBeLessThan(4_194_304);
  expect(busy.memoryUsedMib).toBeGreaterThan(loading.memoryUsedMib ?? 0);
  expect(busy.memoryUsedMib).toBeGreaterThan(0.75 * 40_000);
  expect(busy.memoryUsedMib).toBeLessThan(40_000);
  expect(busy.utilizationPercent).toBeGreaterThan(75);
  expect(busy.temperatureC).toBeGreaterThan((idle.temperatureC ?? 0) + 20);
  expect(busy.powerDrawW).toBeGreaterThan(400);
  expect(busy.powerDrawW).toBeLessThanOrEqual(700);
  const neighbours = (await daemon.reading()).gpus.filter((gpu) => gpu.index !== index);
  for (const gpu of neighbours) expect(gpu).toMatchObject({ processes: [], memoryUsedMib: 0, utilizationPercent: 0 });
});

test("several leases of one GPU run there side by side, and each leaves by itself", async () => {
  const daemon = await SimulatedDaemon.start("h100x1");
  const share = { sharing: "shared", maxUtilizationPercent: 100 } as const;
  const chat = await daemon.allocate({ ...share, serviceName: "chat", minMemoryMib: 20_000 });
  // Until the first has settled.
  for (let i = 0; i < 6; i++) {
    daemon.clock.advance(5_000);
    await daemon.observe();
  }
  expect(daemon.held(await daemon.allocate({ ...share, serviceName: "embed", minMemoryMib: 30_000 }))).toEqual([0]);
  daemon.clock.advance(60_000);
  const both = await daemon.gpu(0);
  expect(both.processes.map(({ name }) => name)).toEqual(["chat", "embed"]);
  const used = both.processes.map(({ usedMemoryMib }) => usedMemoryMib ?? 0);
  expect(both.memoryUsedMib).toBe((used[0] ?? 0) + (used[1] ?? 0));
  expect(both.utilizationPercent).toBeGreaterThan(60);

  await daemon.release(chat);
  daemon.clock.advance(5_000);
  const one = await daemon.gpu(0);
  expect(one.processes.map(({ name }) => name)).toEqual(["embed"]);
  expect(one.memoryUsedMib).toBe(used[1]);
});

test("used, free and reserved memory add up at every instant, and no figure leaves its bounds", async () => {
  const daemon = await SimulatedDaemon.start("t4x1");
  const id = await daemon.allocate({ minMemoryMib: 15_360 });
  for (let second = 0; second < 120; second++) {
    if (second === 60) await daemon.release(id);
    const gpu = await daemon.gpu(0);
    expect((gpu.memoryUsedMib ?? 0) + (gpu.memoryFreeMib ?? 0) + 448).toBe(15_360);
    expect(gpu.memoryFreeMib).toBeGreaterThanOrEqual(0);
    expect(gpu.utilizationPercent).toBeGreaterThanOrEqual(0);
    expect(gpu.utilizationPercent).toBeLessThanOrEqual(100);
    expect(gpu.powerDrawW).toBeGreaterThan(30);
    expect(gpu.powerDrawW).toBeLessThanOrEqual(70);
    expect(gpu.temperatureC).toBeLessThan(80);
    daemon.clock.advance(1_000);
  }
});

test("utilisation moves under load", async () => {
  const daemon = await SimulatedDaemon.start("t4x1");
  await daemon.allocate({ workloadType: "inference" });
  daemon.clock.advance(10_000);
  const seen = new Set<number | null>();
  for (let i = 0; i < 20; i++) {
    daemon.clock.advance(1_000);
    seen.add((await daemon.gpu(0)).utilizationPercent);
  }
  expect(seen.size).toBeGreaterThan(5);
});

test("after the end the process goes at once, memory within two seconds, and heat only slowly", async () => {
  const daemon = await SimulatedDaemon.start("l40sx1");
  const cold = await daemon.gpu(0);
  const id = await daemon.allocate({ minMemoryMib: 30_000 });
  daemon.clock.advance(300_000);
  const busy = await daemon.gpu(0);
  await daemon.release(id);
  const still = await daemon.gpu(0);
  expect(still.memoryUsedMib).toBe(busy.memoryUsedMib);
  expect(still.processes).toHaveLength(1);
  expect(still.utilizationPercent).toBe(0);

  daemon.clock.advance(900);
  const falling = await daemon.gpu(0);
  expect(falling.processes).toEqual([]);
  expect(falling.memoryUsedMib).toBeLessThan(still.memoryUsedMib ?? 0);
  expect(falling.memoryUsedMib).toBeGreaterThan(0);

  daemon.clock.advance(1_100);
  const empty = await daemon.gpu(0);
  expect(empty.memoryUsedMib).toBe(0);
  expect(empty.temperatureC).toBeGreaterThan((busy.temperatureC ?? 0) - 3);
  expect(empty.powerDrawW).toBeGreaterThan((cold.powerDrawW ?? 0) + 30);

  daemon.clock.advance(300_000);
  expect((await daemon.gpu(0)).temperatureC).toBe(cold.temperatureC);
  expect(Math.abs(((await daemon.gpu(0)).powerDrawW ?? 0) - (cold.powerDrawW ?? 0))).toBeLessThan(3);
});

test("a used GPU is reclaiming after its lease until a reading shows it empty, then free", async () => {
  const daemon = await SimulatedDaemon.start("a10gx1");
  const hold = () => [...daemon.scheduler.state.gpus.values()][0]?.hold.kind;
  const id = await daemon.allocate();
  daemon.clock.advance(10_000);
  await daemon.observe();
  expect(hold()).toBe("leased");
  await daemon.release(id);
  expect(hold()).toBe("reclaiming");
  daemon.clock.advance(100);
  await daemon.observe();
  expect(hold()).toBe("reclaiming");
  daemon.clock.advance(2_000);
  await daemon.observe();
  expect(hold()).toBe("free");
});

test("idle GPUs are empty enough to be granted, and every lease of a full host is told apart", async () => {
  const daemon = await SimulatedDaemon.start("h100x8");
  for (const gpu of (await daemon.reading()).gpus) {
    expect(gpu.memoryUsedMib).toBeLessThanOrEqual(idleCeilingMib(gpu.memoryTotalMib ?? 0, {}));
  }
  const ids = await Promise.all(Array.from({ length: 4 }, () => daemon.allocate({ requiredGpus: 2 })));
  daemon.clock.advance(10_000);
  const { gpus } = await daemon.reading();
  expect(new Set(gpus.flatMap(({ processes }) => processes.map(({ pid }) => pid))).size).toBe(8);
  expect(new Set(ids.flatMap((id) => daemon.held(id))).size).toBe(8);
});

test("a lease that ends before its program has started leaves no trace", async () => {
  const daemon = await SimulatedDaemon.start("t4x1");
  const id = await daemon.allocate();
  daemon.clock.advance(900);
  await daemon.release(id);
  for (const ms of [0, 50, 100, 100, 500, 5_000]) {
    daemon.clock.advance(ms);
    const gpu = await daemon.gpu(0);
    expect(gpu).toMatchObject({ processes: [], memoryUsedMib: 0, utilizationPercent: 0 });
    expect(gpu.powerDrawW).toBeLessThan(36);
  }
});

test("a lease that ends while its program loads takes no more memory", async () => {
  const daemon = await SimulatedDaemon.start("t4x1");
  const id = await daemon.allocate({ minMemoryMib: 15_000 });
  daemon.clock.advance(2_000);
  const { memoryUsedMib } = await daemon.gpu(0);
  await daemon.release(id);
  daemon.clock.advance(250);
  expect(await daemon.gpu(0)).toMatchObject({ memoryUsedMib });
});

test("a renewal changes nothing of what runs", async () => {
  const daemon = await SimulatedDaemon.start("t4x1");
  const id = await daemon.allocate({ ttlMs: 60_000 });
  daemon.clock.advance(10_000);
  const before = await daemon.gpu(0);
  await daemon.scheduler.renew(id, null, ANYBODY);
  expect(await daemon.gpu(0)).toEqual(before);
});

test("an offer is put to use only when its client has it", async () => {
  const daemon = await SimulatedDaemon.start("t4x1", { verifyRelease: "never" });
  const first = await daemon.allocate();
  const second = await daemon.allocate({ serviceName: "waiter" });
  daemon.clock.advance(2_000);
  await daemon.release(first);
  expect(daemon.scheduler.state.allocations.get(second)?.status).toBe("offered");
  daemon.clock.advance(10_000);
  expect((await daemon.gpu(0)).processes).toEqual([]);
  await daemon.scheduler.read(second, ANYBODY);
  daemon.clock.advance(10_000);
  expect((await daemon.gpu(0)).processes.map(({ name }) => name)).toEqual(["waiter"]);
});

test.each([3, 6, 16, 59, 63, 100])(
  "what a GPU shows does not depend on how often it was looked at (%i steps)",
  async (steps) => {
    const watched = await SimulatedDaemon.start("h100x2");
    const unwatched = await SimulatedDaemon.start("h100x2");
    for (const daemon of [watched, unwatched]) {
      const id = await daemon.allocate({ requiredGpus: 2, minMemoryMib: 20_000 });
      for (let i = 0; i < steps; i++) {
        if (i === 60) await daemon.release(id);
        daemon.clock.advance(333);
        if (daemon === watched) await daemon.reading();
      }
    }
    expect(await watched.reading()).toEqual(await unwatched.reading());
  },
);

test("a restart of the daemon finds its leases in use and warm", async () => {
  const before = await SimulatedDaemon.start("h100x2");
  const id = await before.allocate({ serviceName: "lasting", workloadType: "training", requiredGpus: 2 });
  before.clock.advance(600_000);
  const warm = await before.gpu(0);
  const after = await before.restarted("h100x2");
  expect(after.held(id)).toEqual([0, 1]);
  const found = await after.gpu(0);
  expect(found.processes.map(({ name }) => name)).toEqual(["lasting"]);
  expect(found.utilizationPercent).toBeGreaterThan(75);
  expect(Math.abs((found.temperatureC ?? 0) - (warm.temperatureC ?? 0))).toBeLessThanOrEqual(4);
});

test("leases on GPUs of another shape disturb nothing", async () => {
  const before = await SimulatedDaemon.start("h100x1");
  const id = await before.allocate();
  const after = await before.restarted("t4x2");
  await after.release(id);
  after.clock.advance(10_000);
  for (const gpu of (await after.reading()).gpus) expect(gpu.processes).toEqual([]);
});

test.each([
  // HGX boards: every GPU with every other, half of them on each socket.
  ["h100x8", 0, 7, "NV18", [0, 0, 0, 0, 1, 1, 1, 1]],
  ["a100x4", 0, 3, "NV12", [0, 0, 1, 1]],
  ["gb200x4", 1, 2, "NV18", [0, 0, 1, 1]],
  // PCIe cards: two to a switch or a bridge.
  ["l40sx8", 2, 3, "PIX", [0, 0, 0, 0, 1, 1, 1, 1]],
  ["l40sx8", 1, 2, "NODE", [0, 0, 0, 0, 1, 1, 1, 1]],
  ["l40sx8", 3, 4, "SYS", [0, 0, 0, 0, 1, 1, 1, 1]],
  ["rtx3090x2", 0, 1, "NV4", [0, 0]],
  ["t4x1", 0, 0, null, [0]],
])("in %s GPUs %i and %i are connected by %s, and the NUMA nodes are %j", async (shape, a, b, link, nodes) => {
  const source = new SimulatedSource({ shape, clock: new ManualClock() });
  const [first, second] = [await source.probe(), await source.probe()];
  if (!first.ok || !second.ok) throw new Error("no reading");
  const { gpus, topology } = first.reading;
  expect(topology?.gpus.map(({ uuid }) => uuid)).toEqual(gpus.map(({ uuid }) => uuid));
  expect(topology?.links[a]?.[b]).toBe(link);
  expect(topology?.links[b]?.[a]).toBe(link);
  expect(topology?.gpus.flatMap(({ numaNodes }) => numaNodes)).toEqual(nodes);
  for (const { cpuAffinity } of topology?.gpus ?? []) expect(parseCpuList(cpuAffinity ?? "")).not.toBeNull();
  expect(second.reading.topology).toBe(topology);
});
