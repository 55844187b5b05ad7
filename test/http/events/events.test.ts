/** `GET /gpu/events` over real sockets. */
import { once } from "node:events";
import type { Socket } from "node:net";
import { expect, onTestFinished, test, vi } from "vitest";
import type { Event } from "../../../src/core/host/events.ts";
import type { JournalEntry } from "../../../src/ports/store.ts";
import { MemoryStore } from "../../fixtures/memory-store.ts";
import { gpuReading } from "../../fixtures/readings.ts";
import { START, turn } from "../../store/turns.ts";
import { apiKey, startDaemon } from "../daemon.ts";
import { allocateRequest, answersIn, CLOSE, HOST, open } from "../peer.ts";
import { readEvents } from "./stream.ts";

type Daemon = Awaited<ReturnType<typeof startDaemon>>;

const upTo = (last: number, from = 1) => Array.from({ length: last - from + 1 }, (_, i) => from + i);
const freed = (n: number): Event => ({ type: "gpu-freed", uuid: `GPU-${n}`, at: START + n });
const lastSeqOf = ({ scheduler }: Pick<Daemon, "scheduler">) => scheduler.events.lastSeq;
const noReaderLeft = ({ scheduler }: Pick<Daemon, "scheduler">) =>
  vi.waitFor(() => expect(scheduler.events.readers).toBe(0), { timeout: 10_000 });

/** A journal of so many events. */
async function journalOf(count: number): Promise<MemoryStore> {
  const store = new MemoryStore();
  await store.commit(turn({ events: upTo(count).map(freed) }));
  return store;
}

/** Server sockets, in the order in which they were accepted. */
function accepted(daemon: Daemon): Socket[] {
  const sockets: Socket[] = [];
  daemon.server.on("connection", (socket) => sockets.push(socket));
  return sockets;
}

test("from 0 the stream replays what is kept, and goes on with what comes, each event with its number", async () => {
  const daemon = await startDaemon();
  const { json: lease } = await daemon.allocate({ ttl: "1h" });
  const reader = await readEvents(daemon.port, { lastEventId: 0 });
  expect(reader.status).toBe(200);
  expect(reader.headers).toMatchObject({ "content-type": "text/event-stream", "cache-control": "no-store" });
  expect(reader.headers).not.toHaveProperty("content-length");
  await reader.until(({ messages }) => messages.length === 5);
  expect(reader.types).toEqual(["resumed", "gpu-seen", "gpu-seen", "submitted", "granted"]);
  await daemon.call("DELETE", `/gpu/allocations/${lease.id}`);
  await reader.until(({ messages }) => messages.length === 6);
  expect(reader.ids).toEqual(upTo(6));
  expect(reader.retryMs).toBeGreaterThan(0);
  const at = new Date(daemon.clock.now()).toISOString();
  const subject = { at, id: lease.id, service_name: "trainer", principal: "anonymous" };
  expect(reader.messages.slice(3)).toEqual([
    {
      id: "4",
      event: "submitted",
      data: {
        ...subject,
        status: "queued",
        request_id: lease.id,
        workload_type: "generic",
        priority: 5,
        required_gpus: 1,
        min_memory_mb: 4096,
        max_utilization: 80,
        sharing: "exclusive",
        preemptible: false,
        ttl_seconds: 3600,
        max_duration_seconds: null,
        submitted_at: at,
        principal: "anonymous",
      },
    },
    {
      id: "5",
      event: "granted",
      data: {
        ...subject,
        status: "leased",
        gpu_ids: lease.gpu_ids,
        gpu_uuids: lease.gpu_uuids,
        allocated_at: lease.allocated_at,
        expires_at: lease.expires_at,
        claim_by: null,
      },
    },
    {
      id: "6",
      event: "ended",
      data: {
        ...subject,
        status: "ended",
        ended_at: at,
        end_reason: "released",
        end_detail: null,
        reclaiming_gpu_uuids: [],
      },
    },
  ]);
});

test("a stream begins after the number in the header, or in the query, which the header overrides", async () => {
  const daemon = await startDaemon({ store: await journalOf(10) });
  const last = lastSeqOf(daemon);
  const tries: [Parameters<typeof readEvents>[1], number][] = [
    [{ lastEventId: 7 }, 8],
    [{ query: "?last_event_id=7" }, 8],
    [{ query: "?last_event_id=0" }, 1],
    [{ query: "?last_event_id=2", lastEventId: 7 }, 8],
    // A client that has seen no event yet.
    [{ query: "?last_event_id=2", lastEventId: "" }, 3],
    [{ lastEventId: "0007" }, 8],
  ];
  for (const [ask, from] of tries) {
    const reader = await readEvents(daemon.port, ask);
    await reader.until(({ lastId }) => lastId === String(last));
    expect([ask, reader.ids]).toEqual([ask, upTo(last, from)]);
  }
});

