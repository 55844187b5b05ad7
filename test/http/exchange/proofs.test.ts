/** The unix socket where there is no perl: whoever calls proves who it is by a directory. */
import { execFile, execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { Agent, createServer, request, type ServerResponse } from "node:http";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";
import { exitCodeOf, wordsOf } from "../../../src/cli/exits.ts";
import { Client } from "../../../src/client/client.ts";
import { type ApiProblem, Unreachable } from "../../../src/client/errors.ts";
import { nodeTransport } from "../../../src/client/node-transport.ts";
import { Peers } from "../../../src/http/exchange/peers.ts";
import { isOfAnotherHost, NONCE_MS, nameBy, Proofs, ProofsError, proofsOf } from "../../../src/http/exchange/proofs.ts";
import { userBy } from "../../../src/http/exchange/users.ts";
import { apiKey, startDaemon } from "../daemon.ts";

const isRoot = process.getuid?.() === 0;
const OWN = process.getuid?.() ?? 0;
const NOBODY = 65_534;
const PROVE = "gpu-orchestrator-prove";
const PROOF = "gpu-orchestrator-proof";

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "proofs-"));
  chmodSync(made, 0o755);
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** @param time what is added to by the test. */
function opened(at = join(folder(), "gpuo.sock"), time = { ms: 0 }, maxUsed?: number) {
  const proofs = new Proofs(at, () => time.ms, maxUsed);
  onTestFinished(() => proofs.close());
  return { proofs, at, pathOf: (nonce: string) => join(proofsOf(at), nameBy(nonce, at)) };
}

/** As another user, in a shell. */
function asNobody(script: string, ...args: string[]): void {
  execFileSync("/bin/sh", ["-c", script, "sh", ...args], { uid: NOBODY, gid: NOBODY, cwd: "/", stdio: "pipe" });
}

