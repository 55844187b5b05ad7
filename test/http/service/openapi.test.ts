import { expect, test, vi } from "vitest";
import { z } from "zod";
import { GrantAnswers } from "../../../src/http/allocations/grant-answers.ts";
import { endpointsOf } from "../../../src/http/endpoints.ts";
import { Idempotency } from "../../../src/http/exchange/idempotency.ts";
import { ReadingFeed } from "../../../src/http/readings/feed.ts";
import { PROBLEMS } from "../../../src/http/refusals.ts";
import { NO_AUDIT } from "../../../src/ports/audit.ts";
import { NO_KEYS } from "../../../src/ports/keys.ts";
import { NO_KNOWLEDGE } from "../../../src/ports/knowledge.ts";
import { NO_LESSONS } from "../../../src/ports/learned.ts";
import { NO_PAST } from "../../../src/ports/past-decisions.ts";
import { NO_PROCESSES } from "../../../src/ports/processes.ts";
import { NOTIFICATION_STATUSES } from "../../../src/ports/webhooks.ts";
import { GpuHistory } from "../../../src/scheduler/gpu-history.ts";
import { EVENT_BODIES } from "../../../src/wire/events/answers.ts";
import { WEBHOOKS } from "../../../src/wire/webhooks/answers.ts";
import { isBuilt } from "../../e2e/daemon.ts";
import { cutGpu, instance } from "../../fixtures/mig.ts";
import { gpuReading } from "../../fixtures/readings.ts";
import { apiKey, startDaemon } from "../daemon.ts";
import { Described } from "../described.ts";
import { readEvents } from "../events/stream.ts";

// biome-ignore lint/suspicious/noExplicitAny: the document is JSON.
type Json = any;

const WORKER = {
  pid: 1,
  type: "C",
  name: "x",
  usedMemoryMib: 1,
  gpuInstanceId: null,
  computeInstanceId: null,
  origin: null,
};

test("every call stands under one of the page's headings, and what only admins may do under theirs", async () => {
  const daemon = await startDaemon();
  const { json: document } = await daemon.call("GET", "/openapi.json");
  const headings = document.tags.map(({ name }: { name: string }) => name);
  const found = new Set<string>();
  for (const [path, item] of Object.entries<Json>(document.paths)) {
    for (const { tags, summary } of Object.values<Json>(item)) {
      expect(tags, path).toHaveLength(1);
      expect(headings).toContain(tags[0]);
      expect(tags[0] === "Administration", path).toBe(summary.startsWith("Admin:"));
      found.add(tags[0]);
    }
  }
  expect([...found].sort()).toEqual([...headings].sort());
});

test("what the page at /docs starts with is answered, and no key is asked for where none is needed", async () => {
  const daemon = await startDaemon();
  const { json: document } = await daemon.call("GET", "/openapi.json");
  expect([document.security, document.components.securitySchemes]).toEqual([undefined, undefined]);
  for (const path of ["/gpu/plan", "/gpu/workload", "/gpu/allocate", "/gpu/release"]) {
    const { example } = document.paths[path].post.requestBody.content["application/json"];
    expect((await daemon.call("POST", path, { body: example })).status, path).toBe(200);
  }
  for (const path of ["/gpu/usage", "/gpu/history", "/gpu/events"]) {
    const filled = (document.paths[path].get.parameters ?? []).filter(
      ({ example, schema }: Json) => example ?? schema.example,
    );
    expect(filled.map(({ name }: Json) => name).filter((name: string) => name !== "Last-Event-ID")).toEqual([]);
  }
  const keyed = await startDaemon({ settings: { auth: { enabled: true, headerName: "X-Token" } } });
  const { json: asking } = await keyed.call("GET", "/openapi.json");
  expect(asking.components.securitySchemes.apiKey).toMatchObject({ name: "X-Token" });
});

