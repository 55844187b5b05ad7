import { expect, test } from "vitest";
import { gpuReading } from "../../fixtures/readings.ts";
import { apiKey, startDaemon } from "../daemon.ts";

const REASON = { reason: "fan replaced on Friday" };

test("cordon, and uncordon, by index or UUID: the answer is the GPU as it stands", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const { uuid } = gpuReading(0);
  const cordoned = await daemon.call("POST", "/gpu/gpus/0/cordon", { body: REASON });
  expect(cordoned.status).toBe(200);
  expect(cordoned.json).toMatchObject({
    uuid,
    state: "cordoned",
    reason: "fan replaced on Friday (anonymous)",
    cordon: { reason: "fan replaced on Friday", by: "anonymous" },
  });
  expect((await daemon.allocate()).status).toBe(202);
  const status = await daemon.call("GET", "/gpu/status");
  expect(status.json.gpus[0]).toEqual(cordoned.json);
  const open = await daemon.call("POST", `/gpu/gpus/${uuid}/uncordon`, { body: REASON });
  expect(open.json).toMatchObject({ state: "leased", cordon: null });
});

test("a cordon outlives the daemon", async () => {
  const first = await startDaemon({ gpus: [gpuReading(0)] });
  await first.call("POST", "/gpu/gpus/0/cordon", { body: REASON });
  const second = await startDaemon({ gpus: [gpuReading(0)], store: first.store });
  expect((await second.call("GET", "/gpu/status")).json.gpus[0].state).toBe("cordoned");
});

test("a reason is needed, and shown harmlessly", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  for (const body of [{}, { reason: "" }, { reason: "  " }, { reason: 1 }, { reason: "x".repeat(501) }]) {
    const reply = await daemon.call("POST", "/gpu/gpus/0/cordon", { body });
    expect([reply.status, reply.json.errors?.[0]?.path]).toEqual([422, "reason"]);
  }
  const hostile = await daemon.call("POST", "/gpu/gpus/0/cordon", { body: { reason: "\u001b[2Jgone" } });
  expect(hostile.json.reason).not.toContain("\u001b");
  expect(hostile.json.cordon.reason).not.toContain("\u001b");
});

test("GPUs that are not there are 404; one that is still seen cannot be struck off", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0), gpuReading(1)] });
  expect((await daemon.call("POST", "/gpu/gpus/9/cordon", { body: REASON })).json.code).toBe("gpu-not-found");
  expect((await daemon.call("DELETE", "/gpu/gpus/1", { body: REASON })).json.code).toBe("gpu-in-use");
  await daemon.see([gpuReading(0)]);
  const removed = await daemon.call("DELETE", "/gpu/gpus/1", { body: REASON });
  expect(removed.json).toEqual({ status: "removed", uuid: gpuReading(1).uuid });
  expect((await daemon.call("GET", "/gpu/status")).json.gpus).toHaveLength(1);
});

test("revoking ends somebody's lease, which its record and its owner are told of", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const { json } = await daemon.allocate({ webhook_url: "http://127.0.0.1:9/hook" });
  const path = `/gpu/allocations/${json.id}/revoke`;
  const revoked = await daemon.call("POST", path, { body: { reason: "runaway job" } });
  expect(revoked.json).toMatchObject({
    status: "ended",
    end_reason: "revoked",
    end_detail: "runaway job (anonymous)",
  });
  const [told] = daemon.store.turns.flatMap(({ notifications }) => notifications);
  expect(JSON.parse(told?.body ?? "{}")).toMatchObject({ status: "revoked", request_id: json.id, reason: "revoked" });
  expect((await daemon.call("POST", path, { body: REASON })).json.code).toBe("allocation-ended");
  expect((await daemon.call("POST", "/gpu/allocations/no-1/revoke", { body: REASON })).status).toBe(404);
});

test("only an admin's key may do any of this", async () => {
  const daemon = await startDaemon({
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => [apiKey("u", "user"), apiKey("o", "ops", "admin")],
    gpus: [gpuReading(0)],
  });
  const { json } = await daemon.allocate({}, { "x-api-key": "u" });
  const calls = [
    ["POST", "/gpu/gpus/0/cordon"],
    ["POST", "/gpu/gpus/0/uncordon"],
    ["POST", "/gpu/gpus/0/clear-quarantine"],
    ["POST", `/gpu/allocations/${json.id}/revoke`],
    ["DELETE", "/gpu/gpus/0"],
    ["GET", "/gpu/webhooks/deliveries"],
    ["POST", "/gpu/webhooks/deliveries/msg_1/redeliver"],
  ] as const;
  for (const [method, path] of calls) {
    expect((await daemon.call(method, path, { body: REASON, headers: { "x-api-key": "u" } })).status).toBe(403);
    expect((await daemon.call(method, path, { body: REASON })).status).toBe(401);
  }
  const done = await daemon.call("POST", "/gpu/gpus/0/cordon", { body: REASON, headers: { "x-api-key": "o" } });
  expect(done.json.cordon.by).toBe("ops");
});

test("a webhook that nobody knows cannot be sent again", async () => {
  const daemon = await startDaemon();
  const reply = await daemon.call("POST", "/gpu/webhooks/deliveries/msg_1/redeliver");
  expect([reply.status, reply.json.code]).toEqual([404, "delivery-not-found"]);
  expect((await daemon.call("GET", "/gpu/webhooks/deliveries?state=lost")).status).toBe(422);
});