describe("a proof", () => {
  test("is a directory that its owner makes with the name that the nonce asks for, and is removed", () => {
    const { proofs, pathOf } = opened();
    const nonce = proofs.nonce();
    mkdirSync(pathOf(nonce), { mode: 0o700 });
    expect(proofs.ownerBy(nonce)).toBe(OWN);
    expect(existsSync(pathOf(nonce))).toBe(false);
  });

  test("is taken once: neither the nonce nor what lies under its name counts again", () => {
    const { proofs, pathOf } = opened();
    const nonce = proofs.nonce();
    for (const expected of [OWN, null]) {
      mkdirSync(pathOf(nonce), { mode: 0o700 });
      expect(proofs.ownerBy(nonce)).toBe(expected);
    }
  });

  test("of one user's so many are taken at a time, and what proves nothing takes up nothing", () => {
    const time = { ms: 0 };
    const { proofs, pathOf } = opened(undefined, time, 20);
    const prove = (nonce: string) => {
      mkdirSync(pathOf(nonce), { mode: 0o700 });
      return proofs.ownerBy(nonce);
    };
    const early = proofs.nonce();
    for (let n = 0; n < 100; n++) proofs.ownerBy(n === 0 ? early : proofs.nonce());
    expect(prove(early)).toBe(OWN);
    for (let n = 1; n < 20; n++) prove(proofs.nonce());
    expect(() => prove(proofs.nonce())).toThrow(ProofsError);
    if (isRoot) {
      const nonce = proofs.nonce();
      asNobody('mkdir -m 700 "$1"', pathOf(nonce));
      expect(proofs.ownerBy(nonce)).toBe(NOBODY);
    }
    time.ms += NONCE_MS;
    expect(prove(proofs.nonce())).toBe(OWN);
  });

  test("what lies there for long is swept, however much lies before it that cannot be", () => {
    const { proofs, at } = opened();
    const long = new Date(Date.now() - 3 * NONCE_MS);
    for (let n = 0; n < 100; n++) {
      const path = join(proofsOf(at), `filled-${n}`);
      mkdirSync(join(path, "x"), { recursive: true });
      utimesSync(path, long, long);
    }
    for (let n = 0; n < 40; n++) {
      const path = join(proofsOf(at), `left-${n}`);
      mkdirSync(path);
      utimesSync(path, long, long);
    }
    mkdirSync(join(proofsOf(at), "new"));
    const left = () => readdirSync(proofsOf(at)).filter((name) => !name.startsWith("filled-"));
    proofs.sweep(40);
    expect(left().length).toBeGreaterThan(1);
    for (let n = 0; n < 3; n++) proofs.sweep(40);
    expect(left()).toEqual(["new"]);
  });

  test("what another host says of owners is not believed", () => {
    expect([0x6969, 0xff534d42, 0xfe534d42].map(isOfAnotherHost)).toEqual([true, true, true]);
    // tmpfs, ext4, overlayfs, btrfs
    expect([0x01021994, 0xef53, 0x794c7630, 0x9123683e].map(isOfAnotherHost)).toEqual([false, false, false, false]);
  });

  test("is taken in time only", () => {
    const time = { ms: 5 };
    const { proofs, pathOf } = opened(undefined, time);
    const [timely, late] = [proofs.nonce(), proofs.nonce()];
    for (const nonce of [timely, late]) mkdirSync(pathOf(nonce), { mode: 0o700 });
    time.ms += NONCE_MS - 1;
    expect(proofs.ownerBy(timely)).toBe(OWN);
    time.ms += 1;
    expect(proofs.ownerBy(late)).toBe(null);
  });

  test("needs a nonce of this daemon's, to the last bit", () => {
    const { proofs, at, pathOf } = opened();
    const other = new Proofs(join(folder(), "gpuo.sock"), () => 0);
    onTestFinished(() => other.close());
    const nonce = proofs.nonce();
    const turned = (n: number) => {
      const bytes = Buffer.from(nonce, "base64url");
      bytes[n] = (bytes[n] as number) ^ 1;
      return bytes.toString("base64url");
    };
    const forged = [
      other.nonce(),
      ...Array.from({ length: 56 }, (_, n) => turned(n)),
      `${nonce}A`,
      `${nonce}=`,
      "",
      "x",
    ];
    for (const one of forged) {
      mkdirSync(join(proofsOf(at), nameBy(one, at)), { mode: 0o700 });
      expect(proofs.ownerBy(one), one).toBe(null);
    }
    mkdirSync(pathOf(nonce), { mode: 0o700 });
    expect(proofs.ownerBy(nonce)).toBe(OWN);
  });

  test("is nothing but a directory of one user alone, and empty", () => {
    const { proofs, at, pathOf } = opened();
    const wrong: readonly ((path: string) => void)[] = [
      (path) => execFileSync("touch", [path]),
      (path) => {
        mkdirSync(join(at, "..", "mine"), { recursive: true, mode: 0o700 });
        symlinkSync(join(at, "..", "mine"), path);
      },
      (path) => execFileSync("mkfifo", [path]),
      (path) => mkdirSync(path, { mode: 0o750 }),
      (path) => {
        mkdirSync(path);
        chmodSync(path, 0o702);
      },
      (path) => mkdirSync(join(path, "something"), { recursive: true, mode: 0o700 }),
    ];
    for (const [n, make] of wrong.entries()) {
      const nonce = proofs.nonce();
      make(pathOf(nonce));
      expect(proofs.ownerBy(nonce), String(n)).toBe(null);
    }
  });

  test("for another socket's daemon is none here: what is passed on is of no use", () => {
    const { proofs, at } = opened();
    const nonce = proofs.nonce();
    // A client that was lured to another socket makes the name of that one's path.
    mkdirSync(join(proofsOf(at), nameBy(nonce, "/tmp/lure/gpuo.sock")), { mode: 0o700 });
    expect(proofs.ownerBy(nonce)).toBe(null);
  });

  test("is looked for in the folder that was made at the start, whatever takes its place", () => {
    const { proofs, at, pathOf } = opened();
    renameSync(proofsOf(at), `${at}.away`);
    mkdirSync(proofsOf(at));
    const nonce = proofs.nonce();
    mkdirSync(pathOf(nonce), { mode: 0o700 });
    expect(proofs.ownerBy(nonce)).toBe(null);
  });

  test("the folder is not made through a link, and anybody may make things there and nobody look round", () => {
    const at = join(folder(), "gpuo.sock");
    mkdirSync(join(at, "..", "elsewhere"));
    symlinkSync(join(at, "..", "elsewhere"), proofsOf(at));
    expect(() => new Proofs(at)).toThrow("ENOTDIR");
    const { at: good } = opened();
    expect(lstatSync(proofsOf(good)).mode & 0o7777).toBe(0o1733);
  });

  test("the folder goes with the daemon", () => {
    const at = join(folder(), "gpuo.sock");
    new Proofs(at).close();
    expect(existsSync(proofsOf(at))).toBe(false);
  });
});