test("the document describes every route and method, and nothing else", async () => {
  const daemon = await startDaemon({
    metrics: {
      render: async () => ({ contentType: "text/plain", body: "" }),
      observeRequest: () => undefined,
      limitReached: () => undefined,
    },
  });
  const { json: document } = await daemon.call("GET", "/openapi.json");
  expect(document).toMatchObject({ openapi: "3.1.0", info: { version: "0.0.0" } });
  const served = servedBy(daemon)
    .filter(({ path }) => !path.startsWith("/docs/") && !path.startsWith("/page/"))
    .flatMap(({ path, methods }) => Object.keys(methods).map((method) => `${method} ${path.replace(":id", "{id}")}`));
  const described = Object.entries(document.paths as Json).flatMap(([path, methods]) =>
    Object.keys(methods as Json).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(described.sort()).toEqual(served.sort());
});

test("every call that is described with parameters takes them, and no other", async () => {
  const daemon = await startDaemon();
  const { json: document } = await daemon.call("GET", "/openapi.json");
  const described = Object.entries<Json>(document.paths).flatMap(([path, methods]) =>
    Object.entries<Json>(methods)
      .filter(([, { parameters = [] }]) => parameters.some((parameter: Json) => parameter.in === "query"))
      .map(([method]) => `${method.toUpperCase()} ${path}`),
  );
  const taken = servedBy(daemon).flatMap(({ documented, methods }) =>
    Object.entries(methods)
      .filter(([, operation]) => operation.takesQuery === true)
      .map(([method]) => `${method} ${documented}`),
  );
  expect(described).toContain("GET /gpu/audit");
  expect(taken.sort()).toEqual(described.sort());
});

test("the audit is asked with its parameters", async () => {
  const daemon = await startDaemon();
  const { status, json } = await daemon.call("GET", "/gpu/audit?result=refused&limit=2");
  expect([status, json]).toEqual([200, { entries: [], next: null }]);
  expect((await daemon.call("GET", "/gpu/audit?result=refused&colour=red")).status).toBe(422);
});

function servedBy(daemon: Awaited<ReturnType<typeof startDaemon>>) {
  return endpointsOf({
    scheduler: daemon.scheduler,
    knowledge: NO_KNOWLEDGE,
    lessons: NO_LESSONS,
    pastDecisions: NO_PAST,
    processes: NO_PROCESSES,
    audit: NO_AUDIT,
    keyBook: NO_KEYS,
    workNews: null,
    workCalls: null,
    workProblems: {},
    checkWebhookUrl: () => null,
    webhookTester: () => null,
    pendingDeliveries: () => 0,
    metrics: { render: async () => ({ contentType: "", body: "" }) },
    readiness: () => null,
    version: "0",
    headerName: "X-API-Key",
    grants: new GrantAnswers(daemon.scheduler, () => undefined),
    idempotency: new Idempotency(daemon.scheduler),
    readings: new ReadingFeed(daemon.scheduler),
    history: new GpuHistory({ store: daemon.store.history, clock: daemon.clock, scheduler: daemon.scheduler }),
  });
}

test("real answers are as the document says, in whole", async () => {
  const settings = { auth: { enabled: true, headerName: "X-API-Key" } };
  const keys = [apiKey("ann", "ann"), apiKey("bob", "bob"), apiKey("eye", "eye", "read")];
  let ready = true;
  const daemon = await startDaemon({
    settings,
    keys: () => keys,
    readiness: () => (ready ? null : "not yet"),
    gpus: [gpuReading(0), gpuReading(1), gpuReading(2, { processes: [WORKER], memoryUsedMib: null })],
    policy: { maxQueueSize: 1 },
  });
  const topology = {
    gpus: [{ uuid: gpuReading(0).uuid, numaNodes: [0], cpuAffinity: "0-31,64-95" }],
    links: [[null]],
  };
  const cut = cutGpu("GPU-cut", [instance(0, 9), instance(1, 10, { uuid: null, profile: null })], { index: 3 });
  const busy = gpuReading(2, { processes: [WORKER], memoryUsedMib: null });
  await daemon.see([gpuReading(0), gpuReading(1), busy, cut], { topology });
  const document = new Described((await daemon.call("GET", "/openapi.json")).json);
  const statuses = new Set<number>();
  const check = async (method: string, path: string, body?: unknown, key = "ann") => {
    const headers: Record<string, string> = key === "" ? {} : { "X-API-Key": key };
    const reply = await daemon.call(method, path, body === undefined ? { headers } : { body, headers });
    const template = path.replace(/\?.*/, "").replace(/^\/gpu\/allocations\/[^/]+/, "/gpu/allocations/{id}");
    document.expect(method, template, reply);
    statuses.add(reply.status);
    return reply.json;
  };
  const checkWhy = async (path: string) => {
    const template = path.replace(/^(\/gpu\/[a-z]+)\/[^/]+/, "$1/{id}");
    document.expect("GET", template, await daemon.call("GET", path, { headers: { "X-API-Key": "ann" } }));
  };
  await checkWhy("/gpu/gpus/0/why");
  const ask = { service_name: "a", ttl: "1h", max_duration: "2h", workload_data: { model: "x" }, gpu_model: "h100" };
  const held = await check("POST", "/gpu/allocate", { ...ask, gpu_model: "HBM3", min_memory_mb: 80_000 });
  const slice = await check("POST", "/gpu/allocate", { ...ask, gpu_model: null, mig_profile: "1g.10gb" });
  await check("DELETE", `/gpu/allocations/${slice.id}`);
  const part = await check("POST", "/gpu/allocate", { ...ask, sharing: "shared", min_memory_mb: 1_000 });
  expect(part).toMatchObject({ status: "allocated", sharing: "shared" });
  await check("GET", "/gpu/list");
  await check("DELETE", `/gpu/allocations/${part.id}`);
  await check("POST", "/gpu/allocate", { service_name: "b", required_gpus: 1 });
  const waiting = await check("POST", "/gpu/allocate", { ...ask, webhook_url: "https://a.example" });
  for (const path of [
    "/gpu/status",
    "/gpu/list",
    "/gpu/windows",
    "/gpu/allocations",
    "/gpu/allocations?limit=1",
    "/gpu/usage",
    "/gpu/quotas",
    "/gpu/me",
    "/gpu/history",
    "/readyz",
    "/healthz",
  ]) {
    await check("GET", path);
    await check("GET", path, undefined, "");
  }
  for (const { id } of [held, waiting]) {
    await check("GET", `/gpu/allocations/${id}`);
    await check("GET", `/gpu/allocations/${id}`, undefined, "bob");
    await checkWhy(`/gpu/allocations/${id}/why`);
    await check("POST", `/gpu/allocations/${id}/renew`);
    await check("POST", `/gpu/allocations/${id}/renew`, {}, "bob");
  }
  await check("POST", "/gpu/workload", { workload_type: "training", required_gpus: 9 });
  await check("POST", "/gpu/workload", { workload_data: 5 });
  await check("POST", "/gpu/allocate", ask);
  await check("POST", "/gpu/allocate", ask, "eye");
  await check("POST", "/gpu/allocate", "{");
  await check("POST", "/gpu/allocate", "x".repeat(70_000));
  await check("POST", "/gpu/allocate", { required_gpus: "2" });
  await check("POST", "/gpu/release", { allocation_id: held.id, fencing_token: 1 });
  // The offer that follows has a claim_by.
  await check("POST", "/gpu/release", { allocation_id: held.id });
  await check("GET", `/gpu/allocations/${waiting.id}`, undefined, "bob");
  await check("DELETE", `/gpu/allocations/${waiting.id}?fencing_token=1`);
  await check("DELETE", `/gpu/allocations/${waiting.id}`);
  await check("GET", `/gpu/allocations/${held.id}`);
  await check("POST", `/gpu/allocations/${held.id}/renew`);
  await check("GET", `/gpu/allocations/${held.id}?wait=1s`);
  await check("GET", `/gpu/allocations/${held.id}?wait=1h`);
  await check("GET", "/gpu/allocations/none");
  await check("GET", "/gpu/allocations?limit=none");
  await check("GET", "/gpu/usage?from=never");
  await check("GET", "/gpu/events?last_event_id=none");
  await check("GET", "/gpu/events", undefined, "");
  ready = false;
  await check("GET", "/readyz");
  daemon.store.failing = true;
  await check("POST", "/gpu/release", { service_name: "b" });
  expect([...statuses].sort()).toEqual([200, 202, 400, 401, 403, 404, 409, 413, 422, 503]);
});

test("webhooks are as the document says, and each status stands there", async () => {
  const { json: document } = await (await startDaemon()).call("GET", "/openapi.json");
  expect(Object.keys(document.webhooks)).toEqual([...NOTIFICATION_STATUSES]);
  for (const [status, { post }] of Object.entries<Json>(document.webhooks)) {
    const { schema } = post.requestBody.content["application/json"];
    expect(schema.properties.status.const, status).toBe(status);
  }
  const hook = "http://127.0.0.1:9/hook";
  const daemon = await startDaemon({
    gpus: [gpuReading(0)],
    policy: {
      preemption: { minPriorityGap: 1, graceMs: 10_000, minRuntimeMs: 0 },
      idleAfterMs: 1_000,
      foreignUse: "notify",
      foreignUseReadings: 1,
      foreignUseWebhookUrl: hook,
    },
  });
  const low = { webhook_url: hook, preemptible: true, priority: 3 };
  await daemon.allocate(low);
  await daemon.clock.advance(1_000);
  await daemon.see([gpuReading(0)]);
  await daemon.allocate({ ...low, priority: 9, service_name: "urgent", preemptible: false });
  const { json: waiting } = await daemon.allocate({ ...low, queue_timeout: "5s" });
  const { json: cancelled } = await daemon.allocate(low);
  await daemon.call("DELETE", `/gpu/allocations/${cancelled.id}`);
  await daemon.clock.advance(10_000);
  expect(waiting.id).toBeDefined();
  await daemon.see([gpuReading(0)]);
  await daemon.clock.advance(60_000);
  for (const processes of [[], [{ ...WORKER, usedMemoryMib: 9_000 }], []]) {
    await daemon.clock.advance(5_000);
    await daemon.see([gpuReading(0, { processes, memoryUsedMib: processes.length === 0 ? 4 : 9_000 })]);
  }
  const sent = daemon.store.turns.flatMap(({ notifications }) => notifications);
  const statuses = new Set(sent.map(({ status }) => status));
  for (const { status, body } of sent) {
    const [, shape] = WEBHOOKS[status];
    const schema = z.toJSONSchema(z.object({ status: z.literal(status), ...shape.shape }), { io: "output" });
    const result = z.fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0]).safeParse(JSON.parse(body));
    expect([status, result.error?.issues ?? []]).toEqual([status, []]);
  }
  expect([...statuses].sort()).toEqual([
    "allocated",
    "cancelled",
    "expired",
    "foreign_use",
    "foreign_use_over",
    "idle",
    "preempting",
    "revoked",
    "unclaimed",
  ]);
});

