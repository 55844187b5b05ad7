import { once } from "node:events";
import type { Socket } from "node:net";
import { expect, test, vi } from "vitest";
import { gpuReading } from "../../fixtures/readings.ts";
import { apiKey, type Given, SlowStore, startDaemon } from "../daemon.ts";
import { allocateRequest, answersIn, HOST, open } from "../peer.ts";

async function slowDaemon(given: Given = {}) {
  const store = new SlowStore();
  const daemon = await startDaemon({ gpus: [gpuReading(0)], ...given, store });
  /** A connection, with the server's side of it. */
  const connection = async () => {
    const accepted = once(daemon.server, "connection");
    const client = await open(daemon.port);
    const [server] = (await accepted) as [Socket];
    return { ...client, server };
  };
  const statusOf = (id: string) => daemon.scheduler.state.allocations.get(id)?.status ?? "ended";
  const only = () => {
    const [allocation] = [...daemon.scheduler.state.allocations.values()];
    if (allocation === undefined) throw new Error("there is no allocation");
    return allocation;
  };
  /** The id of a service's only allocation. */
  const of = (serviceName: string) =>
    [...daemon.scheduler.state.allocations.values()].find(({ request }) => request.serviceName === serviceName)?.request
      .id ?? "";
  const reoffers = () => store.turns.flatMap(({ events }) => events.filter(({ type }) => type === "reoffered"));
  return { ...daemon, store, connection, statusOf, only, of, reoffers };
}

/** Unlike `once`, this takes an error for what it is here: a way of closing. */
function closed(server: Socket): Promise<void> {
  return new Promise((resolve) => {
    server.once("close", () => resolve());
  });
}

/** Resets the connection, and returns once the server has seen it. */
async function reset({ socket, server }: { readonly socket: Socket; readonly server: Socket }): Promise<void> {
  const gone = closed(server);
  socket.resetAndDestroy();
  await gone;
}

test("a client that has gone before its grant was stored is offered it, and it lapses if nobody comes", async () => {
  const daemon = await slowDaemon();
  const reached = daemon.store.holdCommit("granted");
  const client = await daemon.connection();
  client.socket.write(allocateRequest());
  const letThrough = await reached;
  await reset(client);
  letThrough();
  await vi.waitFor(() => expect(daemon.only().status).toBe("offered"));
  const { id } = daemon.only().request;

  const { json: waiting } = await daemon.allocate();
  daemon.clock.advance(29_999);
  await daemon.call("GET", `/gpu/allocations/${waiting.id}`);
  expect(daemon.statusOf(id)).toBe("offered");
  await daemon.see([gpuReading(0)]);
  daemon.clock.advance(1);
  await vi.waitFor(() => expect(daemon.statusOf(id)).toBe("ended"));
  expect(daemon.store.findEnded(id)?.outcome.reason).toBe("unclaimed");
  expect(daemon.statusOf(waiting.id)).toBe("offered");
});

test("a client that comes back for what it was offered has it", async () => {
  const daemon = await slowDaemon();
  const reached = daemon.store.holdCommit("granted");
  const client = await daemon.connection();
  client.socket.write(allocateRequest());
  const letThrough = await reached;
  await reset(client);
  letThrough();
  await vi.waitFor(() => expect(daemon.only().status).toBe("offered"));
  const { id } = daemon.only().request;
  expect((await daemon.call("GET", `/gpu/allocations/${id}`)).json.status).toBe("leased");
  daemon.clock.advance(120_000);
  await daemon.call("GET", "/healthz");
  expect(daemon.statusOf(id)).toBe("leased");
});

test("closing in the ordinary way before the answer is a hang-up too", async () => {
  const daemon = await slowDaemon();
  const reached = daemon.store.holdCommit("granted");
  const client = await daemon.connection();
  const gone = closed(client.server);
  client.socket.write(allocateRequest());
  const letThrough = await reached;
  client.socket.destroy();
  await gone;
  letThrough();
  await vi.waitFor(() => expect(daemon.only().status).toBe("offered"));
});

test("a reset that only the writing of the answer discovers is one as well", async () => {
  const daemon = await slowDaemon();
  const reached = daemon.store.holdCommit("granted");
  const client = await daemon.connection();
  client.socket.write(allocateRequest());
  const letThrough = await reached;
  // The system knows at once; the daemon writes before it hears of it.
  client.socket.resetAndDestroy();
  letThrough();
  await closed(client.server);
  await vi.waitFor(() => expect(daemon.only().status).toBe("offered"));
});