describe.skipIf(!isRoot)("among several users (needs root)", () => {
  test("a directory is its maker's: nobody is nobody, and not root", () => {
    const { proofs, pathOf } = opened();
    const nonce = proofs.nonce();
    asNobody('mkdir -m 700 "$1"', pathOf(nonce));
    expect(proofs.ownerBy(nonce)).toBe(NOBODY);
  });

  test("a folder of somebody else's is not taken over", () => {
    const at = join(folder(), "gpuo.sock");
    chmodSync(join(at, ".."), 0o777);
    asNobody('mkdir -m 777 "$1"', proofsOf(at));
    // As root it could be; as the daemon's own user it could not, and root's would be a guess.
    expect(() => new Proofs(at)).toThrow("belongs to somebody else");
  });

  test("nobody moves root's directory there, links to it, or renames one that lies there", () => {
    const { proofs, at, pathOf } = opened();
    const home = folder();
    chmodSync(home, 0o777);
    const roots = join(home, "roots");
    mkdirSync(roots, { mode: 0o700 });
    const other = join(proofsOf(at), "f".repeat(64));
    mkdirSync(other, { mode: 0o700 });
    for (const script of ['mv -T "$1" "$3"', 'ln -s "$1" "$3"', 'mv -T "$2" "$3"', 'ln "$1" "$3"']) {
      const nonce = proofs.nonce();
      try {
        asNobody(script, roots, other, pathOf(nonce));
      } catch {
        // Refused by the system, or by the daemon.
      }
      expect(proofs.ownerBy(nonce), script).toBe(null);
    }
    expect(() => asNobody('ls "$1"', proofsOf(at))).toThrow();
  });

  test("a directory that everybody may write to can be moved there, and proves nothing", () => {
    const { proofs, at, pathOf } = opened();
    const home = folder();
    chmodSync(home, 0o777);
    const roots = join(home, "roots");
    mkdirSync(roots);
    chmodSync(roots, 0o777);
    const nonce = proofs.nonce();
    asNobody('mv -T "$1" "$2"', roots, pathOf(nonce));
    expect(lstatSync(pathOf(nonce)).uid).toBe(0);
    expect(proofs.ownerBy(nonce)).toBe(null);
    expect(readdirSync(proofsOf(at))).toEqual([]);
  });

  test.skipIf(!existsSync("/dev/fuse") || !existsSync("/usr/bin/perl"))(
    "a file system that never answers holds up nothing (needs root, FUSE and perl)",
    async () => {
      const at = join(folder(), "gpuo.sock");
      // Of its own, so that what hangs can be ended.
      const program = `
        const { Proofs, nameBy, proofsOf } = await import(${JSON.stringify(join(import.meta.dirname, "../../../src/http/exchange/proofs.ts"))});
        const { mkdirSync, utimesSync } = await import("node:fs");
        const { execFileSync, spawn } = await import("node:child_process");
        const at = ${JSON.stringify(at)};
        const proofs = new Proofs(at);
        const nonce = proofs.nonce();
        const path = proofsOf(at) + "/" + nameBy(nonce, at);
        mkdirSync(path, { mode: 0o700 });
        utimesSync(path, 1, 1);
        // mount(2) is 165 on x86-64, 40 on arm64. Nothing reads what it is asked.
        const mounting = 'open(my $f, "+<", "/dev/fuse") or die; my ($n, $p) = @ARGV; my $o = "fd=" . fileno($f) . ",rootmode=40000,user_id=0,group_id=0,allow_other";' +
          'my ($s, $t) = ("gpuo-test", "fuse"); syscall($n, $s, $p, $t, 6, $o) == 0 or die "no mount: $!"; $| = 1; print "mounted\\n"; sleep 20';
        const fuse = spawn("perl", ["-e", 'use Fcntl; $^F = 255;' + mounting, process.arch === "x64" ? "165" : "40", path], { stdio: ["ignore", "pipe", "inherit"] });
        fuse.stdout.once("data", () => {
          const start = performance.now();
          const owner = proofs.ownerBy(nonce);
          proofs.sweep();
          console.log(JSON.stringify([owner, performance.now() - start < 1000]));
          fuse.kill("SIGKILL");
        });
        fuse.once("exit", () => {
          try { execFileSync("umount", ["-l", path]); } catch {}
          process.exit();
        });`;
      const args = ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", program];
      const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 40_000, killSignal: "SIGKILL" });
      expect(JSON.parse(stdout)).toEqual([null, true]);
    },
    60_000,
  );

  test("whoever swaps one for another while it is looked at is nobody else than before", async () => {
    const { proofs, pathOf } = opened();
    const home = folder();
    mkdirSync(join(home, "roots"), { mode: 0o700 });
    const seen = new Set<number | null>();
    for (let n = 0; n < 10; n++) {
      const nonce = proofs.nonce();
      const swap =
        'for i in 1 2 3 4 5 6 7 8; do mkdir -m 700 "$1"; rmdir "$1"; ln -s "$2" "$1"; rm "$1"; done; mkdir -m 700 "$1"';
      const swapping = promisify(execFile)("/bin/sh", ["-c", swap, "sh", pathOf(nonce), join(home, "roots")], {
        uid: NOBODY,
        gid: NOBODY,
        cwd: "/",
      }).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, n));
      seen.add(proofs.ownerBy(nonce));
      await swapping;
      rmSync(pathOf(nonce), { recursive: true, force: true });
    }
    seen.delete(null);
    seen.delete(NOBODY);
    expect([...seen]).toEqual([]);
  });
});