test("a body that may be left out is not demanded by the document", async () => {
  const { json: document } = await (await startDaemon()).call("GET", "/openapi.json");
  const optional = Object.entries<Json>(document.paths).flatMap(([path, item]) =>
    Object.entries<Json>(item)
      .filter(([, { requestBody }]) => requestBody?.required === false)
      .map(([method, { requestBody }]) => {
        const { schema } = requestBody.content["application/json"];
        expect(schema.required ?? [], path).toEqual([]);
        return `${method} ${path}`;
      }),
  );
  expect(optional.sort()).toEqual([
    "delete /gpu/allocations/{id}",
    "delete /gpu/gpus/{id}",
    "post /gpu/allocations/{id}/renew",
    "post /gpu/gpus/{id}/uncordon",
    "post /gpu/undrain",
    "post /gpu/webhooks/deliveries/{id}/redeliver",
  ]);
});

test("so are those to requests that preferred to wait", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const document = new Described((await daemon.call("GET", "/openapi.json")).json);
  const { json: held } = await daemon.allocate();
  const body = { service_name: "patient" };
  const wait = () => daemon.connect()("POST", "/gpu/allocate", { body, headers: { Prefer: "wait=1" } });
  const queued = () => [...daemon.scheduler.state.line.order.values()].map(({ allocation }) => allocation.request.id);
  const answers = [];
  for (const end of [
    () => daemon.clock.advance(1_000),
    () => daemon.call("POST", "/gpu/release", { body: { service_name: body.service_name } }),
    () => daemon.call("DELETE", `/gpu/allocations/${held.id}`),
  ]) {
    const answer = wait();
    const before = queued().length;
    await vi.waitFor(() => expect(queued()).toHaveLength(before + 1));
    await daemon.call("GET", "/healthz");
    await end();
    answers.push(await answer);
  }
  expect(answers.map(({ status }) => status)).toEqual([202, 409, 200]);
  expect(answers.map(({ headers }) => headers["preference-applied"])).toEqual(["wait", undefined, "wait"]);
  for (const answer of answers) document.expect("POST", "/gpu/allocate", answer);
});

