/** What one client can take from the others, asked of the real server over sockets: each of these once took all. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { expect, onTestFinished, test, vi } from "vitest";
import { type ClientLimits, type LimitSettings, NO_LIMITS } from "../../../src/http/exchange/limits.ts";
import type { ApiKey } from "../../../src/http/server.ts";
import { apiKey, startDaemon } from "../daemon.ts";
import { answersIn, CLOSE, exchange, HOST, open } from "../peer.ts";

const MB = 1_024 * 1_024;
const as = (name: string) => ({ "X-API-Key": `${name}-key-0123456789` });
const keysOf = (...names: string[]) => names.map((name) => apiKey(`${name}-key-0123456789`, name));
const limitsOf = (limits: Partial<ClientLimits>, more: Partial<LimitSettings> = {}): (() => LimitSettings) => {
  const own = { ...NO_LIMITS.principal, ...limits };
  const settings = { ...NO_LIMITS, principal: own, address: own, ...more };
  return () => settings;
};
const get = (path: string, headers = "") => `GET ${path} HTTP/1.1\r\n${HOST}${headers}\r\n`;
const until = (condition: () => boolean) => vi.waitUntil(condition, { interval: 5, timeout: 10_000 });

/** A client that sends, and reads nothing until it is told to. */
async function mute(port: number): Promise<Socket> {
  const socket = connect({ host: "127.0.0.1", port });
  onTestFinished(() => void socket.destroy());
  socket.on("error", () => undefined);
  await once(socket, "connect");
  socket.pause();
  return socket;
}

test("a thousand pipelined requests for a large static file cost no more memory than a few, and nobody waits for them", async () => {
  const daemon = await startDaemon();
  await daemon.call("GET", "/docs/swagger-ui-bundle.js");
  const before = process.memoryUsage().rss;
  for (let client = 0; client < 4; client++) {
    const socket = await mute(daemon.port);
    socket.write(get("/docs/swagger-ui-bundle.js").repeat(1_000));
  }
  const startedAt = performance.now();
  for (let i = 0; i < 20; i++) expect((await daemon.call("GET", "/livez")).status).toBe(200);
  expect(performance.now() - startedAt).toBeLessThan(5_000);
  // One file has 1.4 MB: all of them would be 5 GB.
  expect(process.memoryUsage().rss - before).toBeLessThan(250 * MB);
});

test("pipelined requests are answered in order, all that fit one read, and a flood ends with the last that was taken", async () => {
  const daemon = await startDaemon();
  const honest = await open(daemon.port);
  honest.socket.write(get("/livez").repeat(99) + get("/livez", "Connection: close\r\n"));
  expect(answersIn(await honest.ended)).toHaveLength(100);

  const flood = await open(daemon.port);
  flood.socket.write(get("/livez").repeat(1_200));
  const answers = answersIn(await flood.ended);
  expect(answers.length).toBeGreaterThan(16);
  expect(answers.length).toBeLessThan(1_200);
  expect(new Set(answers.map(([status]) => status))).toEqual(new Set([200]));
});

test("a page of large records ends by bytes, and the pages together have every record once", async () => {
  const daemon = await startDaemon({ policy: { maxQueueSize: 100 } });
  const padding = "x".repeat(60_000);
  for (let i = 0; i < 30; i++) await daemon.allocate({ workload_data: { padding } });
  const ids: string[] = [];
  let pages = 0;
  for (let next: string | null = ""; next !== null; pages++) {
    const { json, text } = await daemon.call(
      "GET",
      `/gpu/allocations?limit=500${next === "" ? "" : `&before=${next}`}`,
    );
    expect(text.length).toBeLessThan(1.5 * MB);
    ids.push(...json.allocations.map(({ id }: { id: string }) => id));
    next = json.next;
  }
  expect(new Set(ids).size).toBe(30);
  expect(ids).toHaveLength(30);
  expect(pages).toBeGreaterThan(1);
});

test("when all connections are taken, the longest idle one makes room, and the newcomer is served", async () => {
  const daemon = await startDaemon({ settings: { maxConnections: 20 } });
  const idle: { closed: boolean }[] = [];
  for (let i = 0; i < 30; i++) {
    const socket = await mute(daemon.port);
    const state = { closed: false };
    socket.resume();
    socket.on("close", () => {
      state.closed = true;
    });
    idle.push(state);
  }
  expect((await daemon.connect()("GET", "/readyz")).status).toBe(200);
  await until(() => idle.filter(({ closed }) => closed).length >= 11);
  expect(idle.findIndex(({ closed }) => !closed)).toBe(idle.filter(({ closed }) => closed).length);
  expect(daemon.logged).toMatchObject([{ level: "warn", facts: { max_connections: 20 } }]);
});

