/** What the README says of clients, the daemon, the disk and webhooks; of GPUs: failure-table-gpus.test.ts. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { eventually, isBuilt, type TestDaemon, temporaryFolder } from "./daemon.ts";
import { row, rowsWithTests, tableRows, testsNamed } from "./rows.ts";
import { ended, keepRenewing, receive, record, renew, startReady, stopped } from "./steps.ts";

/** Rows whose tests stand elsewhere: the file, seen from here, and how the test's name begins. */
const ELSEWHERE: Readonly<Record<string, readonly (readonly [file: string, name: string])[]>> = {
  "the daemon is killed, also by `kill -9`": [
    ["lifecycle.test.ts", "after %s leases, queue, order and pending webhooks"],
  ],
  "the power fails": [
    ["../crash/power.test.ts", "wherever the power is cut, every turn acknowledged before is there"],
    ["../crash/answer.test.ts", "every grant and every place in the queue is synced to disk before its answer is sent"],
  ],
  "the database is lost or damaged": [
    ["../store/open.test.ts", "a database cut off anywhere is refused as damaged"],
    ["backup.test.ts", "a backup made under load and restored"],
  ],
  "the host reboots": [["time.test.ts", "after a new boot of the host leases without a TTL are over"]],
  "a second daemon is started on the same database": [
    ["lifecycle.test.ts", "a second daemon on the same database is refused"],
  ],
  "`nvidia-smi` is missing, hangs, crashes, prints rubbish, or the driver is gone": [
    ["monitor-faults.test.ts", "a missing nvidia-smi is found when it appears"],
    ["monitor-faults.test.ts", "an nvidia-smi that %s: the daemon starts, says so, grants nothing"],
    ["monitor-faults.test.ts", "losing the driver ends no lease"],
  ],
  "a reader of `/gpu/events` goes away, or the daemon restarts": [
    ["events.test.ts", "over kill -9 a client that comes back by itself sees every event exactly once"],
  ],
  "the daemon runs in a container without the host's pids": [
    ["processes.test.ts", "pids of another machine are said to mean nothing here"],
  ],
  "`nvidia-smi topo -m` fails": [["monitor-faults.test.ts", "an nvidia-smi that hangs over the topology"]],
  "the daemon stands still (suspend, `SIGSTOP`)": [["time.test.ts", "stopped for longer than the TTL"]],
  "the wall clock jumps": [
    ["time.test.ts", "a wall clock that is set by %d ms while the daemon runs moves no deadline"],
    ["time.test.ts", "a wall clock that is set by %d ms before a restart takes no time from a lease"],
  ],
};

test("every row of the failure table has its test, and every such test its row", () => {
  const rows = tableRows();
  expect(rows.length).toBeGreaterThan(15);
  const own = rowsWithTests();
  expect([...own, ...Object.keys(ELSEWHERE)].sort()).toEqual([...rows].sort());
  for (const [file, name] of Object.values(ELSEWHERE).flat()) expect(testsNamed(file, name), name).toBe(1);
});

const LATE_MS = 5_000;
const SLACK_MS = 2_500;
const CLIENT = fileURLToPath(new URL("./client.ts", import.meta.url));

