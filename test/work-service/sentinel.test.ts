/** A master, its replica and two Sentinels, as Debian has them: what is written goes to whoever is the master now. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectRedis, type RedisReply } from "../../src/broker/connection.ts";
import type { Message } from "../../src/broker/messages.ts";
import { Streams } from "../../src/broker/streams.ts";
import { steadyClock } from "../../src/platform/clock.ts";
import { eventually } from "../e2e/daemon.ts";
import { freePort } from "../e2e/free-port.ts";
import { QUIET, SECRET } from "./hosts.ts";
import { hasRedis, NEEDS_REDIS } from "./redis.ts";

const LONG = 120_000;
const hasOpenssl = spawnSync("openssl", ["version"]).status === 0;
const folder = mkdtempSync(join(tmpdir(), "gpuo-sentinel-"));
const servers: ChildProcess[] = [];

function begin(...args: readonly string[]): ChildProcess {
  const child = spawn("redis-server", args, { stdio: "ignore", cwd: folder });
  servers.push(child);
  return child;
}

function server(port: number, ...more: readonly string[]): ChildProcess {
  return begin("--port", String(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder, ...more);
}

function sentinel(name: string, port: number, master: number): ChildProcess {
  const file = join(folder, `${name}.conf`);
  const lines = [`port ${port}`, "bind 127.0.0.1", `dir ${folder}`, `sentinel monitor work 127.0.0.1 ${master} 2`];
  const times = ["sentinel down-after-milliseconds work 1000", "sentinel failover-timeout work 5000"];
  writeFileSync(file, [...lines, ...times, ""].join("\n"));
  return begin(file, "--sentinel");
}

/** A server that cannot be asked at present has not come to it. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const asked = async () => {
    try {
      return await holds();
    } catch {
      return false;
    }
  };
  await eventually(asked, (isSo) => isSo, LONG);
}

async function answers(url: string, ...args: readonly string[]): Promise<RedisReply> {
  const redis = await connectRedis(url);
  try {
    return await redis.call(args);
  } finally {
    redis.close();
  }
}

describe.skipIf(!hasRedis)(`Sentinels (${NEEDS_REDIS})`, () => {
  let [master, replica, one, two] = [0, 0, 0, 0];
  let first: ChildProcess;
  let url = "";

  beforeAll(async () => {
    [master, replica, one, two] = [await freePort(), await freePort(), await freePort(), await freePort()];
    first = server(master);
    server(replica, "--replicaof", "127.0.0.1", String(master));
    for (const [i, port] of [one, two].entries()) sentinel(`sentinel-${i}`, port, master);
    // The first of them is not there: it goes on to the next.
    url = `redis+sentinel://127.0.0.1:${await freePort()},127.0.0.1:${one},127.0.0.1:${two}/work`;
    await until(async () => (await answers(url, "PING")) === "PONG");
  }, LONG);

  afterAll(() => {
    for (const child of servers) child.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  });

  test("a name that they do not know is refused with that", async () => {
    await expect(connectRedis(url.replace("/work", "/other"))).rejects.toThrow("knows no master other");
  });

  test(
    "a master that is not on this host is not spoken to in the clear",
    async () => {
      const elsewhere = await freePort();
      const file = join(folder, "elsewhere.conf");
      writeFileSync(file, `port ${elsewhere}\nbind 127.0.0.1\ndir ${folder}\nsentinel monitor work 192.0.2.1 6379 1\n`);
      begin(file, "--sentinel");
      const asked = () => connectRedis(`redis+sentinel://127.0.0.1:${elsewhere}/work`).then(String, String);
      await eventually(asked, (text) => text.includes("use rediss+sentinel://"), LONG);
    },
    LONG,
  );

  test.skipIf(!hasOpenssl)(
    "with TLS, Sentinels and servers are spoken to in it (needs openssl)",
    async () => {
      const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
      const made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=redis"];
      const names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert];
      spawnSync("openssl", [...made, ...names], { stdio: "ignore" });
      const [tls, asked] = [await freePort(), await freePort()];
      const files = [`tls-cert-file ${cert}`, `tls-key-file ${key}`, `tls-ca-cert-file ${cert}`, "tls-auth-clients no"];
      const common = ["port 0", "bind 127.0.0.1", `dir ${folder}`, "tls-replication yes", ...files];
      const write = (name: string, lines: readonly string[]) => {
        writeFileSync(join(folder, name), [...common, ...lines, ""].join("\n"));
        return join(folder, name);
      };
      begin(write("tls.conf", [`tls-port ${tls}`, 'save ""']));
      begin(
        write("tls-sentinel.conf", [`tls-port ${asked}`, `sentinel monitor work 127.0.0.1 ${tls} 1`]),
        "--sentinel",
      );
      const module = new URL("../../src/broker/connection.ts", import.meta.url).pathname;
      const script = `import { connectRedis } from ${JSON.stringify(module)};
      const redis = await connectRedis("rediss+sentinel://127.0.0.1:${asked}/work");
      console.log(await redis.call(["INFO", "server"]));
      redis.close();`;
      // Whom Node trusts it reads when it starts.
      const env = { ...process.env, NODE_EXTRA_CA_CERTS: cert };
      const says = () =>
        spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8", env, timeout: LONG });
      await eventually(
        async () => says().stdout,
        (text) => text.includes(`tcp_port:${tls}`),
        LONG,
      );
      // Without that trust nothing is said.
      expect(await connectRedis(`rediss+sentinel://127.0.0.1:${asked}/work`).then(String, String)).toContain(
        "self-signed",
      );
    },
    LONG,
  );

  test(
    "when the master dies its replica is written to and read, and both sides say again what is open",
    async () => {
      const taken: string[] = [];
      let restored = 0;
      const settings = { url, secret: SECRET, stream: "gpuo:evt", group: "controller" as const };
      const streams = new Streams(
        { ...settings, clock: steadyClock(), log: QUIET },
        { take: ({ id }: Message) => void taken.push(id), restored: () => void restored++ },
      );
      streams.start();
      const say = (id: string) =>
        streams.send("gpuo:evt", { id, type: "state", node: "a", assignment: "", epoch: 0, body: {} });
      try {
        await until(async () => (await say("before")) && taken.includes("before"));
        expect(restored).toBe(1);
        // A replica that has not heard of it is no successor.
        const synced = async () => /slave0:.*state=online/.test(String(await answers(url, "INFO", "replication")));
        await until(synced);
        first.kill("SIGKILL");
        await until(async () => (await say("after")) && taken.includes("after"));
        expect(restored).toBeGreaterThan(1);
        expect(String(await answers(url, "INFO", "server"))).toContain(`tcp_port:${replica}`);
        // The old one comes back, and is the new one's replica.
        server(master);
        await until(synced);
        expect(String(await answers(url, "INFO", "server"))).toContain(`tcp_port:${replica}`);
        await expect(connectRedis(`redis://127.0.0.1:${master}`)).rejects.toThrow("replica");
      } finally {
        await streams.stop();
      }
    },
    3 * LONG,
  );
});
