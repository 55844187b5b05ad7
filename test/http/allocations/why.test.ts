/** `GET .../why`: in words why something waits, was granted, has ended, or is not granted. */
import { expect, test } from "vitest";
import { type PastDecision, ProgramReplacedError } from "../../../src/ports/past-decisions.ts";
import { gpuReading } from "../../fixtures/readings.ts";
import { apiKey, startDaemon } from "../daemon.ts";

const KEYED = {
  settings: { auth: { enabled: true, headerName: "X-API-Key" } },
  keys: () => KEYS,
};
const KEYS = [apiKey("ann", "ann"), apiKey("bob", "bob"), apiKey("root", "root", "admin")];

const PAST: PastDecision = {
  event: 7,
  at: 1_000,
  trigger: "ann asked for GPUs as trainer",
  reason: "GPU 0, out of 2 that were free and suited: they are all alike, so by UUID",
  passed: ["first-1"],
};

const as = (key: string) => ({ headers: { "X-API-Key": key } });

test("who waits is told since when, at which place, and what keeps each GPU from it", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0), gpuReading(1)] });
  await daemon.allocate({ required_gpus: 1 });
  const { json: waiting } = await daemon.allocate({ required_gpus: 2, webhook_url: "http://127.0.0.1/a" });
  await daemon.clock.advance(20_000);
  const { json } = await daemon.call("GET", `/gpu/allocations/${waiting.id}/why`);
  expect(json).toMatchObject({ id: waiting.id, status: "queued", decision: null });
  expect(json.why[0]).toContain("waits since 20s, at 1 of 1");
  expect(json.why).toContain("GPU 0: leased");
});

test("the GPUs of one reason are named by their indices in order, whatever their UUIDs", async () => {
  const gpus = [3, 0, 2, 1].map((uuid, index) => gpuReading(index, { uuid: `GPU-${uuid}` }));
  const daemon = await startDaemon({ gpus });
  await daemon.call("POST", "/gpu/gpus/1/cordon", { body: { reason: "loud fan" } });
  const { json: waiting } = await daemon.allocate({ required_gpus: 4, webhook_url: "http://127.0.0.1/a" });
  const { json } = await daemon.call("GET", `/gpu/allocations/${waiting.id}/why`);
  expect(json.why.slice(-2)).toEqual(["GPU 0,2,3: would do", "GPU 1: cordoned by an admin"]);
});

test("a grant is explained by the decision that was made then, and by a sentence when that is not kept", async () => {
  let kept: PastDecision | null = PAST;
  const daemon = await startDaemon({ pastDecisions: { grantOf: async () => kept } });
  const { json: held } = await daemon.allocate();
  const path = `/gpu/allocations/${held.id}/why`;
  const { json } = await daemon.call("GET", path);
  expect(json).toMatchObject({ status: "leased", decision: { event: 7, decided_at: "1970-01-01T00:00:01.000Z" } });
  expect(json.why).toEqual([
    expect.stringContaining("at once, since they were free"),
    PAST.reason,
    "before it in the line, and waiting on: first-1",
    "it has no end of its own",
    expect.stringContaining(PAST.trigger),
  ]);
  kept = null;
  await daemon.call("DELETE", `/gpu/allocations/${held.id}`);
  const { json: ended } = await daemon.call("GET", path);
  expect(ended).toMatchObject({ status: "ended", decision: null });
  expect(ended.why[1]).toBe("what that decision went by is not kept any more");
  expect(ended.why[2]).toMatch(/^it ended as released at /);
});

test("only an admin is told what led to a decision, which names principals", async () => {
  const daemon = await startDaemon({ ...KEYED, pastDecisions: { grantOf: async () => PAST } });
  const { json: held } = await daemon.allocate({}, as("ann").headers);
  const told = async (key: string) => (await daemon.call("GET", `/gpu/allocations/${held.id}/why`, as(key))).json.why;
  expect((await told("root")).join()).toContain("ann asked");
  expect((await told("bob")).join()).not.toContain("ann asked");
});

test("to ask why is no sign of life: an offer is not claimed by it", async () => {
  const daemon = await startDaemon();
  const { json: held } = await daemon.allocate({ required_gpus: 2 });
  const { json: waiting } = await daemon.allocate({ required_gpus: 2 });
  await daemon.call("DELETE", `/gpu/allocations/${held.id}`);
  expect((await daemon.call("GET", `/gpu/allocations/${waiting.id}/why`)).json.status).toBe("offered");
  expect((await daemon.call("GET", `/gpu/allocations/${waiting.id}/why`)).json.status).toBe("offered");
});

test("a GPU says whether it can be granted, who holds it and who cordoned it", async () => {
  const daemon = await startDaemon();
  const { json: held } = await daemon.allocate({ required_gpus: 2, ttl: "1h" });
  await daemon.call("POST", "/gpu/gpus/1/cordon", { body: { reason: "loud fan" } });
  const { json } = await daemon.call("GET", "/gpu/gpus/1/why");
  expect(json).toMatchObject({ id: 1, state: "leased" });
  expect(json.why.join("\n")).toContain(`${held.id} holds it for 1h more, unless it is renewed`);
  expect(json.why.join("\n")).toContain("anonymous cordoned it: loud fan");
  await daemon.call("DELETE", `/gpu/allocations/${held.id}`);
  expect((await daemon.call("GET", "/gpu/gpus/0/why")).json.why).toEqual([
    expect.stringContaining("is free: it can be granted"),
  ]);
});

test("of what never was there is nothing to explain", async () => {
  const daemon = await startDaemon();
  expect((await daemon.call("GET", "/gpu/allocations/none-1/why")).json.code).toBe("allocation-not-found");
  expect((await daemon.call("GET", "/gpu/gpus/9/why")).json.code).toBe("gpu-not-found");
});

test("where the program was replaced under the daemon it says so, and all else that it knows", async () => {
  const grantOf = () => Promise.reject(new ProgramReplacedError());
  const daemon = await startDaemon({ pastDecisions: { grantOf } });
  const { json: held } = await daemon.allocate();
  const { status, json } = await daemon.call("GET", `/gpu/allocations/${held.id}/why`);
  expect([status, json.status, json.decision]).toEqual([200, "leased", null]);
  expect(json.why[0]).toContain("granted");
  expect(json.why.at(-1)).toContain("restart it");
});

test("of an end that no renewal moves, it is not said that one does", async () => {
  const daemon = await startDaemon();
  const { json: held } = await daemon.allocate({ required_gpus: 2, max_duration: "1h" });
  const { json: gpu } = await daemon.call("GET", "/gpu/gpus/1/why");
  expect(gpu.why).toContain(`${held.id} holds it for 1h more`);
  const { json: lease } = await daemon.call("GET", `/gpu/allocations/${held.id}/why`);
  expect(lease.why).toContain(`it ends at ${held.expires_at}, whatever is renewed`);
});