/** A client that is a process of its own; see client.ts. */
async function startClient(daemon: TestDaemon, body: object, everyMs = 300) {
  const args = ["--disable-warning=ExperimentalWarning", CLIENT, daemon.url, JSON.stringify(body), String(everyMs)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const gone = once(child, "exit");
  const die = async () => {
    child.kill("SIGKILL");
    await gone;
  };
  onTestFinished(async () => {
    if (child.exitCode === null && child.signalCode === null) await die();
  });
  const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  return { answer: JSON.parse(line), die };
}

row("a client dies and its lease has a TTL", async () => {
  const daemon = await startReady({ simulate: "t4x1" });
  const { answer, die } = await startClient(daemon, { service_name: "mortal", ttl: "2s" });
  const receiver = await receive();
  const next = await daemon.allocate({ service_name: "next", webhook_url: receiver.url });
  expect([answer.status, next.status]).toEqual(["allocated", 202]);
  await sleep(5_000);
  expect((await record(daemon, answer.id)).status).toBe("leased");
  await die();
  const { expires_at } = await record(daemon, answer.id);
  const { body } = await ended(daemon, answer.id, 2_000 + LATE_MS + SLACK_MS);
  expect([body.end_reason, body.expires_at]).toEqual(["expired", expires_at]);
  const lateMs = Date.parse(body.ended_at) - Date.parse(expires_at);
  expect(lateMs).toBeGreaterThanOrEqual(0);
  expect(lateMs).toBeLessThanOrEqual(LATE_MS);
  await eventually(
    async () => receiver.received.map((told) => told.body.request_id),
    (ids) => ids.includes(next.body.id),
  );
});

row("a client dies and its lease has none", async () => {
  const daemon = await startReady({ simulate: "t4x1" });
  const { answer, die } = await startClient(daemon, { service_name: "mortal" });
  await die();
  await sleep(3_000);
  await daemon.end("SIGKILL");
  const again = await startReady({ simulate: "t4x1", folder: daemon.folder });
  expect(await record(again, answer.id)).toMatchObject({ status: "leased" });
  const { gpus } = (await again.call("GET", "/gpu/status")).body;
  expect(gpus[0]).toMatchObject({ allocated: true, allocated_to: "mortal" });
  expect((await again.allocate({ queue: false })).body.code).toBe("no-gpu-free");
  await again.release(answer.id);
  await eventually(
    () => again.allocate({ queue: false }),
    ({ status }) => status === 200,
  );
});

row("a client dies while it waits", async () => {
  const daemon = await startReady({ simulate: "t4x1", config: "scheduler:\n  abandon_after: 1s\n" });
  await daemon.allocate();
  const { answer, die } = await startClient(daemon, { service_name: "patient" });
  await sleep(3_000);
  expect((await record(daemon, answer.id)).status).toBe("queued");
  await die();
  const seen = performance.now();
  // To look at it as its client would be a sign of life.
  const { body } = await eventually(
    () => daemon.call("GET", "/gpu/list"),
    (list) => list.body.queue.length === 0,
    1_000 + LATE_MS + SLACK_MS,
  );
  expect(body.allocations).toHaveLength(1);
  expect(performance.now() - seen).toBeGreaterThan(500);
  expect((await record(daemon, answer.id)).end_reason).toBe("abandoned");
});

row("a client hangs up before it was told of its GPUs", async () => {
  const config = "scheduler:\n  abandon_after: 2s\nallocator:\n  verify_release: never\n";
  const daemon = await startReady({ simulate: "t4x1", config });
  const receiver = await receive();
  const held = await daemon.allocate();
  const content = JSON.stringify({ service_name: "hasty" });
  const socket = connect(Number(new URL(daemon.url).port), "127.0.0.1");
  onTestFinished(() => void socket.destroy());
  const head = `POST /gpu/allocate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nPrefer: wait=60\r\n`;
  socket.write(`${head}Content-Length: ${content.length}\r\n\r\n${content}`);
  const list = async () => (await daemon.call("GET", "/gpu/list")).body;
  const { queue } = await eventually(list, (body) => body.queue.length === 1);
  const next = await daemon.allocate({ service_name: "next", webhook_url: receiver.url });
  // The release that it waits for and its hanging up reach the daemon in one moment.
  await stopped(daemon);
  const released = daemon.release(held.body.id);
  await sleep(100);
  socket.destroy();
  await sleep(100);
  daemon.process.kill("SIGCONT");
  await released;
  const id = queue[0].id;
  await eventually(list, ({ allocations: [offer] }) => offer?.id === id && offer.status === "offered");
  await eventually(
    async () => receiver.received.map((told) => told.body.request_id),
    (ids) => ids.includes(next.body.id),
    2_000 + LATE_MS + SLACK_MS,
  );
  expect((await record(daemon, id)).end_reason).toBe("unclaimed");
});

row("a client repeats a call because its answer was lost", async () => {
  const daemon = await startReady();
  const ask = (on: TestDaemon, headers: Record<string, string>) =>
    on.call("POST", "/gpu/allocate", { service_name: "svc" }, headers);
  const key = { "Idempotency-Key": "3f9a" };
  const first = await ask(daemon, key);
  const second = await ask(daemon, key);
  expect([second.status, second.body.id]).toEqual([200, first.body.id]);
  await daemon.end("SIGKILL");
  const again = await startReady({ folder: daemon.folder });
  const third = await ask(again, key);
  expect([third.status, third.body.id, third.body.fencing_token]).toEqual([
    200,
    first.body.id,
    first.body.fencing_token,
  ]);
  expect((await again.call("GET", "/gpu/list")).body.allocations).toHaveLength(1);
  const without = await ask(again, {});
  expect(without.body.id).not.toBe(first.body.id);
  expect((await again.call("GET", "/gpu/list")).body.allocations).toHaveLength(2);
});

row("a client releases twice", async () => {
  const daemon = await startReady();
  const { body } = await daemon.allocate();
  expect((await daemon.release(body.id)).body.status).toBe("released");
  const again = await daemon.release(body.id);
  expect([again.status, again.body.status]).toEqual([200, "released"]);
  expect((await daemon.release("svc-never")).status).toBe(404);
});

row("a lease's end fell into the daemon's absence", async () => {
  const before = await startReady();
  const renewed = await before.allocate({ ttl: "2s" });
  const silent = await before.allocate({ ttl: "2s" });
  await before.end("SIGKILL");
  await sleep(3_000);
  const begun = performance.now();
  const after = await startReady({ folder: before.folder });
  expect((await renew(after, renewed.body.id)).body.status).toBe("leased");
  expect((await record(after, silent.body.id)).status).toBe("leased");
  keepRenewing(after, renewed.body.id);
  const end = await ended(after, silent.body.id, 2_000 + LATE_MS + SLACK_MS);
  expect(end.body.end_reason).toBe("expired");
  expect(end.at - begun).toBeGreaterThanOrEqual(2_000);
  expect((await record(after, renewed.body.id)).status).toBe("leased");
});

/** A daemon whose database is on `folder`, while `fill` and `free` take the space away and give it back. */
async function onFullDisk(daemon: TestDaemon, fill: () => void, free: () => void): Promise<void> {
  const receiver = await receive();
  const held = await daemon.allocate({ required_gpus: 7, ttl: "1h" });
  const mortal = await daemon.allocate({ ttl: "3s" });
  const queued = await daemon.allocate({ service_name: "next", required_gpus: 8, webhook_url: receiver.url });
  fill();
  const refused = await daemon.allocate({ service_name: "another" });
  expect([refused.status, refused.body.code]).toEqual([503, "storage-unavailable"]);
  expect((await daemon.release(held.body.id)).status).toBe(503);
  expect((await renew(daemon, mortal.body.id)).status).toBe(503);
  // Time does not stand still: what falls due cannot be written down, and nothing is granted for it.
  await sleep(4_000);
  expect((await daemon.call("GET", "/healthz")).status).toBe(200);
  expect((await daemon.call("GET", "/readyz")).status).toBe(503);
  const { body: list } = await daemon.call("GET", "/gpu/list");
  expect(list.allocations.map(({ id }: { id: string }) => id).sort()).toEqual([held.body.id, mortal.body.id].sort());
  expect(list.queue.map(({ id }: { id: string }) => id)).toEqual([queued.body.id]);
  expect((await daemon.call("GET", "/gpu/status")).body.gpus).toHaveLength(8);
  expect((await daemon.call("GET", "/gpu/allocations")).body.allocations).toHaveLength(3);
  expect(await record(daemon, queued.body.id)).toMatchObject({ status: "queued", position: 1 });
  expect(receiver.received).toEqual([]);
  free();
  // Without anybody's doing.
  await eventually(
    () => daemon.call("GET", "/readyz"),
    ({ status }) => status === 200,
    LATE_MS + SLACK_MS,
  );
  // Its end fell into the time in which it could not be renewed.
  expect((await renew(daemon, mortal.body.id)).body.status).toBe("leased");
  for (const { body } of [held, mortal]) expect((await daemon.release(body.id)).status).toBe(200);
  await eventually(
    async () => receiver.received.map((told) => told.body.request_id),
    (ids) => ids.includes(queued.body.id),
  );
}

const hasPrlimit = spawnSync("prlimit", ["--version"]).status === 0;

row("the disk is full", async ({ skip }) => {
  if (!hasPrlimit) return skip("needs prlimit, of util-linux");
  const daemon = await startReady();
  // No file of the daemon's may grow, so that every write fails.
  const limit = (bytes: string) =>
    void execFileSync("prlimit", ["--pid", String(daemon.process.pid), `--fsize=${bytes}:`]);
  await onFullDisk(
    daemon,
    () => limit("0"),
    () => limit("unlimited"),
  );
});

/** A file system of its own, of which a test may use every byte; `null` where it may not be mounted. */
function smallFileSystem(): string | null {
  const folder = join(temporaryFolder(), "disk");
  mkdirSync(folder);
  if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]).status !== 0) return null;
  onTestFinished(() => void spawnSync("umount", [folder]));
  return folder;
}

