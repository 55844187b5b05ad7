/** `gpuo mcp` of the built program, spoken to by the official client. */

import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { eventually, isBuilt, PROGRAM, startDaemon, type TestDaemon, temporaryFolder } from "../e2e/daemon.ts";
import { startProgram } from "../e2e/program.ts";

const LOOKING = ["explain", "list", "plan"];

const KEYS = `auth:
  enabled: true
  api_keys:
    admin-key: {principal: ada, role: admin}
    reader-key: {principal: rob, role: read}
`;

describe.skipIf(!isBuilt)("the MCP server (needs the built program)", () => {
  let daemon: TestDaemon;
  let keyed: TestDaemon;
  const clients: Client[] = [];

  beforeAll(async () => {
    daemon = await startDaemon({ simulate: "h100x2" });
    keyed = await startDaemon({ config: KEYS, simulate: "h100x2", folder: temporaryFolder() });
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) await client.close();
    for (const { id } of (await daemon.call("GET", "/gpu/list")).body.allocations) await daemon.release(id);
  });

  afterAll(async () => {
    for (const one of [daemon, keyed]) {
      await one.end();
      one.removeFolder();
    }
  });

  async function connected(flags: readonly string[] = [], of = daemon, env: Record<string, string> = {}) {
    const client = new Client({ name: "test", version: "1" });
    const transport = new StdioClientTransport({
      command: process.execPath,
      args: [PROGRAM, "mcp", ...flags],
      env: { PATH: process.env.PATH ?? "", HOME: of.folder, GPU_ORCHESTRATOR_URL: of.url, ...env },
      cwd: of.folder,
    });
    await client.connect(transport);
    clients.push(client);
    const call = async (name: string, args: Record<string, unknown> = {}) => {
      const { isError = false, content } = await client.callTool({ name, arguments: args });
      const { text } = (content as { text: string }[])[0] as { text: string };
      return { isError, text, body: text.startsWith("{") ? JSON.parse(text) : null };
    };
    return { client, call };
  }

  test("has only tools that look, unless it was told that it may allocate", async () => {
    const { client, call } = await connected();
    const { tools } = await client.listTools();
    expect(tools.map(({ name }) => name).sort()).toEqual(LOOKING);
    expect(tools.every(({ annotations }) => annotations?.readOnlyHint === true)).toBe(true);
    expect(await call("allocate", { service_name: "agent" })).toMatchObject({ isError: true });
    expect((await daemon.call("GET", "/gpu/list")).body.allocations).toEqual([]);
  });

  test("has no tool for the deeds of an admin, whatever it was told", async () => {
    const { client } = await connected(["--allow-allocate"]);
    const names = (await client.listTools()).tools.map(({ name }) => name).sort();
    expect(names).toEqual([...LOOKING, "allocate", "release", "renew", "wait"].sort());
  });

  test("shows GPUs, leases and queue, without the processes' names", async () => {
    const { id } = (await daemon.allocate({ service_name: "other", required_gpus: 2 })).body;
    const { call } = await connected();
    const { body, text } = await call("list");
    expect(body.gpus).toHaveLength(2);
    expect(body.gpus[0]).toMatchObject({ state: "leased", holders: [{ allocation_id: id, service_name: "other" }] });
    expect(body.leases).toMatchObject([{ id, gpus: [0, 1] }]);
    expect(text).not.toContain("processes");
  });

  test("plans and explains without a sign of life for who waits, and takes no offer for it", async () => {
    const held = (await daemon.allocate({ service_name: "other", required_gpus: 2 })).body.id;
    const waiting = (await daemon.allocate({ service_name: "waiter", required_gpus: 2 })).body;
    const { call } = await connected();
    expect((await call("plan", { service_name: "agent", gpus: 1, memory: "20G" })).body).toMatchObject({
      outcome: "queued",
      position: 2,
      min_memory_mb: 20_480,
    });
    const { body } = await call("explain", { of: waiting.id });
    expect(body).toMatchObject({ id: waiting.id, status: "queued" });
    expect(body.why.join("\n")).toMatch(/, at 1 of 1\n.*\nGPU 0,1: leased$/s);
    await daemon.release(held);
    await eventually(
      () => call("explain", { of: waiting.id }),
      ({ body: { status } }) => status === "offered",
    );
    expect((await call("explain", { of: waiting.id })).body.status).toBe("offered");
    expect((await call("explain", { of: "0" })).body).toMatchObject({ id: 0, state: "leased" });
    expect(await call("explain", { of: "nothing" })).toMatchObject({ isError: true });
  });

  test("leases with an end, waits, renews and releases what it was asked for", async () => {
    const { call } = await connected(["--allow-allocate"]);
    const first = (await call("allocate", { service_name: "agent", gpus: 2 })).body;
    expect(first.env.CUDA_VISIBLE_DEVICES.split(",")).toEqual(first.gpu_uuids);
    expect(Date.parse(first.expires_at) - Date.now()).toBeLessThanOrEqual(600_000);
    const second = (await call("allocate", { service_name: "agent", gpus: 1 })).body;
    expect(second.status).toBe("queued");
    expect((await call("wait", { id: second.id, seconds: 0 })).body.status).toBe("queued");
    expect((await call("renew", { id: first.id })).body.status).toBe("leased");
    expect((await call("release", { id: first.id })).body.end_reason).toBe("released");
    expect((await call("wait", { id: second.id })).body).toMatchObject({
      status: "leased",
      env: { CUDA_DEVICE_ORDER: "PCI_BUS_ID" },
    });
    expect((await call("release", { id: second.id })).isError).toBe(false);
  });

  test.each(["release", "renew", "wait"])("does not %s what was not allocated through it", async (tool) => {
    const { id } = (await daemon.allocate({ service_name: "other", ttl: "1h" })).body;
    const { call } = await connected(["--allow-allocate"]);
    const answer = await call(tool, { id });
    expect([answer.isError, answer.text]).toEqual([true, expect.stringContaining("not allocated through this server")]);
    expect((await daemon.call("GET", `/gpu/allocations/${id}`)).body.status).toBe("leased");
  });

  test("may do no more than its key", async () => {
    const { call } = await connected(["--allow-allocate"], keyed, { GPU_ORCHESTRATOR_API_KEY: "reader-key" });
    expect((await call("list")).isError).toBe(false);
    expect(await call("allocate", { service_name: "agent" })).toMatchObject({
      isError: true,
      body: { code: "role-too-low" },
    });
    expect((await connected([], keyed).then(({ call: bare }) => bare("list"))).body).toMatchObject({
      code: "unauthenticated",
    });
  });

  test("refuses a mistyped field, and what can never be granted, with the reason", async () => {
    const { call } = await connected(["--allow-allocate"]);
    expect((await call("allocate", { service_name: "agent", gpu: 2 })).isError).toBe(true);
    expect(await call("allocate", { service_name: "agent", gpus: 9 })).toMatchObject({
      isError: true,
      body: { code: "request-never-fits" },
    });
    expect(await call("plan", { service_name: "agent", memory: "lots" })).toMatchObject({ isError: true });
    expect((await daemon.call("GET", "/gpu/list")).body.allocations).toEqual([]);
  });

  test("ends when its client closes stdin, also while a tool waits", async () => {
    await daemon.allocate({ service_name: "other", required_gpus: 2 });
    const { process: child, ended } = startProgram(["mcp", "--allow-allocate"], {
      cwd: daemon.folder,
      env: { GPU_ORCHESTRATOR_URL: daemon.url, HOME: daemon.folder },
    });
    const send = (message: object) => child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
    const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const answer = async () => JSON.parse((await answers.next()).value ?? "null").result;
    const clientInfo = { name: "test", version: "1" };
    send({ id: 1, method: "initialize", params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo } });
    expect((await answer()).serverInfo.name).toBe("gpu-orchestrator");
    send({ method: "notifications/initialized" });
    const call = (id: number, name: string, args: object) =>
      send({ id, method: "tools/call", params: { name, arguments: args } });
    call(2, "allocate", { service_name: "agent" });
    const { id } = JSON.parse((await answer()).content[0].text);
    call(3, "wait", { id });
    await pause(300);
    const closedAt = performance.now();
    child.stdin.end();
    expect((await ended).end).toBe(0);
    expect(performance.now() - closedAt).toBeLessThan(20_000);
  });
});
