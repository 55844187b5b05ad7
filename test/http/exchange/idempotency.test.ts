import { expect, test, vi } from "vitest";
import { gpuReading } from "../../fixtures/readings.ts";
import { apiKey, type Reply, SlowStore, startDaemon } from "../daemon.ts";
import { allocateRequest, open } from "../peer.ts";

const KEY = { "idempotency-key": "4d3cb1f0-retry" };
const HOUR_MS = 3_600_000;

const live = (daemon: Awaited<ReturnType<typeof startDaemon>>) => [...daemon.scheduler.state.allocations.values()];
const released = (daemon: Awaited<ReturnType<typeof startDaemon>>, body: object, headers = {}) =>
  daemon.call("POST", "/gpu/release", { body, headers });
const isReplay = (reply: Reply) => reply.headers["idempotency-replayed"] === "true";

test("a repeated allocate leases nothing twice and answers what the first did", async () => {
  const daemon = await startDaemon();
  const first = await daemon.allocate({ ttl: 60 }, KEY);
  const again = await daemon.allocate({ ttl: 60 }, KEY);
  expect(first.status).toBe(200);
  expect(again.status).toBe(200);
  expect(again.json).toEqual(first.json);
  expect([isReplay(first), isReplay(again)]).toEqual([false, true]);
  expect(live(daemon)).toHaveLength(1);
});

test("a repeat answers how the request stands: waiting, then held, then ended", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const holder = await daemon.allocate();
  const first = await daemon.allocate({ priority: 9 }, KEY);
  expect(first.status).toBe(202);
  const waiting = await daemon.allocate({ priority: 9 }, KEY);
  expect(waiting.status).toBe(202);
  expect(waiting.json).toMatchObject({ id: first.json.id, status: "queued", position: 1 });
  expect(waiting.headers).toMatchObject({ location: `/gpu/allocations/${first.json.id}` });

  await released(daemon, { allocation_id: holder.json.id });
  const held = await daemon.allocate({ priority: 9 }, KEY);
  expect(held.status).toBe(200);
  expect(held.json).toMatchObject({ id: first.json.id, status: "allocated", gpu_ids: [0] });
  // The repeat has told its client of the grant: it is claimed.
  expect(live(daemon)[0]?.status).toBe("leased");

  await released(daemon, { allocation_id: first.json.id });
  const ended = await daemon.allocate({ priority: 9 }, KEY);
  expect(ended.status).toBe(409);
  expect(ended.json.code).toBe("allocation-ended");
  expect(live(daemon)).toHaveLength(0);
});

test("the same key with another body, path or operation is refused and changes nothing", async () => {
  const daemon = await startDaemon();
  const { json } = await daemon.allocate({ ttl: 60 }, KEY);
  const others = [
    await daemon.allocate({ ttl: 61 }, KEY),
    await daemon.allocate({}, KEY),
    await released(daemon, { service_name: "trainer" }, KEY),
    await released(daemon, { allocation_id: json.id }, KEY),
    await daemon.call("POST", `/gpu/allocations/${json.id}/renew`, { headers: KEY }),
  ];
  expect(others.map(({ status }) => status)).toEqual([422, 422, 422, 422, 422]);
  expect(new Set(others.map((reply) => reply.json.code))).toEqual(new Set(["idempotency-key-reused"]));
  expect(live(daemon).map(({ status }) => status)).toEqual(["leased"]);
});

test("the order of a body's members does not make it another", async () => {
  const daemon = await startDaemon();
  const post = (body: string) => daemon.call("POST", "/gpu/allocate", { body, headers: { ...JSON_TYPE, ...KEY } });
  const first = await post('{"service_name":"t","workload_data":{"model":"a","list":[1,2]}}');
  const again = await post('{"workload_data": {"list": [1, 2], "model": "a"}, "service_name": "t"}');
  const other = await post('{"service_name":"t","workload_data":{"model":"a","list":[2,1]}}');
  expect([first.status, again.status, other.status]).toEqual([200, 200, 422]);
  expect(again.json.id).toBe(first.json.id);
});
const JSON_TYPE = { "content-type": "application/json" };

