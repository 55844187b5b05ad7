import { expect, test } from "vitest";
import { failed, gpuReading } from "../../fixtures/readings.ts";
import { startDaemon } from "../daemon.ts";

test("a request that fits is granted with 200, and says all that its client needs to start", async () => {
  const daemon = await startDaemon();
  const { status, headers, json } = await daemon.allocate({
    workload_data: { required_gpus: 2, priority: 8 },
    ttl: "1h",
  });
  expect(status).toBe(200);
  expect(headers["cache-control"]).toBe("no-store");
  const [first, second] = [gpuReading(0).uuid, gpuReading(1).uuid];
  expect(json).toMatchObject({
    status: "allocated",
    id: expect.stringMatching(/^trainer-[0-9a-z]{26}$/),
    allocation_id: json.id,
    service_name: "trainer",
    gpu_ids: [0, 1],
    gpu_uuids: [first, second],
    priority: 8,
    ttl_seconds: 3600,
    sharing: "exclusive",
    env: { CUDA_VISIBLE_DEVICES: `${first},${second}`, CUDA_DEVICE_ORDER: "PCI_BUS_ID" },
    fencing_token: expect.any(Number),
  });
  expect(Date.parse(json.expires_at) - Date.parse(json.allocated_at)).toBe(3_600_000);
});

test("a lease without a TTL has no expires_at", async () => {
  const daemon = await startDaemon();
  expect((await daemon.allocate()).json).not.toHaveProperty("expires_at");
});

test("a request that has to wait is answered 202 with its place and where to ask for it", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  await daemon.allocate();
  const first = await daemon.allocate({ priority: 5 });
  const second = await daemon.allocate({ priority: 9 });
  expect(first.status).toBe(202);
  expect(first.headers.location).toBe(`/gpu/allocations/${first.json.id}`);
  expect(Number(first.headers["retry-after"])).toBeGreaterThan(0);
  expect(first.json).toMatchObject({ status: "queued", request_id: first.json.id, position: 1, eta: null });
  expect(first.json.reason).toContain("1 leased");
  expect(second.json.position).toBe(1);

  const { json: record } = await daemon.call("GET", String(first.headers.location));
  expect(record).toMatchObject({ status: "queued", id: first.json.id, position: 2, eta: null });
  expect(record.reason).toContain("1 leased");
});

test("top-level values win over those in workload_data, and null counts as absent in both", async () => {
  const daemon = await startDaemon();
  const { json } = await daemon.allocate({
    required_gpus: 1,
    priority: null,
    ttl: null,
    webhook_url: null,
    workload_type: null,
    queue: null,
    preferred_gpus: null,
    workload_data: { required_gpus: 2, priority: 3, min_memory_mb: null, ttl: 90, preferred_gpus: [1] },
  });
  expect(json).toMatchObject({ required_gpus: 1, priority: 3, ttl_seconds: 90, min_memory_mb: 4096, gpu_ids: [1] });
  expect((await daemon.allocate({ workload_data: null })).status).toBe(200);
});

test("kebab-case workload types are understood, and unknown ones are generic", async () => {
  const daemon = await startDaemon();
  expect((await daemon.allocate({ workload_type: "graph-processing" })).json.workload_type).toBe("graph_processing");
  expect((await daemon.allocate({ workload_type: "rendering" })).json.workload_type).toBe("generic");
});

test("an estimated duration sets the TTL by the configured multiple, and a ttl beats it", async () => {
  const daemon = await startDaemon();
  const data = { estimated_duration: 30 };
  expect((await daemon.allocate({ workload_data: data })).json.ttl_seconds).toBe(60);
  expect((await daemon.allocate({ workload_data: data, ttl: 1.5 })).json.ttl_seconds).toBe(1.5);
});

