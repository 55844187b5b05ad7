/** What the README says of leases that are taken back, with the built program and a webhook receiver. */
import { expect } from "vitest";
import { eventually, startDaemon } from "./daemon.ts";
import { row } from "./rows.ts";
import { ended, receive, record, renew, startReady } from "./steps.ts";

const GRACE_MS = 3_000;
const SLACK_MS = 5_000;
const CONFIG = `preemption: {enabled: true, grace_period: ${GRACE_MS}ms}`;

row("a more urgent request needs GPUs whose leases allow preemption", async () => {
  const daemon = await startReady({ simulate: "t4x1", config: CONFIG });
  const [low, high] = [await receive(), await receive()];
  const victim = (await daemon.allocate({ service_name: "low", priority: 2, preemptible: true, webhook_url: low.url }))
    .body;
  const queued = await daemon.allocate({ service_name: "high", priority: 9, webhook_url: high.url });
  expect(queued.status).toBe(202);
  await eventually(
    async () => low.received.length,
    (count) => count === 1,
  );
  const told = low.received[0]?.body;
  expect(told).toMatchObject({ status: "preempting", request_id: victim.id, reason: "preempted" });
  expect((await renew(daemon, victim.id)).body).toMatchObject({ status: "leased", expires_at: told.leave_by });
  const { body } = await ended(daemon, victim.id, GRACE_MS + SLACK_MS);
  expect(body.end_reason).toBe("preempted");
  expect(Date.parse(body.ended_at)).toBeGreaterThanOrEqual(Date.parse(told.leave_by));
  // Its webhook first: who reads its record has its grant, and needs no webhook any more.
  await eventually(
    async () => high.received.length,
    (count) => count === 1,
    SLACK_MS,
  );
  await eventually(
    () => record(daemon, queued.body.id),
    ({ status }) => status === "leased",
    SLACK_MS,
  );
  expect(low.received[1]?.body).toMatchObject({ status: "revoked", request_id: victim.id, reason: "preempted" });
  expect(high.received[0]?.body).toMatchObject({ status: "allocated", allocation: { gpu_ids: [0] } });
});

row("a GPU or the host is drained for maintenance", async () => {
  const first = await startReady({ simulate: "t4x2" });
  const receiver = await receive();
  const lease = (await first.allocate({ service_name: "a", webhook_url: receiver.url })).body;
  const reason = { reason: "a new driver" };
  const drained = await first.call("POST", "/gpu/drain", { ...reason, deadline: "8s" });
  expect(drained.body.drain).toMatchObject({ drained: false, allocations: [lease.id] });
  const waiting = await first.allocate({ service_name: "b", webhook_url: receiver.url });
  expect(waiting.status).toBe(202);
  await eventually(
    async () => receiver.received.length,
    (count) => count === 1,
  );
  expect(receiver.received[0]?.body).toMatchObject({ status: "preempting", reason: "drained", request_id: lease.id });

  // As durable as everything else, deadline and all.
  await first.end("SIGKILL");
  const second = await startDaemon({ simulate: "t4x2", folder: first.folder });
  try {
    const { body } = await ended(second, lease.id, 20_000);
    expect(body).toMatchObject({ end_reason: "revoked", end_detail: "a new driver (anonymous)" });
    const status = await eventually(
      () => second.call("GET", "/gpu/status"),
      ({ body: { drain } }) => drain?.drained === true,
      20_000,
    );
    expect(status.body.gpus.map((gpu: { state: string }) => gpu.state)).toEqual(["cordoned", "cordoned"]);
    const metrics = await (await fetch(`${second.url}/metrics`)).text();
    expect(metrics).toContain("gpu_orchestrator_gpus_drained 2\n");
    expect((await second.call("GET", "/readyz")).status).toBe(200);
    expect((await record(second, waiting.body.id)).status).toBe("queued");
    await second.call("POST", "/gpu/undrain", { reason: "it is in" });
    await eventually(
      () => record(second, waiting.body.id),
      ({ status }) => status === "leased",
      SLACK_MS,
    );
  } finally {
    await second.end("SIGKILL");
  }
});
