import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { eventually, isBuilt, PROGRAM, type TestDaemon } from "./daemon.ts";
import { startReady } from "./steps.ts";

const ADMIN = { "X-API-Key": "admin-key-0123456789" };
const ANN = { "X-API-Key": "ann-key-0123456789ab" };
const CONFIG = `
auth:
  enabled: true
  api_keys:
    admin-key-0123456789: {principal: root, role: admin}
    ann-key-0123456789ab: ann
`;

const audit = async (daemon: TestDaemon, query = "") =>
  (await daemon.call("GET", `/gpu/audit${query}`, undefined, ADMIN)).body;

/** Refusals are written a second later at most. */
const refusals = (daemon: TestDaemon, count: number) =>
  eventually(
    () => audit(daemon, "?result=refused"),
    ({ entries }) => entries.length >= count,
  );

test.skipIf(!isBuilt)(
  "what was changed and what was refused is in the audit, over a restart, for admins only",
  async () => {
    const daemon = await startReady({ config: CONFIG });
    const { body: lease, headers } = await daemon.call("POST", "/gpu/allocate", { service_name: "svc" }, ANN);
    await daemon.call("POST", `/gpu/allocations/${lease.id}/renew`, {}, ANN);
    await daemon.call("DELETE", `/gpu/allocations/${lease.id}`, undefined, ANN);
    // What changes nothing is no change.
    await daemon.call("POST", "/gpu/release", { allocation_id: lease.id }, ANN);
    await daemon.call("POST", "/gpu/gpus/0/cordon", { reason: "fan is loud" }, ADMIN);
    const foreign = await daemon.call("POST", "/gpu/drain", { reason: "mine" }, ANN);
    await daemon.call("POST", "/gpu/allocate", { service_name: "svc" }, { "X-API-Key": "guess" });
    expect((await daemon.call("GET", "/gpu/audit", undefined, ANN)).status).toBe(403);

    const { entries: done } = await audit(daemon, "?result=done");
    const [status] = (await daemon.call("GET", "/gpu/status", undefined, ADMIN)).body.gpus;
    expect(done).toMatchObject([
      { principal: "root", action: "POST /gpu/gpus/{id}/cordon", object: status.uuid, reason: "fan is loud" },
      { principal: "ann", action: "DELETE /gpu/allocations/{id}", object: lease.id },
      { principal: "ann", action: "POST /gpu/allocate", object: lease.id, address: "127.0.0.1" },
    ]);
    expect(done).toHaveLength(3);
    expect(done[2].request_id).toBe(headers.get("x-request-id"));
    expect(done[2].key_id).toMatch(/^[0-9a-f]{12}$/);

    const { entries: refused } = await refusals(daemon, 3);
    expect(refused).toMatchObject([
      { principal: "ann", action: "GET /gpu/audit", result: "role-too-low" },
      { principal: null, key_id: null, action: "POST /gpu/allocate", result: "unauthenticated", address: "127.0.0.1" },
      { principal: "ann", action: "POST /gpu/drain", result: "role-too-low" },
    ]);
    expect(refused[2].request_id).toBe(foreign.headers.get("x-request-id"));

    await daemon.end("SIGTERM");
    const again = await startReady({ config: CONFIG, folder: daemon.folder });
    expect((await audit(again, "?principal=ann&result=done")).entries).toHaveLength(2);
  },
);

test.skipIf(!isBuilt)("gpuo audit shows it, and --all --json writes all of it, one line an entry", async () => {
  const daemon = await startReady({ config: CONFIG });
  for (let n = 0; n < 3; n++) await daemon.call("POST", "/gpu/gpus/0/cordon", { reason: `for ${n}` }, ADMIN);
  const gpuo = async (...args: string[]) => {
    const env = { PATH: process.env.PATH ?? "", GPU_ORCHESTRATOR_URL: daemon.url };
    const told = { ...env, GPU_ORCHESTRATOR_API_KEY: ADMIN["X-API-Key"], HOME: daemon.folder };
    const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM, "audit", ...args], { env: told });
    return stdout.trimEnd().split("\n");
  };
  const [head, first] = await gpuo("--limit", "1");
  expect(head).toMatch(/^AT +WHO +.*ACTION/);
  expect(first).toMatch(/root .*POST \/gpu\/gpus\/\{id\}.* GPU-.*done/);
  const lines = (await gpuo("--all", "--json")).map((line) => JSON.parse(line));
  expect(lines.map(({ reason }) => reason)).toEqual(["for 2", "for 1", "for 0"]);

  const accept = { ...ADMIN, accept: "application/jsonl" };
  const page = await fetch(`${daemon.url}/gpu/audit?limit=2`, { headers: accept });
  expect(page.headers.get("content-type")).toBe("application/jsonl");
  expect(page.headers.get("link")).toBe('<?limit=2&before=2>; rel="next"');
  expect((await page.text()).trimEnd().split("\n")).toHaveLength(2);
});