test("releasing is idempotent, by id, by service and by both; an id that never was is 404", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const held = (await daemon.allocate()).json.id;
  const waiting = (await daemon.allocate()).json.id;
  const release = (body: object) => daemon.call("POST", "/gpu/release", { body });
  expect(await release({ allocation_id: held, fencing_token: 1 })).toMatchObject({
    status: 409,
    json: { code: "fencing-token-mismatch" },
  });
  for (let time = 0; time < 2; time++) {
    const { status, json } = await release({ allocation_id: held, service_name: "trainer" });
    expect({ status, json }).toEqual({ status: 200, json: { status: "released", released: [held] } });
  }
  expect((await release({ service_name: "trainer" })).json).toEqual({ status: "released", released: [waiting] });
  expect((await release({ service_name: "trainer" })).json).toMatchObject({ status: "released", released: [] });
  expect((await release({ allocation_id: "trainer-0" })).json.code).toBe("allocation-not-found");
  expect((await release({})).json.errors).toEqual([
    { path: "allocation_id", message: "give allocation_id, service_name or both" },
  ]);
});

test("renewing moves the end, takes an empty body, and is refused once the lease has ended", async () => {
  const daemon = await startDaemon();
  const { json: lease } = await daemon.allocate({ ttl: "1m" });
  const path = `/gpu/allocations/${lease.id}/renew`;
  daemon.clock.advance(30_000);
  const renewed = await daemon.call("POST", path);
  expect(renewed.status).toBe(200);
  expect(Date.parse(renewed.json.expires_at) - Date.parse(lease.expires_at)).toBe(30_000);
  expect((await daemon.call("POST", path, { body: { fencing_token: lease.fencing_token } })).status).toBe(200);
  expect((await daemon.call("POST", path, { body: { fencing_token: 7 } })).status).toBe(409);

  daemon.clock.advance(61_000);
  expect((await daemon.call("POST", path)).json).toMatchObject({ status: 409, code: "allocation-ended" });
  expect((await daemon.call("POST", "/gpu/allocations/trainer-0/renew")).status).toBe(404);
  const { json: record } = await daemon.call("GET", `/gpu/allocations/${lease.id}`);
  expect(record).toMatchObject({ status: "ended", end_reason: "expired" });
});

test("DELETE ends a lease and cancels a waiting request, and answers the record; again is no error", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const { json: held } = await daemon.allocate();
  const { json: waiting } = await daemon.allocate();
  const remove = (id: string, query = "") => daemon.call("DELETE", `/gpu/allocations/${id}${query}`);
  expect((await remove(waiting.id)).json).toMatchObject({ status: "ended", end_reason: "cancelled" });
  expect((await remove(held.id, "?fencing_token=7")).status).toBe(409);
  expect((await remove(held.id, "?fencing_token=x")).json.errors[0].path).toBe("fencing_token");
  expect((await remove(held.id, `?fencing_token=${held.fencing_token}`)).json).toMatchObject({
    end_reason: "released",
  });
  expect((await remove(held.id)).status).toBe(200);
  expect((await remove("trainer-0")).status).toBe(404);
});

test("records are paged, newest first, and can be narrowed by status and service", async () => {
  const daemon = await startDaemon();
  const ids: string[] = [];
  for (let i = 0; i < 7; i++) {
    ids.unshift((await daemon.allocate({ service_name: i % 2 === 0 ? "even" : "odd" })).json.id);
    daemon.clock.advance(1);
  }
  const page = async (query: string) => (await daemon.call("GET", `/gpu/allocations?${query}`)).json;
  const found: string[] = [];
  let next: string | null = null;
  do {
    const { allocations, next: more } = await page(`limit=3${next === null ? "" : `&before=${next}`}`);
    found.push(...allocations.map(({ id }: { id: string }) => id));
    next = more;
  } while (next !== null);
  expect(found).toEqual(ids);
  expect((await page("service_name=odd")).allocations).toHaveLength(3);
  expect((await page("status=leased")).allocations.map(({ id }: { id: string }) => id)).toEqual(ids.slice(-2));
  expect((await page("status=queued&service_name=even&limit=1000")).allocations).toHaveLength(3);
  expect((await page("limit=7")).next).toBeNull();
  for (const query of ["limit=0", "limit=1001", "limit=1.5", "status=gone", "servicename=odd", "limit=1&limit=2"]) {
    const { status, json } = await daemon.call("GET", `/gpu/allocations?${query}`);
    expect([query, status, json.errors[0].path]).toEqual([query, 422, query.split("=")[0]]);
  }
});

