/** What the README says of GPUs, against an `nvidia-smi` that shows what the test tells it to. */
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { FakeNvidiaSmi } from "../fixtures/fake-nvidia-smi.ts";
import { type SmiGpu, smiDocument, smiUuid } from "../fixtures/nvidia-smi-document.ts";
import { eventually, type TestDaemon } from "./daemon.ts";
import { row } from "./rows.ts";
import { record, renew, startReady } from "./steps.ts";

/** A daemon that sees `gpus`, and a function that changes them. */
async function startOn(...gpus: SmiGpu[]) {
  const smi = new FakeNvidiaSmi();
  onTestFinished(() => smi[Symbol.dispose]());
  const show = (...next: SmiGpu[]) => smi.tell({ mode: "text", text: smiDocument({ gpus: next }) });
  show(...gpus);
  const daemon = await startReady({
    simulate: null,
    config: `monitoring:\n  nvidia_smi_path: ${JSON.stringify(smi.path)}\n  refresh_interval: 500ms\nallocator:\n  reclaim_timeout: 2s\n`,
    env: { PATH: `${join(process.execPath, "..")}:${process.env.PATH}` },
  });
  return { daemon, show };
}

const statusOf = async (daemon: TestDaemon, uuid: string) => {
  const { gpus } = (await daemon.call("GET", "/gpu/status")).body;
  return gpus.find((gpu: { uuid: string }) => gpu.uuid === uuid);
};

const becomes = (daemon: TestDaemon, uuid: string, state: string) =>
  eventually(
    () => statusOf(daemon, uuid),
    (gpu) => gpu.state === state,
  );

row("a process that has no lease uses a GPU", async () => {
  const { daemon, show } = await startOn({});
  show({ memoryUsedMib: 3_000, processes: [{ pid: 4711, name: "python3", usedMemoryMib: 3_000 }] });
  const { reason, processes } = await becomes(daemon, smiUuid(0), "occupied");
  expect(reason).toContain("4711");
  expect(processes).toMatchObject([{ pid: 4711, type: "C", name: "python3", used_memory: 3_000 }]);
  expect((await daemon.allocate({ queue: false })).body.code).toBe("no-gpu-free");
  show({});
  await becomes(daemon, smiUuid(0), "free");
  expect((await daemon.allocate({ queue: false })).status).toBe(200);
});

row("a lease ends and its memory is still in use", async () => {
  const { daemon, show } = await startOn({});
  const lease = await daemon.allocate();
  show({ memoryUsedMib: 9_000 });
  await eventually(
    () => statusOf(daemon, smiUuid(0)),
    (gpu) => gpu.memory_used === 9_000,
  );
  await daemon.release(lease.body.id);
  expect((await statusOf(daemon, smiUuid(0))).state).toBe("reclaiming");
  expect((await daemon.allocate({ queue: false })).body.code).toBe("no-gpu-free");
  await becomes(daemon, smiUuid(0), "quarantined");
  expect((await daemon.allocate({ queue: false })).body.code).toBe("no-gpu-free");
  show({});
  await becomes(daemon, smiUuid(0), "free");
  expect((await daemon.allocate({ queue: false })).status).toBe(200);
});

row("a GPU is lost, has uncorrectable memory errors, or asks for a reset", async () => {
  const { daemon, show } = await startOn({}, {}, {}, {});
  const lease = await daemon.allocate({
    required_gpus: 3,
    ttl: "1h",
    preferred_gpus: [smiUuid(0), smiUuid(1), smiUuid(2)],
  });
  expect(lease.body.gpu_ids).toEqual([0, 1, 2]);
  const sick = [{ temperatureC: "GPU is lost" }, { eccVolatile: 2 }, { recoveryAction: "Reset" }];
  show(...sick, {});
  await eventually(
    () => statusOf(daemon, smiUuid(2)),
    (gpu) => gpu.ailment !== null,
  );
  expect((await renew(daemon, lease.body.id)).body).toMatchObject({ status: "leased", gpu_ids: [0, 1, 2] });
  expect((await daemon.allocate({ required_gpus: 2, queue: false })).body.code).toBe("no-gpu-free");
  await daemon.release(lease.body.id);
  const states = await eventually(
    () => Promise.all([0, 1, 2, 3].map(async (i) => (await statusOf(daemon, smiUuid(i))).state)),
    (all) => !all.includes("reclaiming"),
  );
  expect(states.slice(0, 3)).not.toContain("free");
  expect(states[3]).toBe("free");
  expect((await daemon.allocate({ queue: false })).body.gpu_ids).toEqual([3]);
  expect((await daemon.allocate({ queue: false })).body.code).toBe("no-gpu-free");
});

row("GPU indices change", async () => {
  const at = (index: number): SmiGpu => ({ uuid: smiUuid(index) });
  const { daemon, show } = await startOn(at(0), at(1), at(2));
  const lease = await daemon.allocate({ service_name: "holder", preferred_gpus: [smiUuid(0)] });
  expect([lease.body.gpu_ids, lease.body.gpu_uuids]).toEqual([[0], [smiUuid(0)]]);
  show(at(2), at(1), at(0));
  const moved = await eventually(
    () => statusOf(daemon, smiUuid(0)),
    (gpu) => gpu.id === 2,
  );
  expect(moved).toMatchObject({ allocated: true, allocated_to: "holder", state: "leased" });
  expect((await statusOf(daemon, smiUuid(2))).state).toBe("free");
  const kept = await record(daemon, lease.body.id);
  expect(kept).toMatchObject({ status: "leased", gpu_uuids: [smiUuid(0)] });
  expect(kept.env.CUDA_VISIBLE_DEVICES).toBe(smiUuid(0));
  const rest = await daemon.allocate({ required_gpus: 2 });
  expect(rest.body.gpu_uuids.sort()).toEqual([smiUuid(1), smiUuid(2)]);
});
