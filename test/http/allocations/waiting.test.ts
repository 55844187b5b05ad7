import { once } from "node:events";
import type { Socket } from "node:net";
import { expect, onTestFinished, test, vi } from "vitest";
import { gpuReading } from "../../fixtures/readings.ts";
import { apiKey, type Given, SlowStore, startDaemon } from "../daemon.ts";
import { allocateRequest, answersIn, HOST, open } from "../peer.ts";

type Daemon = Awaited<ReturnType<typeof startDaemon>>;

/** A daemon whose only GPU is taken. */
async function fullDaemon(given: Given = {}) {
  const daemon = await startDaemon({ gpus: [gpuReading(0)], ...given });
  const { json: held } = await daemon.allocate();
  return { ...daemon, held, release: () => daemon.call("DELETE", `/gpu/allocations/${held.id}`) };
}

function queuedIds({ scheduler }: Pick<Daemon, "scheduler">): string[] {
  return [...scheduler.state.line.order.values()].map(({ allocation }) => allocation.request.id);
}

/** Until a request is queued whose client is known to wait; its id. */
async function waitBegun({ scheduler, clock }: Pick<Daemon, "scheduler" | "clock">): Promise<string> {
  return vi.waitFor(() => {
    const waiting = [...scheduler.state.line.order.values()].find(({ allocation: { request } }) => {
      const allocation = scheduler.state.allocations.get(request.id);
      return allocation?.status === "queued" && allocation.seenAt > clock.now();
    });
    if (waiting === undefined) throw new Error("nobody waits");
    return waiting.allocation.request.id;
  });
}

async function isAnswered(answer: Promise<unknown>): Promise<boolean> {
  const pending = {};
  const first = await Promise.race([answer, new Promise((resolve) => setTimeout(() => resolve(pending), 30))]);
  return first !== pending;
}

test("a request that prefers to wait is answered 200 when it is granted meanwhile", async () => {
  const daemon = await fullDaemon();
  const answer = daemon.connect()("POST", "/gpu/allocate", {
    body: { service_name: "patient", ttl: "1h" },
    headers: { prefer: "respond-async, wait=20" },
  });
  const id = await waitBegun(daemon);
  expect(await isAnswered(answer)).toBe(false);
  await daemon.release();
  const { status, headers, json } = await answer;
  expect([status, headers["preference-applied"]]).toEqual([200, "wait"]);
  expect(json).toMatchObject({ status: "allocated", id, allocation_id: id, gpu_ids: [0], ttl_seconds: 3600 });
  expect(json.fencing_token).toBeGreaterThan(daemon.held.fencing_token);
  // It was seen to have its grant: nothing is left to claim.
  expect(daemon.scheduler.state.allocations.get(id)?.status).toBe("leased");
});

test("one that is not granted in time is answered 202, with where to ask for it, and stays queued", async () => {
  const daemon = await fullDaemon();
  const answer = daemon.connect()("POST", "/gpu/allocate", {
    body: { service_name: "patient" },
    headers: { prefer: "wait=20" },
  });
  const id = await waitBegun(daemon);
  daemon.clock.advance(19_999);
  expect(await isAnswered(answer)).toBe(false);
  daemon.clock.advance(1);
  const { status, headers, json } = await answer;
  expect(status).toBe(202);
  expect(headers).toMatchObject({ "preference-applied": "wait", location: `/gpu/allocations/${id}` });
  expect(Number(headers["retry-after"])).toBeGreaterThan(0);
  expect(json).toMatchObject({ status: "queued", id, position: 1 });
  expect(queuedIds(daemon)).toEqual([id]);
});

test("no wait is longer than a minute", async () => {
  const daemon = await fullDaemon();
  const headers = { prefer: "wait=86400" };
  const answer = daemon.connect()("POST", "/gpu/allocate", { body: { service_name: "patient" }, headers });
  await waitBegun(daemon);
  daemon.clock.advance(60_000);
  expect((await answer).status).toBe(202);
});

test("a request that is cancelled or times out while its client waits is 409, not a grant", async () => {
  const daemon = await fullDaemon();
  const ask = (body: object) =>
    daemon.connect()("POST", "/gpu/allocate", {
      body: { service_name: "patient", ...body },
      headers: { prefer: "wait=30" },
    });
  const cancelled = ask({});
  await daemon.call("DELETE", `/gpu/allocations/${await waitBegun(daemon)}`);
  expect((await cancelled).json).toMatchObject({ status: 409, code: "allocation-ended" });
  const late = ask({ queue_timeout: "5s" });
  await waitBegun(daemon);
  daemon.clock.advance(5_000);
  expect((await late).json).toMatchObject({ status: 409, code: "allocation-ended" });
});

