import { once } from "node:events";
import type { Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { startDaemon } from "../daemon.ts";
import { answersIn, CLOSE, exchange, HOST, open } from "../peer.ts";

test("rubbish is answered with a problem document and never troubles anybody else", async () => {
  const daemon = await startDaemon();
  const json = "Content-Type: application/json\r\n";
  const tries: [string, number, string | null][] = [
    ["rubbish\r\n\r\n", 400, "malformed-request"],
    ["\u0000\u0001\u0002\u0003\r\n\r\n", 400, "malformed-request"],
    ["BREW /gpu/status HTTP/1.1\r\n\r\n", 400, "malformed-request"],
    ["GET /gpu/status HTTP/9.9\r\n\r\n", 400, "malformed-request"],
    ["\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\r\n\r\n", 400, "malformed-request"],
    [`GET /gpu/status HTTP/1.1\r\n${HOST}Bad Header: 1\r\n\r\n`, 400, "malformed-request"],
    ["GET /gpu/status HTTP/1.1\r\nConnection: close\r\n\r\n", 400, "malformed-request"],
    [`GET /gpu/status HTTP/1.1\r\n${CLOSE}Host: evil.example\r\n\r\n`, 400, "malformed-request"],
    [`GET /gpu/status HTTP/1.1\r\n${HOST}X: ${"y".repeat(20_000)}\r\n\r\n`, 431, "headers-too-large"],
    [`GET /${"y".repeat(20_000)} HTTP/1.1\r\n${HOST}\r\n`, 431, "headers-too-large"],
    [
      `POST /gpu/allocate HTTP/1.1\r\n${CLOSE}${json}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`,
      400,
      "malformed-request",
    ],
    [`POST /gpu/allocate HTTP/1.1\r\n${CLOSE}${json}Content-Length: -2\r\n\r\n{}`, 400, "malformed-request"],
    [
      `POST /gpu/allocate HTTP/1.1\r\n${CLOSE}${json}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      400,
      "malformed-request",
    ],
    [
      `POST /gpu/allocate HTTP/1.1\r\n${CLOSE}${json}Transfer-Encoding: chunked\r\n\r\nzz\r\n`,
      400,
      "malformed-request",
    ],
    [`POST /gpu/allocate HTTP/1.1\r\n${CLOSE}${json}Content-Length: 99999999999\r\n\r\n`, 413, "body-too-large"],
    [`PATCH /gpu/status HTTP/1.1\r\n${CLOSE}\r\n`, 405, "method-not-allowed"],
    [`PROPFIND /gpu/status HTTP/1.1\r\n${CLOSE}\r\n`, 405, "method-not-allowed"],
    [`GET http://127.0.0.1/gpu/status HTTP/1.1\r\n${CLOSE}\r\n`, 200, null],
    [`GET http://evil.example/gpu/status HTTP/1.1\r\n${CLOSE}\r\n`, 403, "foreign-host"],
    ["GET /gpu/status HTTP/1.0\r\n\r\n", 200, null],
    [`GET /gpu/status HTTP/1.1\r\n${CLOSE}Expect: miracles\r\n\r\n`, 200, null],
    [`GET /gpu/status HTTP/1.1\r\n${CLOSE}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n`, 200, null],
    [`OPTIONS * HTTP/1.1\r\n${CLOSE}\r\n`, 404, "not-found"],
  ];
  for (const [bytes, status, code] of tries) {
    const text = await exchange(daemon.port, bytes);
    expect([bytes.slice(0, 200), answersIn(text)]).toEqual([bytes.slice(0, 200), [[status, code]]]);
  }
  expect((await daemon.call("GET", "/gpu/status")).status).toBe(200);
  expect(daemon.logged).toEqual([]);
  expect(daemon.scheduler.state.allocations.size).toBe(0);
});

test("a CONNECT is not served", async () => {
  const daemon = await startDaemon();
  expect(await exchange(daemon.port, "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n")).toBe("");
});

test("pipelined requests are answered in order, and rubbish behind them takes none of their answers", async () => {
  const daemon = await startDaemon();
  const get = (path: string) => `GET ${path} HTTP/1.1\r\n${HOST}\r\n`;
  const body = '{"service_name":"piped"}';
  const post = `POST /gpu/allocate HTTP/1.1\r\n${HOST}Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const last = `GET /nowhere HTTP/1.1\r\n${CLOSE}\r\n`;
  const text = await exchange(daemon.port, post + get("/gpu/status") + get("/healthz") + last);
  expect(answersIn(text)).toEqual([
    [200, null],
    [200, null],
    [200, null],
    [404, "not-found"],
  ]);
  expect(answersIn(await exchange(daemon.port, `${post}rubbish\r\n\r\n`))).toEqual([[200, null]]);
});

test("a client that hangs up in the middle of a body is no error", async () => {
  const daemon = await startDaemon();
  const { socket } = await open(daemon.port);
  socket.write(
    `POST /gpu/allocate HTTP/1.1\r\n${HOST}Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"serv`,
  );
  await new Promise((resolve) => setTimeout(resolve, 20));
  socket.destroy();
  expect((await daemon.call("GET", "/healthz")).status).toBe(200);
  expect(daemon.logged).toEqual([]);
});

test("slow requests are cut by the read timeout, while others are served at once", async () => {
  const daemon = await startDaemon({ settings: { readTimeoutMs: 400 } });
  const head = `POST /gpu/allocate HTTP/1.1\r\n${HOST}Content-Type: application/json\r\nContent-Length: 500\r\n\r\n`;
  const drip = async (bytes: string) => {
    const { socket, ended } = await open(daemon.port);
    let at = 0;
    const timer = setInterval(() => socket.writable && socket.write(bytes[at++] ?? "x"), 40);
    onTestFinished(() => clearInterval(timer));
    return ended.finally(() => clearInterval(timer));
  };
  const startedAt = performance.now();
  const slow = Promise.all(
    Array.from({ length: 50 }, async (_, i) => {
      if (i % 3 === 0) return drip(`GET /gpu/status HTTP/1.1\r\n${HOST}${"X-Slow: 1\r\n".repeat(100)}`);
      const { socket, ended } = await open(daemon.port);
      if (i % 3 === 1) socket.write(head);
      return ended;
    }),
  );
  let served = 0;
  let slowest = 0;
  let isOver = false;
  slow.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    const at = performance.now();
    expect((await daemon.call("GET", "/gpu/status")).status).toBe(200);
    slowest = Math.max(slowest, performance.now() - at);
    served++;
  }
  for (const text of await slow) expect(answersIn(text)).toEqual([[408, "request-timeout"]]);
  // The timeout, the checking interval and the lingering, with room for a busy machine.
  expect(performance.now() - startedAt).toBeLessThan(5_000);
  expect(served).toBeGreaterThan(5);
  expect(slowest).toBeLessThan(1_000);
});

