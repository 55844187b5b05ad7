import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import type { ApiKey } from "../../../src/http/server.ts";
import { type AuditEntry, NO_AUDIT } from "../../../src/ports/audit.ts";
import { isBuilt } from "../../e2e/daemon.ts";
import { apiKey, type Given, startDaemon } from "../daemon.ts";
import { allocateRequest, open } from "../peer.ts";

const KEYS = [
  apiKey("ann-key-0123456789", "ann"),
  apiKey("ann-other-key-0123", "ann"),
  apiKey("bob-key-0123456789", "bob"),
  apiKey("eye-key-0123456789", "eye", "read"),
  apiKey("root-key-0123456789", "root", "admin"),
];
const as = (name: string) => ({ "X-API-Key": `${name}-key-0123456789` });

const withKeys = (given: Given = {}) =>
  startDaemon({ keys: () => KEYS, ...given, settings: { auth: { enabled: true, headerName: "X-API-Key" } } });

test("a key is taken from its header and as a bearer token; without one, or with a wrong one, it is 401", async () => {
  const daemon = await withKeys();
  const tries: [Record<string, string>, number][] = [
    [{}, 401],
    [as("ann"), 200],
    [{ "x-api-key": "ann-key-0123456789" }, 200],
    [{ authorization: "Bearer ann-key-0123456789" }, 200],
    [{ authorization: "bearer  ann-key-0123456789" }, 200],
    [{ authorization: "Basic ann-key-0123456789" }, 401],
    [{ authorization: "ann-key-0123456789" }, 401],
    [{ "X-API-Key": "ann-key-012345678" }, 401],
    [{ "X-API-Key": "" }, 401],
    [{ "X-API-Key": KEYS[0]?.sha256 ?? "" }, 401],
    [{ "X-API-Key": "wrong", authorization: "Bearer ann-key-0123456789" }, 401],
  ];
  for (const [headers, expected] of tries) {
    const { status, headers: answered } = await daemon.call("GET", "/gpu/status", { headers });
    expect([headers, status]).toEqual([headers, expected]);
    if (status === 401) expect(answered["www-authenticate"]).toMatch(/^Bearer /);
  }
});

test("the header's name is the configured one", async () => {
  const settings = { auth: { enabled: true, headerName: "X-Gpu-Token" } };
  const daemon = await startDaemon({ settings, keys: () => KEYS });
  const status = async (headers: Record<string, string>) => (await daemon.call("GET", "/gpu/list", { headers })).status;
  expect(await status(as("ann"))).toBe(401);
  expect(await status({ "x-gpu-token": "ann-key-0123456789" })).toBe(200);
});

test("without a key only health, metrics and the static pages are open", async () => {
  const metrics = {
    render: async () => ({ contentType: "text/plain", body: "" }),
    observeRequest: () => undefined,
    limitReached: () => undefined,
  };
  const daemon = await withKeys({ metrics });
  const open = [
    "/healthz",
    "/livez",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/problems",
    ...(isBuilt ? ["/docs/start.js"] : []),
  ];
  for (const path of open) {
    expect([path, (await daemon.call("GET", path)).status]).toEqual([path, 200]);
    expect([path, (await daemon.call("GET", path, { headers: { "X-API-Key": "wrong" } })).status]).toEqual([path, 200]);
  }
  for (const path of [
    "/gpu/status",
    "/gpu/list",
    "/gpu/allocations",
    "/gpu/allocations/x",
    "/gpu/events",
    "/nowhere",
  ]) {
    expect([path, (await daemon.call("GET", path)).status]).toEqual([path, 401]);
  }
  for (const path of ["/gpu/allocate", "/gpu/release", "/gpu/workload", "/gpu/allocations/x/renew"]) {
    expect([path, (await daemon.call("POST", path, { body: "{" })).status]).toEqual([path, 401]);
  }
});

