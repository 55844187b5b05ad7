import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { FakeNvidiaSmi } from "../fixtures/fake-nvidia-smi.ts";
import { smiDocument } from "../fixtures/nvidia-smi-document.ts";
import { eventually, isBuilt, type TestDaemon } from "./daemon.ts";
import { row } from "./rows.ts";
import { receive, record, startReady } from "./steps.ts";

const holderOf = async (daemon: TestDaemon, id: string) => {
  const { body } = await daemon.call("GET", "/gpu/status");
  const holders: { allocation_id: string; in_use_since: string | null; idle_since: string | null }[] =
    body.gpus.flatMap(({ holders }: { holders: unknown[] }) => holders);
  return holders.find(({ allocation_id }) => allocation_id === id);
};

test.skipIf(!isBuilt)("usage is exact, and the same before and after a kill -9 (needs the built program)", async () => {
  const config = "monitoring:\n  refresh_interval: 200ms\n";
  const before = await startReady({ simulate: "h100x4", config });
  const used = async (id: string) =>
    (await eventually(
      () => holderOf(before, id),
      (holder) => typeof holder?.in_use_since === "string",
    )) as { in_use_since: string };
  const first = (await before.allocate({ service_name: "train", required_gpus: 2 })).body;
  const ms = (instant: string) => Date.parse(instant);
  const begun = ms((await used(first.id)).in_use_since);
  await before.release(first.id);
  const ended = await record(before, first.id);
  const second = (await before.allocate({ service_name: "ocr" })).body;
  const secondBegun = ms((await used(second.id)).in_use_since);
  const from = ended.allocated_at;
  const to = new Date(secondBegun + 50).toISOString();
  const query = `/gpu/usage?from=${from}&to=${to}`;
  const usage = async (daemon: TestDaemon) =>
    (
      await eventually(
        () => daemon.call("GET", query),
        ({ body }) => ms(body.now) > ms(to),
      )
    ).body;
  const figures = await usage(before);
  const csv = (await before.call("GET", `${query}&format=csv`)).body as string;
  const seconds = (one: number) => one / 1_000;
  expect(figures).toMatchObject({ from, to, complete_from: null });
  expect(figures.services).toMatchObject([
    {
      name: "train",
      reserved_gpu_seconds: seconds(2 * (ms(ended.ended_at) - ms(ended.allocated_at))),
      // Both GPUs were seen in use by the same reading, and were so to the end.
      used_gpu_seconds: seconds(2 * (ms(ended.ended_at) - begun)),
    },
    { name: "ocr", reserved_gpu_seconds: seconds(ms(to) - ms(second.allocated_at)), used_gpu_seconds: seconds(50) },
  ]);
  expect(csv).toMatch(/^kind,name,leases,.*\r\ntotal,,2,.*\r\nservice,train,1,/);

  await before.end("SIGKILL");
  const after = await startReady({ simulate: "h100x4", config, folder: before.folder });
  expect({ ...(await usage(after)), now: "" }).toEqual({ ...figures, now: "" });
  // The running lease runs on in the books, in use as it was.
  expect(await holderOf(after, second.id)).toMatchObject({ in_use_since: new Date(secondBegun).toISOString() });
});

row("a lease without an end sits idle", async () => {
  const fake = new FakeNvidiaSmi({ mode: "gpus", count: 1 });
  onTestFinished(() => fake[Symbol.dispose]());
  const receiver = await receive();
  const settings = (allocator: string) =>
    `monitoring:\n  nvidia_smi_path: ${JSON.stringify(fake.path)}\n  refresh_interval: 200ms\n` +
    `allocator: {idle_after: 1s${allocator}}\n`;
  const daemon = await startReady({
    simulate: null,
    config: settings(""),
    env: { PATH: `${join(process.execPath, "..")}:${process.env.PATH}` },
  });
  const { body: lease } = await daemon.allocate({ webhook_url: receiver.url });
  const told = () => receiver.received.map(({ body }) => body.status);
  await eventually(
    async () => told(),
    (statuses) => statuses.includes("idle"),
    15_000,
  );
  expect(await holderOf(daemon, lease.id)).toMatchObject({ idle_since: expect.any(String), in_use_since: null });
  expect((await daemon.call("GET", "/metrics")).body).toMatch(/^gpu_orchestrator_idle_leases\{service="svc"\} 1$/m);

  const busy = { memoryUsedMib: 1_000, processes: [{ pid: 4_711, type: "C", name: "train", usedMemoryMib: 900 }] };
  fake.tell({ mode: "text", text: smiDocument({ gpus: [busy] }) });
  await eventually(
    () => holderOf(daemon, lease.id),
    (holder) => holder?.idle_since === null,
    15_000,
  );
  expect(await holderOf(daemon, lease.id)).toMatchObject({ in_use_since: expect.any(String) });
  expect(told()).toEqual(["idle"]);

  writeFileSync(join(daemon.folder, "config.yaml"), settings(", reclaim_idle_after: 0s"));
  daemon.process.kill("SIGHUP");
  fake.tell({ mode: "gpus", count: 1 });
  await eventually(
    async () => told(),
    (statuses) => statuses.includes("revoked"),
    15_000,
  );
  expect(await record(daemon, lease.id)).toMatchObject({
    status: "ended",
    end_reason: "idle",
  });
});