test("100 identical calls at once make one lease; each is answered with it, or told that the first is under way", async () => {
  const daemon = await startDaemon({ gpus: Array.from({ length: 8 }, (_, index) => gpuReading(index)) });
  const calls = Array.from({ length: 100 }, () => daemon.connect());
  const replies = await Promise.all(
    calls.map((call) => call("POST", "/gpu/allocate", { body: { service_name: "trainer" }, headers: KEY })),
  );
  expect(live(daemon)).toHaveLength(1);
  const granted = replies.filter(({ status }) => status === 200);
  const underWay = replies.filter(({ status }) => status === 409);
  expect(granted.length + underWay.length).toBe(100);
  expect(new Set(granted.map(({ json }) => json.id)).size).toBe(1);
  expect(underWay.every(({ json }) => json.code === "idempotency-key-in-use")).toBe(true);
  expect(granted.filter((reply) => !isReplay(reply))).toHaveLength(1);
});

test("while the first is being stored, or waits for GPUs on its connection, a repeat is told so", async () => {
  const store = new SlowStore();
  const daemon = await startDaemon({ gpus: [gpuReading(0)], store });
  const reached = store.holdCommit("granted");
  const first = daemon.allocate({}, KEY);
  const letThrough = await reached;
  const early = await daemon.connect()("POST", "/gpu/allocate", { body: { service_name: "trainer" }, headers: KEY });
  expect(early.status).toBe(409);
  expect(early.json.code).toBe("idempotency-key-in-use");
  expect(early.headers["retry-after"]).toBe("1");
  letThrough();
  const { json } = await first;

  const waits = { "idempotency-key": "waits", prefer: "wait=30" };
  const waiting = daemon.connect()("POST", "/gpu/allocate", { body: { service_name: "ocr" }, headers: waits });
  await vi.waitFor(() => expect(live(daemon)).toHaveLength(2));
  const repeat = await daemon.allocate({ service_name: "ocr" }, waits);
  expect(repeat.status).toBe(409);
  await released(daemon, { allocation_id: json.id });
  const granted = await waiting;
  expect(granted.status).toBe(200);
  const later = await daemon.allocate({ service_name: "ocr" }, waits);
  expect(later.status).toBe(200);
  expect(later.json.id).toBe(granted.json.id);
});

test("a client that hung up while it waited finds its request under its key, and may wait on", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const holder = await daemon.allocate({ service_name: "holder" });
  const client = await open(daemon.port);
  client.socket.write(allocateRequest({}, "Prefer: wait=30\r\nIdempotency-Key: 4d3cb1f0-retry\r\n"));
  await vi.waitFor(() => expect(live(daemon)).toHaveLength(2));
  client.socket.resetAndDestroy();
  const waited = await vi.waitFor(async () => {
    const reply = await daemon.allocate({}, KEY);
    expect(reply.status).toBe(202);
    return reply;
  });
  const waiting = daemon.connect()("POST", "/gpu/allocate", {
    body: { service_name: "trainer" },
    headers: { ...KEY, prefer: "wait=30" },
  });
  await released(daemon, { allocation_id: holder.json.id });
  const granted = await waiting;
  expect(granted.status).toBe(200);
  expect(granted.json.id).toBe(waited.json.id);
  expect(live(daemon)).toHaveLength(1);
});

test("what was refused is not remembered: the same key may try again", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const holder = await daemon.allocate();
  const refused = await daemon.allocate({ queue: false }, KEY);
  expect(refused.json.code).toBe("no-gpu-free");
  await released(daemon, { allocation_id: holder.json.id });
  expect((await daemon.allocate({ queue: false }, KEY)).status).toBe(200);

  daemon.store.failing = true;
  const other = { "idempotency-key": "other" };
  expect((await daemon.allocate({}, other)).json.code).toBe("storage-unavailable");
  daemon.store.failing = false;
  expect((await daemon.allocate({}, other)).status).toBe(202);
});

