/** The unix socket: the kernel says who calls. */
import { execFile } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { createServer } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";
import { Peers, peerIn } from "../../../src/http/exchange/peers.ts";
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

async function serveAt(path: string, given: Parameters<typeof startDaemon>[0] = {}, adminGroup: string | null = null) {
  const daemon = await startDaemon({ ...given, peers: new Peers(adminGroup) });
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
    const daemon = await startDaemon({ peers: new Peers(null) });
    const further = await startDaemon({ peers: new Peers(null) });
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
});

test("what does not say who is there is ended, and nobody is taken for anybody", async () => {
  const before = process.env.PATH;
  process.env.PATH = "/nowhere";
  onTestFinished(() => {
    process.env.PATH = before;
  });
  const path = socketPath();
  await serveAt(path);
  await expect(call(path, "/gpu/me")).rejects.toThrow();
  for (const text of ["", "0 1\n", "x 1 root\n", "1 2 a\n", "-1 0 a\n"]) expect(peerIn(text), text).toBe(null);
});

test("one whom the books of users do not know is known by number", () => {
  expect(peerIn("1234 0 \n")).toMatchObject({ actor: { principal: "uid:1234", admin: false }, role: "allocate" });
  expect(peerIn("0 0 root\n")).toMatchObject({ actor: { principal: "root", admin: true }, role: "admin" });
  expect(peerIn("7 1 ann\n")).toMatchObject({ actor: { principal: "ann", admin: true }, uid: 7 });
});