/** Without perl, and with the books of users all the same. */
function withoutPerl(): void {
  const bin = folder();
  symlinkSync("/usr/bin/getent", join(bin, "getent"));
  const before = process.env.PATH;
  process.env.PATH = bin;
  onTestFinished(() => {
    process.env.PATH = before;
  });
}

async function serve(given: Parameters<typeof startDaemon>[0] = {}, adminGroup: string | null = null) {
  withoutPerl();
  const at = join(folder(), "gpuo.sock");
  const warned: string[] = [];
  const peers = new Peers(adminGroup, (_, message) => warned.push(message));
  const daemon = await startDaemon({ peers, ...given });
  await daemon.listenOnSocket(at);
  onTestFinished(() => daemon.drain());
  return { at, warned, daemon };
}

interface Answer {
  readonly status: number;
  readonly nonce: string;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks at whatever is there.
  readonly json: any;
}

function call(
  socketPath: string,
  path: string,
  headers: Record<string, string> = {},
  agent: Agent | false = false,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, headers, agent }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (chunk) => {
        text += chunk;
      });
      const nonce = String(answer.headers[PROVE] ?? "");
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, nonce, json: JSON.parse(text) }));
    });
    asked.on("error", reject).end();
  });
}

describe("a socket of a daemon without perl", () => {
  test("the client proves who calls, and is that user", async () => {
    const { at, warned } = await serve();
    const client = new Client({ transport: nodeTransport(`unix:${at}`) });
    expect(await client.me()).toMatchObject({ principal: userInfo().username, role: isRoot ? "admin" : "allocate" });
    expect((await client.allocate({ service_name: "svc" } as never, "key-1")).status).toBe("allocated");
    expect(readdirSync(proofsOf(at))).toEqual([]);
    expect(warned).toEqual(["perl does not answer: callers prove who they are by directories that they make"]);
  });

  test("who proves nothing may do nothing, and what is open stays open", async () => {
    const { at } = await serve();
    const answer = await call(at, "/gpu/status");
    expect(answer).toMatchObject({ status: 401, json: { code: "unauthenticated" } });
    expect(answer.nonce).not.toBe("");
    expect((await call(at, "/gpu/status", { [PROOF]: answer.nonce })).status).toBe(401);
    expect((await call(at, "/livez")).status).toBe(200);
  });

  test("one connection's proof is no other's", async () => {
    const { at } = await serve();
    const { nonce } = await call(at, "/gpu/me");
    mkdirSync(join(proofsOf(at), nameBy(nonce, at)), { mode: 0o700 });
    expect((await call(at, "/gpu/me", { [PROOF]: nonce })).json.principal).toBe(userInfo().username);
    mkdirSync(join(proofsOf(at), nameBy(nonce, at)), { mode: 0o700 });
    expect((await call(at, "/gpu/me", { [PROOF]: nonce })).status).toBe(401);
    expect((await call(at, "/gpu/me")).status).toBe(401);
  });

  test("a key counts as ever, and at the port a proof is nothing", async () => {
    const { at, daemon } = await serve({
      settings: { auth: { enabled: true, headerName: "X-API-Key" } },
      keys: () => [apiKey("k", "ann")],
    });
    expect((await call(at, "/gpu/me", { "x-api-key": "k" })).json.principal).toBe("ann");
    const { nonce } = await call(at, "/gpu/me");
    mkdirSync(join(proofsOf(at), nameBy(nonce, at)), { mode: 0o700 });
    const there = await daemon.call("GET", "/gpu/me", { headers: { [PROOF]: nonce } });
    expect([there.status, there.headers[PROVE]]).toEqual([401, undefined]);
    expect((await call(at, "/gpu/me", { [PROOF]: nonce })).json.principal).toBe(userInfo().username);
  });

  test("a question is in no audit; a proof that is none is", async () => {
    const noted: unknown[] = [];
    const audit = { keepAudit: async (entries: readonly object[]) => void noted.push(...entries) };
    const { at } = await serve({ audit: audit as never });
    const post = (headers: Record<string, string>) =>
      new Promise((resolve) => {
        request({ socketPath: at, method: "POST", path: "/gpu/drain", headers, agent: false }, (answer) => {
          answer.resume().once("end", () => resolve(answer.statusCode));
        }).end();
      });
    expect(await post({})).toBe(401);
    expect(await post({ [PROOF]: "x" })).toBe(401);
    await expect.poll(() => noted.length, { timeout: 5_000 }).toBe(1);
  });

  test.skipIf(!isRoot)("another user is itself, and an admin by its group (needs root)", async () => {
    const program = (at: string) => `
      const { Client } = await import(${JSON.stringify(join(import.meta.dirname, "../../../src/client/client.ts"))});
      const { nodeTransport } = await import(${JSON.stringify(join(import.meta.dirname, "../../../src/client/node-transport.ts"))});
      const client = new Client({ transport: nodeTransport(${JSON.stringify(`unix:${at}`)}) });
      console.log(JSON.stringify(await client.me()));`;
    const options = { uid: NOBODY, gid: NOBODY, cwd: "/" };
    for (const [group, role] of [
      [null, "allocate"],
      ["nogroup", "admin"],
    ] as const) {
      const { at } = await serve({}, group);
      const args = ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", program(at)];
      const { stdout } = await promisify(execFile)(process.execPath, args, options);
      expect(JSON.parse(stdout)).toMatchObject({ principal: "nobody", role });
    }
  });

  test.skipIf(!isRoot)("users who share a number are refused (needs root)", async () => {
    withoutPerl();
    const at = join(folder(), "gpuo.sock");
    const peers = new Peers(null, () => undefined, 0);
    const daemon = await startDaemon({ peers });
    await daemon.listenOnSocket(at);
    onTestFinished(() => daemon.drain());
    await expect(new Client({ transport: nodeTransport(`unix:${at}`) }).me()).rejects.toMatchObject({ status: 401 });
  });
});

