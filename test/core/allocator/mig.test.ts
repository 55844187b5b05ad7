import { expect, test } from "vitest";
import { emptyHost } from "../../../src/core/host/changes.ts";
import { blockOf } from "../../../src/core/host/condition.ts";
import { evolve } from "../../../src/core/host/evolve.ts";
import { FORGOTTEN_AFTER_MS } from "../../../src/core/host/mig.ts";
import type { GpuReading, MigInstance } from "../../../src/core/model/reading.ts";
import { cutGpu, instance, twins } from "../../fixtures/mig.ts";
import {
  DEFAULT_POLICY,
  h100,
  minutes,
  process,
  refusal,
  SimulatedHost,
  seconds,
  t4,
} from "../../simulation/simulated-host.ts";

const SEVEN = [7, 8, 9, 10, 11, 12, 13].map((gi, index) => instance(index, gi));
const PAIR = [instance(0, 2, { profile: "3g.40gb", memoryTotalMib: 40_448 }), instance(1, 9)];

function block(host: SimulatedHost, uuid: string) {
  const gpu = host.state.gpus.get(uuid);
  if (gpu === undefined) throw new Error(`${uuid} was never seen`);
  return blockOf(gpu, host.state, host.now);
}

const small = { minMemoryMib: 8_000 } as const;

test("an instance is a device with a UUID, a name and a memory of its own; its GPU is not granted whole", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", PAIR)]);
  expect(host.state.gpus.get("MIG-9-0")).toMatchObject({
    index: 0,
    name: "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
    pciBusId: "00000000:00:00.0",
    memoryTotalMib: 9_984,
    mig: { parentUuid: "GPU-a", profile: "1g.10gb", gpuInstanceId: 9, computeInstanceId: 0 },
  });
  expect(block(host, "GPU-a")?.block).toBe("mig");
  expect(block(host, "GPU-a")?.detail).toBe("MIG is enabled: only its instances are granted, not the whole. It has 2");
  const id = host.submit({ minMemoryMib: 40_000 });
  expect(host.lease(id)?.gpus).toMatchObject([
    { uuid: "MIG-2-0", index: 0, memoryTotalMib: 40_448, mig: { parentUuid: "GPU-a", profile: "3g.40gb" } },
  ]);
});

test("an instance takes nobody's place in its GPU's slot: what the log says of the GPU stays said", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", [])]);
  host.devices[0] = { reading: cutGpu("GPU-a", PAIR), present: true };
  host.observe();
  expect(host.state.gpus.has("MIG-9-0")).toBe(true);
  expect(host.state.sight.newcomers).toEqual(new Map());
});

test("a GPU with MIG on and no instance has nothing to grant, and says so", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", []), h100("GPU-b")]);
  expect(block(host, "GPU-a")?.detail).toMatch(/^MIG is enabled and there is no instance: nothing to grant/);
  host.submit();
  expect(host.whyQueued(host.submit())).toEqual({ "GPU-a": "mig", "GPU-b": "held" });
});

test("a request for one device gets the smallest that fits, an instance before a whole GPU", () => {
  const host = new SimulatedHost([h100("GPU-b"), cutGpu("GPU-a", PAIR)]);
  expect(host.gpusOf(host.submit(small))).toEqual(["MIG-9-0"]);
  expect(host.gpusOf(host.submit(small))).toEqual(["MIG-2-0"]);
  expect(host.gpusOf(host.submit(small))).toEqual(["GPU-b"]);
});

test("a model names a profile as a part of the name, and a MIG profile names it exactly, in any case", () => {
  const host = new SimulatedHost([h100("GPU-b"), cutGpu("GPU-a", PAIR)]);
  expect(host.gpusOf(host.submit({ ...small, gpuModel: "3g.40gb" }))).toEqual(["MIG-2-0"]);
  expect(host.gpusOf(host.submit({ ...small, migProfile: "1G.10GB" }))).toEqual(["MIG-9-0"]);
  expect(host.whyQueued(host.submit({ ...small, migProfile: "1g.10gb" }))).toEqual({
    "GPU-b": "kind",
    "GPU-a": "mig",
    "MIG-2-0": "held",
    "MIG-9-0": "held",
  });
  expect(() => host.submit({ migProfile: "1g.10" })).toThrow("asked for 1 MIG instance 1g.10; this host has none");
});