test("a role allows what it says: read looks and asks, allocate leases, admin acts on what others hold", async () => {
  const daemon = await withKeys();
  expect((await daemon.call("GET", "/gpu/status", { headers: as("eye") })).status).toBe(200);
  expect((await daemon.call("POST", "/gpu/workload", { body: {}, headers: as("eye") })).status).toBe(200);
  const refused = await daemon.allocate({}, as("eye"));
  expect(refused.json).toMatchObject({ status: 403, code: "role-too-low" });
  for (const [method, path] of [
    ["POST", "/gpu/release"],
    ["POST", "/gpu/allocations/x/renew"],
    ["DELETE", "/gpu/allocations/x"],
  ] as const) {
    const body = method === "POST" ? { body: { allocation_id: "x" } } : {};
    expect([path, (await daemon.call(method, path, { ...body, headers: as("eye") })).json.code]).toEqual([
      path,
      "role-too-low",
    ]);
  }
  const { json } = await daemon.allocate({}, as("ann"));
  expect((await daemon.call("DELETE", `/gpu/allocations/${json.id}`, { headers: as("root") })).status).toBe(200);
});

test("the principal owns, not the key: others may neither renew nor release, nor see the workload", async () => {
  const daemon = await withKeys();
  const secret = { workload_data: { model: "secret-7b" }, webhook_url: "https://hooks.example.com/token", ttl: "1h" };
  const { json: lease } = await daemon.allocate(secret, as("ann"));
  const path = `/gpu/allocations/${lease.id}`;
  const body = { allocation_id: lease.id };
  for (const refused of [
    await daemon.call("POST", `${path}/renew`, { headers: as("bob") }),
    await daemon.call("DELETE", path, { headers: as("bob") }),
    await daemon.call("POST", "/gpu/release", { body, headers: as("bob") }),
  ]) {
    expect(refused.json).toMatchObject({ status: 403, code: "not-owner" });
  }
  // By name only what is the caller's own ends.
  const byName = await daemon.call("POST", "/gpu/release", { body: { service_name: "trainer" }, headers: as("bob") });
  expect(byName.json).toMatchObject({ status: "released", released: [] });
  for (const name of ["bob", "eye"]) {
    for (const text of [
      (await daemon.call("GET", path, { headers: as(name) })).text,
      (await daemon.call("GET", "/gpu/allocations", { headers: as(name) })).text,
      (await daemon.call("GET", "/gpu/list", { headers: as(name) })).text,
    ]) {
      expect(text).toContain(lease.id);
      expect(text).not.toContain("secret-7b");
      expect(text).not.toContain("hooks.example.com");
      expect(text).not.toContain(String(lease.fencing_token));
    }
  }
  const other = { "X-API-Key": "ann-other-key-0123" };
  for (const headers of [as("ann"), other, as("root")]) {
    const { json } = await daemon.call("GET", path, { headers });
    expect(json).toMatchObject({ workload_data: secret.workload_data, webhook_url: secret.webhook_url });
  }
  expect((await daemon.call("POST", `${path}/renew`, { headers: other })).status).toBe(200);
  expect((await daemon.call("POST", "/gpu/release", { body, headers: other })).status).toBe(200);
  const { json: ended } = await daemon.call("GET", path, { headers: as("bob") });
  expect(ended).not.toHaveProperty("workload_data");
});

test("new keys count from the next request on, and old ones no more", async () => {
  let keys: readonly ApiKey[] = KEYS;
  const daemon = await withKeys({ keys: () => keys });
  const status = async (name: string) => (await daemon.call("GET", "/gpu/list", { headers: as(name) })).status;
  expect([await status("ann"), await status("new")]).toEqual([200, 401]);
  keys = [apiKey("new-key-0123456789", "new")];
  expect([await status("ann"), await status("new")]).toEqual([401, 200]);
});

test("a key that has expired is nobody's", async () => {
  const expiresAt = Date.now() + 600;
  const key = { ...apiKey("ann-key-0123456789", "ann"), expiresAt };
  const daemon = await withKeys({ keys: () => [key] });
  const status = async () => (await daemon.call("GET", "/gpu/list", { headers: as("ann") })).status;
  expect(await status()).toBe(200);
  await new Promise((resolve) => setTimeout(resolve, expiresAt - Date.now() + 20));
  expect(await status()).toBe(401);
});