test("without the preference, or granted at once, nothing is held; one that cannot be read is refused", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const { status, headers } = await daemon.allocate({}, { prefer: "wait=30" });
  expect([status, headers["preference-applied"]]).toEqual([200, undefined]);
  for (const prefer of ["", "respond-async", "wait=0"]) {
    const queued = await daemon.allocate({}, { prefer });
    expect([prefer, queued.status, queued.headers["preference-applied"]]).toEqual([prefer, 202, undefined]);
  }
  const { size } = daemon.scheduler.state.allocations;
  for (const prefer of ["wait", "wait=abc", "wait=-5", 'wait="', "wait=3; ("]) {
    expect((await daemon.allocate({}, { prefer })).json).toMatchObject({ status: 422, errors: [{ path: "Prefer" }] });
  }
  expect(daemon.scheduler.state.allocations.size).toBe(size);
});

test("a request that does not want to queue is refused at once, whatever it prefers", async () => {
  const daemon = await fullDaemon();
  const refused = await daemon.allocate({ queue: false }, { prefer: "wait=30" });
  expect(refused.json).toMatchObject({ status: 503, code: "no-gpu-free" });
  expect(queuedIds(daemon)).toEqual([]);
});

test("when the wait fails, the request is still queued, and its client learns its id", async () => {
  const daemon = await fullDaemon();
  const headers = { prefer: "wait=30" };
  const answer = daemon.connect()("POST", "/gpu/allocate", { body: { service_name: "patient" }, headers });
  const id = await waitBegun(daemon);
  daemon.scheduler.observeWith({
    committed: ({ events }) => {
      // The grant is stored; that its client has it no longer can be.
      if (events.some(({ type }) => type === "granted")) daemon.store.failing = true;
    },
  });
  await daemon.release();
  expect(await answer).toMatchObject({ status: 202, json: { id, status: "queued" } });
  daemon.store.failing = false;
  expect((await daemon.call("GET", `/gpu/allocations/${id}`)).json.status).toBe("leased");
});

test("a long poll is answered when its request is granted, which claims the grant", async () => {
  const daemon = await fullDaemon();
  const { json: queued } = await daemon.allocate();
  const path = `/gpu/allocations/${queued.id}`;
  const answer = daemon.connect()("GET", `${path}?wait=30s`);
  await waitBegun(daemon);
  expect(await isAnswered(answer)).toBe(false);
  await daemon.release();
  const { status, json } = await answer;
  expect(status).toBe(200);
  expect(json).toMatchObject({ id: queued.id, status: "leased", gpu_ids: [0] });
  expect(json).not.toHaveProperty("claim_by");
});

test("a long poll is answered when its request ends, and after its time with the record as it then is", async () => {
  const daemon = await fullDaemon();
  const { json: first } = await daemon.allocate();
  const ended = daemon.connect()("GET", `/gpu/allocations/${first.id}?wait=30`);
  await waitBegun(daemon);
  await daemon.call("DELETE", `/gpu/allocations/${first.id}`);
  expect((await ended).json).toMatchObject({ status: "ended", end_reason: "cancelled" });

  const { json: second } = await daemon.allocate();
  const late = daemon.connect()("GET", `/gpu/allocations/${second.id}?wait=1.5`);
  await waitBegun(daemon);
  daemon.clock.advance(1_499);
  expect(await isAnswered(late)).toBe(false);
  daemon.clock.advance(1);
  expect(await late).toMatchObject({ status: 200, json: { status: "queued", position: 1 } });
});

test("what is not queued is answered at once: leased, ended, and an offer, which is claimed", async () => {
  const daemon = await fullDaemon();
  const { json: next } = await daemon.allocate();
  const poll = async (id: string) => (await daemon.call("GET", `/gpu/allocations/${id}?wait=60s`)).json.status;
  expect(await poll(daemon.held.id)).toBe("leased");
  await daemon.release();
  expect(await poll(daemon.held.id)).toBe("ended");
  expect(daemon.scheduler.state.allocations.get(next.id)?.status).toBe("offered");
  expect(await poll(next.id)).toBe("leased");
  expect((await daemon.call("GET", "/gpu/allocations/none?wait=60s")).status).toBe(404);
});

