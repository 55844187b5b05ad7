/** What the README says of GPUs, against an `nvidia-smi` that shows what the test tells it to. */
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { FakeNvidiaSmi, oneLost } from "../fixtures/fake-nvidia-smi.ts";
import { type SmiGpu, smiDocument, smiPciBusId, smiUuid } from "../fixtures/nvidia-smi-document.ts";
import { eventually, isBuilt, type TestDaemon, temporaryFolder } from "./daemon.ts";
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
    config: `monitoring:\n  nvidia_smi_path: ${JSON.stringify(smi.path)}\n  refresh_interval: 500ms\n  timeout: 1s\nallocator:\n  reclaim_timeout: 2s\n`,
    env: { PATH: `${join(process.execPath, "..")}:${process.env.PATH}` },
  });
  return { daemon, show, smi };
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
  const { last_updated } = await eventually(
    () => statusOf(daemon, smiUuid(0)),
    (gpu) => gpu.memory_used === 9_000,
  );
  // On a busy machine that reading may have begun before the grant, and then it is no proof of use; the next is.
  await eventually(
    () => statusOf(daemon, smiUuid(0)),
    (gpu) => gpu.last_updated !== last_updated,
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

/** Settings with which a fault is seen within two intervals and the deadline: 2 s. */
const SEEN_WITHIN_MS = 2 * 500 + 1_000;
/** What the machine under the tests may add. */
const PATIENCE_MS = 4_000;

row("a GPU vanishes from the driver's list", async () => {
  const { daemon, show } = await startOn({}, {});
  const lease = await daemon.allocate({ ttl: "1h", preferred_gpus: [smiUuid(1)] });
  show({});
  await eventually(
    () => statusOf(daemon, smiUuid(1)),
    (gpu) => gpu.ailment?.state === "unknown" || gpu.ailment?.state === "lost",
  );
  const flagged = await eventually(
    () => record(daemon, lease.body.id),
    ({ ailing_gpus }) => ailing_gpus[0]?.state === "lost",
  );
  expect(flagged).toMatchObject({ status: "leased", ailing_gpus: [{ uuid: smiUuid(1) }] });
  expect(flagged.ailing_gpus[0].reason).toMatch(/missing from the last \d+ readings/);
  await daemon.release(lease.body.id);
  const waiting = await daemon.allocate({ required_gpus: 2 });
  expect(waiting.status).toBe(202);
  const back = performance.now();
  show({}, {});
  await eventually(
    () => record(daemon, waiting.body.id),
    ({ status }) => status !== "queued",
  );
  expect(performance.now() - back).toBeLessThan(60_000);
  const events = await fetch(`${daemon.url}/gpu/events`, { headers: { "last-event-id": "0" } });
  const told: string[] = [];
  for await (const chunk of events.body ?? []) {
    told.push(new TextDecoder().decode(chunk));
    if (told.join("").includes("event: gpu-back")) break;
  }
  expect(told.join("")).toMatch(/event: gpu-lost\ndata: [^\n]*"allocation_id":"svc-/);
});

row("one lost GPU spoils the listing of all", async () => {
  const { daemon, smi, show } = await startOn({}, {}, {});
  const lease = await daemon.allocate({ ttl: "1h", preferred_gpus: [smiUuid(1)] });
  smi.tell(oneLost([{}, {}, {}], 1));
  await eventually(
    () => record(daemon, lease.body.id),
    ({ ailing_gpus }) => ailing_gpus[0]?.state === "lost",
  );
  expect((await daemon.call("GET", "/readyz")).status).toBe(200);
  const { monitor } = (await daemon.call("GET", "/gpu/status")).body;
  expect(monitor).toMatchObject({ healthy: true, warnings: [expect.stringMatching(/one by one/)] });
  expect((await daemon.allocate({ required_gpus: 2, queue: false })).body.gpu_uuids).toEqual([smiUuid(0), smiUuid(2)]);
  await daemon.release(lease.body.id);
  expect((await daemon.allocate({ queue: false })).body.code).toBe("no-gpu-free");
  show({}, {}, {});
  await becomes(daemon, smiUuid(1), "recovering");
  await becomes(daemon, smiUuid(1), "free");
  expect((await daemon.call("GET", "/gpu/status")).body.monitor.warnings).toEqual([]);
});

row("a GPU is hot, or its power brake is on", async () => {
  const { daemon, show } = await startOn({}, {});
  const lease = await daemon.allocate({ ttl: "1h", preferred_gpus: [smiUuid(0)] });
  show({ hwThermalSlowdown: "Active" }, {});
  await eventually(
    () => statusOf(daemon, smiUuid(0)),
    (gpu) => gpu.health.slowdown === true,
  );
  expect((await renew(daemon, lease.body.id)).body.status).toBe("leased");
  await daemon.release(lease.body.id);
  const free = await becomes(daemon, smiUuid(0), "free");
  expect(free.reason).toMatch(/^taken last: /);
  const next = await daemon.allocate({ queue: false });
  expect(next.body.gpu_uuids).toEqual([smiUuid(1)]);
  expect((await daemon.allocate({ queue: false })).body.gpu_uuids).toEqual([smiUuid(0)]);
});

row("the NVLink fabric of a GPU is broken", async () => {
  const whole = { fabricState: "Completed", fabricStatus: "Success", fabricHealth: "Healthy" };
  const { daemon, show } = await startOn(whole, whole, whole);
  show({ ...whole, fabricHealth: "Unhealthy" }, whole, { ...whole, fabricState: "In Progress", fabricStatus: "N/A" });
  await becomes(daemon, smiUuid(2), "unhealthy");
  const two = await daemon.allocate({ required_gpus: 2, queue: false });
  expect(two.body.code).toBe("no-gpu-free");
  expect((await daemon.allocate({ preferred_gpus: [smiUuid(0)] })).body.gpu_uuids).toEqual([smiUuid(0)]);
  expect((await daemon.allocate({ queue: false })).body.gpu_uuids).toEqual([smiUuid(1)]);
  expect((await daemon.allocate({ queue: false })).body.code).toBe("no-gpu-free");
});

row("the kernel reports an Xid error after which a GPU must be reset", async () => {
  const folder = temporaryFolder();
  const log = join(folder, "kmsg");
  const xid = (sequence: number, at: number, words: string) =>
    appendFileSync(
      log,
      `3,${sequence},1000,-;NVRM: Xid (PCI:${smiPciBusId(at).slice(4, -2).toLowerCase()}): ${words}\n`,
    );
  // Before the start: it is in the kernel's ring.
  xid(100, 0, "31, pid=7, name=train, Ch 00000010, MMU Fault");
  xid(101, 1, "79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.");
  const smi = new FakeNvidiaSmi({ mode: "gpus", count: 3 });
  onTestFinished(() => smi[Symbol.dispose]());
  const config = `monitoring:\n  nvidia_smi_path: ${JSON.stringify(smi.path)}\n  refresh_interval: 500ms\n  kernel_log: ${JSON.stringify(log)}\n`;
  const start = () =>
    startReady({
      simulate: null,
      folder,
      config,
      env: { PATH: `${join(process.execPath, "..")}:${process.env.PATH}` },
    });
  const first = await start();
  expect((await becomes(first, smiUuid(1), "quarantined")).reason).toBe("Xid 79: the GPU has fallen off the bus");
  expect(await statusOf(first, smiUuid(0))).toMatchObject({ state: "free", xid_errors: [{ xid: 31, count: 1 }] });
  xid(102, 2, "74, pid=1, NVLink: fatal error detected on link 6");
  await eventually(
    () => statusOf(first, smiUuid(2)),
    (gpu) => /^only for requests of one GPU: Xid 74/.test(gpu.reason ?? ""),
  );
  expect((await first.allocate({ required_gpus: 2, queue: false })).body.code).toBe("no-gpu-free");
  const metrics = (await first.call("GET", "/metrics")).body;
  expect(metrics).toMatch(/gpu_orchestrator_gpu_xid_errors_total\{[^}]*xid="79"\} 1/);
  const cleared = { reason: "reseated" };
  expect((await first.call("POST", "/gpu/gpus/2/clear-quarantine", cleared)).body).toMatchObject({
    state: "free",
    reason: null,
  });

  // The same boot, another process, and the same ring.
  expect(await first.end()).toBe(0);
  const second = await start();
  expect((await becomes(second, smiUuid(1), "quarantined")).reason).toContain("Xid 79");
  expect((await statusOf(second, smiUuid(2))).reason).toBeNull();
  const kernel = (await second.call("GET", "/gpu/status")).body.monitor.kernel_log;
  expect(kernel).toEqual({ readable: true, problem: null, overruns: 0 });
  appendFileSync(log, "6,200,2000,-;NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.95.05\n");
  await becomes(second, smiUuid(1), "free");
});

test.skipIf(!isBuilt)(
  "every fault keeps its GPU from leases within two intervals and the deadline, and no longer than a minute after it (needs the built program)",
  { timeout: 120_000 },
  async () => {
    const faults: [string, SmiGpu][] = [
      ["degraded", { eccVolatile: 3 }],
      ["degraded", { remappedRowsPending: "Yes" }],
      ["degraded", { sramThresholdExceeded: "Yes" }],
      ["unhealthy", { remappedRowsFailure: "Yes" }],
      ["unhealthy", { recoveryAction: "Reboot" }],
      ["unhealthy", { fabricState: "In Progress" }],
      ["lost", { memoryUsedMib: "GPU is lost" }],
      ["unknown", { memoryUsedMib: "N/A" }],
    ];
    const { daemon, show } = await startOn({}, {});
    for (const [state, fault] of faults) {
      const shown = performance.now();
      show({}, fault);
      await becomes(daemon, smiUuid(1), state);
      expect(performance.now() - shown, state).toBeLessThan(SEEN_WITHIN_MS + PATIENCE_MS);
      const waiting = await daemon.allocate({ required_gpus: 2 });
      expect(waiting.status, state).toBe(202);
      const healed = performance.now();
      show({}, {});
      await eventually(
        () => record(daemon, waiting.body.id),
        ({ status }) => status === "leased",
        60_000,
      );
      expect(performance.now() - healed, state).toBeLessThan(60_000);
      await daemon.release(waiting.body.id);
      await becomes(daemon, smiUuid(1), "free");
    }
  },
);