test("without a number it begins with what comes, and its reader knows at once where that is", async () => {
  const daemon = await startDaemon({ store: await journalOf(10) });
  const reader = await readEvents(daemon.port);
  await reader.until(({ lastId }) => lastId === String(lastSeqOf(daemon)));
  expect(reader.messages).toEqual([]);
  // Cut off before anything came, it would come back with this number, and miss nothing.
  const again = { lastEventId: reader.lastId };
  reader.close();
  await noReaderLeft(daemon);
  await daemon.allocate();
  const second = await readEvents(daemon.port, again);
  await second.until(({ messages }) => messages.length === 2);
  expect(second.types).toEqual(["submitted", "granted"]);
});

test("a number that is none is 422, with where it stands; what nobody knows is too", async () => {
  const daemon = await startDaemon();
  for (const id of ["-1", "1.5", "abc", "1e3", "1 2", "0x1", "9007199254740993", "1, 2", "99999999999999999999"]) {
    const byHeader = await daemon.call("GET", "/gpu/events", { headers: { "Last-Event-ID": id } });
    expect([id, byHeader.json.status, byHeader.json.errors?.[0]?.path]).toEqual([id, 422, "Last-Event-ID"]);
    const byQuery = await daemon.call("GET", `/gpu/events?last_event_id=${encodeURIComponent(id)}`);
    expect([id, byQuery.json.status, byQuery.json.errors?.[0]?.path]).toEqual([id, 422, "last_event_id"]);
  }
  expect((await daemon.call("GET", "/gpu/events?last_event_id=")).status).toBe(422);
  expect((await daemon.call("GET", "/gpu/events?last_event_id=1&last_event_id=2")).status).toBe(422);
  expect((await daemon.call("GET", "/gpu/events?since=1")).json.errors[0].path).toBe("since");
  expect(daemon.scheduler.events.readers).toBe(0);
});

test("one whose next events are pruned, or who has some that never were, is told by a reset first", async () => {
  const store = await journalOf(50);
  store.trim(20);
  const daemon = await startDaemon({ store });
  const last = lastSeqOf(daemon);
  const late = await readEvents(daemon.port, { lastEventId: 3 });
  await late.until(({ lastId }) => lastId === String(last));
  expect(late.messages[0]).toEqual({
    id: "20",
    event: "reset",
    data: { reason: "trimmed", detail: expect.stringContaining("not kept"), oldest_id: 21, last_id: last },
  });
  expect(late.ids.slice(1)).toEqual(upTo(last, 21));
  const ahead = await readEvents(daemon.port, { lastEventId: last + 1 });
  await ahead.until(({ messages }) => messages.length === 1);
  await daemon.allocate();
  await ahead.until(({ messages }) => messages.length === 3);
  expect(ahead.messages[0]).toMatchObject({ id: String(last), event: "reset" });
  expect(ahead.messages[0]?.data).toMatchObject({ reason: "ahead", oldest_id: 21, last_id: last });
  expect(ahead.types.slice(1)).toEqual(["submitted", "granted"]);
  for (const lastEventId of [0, 20, last]) {
    const reader = await readEvents(daemon.port, { lastEventId });
    await reader.until(({ lastId }) => lastId === String(lastSeqOf(daemon)));
    expect(reader.types).not.toContain("reset");
  }
});

