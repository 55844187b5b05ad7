import { afterEach, expect, test } from "vitest";
import { eventually, isBuilt, startDaemon, type TestDaemon } from "./daemon.ts";
import { Receiver } from "./receiver.ts";

const daemons: TestDaemon[] = [];
const receivers: Receiver[] = [];
async function start(options: Parameters<typeof startDaemon>[0] = {}) {
  const daemon = await startDaemon(options);
  daemons.push(daemon);
  await eventually(
    () => daemon.call("GET", "/readyz"),
    ({ status }) => status === 200,
  );
  return daemon;
}
async function receive() {
  const receiver = await Receiver.start();
  receivers.push(receiver);
  return receiver;
}
afterEach(async () => {
  for (const daemon of daemons.splice(0)) {
    await daemon.end("SIGKILL");
    daemon.removeFolder();
  }
  for (const receiver of receivers.splice(0)) await receiver.stop();
});

const suite = test.skipIf(!isBuilt);

suite("the main job: allocate, queue with a webhook, release, the webhook arrives (needs the built program)", async () => {
  const daemon = await start({ simulate: "t4x1" });
  const receiver = await receive();
  const first = await daemon.allocate({ service_name: "ocr", workload_type: "ocr", ttl: "10m" });
  expect(first.status).toBe(200);
  expect(first.body).toMatchObject({ status: "allocated", service_name: "ocr", gpu_ids: [0], priority: 6 });
  expect(first.body.allocation_id).toBe(first.body.id);
  expect(first.body.env.CUDA_VISIBLE_DEVICES).toBe(first.body.gpu_uuids[0]);

  const second = await daemon.allocate({ service_name: "embed", webhook_url: receiver.url });
  expect(second.status).toBe(202);
  expect(second.body).toMatchObject({ status: "queued", position: 1, request_id: second.body.id });

  const status = await daemon.call("GET", "/gpu/status");
  expect(status.body.gpus[0]).toMatchObject({ id: 0, name: "Tesla T4", allocated: true, allocated_to: "ocr" });
  expect(status.body.simulated).toBe(true);

  expect((await daemon.release(first.body.id)).body).toMatchObject({ status: "released" });
  expect((await daemon.release(first.body.id)).status).toBe(200);
  await eventually(
    async () => receiver.received.length,
    (count) => count === 1,
  );
  expect(receiver.received[0]?.body).toMatchObject({
    status: "allocated",
    request_id: second.body.id,
    allocation: { id: second.body.id, service_name: "embed", gpu_ids: [0] },
  });
  // The answer to the webhook claims the grant.
  await eventually(
    () => daemon.call("GET", "/gpu/list"),
    ({ body }) => body.allocations[0]?.status === "leased",
  );
});

suite.each(["SIGTERM", "SIGKILL"] as const)(
  "after %s leases, queue, order and pending webhooks are as they were (needs the built program)",
  async (signal) => {
    const before = await start({ simulate: "t4x1" });
    const receiver = await receive();
    receiver.status = 500;
    const holder = await before.allocate({ service_name: "a" });
    const low = await before.allocate({ service_name: "b", priority: 3, webhook_url: receiver.url });
    const high = await before.allocate({ service_name: "c", priority: 9, webhook_url: receiver.url });
    await before.release(holder.body.id);
    await eventually(
      async () => receiver.received.length,
      (count) => count >= 1,
    );
    const code = await before.end(signal);
    expect(code).toBe(signal === "SIGTERM" ? 0 : "SIGKILL");

    receiver.status = 200;
    const seen = receiver.received.length;
    const after = await start({ simulate: "t4x1", folder: before.folder });
    const list = await after.call("GET", "/gpu/list");
    expect(list.body.allocations.map((a: { id: string }) => a.id)).toEqual([high.body.id]);
    expect(list.body.queue.map((a: { id: string }) => a.id)).toEqual([low.body.id]);
    await eventually(
      async () => receiver.received.length,
      (count) => count > seen,
      20_000,
    );
    const again = receiver.received[seen];
    expect(again?.body.request_id).toBe(high.body.id);
    expect(again?.headers["webhook-id"]).toBe(receiver.received[0]?.headers["webhook-id"]);
  },
);