/** Programs that stand in the daemon's PATH instead. */
function withPrograms(programs: Readonly<Record<string, string>>): string {
  const bin = folder();
  for (const [name, text] of Object.entries(programs)) writeFileSync(join(bin, name), text, { mode: 0o755 });
  const before = process.env.PATH;
  process.env.PATH = bin;
  onTestFinished(() => {
    process.env.PATH = before;
  });
  return bin;
}

test("a user who cannot be looked up now is told to come back, and is known as soon as that works", async () => {
  const { at } = await serve();
  const bin = withPrograms({ getent: "#!/bin/sh\nexit 1\n" });
  const { nonce } = await call(at, "/gpu/me");
  mkdirSync(join(proofsOf(at), nameBy(nonce, at)), { mode: 0o700 });
  const answer = await call(at, "/gpu/me", { [PROOF]: nonce });
  expect(answer).toMatchObject({ status: 503, nonce: "", json: { code: "not-ready" } });
  const me = new Client({ transport: nodeTransport(`unix:${at}`), patienceMs: 20_000 }).me();
  await new Promise((resolve) => setTimeout(resolve, 300));
  unlinkSync(join(bin, "getent"));
  symlinkSync("/usr/bin/getent", join(bin, "getent"));
  expect(await me).toMatchObject({ principal: userInfo().username });
});