test("a repeated release by service does not end what the service leased since", async () => {
  const daemon = await startDaemon();
  const { json: before } = await daemon.allocate();
  const first = await released(daemon, { service_name: "trainer" }, KEY);
  const { json: since } = await daemon.allocate();
  const again = await released(daemon, { service_name: "trainer" }, KEY);
  expect(again.status).toBe(200);
  expect(again.json).toEqual(first.json);
  expect(again.json.released).toEqual([before.id]);
  expect(live(daemon).map(({ request }) => request.id)).toEqual([since.id]);
});

test("a release that ended nothing is not remembered", async () => {
  const daemon = await startDaemon();
  expect((await released(daemon, { service_name: "trainer" }, KEY)).json.released).toEqual([]);
  const { json } = await daemon.allocate();
  expect((await released(daemon, { service_name: "trainer" }, KEY)).json.released).toEqual([json.id]);
});

test("a repeated renewal prolongs nothing, and is 409 once the lease has ended", async () => {
  const daemon = await startDaemon();
  const { json } = await daemon.allocate({ ttl: 60 });
  const renew = () => daemon.call("POST", `/gpu/allocations/${json.id}/renew`, { headers: KEY });
  daemon.clock.advance(10_000);
  const first = await renew();
  daemon.clock.advance(10_000);
  const again = await renew();
  expect(again.status).toBe(200);
  expect(again.json.expires_at).toBe(first.json.expires_at);
  const fresh = await daemon.call("POST", `/gpu/allocations/${json.id}/renew`, { headers: { "idempotency-key": "2" } });
  expect(Date.parse(fresh.json.expires_at) - Date.parse(first.json.expires_at)).toBe(10_000);
  await released(daemon, { allocation_id: json.id });
  expect((await renew()).json.code).toBe("allocation-ended");
});

test("a key is its principal's own", async () => {
  const keys = [apiKey("a", "ada"), apiKey("a2", "ada"), apiKey("b", "bob")];
  const daemon = await startDaemon({
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => keys,
  });
  const of = (key: string) => daemon.allocate({}, { ...KEY, "x-api-key": key });
  const [ada, adaAgain, bob] = [await of("a"), await of("a2"), await of("b")];
  expect(adaAgain.json.id).toBe(ada.json.id);
  expect(bob.status).toBe(200);
  expect(bob.json.id).not.toBe(ada.json.id);
});

test("a key lives for 24 hours", async () => {
  const daemon = await startDaemon();
  const first = await daemon.allocate({}, KEY);
  for (let hour = 1; hour < 24; hour++) {
    daemon.clock.advance(HOUR_MS);
    // Lets the scheduler see to its ticks.
    await new Promise((resolve) => setImmediate(resolve));
  }
  daemon.clock.advance(HOUR_MS - 1);
  await daemon.see([gpuReading(0), gpuReading(1)]);
  expect((await daemon.allocate({}, KEY)).json.id).toBe(first.json.id);
  daemon.clock.advance(1);
  await daemon.see([gpuReading(0), gpuReading(1)]);
  const next = await daemon.allocate({}, KEY);
  expect(next.status).toBe(200);
  expect(next.json.id).not.toBe(first.json.id);
});

test.each([[""], ["with space"], ["x".repeat(256)], ["caf\u00e9"]])("the key %j is malformed", async (key) => {
  const daemon = await startDaemon();
  const reply = await daemon.allocate({}, { "idempotency-key": key });
  expect(reply.status).toBe(400);
  expect(reply.json.code).toBe("malformed-request");
  expect(live(daemon)).toHaveLength(0);
});