test("a wait of no length, too long, malformed or given twice is 422, and so is what nobody knows", async () => {
  const daemon = await fullDaemon();
  const path = `/gpu/allocations/${daemon.held.id}`;
  for (const wait of ["", "0", "0s", "-1", "abc", "61s", "1m1s", "60.001", "0.0001", "1e1", "30 s", "Infinity", "1h"]) {
    const { json } = await daemon.call("GET", `${path}?wait=${encodeURIComponent(wait)}`);
    expect([wait, json.status, json.errors?.[0]?.path]).toEqual([wait, 422, "wait"]);
  }
  expect((await daemon.call("GET", `${path}?wait=1&wait=2`)).status).toBe(422);
  expect((await daemon.call("GET", `${path}?weight=1`)).json.errors[0].path).toBe("weight");
  for (const wait of ["60s", "1m", "60", "0.5", "250ms", "1s500ms"]) {
    expect([wait, (await daemon.call("GET", `${path}?wait=${wait}`)).status]).toEqual([wait, 200]);
  }
});

test("while its client waits a request lives on, and is abandoned only so long after the client has gone", async () => {
  const daemon = await fullDaemon();
  const { json: queued } = await daemon.allocate();
  const status = () => daemon.scheduler.state.allocations.get(queued.id)?.status ?? "ended";
  const accepted = once(daemon.server, "connection");
  const client = await open(daemon.port);
  const [server] = (await accepted) as [Socket];
  client.socket.write(`GET /gpu/allocations/${queued.id}?wait=60s HTTP/1.1\r\n${HOST}\r\n`);
  await waitBegun(daemon);
  // Longer than the 30 s after which a silent client is given up.
  daemon.clock.advance(45_000);
  const gone = once(server, "close");
  client.socket.destroy();
  await gone;
  await vi.waitFor(() => expect(queuedSince(daemon, queued.id)).toBe(daemon.clock.now()));
  daemon.clock.advance(29_999);
  await daemon.call("GET", "/healthz");
  expect(status()).toBe("queued");
  daemon.clock.advance(1);
  await vi.waitFor(() => expect(status()).toBe("ended"));
  expect(daemon.store.findEnded(queued.id)?.outcome.reason).toBe("abandoned");
});

test("a client that only closes its sending side has gone too", async () => {
  const daemon = await fullDaemon();
  const client = await open(daemon.port);
  client.socket.write(allocateRequest({}, "Prefer: wait=60\r\n"));
  const id = await waitBegun(daemon);
  client.socket.end();
  expect(await client.ended).toBe("");
  await vi.waitFor(() => expect(queuedSince(daemon, id)).toBe(daemon.clock.now()));
});

function queuedSince({ scheduler }: Pick<Daemon, "scheduler">, id: string): number | null {
  const allocation = scheduler.state.allocations.get(id);
  return allocation?.status === "queued" ? allocation.seenAt : null;
}

test("a grant in the very turn in which the wait begins is not missed", async () => {
  const store = new SlowStore();
  const daemon = await fullDaemon({ store });
  const { json: queued } = await daemon.allocate();
  // While this commit is held, what comes is kept for one turn.
  const reached = store.holdCommit("submitted");
  const other = daemon.connect()("POST", "/gpu/allocate", { body: { service_name: "other", priority: 1 } });
  const letThrough = await reached;
  const asked = once(daemon.server, "request");
  const answer = daemon.connect()("GET", `/gpu/allocations/${queued.id}?wait=60s`);
  await asked;
  const released = daemon.connect()("DELETE", `/gpu/allocations/${daemon.held.id}`);
  await once(daemon.server, "request");
  letThrough();
  await Promise.all([other, released]);
  expect((await answer).json.status).toBe("leased");
});

test("a glance at a request, or its renewal, does not shorten the life of one whose client waits", async () => {
  const daemon = await fullDaemon();
  const { json: queued } = await daemon.allocate();
  const path = `/gpu/allocations/${queued.id}`;
  const answer = daemon.connect()("GET", `${path}?wait=60s`);
  await waitBegun(daemon);
  daemon.clock.advance(1_000);
  expect((await daemon.call("GET", path)).json.status).toBe("queued");
  expect((await daemon.call("POST", `${path}/renew`)).json.status).toBe("queued");
  daemon.clock.advance(58_000);
  expect(await isAnswered(answer)).toBe(false);
  daemon.clock.advance(1_000);
  expect((await answer).json.status).toBe("queued");
});

