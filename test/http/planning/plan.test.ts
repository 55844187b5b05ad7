import { expect, test } from "vitest";
import { NO_KNOWLEDGE } from "../../../src/ports/knowledge.ts";
import { NO_LESSONS } from "../../../src/ports/learned.ts";
import { gpuReading } from "../../fixtures/readings.ts";
import { apiKey, startDaemon } from "../daemon.ts";

type Daemon = Awaited<ReturnType<typeof startDaemon>>;
const plan = (daemon: Daemon, body: object = {}, headers: Record<string, string> = {}) =>
  daemon.call("POST", "/gpu/plan", { body: { service_name: "trainer", ...body }, headers });

test("a request that would be granted is told where, and then gets just that; the plan itself changed nothing", async () => {
  const daemon = await startDaemon();
  const before = daemon.scheduler.state;
  const planned = await plan(daemon, { required_gpus: 2, ttl: 60 });
  expect(planned.status).toBe(200);
  expect(planned.json).toMatchObject({ outcome: "granted", code: null, reason: null, position: null, gpus: [] });
  expect(daemon.scheduler.state).toBe(before);
  expect((await daemon.call("GET", "/gpu/allocations")).json.allocations).toEqual([]);
  const granted = await daemon.allocate({ required_gpus: 2, ttl: 60 });
  expect(granted.json.gpu_uuids).toEqual(planned.json.gpu_uuids);
});

test("a request that would wait is told its position, and of each GPU why not", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0), gpuReading(1)] });
  await daemon.allocate({ preferred_gpus: [0] });
  await daemon.allocate({ required_gpus: 2, priority: 9 });
  const planned = await plan(daemon, { required_gpus: 2, priority: 5 });
  expect(planned.json).toMatchObject({
    outcome: "queued",
    position: 2,
    eta: null,
    gpu_ids: null,
    gpus: [
      { id: 0, uuid: gpuReading(0).uuid, reason: "held" },
      { id: 1, uuid: gpuReading(1).uuid, reason: null },
    ],
  });
  expect(planned.json.reason).toContain("waiting for 2 GPUs");
  expect((await plan(daemon, { required_gpus: 2, priority: 10 })).json.position).toBe(1);
  const made = await daemon.allocate({ required_gpus: 2, priority: 5 });
  expect(made.json).toMatchObject({ position: 2, reason: planned.json.reason });
});

test("what would be refused is said with the code that an allocate would have, and 200", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)], policy: { maxQueueSize: 1 } });
  const never = await plan(daemon, { required_gpus: 9 });
  expect(never.status).toBe(200);
  expect(never.json).toMatchObject({ outcome: "refused", code: "request-never-fits", gpus: [] });
  await daemon.allocate();
  const unqueued = await plan(daemon, { queue: false });
  expect(unqueued.json).toMatchObject({ outcome: "refused", code: "no-gpu-free", gpus: [{ id: 0, reason: "held" }] });
  await daemon.allocate();
  expect((await plan(daemon)).json).toMatchObject({ code: "queue-full", gpus: [{ id: 0, reason: "held" }] });
  const blind = await startDaemon({ gpus: null });
  expect((await plan(blind)).json).toMatchObject({ outcome: "refused", code: "gpus-unavailable", gpus: [] });
});

test("plans are checked as requests are, and a key to read is enough", async () => {
  const daemon = await startDaemon({
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => [apiKey("r", "reader", "read")],
    knowledge: NO_KNOWLEDGE,
    lessons: NO_LESSONS,
    checkWebhookUrl: () => "not there",
    webhookTester: () => null,
  });
  const key = { "x-api-key": "r" };
  expect((await plan(daemon)).status).toBe(401);
  expect((await plan(daemon, {}, key)).json.outcome).toBe("granted");
  expect((await plan(daemon, { required_gpus: "2" }, key)).json.errors[0].path).toBe("required_gpus");
  expect((await plan(daemon, { webhook_url: "http://x/" }, key)).json.errors[0].path).toBe("webhook_url");
});

test("where leases have a max_duration, plan, answer, record and list tell when the turn will come", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0), gpuReading(1)] });
  const held = await daemon.allocate({ required_gpus: 2, max_duration: "1h" });
  // Of a request that states no end itself there is no estimate: a wider one may pass it.
  expect((await plan(daemon)).json.eta).toBeNull();
  const planned = await plan(daemon, { max_duration: "1h" });
  const latest = Date.parse(held.json.allocated_at) + 3_660_000;
  expect(Date.parse(planned.json.eta.latest)).toBe(latest);
  expect(Date.parse(planned.json.eta.earliest)).toBeLessThan(latest);
  const queued = await daemon.allocate({ max_duration: "1h" });
  expect(queued.status).toBe(202);
  const record = await daemon.call("GET", `/gpu/allocations/${queued.json.id}`);
  const [entry] = (await daemon.call("GET", "/gpu/list")).json.queue;
  for (const answer of [queued.json, record.json, entry]) expect(Date.parse(answer.eta.latest)).toBe(latest);
  const reasons = [
    { id: 0, uuid: gpuReading(0).uuid, reason: "held" },
    { id: 1, uuid: gpuReading(1).uuid, reason: "held" },
  ];
  for (const answer of [planned.json, queued.json, record.json]) expect(answer.gpus).toEqual(reasons);
});
