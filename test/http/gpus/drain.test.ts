import { expect, test } from "vitest";
import { gpuReading } from "../../fixtures/readings.ts";
import { apiKey, startDaemon } from "../daemon.ts";

const REASON = { reason: "a new driver" };
const HOOK = "http://127.0.0.1:9/hook";

test("a drained GPU says who is still there and until when; its owner is told, and then that it is over", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const { id } = (await daemon.allocate({ webhook_url: HOOK })).json;
  const leaveBy = new Date(daemon.clock.now() + 600_000).toISOString();
  const drained = await daemon.call("POST", "/gpu/gpus/0/drain", { body: { ...REASON, deadline: "10m" } });
  expect(drained.status).toBe(200);
  expect(drained.json).toMatchObject({
    state: "leased",
    cordon: { reason: "a new driver", by: "anonymous", drain_by: leaveBy },
    drained: false,
    holders: [{ allocation_id: id, leave_by: leaveBy }],
  });
  const record = await daemon.call("GET", `/gpu/allocations/${id}`);
  expect(record.json).toMatchObject({
    status: "leased",
    expires_at: leaveBy,
    notice: { leave_by: leaveBy, reason: "drained", detail: "a new driver (anonymous)" },
  });
  expect((await daemon.call("GET", "/gpu/list")).json.allocations[0].notice).toEqual(record.json.notice);
  const renewed = await daemon.call("POST", `/gpu/allocations/${id}/renew`);
  expect(renewed.json.expires_at).toBe(leaveBy);

  await daemon.clock.advance(600_000);

  expect((await daemon.call("GET", `/gpu/allocations/${id}`)).json).toMatchObject({
    status: "ended",
    end_reason: "revoked",
    end_detail: "a new driver (anonymous)",
  });
  const told = daemon.store.turns.flatMap(({ notifications }) => notifications.map(({ body }) => JSON.parse(body)));
  expect(told).toMatchObject([
    { status: "preempting", request_id: id, reason: "drained", leave_by: leaveBy, detail: "a new driver (anonymous)" },
    { status: "revoked", request_id: id, reason: "revoked" },
  ]);
});

test("a drained host stays ready, takes requests into the queue, and lists what an operator waits for", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0), gpuReading(1)] });
  const { id } = (await daemon.allocate()).json;
  const drained = await daemon.call("POST", "/gpu/drain", { body: REASON });
  expect([drained.status, drained.json]).toEqual([
    200,
    {
      drain: {
        reason: "a new driver",
        by: "anonymous",
        since: new Date(daemon.clock.now()).toISOString(),
        drain_by: null,
        drained: false,
        allocations: [id],
      },
    },
  ]);
  expect((await daemon.call("GET", "/readyz")).status).toBe(200);
  const queued = await daemon.allocate();
  expect(queued.status).toBe(202);
  expect(queued.json.reason).toContain("1 cordoned");
  expect((await daemon.allocate({ queue: false })).json.code).toBe("no-gpu-free");
  const { gpus } = (await daemon.call("GET", "/gpu/status")).json;
  expect(gpus.map((gpu: { state: string; drained: boolean }) => [gpu.state, gpu.drained])).toEqual([
    ["leased", false],
    ["cordoned", true],
  ]);

  await daemon.call("DELETE", `/gpu/allocations/${id}`);
  for (const path of ["/gpu/status", "/gpu/list"]) {
    expect((await daemon.call("GET", path)).json.drain).toMatchObject({ drained: true, allocations: [] });
  }
  const back = await daemon.call("POST", "/gpu/undrain", { body: { reason: "it is in" } });
  expect(back.json).toEqual({ drain: null });
  expect((await daemon.call("GET", `/gpu/allocations/${queued.json.id}`)).json.status).toBe("leased");
});

test("an instant by which a GPU is to be empty is shown as it was told; one that is past is now", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  await daemon.allocate({});
  const told = new Date(Math.ceil(daemon.clock.now() / 60_000) * 60_000 + 600_000).toISOString();
  const { cordon, holders } = (await daemon.call("POST", "/gpu/gpus/0/drain", { body: { ...REASON, deadline: told } }))
    .json;
  expect([cordon.drain_by, holders[0].leave_by]).toEqual([told, told]);
  expect((await daemon.call("POST", "/gpu/drain", { body: { ...REASON, deadline: told } })).json.drain.drain_by).toBe(
    told,
  );
  const past = "2020-01-01T00:00:00Z";
  const now = new Date(daemon.clock.now() + 1).toISOString();
  const late = await daemon.call("POST", "/gpu/gpus/0/drain", { body: { ...REASON, deadline: past } });
  expect(late.json.cordon.drain_by).toBe(now);
});

test("a drain outlives the daemon, with its deadline", async () => {
  const first = await startDaemon({ gpus: [gpuReading(0)] });
  const { id } = (await first.allocate()).json;
  const { drain } = (await first.call("POST", "/gpu/drain", { body: { ...REASON, deadline: 3_600 } })).json;
  const second = await startDaemon({ gpus: [gpuReading(0)], store: first.store });
  expect((await second.call("GET", "/gpu/status")).json.drain).toEqual(drain);
  expect((await second.call("GET", `/gpu/allocations/${id}`)).json.notice.leave_by).toBe(drain.drain_by);
});

test("a drain needs a reason, a deadline that can be kept, and an admin", async () => {
  const daemon = await startDaemon({
    gpus: [gpuReading(0)],
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => [apiKey("a", "user"), apiKey("o", "ops", "admin")],
  });
  const call = (path: string, body: unknown, key = "o") =>
    daemon.call("POST", path, { body, headers: { "x-api-key": key } });
  for (const path of ["/gpu/drain", "/gpu/gpus/0/drain"]) {
    expect((await call(path, {})).json.errors?.[0]?.path).toBe("reason");
    for (const deadline of [0, "soon", -1]) {
      expect((await call(path, { ...REASON, deadline })).json.errors?.[0]?.path).toBe("deadline");
    }
    expect((await call(path, REASON, "a")).status).toBe(403);
  }
  expect((await call("/gpu/undrain", REASON, "a")).status).toBe(403);
  expect((await call("/gpu/gpus/9/drain", REASON)).json.code).toBe("gpu-not-found");
  expect((await call("/gpu/drain", REASON)).json.drain.by).toBe("ops");
});