test("an answer that is stuck in the daemon's own buffer is lost with the connection", async () => {
  const daemon = await slowDaemon({ gpus: [gpuReading(0), gpuReading(1)] });
  const deaf = await daemon.connection();
  const reader = await daemon.connection();
  for (const [{ socket, server }, name] of [
    [deaf, "deaf"],
    [reader, "reader"],
  ] as const) {
    socket.pause();
    // More than the system buffers for a reader who does not read.
    server.write(Buffer.alloc(32 * 2 ** 20, " "));
    socket.write(allocateRequest({ service_name: name }, "Connection: close\r\n"));
    await vi.waitFor(() => expect(daemon.statusOf(daemon.of(name))).toBe("leased"));
  }
  await reset(deaf);
  await vi.waitFor(() => expect(daemon.statusOf(daemon.of("deaf"))).toBe("offered"));
  reader.socket.resume();
  expect(await reader.ended).toContain('"status":"allocated"');
  await daemon.call("GET", "/healthz");
  expect(daemon.statusOf(daemon.of("reader"))).toBe("leased");
});

test("an answer that is stuck until the write timeout is lost too", async () => {
  const daemon = await slowDaemon({ settings: { writeTimeoutMs: 50 } });
  const deaf = await daemon.connection();
  deaf.socket.pause();
  deaf.server.write(Buffer.alloc(32 * 2 ** 20, " "));
  deaf.socket.write(allocateRequest());
  await closed(deaf.server);
  await vi.waitFor(() => expect(daemon.only().status).toBe("offered"));
});

test("a client that goes once its answer was written keeps its lease", async () => {
  const daemon = await slowDaemon();
  const client = await daemon.connection();
  client.socket.write(allocateRequest());
  await once(client.socket, "data");
  await reset(client);
  await daemon.call("GET", "/healthz");
  expect([daemon.only().status, daemon.reoffers()]).toEqual(["leased", []]);
});

test("a refusal, or a request that queued, has nothing to hang up", async () => {
  const daemon = await slowDaemon();
  const { json: held } = await daemon.allocate();
  const reached = daemon.store.holdCommit("submitted");
  const client = await daemon.connection();
  client.socket.write(allocateRequest());
  const letThrough = await reached;
  await reset(client);
  letThrough();
  await vi.waitFor(() => expect(daemon.scheduler.state.line.order.size).toBe(1));
  await daemon.call("GET", "/healthz");
  expect([daemon.statusOf(held.id), daemon.reoffers()]).toEqual(["leased", []]);
});

test("an answer that stands behind one that its client does not read is lost with the connection", async () => {
  const daemon = await slowDaemon({ gpus: [gpuReading(0), gpuReading(1)] });
  const reader = await daemon.connection();
  const deaf = await daemon.connection();
  // More than the system buffers for a reader who does not read.
  const bulk = `GET /docs/swagger-ui-bundle.js HTTP/1.1\r\n${HOST}\r\n`.repeat(10);
  for (const [{ socket }, name] of [
    [deaf, "deaf"],
    [reader, "reader"],
  ] as const) {
    socket.pause();
    socket.write(bulk + allocateRequest({ service_name: name }, "Connection: close\r\n"));
  }
  await vi.waitFor(() => expect(daemon.scheduler.state.allocations.size).toBe(2));
  const [first, second] = [...daemon.scheduler.state.allocations.values()].map(({ request }) => request.id);
  expect([daemon.statusOf(first as string), daemon.statusOf(second as string)]).toEqual(["leased", "leased"]);
  await reset(deaf);
  await vi.waitFor(() => expect(daemon.statusOf(first as string)).toBe("offered"));
  reader.socket.resume();
  expect(await reader.ended).toContain('"status":"allocated"');
  await daemon.call("GET", "/healthz");
  expect(daemon.statusOf(second as string)).toBe("leased");
});

test("a grant behind the answer that ends its connection is never written, and so is offered", async () => {
  const daemon = await slowDaemon({ gpus: [gpuReading(0), gpuReading(1)] });
  await daemon.allocate();
  const client = await daemon.connection();
  const both = allocateRequest({ required_gpus: 2 }, "Prefer: wait=60\r\n");
  client.socket.write(both + allocateRequest({ service_name: "second" }));
  const second = () =>
    [...daemon.scheduler.state.allocations.values()].find(({ request }) => request.serviceName === "second");
  await vi.waitFor(() => expect(second()?.status).toBe("leased"));
  // The last answer on every connection is the first that is due.
  const drained = daemon.drain();
  expect(answersIn(await client.ended)).toEqual([[202, null]]);
  client.socket.destroy();
  await drained;
  await vi.waitFor(() => expect(second()?.status).toBe("offered"));
});

/** A key that says who it is, where keys are asked for. */
const ANN = { "X-API-Key": "ann" };

