import { existsSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { smiTopology } from "../fixtures/nvidia-smi-topology.ts";
import { eventually, isBuilt, startDaemon, type TestDaemon, temporaryFolder } from "./daemon.ts";

const FAKE = fileURLToPath(new URL("../fixtures/fake-nvidia-smi.mjs", import.meta.url));
const CAPTURES = fileURLToPath(new URL("../../../shared/fixtures/nvidia-smi", import.meta.url));
const ANSWER_MS = 50;

const daemons: TestDaemon[] = [];
afterEach(async () => {
  for (const daemon of daemons.splice(0)) {
    await daemon.end("SIGKILL");
    daemon.removeFolder();
  }
});

function configOf(folder: string): string {
  const program = JSON.stringify(join(folder, "nvidia-smi"));
  return `monitoring:\n  nvidia_smi_path: ${program}\n  refresh_interval: 500ms\n  timeout: 1s\n`;
}

/** A daemon whose nvidia-smi is the fake one, with a function that gives the fake its orders. */
async function fakeHost(order: object) {
  const folder = temporaryFolder();
  const program = join(folder, "nvidia-smi");
  symlinkSync(FAKE, program);
  const obey = (next: object) => writeFileSync(join(folder, "fake-nvidia-smi.json"), JSON.stringify(next));
  obey(order);
  const daemon = await startDaemon({
    folder,
    simulate: null,
    config: configOf(folder),
    env: { PATH: `${join(process.execPath, "..")}:${process.env.PATH}` },
  });
  daemons.push(daemon);
  return { daemon, obey };
}

const ready = (daemon: TestDaemon, status: number) =>
  eventually(
    () => daemon.call("GET", "/readyz"),
    (answer) => answer.status === status,
    20_000,
  );

const faults: [string, object][] = [
  ["prints garbage", { mode: "garbage" }],
  ["hangs", { mode: "hang" }],
  ["hangs and ignores SIGTERM", { mode: "stubborn" }],
  ["floods its output", { mode: "flood" }],
  ["crashes", { mode: "crash" }],
  [
    "exits with 9",
    { mode: "text", text: "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", exit: 9 },
  ],
  [
    "exits with 15",
    { mode: "text", text: "Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost.\n", exit: 15 },
  ],
  ["exits with 18", { mode: "text", text: "Failed to initialize NVML: Driver/library version mismatch\n", exit: 18 }],
];

test.skipIf(!isBuilt).each(faults)(
  "an nvidia-smi that %s: the daemon starts, says so, grants nothing, answers fast and recovers (needs the built program)",
  async (_name, order) => {
    const { daemon, obey } = await fakeHost(order);
    expect((await daemon.call("GET", "/healthz")).status).toBe(200);
    const unready = await ready(daemon, 503);
    expect(unready.body.detail).toMatch(/./);
    expect((await daemon.call("GET", "/gpu/status")).body.gpus).toEqual([]);
    const refused = await daemon.allocate();
    expect(refused.status).toBe(503);
    expect(refused.body.code).toBe("gpus-unavailable");
    const times: number[] = [];
    for (let i = 0; i < 40; i++) {
      const begun = performance.now();
      await daemon.call("GET", "/gpu/status");
      times.push(performance.now() - begun);
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    times.sort((a, b) => a - b);
    expect(times[Math.floor(times.length * 0.9)]).toBeLessThan(ANSWER_MS);
    obey({ mode: "gpus", count: 2 });
    await ready(daemon, 200);
    expect((await daemon.allocate({ required_gpus: 2 })).status).toBe(200);
  },
);

test.skipIf(!isBuilt)("a missing nvidia-smi is found when it appears (needs the built program)", async () => {
  const folder = temporaryFolder();
  const program = join(folder, "nvidia-smi");
  const daemon = await startDaemon({
    folder,
    simulate: null,
    config: `monitoring:\n  nvidia_smi_path: ${JSON.stringify(program)}\n  refresh_interval: 500ms\n`,
    env: { PATH: `${join(process.execPath, "..")}:${process.env.PATH}` },
  });
  daemons.push(daemon);
  const unready = await ready(daemon, 503);
  expect(unready.body.detail).toContain("nvidia-smi");
  symlinkSync(FAKE, program);
  await ready(daemon, 200);
  expect((await daemon.call("GET", "/gpu/status")).body.gpus).toHaveLength(8);
});

test.skipIf(!isBuilt)(
  "losing the driver ends no lease, and GPUs come back with it (needs the built program)",
  async () => {
    const { daemon, obey } = await fakeHost({ mode: "gpus", count: 1 });
    await ready(daemon, 200);
    const lease = await daemon.allocate({ ttl: "1h" });
    expect(lease.status).toBe(200);
    obey({ mode: "text", text: "Failed to initialize NVML: Driver/library version mismatch\n", exit: 18 });
    await ready(daemon, 503);
    const record = await daemon.call("GET", `/gpu/allocations/${lease.body.id}`);
    expect(record.body.status).toBe("leased");
    expect((await daemon.call("POST", `/gpu/allocations/${lease.body.id}/renew`)).status).toBe(200);
    obey({ mode: "gpus", count: 1 });
    await ready(daemon, 200);
  },
);

test.skipIf(!isBuilt)(
  "GPUs that are bridged two and two are leased so, with the CPUs to pin to, which a restart does not forget (needs the built program)",
  async () => {
    const bridged = smiTopology({
      gpus: 4,
      link: (a, b) => (b === a + 2 ? "NV4" : "SYS"),
      nics: ["mlx5_0"],
      ansi: true,
    });
    const { daemon, obey } = await fakeHost({ mode: "gpus", count: 4, topology: { mode: "text", text: bridged } });
    await ready(daemon, 200);
    const lease = await daemon.allocate({ required_gpus: 2 });
    expect(lease.body).toMatchObject({
      gpu_ids: [0, 2],
      numa_nodes: [0, 1],
      cpu_affinity: "0-191",
      devices: [{ cpu_affinity: "0-47,96-143" }, { cpu_affinity: "48-95,144-191" }],
    });
    const { gpus } = (await daemon.call("GET", "/gpu/status")).body;
    expect(gpus[1].links).toEqual({ [gpus[0].uuid]: "SYS", [gpus[2].uuid]: "SYS", [gpus[3].uuid]: "NV4" });
    obey({ mode: "gpus", count: 4, topology: { mode: "garbage" } });
    await daemon.end("SIGKILL");
    const again = await startDaemon({ folder: daemon.folder, simulate: null, config: configOf(daemon.folder) });
    daemons.push(again);
    await ready(again, 200);
    const record = await again.call("GET", `/gpu/allocations/${lease.body.id}`);
    expect(record.body).toMatchObject({ numa_nodes: [0, 1], cpu_affinity: "0-191" });
    const { body } = await again.call("GET", "/gpu/status");
    expect(body.gpus[0]).toMatchObject({ numa_nodes: null, cpu_affinity: null, links: null });
    expect(body.monitor.warnings).toEqual([expect.stringMatching(/^the GPUs' topology: it printed no matrix/)]);
  },
);

test.skipIf(!isBuilt)(
  "an nvidia-smi that hangs over the topology, and ignores SIGTERM, keeps no GPU from being leased (needs the built program)",
  async () => {
    const { daemon } = await fakeHost({ mode: "gpus", count: 2, topology: { mode: "stubborn" } });
    await ready(daemon, 200);
    const lease = await daemon.allocate({ required_gpus: 2 });
    expect(lease.body).toMatchObject({ gpu_ids: [0, 1], numa_nodes: null, cpu_affinity: null });
    const { monitor } = (await daemon.call("GET", "/gpu/status")).body;
    expect(monitor).toMatchObject({
      healthy: true,
      warnings: [expect.stringMatching(/did not answer within 1000 ms/)],
    });
  },
);

const captures = existsSync(CAPTURES)
  ? [CAPTURES, join(CAPTURES, "derived")].flatMap((folder) =>
      readdirSync(folder)
        .filter((file) => file.endsWith(".xml"))
        .map((file) => join(folder, file)),
    )
  : [];

test.skipIf(!isBuilt || captures.length === 0)(
  "status tells the truth of every capture's expected file (needs the built program and ../shared)",
  { timeout: 180_000 },
  async () => {
    const { daemon, obey } = await fakeHost({ mode: "file", file: captures[0] });
    for (const file of captures) {
      const name = file.slice(file.lastIndexOf("/") + 1, -".xml".length);
      const expected = JSON.parse(readFileSync(join(CAPTURES, "expected", `${name}.json`), "utf8"));
      obey({ mode: "file", file });
      if (expected.gpus.length === 0) {
        expect((await ready(daemon, 503)).body.detail, name).toMatch(/no devices|no GPU/i);
        continue;
      }
      // biome-ignore lint/suspicious/noExplicitAny: the expected files are data of no type of ours.
      const truth = expected.gpus.map((gpu: any) => ({
        id: gpu.index,
        name: gpu.product_name,
        memory_total: gpu.memory_total_mib,
        memory_used: gpu.memory_used_mib,
        memory_free: gpu.memory_free_mib,
        utilization: gpu.utilization_gpu_percent,
        temperature: gpu.temperature_c,
        power_draw: gpu.power_draw_w,
      }));
      const shown = await eventually(
        async () => {
          const { body } = await daemon.call("GET", "/gpu/status");
          // GPUs of earlier captures stay in the inventory; they are not in this reading.
          return body.gpus
            .filter((gpu: { last_updated: string }) => gpu.last_updated === body.monitor.last_reading_at)
            .map((gpu: Record<string, unknown>) =>
              Object.fromEntries(Object.keys(truth[0] ?? {}).map((key) => [key, gpu[key]])),
            );
        },
        (gpus) => JSON.stringify(gpus) === JSON.stringify(truth),
        8_000,
      ).catch((error: Error) => {
        throw new Error(`${name}: ${error.message}\nexpected ${JSON.stringify(truth)}`);
      });
      expect(shown).toEqual(truth);
    }
  },
);
