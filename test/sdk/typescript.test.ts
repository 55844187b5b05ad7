/** The TypeScript SDK as its users have it: built, and imported from outside. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { verifyWebhook } from "../../src/client/webhooks.ts";
import { isBuilt, startDaemon, type TestDaemon, temporaryFolder } from "../e2e/daemon.ts";
import { startProgram } from "../e2e/program.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const FOLDER = temporaryFolder();
const hasNpm = spawnSync("npm", ["--version"]).status === 0;

/** This one, and the oldest that the SDK promises, where the system's is that one. */
const NODES: readonly (readonly [path: string, version: number])[] = [process.execPath, "/usr/bin/node"].flatMap(
  (path) => {
    const version = Number(/^v(\d+)/.exec(spawnSync(path, ["--version"], { encoding: "utf8" }).stdout ?? "")?.[1]);
    return version >= 20 ? [[path, version] as const] : [];
  },
);
const DIST = join(FOLDER, "dist");

describe.skipIf(!isBuilt)("the TypeScript SDK, built (needs the built program)", () => {
  let daemon: TestDaemon;

  beforeAll(async () => {
    execFileSync(process.execPath, ["--disable-warning=ExperimentalWarning", "scripts/build-sdk.mjs", FOLDER], {
      cwd: ROOT,
    });
    daemon = await startDaemon();
  });

  afterAll(async () => {
    await daemon.end();
    daemon.removeFolder();
    rmSync(FOLDER, { recursive: true });
  });

  /** Runs a program that imports the SDK, and gives what it printed last. */
  async function printed(source: string) {
    const program = `import * as gpuo from ${JSON.stringify(join(DIST, "index.js"))};\nconst client = gpuo.connect({ url: ${JSON.stringify(daemon.url)} });\n${source}`;
    const { ended } = startProgram([], {
      cwd: daemon.folder,
      under: [process.execPath, "--input-type=module", "-e", program],
    });
    const { end, stdout, stderr } = await ended;
    expect([end, stderr]).toEqual([0, ""]);
    return JSON.parse(stdout.trim().split("\n").at(-1) ?? "null");
  }

  test("imports nothing but what Node has: no dependency, and no validator", () => {
    const texts = readdirSync(DIST).map((file) => readFileSync(join(DIST, file), "utf8"));
    const imports = texts.flatMap((text) =>
      [...text.matchAll(/(?:from|import\()\s*"([^"]+)"/g)].map(([, name]) => name as string),
    );
    expect(imports.filter((name) => !name.startsWith("./") && !name.startsWith("node:"))).toEqual([]);
    expect(texts.join("\n")).not.toMatch(/zod/i);
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, "sdk/typescript/package.json"), "utf8"));
    expect(dependencies).toBeUndefined();
  });

  test.skipIf(!hasNpm)(
    "is a package: packed, installed elsewhere and called by its name, also on Node 20 (needs npm)",
    () => {
      const home = join(FOLDER, "user");
      mkdirSync(home);
      writeFileSync(join(home, "package.json"), '{"type":"module"}');
      const npm = (cwd: string, ...args: string[]) =>
        execFileSync("npm", ["--silent", "--offline", ...args], { cwd, encoding: "utf8" }).trim();
      npm(home, "install", join(FOLDER, npm(FOLDER, "pack")));
      const program = `
      import { connect } from "gpuo-client";
      const lease = await connect({ url: ${JSON.stringify(daemon.url)} }).lease({ gpus: 2 });
      await lease.release();
      console.log(lease.devices.length, Number(process.versions.node.split(".")[0]));`;
      writeFileSync(join(home, "program.mjs"), program);
      for (const [node, version] of NODES) {
        expect(execFileSync(node, ["program.mjs"], { cwd: home, encoding: "utf8" })).toBe(`2 ${version}\n`);
      }
    },
  );

  test("gives GPUs to a block, and takes them back at its end", async () => {
    const source = `
      let id;
      {
        await using lease = await client.lease({ gpus: 2, memory: "20G", maxDuration: "8h", name: "block" });
        id = lease.id;
        const record = await client.record(id);
        if (record.status !== "leased" || lease.devices.length !== 2) throw new Error("not held");
        if (lease.env.CUDA_VISIBLE_DEVICES.split(",").length !== 2) throw new Error("no environment");
      }
      console.log(JSON.stringify(await client.record(id)));`;
    expect(await printed(source)).toMatchObject({
      end_reason: "released",
      min_memory_mb: 20_480,
      max_duration_seconds: 28_800,
    });
  });

  test("enters and exits leak neither handles nor memory (GPUO_TEST_ROUNDS=10000 is the long form)", async () => {
    const rounds = Number(process.env.GPUO_TEST_ROUNDS ?? "200");
    const source = `
      import { readdirSync } from "node:fs";
      import { setFlagsFromString } from "node:v8";
      import { runInNewContext } from "node:vm";
      setFlagsFromString("--expose-gc");
      const collect = runInNewContext("gc");
      const blocks = async (count) => {
        for (let i = 0; i < count; i++) {
          await using lease = await client.lease();
        }
      };
      const held = async () => {
        await new Promise((resolve) => setTimeout(resolve, 50));
        collect();
        return {
          bytes: process.memoryUsage().heapUsed,
          files: readdirSync("/proc/self/fd").length,
          handles: process.getActiveResourcesInfo().filter((kind) => kind !== "TTYWrap" && kind !== "PipeWrap").length,
          listeners: process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0),
        };
      };
      // What is compiled and kept on the way is no leak.
      await blocks(${Math.max(50, Math.round(rounds / 4))});
      const before = await held();
      await blocks(${rounds});
      const after = await held();
      const grown = Object.fromEntries(Object.keys(after).map((name) => [name, after[name] - before[name]]));
      console.log(JSON.stringify(grown));`;
    const { bytes, files, handles, listeners } = await printed(source);
    expect({ files, handles, listeners }).toEqual({ files: 0, handles: 0, listeners: 0 });
    expect(bytes).toBeLessThan(1_000_000);
  }, 600_000);

  test("waits, and tells of the queue; does not wait when told so", async () => {
    const source = `
      const all = await client.lease({ gpus: 8 });
      const none = await client.lease({ wait: false }).catch((error) => error.reason);
      const places = [];
      const next = client.lease({ onQueued: ({ position }) => places.push(position) });
      while (places.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
      await all.release();
      const lease = await next;
      await lease.release();
      console.log(JSON.stringify({ none, places: places[0] }));`;
    expect(await printed(source)).toEqual({ none: "no-gpu-free", places: 1 });
  });

  test.each([
    ["gives its GPUs back and ends", "", "SIGTERM", "released"],
    ["leaves it to a handler of the program's own", 'process.on("SIGTERM", () => process.exit(3));', 3, "expired"],
  ])("SIGTERM: a program %s", async (_what, handler, end, reason) => {
    const program = `
      import * as gpuo from ${JSON.stringify(join(DIST, "index.js"))};
      const client = gpuo.connect({ url: ${JSON.stringify(daemon.url)} });
      ${handler}
      const lease = await client.lease({ ttl: 3 });
      console.log(lease.id);`;
    const started = startProgram([], {
      cwd: daemon.folder,
      under: [process.execPath, "--input-type=module", "-e", program],
    });
    const id = await new Promise<string>((resolve) => {
      started.process.stdout.once("data", (data) => resolve(String(data).trim()));
    });
    started.process.kill("SIGTERM");
    expect((await started.ended).end).toBe(end);
    const record = async () => (await daemon.call("GET", `/gpu/allocations/${id}`)).body;
    await vi.waitUntil(async () => (await record()).status === "ended", { timeout: 30_000, interval: 100 });
    expect((await record()).end_reason).toBe(reason);
  });

  test("aborts a signal when the lease is lost", async () => {
    const source = `
      const lease = await client.lease({ ttl: 1 });
      await client.revoke(lease.id, "the fan is on fire");
      const { signal } = lease;
      await new Promise((resolve) => (signal.aborted ? resolve() : signal.addEventListener("abort", resolve)));
      console.log(JSON.stringify({ name: lease.signal.reason.name, reason: lease.lost.reason }));`;
    expect(await printed(source)).toEqual({ name: "LeaseLost", reason: "revoked" });
  });

  test("gives typed errors with the API's code", async () => {
    const source = `
      const error = await client.lease({ gpus: 9 }).catch((thrown) => thrown);
      console.log(JSON.stringify({ name: error.name, code: error.code, status: error.status }));`;
    expect(await printed(source)).toEqual({ name: "ApiProblem", code: "request-never-fits", status: 422 });
  });
});

describe("a webhook", () => {
  const secret = `whsec_${Buffer.from("a key of the official signer").toString("base64")}`;
  const body = JSON.stringify({ status: "allocated", request_id: "svc-1" });
  const now = new Date();
  const headers = {
    "webhook-id": "msg_1",
    "webhook-timestamp": String(Math.floor(now.getTime() / 1_000)),
    "Webhook-Signature": `v1,AAAA ${new Webhook(secret).sign("msg_1", now, body)}`,
  };

  test("that the official package has signed is accepted", async () => {
    expect(await verifyWebhook(body, headers, secret)).toEqual(JSON.parse(body));
  });

  test.each([
    ["that was changed", () => verifyWebhook(`${body} `, headers, secret)],
    ["that is too old", () => verifyWebhook(body, headers, secret, { now: Date.now() + 301_000 })],
    ["of another secret", () => verifyWebhook(body, headers, "another")],
    ["without a signature", () => verifyWebhook(body, { ...headers, "Webhook-Signature": undefined }, secret)],
    ["for a secret that is not base64", () => verifyWebhook(body, headers, "whsec_!")],
  ])("%s is refused", async (_what, verifying) => {
    await expect(verifying()).rejects.toMatchObject({ name: "WebhookError" });
  });
});