test("the list shows what is held, and the queue in serving order with why each waits", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const { json: held } = await daemon.allocate();
  const { json: last } = await daemon.allocate({ priority: 1 });
  const { json: first } = await daemon.allocate({ priority: 9, min_memory_mb: 70_000 });
  const { json: list } = await daemon.call("GET", "/gpu/list");
  expect(list.allocations).toMatchObject([{ id: held.id, status: "leased", gpu_ids: [0] }]);
  expect(list.queue).toMatchObject([
    { id: first.id, position: 1, min_memory_mb: 70_000, eta: null },
    { id: last.id, position: 2, priority: 1, service_name: "trainer", required_gpus: 1 },
  ]);
  expect(list.queue[0].reason).toContain("70000 MiB");
  expect(list.gpus).toMatchObject([{ id: 0, allocated: true }]);
});

test("workload answers what allocate would ask for, and whether this host could ever hold it", async () => {
  const daemon = await startDaemon();
  const body = { workload_type: "training", workload_data: { model_size: "medium", batch_size: 100 } };
  const { status, json } = await daemon.call("POST", "/gpu/workload", { body });
  expect(status).toBe(200);
  expect(json).toMatchObject({ required_gpus: 2, min_memory_mb: 8192, fits: true, missing: null });
  expect(json.sources.required_gpus).toContain("medium");
  const { json: granted } = await daemon.allocate(body);
  for (const key of ["required_gpus", "min_memory_mb", "priority", "max_utilization", "workload_type"]) {
    expect([key, granted[key]]).toEqual([key, json[key]]);
  }
  const large = await daemon.call("POST", "/gpu/workload", { body: { required_gpus: 3, gpu_model: "h100" } });
  expect(large.json).toMatchObject({ fits: false, missing: expect.stringContaining("3 GPUs") });
  expect(daemon.store.turns.flatMap(({ events }) => events).filter(({ type }) => type === "submitted")).toHaveLength(1);
});

test("a request that could never fit is 422, one that does not want to wait 503, and so is a full queue", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)], policy: { maxQueueSize: 1 } });
  expect((await daemon.allocate({ required_gpus: 2 })).json).toMatchObject({ status: 422, code: "request-never-fits" });
  await daemon.allocate();
  const impatient = await daemon.allocate({ queue: false });
  expect(impatient.json).toMatchObject({ status: 503, code: "no-gpu-free" });
  expect(Number(impatient.headers["retry-after"])).toBeGreaterThan(0);
  expect((await daemon.allocate()).status).toBe(202);
  const late = await daemon.allocate();
  expect(late.json).toMatchObject({ status: 503, code: "queue-full" });
  expect(Number(late.headers["retry-after"])).toBeGreaterThan(0);
});

test("without a current reading nothing is granted or queued: 503 gpus-unavailable", async () => {
  const daemon = await startDaemon({ gpus: null });
  expect((await daemon.allocate()).json).toMatchObject({ status: 503, code: "gpus-unavailable" });
  expect((await daemon.call("GET", "/gpu/status")).json.gpus).toEqual([]);
});

test("a store that takes nothing is 503 for changes, and what is known can still be read", async () => {
  const daemon = await startDaemon();
  const { json: lease } = await daemon.allocate();
  daemon.store.failing = true;
  expect((await daemon.allocate()).json).toMatchObject({ status: 503, code: "storage-unavailable" });
  expect((await daemon.call("GET", `/gpu/allocations/${lease.id}`)).status).toBe(200);
  expect((await daemon.call("GET", "/gpu/status")).status).toBe(200);
  daemon.store.failing = false;
  expect((await daemon.allocate()).status).toBe(200);
});

