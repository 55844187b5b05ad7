/** The users of one host, without keys: over the socket each is a principal, with perl and without, by the command line and both SDKs. */
import { execFile } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isBuilt, PROGRAM, startDaemon, type TestDaemon, temporaryFolder } from "./daemon.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;
/** The program and the SDKs where every user may read them: a checkout may be in somebody's home. */
const FOLDER = temporaryFolder();

interface Said {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

const WAYS = [
  ["by the kernel's word (needs perl)", true],
  ["by a directory, where there is no perl", false],
] as const;
const hasPerl = ["/usr/bin/perl", "/bin/perl"].some((path) => existsSync(path));

beforeAll(() => {
  chmodSync(FOLDER, 0o755);
  cpSync(join(PROGRAM, ".."), join(FOLDER, "dist"), { recursive: true });
  cpSync(join(ROOT, "src/client"), join(FOLDER, "client"), { recursive: true });
  cpSync(join(ROOT, "src/platform"), join(FOLDER, "platform"), { recursive: true });
  cpSync(join(ROOT, "sdk/python/gpuo"), join(FOLDER, "python/gpuo"), { recursive: true });
});

describe.skipIf(!isBuilt).each(WAYS)("users of the host are known %s (needs the built program)", (_, withPerl) => {
  let daemon: TestDaemon;
  let socket = "";

  beforeAll(async () => {
    if (withPerl && !hasPerl) return;
    const folder = temporaryFolder();
    chmodSync(folder, 0o755);
    socket = join(folder, "run", "gpuo.sock");
    mkdirSync(join(folder, "run"));
    const bin = join(folder, "bin");
    mkdirSync(bin);
    for (const name of ["getent", ...(withPerl ? ["perl"] : [])]) symlinkSync(`/usr/bin/${name}`, join(bin, name));
    daemon = await startDaemon({ folder, config: `server:\n  socket: ${socket}\n`, env: { PATH: bin } });
  }, 60_000);

  afterAll(async () => {
    await daemon?.end();
    daemon?.removeFolder();
  });

  async function by(uid: number, program: string, ...args: string[]): Promise<Said> {
    const env = { PATH: "/usr/bin:/bin", HOME: "/nonexistent", GPU_ORCHESTRATOR_URL: `unix:${socket}`, USER: "x" };
    const who = uid === process.getuid?.() ? {} : { uid, gid: uid };
    return promisify(execFile)(program, args, { env, cwd: "/", ...who }).then(
      ({ stdout, stderr }) => ({ status: 0, stdout, stderr }),
      (error: { code: number; stdout: string; stderr: string }) => ({ ...error, status: error.code }),
    );
  }
  const own = process.getuid?.() ?? 0;
  const gpuo = (uid: number, ...args: string[]) =>
    by(uid, process.execPath, join(FOLDER, "dist/gpu-orchestrator.js"), ...args);

  test.skipIf(withPerl && !hasPerl)("nothing is served at a port, and a job's lease is its user's", async () => {
    expect(daemon.url).toBe(`unix:${socket}`);
    const shown = `${process.execPath} ${join(FOLDER, "dist/gpu-orchestrator.js")} leases --json`;
    const { status, stdout } = await gpuo(own, "run", "-g", "1", "--", "sh", "-c", shown);
    expect(status).toBe(0);
    expect(stdout).toContain(`"principal":"${userInfo().username}"`);
    expect((await gpuo(own, "status")).stdout).toContain(", 0 leases,");
    if (!withPerl) expect(readdirSync(`${socket}.callers`)).toEqual([]);
  });

  test.skipIf(!isRoot || (withPerl && !hasPerl))(
    "one user gives back nothing of another's, and administers nothing (needs root)",
    async () => {
      const asked = await gpuo(own, "allocate", "-g", "1", "--max-duration", "1h", "--export");
      const id = /GPU_ORCHESTRATOR_ALLOCATION_ID=['"]?([\w-]+)/.exec(asked.stdout)?.[1] ?? "";
      expect(id).not.toBe("");
      expect((await gpuo(NOBODY, "release", id)).status).not.toBe(0);
      expect((await gpuo(NOBODY, "cordon", "7", "--reason", "mine")).status).toBe(77);
      expect((await gpuo(NOBODY, "leases", "--json")).stdout).not.toContain(`"principal":"root"`);
      expect((await gpuo(own, "release", id)).status).toBe(0);
    },
  );

  const PYTHON = `
import json, sys
sys.path.insert(0, ${JSON.stringify(join(FOLDER, "python"))})
import gpuo
with gpuo.gpus(1) as lease:
    client = gpuo.Client()
    print(json.dumps([client.call("GET", "/gpu/me")["principal"], client.record(lease.id)["principal"]]))
`;
  const TYPESCRIPT = `
const { connect } = await import(${JSON.stringify(join(FOLDER, "client/index.ts"))});
const client = connect();
const lease = await client.lease({ gpus: 1 });
console.log(JSON.stringify([(await client.me()).principal, (await client.record(lease.id)).principal]));
await lease.release();
`;
  for (const [name, program, args] of [
    ["Python", "/usr/bin/python3", ["-c", PYTHON]],
    [
      "TypeScript",
      process.execPath,
      ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", TYPESCRIPT],
    ],
  ] as const)
    test.skipIf(!isRoot || !existsSync(program) || (withPerl && !hasPerl))(
      `the ${name} SDK leases as whoever runs it (needs root)`,
      async () => {
        const { stdout, stderr, status } = await by(NOBODY, program, ...args);
        expect([status, stderr]).toEqual([0, ""]);
        expect(JSON.parse(stdout)).toEqual(["nobody", "nobody"]);
      },
    );
});
