/** Time against the built daemon: clocks that are set, a daemon that is stopped, summer time, a new boot of the host. */

import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { eventually, isBuilt, type TestDaemon, temporaryFolder } from "./daemon.ts";
import { rebootHost } from "./reboot.ts";
import { ended, keepRenewing, receive, record, renew, startReady, stopped } from "./steps.ts";
import { canSetWallClock, WallClock } from "./wall-clock.ts";

const SECOND_MS = 1_000;
const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * 24 * HOUR_MS;
/** The default of `cleanup_interval`, and what a busy machine may add. */
const LATE_MS = 5_000;
const SLACK_MS = 2_500;

const builtTest = test.skipIf(!isBuilt);
const clockTest = test.skipIf(!isBuilt || !canSetWallClock);

/** By the `Date` field of an answer: what the daemon's wall clock shows. */
async function wallClockOf(daemon: TestDaemon): Promise<number> {
  return Date.parse((await daemon.call("GET", "/healthz")).headers.get("date") ?? "");
}

clockTest.each([YEAR_MS, -YEAR_MS])(
  "a wall clock that is set by %d ms while the daemon runs moves no deadline (needs the built program and libfaketime)",
  async (jumpMs) => {
    const folder = temporaryFolder();
    const wall = new WallClock(folder);
    const daemon = await startReady({ folder, env: wall.env });
    const receiver = await receive();
    const asked = performance.now();
    const short = await daemon.allocate({ ttl: "3s", required_gpus: 2, webhook_url: receiver.url });
    const granted = performance.now();
    const renewed = await daemon.allocate({ ttl: "3s", required_gpus: 2 });
    const long = await daemon.allocate({ ttl: "1h", required_gpus: 4 });
    const queued = await daemon.allocate({ queue_timeout: "1h", webhook_url: receiver.url, required_gpus: 8 });
    expect([short.status, renewed.status, long.status, queued.status]).toEqual([200, 200, 200, 202]);
    await sleep(SECOND_MS);
    wall.set(jumpMs);
    expect(Math.abs((await wallClockOf(daemon)) - Date.now() - jumpMs)).toBeLessThan(10 * SECOND_MS);

    const polled = performance.now();
    const poll = await daemon.call("GET", `/gpu/allocations/${queued.body.id}?wait=1s`);
    expect(poll.body.status).toBe("queued");
    expect(performance.now() - polled).toBeGreaterThan(SECOND_MS - 50);
    expect(performance.now() - polled).toBeLessThan(SECOND_MS + SLACK_MS);
    expect((await record(daemon, short.body.id)).status).toBe("leased");
    expect((await renew(daemon, renewed.body.id)).body.status).toBe("leased");

    const end = await ended(daemon, short.body.id, 10 * SECOND_MS);
    expect(end.body.end_reason).toBe("expired");
    expect(end.at - asked).toBeGreaterThanOrEqual(3 * SECOND_MS);
    expect(end.at - granted).toBeLessThan(3 * SECOND_MS + LATE_MS + SLACK_MS);
    expect(Date.parse(end.body.ended_at) - Date.parse(end.body.expires_at)).toBeLessThan(LATE_MS);
    for (const id of [long.body.id, renewed.body.id]) await renew(daemon, id);
    expect((await record(daemon, long.body.id)).status).toBe("leased");
    expect((await record(daemon, queued.body.id)).status).toBe("queued");
    const { expires_at, allocated_at } = long.body;
    expect(Date.parse(expires_at) - Date.parse(allocated_at)).toBe(HOUR_MS);
    await eventually(
      async () => receiver.received.map(({ body }) => body.status),
      (statuses) => statuses.includes("expired"),
    );
    expect((await daemon.call("GET", "/readyz")).status).toBe(200);
    expect(daemon.log.filter((line) => !line.startsWith("{"))).toEqual([]);
  },
);