test("a client that waits anew, on a new connection, is alive when its old one ends", async () => {
  const daemon = await fullDaemon();
  const { json: queued } = await daemon.allocate();
  const path = `/gpu/allocations/${queued.id}`;
  const accepted = once(daemon.server, "connection");
  const old = await open(daemon.port);
  const [server] = (await accepted) as [Socket];
  old.socket.write(`GET ${path}?wait=60s HTTP/1.1\r\n${HOST}\r\n`);
  await waitBegun(daemon);
  const answer = daemon.connect()("GET", `${path}?wait=60s`);
  await daemon.call("GET", "/healthz");
  const gone = once(server, "close");
  old.socket.destroy();
  await gone;
  for (let time = 0; time < 3; time++) await daemon.call("GET", "/healthz");
  daemon.clock.advance(59_000);
  expect(await isAnswered(answer)).toBe(false);
  daemon.clock.advance(1_000);
  expect((await answer).json.status).toBe("queued");
});

test("a client that asks to wait and goes at once is not kept alive for the time it asked for", async () => {
  const store = new SlowStore();
  const daemon = await fullDaemon({ store });
  const { json: queued } = await daemon.allocate();
  const reached = store.holdCommit("submitted");
  const other = daemon.connect()("POST", "/gpu/allocate", { body: { service_name: "other" } });
  const letThrough = await reached;
  const accepted = once(daemon.server, "connection");
  const client = await open(daemon.port);
  const [server] = (await accepted) as [Socket];
  client.socket.write(`GET /gpu/allocations/${queued.id}?wait=60s HTTP/1.1\r\n${HOST}\r\n`);
  await once(daemon.server, "request");
  const gone = once(server, "close");
  client.socket.destroy();
  await gone;
  letThrough();
  await other;
  for (let time = 0; time < 3; time++) await daemon.call("GET", "/healthz");
  daemon.clock.advance(30_000);
  await vi.waitFor(() => expect(store.findEnded(queued.id)?.outcome.reason).toBe("abandoned"));
});

const KEYS = [apiKey("ann", "ann"), apiKey("bob", "bob", "read"), apiKey("root", "root", "admin")];
const as = (name: string) => ({ headers: { "x-api-key": name } });

test("who does not own a request may wait for it, but neither claims it nor keeps it alive, admins included", async () => {
  const daemon = await startDaemon({
    gpus: [gpuReading(0)],
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => KEYS,
  });
  const { json: held } = await daemon.allocate({}, as("ann").headers);
  const { json: queued } = await daemon.allocate({}, as("ann").headers);
  const path = `/gpu/allocations/${queued.id}`;
  const askedAt = daemon.clock.now();
  const asRead = once(daemon.server, "request");
  const bob = daemon.connect()("GET", `${path}?wait=60s`, as("bob"));
  await asRead;
  const asAdmin = once(daemon.server, "request");
  const root = daemon.connect()("GET", `${path}?wait=60s`, as("root"));
  await asAdmin;
  await daemon.call("GET", "/healthz");
  expect(queuedSince(daemon, queued.id)).toBe(askedAt);

  await daemon.call("DELETE", `/gpu/allocations/${held.id}`, as("ann"));
  for (const answer of [bob, root]) expect((await answer).json).toMatchObject({ status: "offered", id: queued.id });
  expect((await bob).json).not.toHaveProperty("workload_data");
  expect(daemon.scheduler.state.allocations.get(queued.id)?.status).toBe("offered");
  // An offer is nothing to wait for, and seeing it claims nothing.
  expect((await daemon.call("GET", `${path}?wait=60s`, as("root"))).json.status).toBe("offered");
  expect(daemon.scheduler.state.allocations.get(queued.id)?.status).toBe("offered");
});

test("a request for which only others wait is abandoned", async () => {
  const daemon = await startDaemon({
    gpus: [gpuReading(0)],
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => KEYS,
  });
  await daemon.allocate({}, as("ann").headers);
  const { json: queued } = await daemon.allocate({}, as("ann").headers);
  const asked = once(daemon.server, "request");
  const answer = daemon.connect()("GET", `/gpu/allocations/${queued.id}?wait=60s`, as("root"));
  await asked;
  await daemon.call("GET", "/healthz");
  daemon.clock.advance(30_000);
  expect((await answer).json).toMatchObject({ status: "ended", end_reason: "abandoned" });
});

test("no timeout of a connection cuts a wait", async () => {
  const settings = { readTimeoutMs: 60, writeTimeoutMs: 60, idleTimeoutMs: 60 };
  const daemon = await fullDaemon({ settings });
  const client = await open(daemon.port);
  const behind = `GET /healthz HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`;
  client.socket.write(allocateRequest({}, "Prefer: wait=60\r\n") + behind);
  await waitBegun(daemon);
  // Real time: these timeouts are node's and the server's own.
  await new Promise((resolve) => setTimeout(resolve, 400));
  expect(queuedIds(daemon)).toHaveLength(1);
  daemon.clock.advance(60_000);
  expect(answersIn(await client.ended)).toEqual([
    [202, null],
    [200, null],
  ]);
});

