import { expect, test } from "vitest";
import { gpuReading } from "../../fixtures/readings.ts";
import { process } from "../../simulation/simulated-host.ts";
import { apiKey, startDaemon } from "../daemon.ts";

const USED = gpuReading(0, {
  memoryUsedMib: 9_000,
  processes: [process(77, { name: "python\n", usedMemoryMib: 9_000 })],
});
const BODY = { service_name: "notebook", reason: "was here first" };
const ADOPT = {
  foreignUse: "adopt",
  foreignUseReadings: 1,
  foreignUseWebhookUrl: "http://127.0.0.1:9/ops?key=s",
} as const;

test("an admin makes a lease of somebody's use of a GPU: the answer is its record", async () => {
  const daemon = await startDaemon({ gpus: [USED], policy: ADOPT });
  const body = { ...BODY, principal: "ann", pid: 77, ttl: "90s" };
  const reply = await daemon.call("POST", "/gpu/gpus/0/adopt", { body });
  expect(reply.status).toBe(200);
  expect(reply.json).toMatchObject({
    status: "leased",
    adopted: true,
    adopted_by: "anonymous",
    adoption_reason: "was here first",
    service_name: "notebook",
    gpu_ids: [0],
    ttl_seconds: 90,
    memory_mb: 9_000,
    workload_data: { pid: 77 },
  });
  const { json: status } = await daemon.call("GET", "/gpu/status");
  expect(status.gpus[0]).toMatchObject({ state: "leased", allocated_to: "notebook" });
  const record = await daemon.call("GET", `/gpu/allocations/${reply.json.id}`);
  expect(record.json).toEqual(reply.json);
  expect((await daemon.call("POST", `/gpu/allocations/${reply.json.id}/renew`)).status).toBe(200);
  expect((await daemon.call("POST", "/gpu/gpus/0/adopt", { body })).json).toMatchObject({
    status: 409,
    code: "gpu-in-use",
  });
  await daemon.call("DELETE", `/gpu/allocations/${reply.json.id}`);
  expect((await daemon.call("GET", "/gpu/status")).json.gpus[0].state).toBe("reclaiming");
});

test("its owner renews and releases it, and others do not", async () => {
  const daemon = await startDaemon({
    gpus: [USED],
    policy: ADOPT,
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => [apiKey("ann", "ann"), apiKey("bob", "bob"), apiKey("root", "root", "admin")],
  });
  const as = (name: string) => ({ headers: { "x-api-key": name } });
  const body = { ...BODY, principal: "ann" };
  const refused = await daemon.call("POST", "/gpu/gpus/0/adopt", { body, ...as("ann") });
  expect(refused.json.code).toBe("role-too-low");
  const { json } = await daemon.call("POST", "/gpu/gpus/0/adopt", { body, ...as("root") });
  expect(json).toMatchObject({ adopted: true, adopted_by: "root" });
  const renew = (name: string) => daemon.call("POST", `/gpu/allocations/${json.id}/renew`, as(name));
  expect((await renew("bob")).json.code).toBe("not-owner");
  expect((await renew("ann")).status).toBe(200);
});

test("what is not there cannot be adopted, and nothing under other settings", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)], policy: ADOPT });
  const adopt = async (gpu: string, body: object) =>
    (await daemon.call("POST", `/gpu/gpus/${gpu}/adopt`, { body })).json;
  expect(await adopt("0", BODY)).toMatchObject({ status: 409, code: "nothing-to-adopt" });
  expect(await adopt("5", BODY)).toMatchObject({ status: 404, code: "gpu-not-found" });
  const wrong = await adopt("0", { reason: "x", pid: 0, ttl: "never", principal: "" });
  expect(wrong.errors.map(({ path }: { path: string }) => path).sort()).toEqual([
    "pid",
    "principal",
    "service_name",
    "ttl",
  ]);
  for (const principal of ["a\u0000b", " ann", "x".repeat(129)]) {
    expect((await adopt("0", { ...BODY, principal })).errors).toMatchObject([{ path: "principal" }]);
  }
  const other = await startDaemon({ gpus: [USED], policy: { foreignUse: "notify" } });
  expect((await other.call("POST", "/gpu/gpus/0/adopt", { body: BODY })).json.code).toBe("adoption-disabled");
});

test("the operator is told by webhook, and once more when it is over", async () => {
  const daemon = await startDaemon({ gpus: [USED], policy: { ...ADOPT, foreignUse: "notify" } });
  const told = () => daemon.store.turns.flatMap(({ notifications }) => notifications);
  const { uuid, name } = USED;
  await daemon.see([USED]);
  expect(told()).toMatchObject([{ allocationId: null, status: "foreign_use", url: ADOPT.foreignUseWebhookUrl }]);
  expect(JSON.parse(told()[0]?.body ?? "")).toEqual({
    status: "foreign_use",
    gpu: { id: 0, uuid, name },
    at: expect.stringMatching(/Z$/),
    since: expect.stringMatching(/Z$/),
    reason: "process 77 (python\\u{a}), of no lease",
    pids: [77],
  });
  await daemon.see([gpuReading(0)]);
  expect(told()).toHaveLength(2);
  expect(JSON.parse(told()[1]?.body ?? "")).toMatchObject({ status: "foreign_use_over", gpu: { uuid } });
});