clockTest.each([YEAR_MS, -YEAR_MS])(
  "a wall clock that is set by %d ms before a restart takes no time from a lease, nor gives it any (needs the built program and libfaketime)",
  async (jumpMs) => {
    const folder = temporaryFolder();
    const wall = new WallClock(folder);
    const options = { folder, env: wall.env };
    const before = await startReady(options);
    const begun = performance.now();
    const long = await before.allocate({ ttl: "1h" });
    const over = await before.allocate({ ttl: "1s" });
    const endless = await before.allocate();
    const waiting = await before.allocate({
      required_gpus: 8,
      queue_timeout: "1h",
      webhook_url: "http://127.0.0.1:9/",
    });
    await before.end("SIGKILL");
    await sleep(1_500);

    wall.set(jumpMs);
    const after = await startReady(options);
    const list = (await after.call("GET", "/gpu/list")).body;
    expect(list.allocations.map(({ id }: { id: string }) => id)).toEqual(
      expect.arrayContaining([long.body.id, endless.body.id]),
    );
    // Its instants are those of the wall clock as it stands, and what is left is what is really left.
    const awayMs = performance.now() - begun;
    const left = Date.parse((await record(after, long.body.id)).expires_at) - wall.now();
    expect(left).toBeGreaterThan(HOUR_MS - awayMs - SLACK_MS);
    expect(left).toBeLessThanOrEqual(HOUR_MS);
    expect((await ended(after, over.body.id, 10 * SECOND_MS)).body.end_reason).toBe("expired");
    expect((await record(after, waiting.body.id)).status).toBe("queued");
    await after.release(endless.body.id);
    const ahead = await after.allocate({ service_name: "other", priority: 10 });
    expect(ahead.body.fencing_token ?? Number.MAX_SAFE_INTEGER).toBeGreaterThan(long.body.fencing_token);
    await after.end("SIGTERM");

    // The clock is right again: so are the instants, and tokens go on growing.
    wall.set(0);
    const last = await startReady(options);
    const again = await record(last, long.body.id);
    expect(again.status).toBe("leased");
    const leftAtLast = Date.parse(again.expires_at) - Date.now();
    expect(leftAtLast).toBeGreaterThan(HOUR_MS - (performance.now() - begun) - SLACK_MS);
    expect(leftAtLast).toBeLessThanOrEqual(left);
    await last.call("POST", "/gpu/release", { service_name: "svc" });
    await last.call("POST", "/gpu/release", { service_name: "other" });
    const fresh = await eventually(
      () => last.allocate({ service_name: "fresh", queue: false }),
      ({ status }) => status === 200,
    );
    expect(fresh.body.fencing_token).toBeGreaterThan(Math.max(long.body.fencing_token, ahead.body.fencing_token ?? 0));
    expect(Math.abs(Date.parse(fresh.body.allocated_at) - Date.now())).toBeLessThan(10 * SECOND_MS);
  },
);

builtTest(
  "stopped for longer than the TTL: who renews in the grace keeps its lease, who does not loses it after it (needs the built program)",
  async () => {
    const daemon = await startReady();
    const receiver = await receive();
    const renewed = await daemon.allocate({ ttl: "2s", required_gpus: 4 });
    const silent = await daemon.allocate({ ttl: "2s", required_gpus: 4 });
    const queued = await daemon.allocate({ required_gpus: 4, webhook_url: receiver.url });
    expect([renewed.status, silent.status, queued.status]).toEqual([200, 200, 202]);
    await stopped(daemon);
    await sleep(6 * SECOND_MS);
    expect(receiver.received).toEqual([]);
    const continued = performance.now();
    daemon.process.kill("SIGCONT");

    expect((await renew(daemon, renewed.body.id)).body).toMatchObject({ status: "leased" });
    keepRenewing(daemon, renewed.body.id);
    const end = await ended(daemon, silent.body.id, 15 * SECOND_MS);
    expect(end.body.end_reason).toBe("expired");
    expect(end.at - continued).toBeGreaterThanOrEqual(2 * SECOND_MS);
    expect(end.at - continued).toBeLessThan(2 * SECOND_MS + LATE_MS + SLACK_MS);
    await eventually(
      async () => receiver.received.length,
      (count) => count === 1,
    );
    const { body: grant } = receiver.received[0] as { body: { request_id: string; allocated_at: string } };
    expect(grant.request_id).toBe(queued.body.id);
    expect(Date.parse(grant.allocated_at)).toBeGreaterThanOrEqual(Date.parse(end.body.ended_at));
    const kept = await record(daemon, renewed.body.id);
    expect([kept.status, kept.fencing_token]).toEqual(["leased", renewed.body.fencing_token]);
  },
);

