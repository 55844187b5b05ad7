/** Shared leases as the API shows them. */
import { expect, test } from "vitest";
import { gpuReading } from "../../fixtures/readings.ts";
import { startDaemon } from "../daemon.ts";

const READING = gpuReading(0);

/** A GPU that two services share, the second of which has only begun. */
async function sharedGpu() {
  const daemon = await startDaemon({ gpus: [READING] });
  const ask = (service_name: string, min_memory_mb: number) =>
    daemon.allocate({ service_name, sharing: "shared", min_memory_mb });
  const { json: chat } = await ask("chat", 20_000);
  for (let i = 0; i < 4; i++) {
    daemon.clock.advance(5_000);
    await daemon.see([{ ...READING, memoryUsedMib: 16_000 }]);
  }
  const embed = await ask("embed", 30_000);
  return { daemon, ask, chat, embed };
}

test("a shared grant says how much is reserved, in words that a program can read", async () => {
  const { embed } = await sharedGpu();
  expect(embed.status).toBe(200);
  expect(embed.json).toMatchObject({ status: "allocated", sharing: "shared", memory_mb: 30_000, gpu_ids: [0] });
  expect(embed.json.env.GPU_ORCHESTRATOR_MEMORY_MB).toBe("30000");
});

test("the status names all who share a GPU, and what is left of it", async () => {
  const { daemon, chat, embed } = await sharedGpu();
  const [gpu] = (await daemon.call("GET", "/gpu/status")).json.gpus;
  expect(gpu).toMatchObject({ state: "leased", allocated: true, allocated_to: "chat, embed" });
  expect(gpu.allocated_at).toBe(chat.allocated_at);
  const share = { sharing: "shared", over_memory_since: null };
  expect(gpu.holders).toMatchObject([
    { ...share, allocation_id: chat.id, service_name: "chat", memory_mb: 20_000, settled: true },
    { ...share, allocation_id: embed.json.id, service_name: "embed", memory_mb: 30_000, settled: false },
  ]);
  expect(gpu.shared).toEqual({ reserved_mb: 50_000, free_mb: 81_559 - 4_078 - 50_000 - 4, leaving: [] });
  expect(gpu.reason).toContain(`waiting for the memory of ${embed.json.id} to settle`);
});

test("who has to wait is told what for", async () => {
  const { daemon, ask } = await sharedGpu();
  const waiting = await ask("ocr", 1_000);
  expect(waiting.status).toBe(202);
  expect(waiting.json.reason).toContain("waiting for another lease's memory to settle");
  const { json: plan } = await daemon.call("POST", "/gpu/plan", {
    body: { service_name: "train", min_memory_mb: 1_000 },
  });
  expect(plan).toMatchObject({ outcome: "queued", gpus: [{ reason: "held" }] });
});

test("more than a GPU has beside the head-room is refused for good, and the analyzer says the same", async () => {
  const daemon = await startDaemon({ gpus: [READING] });
  const ask = { service_name: "chat", sharing: "shared", min_memory_mb: 77_482 };
  expect((await daemon.allocate(ask)).status).toBe(422);
  const { json } = await daemon.call("POST", "/gpu/workload", { body: ask });
  expect(json).toMatchObject({ fits: false });
  expect(json.missing).toContain("77481 MiB to share");
});

test("a lease that outgrows what it has reserved is shown, and so is what an ended one has left", async () => {
  const daemon = await startDaemon({ gpus: [READING] });
  const { json: lease } = await daemon.allocate({ service_name: "chat", sharing: "shared", min_memory_mb: 20_000 });
  daemon.clock.advance(5_000);
  await daemon.see([{ ...READING, memoryUsedMib: 25_000 }]);
  const at = new Date(daemon.clock.now()).toISOString();
  const { json: record } = await daemon.call("GET", `/gpu/allocations/${lease.id}`);
  expect(record).toMatchObject({ status: "leased", over_memory_since: at });
  for (let i = 0; i < 3; i++) {
    daemon.clock.advance(5_000);
    await daemon.see([{ ...READING, memoryUsedMib: 25_000 }]);
  }
  await daemon.allocate({ service_name: "embed", sharing: "shared", min_memory_mb: 30_000 });
  await daemon.call("DELETE", `/gpu/allocations/${lease.id}`);
  const [gpu] = (await daemon.call("GET", "/gpu/status")).json.gpus;
  expect(gpu).toMatchObject({ allocated_to: "embed", shared: { reserved_mb: 50_000 } });
  expect(gpu.shared.leaving).toMatchObject([{ allocation_id: lease.id, memory_mb: 20_000 }]);
});
