/** The unix socket: the kernel says who calls. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { connect, createServer, Socket } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";
import { Peers, peerIn, unmappedUid } from "../../../src/http/exchange/peers.ts";
import { apiKey, startDaemon } from "../daemon.ts";

const hasPerl = ["/usr/bin/perl", "/bin/perl"].some((path) => existsSync(path));
const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;

function socketPath(): string {
  const folder = mkdtempSync(join(tmpdir(), "socket-"));
  chmodSync(folder, 0o755);
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "gpuo.sock");
}

const silent = () => undefined;

async function serveAt(path: string, given: Parameters<typeof startDaemon>[0] = {}, adminGroup: string | null = null) {
  const daemon = await startDaemon({ peers: new Peers(adminGroup, silent), ...given });
  await daemon.listenOnSocket(path);
  onTestFinished(() => daemon.drain());
  return daemon;
}

interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks at whatever is there.
  readonly json: any;
}

function call(socketPath: string, path: string, headers: Record<string, string> = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, headers, agent: false }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (chunk) => {
        text += chunk;
      });
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, json: JSON.parse(text) }));
    });
    asked.on("error", reject).end();
  });
}

/** The same call by a user who is nobody in particular. */
async function callAsNobody(socketPath: string, path: string) {
  const program = `
    require("node:http").request({ socketPath: ${JSON.stringify(socketPath)}, path: ${JSON.stringify(path)}, agent: false }, (answer) => {
      answer.pipe(process.stdout);
    }).end();`;
  const options = { uid: NOBODY, gid: NOBODY, cwd: "/" };
  const { stdout } = await promisify(execFile)(process.execPath, ["-e", program], options);
  return JSON.parse(stdout);
}

describe.skipIf(!hasPerl)("with perl, which every Debian has", () => {
  test("the local user is the principal, and may use what was asked for by it alone", async () => {
    const path = socketPath();
    await serveAt(path);
    const { json } = await call(path, "/gpu/me");
    expect(json.principal).toBe(userInfo().username);
    expect(json.role).toBe(isRoot ? "admin" : "allocate");
    expect(statSync(path).mode & 0o777).toBe(0o666);
  });

  test("with keys on, a key says who calls instead, and a wrong one is refused", async () => {
    const path = socketPath();
    await serveAt(path, {
      settings: { auth: { enabled: true, headerName: "X-API-Key" } },
      keys: () => [apiKey("k", "ann")],
    });
    expect((await call(path, "/gpu/me", { "x-api-key": "k" })).json.principal).toBe("ann");
    expect((await call(path, "/gpu/me", { "x-api-key": "wrong" })).status).toBe(401);
    expect((await call(path, "/gpu/me")).json.principal).toBe(userInfo().username);
  });

  test.skipIf(!isRoot)("another user may allocate and administer nothing, unless in the group of admins", async () => {
    const [plain, grouped] = [socketPath(), socketPath()];
    await serveAt(plain);
    expect(await callAsNobody(plain, "/gpu/me")).toMatchObject({ principal: "nobody", role: "allocate" });
    expect(await callAsNobody(plain, "/gpu/webhooks/deliveries")).toMatchObject({ code: "role-too-low" });
    await serveAt(grouped, {}, "nogroup");
    expect(await callAsNobody(grouped, "/gpu/me")).toMatchObject({ principal: "nobody", role: "admin" });
  });

  test("a file that a dead daemon left is replaced; one at which somebody listens, or that is none, is not", async () => {
    const path = socketPath();
    const other = createServer();
    await new Promise<void>((resolve) => {
      other.listen(path, resolve);
    });
    const daemon = await startDaemon({ peers: new Peers(null, silent) });
    const further = await startDaemon({ peers: new Peers(null, silent) });
    for (const one of [daemon, further]) onTestFinished(() => one.drain());
    await expect(further.listenOnSocket(path)).rejects.toThrow("EADDRINUSE");
    other.close();
    const dead = socketPath();
    const dying = `require("node:net").createServer().listen(${JSON.stringify(dead)}, () => process.kill(process.pid, "SIGKILL"))`;
    await promisify(execFile)(process.execPath, ["-e", dying]).catch(() => undefined);
    expect(existsSync(dead)).toBe(true);
    await daemon.listenOnSocket(dead);
    expect((await call(dead, "/gpu/me")).status).toBe(200);
    const file = socketPath();
    writeFileSync(file, "");
    await expect(further.listenOnSocket(file)).rejects.toThrow();
  });

  test("who does not read what it asked for holds up nobody", async () => {
    const path = socketPath();
    await serveAt(path);
    const left = `${path}.left`;
    // A process of its own, which ends by itself: a daemon that waited for it would stop this one.
    const program = `
      const socket = require("node:net").connect(${JSON.stringify(path)});
      socket.write("GET /openapi.json HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n".repeat(8));
      // What has come is looked at and not taken.
      socket.once("readable", () => console.log("answered"));
      setTimeout(() => {
        require("node:fs").writeFileSync(${JSON.stringify(left)}, "");
        process.exit();
      }, 20_000);`;
    const client = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
    onTestFinished(() => void client.kill("SIGKILL"));
    await once(client.stdout, "data");
    for (let n = 0; n < 5; n++) expect((await call(path, "/livez")).status).toBe(200);
    expect(existsSync(left)).toBe(false);
  }, 60_000);

  test("a request that does not become whole in time is refused", async () => {
    const path = socketPath();
    await serveAt(path, { settings: { readTimeoutMs: 200 } });
    const socket = connect(path);
    onTestFinished(() => void socket.destroy());
    socket.write("GET /livez HTTP/1.1\r\nHost: local");
    let text = "";
    for await (const chunk of socket) text += chunk;
    expect(text).toMatch(/^HTTP\/1\.1 408 /);
  });

  test.skipIf(!isRoot)("a user who has the number of several is refused, and that is said once", async () => {
    const path = socketPath();
    const said: object[] = [];
    await serveAt(path, { peers: new Peers(null, (facts) => said.push(facts), NOBODY) });
    for (let n = 0; n < 2; n++) await expect(callAsNobody(path, "/gpu/me")).rejects.toThrow();
    expect((await call(path, "/gpu/me")).status).toBe(200);
    expect(said).toEqual([{ uid: NOBODY }]);
  });

  test("what does not say who is there is ended, and nobody is taken for anybody", async () => {
    const path = socketPath();
    await serveAt(path);
    withoutPrograms();
    await expect(call(path, "/gpu/me")).rejects.toThrow();
  });
});

