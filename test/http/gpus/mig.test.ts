/** MIG instances as the API shows and grants them. */
import { expect, test } from "vitest";
import type { GpuReading } from "../../../src/core/model/reading.ts";
import { cutGpu, instance, twins } from "../../fixtures/mig.ts";
import { gpuReading } from "../../fixtures/readings.ts";
import { startDaemon } from "../daemon.ts";

const BIG = instance(0, 2, { profile: "3g.40gb", memoryTotalMib: 40_448 });
const SMALL = [instance(1, 9), instance(2, 10)] as const;
const host = (): GpuReading[] => [
  gpuReading(0),
  cutGpu("GPU-a", [BIG, ...SMALL], { index: 1, pciBusId: "00000000:01:00.0" }),
];

const parentOf = (json: { gpus: { uuid: string }[] }) => json.gpus.find(({ uuid }) => uuid === "GPU-a");

test("the status has one entry per GPU, as before, with the instances under the one that is cut", async () => {
  const daemon = await startDaemon({ gpus: host() });
  const { json } = await daemon.call("GET", "/gpu/status");
  expect(json.gpus.map(({ id }: { id: number }) => id)).toEqual([0, 1]);
  expect(json.gpus[0].mig_devices).toEqual([]);
  expect(parentOf(json)).toMatchObject({
    name: "NVIDIA H100 80GB HBM3",
    memory_total: 81_559,
    utilization: null,
    mig_mode: "Enabled",
    state: "mig",
    reason: "MIG is enabled: only its instances are granted, not the whole. It has 3",
    allocated: false,
    allocated_to: null,
  });
  expect(json.gpus[1].mig_devices[0]).toEqual({
    index: 0,
    uuid: "MIG-2-0",
    profile: "3g.40gb",
    gpu_instance_id: 2,
    compute_instance_id: 0,
    memory_total: 40_448,
    memory_used: 9,
    allocated: false,
    allocated_to: null,
    state: "free",
    reason: null,
    since: null,
    ailment: null,
    cordon: null,
    drained: false,
    processes: [],
    holders: [],
  });
  expect(json.gpus[1].mig_devices.map(({ uuid }: { uuid: string }) => uuid)).toEqual([
    "MIG-2-0",
    "MIG-9-0",
    "MIG-10-0",
  ]);
});

test("a grant names the instance, its GPU's index, and an environment that shows a process no more than it", async () => {
  const daemon = await startDaemon({ gpus: host() });
  const { status, json } = await daemon.allocate({ min_memory_mb: 8_000 });
  expect(status).toBe(200);
  expect(json).toMatchObject({
    gpu_ids: [1],
    gpu_uuids: ["MIG-10-0"],
    devices: [
      {
        index: 1,
        uuid: "MIG-10-0",
        name: "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        memory_total: 9_984,
        mig: { profile: "1g.10gb", parent_uuid: "GPU-a", gpu_instance_id: 10, compute_instance_id: 0 },
      },
    ],
  });
  // CUDA has no index for an instance.
  expect(json.env).toEqual({ CUDA_VISIBLE_DEVICES: "MIG-10-0", CUDA_DEVICE_ORDER: "PCI_BUS_ID" });
  const listed = (await daemon.call("GET", "/gpu/list")).json;
  expect(listed.allocations[0].gpu_uuids).toEqual(["MIG-10-0"]);
  expect(parentOf(listed)).toMatchObject({
    state: "mig",
    allocated: true,
    allocated_to: "trainer",
    allocated_at: json.allocated_at,
    holders: [],
    mig_devices: [
      { uuid: "MIG-2-0", state: "free" },
      { uuid: "MIG-9-0", state: "free" },
      {
        uuid: "MIG-10-0",
        state: "leased",
        allocated_to: "trainer",
        holders: [{ allocation_id: json.id, service_name: "trainer" }],
      },
    ],
  });
});