test("one over its rate is told which limit and when to come again; releases and renewals, and others, go on", async () => {
  const auth = { enabled: true, headerName: "X-API-Key" };
  const keys = keysOf("ann", "bob");
  const daemon = await startDaemon({
    settings: { auth },
    keys: () => keys,
    limits: limitsOf({ requestsPerSecond: 4 }),
  });
  const { json: lease } = await daemon.allocate({ ttl: "1h" }, as("ann"));
  const replies = await Promise.all(
    Array.from({ length: 40 }, () => daemon.call("GET", "/gpu/list", { headers: as("ann") })),
  );
  const refused = replies.filter(({ status }) => status === 429);
  expect(refused.length).toBeGreaterThanOrEqual(15);
  expect(refused[0]?.json).toMatchObject({ code: "limit-reached", limit: "limits.principal.requests_per_second" });
  expect(Number(refused[0]?.headers["retry-after"])).toBeGreaterThanOrEqual(1);
  const renew = () => daemon.call("POST", `/gpu/allocations/${lease.id}/renew`, { body: {}, headers: as("ann") });
  for (let i = 0; i < 50; i++) expect((await renew()).status).toBe(200);
  expect((await daemon.call("DELETE", `/gpu/allocations/${lease.id}`, { headers: as("ann") })).status).toBe(200);
  expect((await daemon.call("GET", "/gpu/list", { headers: as("bob") })).status).toBe(200);
  for (let i = 0; i < 40; i++) expect((await daemon.call("GET", "/livez")).status).toBe(200);
});

test("waits, streams, stored bytes and idempotency keys have limits with names of their own", async () => {
  const limits = { longPolls: 1, streams: 1, storedBytesPerDay: 9_000, idempotencyKeysPerDay: 1 };
  const daemon = await startDaemon({ limits: limitsOf(limits), gpus: null });
  const { json: request } = await (await startDaemon()).allocate();
  const limitOf = ({ json }: { json: { limit: string } }) => json.limit.replace("limits.address.", "");
  expect(request.status).toBe("allocated");

  const stream = await mute(daemon.port);
  stream.write(get("/gpu/events"));
  await until(() => daemon.scheduler.events.readers === 1);
  expect(limitOf(await daemon.call("GET", "/gpu/events"))).toBe("streams");
  stream.destroy();
  await until(() => daemon.scheduler.events.readers === 0);

  const key = (name: string) => ({ "Idempotency-Key": name });
  await daemon.allocate({}, key("first"));
  expect(limitOf(await daemon.allocate({}, key("second")))).toBe("idempotency_keys_per_day");
  for (let i = 0; i < 4; i++) await daemon.allocate();
  expect(limitOf(await daemon.allocate({ workload_data: { a: "x".repeat(8_000) } }))).toBe("stored_mb_per_day");
});

test("what stores nothing, or less than it might have, is not counted as stored", async () => {
  const daemon = await startDaemon({ limits: limitsOf({ storedBytesPerDay: 70_000 }) });
  for (let i = 0; i < 40; i++) {
    expect((await daemon.call("POST", "/gpu/plan", { body: { service_name: "trainer" } })).status).toBe(200);
    expect((await daemon.allocate({ required_gpus: 3 })).status).toBe(422);
  }
  const text = JSON.stringify({ service_name: "trainer" });
  const head = `POST /gpu/allocate HTTP/1.1\r\n${CLOSE}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n`;
  const chunked = `${head}\r\n${text.length.toString(16)}\r\n${text}\r\n0\r\n\r\n`;
  for (let i = 0; i < 2; i++) expect(answersIn(await exchange(daemon.port, chunked))).toEqual([[200, null]]);
});

test("a request that waited counts as stored, also when it is refused in the end", async () => {
  const daemon = await startDaemon({ limits: limitsOf({ storedBytesPerDay: 2_500 }) });
  await daemon.allocate({ required_gpus: 2 });
  const held = daemon.connect()("POST", "/gpu/allocate", {
    body: { service_name: "waiting" },
    headers: { Prefer: "wait=60" },
  });
  await until(() => daemon.scheduler.state.allocations.size === 2);
  const id = [...daemon.scheduler.state.allocations.values()].find(({ status }) => status === "queued")?.request.id;
  await daemon.call("DELETE", `/gpu/allocations/${id}`);
  expect((await held).status).toBeGreaterThanOrEqual(400);
  expect((await daemon.allocate()).json).toMatchObject({ limit: "limits.address.stored_mb_per_day" });
});