/** A daemon whose only GPU is leased, and what a wait for it needs. */
async function waitingDaemon(given: Given = {}) {
  const daemon = await slowDaemon(given);
  const { json: held } = await daemon.allocate({}, ANN);
  const waits = () =>
    [...daemon.scheduler.state.allocations.values()].filter(
      (allocation) => allocation.status === "queued" && allocation.seenAt > daemon.clock.now(),
    );
  const begun = () => vi.waitFor(() => waits()[0]?.request.id ?? Promise.reject(new Error("nobody waits")));
  const release = () => daemon.connect()("DELETE", `/gpu/allocations/${held.id}`, { headers: ANN });
  return { ...daemon, held, begun, release };
}

test("a client that prefers to wait and goes before the grant's answer is offered the grant again", async () => {
  const daemon = await waitingDaemon();
  const client = await daemon.connection();
  client.socket.write(allocateRequest({}, "Prefer: wait=60\r\n"));
  const id = await daemon.begun();
  const reached = daemon.store.holdCommit("claimed");
  await daemon.release();
  const letThrough = await reached;
  await reset(client);
  letThrough();
  await vi.waitFor(() => expect(daemon.reoffers()).toHaveLength(1));
  await vi.waitFor(() => expect(daemon.statusOf(id)).toBe("offered"));
});

test("a client that goes in the moment of its grant does not have it", async () => {
  const daemon = await waitingDaemon();
  const client = await daemon.connection();
  client.socket.write(allocateRequest({}, "Prefer: wait=60\r\n"));
  const id = await daemon.begun();
  const reached = daemon.store.holdCommit("granted");
  const released = daemon.release();
  const letThrough = await reached;
  // Its leaving is a sign of life as well, and is decided after the grant.
  await reset(client);
  letThrough();
  await released;
  await vi.waitFor(() => expect(daemon.statusOf(id)).toBe("offered"));
  for (let time = 0; time < 3; time++) await daemon.call("GET", "/healthz");
  expect(daemon.statusOf(id)).toBe("offered");
  daemon.clock.advance(30_000);
  await vi.waitFor(() => expect(daemon.store.findEnded(id)?.outcome.reason).toBe("unclaimed"));
});

test("a client that has gone before its request was queued is not waited for", async () => {
  const daemon = await waitingDaemon();
  const reached = daemon.store.holdCommit("submitted");
  const client = await daemon.connection();
  client.socket.write(allocateRequest({ service_name: "gone" }, "Prefer: wait=60\r\n"));
  const letThrough = await reached;
  const gone = closed(client.server);
  client.socket.destroy();
  await gone;
  letThrough();
  await vi.waitFor(() => expect(daemon.statusOf(daemon.of("gone"))).toBe("queued"));
  const id = daemon.of("gone");
  await daemon.call("GET", "/healthz");
  daemon.clock.advance(30_000);
  await vi.waitFor(() => expect(daemon.store.findEnded(id)?.outcome.reason).toBe("abandoned"));
});

async function pollingDaemon(pollers: number) {
  const daemon = await waitingDaemon();
  const { json: queued } = await daemon.allocate();
  const path = `/gpu/allocations/${queued.id}`;
  const clients = [];
  for (let i = 0; i < pollers; i++) {
    const client = await daemon.connection();
    const asked = once(daemon.server, "request");
    client.socket.write(`GET ${path}?wait=60s HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`);
    await asked;
    clients.push(client);
  }
  await daemon.begun();
  await daemon.call("GET", "/healthz");
  const reached = daemon.store.holdCommit("claimed");
  await daemon.release();
  const letThrough = await reached;
  return { ...daemon, id: queued.id as string, path, clients, letThrough };
}

test("a long poll that claimed an offer, but was not answered, gives it back", async () => {
  const { clients, letThrough, ...daemon } = await pollingDaemon(1);
  await reset(clients[0] as (typeof clients)[0]);
  letThrough();
  await vi.waitFor(() => expect(daemon.reoffers()).toHaveLength(1));
  expect((await daemon.call("GET", `${daemon.path}?wait=1s`)).json.status).toBe("leased");
  expect(daemon.reoffers()).toHaveLength(1);
});

test("a client that polls anew before the end of its old connection is seen keeps what the new poll told", async () => {
  const { clients, letThrough, ...daemon } = await pollingDaemon(2);
  const [old, young] = clients as [(typeof clients)[0], (typeof clients)[0]];
  await reset(old);
  letThrough();
  expect(await young.ended).toContain('"status":"leased"');
  for (let time = 0; time < 3; time++) await daemon.call("GET", "/healthz");
  expect([daemon.statusOf(daemon.id), daemon.reoffers()]).toEqual(["leased", []]);
});

