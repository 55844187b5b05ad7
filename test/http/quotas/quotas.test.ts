import { expect, test } from "vitest";
import type { Quota, Quotas } from "../../../src/core/model/policy.ts";
import { gpuReading } from "../../fixtures/readings.ts";
import { NO_QUOTA, NO_QUOTAS } from "../../simulation/simulated-host.ts";
import { apiKey, startDaemon } from "../daemon.ts";

const HOUR_MS = 3_600_000;
const KEYS = [apiKey("ann", "ann"), apiKey("bob", "bob"), apiKey("root", "root", "admin")];
const AUTH = { settings: { auth: { enabled: true, headerName: "X-API-Key" } }, keys: () => KEYS };
const quotas = (over: Partial<Quotas>) => ({ quotas: { ...NO_QUOTAS, ...over } });
const quota = (over: Partial<Quota>): Quota => ({ ...NO_QUOTA, ...over });
const as = (key: string) => ({ "X-API-Key": key });

const ann = (over: Partial<Quota>) => ({ ...AUTH, policy: quotas({ principals: { ann: quota(over) } }) });

test("more GPUs than a quota has at all is 429 for good, and says whose quota it is", async () => {
  const daemon = await startDaemon(ann({ maxGpus: 1 }));
  const { status, json, headers } = await daemon.allocate({ required_gpus: 2 }, as("ann"));
  expect([status, json.code]).toEqual([429, "quota"]);
  expect(json.detail).toBe("asked for 2 GPUs; principal ann may have 1 at once");
  expect(headers).not.toHaveProperty("retry-after");
  expect((await daemon.allocate({ required_gpus: 2 }, as("bob"))).status).toBe(200);
});

test("what fits no host is 422 before it is over a quota", async () => {
  const daemon = await startDaemon(ann({ maxGpus: 1 }));
  expect((await daemon.allocate({ required_gpus: 3 }, as("ann"))).status).toBe(422);
});

test("GPU-hours that a max_duration could never fit into are 429; one that could is not, nor one without", async () => {
  const daemon = await startDaemon(ann({ gpuTime: { limitMs: 2 * HOUR_MS, periodMs: 24 * HOUR_MS } }));
  const refused = await daemon.allocate({ required_gpus: 2, max_duration: "90m" }, as("ann"));
  expect([refused.status, refused.json.detail]).toEqual([
    429,
    "needs 3 GPU-hours within 24 h; principal ann may use 2",
  ]);
  expect((await daemon.allocate({ required_gpus: 2, max_duration: "1h" }, as("ann"))).status).toBe(200);
  expect((await daemon.allocate({ required_gpus: 1 }, as("ann"))).status).toBe(202);
  const none = await startDaemon(ann({ gpuTime: { limitMs: 0, periodMs: 24 * HOUR_MS } }));
  expect((await none.allocate({}, as("ann"))).json.detail).toBe("principal ann may use no GPU-hours");
});

test("one more than may wait is 429 with when to ask again, and a retry changes nothing", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)], ...ann({ maxQueued: 1 }) });
  expect((await daemon.allocate({}, as("ann"))).status).toBe(200);
  expect((await daemon.allocate({}, as("ann"))).status).toBe(202);
  const before = daemon.scheduler.state;
  const headers = { ...as("ann"), "Idempotency-Key": "again" };
  for (let i = 0; i < 3; i++) {
    const refused = await daemon.allocate({}, headers);
    expect([refused.status, refused.json.code, refused.headers["retry-after"]]).toEqual([429, "quota", "10"]);
    expect(refused.json.detail).toBe("principal ann may have 1 request waiting, and has them");
  }
  expect(daemon.scheduler.state.allocations).toBe(before.allocations);
  expect(daemon.scheduler.state.accounts).toBe(before.accounts);
  expect((await daemon.allocate({}, as("bob"))).status).toBe(202);
});

test("a priority above the quota is lowered to it, and workload says so", async () => {
  const daemon = await startDaemon(ann({ maxPriority: 4 }));
  const { json } = await daemon.allocate({ priority: 9 }, as("ann"));
  expect(json).toMatchObject({ status: "allocated", priority: 4 });
  const asked = { workload_type: "training", priority: 9 };
  const analysis = await daemon.call("POST", "/gpu/workload", { body: asked, headers: as("ann") });
  expect(analysis.json.priority).toBe(4);
  expect(analysis.json.sources.priority).toContain("; 9 is more than the quota of principal ann allows");
  const planned = await daemon.call("POST", "/gpu/plan", { body: { service_name: "a", ...asked }, headers: as("ann") });
  expect(planned.json.priority).toBe(4);
  expect((await daemon.allocate({ priority: 9 }, as("bob"))).json.priority).toBe(9);
});