clockTest.each([
  ["Europe/Berlin", "2026-10-25T00:59:58Z", "an hour comes twice"],
  ["Europe/Berlin", "2027-03-28T00:59:58Z", "an hour is left out"],
  ["America/New_York", "2026-11-01T05:59:58Z", "an hour comes twice"],
  ["America/New_York", "2027-03-14T06:59:58Z", "an hour is left out"],
])(
  "summer time in %s at %s, where %s, moves no deadline and shows in no instant (needs the built program and libfaketime)",
  async (zone, instant) => {
    const folder = temporaryFolder();
    const wall = new WallClock(folder);
    wall.setTo(instant);
    const daemon = await startReady({ folder, env: { ...wall.env, TZ: zone } });
    wall.setTo(instant);
    const asked = performance.now();
    const lease = await daemon.allocate({ ttl: "4s", required_gpus: 8 });
    const queued = await daemon.allocate({ queue_timeout: "5s", webhook_url: "http://127.0.0.1:9/" });
    expect(Date.parse(lease.body.expires_at) - Date.parse(lease.body.allocated_at)).toBe(4 * SECOND_MS);
    const { at, body } = await ended(daemon, lease.body.id, 15 * SECOND_MS);
    // The change is behind us.
    expect(wall.now()).toBeGreaterThan(Date.parse(instant) + 2 * SECOND_MS);
    expect(at - asked).toBeGreaterThanOrEqual(4 * SECOND_MS);
    expect(at - asked).toBeLessThan(4 * SECOND_MS + LATE_MS + SLACK_MS);
    const instants = [lease.body, queued.body, body, (await daemon.call("GET", "/gpu/status")).body.monitor]
      .flatMap((of: object) => Object.entries(of))
      .filter(([name]) => name.endsWith("_at"));
    expect(instants.length).toBeGreaterThan(8);
    for (const [name, text] of instants) {
      expect(text, name).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      expect(Math.abs(Date.parse(text) - wall.now()), name).toBeLessThan(60 * SECOND_MS);
    }
  },
);

builtTest(
  "after a new boot of the host leases without a TTL are over, the others have their time, and the queue its order (needs the built program)",
  async () => {
    const before = await startReady();
    const receiver = await receive();
    const endless = await before.allocate({ required_gpus: 4, webhook_url: receiver.url });
    const long = await before.allocate({ ttl: "1h", required_gpus: 2 });
    const due = await before.allocate({ ttl: "2s", required_gpus: 2 });
    const ask = { required_gpus: 4, webhook_url: receiver.url };
    const low = await before.allocate({ ...ask, service_name: "low", priority: 2 });
    const high = await before.allocate({ ...ask, service_name: "high", priority: 9 });
    const also = await before.allocate({ ...ask, service_name: "also", priority: 2 });
    await before.end("SIGKILL");
    rebootHost(before.folder);
    await sleep(2_500);

    const after = await startReady({ folder: before.folder });
    const begun = performance.now();
    expect(await record(after, endless.body.id)).toMatchObject({ status: "ended", end_reason: "rebooted" });
    expect(await record(after, long.body.id)).toMatchObject({ status: "leased", expires_at: long.body.expires_at });
    // Its end fell into the absence: as long again, or 10 s.
    expect((await record(after, due.body.id)).status).toBe("leased");
    await eventually(
      async () => receiver.received.map(({ body }) => [body.status, body.request_id, body.reason]),
      (told) => told.length >= 2,
      15 * SECOND_MS,
    );
    expect(receiver.received.map(({ body }) => [body.status, body.request_id, body.reason]).sort()).toEqual([
      ["allocated", high.body.id, undefined],
      ["revoked", endless.body.id, "rebooted"],
    ]);
    const { at, body } = await ended(after, due.body.id, 15 * SECOND_MS);
    expect(body.end_reason).toBe("expired");
    expect(at - begun).toBeLessThan(2 * SECOND_MS + LATE_MS + SLACK_MS);
    const { queue } = (await after.call("GET", "/gpu/list")).body;
    expect(queue.map(({ id }: { id: string }) => id)).toEqual([low.body.id, also.body.id]);
    expect((await renew(after, endless.body.id)).body).toMatchObject({ status: 409, code: "allocation-ended" });
  },
);