test("a connection that could not be looked up is asked again, and may prove again", async () => {
  const { at } = await serve();
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  const kept = (headers: Record<string, string> = {}) => call(at, "/gpu/me", headers, agent);
  const proved = async () => {
    const { nonce } = await kept();
    mkdirSync(join(proofsOf(at), nameBy(nonce, at)), { mode: 0o700 });
    return kept({ [PROOF]: nonce });
  };
  const bin = withPrograms({ getent: "#!/bin/sh\nexit 1\n" });
  expect((await proved()).status).toBe(503);
  unlinkSync(join(bin, "getent"));
  expect((await proved()).status).toBe(200);
  expect((await kept()).status).toBe(200);
});

test("whose proof is not taken is told what a proof needs", async () => {
  const { at } = await asking(() => false);
  const asked = () => new Client({ transport: nodeTransport(`unix:${at}`) }).me().catch((caught: unknown) => caught);
  mkdirSync(proofsOf(at));
  expect(wordsOf(await asked())).toEqual([
    "the daemon asks who calls, and does not take the proof",
    expect.stringContaining("at the daemon's own path"),
  ]);
  rmdirSync(proofsOf(at));
  writeFileSync(proofsOf(at), "");
  const error = await asked();
  expect([exitCodeOf(error), wordsOf(error)[0]]).toEqual([77, expect.stringContaining("cannot be proved: ENOTDIR")]);
});

/** A daemon that asks, and takes the proof that `isTaken` likes. */
async function asking(isTaken: (proofs: number, at: string) => boolean) {
  const at = join(folder(), "gpuo.sock");
  let proofs = 0;
  const refuse = (res: ServerResponse) => {
    res.writeHead(401, { [PROVE]: `nonce-${proofs}`, "content-type": "application/problem+json" });
    res.end(JSON.stringify({ code: "unauthenticated", detail: "who are you" }));
  };
  const server = createServer((req, res) => {
    if (req.headers[PROOF] === undefined || !isTaken(++proofs, at)) refuse(res);
    else res.end(JSON.stringify({ principal: "ann" }));
  });
  await new Promise<void>((resolve) => {
    server.listen(at, resolve);
  });
  onTestFinished(() => void server.close());
  return { at, proofs: () => proofs };
}

const PYTHON_ME = `
import json, sys
sys.path.insert(0, sys.argv[2])
import gpuo
try:
    print(gpuo.Client("unix:" + sys.argv[1], patience=float(sys.argv[3])).call("GET", "/gpu/me")["principal"])
except gpuo.Unreachable as error:
    print("unreachable", error.refused)
except gpuo.ApiError as error:
    print("refused", error.status)
`;

