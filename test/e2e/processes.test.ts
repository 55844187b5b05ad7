/** Whose process it is, end to end: real processes of this machine, listed by the fake nvidia-smi. */
import { type ChildProcess, spawn } from "node:child_process";
import { userInfo } from "node:os";
import { afterEach, expect, test } from "vitest";
import { FakeNvidiaSmi } from "../fixtures/fake-nvidia-smi.ts";
import { smiDocument } from "../fixtures/nvidia-smi-document.ts";
import { eventually, isBuilt, startDaemon, type TestDaemon } from "./daemon.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** One GPU with the memory that `pids` use between them. */
function show(fake: FakeNvidiaSmi, ...perGpu: readonly (readonly number[])[]): void {
  const gpus = perGpu.map((pids) => ({
    memoryUsedMib: 4 + pids.length * 2_000,
    processes: pids.map((pid) => ({ pid, name: "python", usedMemoryMib: 2_000 })),
  }));
  fake.tell({ mode: "text", text: smiDocument({ gpus }) });
}

async function host(): Promise<{ daemon: TestDaemon; fake: FakeNvidiaSmi }> {
  const fake = new FakeNvidiaSmi();
  cleanups.push(() => fake[Symbol.dispose]());
  show(fake, [], []);
  const daemon = await startDaemon({
    simulate: null,
    config: `monitoring:\n  nvidia_smi_path: ${JSON.stringify(fake.path)}\n  refresh_interval: 300ms\n  timeout: 5s\n`,
  });
  cleanups.push(async () => {
    await daemon.end("SIGKILL");
    daemon.removeFolder();
  });
  await eventually(
    () => daemon.call("GET", "/readyz"),
    ({ status }) => status === 200,
  );
  return { daemon, fake };
}

function idle(): ChildProcess & { pid: number } {
  const child = spawn(process.execPath, ["-e", "setInterval(() => undefined, 1000)"], { stdio: "ignore" });
  cleanups.push(() => child.kill("SIGKILL"));
  return child as ChildProcess & { pid: number };
}

test.skipIf(!isBuilt)(
  "a process of no lease is named with its user, and keeps its GPU from being granted until it has gone (needs the built program)",
  async () => {
    const { daemon, fake } = await host();
    const stranger = idle();
    show(fake, [stranger.pid], []);
    const gpu = async () => (await daemon.call("GET", "/gpu/status")).body.gpus[0];
    const occupied = await eventually(gpu, ({ state }) => state === "occupied");
    expect(occupied.reason).toBe(`process ${stranger.pid} (python) of user ${userInfo().username}, of no lease`);
    expect(occupied.processes).toMatchObject([{ user: userInfo().username, allocation_id: null }]);
    expect((await daemon.allocate({ required_gpus: 2, queue: false })).body.code).toBe("no-gpu-free");
    show(fake, [], []);
    await eventually(gpu, ({ state }) => state === "free");
    expect((await daemon.allocate({ required_gpus: 2, queue: false })).status).toBe(200);
  },
);

test.skipIf(!isBuilt)(
  "a lease's processes are found by the pid that its client gave, on its own GPU and on others (needs the built program)",
  async () => {
    const { daemon, fake } = await host();
    // This process asks, and its children do the work.
    const lease = await daemon.allocate({ workload_data: { pid: process.pid }, preferred_gpus: [0] });
    expect(lease.body.gpu_ids).toEqual([0]);
    const [inside, beside] = [idle(), idle()];
    show(fake, [inside.pid], [beside.pid]);
    const gpus = async () => (await daemon.call("GET", "/gpu/status")).body.gpus;
    const [own, other] = await eventually(gpus, ([, second]) => second.state === "occupied");
    expect(own.processes).toMatchObject([{ pid: inside.pid, allocation_id: lease.body.id }]);
    expect(other.processes).toMatchObject([{ pid: beside.pid, allocation_id: lease.body.id }]);
    expect(other.reason).toContain(`of ${lease.body.id}, whose lease is of other GPUs`);
  },
);

test.skipIf(!isBuilt)("pids of another machine are said to mean nothing here (needs the built program)", async () => {
  const { daemon, fake } = await host();
  show(fake, [2 ** 23], []);
  const status = await eventually(
    () => daemon.call("GET", "/gpu/status"),
    ({ body }) => body.gpus[0].state === "occupied",
  );
  expect(status.body.monitor.warnings).toEqual([expect.stringContaining("share the host's pids")]);
  expect(status.body.gpus[0].processes).toMatchObject([{ user: null, allocation_id: null }]);
});