test("clients that join while others allocate have every event after their number once, in order", async () => {
  const daemon = await startDaemon({ gpus: upTo(4).map((n) => gpuReading(n)) });
  let isOver = false;
  const busy = upTo(8).map(async () => {
    const call = daemon.connect();
    while (!isOver) {
      const { json } = await call("POST", "/gpu/allocate", { body: { service_name: "trainer" } });
      await call("DELETE", `/gpu/allocations/${json.id}`);
    }
  });
  const readers = [];
  for (let i = 0; i < 30; i++) {
    const from = [0, Math.floor(lastSeqOf(daemon) / 2), lastSeqOf(daemon)][i % 3] as number;
    readers.push({ from, reader: await readEvents(daemon.port, { lastEventId: from }) });
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  isOver = true;
  await Promise.all(busy);
  const last = lastSeqOf(daemon);
  const types = daemon.store.readEvents(0, last).map(({ event }) => event.type);
  expect(last).toBeGreaterThan(500);
  for (const { from, reader } of readers) {
    await reader.until(({ lastId }) => lastId === String(last));
    expect(reader.ids).toEqual(upTo(last, from + 1));
    expect(reader.types).toEqual(types.slice(from));
  }
});

test("a silent stream shows every 15 s that it lives", async () => {
  const daemon = await startDaemon();
  const reader = await readEvents(daemon.port);
  await reader.until(({ lastId }) => lastId !== "");
  for (let time = 1; time <= 3; time++) {
    daemon.clock.advance(14_000);
    await daemon.call("GET", "/healthz");
    expect(reader.comments).toHaveLength(time - 1);
    daemon.clock.advance(1_000);
    await reader.until(({ comments }) => comments.length === time);
  }
  expect(reader.messages).toEqual([]);
});

test("no timeout of a connection ends a stream", async () => {
  const settings = { readTimeoutMs: 60, writeTimeoutMs: 60, idleTimeoutMs: 60 };
  const daemon = await startDaemon({ settings });
  const reader = await readEvents(daemon.port);
  await reader.until(({ lastId }) => lastId !== "");
  // Real time: these timeouts are node's and the server's own.
  await new Promise((resolve) => setTimeout(resolve, 400));
  await daemon.allocate();
  await reader.until(({ messages }) => messages.length === 2);
});

/** A journal without end, for a reader to be flooded with. */
class EndlessStore extends MemoryStore {
  static readonly lastSeq = 10_000_000;
  pages = 0;

  override load() {
    return { ...super.load(), lastSeq: EndlessStore.lastSeq };
  }

  override readEvents(afterSeq: number, limit: number): readonly JournalEntry[] {
    this.pages++;
    return upTo(Math.min(afterSeq + limit, EndlessStore.lastSeq), afterSeq + 1).map((seq) => ({
      seq,
      at: START,
      event: { type: "gpu-quarantined", uuid: `GPU-${seq}`, at: START, reason: "x".repeat(200) },
    }));
  }
}

test("who does not read is dropped after a while, has cost no more than a page, and others never notice", async () => {
  const store = new EndlessStore();
  const daemon = await startDaemon({ store, settings: { streamStallMs: 500 } });
  const sockets = accepted(daemon);
  const slow = await open(daemon.port);
  slow.socket.pause();
  slow.socket.write(`GET /gpu/events HTTP/1.1\r\n${HOST}Last-Event-ID: 0\r\n\r\n`);
  await vi.waitFor(() => expect(sockets).toHaveLength(1));
  const [held] = sockets as [Socket];
  const closed = once(held, "close");
  const other = await readEvents(daemon.port);
  let most = 0;
  let pages = -1;
  // Until nothing more is read for it: what the system buffers is full.
  while (pages !== store.pages) {
    pages = store.pages;
    await new Promise((resolve) => setTimeout(resolve, 100));
    most = Math.max(most, held.writableLength);
  }
  const startedAt = performance.now();
  const written = held.bytesWritten;
  expect(most).toBeGreaterThan(0);
  expect(most).toBeLessThan(256 * 1_024);
  await closed;
  expect(performance.now() - startedAt).toBeLessThan(10_000);
  expect(held.bytesWritten - written).toBeLessThan(256 * 1_024);
  await vi.waitFor(() => expect(daemon.scheduler.events.readers).toBe(1));
  expect(daemon.logged).toMatchObject([{ level: "warn", facts: { url: "/gpu/events" } }]);
  await daemon.allocate();
  await other.until(({ messages }) => messages.length === 2);
  console.info("a reader that does not read:", { written, most, pages });
});

test("who reads slowly, but does read, is not dropped and misses nothing", async () => {
  const daemon = await startDaemon({ store: await journalOf(20_000), settings: { streamStallMs: 10_000 } });
  const sockets = accepted(daemon);
  const slow = await open(daemon.port);
  let text = "";
  slow.socket.on("data", (chunk) => {
    text += chunk;
    slow.socket.pause();
    setTimeout(() => slow.socket.resume(), 10);
  });
  slow.socket.write(`GET /gpu/events HTTP/1.0\r\n${HOST}Last-Event-ID: 0\r\n\r\n`);
  const last = `\nid: ${lastSeqOf(daemon)}\n`;
  await vi.waitFor(() => expect(text.includes(last)).toBe(true), { timeout: 30_000, interval: 50 });
  expect([...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id))).toEqual(upTo(lastSeqOf(daemon), 0));
  expect(sockets[0]?.destroyed).toBe(false);
});

