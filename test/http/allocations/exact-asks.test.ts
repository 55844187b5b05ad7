/** A request means what it says: what is not read is refused or warned of, and never taken silently. */
import { expect, test } from "vitest";
import { gpuReading } from "../../fixtures/readings.ts";
import { startDaemon } from "../daemon.ts";

test.each([
  ["ttl_seconds", "ttl"],
  ["num_gpus", "required_gpus"],
  ["gpus", "required_gpus"],
  ["required_gpu", "required_gpus"],
  ["memory_mb", "min_memory_mb"],
  ["Priority", "priority"],
])("the field %s is refused, and %s named", async (field, meant) => {
  const daemon = await startDaemon();
  for (const path of ["/gpu/allocate", "/gpu/plan", "/gpu/workload"]) {
    const { status, json } = await daemon.call("POST", path, { body: { service_name: "a", [field]: 2 } });
    expect([path, status]).toEqual([path, 422]);
    const message = expect.stringMatching(
      new RegExp(`(?:^no such field;|for a number of GPUs,) did you mean ${meant}\\?$`),
    );
    expect(json.errors).toEqual([{ path: field, message }]);
  }
  expect(daemon.scheduler.state.allocations.size).toBe(0);
});

test("unknown fields are refused in every body, each with a line of its own, and so are unknown parameters", async () => {
  const daemon = await startDaemon();
  const { json } = await daemon.call("POST", "/gpu/release", { body: { service_nam: "a", zzzzzzzz: 1 } });
  expect(json.errors).toEqual(
    expect.arrayContaining([
      { path: "service_nam", message: "no such field; did you mean service_name?" },
      { path: "zzzzzzzz", message: "no such field" },
    ]),
  );
  const cordon = await daemon.call("POST", "/gpu/gpus/0/cordon", { body: { reason: "x", why: "y" } });
  expect(cordon.json.errors).toEqual([{ path: "why", message: "no such field" }]);
  const listed = await daemon.call("GET", "/gpu/allocations?statu=queued");
  expect(listed.json.errors).toEqual([{ path: "statu", message: "no such field; did you mean status?" }]);
});

test("an unknown parameter is refused by every call that may ask for a key, also by one that has none of its own", async () => {
  const daemon = await startDaemon();
  const { json: document } = await daemon.call("GET", "/openapi.json");
  const calls = Object.entries<Record<string, { security?: unknown }>>(document.paths).flatMap(([path, item]) =>
    Object.entries(item)
      .filter(([, { security }]) => security === undefined)
      .map(([method]) => [method.toUpperCase(), path.replace("{id}", "0")] as const),
  );
  expect(calls.length).toBeGreaterThan(25);
  for (const [method, path] of calls) {
    const { status, json } = await daemon.call(method, `${path}?wiat=30s`);
    expect([method, path, status, json?.errors?.[0]?.path]).toEqual([method, path, 422, "wiat"]);
  }
  const { json } = await daemon.call("GET", "/gpu/status?gpu=0&a=1");
  expect(json.errors).toEqual([
    { path: "gpu", message: "no such parameter: this call has none" },
    { path: "a", message: "no such parameter: this call has none" },
  ]);
  expect((await daemon.call("GET", "/healthz?verbose")).status).toBe(200);
  expect((await daemon.call("GET", "/gpu/status?")).status).toBe(200);
});

test("a DELETE heeds a fencing token in its body as in its query, and not in both", async () => {
  const daemon = await startDaemon();
  const { json: lease } = await daemon.allocate();
  const end = (query: string, body?: unknown) =>
    daemon.call("DELETE", `/gpu/allocations/${lease.id}${query}`, { body });
  const token = lease.fencing_token;
  expect((await end("", { fencing_token: token - 1 })).json.code).toBe("fencing-token-mismatch");
  expect((await end("", { fencing_tokens: token })).json.errors[0].message).toContain("did you mean fencing_token?");
  expect((await end(`?fencing_token=${token}`, { fencing_token: token })).status).toBe(422);
  expect((await end("", { fencing_token: token })).json).toMatchObject({ status: "ended", end_reason: "released" });
});