test("several devices are whole GPUs, unless a profile is named: then all are instances", () => {
  const host = new SimulatedHost([h100("GPU-b"), cutGpu("GPU-a", SEVEN), h100("GPU-c")]);
  expect(host.gpusOf(host.submit({ ...small, requiredGpus: 2 }))).toEqual(["GPU-b", "GPU-c"]);
  const waiting = host.submit({ ...small, requiredGpus: 2 });
  expect(host.whyQueued(waiting)).toMatchObject({ "GPU-a": "mig", "GPU-b": "held", "MIG-7-0": "kind" });
  expect(host.gpusOf(host.submit({ ...small, requiredGpus: 7, migProfile: "1g.10gb" }))).toHaveLength(7);
});

test("an instance is not shared: a shared lease has whole GPUs only", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", PAIR), h100("GPU-b")]);
  expect(host.gpusOf(host.submit({ ...small, sharing: "shared" }))).toEqual(["GPU-b"]);
  expect(() => host.submit({ ...small, sharing: "shared", migProfile: "1g.10gb" })).toThrow(
    "asked to share a MIG instance: shared leases have whole GPUs only",
  );
});

test("what never fits is judged on what can be granted: a GPU that is cut does not count whole", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", PAIR), h100("GPU-b")]);
  expect(refusal(() => host.submit({ requiredGpus: 2, ...small }))).toBe("request-never-fits");
  expect(refusal(() => host.submit({ requiredGpus: 2, ...small, migProfile: "1g.10gb" }))).toBe("request-never-fits");
  expect(refusal(() => host.submit({ minMemoryMib: 10_000, migProfile: "1g.10gb" }))).toBe("request-never-fits");
  expect(() => host.submit({ requiredGpus: 2, minMemoryMib: 8_000 })).toThrow(
    "asked for 2 whole GPUs; this host has 1",
  );
  host.gpu("GPU-a", { migMode: "Disabled", migInstances: [] });
  host.observe();
  expect(host.gpusOf(host.submit({ requiredGpus: 2, ...small }))).toEqual(["GPU-a", "GPU-b"]);
});

test("without a reading, as after a restart, a GPU counts as cut if the inventory has instances of it", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", PAIR), t4("GPU-b")]);
  const restarted = new SimulatedHost([]);
  restarted.state = host.log.reduce(evolve, emptyHost(DEFAULT_POLICY));
  restarted.devices.push({ reading: t4("GPU-b"), present: true });
  restarted.observe();
  expect(refusal(() => restarted.submit({ minMemoryMib: 50_000 }))).toBe("request-never-fits");
  expect(restarted.allocation(restarted.submit({ minMemoryMib: 40_000 })).status).toBe("queued");
});

test("utilisation is not told of an instance: only a limit that was stated keeps one away", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", SEVEN)]);
  expect(host.gpusOf(host.submit(small))).not.toBeNull();
  expect(Object.values(host.whyQueued(host.submit({ ...small, maxUtilizationPercent: 90 })))).toContain("utilization");
});

test("an instance without a UUID is shown on its GPU, and not granted; with one, it is", () => {
  const nameless = SEVEN.map((one): MigInstance => ({ ...one, uuid: null, profile: null }));
  const host = new SimulatedHost([cutGpu("GPU-a", nameless), t4("GPU-b")]);
  expect(host.state.gpus.values().map(({ uuid }) => uuid)).toEqual(["GPU-a", "GPU-b"]);
  expect(block(host, "GPU-a")?.detail).toContain("It has 7, none of which can be named");
  host.submit();
  const id = host.submit();
  host.gpu("GPU-a", { migInstances: SEVEN });
  host.observe();
  expect(host.gpusOf(id)).toEqual(["MIG-10-0"]);
});

test("an instance whose name is in doubt is unknown at once, neither lost nor gone, and comes back without a proof", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", PAIR)]);
  const id = host.submit({ ...small, migProfile: "1g.10gb" });
  host.gpu("GPU-a", { migInstances: PAIR.map((one) => ({ ...one, uuid: null, profile: null })) });
  host.advance(FORGOTTEN_AFTER_MS + minutes(1));
  expect(host.log.some(({ type }) => type === "gpu-lost" || type === "gpu-gone")).toBe(false);
  expect(block(host, "MIG-2-0")?.block).toBe("unknown");
  expect(host.allocation(id).status).toBe("leased");
  const waiting = host.submit({ ...small, migProfile: "3g.40gb" });
  expect(host.allocation(waiting).status).toBe("queued");
  host.gpu("GPU-a", { migInstances: PAIR });
  host.observe();
  expect(host.gpusOf(waiting)).toEqual(["MIG-2-0"]);
});