test("a key outside ASCII is told by the bytes that were sent", async () => {
  const bytes = Buffer.from("schlüssel-0123456789", "utf8");
  const key: ApiKey = { sha256: createHash("sha256").update(bytes).digest("hex"), principal: "ann", role: "read" };
  const daemon = await withKeys({ keys: () => [key] });
  const headers = { "X-API-Key": bytes.toString("latin1") };
  expect((await daemon.call("GET", "/gpu/list", { headers })).status).toBe(200);
});

test("with authentication off everybody is one principal and an admin", async () => {
  const daemon = await startDaemon({ keys: () => KEYS });
  const { json: lease } = await daemon.allocate({}, as("ann"));
  expect((await daemon.call("DELETE", `/gpu/allocations/${lease.id}`)).status).toBe(200);
});

test("no log line has a key in it", async () => {
  const daemon = await withKeys({
    readiness: () => {
      throw new Error("a bug");
    },
  });
  await daemon.call("GET", "/readyz", { headers: as("ann") });
  expect(daemon.logged).toHaveLength(1);
  expect(JSON.stringify(daemon.logged)).not.toContain("ann-key");
});

test("a key that is withdrawn, expires or becomes somebody else's while its body is under way changes nothing", async () => {
  const ann = apiKey("ann-key-0123456789", "ann");
  const changes: [ApiKey[], number][] = [
    [[], 401],
    [[{ ...ann, expiresAt: 1 }], 401],
    [[{ ...ann, principal: "bob" }], 401],
    [[{ ...ann, role: "run" }], 401],
    [[{ ...ann }], 200],
  ];
  for (const [after, expected] of changes) {
    let keys: readonly ApiKey[] = [ann];
    let begun: () => void = () => undefined;
    const hasBegun = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const daemon = await withKeys({ keys: () => keys, onKeyUsed: () => begun() });
    const bytes = allocateRequest({}, "X-API-Key: ann-key-0123456789\r\nConnection: close\r\n");
    const { socket, ended } = await open(daemon.port);
    socket.write(bytes.slice(0, -5));
    await hasBegun;
    keys = after;
    socket.write(bytes.slice(-5));
    const text = await ended;
    expect(text).toContain(`HTTP/1.1 ${expected} `);
    if (expected === 401) expect(text).toMatch(/www-authenticate: Bearer .*invalid_token/i);
    expect(daemon.scheduler.state.allocations.size).toBe(expected === 200 ? 1 : 0);
  }
});

test("a key that stands where an id belongs is neither repeated nor written down", async () => {
  const kept: AuditEntry[] = [];
  const keepAudit = async (entries: readonly AuditEntry[]) => void kept.push(...entries);
  const daemon = await withKeys({ audit: { ...NO_AUDIT, keepAudit } });
  const made = `gpuo_${"aB3".repeat(12)}`;
  const chosen = "bob-key-0123456789";
  const tries: [string, string, string][] = [
    ["DELETE", `/gpu/keys/${made}`, "key-not-found"],
    ["DELETE", `/gpu/keys/${chosen}`, "key-not-found"],
    ["GET", `/gpu/keys/${chosen}`, "method-not-allowed"],
    ["DELETE", `/gpu/allocations/${made}`, "allocation-not-found"],
    ["DELETE", `/gpu/allocations/${"x".repeat(400)}`, "allocation-not-found"],
  ];
  for (const [method, path, code] of tries) {
    const { json, text } = await daemon.call(method, path, { headers: as("root") });
    expect([path, json.code]).toEqual([path, code]);
    for (const key of [made, chosen]) expect(text).not.toContain(key);
  }
  await daemon.drain();
  expect(kept.map(({ object }) => object)).toEqual([null, null, null, "gpuo_(a key)", "x".repeat(128)]);
  for (const key of [made, chosen]) expect(JSON.stringify(daemon.refused)).not.toContain(key);
  expect(daemon.refused.length).toBeGreaterThan(3);
});
