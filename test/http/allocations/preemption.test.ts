import { expect, test } from "vitest";
import type { Policy } from "../../../src/core/model/policy.ts";
import { gpuReading } from "../../fixtures/readings.ts";
import { apiKey, startDaemon } from "../daemon.ts";

const HOOK = "http://127.0.0.1:9/hook";
const GRACE_MS = 30_000;
const POLICY: Partial<Policy> = {
  preemption: { minPriorityGap: 1, graceMs: GRACE_MS, minRuntimeMs: 0 },
  // Nobody reads while time is advanced.
  staleAfterMs: 2 * GRACE_MS,
};
const LOW = { preemptible: true, priority: 3, webhook_url: HOOK };
const URGENT = { service_name: "urgent", priority: 9, webhook_url: HOOK };

type Daemon = Awaited<ReturnType<typeof startDaemon>>;

const start = () => startDaemon({ gpus: [gpuReading(0)], policy: POLICY });
const record = async (daemon: Daemon, id: string) => (await daemon.call("GET", `/gpu/allocations/${id}`)).json;

function webhooks(daemon: Daemon) {
  return daemon.store.turns.flatMap(({ notifications }) => notifications.map(({ body }) => JSON.parse(body)));
}

test("a victim is told by webhook and record until when it may stay, then that it is over; the GPU changes hands", async () => {
  const daemon = await start();
  const low = (await daemon.allocate(LOW)).json.id;
  const leaveBy = new Date(daemon.clock.now() + GRACE_MS).toISOString();
  const queued = await daemon.allocate(URGENT);
  expect(queued.status).toBe(202);
  const urgent = queued.json.id;

  const notice = { leave_by: leaveBy, reason: "preempted", detail: "its GPUs are wanted for a more urgent request" };
  expect(await record(daemon, low)).toMatchObject({ status: "leased", expires_at: leaveBy, notice });
  expect(await record(daemon, urgent)).toMatchObject({ status: "queued", preempting_since: expect.any(String) });
  const { json: list } = await daemon.call("GET", "/gpu/list");
  expect(list.allocations[0].notice).toEqual(notice);
  expect(list.gpus[0].holders[0].leave_by).toBe(leaveBy);
  expect(webhooks(daemon)).toMatchObject([
    { status: "preempting", request_id: low, ...notice, allocation: { notice } },
  ]);

  daemon.clock.advance(GRACE_MS);
  await daemon.see([gpuReading(0)]);

  expect(await record(daemon, low)).toMatchObject({
    status: "ended",
    end_reason: "preempted",
    end_detail: "for a request of priority 9",
  });
  expect(await record(daemon, urgent)).toMatchObject({ status: "leased", gpu_ids: [0] });
  expect(webhooks(daemon).slice(1)).toMatchObject([
    { status: "revoked", request_id: low, reason: "preempted" },
    { status: "allocated", request_id: urgent },
  ]);
});

test("a victim is not told whose request it makes way for", async () => {
  const daemon = await startDaemon({
    gpus: [gpuReading(0)],
    policy: POLICY,
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => [apiKey("a", "alice"), apiKey("b", "SECRET-bob")],
  });
  const low = (await daemon.allocate(LOW, { "x-api-key": "a" })).json.id;
  const ask = { ...URGENT, webhook_url: "http://127.0.0.1:9/SECRET-hook", workload_data: { note: "SECRET-data" } };
  await daemon.allocate(ask, { "x-api-key": "b" });
  const seen = await daemon.call("GET", `/gpu/allocations/${low}`, { headers: { "x-api-key": "a" } });
  expect(seen.json.notice).toBeDefined();
  const told = webhooks(daemon).filter(({ request_id }) => request_id === low);
  expect(told).toHaveLength(1);
  expect(JSON.stringify([seen.json, told])).not.toContain("SECRET");
});

test("a preemption that is called off leaves the record as it was, and takes back a webhook that was not sent yet", async () => {
  const daemon = await start();
  const low = (await daemon.allocate({ ...LOW, ttl: "10m" })).json.id;
  const before = await record(daemon, low);
  const urgent = (await daemon.allocate(URGENT)).json.id;
  expect(await record(daemon, low)).not.toEqual(before);
  await daemon.call("DELETE", `/gpu/allocations/${urgent}`);
  expect(await record(daemon, low)).toEqual(before);
  expect(daemon.store.turns.at(-1)).toMatchObject({ outdated: [low], notifications: [{ status: "cancelled" }] });
});

test("a restart within the grace gives it again, and says so", async () => {
  const first = await start();
  const low = (await first.allocate(LOW)).json.id;
  const urgent = (await first.allocate(URGENT)).json.id;
  const second = await startDaemon({ gpus: null, policy: POLICY, store: first.store });
  const again = new Date(second.clock.now() + GRACE_MS).toISOString();
  expect((await record(second, low)).notice.leave_by).toBe(again);
  expect(await record(second, urgent)).toMatchObject({ preempting_since: expect.any(String) });
  expect(second.store.turns.at(-1)).toMatchObject({
    outdated: [low],
    notifications: [{ status: "preempting", allocationId: low }],
  });
});

test("the event stream tells of it from both sides", async () => {
  const daemon = await start();
  const low = (await daemon.allocate(LOW)).json.id;
  const urgent = (await daemon.allocate(URGENT)).json.id;
  const told = daemon.store.turns.flatMap(({ events }) => events).slice(-3);
  expect(told).toMatchObject([
    { type: "submitted" },
    { type: "preemption-begun", id: urgent },
    { type: "preempting", id: low, for: urgent },
  ]);
});

test("a plan preempts nobody", async () => {
  const daemon = await start();
  const low = (await daemon.allocate(LOW)).json.id;
  const plan = await daemon.call("POST", "/gpu/plan", { body: URGENT });
  expect(plan.json).toMatchObject({ outcome: "queued", position: 1 });
  expect((await record(daemon, low)).notice).toBeUndefined();
});
