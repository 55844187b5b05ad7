import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { pino } from "pino";
import { Webhook } from "standardwebhooks";
import { expect, onTestFinished, test, vi } from "vitest";
import { ManualClock, steadyClock } from "../../src/platform/clock.ts";
import { parseAllowedHosts } from "../../src/webhooks/address-policy.ts";
import {
  type Deliverer,
  type DelivererOptions,
  type DeliverySettings,
  FIRST_STORE_PAUSE_MS,
  HELD_ROW_MS,
  RECHECK_MS,
  STOP_GRACE_MS,
  startDelivering,
} from "../../src/webhooks/deliverer.ts";
import { sleepyClock } from "../fixtures/fake-host.ts";
import { MemoryOutbox } from "./memory-outbox.ts";
import { hang, type Receiver, receiver, status } from "./receivers.ts";

const SETTINGS: DeliverySettings = {
  secrets: [],
  secretsByPrincipal: {},
  timeoutMs: 10_000,
  giveUpAfterMs: 3 * 24 * 3_600_000,
  concurrency: 16,
  perHostConcurrency: 4,
  allowedHosts: parseAllowedHosts(["loopback"]),
};

interface Setting {
  readonly outbox: MemoryOutbox;
  readonly clock: ManualClock;
  readonly deliverer: Deliverer;
}

/** A deliverer over an outbox, on a clock that stands still; stopped at the end of the test. */
function delivering(
  settings: Partial<DeliverySettings> = {},
  options: Partial<DelivererOptions> = {},
  outbox = new MemoryOutbox(),
): Setting {
  const clock = new ManualClock();
  const deliverer = startDelivering({
    outbox,
    settle: outbox.settle,
    clock,
    settings: { ...SETTINGS, ...settings },
    random: () => 0.5,
    ...options,
  });
  onTestFinished(() => deliverer.stop());
  return { outbox, clock, deliverer };
}

/** Sockets are real, so a test waits for what it expects, never for a time. */
function until(condition: () => boolean): Promise<boolean> {
  return vi.waitUntil(condition, { interval: 2, timeout: 10_000 });
}