test("the list gives each who waits his own reason, whether he asked for a profile or for a name", async () => {
  const daemon = await startDaemon({ gpus: host() });
  await daemon.allocate({ mig_profile: "1g.10gb", required_gpus: 2 });
  const waiting = [];
  for (const ask of [{ mig_profile: "1g.10gb" }, { gpu_model: "1g.10gb" }]) {
    waiting.push((await daemon.allocate(ask)).json.reason);
  }
  expect(waiting[0]).toMatch(/^waiting for 1 MIG instance 1g\.10gb with .* not of the kind asked for/);
  expect(waiting[1]).toMatch(/^waiting for 1 GPU with .* of another model/);
  const { queue } = (await daemon.call("GET", "/gpu/list")).json;
  expect(queue.map(({ reason }: { reason: string }) => reason)).toEqual(waiting);
});

test("a stated max_utilization keeps a request from instances, and the reason does not call them busy", async () => {
  const daemon = await startDaemon({ gpus: host() });
  const { status, json } = await daemon.allocate({ mig_profile: "3g.40gb", max_utilization: 50 });
  expect([status, json.reason]).toEqual([202, expect.stringContaining("1 too busy or of unknown utilisation")]);
});

test("a whole GPU is granted as before", async () => {
  const daemon = await startDaemon({ gpus: host() });
  const { json } = await daemon.allocate({ min_memory_mb: 80_000 });
  expect(json.devices[0].mig).toBeNull();
  expect(json.env.GPU_ORCHESTRATOR_GPU_INDICES).toBe("0");
});

test("a profile is asked for at the top level or in the workload's data, and the first wins", async () => {
  const daemon = await startDaemon({ gpus: host() });
  const data = { mig_profile: "3g.40gb", min_memory_mb: 1_000 };
  expect((await daemon.allocate({ workload_data: data })).json.gpu_uuids).toEqual(["MIG-2-0"]);
  const both = await daemon.allocate({ mig_profile: "1g.10gb", required_gpus: 2, workload_data: data });
  expect(both.json.gpu_uuids).toEqual(["MIG-10-0", "MIG-9-0"]);
  expect(both.json.gpu_ids).toEqual([1, 1]);
  expect(both.json.env.CUDA_VISIBLE_DEVICES).toBe("MIG-10-0,MIG-9-0");
  const never = await daemon.allocate({ mig_profile: "7g.80gb" });
  expect([never.status, never.json.code, never.json.detail]).toEqual([
    422,
    "request-never-fits",
    "asked for 1 MIG instance 7g.80gb; this host has none",
  ]);
  const bad = await daemon.allocate({ mig_profile: "1g 10gb" });
  expect(bad.json.errors).toEqual([{ path: "mig_profile", message: "expected a MIG profile such as 1g.10gb" }]);
});

test("the analysis and the dry run agree with the grant", async () => {
  const daemon = await startDaemon({ gpus: host() });
  const ask = { service_name: "trainer", mig_profile: "1g.10gb", required_gpus: 3, min_memory_mb: 1_000 };
  const analysis = await daemon.call("POST", "/gpu/workload", { body: ask });
  expect(analysis.json).toMatchObject({
    fits: false,
    missing: "asked for 3 MIG instances 1g.10gb; this host has 2",
  });
  const plan = await daemon.call("POST", "/gpu/plan", { body: { ...ask, required_gpus: 2 } });
  expect(plan.json).toMatchObject({ outcome: "granted", gpu_ids: [1, 1], gpu_uuids: ["MIG-10-0", "MIG-9-0"] });
  await daemon.allocate({ mig_profile: "1g.10gb", min_memory_mb: 1_000 });
  const waits = await daemon.call("POST", "/gpu/plan", { body: { ...ask, required_gpus: 2 } });
  expect(waits.json.outcome).toBe("queued");
  expect(waits.json.gpus).toEqual(
    expect.arrayContaining([
      { id: 1, uuid: "GPU-a", reason: "mig" },
      { id: 1, uuid: "MIG-2-0", reason: "kind" },
      { id: 1, uuid: "MIG-10-0", reason: "held" },
    ]),
  );
});