test("when its client goes, nothing of a stream is left", async () => {
  const daemon = await startDaemon();
  const sockets = accepted(daemon);
  for (const leave of ["destroy", "end"] as const) {
    const client = await open(daemon.port);
    client.socket.write(`GET /gpu/events HTTP/1.1\r\n${HOST}\r\n`);
    await vi.waitFor(() => expect(daemon.scheduler.events.readers).toBe(1));
    // Not `once` of node:events: a reset is an end too.
    const gone = new Promise((resolve) => (sockets.at(-1) as Socket).once("close", resolve));
    client.socket[leave]();
    await gone;
    await noReaderLeft(daemon);
  }
  expect((await daemon.allocate()).status).toBe(200);
  expect(daemon.logged).toEqual([]);
});

test("streams beyond the limit are 503 and may come again when another has ended", async () => {
  const daemon = await startDaemon({ settings: { maxStreams: 2 } });
  const first = await readEvents(daemon.port);
  await readEvents(daemon.port);
  const refused = await daemon.call("GET", "/gpu/events");
  expect(refused.json).toMatchObject({ status: 503, code: "too-many-streams" });
  expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0);
  // What is no stream is not limited.
  expect((await daemon.call("HEAD", "/gpu/events")).status).toBe(200);
  first.close();
  await vi.waitFor(() => expect(daemon.scheduler.events.readers).toBe(1));
  expect((await readEvents(daemon.port)).status).toBe(200);
});

test("a HEAD is told what a GET would be, and is over", async () => {
  const daemon = await startDaemon();
  const client = await open(daemon.port);
  const head = `HEAD /gpu/events HTTP/1.1\r\n${HOST}`;
  client.socket.write(`${head}\r\n${head}Last-Event-ID: none\r\n\r\nGET /healthz HTTP/1.1\r\n${CLOSE}\r\n`);
  const text = await client.ended;
  expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 200", "HTTP/1.1 422", "HTTP/1.1 200"]);
  const [first = ""] = text.split("\r\n\r\n");
  expect(first).toMatch(/content-type: text\/event-stream/i);
  expect(first).not.toMatch(/content-length|transfer-encoding/i);
  const options = await daemon.call("OPTIONS", "/gpu/events");
  expect([options.status, options.headers.allow]).toEqual([204, "GET, HEAD, OPTIONS"]);
  expect((await daemon.call("POST", "/gpu/events", { body: {} })).json.code).toBe("method-not-allowed");
  expect(daemon.scheduler.events.readers).toBe(0);
});

test("a client of HTTP/1.0 gets the stream as it is, without chunks", async () => {
  const daemon = await startDaemon();
  const client = await open(daemon.port);
  let text = "";
  client.socket.on("data", (chunk) => {
    text += chunk;
  });
  client.socket.write(`GET /gpu/events HTTP/1.0\r\n${HOST}Last-Event-ID: 1\r\n\r\n`);
  await vi.waitFor(() => expect(text).toContain("id: 3\nevent: gpu-seen"));
  const [head = "", ...body] = text.split("\r\n\r\n");
  expect(head).toMatch(/^HTTP\/1\.1 200 /);
  expect(head).toMatch(/connection: close/i);
  expect(head).not.toMatch(/transfer-encoding/i);
  expect(body.join("")).toMatch(/^retry: \d+\nid: 1\n\nid: 2\nevent: gpu-seen\ndata: \{.*\}\n\nid: 3\n/);
});

test("when draining begins, streams end at once, whole, and no other begins", async () => {
  const daemon = await startDaemon({ store: new EndlessStore() });
  const idle = await readEvents(daemon.port);
  const stalled = await open(daemon.port);
  stalled.socket.pause();
  stalled.socket.write(`GET /gpu/events HTTP/1.1\r\n${HOST}Last-Event-ID: 0\r\n\r\n`);
  await vi.waitFor(() => expect(daemon.scheduler.events.readers).toBe(2));
  const busy = await open(daemon.port);
  busy.socket.write(allocateRequest().slice(0, -5));
  await daemon.call("GET", "/healthz");
  const startedAt = performance.now();
  const drained = daemon.drain();
  expect(await idle.ended).toBe(true);
  await noReaderLeft(daemon);
  const newcomer = await open(daemon.port);
  newcomer.socket.write(`GET /gpu/events HTTP/1.1\r\n${HOST}\r\n`);
  expect(answersIn(await newcomer.ended)).toEqual([[503, "shutting-down"]]);
  busy.socket.write(allocateRequest().slice(-5));
  expect(answersIn(await busy.ended)).toEqual([[200, null]]);
  for (const { socket } of [busy, newcomer]) socket.destroy();
  await drained;
  // The limit is 5 s, and one reader never read.
  expect(performance.now() - startedAt).toBeLessThan(2_500);
});