test("who does not want to wait is told of each GPU why not, as a plan tells it", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0), gpuReading(1), gpuReading(2)] });
  await daemon.allocate();
  await daemon.call("POST", "/gpu/gpus/1/cordon", { body: { reason: "x" } });
  const body = { service_name: "trainer", required_gpus: 2, queue: false };
  const { status, json } = await daemon.call("POST", "/gpu/allocate", { body });
  expect([status, json.code]).toEqual([503, "no-gpu-free"]);
  expect(json.gpus).toEqual((await daemon.call("POST", "/gpu/plan", { body })).json.gpus);
  expect(json.gpus).toHaveLength(3);
  expect(json.gpus.map(({ id, reason }: { id: number; reason: string }) => [id, reason])).toContainEqual([
    1,
    "cordoned",
  ]);
  expect(json.detail).toMatch(/does not want to wait: (1 held, 1 cordoned|1 cordoned, 1 held)$/);
});

test("who does not want to wait is told that the host is drained, and why", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  await daemon.call("POST", "/gpu/drain", { body: { reason: "power is measured" } });
  const { json } = await daemon.call("POST", "/gpu/allocate", { body: { service_name: "trainer", queue: false } });
  expect(json.detail).toMatch(/: 1 cordoned; nothing is granted, as the host is drained: power is measured$/);
});

test("a refusal of what would change something is in the log, a line each", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  await daemon.allocate();
  await daemon.allocate({ queue: false });
  await daemon.allocate({ required_gpus: 9 });
  await daemon.call("POST", "/gpu/release", { body: { allocation_id: "none" } });
  await daemon.call("GET", "/gpu/allocations/none");
  await daemon.call("POST", "/gpu/allocate", { body: { service_name: "<b>", required_gpus: 0 } });
  const allocate = { action: "POST /gpu/allocate", principal: "anonymous" };
  expect(daemon.refused).toEqual([
    {
      ...allocate,
      service_name: "trainer",
      status: 503,
      code: "no-gpu-free",
      detail: expect.stringContaining("1 held"),
    },
    { ...allocate, service_name: "trainer", status: 422, code: "request-never-fits", detail: expect.any(String) },
    { ...allocate, action: "POST /gpu/release", status: 404, code: "allocation-not-found", detail: expect.any(String) },
    { ...allocate, status: 422, code: "validation-failed", detail: expect.any(String) },
  ]);
});

test("an ended record says in words why it ended, whatever the reason", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const hook = { webhook_url: "http://127.0.0.1:9/" };
  const { json: lease } = await daemon.allocate({ ttl: "90s", ...hook });
  const { json: impatient } = await daemon.allocate({ queue_timeout: "20s", ...hook });
  const { json: silent } = await daemon.allocate();
  const { json: cancelled } = await daemon.allocate(hook);
  await daemon.call("DELETE", `/gpu/allocations/${cancelled.id}`);
  for (let s = 0; s < 90; s += 5) {
    await daemon.clock.advance(5_000);
    await daemon.see([gpuReading(0)]);
  }
  const { json: released } = await daemon.allocate();
  await daemon.call("POST", "/gpu/release", { body: { allocation_id: released.id } });
  const told = async ({ id }: { id: string }) => (await daemon.call("GET", `/gpu/allocations/${id}`)).json;
  expect(await told(lease)).toMatchObject({ end_detail: "its TTL of 1m30s passed without a renewal" });
  expect(await told(impatient)).toMatchObject({ end_detail: "it was not granted within its queue_timeout of 20s" });
  expect((await told(silent)).end_detail).toContain("scheduler.abandon_after");
  expect(await told(cancelled)).toMatchObject({ end_detail: "its owner or an admin cancelled it while it waited" });
  expect(await told(released)).toMatchObject({ end_detail: "its owner or an admin released it" });
});