function withoutPrograms(): void {
  const before = process.env.PATH;
  process.env.PATH = "/nowhere";
  onTestFinished(() => {
    process.env.PATH = before;
  });
}

test("a socket is not opened where nothing can say who calls, and nobody can prove it", async () => {
  withoutPrograms();
  const path = socketPath();
  symlinkSync("/tmp", `${path}.callers`);
  const error: unknown = await serveAt(path).catch((caught: unknown) => caught);
  expect(error).toMatchObject({ message: expect.stringMatching(/needs perl.*ENOTDIR/) });
  expect(existsSync(path)).toBe(false);
});

test("of more than may wait to be known the one that waits longest is ended", async () => {
  const peers = new Peers(null, silent);
  const order: number[] = [];
  // Eight are asked about at once, and 1,024 may wait; of these nothing can be known, since they are not connected.
  const asked = Array.from({ length: 8 + 1_024 + 1 }, async (_, n) => {
    const isKnown = await peers.identify(new Socket()).catch(() => false);
    order.push(n);
    return isKnown;
  });
  expect(new Set(await Promise.all(asked))).toEqual(new Set([false]));
  expect(order.find((n) => n >= 8)).toBe(8);
  expect(order.at(-1)).toBe(8 + 1_024);
});

test("where the process' namespace has not all users, those whom it lacks have one number", () => {
  expect(unmappedUid("         0          0 4294967295\n", "65534\n")).toBe(null);
  expect(unmappedUid("         0     100000      65536\n", "65534\n")).toBe(65_534);
  expect(unmappedUid("0 1000 1\n1 100000 65536\n", "65534\n")).toBe(65_534);
});

test("an answer that is none of the program's names nobody", () => {
  for (const text of ["", "0 1\n", "x 1 root\n", "1 2 a\n", "-1 0 a\n"]) expect(peerIn(text), text).toBe(null);
});

test("one whom the books of users do not know is known by number", () => {
  expect(peerIn("1234 0 \n")).toMatchObject({ actor: { principal: "uid:1234", admin: false }, role: "allocate" });
  expect(peerIn("0 0 root\n")).toMatchObject({ actor: { principal: "root", admin: true }, role: "admin" });
  expect(peerIn("7 1 ann\n")).toMatchObject({ actor: { principal: "ann", admin: true }, uid: 7 });
});
