/** A Redis that is not there, though somebody answers at its address: no Redis is needed for that. */

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import type { AddressInfo, Socket } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { connectRedis, RedisRefusedError } from "../../src/broker/connection.ts";
import { Mloc } from "../../src/broker/mloc.ts";
import { Streams } from "../../src/broker/streams.ts";
import { steadyClock } from "../../src/platform/clock.ts";
import { freePort } from "../e2e/free-port.ts";
import { until } from "../worker/site.ts";
import { QUIET, SECRET } from "./hosts.ts";
import { hasRedis, NEEDS_REDIS } from "./redis.ts";

/** Takes every connection, and says nothing. */
async function mute(): Promise<{ readonly url: string; readonly open: ReadonlySet<Socket> }> {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    socket.on("error", () => undefined);
    socket.resume();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  return { url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`, open };
}

test("an attempt to reach it is given up, and its connection closed", async () => {
  const { url, open } = await mute();
  await expect(connectRedis(url)).rejects.toThrow();
  await until("it is closed", () => open.size === 0);
});

test("nobody who is to stop waits for it", async () => {
  const { url, open } = await mute();
  const receiver = { take: () => undefined, restored: () => undefined };
  const streams = new Streams(
    { url, secret: SECRET, stream: "s", group: "node", clock: steadyClock(), log: QUIET },
    receiver,
  );
  const mloc = new Mloc(url, QUIET, () => undefined);
  streams.start();
  mloc.start();
  const sent = streams.call(["PING"]);
  await until("all three try", () => open.size === 3);
  await Promise.all([streams.stop(), mloc.stop()]);
  expect(await sent).toBeNull();
  expect(streams.up).toBe(false);
  await until("all are closed", () => open.size === 0);
});

test.skipIf(!hasRedis)(`a Redis Cluster is refused, with what to name instead (${NEEDS_REDIS})`, async () => {
  const folder = mkdtempSync(join(tmpdir(), "gpuo-redis-cluster-"));
  const port = await freePort();
  const options = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--cluster-enabled", "yes"];
  const server = spawn("redis-server", [...options, "--dir", folder], { stdio: "ignore" });
  onTestFinished(async () => {
    const gone = new Promise((resolve) => server.once("exit", resolve));
    server.kill("SIGKILL");
    await gone;
    rmSync(folder, { recursive: true, force: true });
  });
  const refusal = async () => {
    for (let i = 0; i < 600; i++) {
      const error = await connectRedis(`redis://127.0.0.1:${port}`).then(
        () => null,
        (reason: unknown) => reason,
      );
      if (error === null || error instanceof RedisRefusedError) return error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return "it did not start";
  };
  expect(String(await refusal())).toContain(
    "this is a Redis Cluster: set cluster.redis_url to a single Redis, or to Sentinels",
  );
});