test("a renumbering changes nothing: leases follow the instance's UUID", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", SEVEN)]);
  const id = host.submit({ ...small, preferredGpus: ["MIG-9-0"] });
  const [first, ...others] = SEVEN.filter(({ uuid }) => uuid !== "MIG-8-0");
  const renumbered = [...others, first as MigInstance].map((one, index) => ({ ...one, index }));
  host.gpu("GPU-a", { migInstances: renumbered, index: 3 });
  host.observe();
  expect(host.gpusOf(id)).toEqual(["MIG-9-0"]);
  expect(host.state.gpus.get("MIG-9-0")).toMatchObject({ index: 3, hold: { kind: "leased", allocationId: id } });
});

test("an instance that is destroyed under its lease is lost, which is told; the lease stays until it ends", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", PAIR)]);
  const id = host.submit({ ...small, migProfile: "1g.10gb" });
  host.gpu("GPU-a", { migInstances: [PAIR[0] as MigInstance] });
  host.advance(seconds(15));
  expect(host.log).toContainEqual(expect.objectContaining({ type: "gpu-lost", uuid: "MIG-9-0", allocationId: id }));
  host.advance(FORGOTTEN_AFTER_MS + minutes(1));
  expect(host.allocation(id).status).toBe("leased");
  host.release(id);
  host.advance(seconds(5));
  expect(host.state.gpus.has("MIG-9-0")).toBe(false);
  expect(host.log.filter(({ type }) => type === "gpu-gone")).toHaveLength(1);
  expect(host.state.gpus.has("MIG-2-0")).toBe(true);
});

test("an instance that nobody holds is forgotten when it has been gone for long, and not before", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", PAIR)]);
  host.gpu("GPU-a", { migInstances: [] });
  host.advance(FORGOTTEN_AFTER_MS - seconds(10));
  expect(host.state.gpus.has("MIG-9-0")).toBe(true);
  expect(host.allocation(host.submit({ migProfile: "1g.10gb" })).status).toBe("queued");
  host.advance(seconds(20));
  expect(host.state.gpus.values().map(({ uuid }) => uuid)).toEqual(["GPU-a"]);
  expect(refusal(() => host.submit({ migProfile: "1g.10gb" }))).toBe("request-never-fits");
});

test.each<[string, Partial<GpuReading>]>([
  ["missing", {}],
  ["lost", { migMode: null, migInstances: [], memoryTotalMib: null, errorValues: { uuid: "GPU is lost" } }],
])("instances of a GPU that is %s are lost with it, and never forgotten", (how, over) => {
  const host = new SimulatedHost([cutGpu("GPU-a", PAIR), h100("GPU-b")]);
  host.gpu("GPU-a", over);
  const parent = host.devices[0];
  if (parent !== undefined) parent.present = how !== "missing";
  host.observe();
  expect(block(host, "MIG-9-0")?.block).toBe("unknown");
  host.advance(2 * FORGOTTEN_AFTER_MS);
  expect(block(host, "MIG-9-0")?.block).toBe("lost");
});

test("what is wrong with a GPU keeps its instances from leases", () => {
  const ailments: [Partial<GpuReading["health"]>, string][] = [
    [{ recoveryAction: "Reset" }, "unhealthy"],
    [{ eccUncorrectedVolatile: 1 }, "degraded"],
  ];
  for (const [health, expected] of ailments) {
    const host = new SimulatedHost([cutGpu("GPU-a", PAIR), h100("GPU-b")]);
    host.gpu("GPU-a", { health: { ...h100("").health, ...health } });
    host.observe();
    expect(block(host, "MIG-9-0")?.block).toBe(expected);
    host.gpu("GPU-a", { health: h100("").health });
    host.observe();
    expect(block(host, "MIG-9-0")?.block).toBe("recovering");
  }
});

test("a cordon and an Xid error of a GPU count for its instances; a cordon of one instance for it alone", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", PAIR)]);
  const actor = { principal: "ops", admin: true };
  host.do({ type: "cordon", gpu: "MIG-9-0", reason: "bad luck", actor });
  expect([block(host, "MIG-9-0")?.block, block(host, "MIG-2-0")]).toEqual(["cordoned", null]);
  // An index names the GPU.
  host.do({ type: "cordon", gpu: "0", reason: "fan", actor });
  expect(block(host, "MIG-2-0")).toMatchObject({ block: "cordoned", detail: "fan (ops)" });
  host.do({ type: "uncordon", gpu: "GPU-a", reason: "done", actor });
  expect([block(host, "MIG-9-0")?.block, block(host, "MIG-2-0")]).toEqual(["cordoned", null]);
  const fallen = { kind: "xid", xid: 79, sequence: 7, device: "0:0:0", count: 1, fatal: false, action: null } as const;
  const news = { reports: [{ ...fallen, at: host.now }], problem: null, missed: 0 };
  host.do({ type: "read-kernel-log", news });
  expect(block(host, "MIG-2-0")?.block).toBe("quarantined");
  expect(host.state.gpus.get("MIG-2-0")?.fault).toBeNull();
});

