/** The event stream of the built program, read by an `EventSource` that is not ours. */
import { once } from "node:events";
import { rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { EventSource, type MessageEvent } from "undici";
import { expect, onTestFinished, test } from "vitest";
import { EVENT_BODIES } from "../../src/wire/events/answers.ts";
import { readEvents } from "../http/events/stream.ts";
import { eventually, isBuilt, startDaemon, type TestDaemon, temporaryFolder } from "./daemon.ts";

const KILLS = 3;
const CLIENTS = 4;

const suite = test.skipIf(!isBuilt);

const portOf = ({ url }: TestDaemon) => Number(new URL(url).port);

/** One address for daemons that come and go: whatever connects is led to the one that runs. */
async function startRelay() {
  let target: number | null = null;
  const sockets = new Set<Socket>();
  const relay = createServer((near) => {
    if (target === null) {
      near.destroy();
      return;
    }
    const far = connect({ host: "127.0.0.1", port: target });
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.pipe(to);
      from.on("error", () => undefined);
      from.once("close", () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  relay.listen(0, "127.0.0.1");
  await once(relay, "listening");
  onTestFinished(() => {
    relay.close();
    for (const socket of sockets) socket.destroy();
  });
  const { port } = relay.address() as AddressInfo;
  return { port, leadTo: (daemon: TestDaemon | null) => (target = daemon && portOf(daemon)) };
}

/** Allocates and releases until the daemon is gone. */
async function client(daemon: TestDaemon): Promise<void> {
  for (;;) {
    const { body } = await daemon.allocate({ service_name: "client", ttl: "1h" });
    await daemon.release(body.id);
  }
}

suite("over kill -9 a client that comes back by itself sees every event exactly once (needs the built program)", {
  timeout: 120_000,
}, async () => {
  const folder = temporaryFolder();
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const relay = await startRelay();
  const seen: { readonly id: number; readonly event: string; readonly data: unknown }[] = [];
  const source = new EventSource(`http://127.0.0.1:${relay.port}/gpu/events?last_event_id=0`);
  onTestFinished(() => source.close());
  for (const event of [...Object.keys(EVENT_BODIES), "reset"]) {
    source.addEventListener(event, (message) => {
      const { lastEventId, data } = message as MessageEvent;
      seen.push({ id: Number(lastEventId), event, data: JSON.parse(data) });
    });
  }
  for (let kill = 0; kill < KILLS; kill++) {
    const daemon = await startDaemon({ folder });
    onTestFinished(() => void daemon.process.kill("SIGKILL"));
    relay.leadTo(daemon);
    const before = seen.length;
    await eventually(
      async () => seen.length,
      (count) => count > before,
      20_000,
    );
    const clients = Promise.allSettled(Array.from({ length: CLIENTS }, () => client(daemon)));
    await eventually(
      async () => seen.length,
      (count) => count > before + 200,
      20_000,
    );
    relay.leadTo(null);
    await daemon.end("SIGKILL");
    // A client ends when its connection breaks; anything but a broken connection is a finding.
    for (const end of await clients) {
      if (end.status === "rejected" && !(end.reason instanceof TypeError)) throw end.reason;
    }
  }
  const last = await startDaemon({ folder });
  onTestFinished(() => void last.process.kill("SIGKILL"));
  relay.leadTo(last);
  // Its first readings are in: nothing more happens by itself.
  await eventually(
    () => last.call("GET", "/readyz"),
    ({ status }) => status === 200,
  );
  const live = await readEvents(portOf(last));
  await live.until(({ lastId }) => lastId !== "");
  const whole = await readEvents(portOf(last), { lastEventId: 0 });
  await whole.until(({ lastId }) => lastId === live.lastId);
  await eventually(
    async () => seen.at(-1)?.id,
    (id) => id === Number(live.lastId),
    20_000,
  );
  expect(seen.length).toBeGreaterThan(KILLS * 200);
  expect(seen.map(({ id }) => id)).toEqual(Array.from({ length: seen.length }, (_, i) => i + 1));
  expect(seen).toEqual(whole.messages.map(({ id, event, data }) => ({ id: Number(id), event, data })));
  expect(seen.filter(({ event }) => event === "resumed")).toHaveLength(KILLS + 1);
});

suite("SIGTERM ends streams at once, and the daemon with them (needs the built program)", async () => {
  const daemon = await startDaemon();
  onTestFinished(async () => {
    await daemon.end("SIGKILL");
    daemon.removeFolder();
  });
  const readers = await Promise.all(Array.from({ length: 20 }, () => readEvents(portOf(daemon), { lastEventId: 0 })));
  for (const reader of readers) await reader.until(({ messages }) => messages.length > 0);
  const page = await daemon.call("GET", "/metrics");
  expect(page.body).toMatch(/^gpu_orchestrator_event_streams 20$/m);
  expect(page.body).toMatch(/^gpu_orchestrator_http_requests_total\{.*endpoint="\/gpu\/events".*\} 20$/m);
  expect(page.body).not.toMatch(/request_duration_seconds_count\{.*\/gpu\/events/);
  const begun = performance.now();
  expect(await daemon.end("SIGTERM")).toBe(0);
  expect(performance.now() - begun).toBeLessThan(5_000);
  for (const reader of readers) expect(await reader.ended).toBe(true);
});
