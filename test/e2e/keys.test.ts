import { execFile, execFileSync, spawnSync } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { isBuilt, PROGRAM, type TestDaemon } from "./daemon.ts";
import { startReady } from "./steps.ts";

const hasPrlimit = spawnSync("prlimit", ["--version"]).status === 0;
const ADMIN = { "X-API-Key": "admin-key-0123456789" };
const CONFIG = `
storage: {path: state.db}
auth:
  enabled: true
  store: database
  api_keys:
    admin-key-0123456789: {principal: root, role: admin}
`;
/** Room for the marker beside the database, and not for one more page in its log. */
const FULL_BYTES = 4_100;

async function gpuo(daemon: TestDaemon, ...args: string[]): Promise<string> {
  const env = { PATH: process.env.PATH ?? "", HOME: daemon.folder, GPU_ORCHESTRATOR_API_KEY: ADMIN["X-API-Key"] };
  const command = [PROGRAM, "keys", ...args, "--url", daemon.url];
  return (await promisify(execFile)(process.execPath, command, { env })).stdout.trimEnd();
}

const status = async (daemon: TestDaemon, key: string) =>
  (await daemon.call("GET", "/gpu/status", undefined, { "X-API-Key": key })).status;

test.skipIf(!isBuilt)(
  "gpuo keys makes, lists and revokes keys while the daemon runs; what a revoked one has open ends",
  async () => {
    const daemon = await startReady({ config: CONFIG });
    const key = /gpuo_\w{36}/.exec(await gpuo(daemon, "create", "ann", "--expires", "2999-01-01"))?.[0] ?? "";
    expect(await status(daemon, key)).toBe(200);
    const listed = (await gpuo(daemon, "list", "--json")).split("\n").map((line) => JSON.parse(line));
    expect(listed).toMatchObject([
      { principal: "root", source: "file", last_used_at: expect.any(String) },
      { principal: "ann", source: "database", role: "allocate", expires_at: "2999-01-01T00:00:00.000Z" },
    ]);

    const events = await fetch(`${daemon.url}/gpu/events`, { headers: { "X-API-Key": key } });
    await gpuo(daemon, "revoke", listed[1].id);
    expect(await status(daemon, key)).toBe(401);
    const revokedAt = performance.now();
    await events.text();
    expect(performance.now() - revokedAt).toBeLessThan(3_000);

    const { entries } = (await daemon.call("GET", "/gpu/audit?result=done", undefined, ADMIN)).body;
    expect(entries).toMatchObject([
      { principal: "root", action: "DELETE /gpu/keys/{id}", object: listed[1].id },
      { principal: "root", action: "POST /gpu/keys", object: `${listed[1].id} of ann` },
    ]);
  },
);

test.skipIf(!isBuilt || !hasPrlimit)(
  "a key that is revoked on a full disk stays revoked over kill -9 and a restart",
  async () => {
    const daemon = await startReady({ config: CONFIG });
    const { key, id } = (await daemon.call("POST", "/gpu/keys", { principal: "ann" }, ADMIN)).body;
    expect(await status(daemon, key)).toBe(200);
    execFileSync("prlimit", ["--pid", String(daemon.process.pid), `--fsize=${FULL_BYTES}:`]);
    const revoked = await daemon.call("DELETE", `/gpu/keys/${id}`, undefined, ADMIN);
    expect(revoked.body).toMatchObject({ status: 503, code: "revocation-not-durable" });
    expect(await status(daemon, key)).toBe(401);

    await daemon.end("SIGKILL");
    const again = await startReady({ config: CONFIG, folder: daemon.folder });
    expect(await status(again, key)).toBe(401);
    expect(await status(again, ADMIN["X-API-Key"])).toBe(200);
  },
);