test("a process counts for the instance that the driver says, and without ids for every instance of its GPU", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", PAIR), t4("GPU-b")]);
  host.gpu("GPU-a", { processes: [process(7, { gpuInstanceId: 9, computeInstanceId: 0 })] });
  host.observe();
  expect([block(host, "MIG-9-0")?.block, block(host, "MIG-2-0")]).toEqual(["occupied", null]);
  host.gpu("GPU-a", { processes: [process(7)] });
  host.observe();
  expect([block(host, "MIG-9-0")?.block, block(host, "MIG-2-0")?.block]).toEqual(["occupied", "occupied"]);
});

test("use is seen, and release verified, per instance", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", PAIR)]);
  const one = host.submit({ ...small, migProfile: "1g.10gb" });
  const other = host.submit({ ...small, migProfile: "3g.40gb" });
  const busy = process(7, { gpuInstanceId: 9, computeInstanceId: 0 });
  host.gpu("GPU-a", {
    processes: [busy],
    migInstances: [PAIR[0] as MigInstance, instance(1, 9, { memoryUsedMib: 1_010 })],
  });
  host.advance(seconds(5));
  host.release(one);
  host.release(other);
  expect([block(host, "MIG-9-0")?.block, block(host, "MIG-2-0")]).toEqual(["reclaiming", null]);
  host.gpu("GPU-a", { processes: [], migInstances: PAIR });
  host.observe();
  expect(block(host, "MIG-9-0")).toBeNull();
});

test("two compute instances share their GPU instance's memory: what one was promised the other is not offered", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", twins(2))]);
  const first = host.submit({ minMemoryMib: 40_000 });
  expect(host.gpusOf(first)).toEqual(["MIG-2-0"]);
  const large = host.submit({ minMemoryMib: 31_425 });
  expect(host.whyQueued(large)).toEqual({ "GPU-a": "mig", "MIG-2-0": "held", "MIG-2-1": "memory" });
  expect(host.gpusOf(host.submit({ minMemoryMib: 31_424 }))).toEqual(["MIG-2-1"]);
});

test("a compute instance is offered what is left of what others are seen to use, not only of what they asked for", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", twins(2))]);
  host.submit({ minMemoryMib: 1_000 });
  const worker = process(7, { gpuInstanceId: 2, computeInstanceId: 0, usedMemoryMib: 60_000 });
  host.gpu("GPU-a", { processes: [worker], migInstances: twins(2, 60_035) });
  host.observe();
  expect(host.state.sight.gpus.get("MIG-2-1")?.reading).toMatchObject({ memoryUsedMib: 35, memoryTotalMib: 71_424 });
  const large = host.submit({ minMemoryMib: 12_000 });
  expect(host.whyQueued(large)["MIG-2-1"]).toBe("memory");
  expect(host.gpusOf(host.submit({ minMemoryMib: 11_389 }))).toEqual(["MIG-2-1"]);
});

test("memory that no process explains may be any compute instance's: none of them is granted beside it", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", twins(2, 16_925))]);
  expect([block(host, "MIG-2-0")?.block, block(host, "MIG-2-1")?.block]).toEqual(["occupied", "occupied"]);
});

test("while one compute instance is being reclaimed, the other waits: nobody knows what is left in their memory", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", twins(2))]);
  const id = host.submit({ minMemoryMib: 1_000 });
  const worker = process(7, { gpuInstanceId: 2, computeInstanceId: 0, usedMemoryMib: 60_000 });
  host.gpu("GPU-a", { processes: [worker], migInstances: twins(2, 60_035) });
  host.observe();
  host.release(id);
  expect(block(host, "MIG-2-1")).toMatchObject({ block: "reclaiming", detail: expect.stringContaining("MIG-2-0: ") });
  host.gpu("GPU-a", { processes: [], migInstances: twins(2) });
  host.observe();
  expect(block(host, "MIG-2-1")).toBeNull();
});

test("several compute instances in one grant get a share of their memory each, or others do", () => {
  const three = [0, 1, 2].map((ci) =>
    instance(ci, 2, { computeInstanceId: ci, profile: "1c.3g.40gb", memoryTotalMib: 40_000 }),
  );
  const host = new SimulatedHost([cutGpu("GPU-a", three)]);
  const ask = { migProfile: "1c.3g.40gb", requiredGpus: 2 };
  expect(() => host.submit({ ...ask, minMemoryMib: 20_001 })).toThrow("this host has 1");
  const id = host.submit({ ...ask, minMemoryMib: 15_000 });
  expect(host.gpusOf(id)).toEqual(["MIG-2-0", "MIG-2-1"]);
  expect(host.whyQueued(host.submit({ minMemoryMib: 10_001 }))["MIG-2-2"]).toBe("memory");
});