test("behind a stream nothing on its connection is served; behind a wait no stream begins", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)] });
  const stream = `GET /gpu/events HTTP/1.1\r\n${HOST}\r\n`;
  const first = await open(daemon.port);
  first.socket.write(stream + allocateRequest({ service_name: "behind" }) + stream);
  await vi.waitFor(() => expect(daemon.scheduler.events.readers).toBe(1));
  first.socket.write(allocateRequest({ service_name: "later" }));
  await daemon.call("GET", "/healthz");
  expect(daemon.scheduler.state.allocations.size).toBe(0);
  expect(daemon.scheduler.events.readers).toBe(1);

  await daemon.allocate();
  const { json: queued } = await daemon.allocate();
  const second = await open(daemon.port);
  const poll = `GET /gpu/allocations/${queued.id}?wait=20s HTTP/1.1\r\n${HOST}\r\n`;
  second.socket.write(`${poll}${stream}GET /healthz HTTP/1.1\r\n${CLOSE}\r\n`);
  await vi.waitFor(() => {
    const allocation = daemon.scheduler.state.allocations.get(queued.id);
    expect(allocation?.status === "queued" && allocation.seenAt > daemon.clock.now()).toBe(true);
  });
  daemon.clock.advance(20_000);
  expect(answersIn(await second.ended)).toEqual([
    [200, null],
    [503, "too-many-streams"],
    [200, null],
  ]);
  expect(daemon.scheduler.events.readers).toBe(1);
});

test("rubbish behind a stream ends it", async () => {
  const daemon = await startDaemon();
  const client = await open(daemon.port);
  client.socket.write(`GET /gpu/events HTTP/1.1\r\n${HOST}\r\n`);
  await vi.waitFor(() => expect(daemon.scheduler.events.readers).toBe(1));
  client.socket.write("rubbish\r\n\r\n");
  expect(await client.ended).toMatch(/\r\n0\r\n\r\n$/);
  await noReaderLeft(daemon);
});

const KEYS = [apiKey("ann", "ann"), apiKey("eye", "eye", "read"), apiKey("root", "root", "admin")];
const as = (name: string) => ({ "x-api-key": name });
const AUTH = { auth: { enabled: true, headerName: "X-API-Key" } };