suite("a second daemon on the same database is refused (needs the built program)", async () => {
  const first = await start();
  await expect(startDaemon({ folder: first.folder })).rejects.toThrow(/exited with 1/);
  expect((await first.allocate()).status).toBe(200);
});

suite("SIGTERM refuses new work at once, keeps leases and exits with 0 (needs the built program)", async () => {
  const daemon = await start();
  expect((await daemon.allocate()).status).toBe(200);
  const begun = performance.now();
  expect(await daemon.end("SIGTERM")).toBe(0);
  expect(performance.now() - begun).toBeLessThan(10_000);
});

suite("SIGHUP takes new keys, and a bad file keeps the old settings (needs the built program)", async () => {
  const { writeFileSync } = await import("node:fs");
  const keys = (list: string) => `auth:\n  enabled: true\n  api_keys:\n${list}`;
  const daemon = await start({ config: keys('    "first-key-0123456789": alice\n') });
  const ask = async (key: string) => (await daemon.call("GET", "/gpu/status", undefined, { "X-API-Key": key })).status;
  expect(await ask("first-key-0123456789")).toBe(200);
  expect(await ask("second-key-0123456789")).toBe(401);
  writeFileSync(`${daemon.folder}/config.yaml`, keys('    "second-key-0123456789": alice\n'));
  daemon.process.kill("SIGHUP");
  await eventually(
    () => ask("second-key-0123456789"),
    (status) => status === 200,
  );
  expect(await ask("first-key-0123456789")).toBe(401);
  writeFileSync(`${daemon.folder}/config.yaml`, "scheduler: 3\nnonsense: true\n");
  daemon.process.kill("SIGHUP");
  await eventually(
    async () => (await daemon.call("GET", "/metrics")).body as string,
    (text) => /config_last_reload_successful(\{[^}]*\})? 0/.test(text),
  );
  expect(await ask("second-key-0123456789")).toBe(200);
});

suite("a webhook that was given up is seen by an admin, and sent again (needs the built program)", async () => {
  const daemon = await start({ simulate: "t4x1" });
  const receiver = await receive();
  receiver.status = 410;
  const holder = await daemon.allocate({ service_name: "ocr" });
  const waiting = await daemon.allocate({ service_name: "embed", webhook_url: receiver.url });
  await daemon.release(holder.body.id);
  const list = () => daemon.call("GET", `/gpu/webhooks/deliveries?allocation_id=${waiting.body.id}`);
  const refused = await eventually(list, ({ body }) => body.deliveries[0]?.state === "gave-up");
  const [delivery] = refused.body.deliveries;
  expect(delivery).toMatchObject({ status: "allocated", attempts: 1, http_status: 410, url: receiver.url });

  receiver.status = 200;
  const again = await daemon.call("POST", `/gpu/webhooks/deliveries/${delivery.id}/redeliver`);
  expect(again.status).toBe(200);
  await eventually(list, ({ body }) => body.deliveries[0]?.state === "delivered");
  expect(new Set(receiver.received.map(({ headers }) => headers["webhook-id"]))).toEqual(new Set([delivery.id]));
  expect(receiver.received).toHaveLength(2);
  // It was told: the offer is claimed.
  expect((await daemon.call("GET", "/gpu/list")).body.allocations[0]).toMatchObject({ status: "leased" });

  await daemon.release(waiting.body.id);
  const stale = await daemon.call("POST", `/gpu/webhooks/deliveries/${delivery.id}/redeliver`);
  expect([stale.status, stale.body.code]).toEqual([409, "delivery-withdrawn"]);
});