test("wrong keys from one address have to wait longer and longer, and a right one does not", async () => {
  const auth = { enabled: true, headerName: "X-API-Key" };
  const keys = keysOf("ann");
  const daemon = await startDaemon({
    settings: { auth },
    keys: () => keys,
    limits: limitsOf({}, { failedAuthentications: 5 }),
  });
  const codes: string[] = [];
  for (let i = 0; i < 8; i++) codes.push((await daemon.call("GET", "/gpu/list", { headers: as("eve") })).json.code);
  expect(codes.slice(0, 5)).toEqual(Array(5).fill("unauthenticated"));
  expect(codes).toContain("limit-reached");
  expect((await daemon.call("GET", "/gpu/list", { headers: as("ann") })).status).toBe(200);
});

test("a request that is held ends within a second of its key, and so does a stream on which nothing happens", async () => {
  const auth = { enabled: true, headerName: "X-API-Key" };
  let keys: readonly ApiKey[] = keysOf("ann", "bob");
  const daemon = await startDaemon({ settings: { auth }, keys: () => keys, gpus: null });
  await daemon.see([]);
  const taken = await startDaemon({ settings: { auth }, keys: () => keys });
  await taken.allocate({ required_gpus: 2 }, as("bob"));
  const held = taken.connect()("POST", "/gpu/allocate", {
    body: { service_name: "waiting" },
    headers: { ...as("ann"), Prefer: "wait=60" },
  });
  await until(() => taken.scheduler.state.allocations.size === 2);
  const stream = await open(daemon.port);
  stream.socket.write(get("/gpu/events", `X-API-Key: ${as("ann")["X-API-Key"]}\r\n`));
  await until(() => daemon.scheduler.events.readers === 1);

  const before = performance.now();
  keys = keysOf("bob");
  expect((await held).json.code).toBe("unauthenticated");
  await stream.ended;
  expect(performance.now() - before).toBeLessThan(2_500);
});

test("with a limit of pending webhooks, a request with one more is refused, and one without is not", async () => {
  const daemon = await startDaemon({ limits: limitsOf({ pendingDeliveries: 3 }), pendingDeliveries: () => 3 });
  const refused = await daemon.allocate({ webhook_url: "https://hooks.example.org/" });
  expect(refused.json).toMatchObject({ status: 429, limit: "limits.address.pending_deliveries" });
  expect((await daemon.allocate()).status).toBe(200);
});

test("bodies that one client does not send take neither the others' room nor that of its own renewals", async () => {
  const auth = { enabled: true, headerName: "X-API-Key" };
  const keys = keysOf("ann", "bob");
  const daemon = await startDaemon({ settings: { auth }, keys: () => keys });
  const { json: lease } = await daemon.allocate({ ttl: "1h" }, as("ann"));
  const head = `POST /gpu/allocate HTTP/1.1\r\n${HOST}X-API-Key: ${as("ann")["X-API-Key"]}\r\n`;
  for (let i = 0; i < 140; i++) {
    (await mute(daemon.port)).write(`${head}Content-Type: application/json\r\nContent-Length: 65536\r\n\r\n`);
  }
  const ask = async (name: string) =>
    (await daemon.call("POST", "/gpu/plan", { body: { service_name: "trainer" }, headers: as(name) })).status;
  await vi.waitUntil(async () => (await ask("ann")) === 503, { timeout: 10_000 });
  expect(await ask("bob")).toBe(200);
  const renewed = await daemon.call("POST", `/gpu/allocations/${lease.id}/renew`, { body: {}, headers: as("ann") });
  expect(renewed.status).toBe(200);
});

test("files of the page that nobody reads take nobody's room, whatever their number", async () => {
  const daemon = await startDaemon();
  for (let client = 0; client < 60; client++) {
    const socket = await mute(daemon.port);
    socket.write(get("/docs/swagger-ui-bundle.js").repeat(16));
  }
  await vi.waitUntil(async () => (await daemon.call("GET", "/docs")).status === 200);
  expect((await daemon.allocate()).status).toBe(200);
});

test("wrong keys cost neither health nor the page, which ask for none", async () => {
  const auth = { enabled: true, headerName: "X-API-Key" };
  const limits = limitsOf({}, { failedAuthentications: 2 });
  const daemon = await startDaemon({ settings: { auth }, keys: () => keysOf("ann"), limits });
  const call = async (path: string) => (await daemon.call("GET", path, { headers: as("eve") })).status;
  await Promise.all(Array.from({ length: 5 }, () => call("/gpu/list")));
  expect(await call("/gpu/list")).toBe(429);
  expect(await Promise.all(["/healthz", "/readyz", "/livez", "/docs"].map(call))).toEqual([200, 200, 200, 200]);
});