test("an instance without a UUID is shown with the reason, and one that is gone without a number", async () => {
  const daemon = await startDaemon({ gpus: host() });
  const { json } = await daemon.allocate({ mig_profile: "3g.40gb", min_memory_mb: 1_000 });
  const [, parent] = host() as [GpuReading, GpuReading];
  await daemon.see([gpuReading(0), { ...parent, migInstances: [{ ...SMALL[0], uuid: null, profile: null }] }]);
  const shown = parentOf((await daemon.call("GET", "/gpu/status")).json);
  expect(shown).toMatchObject({
    reason: "MIG is enabled: only its instances are granted, not the whole. It has 1, none of which can be named",
    mig_devices: [
      { index: null, uuid: "MIG-2-0", state: "leased", holders: [{ allocation_id: json.id }] },
      {
        index: 1,
        uuid: null,
        profile: null,
        memory_total: 9_984,
        state: "unknown",
        reason: "nvidia-smi -L does not tell its UUID, without which nobody could use it",
      },
      {
        index: null,
        uuid: "MIG-9-0",
        state: "unknown",
        reason: "its GPU has instances of which nvidia-smi -L does not tell the UUIDs, and it may be one of them",
      },
      { index: null, uuid: "MIG-10-0", state: "unknown" },
    ],
  });
});

test("of compute instances that share their memory, each shows what it uses itself", async () => {
  const process = {
    pid: 7,
    type: "C",
    name: "python",
    usedMemoryMib: 60_000,
    gpuInstanceId: 2,
    computeInstanceId: 0,
    origin: null,
  };
  const daemon = await startDaemon({ gpus: [cutGpu("GPU-a", twins(2, 60_035), { processes: [process] })] });
  const shown = parentOf((await daemon.call("GET", "/gpu/status")).json);
  expect(shown).toMatchObject({
    mig_devices: [
      { compute_instance_id: 0, memory_total: 71_424, memory_used: 60_035, state: "occupied", processes: [{ pid: 7 }] },
      { compute_instance_id: 1, memory_total: 71_424, memory_used: 35, state: "free", processes: [] },
    ],
  });
});

test("the UUID of an old driver has slashes, which an address takes when they are encoded", async () => {
  const uuid = "MIG-GPU-a/9/0";
  const daemon = await startDaemon({ gpus: [cutGpu("GPU-a", [{ ...SMALL[0], uuid }])] });
  const path = `/gpu/gpus/${encodeURIComponent(uuid)}/cordon`;
  expect((await daemon.call("POST", path, { body: { reason: "slow" } })).status).toBe(200);
  expect((await daemon.call("GET", "/gpu/status")).json.gpus[0].mig_devices[0]).toMatchObject({
    uuid,
    state: "cordoned",
  });
});

test("an admin names an instance by UUID; an index is that of the GPU", async () => {
  const daemon = await startDaemon({ gpus: host() });
  const cordoned = await daemon.call("POST", "/gpu/gpus/MIG-9-0/cordon", { body: { reason: "slow" } });
  expect(cordoned.json.gpu ?? cordoned.json).toMatchObject({ uuid: "GPU-a", cordon: null });
  expect(parentOf((await daemon.call("GET", "/gpu/status")).json)).toMatchObject({
    mig_devices: [
      { state: "free", drained: false },
      { uuid: "MIG-9-0", state: "cordoned", cordon: { reason: "slow" }, drained: true },
      { state: "free", drained: false },
    ],
  });
  await daemon.call("POST", "/gpu/gpus/1/cordon", { body: { reason: "all of it" } });
  expect(parentOf((await daemon.call("GET", "/gpu/status")).json)).toMatchObject({
    cordon: { reason: "all of it" },
    mig_devices: [{ state: "cordoned" }, { state: "cordoned" }, { state: "cordoned" }],
  });
});