test("the messages of the event stream are as the document says, and all of them stand there", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const document = (await daemon.call("GET", "/openapi.json")).json;
  const { content } = document.paths["/gpu/events"].get.responses["200"];
  expect(content).toEqual({ "text/event-stream": { schema: { $ref: "#/components/schemas/EventMessage" } } });
  const described = document.components.schemas.EventMessage.anyOf as Json[];
  const byEvent = new Map(described.map((schema) => [schema.properties.event.const, schema]));
  expect([...byEvent.keys()]).toEqual([...Object.keys(EVENT_BODIES), "reset"]);

  const { json: held } = await daemon.allocate({ ttl: "1h" });
  await daemon.allocate();
  await daemon.call("POST", `/gpu/allocations/${held.id}/renew`);
  await daemon.call("DELETE", `/gpu/allocations/${held.id}`);
  const { lastSeq } = daemon.scheduler.events;
  const reader = await readEvents(daemon.port, { lastEventId: 0 });
  await reader.until(({ messages }) => messages.length === lastSeq);
  const ahead = await readEvents(daemon.port, { lastEventId: lastSeq + 1 });
  await ahead.until(({ messages }) => messages.length === 1);
  expect(new Set([...reader.types, ...ahead.types]).size).toBeGreaterThanOrEqual(6);
  for (const { id, event, data } of [...reader.messages, ...ahead.messages]) {
    const schema = z.fromJSONSchema({ ...byEvent.get(event), $defs: document.components.schemas });
    expect(schema.safeParse({ id: Number(id), event, data }).error?.issues ?? [], event).toEqual([]);
  }
});