test.skipIf(!isBuilt || process.getuid?.() !== 0)(
  "the same on a file system without a free byte (needs the built program, and root to mount one)",
  async ({ skip }) => {
    const folder = smallFileSystem();
    if (folder === null) return skip("no file system can be mounted here");
    const daemon = await startReady({ config: `storage:\n  path: ${JSON.stringify(join(folder, "state.db"))}\n` });
    const filler = join(folder, "filler");
    const fill = () => {
      const { bavail, bsize } = statfsSync(folder);
      writeFileSync(filler, Buffer.alloc(bavail * bsize));
      expect(statfsSync(folder).bavail).toBe(0);
    };
    await onFullDisk(daemon, fill, () => rmSync(filler));
    await daemon.end("SIGTERM");
  },
);

row("a webhook receiver is down or slow", async () => {
  const daemon = await startReady({ simulate: "t4x1" });
  const [failing, sound] = [await receive(), await receive()];
  failing.status = 503;
  const held = await daemon.allocate();
  const first = await daemon.allocate({ service_name: "first", webhook_url: failing.url });
  await daemon.release(held.body.id);
  await eventually(
    async () => failing.received.length,
    (count) => count > 0,
  );
  // While its calls are repeated others have theirs.
  await daemon.release(first.body.id);
  const again = await eventually(
    () => daemon.allocate({ queue: false }),
    ({ status }) => status === 200,
  );
  const second = await daemon.allocate({ service_name: "second", webhook_url: failing.url });
  await daemon.release(again.body.id);
  await eventually(
    async () => failing.received.filter(({ body }) => body.request_id === second.body.id).length,
    (count) => count >= 2,
  );
  const third = await daemon.allocate({ service_name: "third", webhook_url: sound.url });
  await daemon.release(second.body.id);
  await eventually(
    async () => sound.received.map(({ body }) => body.request_id),
    (ids) => ids.includes(third.body.id),
  );
});
