/** MIG against an `nvidia-smi` that answers as the real one does, `-L` included. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { FakeNvidiaSmi, type FakeOrder } from "../fixtures/fake-nvidia-smi.ts";
import { type SmiGpu, smiDocument, smiUuid } from "../fixtures/nvidia-smi-document.ts";
import { smiMigUuid } from "../fixtures/nvidia-smi-listing.ts";
import { capturePath, hasCaptures } from "../monitor/nvidia-smi/captures.ts";
import { eventually, isBuilt, type TestDaemon } from "./daemon.ts";
import { record, startReady } from "./steps.ts";

async function startOn(order: FakeOrder) {
  const smi = new FakeNvidiaSmi(order);
  onTestFinished(() => smi[Symbol.dispose]());
  const daemon = await startReady({
    simulate: null,
    config: `monitoring:\n  nvidia_smi_path: ${JSON.stringify(smi.path)}\n  refresh_interval: 500ms\n  timeout: 5s\n`,
    env: { PATH: `${join(process.execPath, "..")}:${process.env.PATH}` },
  });
  return { daemon, smi };
}

const shown = (...gpus: SmiGpu[]): FakeOrder => ({ mode: "text", text: smiDocument({ gpus }) });
const cut = (...ids: number[]): SmiGpu => ({
  migMode: "Enabled",
  utilizationPercent: "N/A",
  migDevices: ids.map((gpuInstanceId, index) => ({ index, gpuInstanceId, computeInstanceId: 0 })),
});

const instancesOf = async (daemon: TestDaemon, id = 0): Promise<{ uuid: string | null; state: string }[]> =>
  (await daemon.call("GET", "/gpu/status")).body.gpus[id].mig_devices;

const mig = (gpu: number, gi: number) => smiMigUuid(smiUuid(gpu), gi, 0);

test.skipIf(!isBuilt)(
  "a host with a cut GPU and a whole one: each request gets what suits it (needs the built program)",
  async () => {
    const { daemon } = await startOn(shown(cut(9, 10), {}));
    const small = await daemon.allocate({ min_memory_mb: 8_000 });
    expect(small.body).toMatchObject({ gpu_ids: [0], env: { CUDA_VISIBLE_DEVICES: expect.stringMatching(/^MIG-/) } });
    const large = await daemon.allocate({ min_memory_mb: 50_000 });
    expect(large.body.gpu_uuids).toEqual([smiUuid(1)]);
    expect((await daemon.allocate({ required_gpus: 2, min_memory_mb: 8_000 })).body.code).toBe("request-never-fits");
    const pair = await daemon.allocate({ required_gpus: 2, min_memory_mb: 8_000, mig_profile: "1g.10gb" });
    expect(pair.status).toBe(202);
    await daemon.release(small.body.id);
    expect((await record(daemon, pair.body.id)).gpu_uuids).toEqual([mig(0, 10), mig(0, 9)].sort());
  },
);

test.skipIf(!isBuilt)(
  "a GPU that is cut anew: what is gone is not granted, what is new is, and a lease keeps its UUID (needs the built program)",
  async () => {
    const { daemon, smi } = await startOn(shown(cut(9, 10)));
    const lease = await daemon.allocate({ mig_profile: "1g.10gb", preferred_gpus: [mig(0, 10)], ttl: "1h" });
    expect(lease.body.gpu_uuids).toEqual([mig(0, 10)]);
    // 9 is destroyed, 11 is made: 10 is number 0 now.
    smi.tell(shown(cut(10, 11)));
    await eventually(
      () => instancesOf(daemon),
      (devices) => devices.some(({ uuid, state }) => uuid === mig(0, 11) && state === "free"),
    );
    expect((await record(daemon, lease.body.id)).gpu_uuids).toEqual([mig(0, 10)]);
    const second = await daemon.allocate({ mig_profile: "1g.10gb" });
    expect(second.body.gpu_uuids).toEqual([mig(0, 11)]);
    expect((await daemon.allocate({ mig_profile: "1g.10gb", queue: false })).body.code).toBe("no-gpu-free");
    await eventually(
      () => instancesOf(daemon),
      (devices) => devices.some(({ uuid, state }) => uuid === mig(0, 9) && state === "lost"),
    );
  },
);

test.skipIf(!isBuilt)(
  "instances that nvidia-smi does not name are shown and not granted, until it does (needs the built program)",
  async () => {
    const words = "Failed to initialize NVML: Unknown Error\n";
    const { daemon, smi } = await startOn({ ...shown(cut(9)), listing: { mode: "text", text: words, exit: 255 } });
    const { monitor } = (await daemon.call("GET", "/gpu/status")).body;
    expect(monitor.warnings[0]).toMatch(
      /^1 MIG instance has no UUID and cannot be granted: .*Failed to initialize NVML/,
    );
    expect(await instancesOf(daemon)).toMatchObject([{ uuid: null, state: "unknown" }]);
    // It may turn out to be what is asked for, so this is no matter of never.
    const { status, body } = await daemon.allocate({ min_memory_mb: 8_000, mig_profile: "1g.10gb" });
    expect(status).toBe(202);
    expect((await daemon.allocate({ min_memory_mb: 10_000 })).body.code).toBe("request-never-fits");
    smi.tell(shown(cut(9)));
    const granted = await eventually(
      () => record(daemon, body.id),
      (found) => found.gpu_uuids !== undefined,
    );
    expect(granted.gpu_uuids).toEqual([mig(0, 9)]);
  },
);

test.skipIf(!isBuilt)(
  "a lease of an instance outlives a restart, and is the instance's again (needs the built program)",
  async () => {
    const smi = new FakeNvidiaSmi(shown(cut(9, 10)));
    onTestFinished(() => smi[Symbol.dispose]());
    const options = {
      simulate: null,
      config: `monitoring:\n  nvidia_smi_path: ${JSON.stringify(smi.path)}\n  refresh_interval: 500ms\n`,
      env: { PATH: `${join(process.execPath, "..")}:${process.env.PATH}` },
    };
    const first = await startReady(options);
    const lease = await first.allocate({ mig_profile: "1g.10gb", ttl: "1h" });
    await first.end("SIGKILL");
    const second = await startReady({ ...options, folder: first.folder });
    expect((await record(second, lease.body.id)).devices).toEqual(lease.body.devices);
    const states = Object.fromEntries((await instancesOf(second)).map(({ uuid, state }) => [uuid, state]));
    expect(states).toEqual({ [mig(0, 9)]: "free", [mig(0, 10)]: "free", [lease.body.gpu_uuids[0]]: "leased" });
  },
);

test.skipIf(!isBuilt || !hasCaptures)(
  "the captured H100: three of its four instances are granted, and the used one is not (needs the built program)",
  async () => {
    const file = capturePath("derived-h100-mig-processes");
    const text = readFileSync(join(file, "../../text/h100-mig-590-capabilities-L.txt"), "utf8");
    const { daemon } = await startOn({ mode: "file", file, listing: { mode: "text", text } });
    const states = (await instancesOf(daemon)).map(({ state }) => state);
    expect(states).toEqual(["occupied", "free", "free", "free"]);
    const leases = [];
    for (const min_memory_mb of [20_000, 9_000, 9_000])
      leases.push(await daemon.allocate({ min_memory_mb, queue: false }));
    expect(leases.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect((await daemon.allocate({ min_memory_mb: 1_000, queue: false })).body.code).toBe("no-gpu-free");
    expect((await daemon.allocate({ min_memory_mb: 50_000 })).body.detail).toContain("the largest here has 40448 MiB");
  },
);