test("the document's request schemas take what the daemon takes", async () => {
  const daemon = await startDaemon();
  const { json: document } = await daemon.call("GET", "/openapi.json");
  const { schema } = document.paths["/gpu/allocate"].post.requestBody.content["application/json"];
  expect(schema.required).toEqual(["service_name"]);
  const { required_gpus: gpus, workload_data: data, sharing } = schema.properties;
  expect(gpus.anyOf[0]).toMatchObject({ type: "integer", minimum: 1, maximum: 1_024 });
  expect(gpus.anyOf[1]).toEqual({ type: "null" });
  expect(data.anyOf[0].properties).toHaveProperty("required_gpus");
  expect(sharing.anyOf[0].enum).toEqual(["exclusive", "shared"]);
  const limit = document.paths["/gpu/allocations"].get.parameters.find(({ name }: Json) => name === "limit");
  expect(limit.schema).toEqual({ type: "integer", minimum: 1, maximum: 1_000, default: 100 });
  const [id, wait] = document.paths["/gpu/allocations/{id}"].get.parameters;
  expect([id, wait]).toMatchObject([
    { in: "path", name: "id", required: true },
    { in: "query", name: "wait", schema: { type: "string" } },
  ]);
  const key = { in: "header", name: "Idempotency-Key" };
  expect(document.paths["/gpu/allocate"].post.parameters).toMatchObject([{ in: "header", name: "Prefer" }, key]);
  expect(document.paths["/gpu/release"].post.parameters).toMatchObject([key]);
  expect(document.paths["/gpu/allocations/{id}/renew"].post.parameters).toMatchObject([{ in: "path" }, key]);
});

test.skipIf(!isBuilt)("the page at /docs needs nothing from elsewhere and runs no inline script", async () => {
  const daemon = await startDaemon();
  const page = await daemon.call("GET", "/docs");
  expect(page.headers["content-type"]).toBe("text/html; charset=utf-8");
  const policy = String(page.headers["content-security-policy"]);
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain("frame-ancestors 'none'");
  expect(policy).toMatch(/script-src 'self'(;|$)/);
  expect(page.text).not.toMatch(/<script(?![^>]* src=)/);
  const links = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, link]) => link as string);
  expect(links.length).toBeGreaterThan(3);
  for (const link of links.filter((each) => !each.startsWith("data:"))) {
    expect(link).toMatch(/^\//);
    expect([link, (await daemon.call("GET", link)).status]).toEqual([link, 200]);
  }
  expect((await daemon.call("GET", "/docs/start.js")).text).toMatch(/validatorUrl: ?null/);
});

test("every problem's type leads to a line about it", async () => {
  const daemon = await startDaemon();
  const { text } = await daemon.call("GET", "/docs/problems");
  for (const code of Object.keys(PROBLEMS)) expect(text).toContain(`id="${code}"`);
});