describe.each(["TypeScript", "Python"] as const)("the %s client", (language) => {
  async function me(at: string, patienceMs: number): Promise<string> {
    if (language === "Python") {
      const sdk = join(import.meta.dirname, "../../../sdk/python");
      const args = ["-c", PYTHON_ME, at, sdk, String(patienceMs / 1_000)];
      return (await promisify(execFile)("/usr/bin/python3", args)).stdout.trim();
    }
    const client = new Client({ transport: nodeTransport(`unix:${at}`), patienceMs });
    return client.me().then(
      ({ principal }) => principal,
      (error: unknown) =>
        error instanceof Unreachable
          ? `unreachable ${error.refused ? "True" : "False"}`
          : `refused ${(error as ApiProblem).status}`,
    );
  }
  // A copy for planted bugs is without the SDK.
  const hasPython = existsSync("/usr/bin/python3") && existsSync(join(import.meta.dirname, "../../../sdk/python"));
  const here = test.skipIf(language === "Python" && !hasPython);

  here("proves once more when the first proof was not taken, and not for ever", async () => {
    const second = await asking((proofs) => proofs === 2);
    mkdirSync(proofsOf(second.at));
    expect(await me(second.at, 0)).toBe("ann");
    const never = await asking(() => false);
    mkdirSync(proofsOf(never.at));
    expect([await me(never.at, 0), never.proofs()]).toEqual(["refused 401", 2]);
    expect(readdirSync(proofsOf(never.at))).toEqual([]);
  });

  here("waits for a daemon whose folder is not there yet, and does not take it for one that is down", async () => {
    const { at } = await asking(() => true);
    expect(await me(at, 0)).toMatch(/^unreachable (False|false)$/);
    const waiting = me(at, 10_000);
    await new Promise((resolve) => setTimeout(resolve, 500));
    mkdirSync(proofsOf(at));
    expect(await waiting).toBe("ann");
  });
});

test.skipIf(!existsSync("/usr/bin/perl"))("one failure of perl at the start changes nothing (needs perl)", async () => {
  const once = 'if [ -e "$0.failed" ]; then exec /usr/bin/perl "$@"; fi\n: > "$0.failed"\nexit 1\n';
  for (const [perl, isAsked] of [
    [`#!/bin/sh\n${once}`, true],
    ["#!/bin/sh\nexit 1\n", false],
  ] as const) {
    withPrograms({ perl });
    const at = join(folder(), "gpuo.sock");
    const warned: string[] = [];
    const peers = new Peers(null, (_, message) => warned.push(message));
    onTestFinished(() => peers.close());
    await peers.check(at);
    expect([warned.length, existsSync(proofsOf(at))]).toEqual(isAsked ? [0, false] : [1, true]);
  }
});

test("the books of users say who is who, and who is an admin", async () => {
  expect(await userBy(0, null)).toEqual({ name: "root", isAdmin: true });
  expect(await userBy(4_294_900_000, "root")).toEqual({ name: "", isAdmin: false });
  expect(await userBy(1, "daemon")).toEqual({ name: "daemon", isAdmin: true });
  expect(await userBy(1, "no-such-group")).toEqual({ name: "daemon", isAdmin: false });
});

test("a system without getent has its books in files", async () => {
  const before = process.env.PATH;
  process.env.PATH = "/nowhere";
  onTestFinished(() => {
    process.env.PATH = before;
  });
  expect(await userBy(1, "daemon")).toEqual({ name: "daemon", isAdmin: true });
  expect(await userBy(4_294_900_000, null)).toEqual({ name: "", isAdmin: false });
  const none = folder();
  expect(await userBy(1, "daemon", none)).toEqual({ name: "", isAdmin: false });
  mkdirSync(join(none, "passwd"));
  await expect(userBy(1, "daemon", none)).rejects.toThrow("EISDIR");
});