test("when draining begins, whoever waits is answered at once with what there is, and nobody waits any more", async () => {
  const daemon = await fullDaemon();
  const { json: queued } = await daemon.allocate();
  const one = await open(daemon.port);
  one.socket.write(allocateRequest({ service_name: "patient" }, "Prefer: wait=60\r\n"));
  const two = await open(daemon.port);
  two.socket.write(`GET /gpu/allocations/${queued.id}?wait=60s HTTP/1.1\r\n${HOST}\r\n`);
  const busy = await open(daemon.port);
  busy.socket.write(allocateRequest({ service_name: "late" }, "Prefer: wait=60\r\n").slice(0, -5));
  await vi.waitFor(() => {
    const waiting = queuedIds(daemon).filter((id) => (queuedSince(daemon, id) ?? 0) > daemon.clock.now());
    expect(waiting).toHaveLength(2);
  });
  const startedAt = performance.now();
  const drained = daemon.drain();
  const [first, second] = [await one.ended, await two.ended];
  expect(answersIn(first)).toEqual([[202, null]]);
  expect(first).toMatch(/connection: close/i);
  expect(answersIn(second)).toEqual([[200, null]]);
  expect(second).toContain('"status":"queued"');
  // A request that was on its way when draining began is served too, without its wait.
  busy.socket.write(allocateRequest({ service_name: "late" }).slice(-5));
  const third = await busy.ended;
  expect(answersIn(third)).toEqual([[202, null]]);
  expect(third).not.toMatch(/preference-applied/i);
  for (const { socket } of [one, two, busy]) socket.destroy();
  await drained;
  // The limit is 5 s.
  expect(performance.now() - startedAt).toBeLessThan(2_500);
});

test("of the requests on one connection one waits, and those pipelined behind it do not", async () => {
  const daemon = await fullDaemon();
  const { json: queued } = await daemon.allocate();
  const client = await open(daemon.port);
  const poll = `GET /gpu/allocations/${queued.id}?wait=60s HTTP/1.1\r\n${HOST}`;
  client.socket.write(`${poll}\r\n${poll}\r\n${allocateRequest({}, "Prefer: wait=60\r\nConnection: close\r\n")}`);
  await vi.waitFor(() => expect(queuedIds(daemon)).toHaveLength(2));
  await daemon.release();
  const text = await client.ended;
  expect(answersIn(text)).toEqual([
    [200, null],
    [200, null],
    [202, null],
  ]);
  // The first saw the grant; the second had been read before it.
  expect(text.match(/"status":"\w+"/g)).toEqual(['"status":"leased"', '"status":"queued"', '"status":"queued"']);
  expect(text).not.toMatch(/preference-applied/i);
});

test("rubbish behind a request that waits ends its wait", async () => {
  const daemon = await fullDaemon();
  const hasty = await open(daemon.port);
  hasty.socket.write(`${allocateRequest({}, "Prefer: wait=60\r\n")}rubbish\r\n\r\n`);
  expect(answersIn(await hasty.ended)).toEqual([[202, null]]);
  const client = await open(daemon.port);
  client.socket.write(allocateRequest({}, "Prefer: wait=60\r\n"));
  await waitBegun(daemon);
  client.socket.write("rubbish\r\n\r\n");
  expect(answersIn(await client.ended)).toEqual([[202, null]]);
});

test("a wait leaves nothing behind on its connection", async () => {
  const daemon = await fullDaemon();
  const { json: queued } = await daemon.allocate();
  const call = daemon.connect();
  const accepted: Socket[] = [];
  const note = (socket: Socket) => accepted.push(socket);
  daemon.server.on("connection", note);
  onTestFinished(() => void daemon.server.off("connection", note));
  const listeners: number[] = [];
  for (let time = 0; time < 20; time++) {
    const answer = call("GET", `/gpu/allocations/${queued.id}?wait=1s`);
    await waitBegun(daemon);
    daemon.clock.advance(1_000);
    expect((await answer).json.status).toBe("queued");
    const [socket] = accepted;
    listeners.push(socket?.eventNames().reduce((sum, name) => sum + socket.listenerCount(name), 0) ?? -1);
  }
  expect(accepted).toHaveLength(1);
  expect(new Set(listeners).size).toBe(1);
});