test("a key of workload_data that is nearly one that is read is warned of, and changes nothing; others are the caller's", async () => {
  const daemon = await startDaemon();
  const data = { requierd_gpus: 4, batchsize: 3, my_own_key: 1, modle: "x", batch_size: 2 };
  const warnings = [
    "workload_type 'moonwalk'",
    "workload_data.requierd_gpus is not read; did you mean required_gpus?",
    "workload_data.batchsize is not read; did you mean batch_size?",
  ];
  for (const path of ["/gpu/allocate", "/gpu/plan", "/gpu/workload"]) {
    const body = { service_name: "a", workload_type: "moonwalk", workload_data: data };
    const { status, json } = await daemon.call("POST", path, { body });
    expect([path, status]).toEqual([path, 200]);
    expect(json.warnings[0]).toBe('workload_type "moonwalk" is not known and counts as generic');
    expect(json.warnings.slice(1, 3)).toEqual(warnings.slice(1));
    expect(json.required_gpus).toBe(1);
  }
});

test("bodies as clients send them give no warning, and a hundred odd keys give eight at most", async () => {
  const daemon = await startDaemon();
  const client = {
    service_name: "deepagents",
    workload_type: "graph-processing",
    workload_data: { required_gpus: 1, min_memory_mb: 1_024, priority: 5, node_count: 10, agent: "x", session_id: "y" },
  };
  expect((await daemon.call("POST", "/gpu/workload", { body: client })).json).not.toHaveProperty("warnings");
  const odd = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`batch_siz${n % 10}${n > 9 ? n : ""}`, n]));
  const { json } = await daemon.call("POST", "/gpu/workload", { body: { workload_data: odd } });
  expect(json.warnings).toHaveLength(8);
});

test("words that give back take an empty body; a drain takes a time or a duration", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0), gpuReading(1)] });
  const { json: lease } = await daemon.allocate();
  const at = new Date(Date.now() + 7_200_000).toISOString();
  for (const deadline of ["2h", 7_200, at]) {
    expect((await daemon.call("POST", "/gpu/gpus/0/drain", { body: { reason: "x", deadline } })).status).toBe(200);
  }
  for (const deadline of ["tomorrow", "2026-01-01", -1]) {
    expect((await daemon.call("POST", "/gpu/gpus/0/drain", { body: { reason: "x", deadline } })).status).toBe(422);
  }
  expect((await daemon.call("POST", "/gpu/gpus/0/uncordon")).json.cordon).toBeNull();
  expect((await daemon.call("POST", "/gpu/drain", { body: { reason: "x" } })).status).toBe(200);
  expect((await daemon.call("POST", "/gpu/undrain")).status).toBe(200);
  expect((await daemon.call("GET", `/gpu/allocations/${lease.id}`)).json.status).toBe("leased");
});

test("a release of nothing says so, and of another's service touches and tells nothing", async () => {
  const daemon = await startDaemon();
  const { json: lease } = await daemon.allocate();
  const release = (body: object) => daemon.call("POST", "/gpu/release", { body });
  for (const body of [{ service_name: "nobody" }, { allocation_id: lease.id, service_name: "other" }]) {
    const { status, json } = await release(body);
    expect([status, json.status, json.released]).toEqual([200, "released", []]);
    expect(json.warnings).toEqual([expect.stringContaining("nothing was released")]);
  }
  expect((await daemon.call("GET", `/gpu/allocations/${lease.id}`)).json.status).toBe("leased");
});

test("who is queued is told until when a sign of life is wanted", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  await daemon.allocate();
  const { json } = await daemon.allocate();
  expect(Date.parse(json.abandon_at) - Date.parse(json.submitted_at)).toBe(30_000);
});