test("it needs a key, of any role, and shows nobody's workload or webhook, and a principal to itself and admins", async () => {
  const daemon = await startDaemon({ gpus: [gpuReading(0)], settings: AUTH, keys: () => KEYS });
  expect((await daemon.call("GET", "/gpu/events")).json.code).toBe("unauthenticated");
  expect((await daemon.call("GET", "/gpu/events", { headers: as("nobody") })).status).toBe(401);
  const foreign = await daemon.call("GET", "/gpu/events", { headers: { ...as("eye"), origin: "http://evil.example" } });
  expect(foreign.json).toMatchObject({ status: 403, code: "foreign-origin" });
  const { json: host } = await daemon.call("GET", "/gpu/events", { headers: { host: "evil.example" } });
  expect(host).toMatchObject({ status: 403, code: "foreign-host" });

  const secrets = {
    service_name: "trainer",
    workload_data: { model: "secret-7b", token: "hunter2" },
    webhook_url: "https://hooks.example.com/token",
    ttl: "1h",
  };
  const readers = [];
  for (const { principal, role } of KEYS) {
    const reader = await readEvents(daemon.port, { lastEventId: 0, headers: as(principal) });
    readers.push({ reader, mayKnow: principal === "ann" || role === "admin" });
  }
  const { json: held } = await daemon.allocate(secrets, as("ann"));
  const { json: queued } = await daemon.allocate(secrets, as("ann"));
  await daemon.call("POST", `/gpu/allocations/${held.id}/renew`, { headers: as("ann") });
  const body = { message: "between us" };
  expect((await daemon.call("POST", `/gpu/allocations/${held.id}/nudge`, { body, headers: as("root") })).status).toBe(
    200,
  );
  await daemon.call("DELETE", `/gpu/allocations/${held.id}`, { headers: as("ann") });
  await daemon.call("GET", `/gpu/allocations/${queued.id}`, { headers: as("ann") });
  const late = await readEvents(daemon.port, { lastEventId: 0, headers: as("eye") });
  const lateOwner = await readEvents(daemon.port, { lastEventId: 0, headers: as("ann") });
  readers.push({ reader: late, mayKnow: false }, { reader: lateOwner, mayKnow: true });
  for (const { reader, mayKnow } of readers) {
    await reader.until(({ lastId }) => lastId === String(lastSeqOf(daemon)));
    expect(reader.types).toEqual(expect.arrayContaining(["submitted", "granted", "renewed", "ended", "claimed"]));
    expect(reader.text).toContain(queued.id);
    expect(reader.text).not.toMatch(/secret-7b|hunter2|hooks\.example/);
    // All of them but those of GPUs and of the host, told live or from the journal.
    const owned = reader.messages.filter(({ data }) => data.id !== undefined);
    expect(owned.length).toBeGreaterThan(5);
    for (const { data } of owned) expect(data.principal).toBe(mayKnow ? "ann" : undefined);
    expect(reader.text.includes('"ann"')).toBe(mayKnow);
    const { data: nudged } = reader.messages.find(({ event }) => event === "nudged") ?? { data: null };
    expect(nudged).toMatchObject(mayKnow ? { by: "root", message: "between us" } : { id: held.id });
    expect(reader.text.includes("between us")).toBe(mayKnow);
  }
});

test("a key that is withdrawn ends the streams that it opened, and no others", async () => {
  let keys = KEYS;
  const daemon = await startDaemon({ settings: AUTH, keys: () => keys });
  const ann = await readEvents(daemon.port, { headers: as("ann") });
  const eye = await readEvents(daemon.port, { headers: as("eye") });
  await vi.waitFor(() => expect(daemon.scheduler.events.readers).toBe(2));
  keys = KEYS.filter(({ principal }) => principal !== "eye");
  await daemon.allocate({}, as("ann"));
  await ann.until(({ messages }) => messages.length === 2);
  await eye.ended;
  expect(eye.messages).toEqual([]);
  expect(daemon.scheduler.events.readers).toBe(1);
});

test("a stream is counted when it begins, and its length is no figure of the requests'", async () => {
  const samples: unknown[] = [];
  const metrics = {
    render: async () => ({ contentType: "text/plain", body: "" }),
    observeRequest: (sample: object) => samples.push(sample),
    limitReached: () => undefined,
  };
  const daemon = await startDaemon({ metrics });
  const reader = await readEvents(daemon.port);
  const sample = { method: "GET", endpoint: "/gpu/events", status: 200, seconds: null };
  expect(samples).toEqual([sample]);
  reader.close();
  await noReaderLeft(daemon);
  await daemon.call("GET", "/gpu/events?last_event_id=x");
  expect(samples).toEqual([sample, { ...sample, status: 422, seconds: expect.any(Number) }]);
});

test("when the journal cannot be read the stream breaks off, for its client to come back, and it is said", async () => {
  const store = await journalOf(10);
  const daemon = await startDaemon({ store });
  store.readEvents = () => {
    throw new Error("disk I/O error");
  };
  const reader = await readEvents(daemon.port, { lastEventId: 0 });
  expect(await reader.ended).toBe(false);
  await noReaderLeft(daemon);
  expect(daemon.logged).toMatchObject([{ level: "error", facts: { url: "/gpu/events" } }]);
  expect(reader.text).not.toContain("disk");
});

test("a stream leaves nothing behind on what it waited for", async () => {
  const daemon = await startDaemon();
  const listen = vi.spyOn(AbortSignal.prototype, "addEventListener");
  const forget = vi.spyOn(AbortSignal.prototype, "removeEventListener");
  onTestFinished(() => void vi.restoreAllMocks());
  const reader = await readEvents(daemon.port);
  for (let time = 1; time <= 10; time++) {
    daemon.clock.advance(15_000);
    await reader.until(({ comments }) => comments.length === time);
  }
  reader.close();
  await noReaderLeft(daemon);
  expect(forget.mock.calls.length).toBe(listen.mock.calls.length);
});
