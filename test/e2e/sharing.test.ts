/** Shared GPUs, end to end: real processes of this machine, listed by the fake nvidia-smi. */
import { type ChildProcess, spawn } from "node:child_process";
import { afterEach, expect, test } from "vitest";
import { FakeNvidiaSmi } from "../fixtures/fake-nvidia-smi.ts";
import { smiDocument } from "../fixtures/nvidia-smi-document.ts";
import { eventually, isBuilt, startDaemon, type TestDaemon } from "./daemon.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** One GPU on which each of these programs has so much memory, in MiB. */
function show(fake: FakeNvidiaSmi, programs: readonly (readonly [pid: number, usedMemoryMib: number])[]): void {
  const memoryUsedMib = programs.reduce((sum, [, mib]) => sum + mib, 4);
  const processes = programs.map(([pid, usedMemoryMib]) => ({ pid, name: "python", usedMemoryMib }));
  fake.tell({ mode: "text", text: smiDocument({ gpus: [{ memoryUsedMib, processes }] }) });
}

async function host(): Promise<{ daemon: TestDaemon; fake: FakeNvidiaSmi }> {
  const fake = new FakeNvidiaSmi();
  cleanups.push(() => fake[Symbol.dispose]());
  show(fake, []);
  const daemon = await startDaemon({
    simulate: null,
    config:
      `monitoring:\n  nvidia_smi_path: ${JSON.stringify(fake.path)}\n  refresh_interval: 300ms\n  timeout: 5s\n` +
      "sharing:\n  settle_after: 500ms\n",
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

function program(): ChildProcess & { pid: number } {
  const child = spawn(process.execPath, ["-e", "setInterval(() => undefined, 1000)"], { stdio: "ignore" });
  cleanups.push(() => child.kill("SIGKILL"));
  return child as ChildProcess & { pid: number };
}

test.skipIf(!isBuilt)(
  "two programs share a GPU; one outgrows its part, and is given back by itself while the other runs on (needs the built program)",
  async () => {
    const { daemon, fake } = await host();
    const [chat, embed] = [program(), program()];
    const share = (service_name: string, { pid }: { pid: number }) =>
      daemon.allocate({ service_name, sharing: "shared", min_memory_mb: 10_000, workload_data: { pid } });
    const gpu = async () => (await daemon.call("GET", "/gpu/status")).body.gpus[0];
    const first = await share("chat", chat);
    expect(first.body).toMatchObject({ status: "allocated", sharing: "shared", memory_mb: 10_000 });
    // Its start is waited for.
    expect((await share("early", embed)).status).toBe(202);
    await daemon.call("POST", "/gpu/release", { service_name: "early" });
    show(fake, [[chat.pid, 8_000]]);
    await eventually(gpu, ({ holders }) => holders[0].settled);
    expect((await share("embed", embed)).status).toBe(200);

    show(fake, [
      [chat.pid, 12_000],
      [embed.pid, 9_000],
    ]);
    const grown = await eventually(gpu, ({ holders }) => holders[0].over_memory_since !== null);
    expect(grown).toMatchObject({ allocated_to: "chat, embed", shared: { reserved_mb: 20_000 } });
    expect(grown.holders[1].over_memory_since).toBeNull();

    await daemon.call("POST", "/gpu/release", { service_name: "chat" });
    const leaving = await gpu();
    expect(leaving).toMatchObject({ allocated_to: "embed", shared: { reserved_mb: 20_000 } });
    chat.kill("SIGKILL");
    show(fake, [[embed.pid, 9_000]]);
    const left = await eventually(gpu, ({ shared }) => shared.leaving.length === 0);
    expect(left).toMatchObject({ allocated_to: "embed", state: "leased", shared: { reserved_mb: 10_000 } });
  },
);