test("accounts are shown with what they have and have left: one's own and every service, to an admin all", async () => {
  const daemon = await startDaemon({
    ...AUTH,
    policy: quotas({
      principals: { ann: quota({ maxGpus: 3, gpuTime: { limitMs: 10 * HOUR_MS, periodMs: 24 * HOUR_MS } }) },
      defaultService: quota({ maxQueued: 2, maxPriority: 6 }),
    }),
  });
  const { json: first } = await daemon.allocate({ max_duration: "2h" }, as("ann"));
  await daemon.allocate({ service_name: "ocr" }, as("bob"));
  await daemon.allocate({ service_name: "ocr", required_gpus: 2, webhook_url: "https://a.example" }, as("bob"));
  daemon.clock.advance(HOUR_MS / 2);
  await daemon.call("DELETE", `/gpu/allocations/${first.id}`, { headers: as("ann") });
  const shown = async (key: string) => (await daemon.call("GET", "/gpu/quotas", { headers: as(key) })).json;
  const own = await shown("ann");
  expect(own.now).toBe(new Date(daemon.clock.now()).toISOString());
  expect(own.accounts[0]).toEqual({
    kind: "principal",
    name: "ann",
    gpus: { limit: 3, used: 0, left: 3 },
    queued: null,
    max_priority: null,
    gpu_hours: {
      limit: 10,
      used: 0.5,
      left: 9.5,
      period_seconds: 86_400,
      period_from: "2027-01-15T00:00:00.000Z",
      renews_at: "2027-01-16T00:00:00.000Z",
    },
  });
  const names = async (key: string) =>
    (await shown(key)).accounts.map(({ kind, name }: { kind: string; name: string }) => `${kind} ${name}`);
  expect(await names("ann")).toEqual(["principal ann", "service ocr"]);
  expect(await names("bob")).toEqual(["principal bob", "service ocr"]);
  expect(await names("root")).toEqual(["principal ann", "principal root", "service ocr"]);
  expect(own.accounts[1]).toMatchObject({
    kind: "service",
    gpus: null,
    queued: { limit: 2, used: 1, left: 1 },
    max_priority: 6,
    gpu_hours: null,
  });
});

test("over a quota for now is 202 with the reason, in the answer, the record, the list and the plan alike; others learn no more", async () => {
  const daemon = await startDaemon(ann({ maxGpus: 1 }));
  const { json: held } = await daemon.allocate({}, as("ann"));
  const body = { service_name: "trainer" };
  const planned = await daemon.call("POST", "/gpu/plan", { body, headers: as("ann") });
  const queued = await daemon.allocate({}, as("ann"));
  const reason = "waiting for its quota: principal ann runs 1 of 1 GPUs";
  expect([queued.status, queued.json.reason, queued.json.position]).toEqual([202, reason, 1]);
  expect(planned.json).toMatchObject({ outcome: "queued", reason, position: 1 });
  expect(planned.json.gpus.map(({ reason: why }: { reason: string }) => why).sort()).toEqual(["held", "quota"]);
  const record = await daemon.call("GET", `/gpu/allocations/${queued.json.id}`, { headers: as("ann") });
  expect(record.json.reason).toBe(reason);
  const list = await daemon.call("GET", "/gpu/list", { headers: as("ann") });
  expect(list.json.queue.map(({ reason: why }: { reason: string }) => why)).toEqual([reason]);
  for (const [key, shown] of [
    ["bob", "waiting for its quota"],
    ["root", reason],
  ] as const) {
    const other = await daemon.call("GET", `/gpu/allocations/${queued.json.id}`, { headers: as(key) });
    const others = await daemon.call("GET", "/gpu/list", { headers: as(key) });
    expect([other.json.reason, others.json.queue[0].reason]).toEqual([shown, shown]);
  }
  expect((await daemon.allocate({}, as("bob"))).status).toBe(200);
  await daemon.call("DELETE", `/gpu/allocations/${held.id}`, { headers: as("ann") });
  const served = await daemon.call("GET", `/gpu/allocations/${queued.json.id}`, { headers: as("ann") });
  expect(served.json.status).toBe("leased");
});

test("queue: false over a quota is 429 with when to ask again, and over the host's GPUs 503", async () => {
  const daemon = await startDaemon(ann({ maxGpus: 1 }));
  await daemon.allocate({}, as("ann"));
  const refused = await daemon.allocate({ queue: false }, as("ann"));
  expect([refused.status, refused.json.code, refused.headers["retry-after"]]).toEqual([429, "quota", "10"]);
  expect(refused.json.detail).toBe("principal ann runs 1 of 1 GPUs");
  const planned = await daemon.call("POST", "/gpu/plan", {
    body: { service_name: "trainer", queue: false },
    headers: as("ann"),
  });
  expect(planned.json).toMatchObject({ outcome: "refused", code: "quota", reason: refused.json.detail });
  await daemon.allocate({}, as("bob"));
  const full = await daemon.allocate({ queue: false }, as("bob"));
  expect([full.status, full.json.code]).toEqual([503, "no-gpu-free"]);
});

test("for used-up GPU-hours the time to ask again is the begin of the next period", async () => {
  const daemon = await startDaemon(ann({ gpuTime: { limitMs: HOUR_MS, periodMs: 24 * HOUR_MS } }));
  await daemon.allocate({ max_duration: "1h" }, as("ann"));
  const refused = await daemon.allocate({ queue: false }, as("ann"));
  // The clock of these tests begins at 08:00.
  expect([refused.status, refused.headers["retry-after"]]).toEqual([429, String(16 * 3_600)]);
  expect(refused.json.detail).toBe("principal ann has 0 of 1 GPU-hours left, for another 16 h");
});

test("a reload changes quotas under running leases: none ends, and who waited is served if there is room now", async () => {
  const daemon = await startDaemon(ann({ maxGpus: 1 }));
  const { scheduler } = daemon;
  const held = await daemon.allocate({}, as("ann"));
  const waiting = await daemon.allocate({}, as("ann"));
  await scheduler.reconfigure(
    { ...scheduler.state.policy, ...quotas({ principals: { ann: quota({ maxGpus: 0 }) } }) },
    5_000,
  );
  const statusOf = async (id: string) =>
    (await daemon.call("GET", `/gpu/allocations/${id}`, { headers: as("bob") })).json.status;
  expect([await statusOf(held.json.id), await statusOf(waiting.json.id)]).toEqual(["leased", "queued"]);
  expect((await daemon.allocate({}, as("ann"))).status).toBe(429);
  await scheduler.reconfigure({ ...scheduler.state.policy, ...quotas({}) }, 5_000);
  expect([await statusOf(held.json.id), await statusOf(waiting.json.id)]).toEqual(["leased", "offered"]);
});