test("compute instances that cannot both have what is asked for are taken of different memories", () => {
  const pair = (gpu: string) =>
    [0, 1].map((ci) => {
      const uuid = `MIG-${gpu}-${ci}`;
      return instance(ci, 2, { computeInstanceId: ci, uuid, profile: "1c.3g.40gb", memoryTotalMib: 40_000 });
    });
  const host = new SimulatedHost([cutGpu("GPU-a", pair("a")), cutGpu("GPU-b", pair("b"))]);
  const ask = { migProfile: "1c.3g.40gb", requiredGpus: 2 };
  expect(host.gpusOf(host.submit({ ...ask, minMemoryMib: 30_000 }))).toEqual(["MIG-a-0", "MIG-b-0"]);
  expect(host.gpusOf(host.submit({ ...ask, minMemoryMib: 10_000 }))).toEqual(["MIG-a-1", "MIG-b-1"]);
});

test("one turn that serves two requests does not give them the same memory", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", twins(2))]);
  host.gpu("GPU-a", { migInstances: twins(2).map((one) => ({ ...one, uuid: null, profile: null })) });
  host.observe();
  const ids = [host.submit({ minMemoryMib: 50_000 }), host.submit({ minMemoryMib: 50_000 })];
  host.gpu("GPU-a", { migInstances: twins(2) });
  host.observe();
  expect(ids.map((id) => host.allocation(id).status)).toEqual(["offered", "queued"]);
});

test("memory that is held for the head of the line is not taken through another compute instance", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", twins(2))], { reserveAfterMs: 0 });
  const first = host.submit({ minMemoryMib: 20_000, gpuModel: "1c.", maxDurationMs: minutes(60) });
  const head = host.submit({ minMemoryMib: 60_000, gpuModel: "1c." });
  const behind = host.submit({ minMemoryMib: 20_000, gpuModel: "2c." });
  expect([head, behind].map((id) => host.allocation(id).status)).toEqual(["queued", "queued"]);
  host.release(first);
  expect(host.gpusOf(head)).toEqual(["MIG-2-0"]);
});

test("a GPU and its instances are never held together, whatever the MIG mode does meanwhile", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const whole = host.submit();
  host.gpu("GPU-a", { migMode: "Enabled", migInstances: PAIR, utilizationPercent: null });
  host.observe();
  const waiting = host.submit(small);
  expect(block(host, "MIG-9-0")).toMatchObject({ block: "held", detail: `GPU-a: leased to ${whole}` });
  host.release(whole);
  host.advance(seconds(20));
  expect(host.gpusOf(waiting)).toEqual(["MIG-9-0"]);
  host.gpu("GPU-a", { migMode: "Disabled", migInstances: [], utilizationPercent: 0 });
  host.observe();
  expect(block(host, "GPU-a")).toMatchObject({ block: "held", detail: `MIG-9-0: leased to ${waiting}` });
});

test("an admin who removes a GPU removes what it was cut into, unless a lease is there", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", PAIR), h100("GPU-b")]);
  const id = host.submit({ ...small, migProfile: "1g.10gb" });
  const parent = host.devices[0];
  if (parent !== undefined) parent.present = false;
  host.advance(seconds(15));
  const remove = () =>
    host.do({ type: "remove-gpu", gpu: "GPU-a", reason: "sold", actor: { principal: "ops", admin: true } });
  expect(refusal(remove)).toBe("gpu-in-use");
  host.release(id);
  host.advance(minutes(2));
  remove();
  expect(host.state.gpus.values().map(({ uuid }) => uuid)).toEqual(["GPU-b"]);
});

test("folding the events again gives the same bytes", () => {
  const host = new SimulatedHost([cutGpu("GPU-a", [...PAIR, ...twins(5)]), h100("GPU-b")]);
  host.submit(small);
  host.submit({ minMemoryMib: 30_000, ttlMs: seconds(20) });
  host.gpu("GPU-a", { migInstances: PAIR });
  host.advance(FORGOTTEN_AFTER_MS + minutes(1));
  const folded = host.log.reduce(evolve, emptyHost(DEFAULT_POLICY));
  expect(JSON.stringify(folded.gpus.values())).toBe(JSON.stringify(host.state.gpus.values()));
});
