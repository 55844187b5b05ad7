/** `GET /` and what it is made of, and `GET /gpu/me`. */
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { request } from "undici";
import { expect, test } from "vitest";
import { isBuilt } from "../../e2e/daemon.ts";
import { apiKey, startDaemon } from "../daemon.ts";

/** As Chromium and Firefox ask for a page. */
const BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

test("what does not ask for a page gets a problem document that says where to go", async () => {
  const daemon = await startDaemon();
  for (const accept of ["*/*", "application/json", "text/html;q=0, */*", "application/problem+json, text/plain"]) {
    const reply = await daemon.call("GET", "/", { headers: { accept } });
    expect([reply.status, reply.json.code], accept).toEqual([404, "not-found"]);
    expect(reply.headers.link).toBe('</openapi.json>; rel="service-desc", </docs>; rel="service-doc"');
  }
  expect((await daemon.call("GET", "/")).status).toBe(404);
  expect((await daemon.call("POST", "/", { headers: { accept: BROWSER } })).status).toBe(405);
});

test.skipIf(!isBuilt)("a browser gets the page, whose policy lets in nothing that is not its own", async () => {
  const daemon = await startDaemon({ settings: { auth: { enabled: true, headerName: "X-API-Key" } } });
  const { status, headers, text } = await daemon.call("GET", "/", { headers: { accept: BROWSER } });
  expect(status).toBe(200);
  expect(headers["content-type"]).toBe("text/html; charset=utf-8");
  const policy = String(headers["content-security-policy"]);
  expect(policy).not.toContain("unsafe");
  expect(policy.split("; ").slice(0, 3)).toEqual(["default-src 'none'", "script-src 'self'", "style-src 'self'"]);
  expect(text).not.toMatch(/<style|style=|onload|<script>/);
  const own = [...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path as string);
  expect(own).toHaveLength(4);
  for (const path of own.filter((one) => one.startsWith("/page/"))) {
    expect((await daemon.call("GET", path)).status, path).toBe(200);
  }
});

test.skipIf(!isBuilt)("a file comes compressed as its client can read it, and is the same in each way", async () => {
  const daemon = await startDaemon();
  const fetched = async (coding: string) => {
    const { headers, body } = await request(`http://127.0.0.1:${daemon.port}/page/main.js`, {
      headers: { "accept-encoding": coding },
    });
    return { coding: headers["content-encoding"], vary: headers.vary, bytes: Buffer.from(await body.arrayBuffer()) };
  };
  const [plain, gzip, brotli] = await Promise.all(["identity", "gzip", "gzip, deflate, br"].map(fetched));
  expect([plain, gzip, brotli].map((file) => [file?.coding, file?.vary])).toEqual([
    [undefined, "Accept-Encoding"],
    ["gzip", "Accept-Encoding"],
    ["br", "Accept-Encoding"],
  ]);
  expect(gunzipSync(gzip?.bytes as Buffer)).toEqual(plain?.bytes);
  expect(brotliDecompressSync(brotli?.bytes as Buffer)).toEqual(plain?.bytes);
});

test("who calls is told its principal, its role and what is its own, and nothing of others", async () => {
  const keys = [apiKey("ann", "ann"), apiKey("bob", "bob", "read"), apiKey("root", "root", "admin")];
  const daemon = await startDaemon({
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => keys,
  });
  const { json: lease } = await daemon.allocate({}, { "X-API-Key": "ann" });
  const me = async (key: string) => (await daemon.call("GET", "/gpu/me", { headers: { "X-API-Key": key } })).json;
  expect(await me("ann")).toMatchObject({ principal: "ann", role: "allocate", keyed: true, allocations: [lease.id] });
  expect(await me("bob")).toMatchObject({ principal: "bob", role: "read", allocations: [] });
  expect(await me("root")).toMatchObject({ principal: "root", role: "admin", allocations: [], version: "0.0.0" });
  expect((await daemon.call("GET", "/gpu/me")).status).toBe(401);
  const open = await startDaemon();
  expect((await open.call("GET", "/gpu/me")).json).toMatchObject({
    principal: "anonymous",
    role: "admin",
    keyed: false,
  });
});