test("a webhook address that is not allowed is 422, and nothing is queued for it", async () => {
  const daemon = await startDaemon({ checkWebhookUrl: (url) => (url.includes("10.") ? "a private address" : null) });
  const refused = await daemon.allocate({ webhook_url: "http://10.0.0.1/hook" });
  expect(refused.json).toMatchObject({ status: 422, errors: [{ path: "webhook_url", message: "a private address" }] });
  expect((await daemon.call("GET", "/gpu/allocations")).json.allocations).toEqual([]);
  expect((await daemon.allocate({ webhook_url: "https://example.com/hook" })).status).toBe(200);
});

test("paths and methods that are not there are 404 and 405, the latter with what is", async () => {
  const daemon = await startDaemon();
  for (const path of ["/", "/gpu", "/gpu/allocations/a/b", "/GPU/status", "/metrics", "/docs/../package.json"]) {
    expect([path, (await daemon.call("GET", path)).json.code]).toEqual([path, "not-found"]);
  }
  const wrong = await daemon.call("PUT", "/gpu/allocations/x");
  expect([wrong.status, wrong.headers.allow]).toEqual([405, "GET, HEAD, DELETE, OPTIONS"]);
  expect((await daemon.call("GET", "/gpu/allocate")).headers.allow).toBe("POST, OPTIONS");
  const options = await daemon.call("OPTIONS", "/gpu/status");
  expect([options.status, options.headers.allow, options.text]).toEqual([204, "GET, HEAD, OPTIONS", ""]);
  const head = await daemon.call("HEAD", "/gpu/status");
  expect([head.status, head.text]).toEqual([200, ""]);
  expect(Number(head.headers["content-length"])).toBeGreaterThan(100);
  expect((await daemon.call("GET", "/gpu/allocations/%E0%A4%A")).status).toBe(400);
  expect((await daemon.call("OPTIONS", "/nowhere")).status).toBe(404);
});

test("health is 200 whatever the GPUs are like; readiness says what is wrong", async () => {
  let reason: string | null = null;
  const daemon = await startDaemon({ gpus: null, readiness: () => reason });
  await daemon.scheduler.observe(failed(daemon.clock.now()));
  reason = "no reading of any GPU yet";
  for (const path of ["/healthz", "/livez"])
    expect((await daemon.call("GET", path)).json).toEqual({ status: "ok", ok: true });
  expect((await daemon.call("GET", "/readyz")).json).toMatchObject({ status: 503, code: "not-ready", detail: reason });
  reason = null;
  expect((await daemon.call("GET", "/readyz")).json).toEqual({ status: "ok" });
});

test("a bug is logged whole and answered as a bare 500", async () => {
  const daemon = await startDaemon({
    readiness: () => {
      throw new Error("secret detail");
    },
  });
  const { status, text, headers } = await daemon.call("GET", "/readyz");
  expect(status).toBe(500);
  expect(text).not.toContain("secret");
  expect(daemon.logged).toMatchObject([
    {
      level: "error",
      facts: { request_id: headers["x-request-id"], endpoint: "/readyz", err: { message: "secret detail" } },
    },
  ]);
});

test("every answer is counted under its route's template, and unknown paths share one label", async () => {
  const samples: object[] = [];
  const page = { contentType: "text/plain; version=0.0.4", body: "up 1\n" };
  const metrics = {
    render: async () => page,
    observeRequest: (sample: object) => samples.push(sample),
    limitReached: () => undefined,
  };
  const daemon = await startDaemon({ metrics });
  const { json } = await daemon.allocate();
  await daemon.call("GET", `/gpu/allocations/${json.id}`);
  await daemon.call("GET", "/a");
  await daemon.call("POST", "/b/c");
  const shown = await daemon.call("GET", "/metrics");
  expect([shown.text, shown.headers["content-type"]]).toEqual([page.body, page.contentType]);
  expect(samples).toMatchObject([
    { method: "POST", endpoint: "/gpu/allocate", status: 200, seconds: expect.any(Number) },
    { method: "GET", endpoint: "/gpu/allocations/:id", status: 200 },
    { method: "GET", endpoint: "(unknown)", status: 404 },
    { method: "POST", endpoint: "(unknown)", status: 404 },
    { method: "GET", endpoint: "/metrics", status: 200 },
  ]);
});