/** A daemon whose only grant was claimed by a poll of ann's, the answer to which is stuck. */
async function stuckDaemon() {
  const daemon = await waitingDaemon({
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => [apiKey("ann", "ann"), apiKey("root", "root", "admin")],
  });
  const { json: queued } = await daemon.allocate({}, ANN);
  const stuck = await daemon.connection();
  stuck.socket.pause();
  stuck.server.write(Buffer.alloc(32 * 2 ** 20, " "));
  stuck.socket.write(`GET /gpu/allocations/${queued.id}?wait=60s HTTP/1.1\r\n${HOST}X-API-Key: ann\r\n\r\n`);
  await daemon.begun();
  await daemon.release();
  await vi.waitFor(() => expect(daemon.statusOf(queued.id)).toBe("leased"));
  const read = (headers: Record<string, string>) => daemon.call("GET", `/gpu/allocations/${queued.id}`, { headers });
  return { ...daemon, id: queued.id as string, stuck, read };
}

test("so it does when the old answer is lost after the new one was written", async () => {
  const daemon = await stuckDaemon();
  expect((await daemon.read(ANN)).json.status).toBe("leased");
  await reset(daemon.stuck);
  for (let time = 0; time < 3; time++) await daemon.call("GET", "/healthz");
  expect([daemon.statusOf(daemon.id), daemon.reoffers()]).toEqual(["leased", []]);
});

test("that somebody else has seen the lease is nothing to its owner", async () => {
  const daemon = await stuckDaemon();
  expect((await daemon.read({ "X-API-Key": "root" })).json.status).toBe("leased");
  await reset(daemon.stuck);
  await vi.waitFor(() => expect(daemon.statusOf(daemon.id)).toBe("offered"));
});

test("when both polls of a client are lost, the grant is offered again, once", async () => {
  const { clients, letThrough, ...daemon } = await pollingDaemon(2);
  await Promise.all(clients.map(reset));
  letThrough();
  await vi.waitFor(() => expect(daemon.reoffers()).toHaveLength(1));
  for (let time = 0; time < 3; time++) await daemon.call("GET", "/healthz");
  expect([daemon.statusOf(daemon.id), daemon.reoffers().length]).toEqual(["offered", 1]);
});

test("losing the answer about a lease that was known before hangs nothing up", async () => {
  const daemon = await waitingDaemon();
  const client = await daemon.connection();
  // Behind a request that waits, the record's answer waits for its turn.
  client.socket.write(
    `${allocateRequest({}, "Prefer: wait=60\r\n")}GET /gpu/allocations/${daemon.held.id} HTTP/1.1\r\n${HOST}\r\n`,
  );
  await daemon.begun();
  await reset(client);
  for (let time = 0; time < 3; time++) await daemon.call("GET", "/healthz");
  expect([daemon.statusOf(daemon.held.id), daemon.reoffers()]).toEqual(["leased", []]);
});

test("while a hang-up is stored nobody is told of the lease, and who asks then claims it anew", async () => {
  const daemon = await slowDaemon();
  const granted = daemon.store.holdCommit("granted");
  const client = await daemon.connection();
  client.socket.write(allocateRequest());
  const letGrant = await granted;
  const hungUp = daemon.store.holdCommit("reoffered");
  await reset(client);
  letGrant();
  const letHangUp = await hungUp;
  const { id, status } = { ...daemon.only().request, status: daemon.only().status };
  expect(status).toBe("leased");
  const read = daemon.connect()("GET", `/gpu/allocations/${id}`);
  await daemon.call("GET", "/healthz");
  letHangUp();
  expect((await read).json.status).toBe("leased");
  expect(daemon.store.turns.flatMap(({ events }) => events.map(({ type }) => type)).slice(-2)).toEqual([
    "reoffered",
    "claimed",
  ]);
});

test("a renewal that claimed an offer, but was not answered, gives it back", async () => {
  const daemon = await waitingDaemon();
  const { json: queued } = await daemon.allocate();
  await daemon.release();
  expect(daemon.statusOf(queued.id)).toBe("offered");
  const reached = daemon.store.holdCommit("renewed");
  const client = await daemon.connection();
  client.socket.write(`POST /gpu/allocations/${queued.id}/renew HTTP/1.1\r\n${HOST}Content-Length: 0\r\n\r\n`);
  const letThrough = await reached;
  await reset(client);
  letThrough();
  await vi.waitFor(() => expect(daemon.reoffers()).toHaveLength(1));
});

test("a hang-up that cannot be stored leaves the lease, and is logged", async () => {
  const daemon = await slowDaemon();
  const reached = daemon.store.holdCommit("granted");
  const client = await daemon.connection();
  client.socket.write(allocateRequest());
  const letThrough = await reached;
  await reset(client);
  daemon.scheduler.observeWith({
    committed: () => {
      daemon.store.failing = true;
    },
  });
  letThrough();
  await vi.waitFor(() => expect(daemon.logged).toHaveLength(1));
  expect(daemon.logged).toMatchObject([{ level: "error", facts: { allocation_id: daemon.only().request.id } }]);
  expect(daemon.only().status).toBe("leased");
});
