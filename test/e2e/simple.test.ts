/** `llm-orchestrator-simple` as its own test script calls it: the same flags, calls and bodies, in the same order. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { eventually, isBuilt, temporaryFolder } from "./daemon.ts";
import { freePort } from "./free-port.ts";

const PROGRAM = fileURLToPath(new URL("../../dist/llm-orchestrator-simple.js", import.meta.url));
const SETTINGS = `
port: 8080
logLevel: "info"
performance: {requestTimeout: "30s", healthCheckInterval: "1s"}
development: {simulateMetrics: true}
modelConfigs: {llama2: {type: "text-generation"}}
features: {enableModelCaching: true}
`;
const folder = temporaryFolder();
const started: ChildProcess[] = [];
afterAll(() => {
  for (const child of started) if (child.exitCode === null) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

interface Started {
  readonly child: ChildProcess;
  readonly url: string;
  readonly errors: () => string;
}

async function start(...flags: string[]): Promise<Started> {
  const port = await freePort();
  const child = spawn(process.execPath, [PROGRAM, ...flags, `--port=${port}`, "--log-level=warn"], {
    cwd: folder,
    stdio: ["ignore", "ignore", "pipe"],
  });
  started.push(child);
  let errors = "";
  child.stderr.on("data", (data) => {
    errors += data;
  });
  const url = `http://127.0.0.1:${port}`;
  await eventually(
    () =>
      fetch(`${url}/health`).then(
        ({ ok }) => ok,
        () => false,
      ),
    Boolean,
    60_000,
  );
  return { child, url, errors: () => errors };
}

async function end({ child }: Started): Promise<void> {
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await gone;
}

async function get(url: string) {
  const answer = await fetch(url);
  return { status: answer.status, body: JSON.parse(await answer.text()) };
}

const post = (url: string, body: object) =>
  fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

describe.skipIf(!isBuilt)("the LLM Orchestrator Simple (needs dist/)", () => {
  test("its test script's calls are answered as it expects, and what runs outlives it", {
    timeout: 180_000,
  }, async () => {
    mkdirSync(join(folder, "config"));
    writeFileSync(join(folder, "config/llm-orchestrator-simple.yaml"), SETTINGS);
    const first = await start("--config=config/llm-orchestrator-simple.yaml");
    expect(first.errors()).toContain("features: has no meaning here");
    expect((await get(`${first.url}/health`)).body).toMatchObject({ status: "healthy" });
    expect((await get(`${first.url}/metrics`)).body).toMatchObject({ totalWorkloads: 0, runningWorkloads: 0 });
    expect((await get(`${first.url}/status`)).body).toMatchObject({ orchestrator: "running", simulated: true });
    expect((await get(`${first.url}/workloads`)).body).toEqual([]);
    const created = await post(`${first.url}/workloads`, {
      name: "test-llama2",
      modelName: "llama2",
      modelType: "text-generation",
      resources: { cpu: "2000m", memory: "8Gi", gpu: 1 },
      labels: { environment: "test", team: "ai-research" },
    });
    expect(created.status).toBe(201);
    const { id } = (await created.json()) as { id: string };
    expect((await get(`${first.url}/workloads/${id}`)).status).toBe(200);
    await eventually(
      () => post(`${first.url}/schedule`, { workloadId: id }),
      ({ status }) => status === 200,
      60_000,
    );
    await eventually(
      () => get(`${first.url}/metrics`),
      ({ body }) => body.runningWorkloads === 1,
      60_000,
    );
    // As a container's health check asks, without a body.
    expect((await fetch(`${first.url}/health`, { method: "HEAD" })).status).toBe(200);
    await end(first);

    const second = await start("-config=config/llm-orchestrator-simple.yaml");
    const { body } = await get(`${second.url}/workloads/${id}`);
    expect(body.status.nodes).toMatchObject([{ restarts: 0 }]);
    expect((await fetch(`${second.url}/workloads/${id}`, { method: "DELETE" })).status).toBe(204);
    await eventually(
      () => get(`${second.url}/status`),
      (status) => status.body.runs === 0,
      60_000,
    );
    await end(second);
  });

  test("where others reach it, it does not start without being told so", async () => {
    const child = spawn(process.execPath, [PROGRAM, "--host=0.0.0.0", "--port=0"], { cwd: folder, stdio: "pipe" });
    let errors = "";
    child.stderr.on("data", (data) => {
      errors += data;
    });
    expect(await new Promise((resolve) => child.once("close", resolve))).toBe(78);
    expect(errors).toContain("0.0.0.0 can be reached from other hosts");
  });

  test("as its image starts it, it listens everywhere and answers HEAD; with real GPUs it does not", {
    timeout: 120_000,
  }, async () => {
    const image = readFileSync(new URL("../../deploy/llm-orchestrator-simple.Dockerfile", import.meta.url), "utf8");
    const [, settings = ""] = /printf '([^']*)'/.exec(image) ?? [];
    const [, entry = ""] = /^ENTRYPOINT (\[.*\])$/m.exec(image) ?? [];
    const [node, program, ...flags] = JSON.parse(entry);
    expect([node, program]).toEqual(["node", "/app/dist/llm-orchestrator-simple.js"]);
    writeFileSync(join(folder, "image.yaml"), settings.replaceAll("\\n", "\n"));
    const running = await start(...flags, "--config", "image.yaml");
    const head = await fetch(`${running.url}/health`, { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
    await end(running);
    const real = spawn(process.execPath, [PROGRAM, ...flags, "--port=0"], { cwd: folder, stdio: "ignore" });
    started.push(real);
    expect(await new Promise((resolve) => real.once("exit", resolve))).toBe(78);
  });
});