test("an answer that its client does not read is given up after the write timeout", async () => {
  const daemon = await startDaemon({ settings: { writeTimeoutMs: 200 } });
  const accepted = once(daemon.server, "connection");
  const { socket } = await open(daemon.port);
  const [held] = (await accepted) as [Socket];
  socket.pause();
  const startedAt = performance.now();
  // More than the system buffers for a reader who does not read.
  socket.write(`GET /docs/swagger-ui-bundle.js HTTP/1.1\r\n${HOST}\r\n`.repeat(10));
  await once(held, "close");
  expect(performance.now() - startedAt).toBeGreaterThan(190);
  expect((await daemon.call("GET", "/healthz")).status).toBe(200);
}, 10_000);

test("a connection that asks nothing more is closed after the idle timeout", async () => {
  const daemon = await startDaemon({ settings: { idleTimeoutMs: 100 } });
  const startedAt = performance.now();
  const text = await exchange(daemon.port, `GET /healthz HTTP/1.1\r\n${HOST}\r\n`);
  expect(answersIn(text)).toEqual([[200, null]]);
  expect(performance.now() - startedAt).toBeLessThan(5_000);
});

const LATE = '{"service_name":"late"}';
const LATE_HEAD = `POST /gpu/allocate HTTP/1.1\r\n${HOST}Content-Type: application/json\r\nContent-Length: ${LATE.length}\r\n\r\n`;

test("draining answers what is being served, says close, and ends idle connections at once", async () => {
  const daemon = await startDaemon();
  const idle = await open(daemon.port);
  const busy = await open(daemon.port);
  busy.socket.write(LATE_HEAD);
  // The head has arrived once a later request on another connection is answered.
  await daemon.call("GET", "/healthz");
  let isDrained = false;
  const drained = daemon.drain().then(() => {
    isDrained = true;
  });
  expect(await idle.ended).toBe("");
  expect(isDrained).toBe(false);
  busy.socket.write(LATE);
  const text = await busy.ended;
  expect(answersIn(text)).toEqual([[200, null]]);
  expect(text).toMatch(/connection: close/i);
  busy.socket.destroy();
  await drained;
  await expect(open(daemon.port)).rejects.toThrow("ECONNREFUSED");
});

test("while an earlier request is served, readiness is 503 and newcomers are told that it is over", async () => {
  const daemon = await startDaemon();
  const busy = await open(daemon.port);
  busy.socket.write(LATE_HEAD);
  await daemon.call("GET", "/healthz");
  const drained = daemon.drain();
  const ask = (path: string) => exchange(daemon.port, `GET ${path} HTTP/1.1\r\n${HOST}\r\n`);
  expect(answersIn(await ask("/readyz"))).toEqual([[503, "not-ready"]]);
  expect(answersIn(await ask("/healthz"))).toEqual([[200, null]]);
  expect(answersIn(await ask("/gpu/status"))).toEqual([[503, "shutting-down"]]);
  busy.socket.end(LATE);
  expect(answersIn(await busy.ended)).toEqual([[200, null]]);
  await drained;
});

test("draining does not wait for ever", async () => {
  const daemon = await startDaemon({ settings: { drainTimeoutMs: 100 } });
  const { socket, ended } = await open(daemon.port);
  socket.write(LATE_HEAD);
  await daemon.call("GET", "/healthz");
  await daemon.drain();
  expect(await ended).toBe("");
});

test("a port that is taken is an error for whoever starts the daemon", async () => {
  const one = await startDaemon();
  const two = await startDaemon();
  await two.drain();
  await expect(two.listen("127.0.0.1", one.port)).rejects.toThrow("EADDRINUSE");
});