/** Lets everything happen that is already on its way: some turns of the event loop with sockets in between. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
}

function send(setting: Setting, deliveryId: string, url: string, more: object = {}): void {
  setting.outbox.add({ deliveryId, url, createdAt: setting.clock.now(), ...more });
  setting.deliverer.wake();
}

test("what cannot be made now is tried again; what never can is given up at once, with the reason", async () => {
  const target = await receiver();
  let error: Error = new Error("its node is away");
  const setting = delivering({}, { bodyAsSent: () => Promise.reject(error) });
  send(setting, "01later", target.url);
  await until(() => setting.outbox.settlements.length === 1);
  error = Object.assign(new Error("it is none"), { isFinal: true });
  send(setting, "02never", target.url);
  await until(() => setting.outbox.settlements.length === 2);
  expect(setting.outbox.settlements).toMatchObject([
    { deliveryId: "01later", outcome: "retry", error: "its node is away" },
    { deliveryId: "02never", outcome: "gave-up", nextAttemptAt: null, error: "it is none" },
  ]);
  expect(target.received).toEqual([]);
});

test("a notification arrives once, byte for byte, and is settled as delivered", async () => {
  const target = await receiver();
  const setting = delivering();
  const body = '{"name":"größe 🚀",  "n":1.0}\n';

  send(setting, "01delivery", `${target.url}/a%20b?c=d&e#f`, { body });
  await until(() => setting.outbox.settlements.length === 1);
  setting.clock.advance(3_600_000);
  await settled();

  expect(target.received).toHaveLength(1);
  expect(target.received[0]).toMatchObject({ method: "POST", path: "/hook/a%20b?c=d&e", body });
  expect(target.received[0]?.headers).toEqual({
    host: `127.0.0.1:${target.port}`,
    connection: "close",
    "content-type": "application/json",
    "content-length": String(Buffer.byteLength(body)),
    "user-agent": "gpu-orchestrator",
    "webhook-id": "01delivery",
    "webhook-timestamp": expect.stringMatching(/^\d{10}$/),
  });
  expect(setting.outbox.settlements).toEqual([
    {
      deliveryId: "01delivery",
      allocationId: "alloc-01delivery",
      status: "allocated",
      at: 1_800_000_000_000,
      outcome: "delivered",
      nextAttemptAt: null,
      httpStatus: 204,
      error: null,
    },
  ]);
});

test("the log tells what became of an attempt by the API's names, and when the next one is", async () => {
  const target = await receiver((response, index) => response.writeHead(index === 0 ? 500 : 204).end());
  const lines: object[] = [];
  const log = pino({ base: null, timestamp: false }, { write: (line) => lines.push(JSON.parse(line)) });
  const setting = delivering({}, { log });

  send(setting, "01", target.url);
  await until(() => setting.outbox.settlements.length === 1);
  setting.clock.advance(1_000);
  await until(() => lines.length === 2);

  const told = {
    delivery_id: "01",
    allocation_id: "alloc-01",
    receiver: `http://127.0.0.1:${target.port}`,
    status: "allocated",
  };
  const again = { error: "the receiver answered 500", next_attempt_at: "2027-01-15T08:00:01.000Z" };
  expect(lines).toEqual([
    { level: 30, ...told, attempts: 1, http_status: 500, ...again, msg: "webhook failed; it is sent again" },
    { level: 30, ...told, attempts: 2, http_status: 204, msg: "webhook delivered" },
  ]);
});

test("with a secret, the receiver can verify every attempt, each with its own time", async () => {
  const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
  const target = await receiver((response, index) => response.writeHead(index === 0 ? 500 : 200).end());
  let wallMs = Date.now();
  const setting = delivering({ secrets: [secret] }, { wallNow: () => wallMs });

  send(setting, "01delivery", target.url, { body: '{"größe":1}' });
  await until(() => setting.outbox.settlements.length === 1);
  wallMs += 5_000;
  setting.clock.advance(1_000);
  await until(() => setting.outbox.settlements.length === 2);

  const oracle = new Webhook(secret);
  const timestamps = target.received.map(({ body, headers }) => {
    expect(oracle.verify(body, headers as Record<string, string>)).toEqual({ größe: 1 });
    expect(headers["webhook-id"]).toBe("01delivery");
    return Number(headers["webhook-timestamp"]);
  });
  expect((timestamps[1] as number) - (timestamps[0] as number)).toBe(5);
});

test("a failing receiver is tried again after 1 s, 5 s, 30 s, and no sooner, until it answers 2xx", async () => {
  const target = await receiver((response, index) => response.writeHead(index < 3 ? 500 : 202).end());
  const setting = delivering();
  send(setting, "01", target.url);

  for (const [attempts, delayMs] of [1_000, 5_000, 30_000].entries()) {
    await until(() => setting.outbox.settlements.length === attempts + 1);
    await settled();
    setting.clock.advance(delayMs - 1);
    await settled();
    expect(target.received).toHaveLength(attempts + 1);
    setting.clock.advance(1);
  }
  await until(() => setting.outbox.size === 0);

  expect(setting.outbox.settlements.map(({ outcome, httpStatus, error }) => [outcome, httpStatus, error])).toEqual([
    ["retry", 500, "the receiver answered 500"],
    ["retry", 500, "the receiver answered 500"],
    ["retry", 500, "the receiver answered 500"],
    ["delivered", 202, null],
  ]);
});

test("a receiver that does not answer is cut off at the timeout, and tried again", async () => {
  const target = await receiver(hang);
  const setting = delivering({ timeoutMs: 10_000 });
  send(setting, "01", target.url);
  await until(() => target.received.length === 1);

  setting.clock.advance(9_999);
  await settled();
  expect(setting.outbox.settlements).toEqual([]);
  setting.clock.advance(1);
  await until(() => setting.outbox.settlements.length === 1);

  expect(setting.outbox.settlements[0]).toMatchObject({
    outcome: "retry",
    httpStatus: null,
    error: "no answer within 10000 ms",
    nextAttemptAt: setting.clock.now() + 1_000,
  });
  await until(() => target.sockets.size === 0);
});

test.each(["http", "https"])("the timeout also ends an %s connection that is never set up", async (scheme) => {
  const target = await silentSocketServer();
  const setting = delivering();
  send(setting, "01", `${scheme}://127.0.0.1:${target.port}/`);
  await until(() => target.sockets.size === 1);

  setting.clock.advance(SETTINGS.timeoutMs);
  await until(() => setting.outbox.settlements.length === 1);

  expect(setting.outbox.settlements[0]?.error).toBe("no answer within 10000 ms");
  await until(() => target.sockets.size === 0);
});

test("the timeout also ends an answer whose headers never end", async () => {
  const target = await receiver((response) => response.socket?.write("HTTP/1.1 200 OK\r\nx-drip: "));
  const setting = delivering();
  send(setting, "01", target.url);
  await until(() => target.received.length === 1);
  setting.clock.advance(SETTINGS.timeoutMs);
  await until(() => setting.outbox.settlements.length === 1);
  expect(setting.outbox.settlements[0]).toMatchObject({ outcome: "retry", httpStatus: null });
});

test("a name that takes for ever to resolve is a timeout too", async () => {
  const setting = delivering({}, { lookup: () => new Promise(() => {}) });
  send(setting, "01", "http://hooks.example.org/");
  await settled();
  setting.clock.advance(SETTINGS.timeoutMs);
  await until(() => setting.outbox.settlements.length === 1);
  expect(setting.outbox.settlements[0]?.error).toBe("no answer within 10000 ms");
});

test("a refused connection is tried again, and the record says what happened", async () => {
  const closed = await closedPort();
  const setting = delivering();
  send(setting, "01", `http://127.0.0.1:${closed}/`);
  await until(() => setting.outbox.settlements.length === 1);
  expect(setting.outbox.settlements[0]).toMatchObject({
    outcome: "retry",
    httpStatus: null,
    error: "the connection was refused",
  });
});

test("an answer that is not HTTP is tried again", async () => {
  const target = await receiver((response) => response.socket?.end("SSH-2.0-OpenSSH_9.2\r\n"));
  const setting = delivering();
  send(setting, "01", target.url);
  await until(() => setting.outbox.settlements.length === 1);
  expect(setting.outbox.settlements[0]).toMatchObject({
    outcome: "retry",
    httpStatus: null,
    error: expect.any(String),
  });
});

test.each([301, 302, 303, 307, 308])("a redirect with %i is a failure, and its target sees nothing", async (code) => {
  const elsewhere = await receiver();
  const target = await receiver(status(code, { location: elsewhere.url }));
  const setting = delivering();
  send(setting, "01", target.url);
  await until(() => setting.outbox.settlements.length === 1);
  await settled();
  expect(setting.outbox.settlements[0]).toMatchObject({ outcome: "retry", httpStatus: code });
  expect(elsewhere.received).toEqual([]);
  expect(elsewhere.sockets.size).toBe(0);
});

test("410 Gone ends a delivery", async () => {
  const target = await receiver(status(410));
  const setting = delivering();
  send(setting, "01", target.url);
  await until(() => setting.outbox.size === 0);
  expect(setting.outbox.settlements[0]).toMatchObject({ outcome: "gave-up", nextAttemptAt: null, httpStatus: 410 });
});

test.each([
  [429, 120_000],
  [503, 120_000],
  [500, 1_000],
])("after %i with Retry-After: 120 the next attempt is %i ms later", async (code, delayMs) => {
  const target = await receiver(status(code, { "retry-after": "120" }));
  const setting = delivering();
  send(setting, "01", target.url);
  await until(() => setting.outbox.settlements.length === 1);
  expect(setting.outbox.settlements[0]?.nextAttemptAt).toBe(setting.clock.now() + delayMs);
});

test("a notification older than it may get is tried once more, then given up", async () => {
  const target = await receiver(status(500));
  const setting = delivering();
  send(setting, "01", target.url, { createdAt: setting.clock.now() - SETTINGS.giveUpAfterMs, attempts: 40 });
  await until(() => setting.outbox.size === 0);
  expect(setting.outbox.settlements).toMatchObject([{ outcome: "gave-up", httpStatus: 500, nextAttemptAt: null }]);
});

test("a 2xx stands even when its body never ends or is endless, and the connection is cut", async () => {
  const dripping = await receiver((response) => response.writeHead(200).write("a"));
  const flooding = await receiver((response) => {
    response.writeHead(200);
    const flood = (): void => {
      while (!response.destroyed && response.write(Buffer.alloc(65_536)));
      if (!response.destroyed) response.once("drain", flood);
    };
    flood();
  });
  const setting = delivering();
  send(setting, "01", dripping.url);
  send(setting, "02", flooding.url);
  await until(() => setting.outbox.settlements.length === 1);
  expect(setting.outbox.settlements[0]).toMatchObject({ deliveryId: "02", outcome: "delivered" });
  await until(() => flooding.sockets.size === 0);

  setting.clock.advance(1_000);
  await until(() => setting.outbox.settlements.length === 2);
  expect(setting.outbox.settlements[1]).toMatchObject({ deliveryId: "01", outcome: "delivered" });
  await until(() => dripping.sockets.size === 0);
});

test.each([
  ["is cut short", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok"],
  ["is chunked and never ends", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"],
  ["is longer than it says", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok\nmore"],
])("a 2xx stands although its body %s", async (_how, answer) => {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => socket.end(answer));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const setting = delivering();
  send(setting, "01", `http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  await until(() => setting.outbox.settlements.length === 1);
  expect(setting.outbox.settlements[0]).toMatchObject({ outcome: "delivered", httpStatus: 200 });
});

test("a name is resolved anew for every attempt, and one that has moved to a refused address gets nothing", async () => {
  const target = await receiver((response, index) =>
    response.writeHead(index === 0 ? 500 : 200, { connection: "keep-alive" }).end(),
  );
  const answers = ["127.0.0.1", "169.254.169.254"];
  let asked = 0;
  const setting = delivering(
    { allowedHosts: parseAllowedHosts(["hooks.example.org"]) },
    { lookup: async () => [{ address: answers[asked++] as string, family: 4 }] },
  );

  send(setting, "01", `http://hooks.example.org:${target.port}/`);
  await until(() => setting.outbox.settlements.length === 1);
  await settled();
  setting.clock.advance(1_000);
  await until(() => setting.outbox.settlements.length === 2);

  expect(asked).toBe(2);
  expect(target.received.map(({ headers }) => headers.host)).toEqual([`hooks.example.org:${target.port}`]);
  expect(setting.outbox.settlements[1]).toMatchObject({
    outcome: "retry",
    httpStatus: null,
    error: "refused: 169.254.169.254 is link-local, which webhooks.allowed_hosts does not allow",
  });
});

test.each([
  [[{ address: "127.0.0.1", family: 4 }]],
  [[{ address: "::ffff:127.0.0.1", family: 6 }]],
  [
    [
      { address: "::1", family: 6 },
      { address: "10.0.0.1", family: 4 },
    ],
  ],
  [[]],
])("a public name that resolves to %j reaches nobody", async (addresses) => {
  const target = await receiver();
  const setting = delivering({ allowedHosts: parseAllowedHosts(["external"]) }, { lookup: async () => addresses });
  send(setting, "01", `http://hooks.example.org:${target.port}/`);
  await until(() => setting.outbox.settlements.length === 1);
  await settled();
  expect(setting.outbox.settlements[0]).toMatchObject({ outcome: "retry", error: expect.stringMatching(/^refused: /) });
  expect(target.received).toEqual([]);
  expect(target.sockets.size).toBe(0);
});

test("of a name's addresses only the allowed ones are tried", async () => {
  const target = await receiver();
  const setting = delivering(
    { allowedHosts: parseAllowedHosts(["127.0.0.1"]) },
    {
      lookup: async () => [
        { address: "127.0.0.2", family: 4 },
        { address: "127.0.0.1", family: 4 },
      ],
    },
  );
  send(setting, "01", `http://hooks.example.org:${target.port}/`);
  await until(() => setting.outbox.settlements.length === 1);
  expect(setting.outbox.settlements[0]?.outcome).toBe("delivered");
});

test("a literal address is judged again when the webhook leaves, by the settings of that moment", async () => {
  const target = await receiver();
  const setting = delivering({ allowedHosts: parseAllowedHosts(["external"]) });
  send(setting, "01", `http://2130706433:${target.port}/`);
  await until(() => setting.outbox.settlements.length === 1);
  expect(setting.outbox.settlements[0]?.error).toMatch(/^refused: 127\.0\.0\.1 is loopback/);
  expect(target.sockets.size).toBe(0);

  setting.deliverer.reconfigure(SETTINGS);
  setting.clock.advance(1_000);
  await until(() => setting.outbox.size === 0);
  expect(target.received).toHaveLength(1);
});

test("localhost is resolved by the system and reached", async () => {
  const target = await receiver();
  const setting = delivering();
  send(setting, "01", `http://localhost:${target.port}/`);
  await until(() => setting.outbox.settlements.length === 1);
  expect(setting.outbox.settlements[0]?.outcome).toBe("delivered");
});

test("a receiver gets no more attempts at a time than its limit, and all together no more than theirs", async () => {
  const targets = await Promise.all(Array.from({ length: 6 }, () => receiver(hang)));
  const setting = delivering({ concurrency: 10, perHostConcurrency: 3 });
  for (const [index, target] of targets.entries()) {
    for (let row = 0; row < 20; row++) send(setting, `${index}-${row}`, target.url);
  }
  const open = (): number => targets.reduce((sum, target) => sum + target.sockets.size, 0);
  // Of receivers that have not answered yet, half.
  await until(() => open() === 5);
  await settled();
  expect(open()).toBe(5);
  expect(Math.max(...targets.map((target) => target.sockets.size))).toBe(3);
});

test("a row in flight is not started again, however often the outbox is looked at", async () => {
  const target = await receiver(hang);
  const setting = delivering();
  send(setting, "01", target.url);
  await until(() => target.received.length === 1);
  for (let look = 0; look < 10; look++) {
    setting.deliverer.wake();
    setting.clock.advance(RECHECK_MS);
    await settled();
  }
  expect(target.received).toHaveLength(1);
});

test("notifications of one allocation leave in the order of their creation, one at a time", async () => {
  const waiting: (() => void)[] = [];
  const target = await receiver((response) => waiting.push(() => response.writeHead(500).end()));
  const setting = delivering();
  const at = setting.clock.now();
  // The later one fell due first: order of creation counts, not of falling due.
  setting.outbox.add({
    deliveryId: "02",
    allocationId: "a",
    url: target.url,
    createdAt: at - 1,
    nextAttemptAt: at - 1,
    body: "2",
  });
  setting.outbox.add({
    deliveryId: "01",
    allocationId: "a",
    url: target.url,
    createdAt: at - 2,
    nextAttemptAt: at,
    body: "1",
  });
  setting.deliverer.wake();

  await until(() => waiting.length === 1);
  await settled();
  expect(target.received.map(({ body }) => body)).toEqual(["1"]);
  waiting[0]?.();
  await until(() => waiting.length === 2);
  expect(target.received.map(({ body }) => body)).toEqual(["1", "2"]);
  expect(setting.outbox.settlements).toMatchObject([{ deliveryId: "01", outcome: "retry" }]);
});

test("a notification waits for the attempt before it even when the earlier one has left the outbox meanwhile", async () => {
  const waiting: (() => void)[] = [];
  const target = await receiver((response) => waiting.push(() => response.writeHead(200).end()));
  const setting = delivering();
  send(setting, "01", target.url, { allocationId: "a" });
  await until(() => waiting.length === 1);
  setting.outbox.remove("01");
  send(setting, "02", target.url, { allocationId: "a" });
  await settled();
  expect(waiting).toHaveLength(1);
  waiting[0]?.();
  await until(() => waiting.length === 2);
  expect(target.received[1]?.body).toBe('{"id":"02"}');
});

test("a receiver that hangs with 1,000 rows due does not hold up another, not even behind them", async () => {
  const hanging = await receiver(hang);
  const arrivals: number[] = [];
  const living = await receiver((response) => {
    arrivals.push(performance.now());
    response.writeHead(200).end();
  });
  const clock = steadyClock();
  const { outbox, deliverer } = delivering({ timeoutMs: 300 }, { clock });
  const createdAt = clock.now();
  for (let row = 0; row < 1_000; row++) {
    outbox.add({
      deliveryId: `hanging-${String(row).padStart(4, "0")}`,
      url: hanging.url,
      createdAt: createdAt - 1_000,
    });
  }
  deliverer.wake();
  await until(() => hanging.sockets.size > 0);

  const delays: number[] = [];
  for (let row = 0; row < 10; row++) {
    const before = performance.now();
    outbox.add({ deliveryId: `living-${row}`, url: living.url, createdAt: clock.now() });
    deliverer.wake();
    await until(() => arrivals.length === row + 1);
    delays.push((arrivals[row] as number) - before);
  }
  delays.sort((a, b) => a - b);
  // Some tens of milliseconds, while each attempt at the hanging one takes 300.
  expect(delays[4]).toBeLessThan(150);
  expect(hanging.sockets.size).toBeLessThanOrEqual(SETTINGS.perHostConcurrency);
});

test("receivers that never answer have half of the slots, and leave the others to one that does", async () => {
  const dead = await Promise.all(Array.from({ length: 8 }, () => receiver(hang)));
  const living = await receiver();
  const setting = delivering({ concurrency: 8, perHostConcurrency: 2 });
  send(setting, "before", living.url);
  await until(() => setting.outbox.settlements.length === 1);
  for (const [index, target] of dead.entries()) {
    for (let row = 0; row < 50; row++) send(setting, `${row}-${index}`, target.url);
  }
  const open = (): number => dead.reduce((sum, target) => sum + target.sockets.size, 0);
  await until(() => open() === 4);
  await settled();
  expect(open()).toBe(4);
  send(setting, "living", living.url);
  setting.clock.advance(100);
  await until(() => living.received.length === 2);
  expect(open()).toBe(4);
});

test("rows that fall due behind a row in flight are found without a wake", async () => {
  const hanging = await receiver(hang);
  const living = await receiver();
  const setting = delivering();
  send(setting, "01", hanging.url);
  setting.outbox.add({ deliveryId: "02", url: living.url, createdAt: setting.clock.now() + 3_000 });
  await until(() => hanging.received.length === 1);
  await settled();
  expect(living.received).toHaveLength(0);
  setting.clock.advance(3_000 + RECHECK_MS);
  await until(() => living.received.length === 1);
});

test("a row that was withdrawn before its next attempt is not sent again", async () => {
  const target = await receiver(status(500));
  const setting = delivering();
  send(setting, "01", target.url);
  await until(() => setting.outbox.settlements.length === 1);
  setting.outbox.remove("01");
  setting.clock.advance(60_000);
  await settled();
  expect(target.received).toHaveLength(1);
});

test("when settlements cannot be stored, sending pauses, tries one row at a time, and recovers", async () => {
  let withhold = false;
  const target = await receiver((response) => {
    if (!withhold) response.writeHead(204).end();
  });
  const setting = delivering();
  setting.outbox.refuse = new Error("disk full");
  for (let row = 0; row < 8; row++) send(setting, `0${row}`, target.url);
  await until(() => setting.outbox.refused === 4);
  await settled();
  expect(target.received).toHaveLength(4);
  for (let wakes = 0; wakes < 10; wakes++) setting.deliverer.wake();
  setting.clock.advance(FIRST_STORE_PAUSE_MS - 1);
  await settled();
  expect(target.received).toHaveLength(4);

  setting.clock.advance(1);
  await until(() => setting.outbox.refused === 5);
  await settled();
  expect(target.received).toHaveLength(5);
  // A minute of a full disk: pauses of 2, 4, 8, 16 and 30 s lie between five attempts, or the rows stay back.
  for (let seconds = 0; seconds < 60; seconds += 2) {
    setting.clock.advance(2_000);
    await settled();
  }
  expect(target.received.length).toBeLessThanOrEqual(10);

  setting.outbox.refuse = null;
  for (let seconds = 0; seconds < 46 && setting.outbox.size > 0; seconds += 2) {
    setting.clock.advance(2_000);
    await settled();
  }
  expect(setting.outbox.size).toBe(0);
  expect(setting.outbox.settlements).toHaveLength(8);

  withhold = true;
  for (let row = 0; row < 4; row++) send(setting, `1${row}`, target.url);
  await until(() => target.sockets.size === 4);
});

test("a row that can never be settled does not hold up the others", async () => {
  const target = await receiver();
  const outbox = new MemoryOutbox();
  const settle: DelivererOptions["settle"] = (settlement) =>
    settlement.deliveryId === "00" ? Promise.reject(new Error("no")) : outbox.settle(settlement);
  const setting = delivering({ concurrency: 1 }, { settle }, outbox);
  outbox.add({ deliveryId: "00", url: target.url, createdAt: setting.clock.now() });
  for (let row = 1; row < 5; row++)
    outbox.add({ deliveryId: `0${row}`, url: target.url, createdAt: setting.clock.now() });
  setting.deliverer.wake();
  await until(() => target.received.length === 1);
  await settled();
  setting.clock.advance(HELD_ROW_MS / 2);
  await until(() => outbox.settlements.length === 4);
  expect(outbox.size).toBe(1);
});

test("an outbox that cannot be read is read again after a pause", async () => {
  const target = await receiver();
  const outbox = new MemoryOutbox();
  const due = outbox.due.bind(outbox);
  let broken = true;
  let reads = 0;
  outbox.due = (now, limit) => {
    reads++;
    if (broken) throw new Error("disk I/O error");
    return due(now, limit);
  };
  const setting = delivering({}, {}, outbox);
  outbox.add({ deliveryId: "01", url: target.url, createdAt: setting.clock.now() });
  await until(() => reads === 1);
  broken = false;
  setting.clock.advance(FIRST_STORE_PAUSE_MS);
  await until(() => outbox.size === 0);
  expect(target.received).toHaveLength(1);
});

test("a burst of wakes is one look at the outbox", async () => {
  const setting = delivering();
  await settled();
  const before = setting.outbox.reads.length;
  for (let wakes = 0; wakes < 1_000; wakes++) setting.deliverer.wake();
  await settled();
  expect(setting.outbox.reads.length).toBe(before + 1);
});

test("a new secret holds from the next attempt, and one that cannot be read changes nothing", async () => {
  const target = await receiver();
  const setting = delivering({ secrets: ["old secret"] });
  expect(() => setting.deliverer.reconfigure({ ...SETTINGS, secrets: ["whsec_!"] })).toThrow(RangeError);
  send(setting, "01", target.url);
  await until(() => target.received.length === 1);
  setting.deliverer.reconfigure({ ...SETTINGS, secrets: ["new secret"] });
  send(setting, "02", target.url);
  await until(() => target.received.length === 2);
  for (const [index, secret] of ["old secret", "new secret"].entries()) {
    const { body, headers } = target.received[index] as Receiver["received"][number];
    new Webhook(secret, { format: "raw" }).verify(body, headers as Record<string, string>);
  }
});

test("a principal with secrets of its own gets its webhooks signed by them, and others by the one for all", async () => {
  const target = await receiver();
  const setting = delivering({ secrets: ["for all"], secretsByPrincipal: { ann: ["ann's new one", "ann's old one"] } });
  send(setting, "01", target.url, { principal: "ann" });
  await until(() => target.received.length === 1);
  send(setting, "02", target.url, { principal: "bob" });
  await until(() => target.received.length === 2);
  const verify = (secret: string, index: number) => {
    const { body, headers } = target.received[index] as Receiver["received"][number];
    return new Webhook(secret, { format: "raw" }).verify(body, headers as Record<string, string>);
  };
  verify("ann's new one", 0);
  verify("ann's old one", 0);
  expect(() => verify("for all", 0)).toThrow();
  verify("for all", 1);
  expect(() => verify("ann's new one", 1)).toThrow();
});

test("stop ends what is in flight at once, settles nothing of it, and leaves no timer and no socket", async () => {
  const silent = await silentSocketServer();
  const hanging = await receiver(hang);
  const timersBefore = countResources("Timeout");
  const clock = steadyClock();
  const { outbox, deliverer } = delivering({}, { clock, lookup: () => new Promise(() => {}) });
  outbox.add({ deliveryId: "01", url: hanging.url, createdAt: clock.now() });
  outbox.add({ deliveryId: "02", url: `https://127.0.0.1:${silent.port}/`, createdAt: clock.now() });
  outbox.add({ deliveryId: "03", url: "http://localhost/", createdAt: clock.now() });
  outbox.add({ deliveryId: "04", url: hanging.url, createdAt: clock.now() + 60_000 });
  deliverer.wake();
  await until(() => hanging.received.length === 1 && silent.sockets.size === 1);

  const before = performance.now();
  await deliverer.stop();
  await deliverer.stop();
  expect(performance.now() - before).toBeLessThan(1_000);

  deliverer.wake();
  await until(() => hanging.sockets.size === 0 && silent.sockets.size === 0);
  await settled();
  expect(outbox.settlements).toEqual([]);
  expect(outbox.size).toBe(4);
  expect(countResources("Timeout")).toBeLessThanOrEqual(timersBefore);
});

test("stop waits for a settlement that is being stored, but not for ever", async () => {
  const target = await receiver();
  let store = (): void => {};
  let settling = 0;
  const settle = (): Promise<void> =>
    new Promise((resolve) => {
      settling++;
      store = resolve;
    });
  const patient = delivering({}, { settle });
  send(patient, "01", target.url);
  await until(() => settling === 1);
  let stopped = false;
  const stopping = patient.deliverer.stop().then(() => {
    stopped = true;
  });
  await settled();
  expect(stopped).toBe(false);
  store();
  await stopping;

  const stuck = delivering({}, { settle });
  send(stuck, "02", target.url);
  await until(() => settling === 2);
  const ending = stuck.deliverer.stop();
  stuck.clock.advance(STOP_GRACE_MS);
  await ending;
  store();
});

function countResources(kind: string): number {
  return process.getActiveResourcesInfo().filter((name) => name === kind).length;
}

/** Accepts connections and never says a word: neither TLS nor HTTP. */
async function silentSocketServer(): Promise<{ port: number; sockets: Set<Socket> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.resume();
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, sockets };
}

async function closedPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

test("a back-off that ended while the host slept has ended when it wakes", async () => {
  const target = await receiver(status(200));
  const { clock, sleep } = sleepyClock();
  const { outbox, deliverer } = delivering({}, { clock });
  const now = clock.now();
  outbox.add({ deliveryId: "01", url: target.url, createdAt: now, nextAttemptAt: now + 4 * 3_600_000, attempts: 8 });
  deliverer.wake();
  await settled();
  expect(outbox.reads.length).toBeGreaterThan(0);
  expect(target.received).toEqual([]);
  sleep(8 * 3_600_000);
  await until(() => outbox.settlements.length === 1);
  expect(outbox.settlements[0]).toMatchObject({ outcome: "delivered", httpStatus: 200 });
});
