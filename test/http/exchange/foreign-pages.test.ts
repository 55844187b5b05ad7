import { connect } from "node:net";
import { hostname } from "node:os";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { isOwnHost } from "../../../src/http/exchange/origin.ts";
import { apiKey, startDaemon } from "../daemon.ts";

test("a Host must be an address, localhost, the machine's own name or an allowed one", async () => {
  const daemon = await startDaemon({ settings: { allowedHosts: ["gpu.example.com"] } });
  const own = [
    "gpu-orchestrator:8086",
    "127.0.0.1",
    "127.0.0.1:8086",
    "10.1.2.3:1",
    "[::1]:8086",
    "[fe80::1]",
    "localhost",
    "LOCALHOST:80",
  ];
  for (const host of [...own, "localhost.", hostname(), "gpu.example.com:8086", "GPU.example.com."]) {
    expect([host, (await daemon.call("GET", "/gpu/list", { headers: { host } })).status]).toEqual([host, 200]);
  }
  const foreign = [
    "evil.example",
    "gpu.example.com.evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example:80",
  ];
  for (const host of [...foreign, "user@localhost", "2130706433", "0x7f.1"]) {
    expect([host, (await daemon.call("GET", "/gpu/list", { headers: { host } })).json.code]).toEqual([
      host,
      "foreign-host",
    ]);
  }
  const forged = { body: { service_name: "a" }, headers: { host: "evil.example" } };
  expect((await daemon.call("POST", "/gpu/allocate", forged)).status).toBe(403);
  // What is open holds nothing that a page elsewhere could not have.
  for (const path of ["/openapi.json", "/healthz"]) {
    expect((await daemon.call("GET", path, { headers: { host: "evil.example" } })).status).toBe(200);
  }
  expect(daemon.scheduler.state.allocations.size).toBe(0);
});

test("a Host that is none is nobody's", () => {
  for (const host of [
    "",
    "[::1",
    "::1",
    "[evil]",
    "a b",
    "localhost:",
    "localhost:x",
    "localhost/",
    "http://localhost",
  ]) {
    expect([host, isOwnHost(host, [""])]).toEqual([host, false]);
  }
});

test("probes are answered under any name: orchestrators make names up", async () => {
  const daemon = await startDaemon();
  for (const path of ["/healthz", "/livez", "/readyz"]) {
    expect((await daemon.call("GET", path, { headers: { host: "gpu-orchestrator.svc" } })).status).toBe(200);
  }
});

test("a call with a valid key may use any Host; one with a wrong key may not", async () => {
  const settings = { auth: { enabled: true, headerName: "X-API-Key" } };
  const daemon = await startDaemon({ settings, keys: () => [apiKey("key-0123456789abcdef", "ann")] });
  const call = (key: string) =>
    daemon.call("GET", "/gpu/list", { headers: { host: "gpus.internal", "X-API-Key": key } });
  expect((await call("key-0123456789abcdef")).status).toBe(200);
  expect((await call("wrong")).status).toBe(403);
});

test("an Origin must be where the Host is", async () => {
  const daemon = await startDaemon();
  const allocate = (host: string, origin: string) => daemon.allocate({}, { host, origin });
  for (const [host, origin] of [
    ["127.0.0.1:8086", "http://127.0.0.1:8086"],
    ["localhost", "https://localhost"],
    ["localhost:443", "https://localhost"],
    ["[::1]:8086", "http://[::1]:8086"],
    ["LocalHost:8086", "http://localhost:8086"],
  ] as const) {
    expect([origin, (await allocate(host, origin)).status]).toEqual([origin, expect.toBeOneOf([200, 202])]);
  }
  for (const origin of [
    "http://evil.example",
    "http://127.0.0.1:9999",
    "https://127.0.0.1:8086.evil.example",
    "null",
    "",
    "file://127.0.0.1:8086",
    "http://",
  ]) {
    expect([origin, (await allocate("127.0.0.1:8086", origin)).json.code]).toEqual([origin, "foreign-origin"]);
  }
});

test("every answer names the program's version, also one that node's parser refuses", async () => {
  const daemon = await startDaemon();
  for (const path of ["/gpu/status", "/livez", "/nowhere"]) {
    expect((await daemon.call("GET", path)).headers["gpu-orchestrator-version"], path).toMatch(/^\d+\.\d+\.\d+/);
  }
  const socket = connect({ host: "127.0.0.1", port: daemon.port });
  socket.end("rubbish\r\n\r\n");
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 [\s\S]*\r\nGPU-Orchestrator-Version: \d+\.\d+/);
});

test("no answer invites another origin, or may be taken for another type", async () => {
  const daemon = await startDaemon();
  const preflight = { origin: "http://evil.example", "access-control-request-method": "POST" };
  for (const { headers } of [
    await daemon.call("GET", "/gpu/status"),
    await daemon.call("OPTIONS", "/gpu/allocate", { headers: preflight }),
    await daemon.call("GET", "/nowhere"),
  ]) {
    expect(Object.keys(headers).filter((name) => name.startsWith("access-control"))).toEqual([]);
    expect(headers["x-content-type-options"]).toBe("nosniff");
    expect(headers["cross-origin-resource-policy"]).toBe("same-origin");
    expect(headers).not.toHaveProperty("x-powered-by");
  }
});

test("a page of an origin that the settings name may call with a key, and its browser shows it the answer", async () => {
  const origin = "https://gpus.example.org";
  const auth = { enabled: true, headerName: "X-Token" };
  const daemon = await startDaemon({
    settings: { auth, allowedOrigins: [origin] },
    keys: () => [apiKey("key-of-ann", "ann")],
  });
  const asked = await daemon.call("OPTIONS", "/gpu/allocate", { headers: { origin, host: "gpus.example.net" } });
  expect(asked.status).toBe(204);
  expect(asked.headers).toMatchObject({
    "access-control-allow-origin": origin,
    "access-control-allow-methods": "POST, OPTIONS",
    "access-control-allow-headers": expect.stringMatching(/Content-Type.*X-Token/),
    vary: "Origin",
  });
  const headers = { origin, "x-token": "key-of-ann" };
  const granted = await daemon.allocate({}, headers);
  expect([granted.status, granted.headers["access-control-allow-origin"]]).toEqual([200, origin]);
  const keyless = await daemon.call("GET", "/gpu/list", { headers: { origin } });
  expect([keyless.status, keyless.headers["access-control-allow-origin"]]).toEqual([401, origin]);

  const other = await daemon.allocate({}, { ...headers, origin: "https://gpus.example.org.evil.example" });
  expect([other.status, other.json.code]).toEqual([403, "foreign-origin"]);
  expect(other.headers).not.toHaveProperty("access-control-allow-origin");
});
