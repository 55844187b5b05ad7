/** What the verbs of a controller print with `--json`, held against its document. */
import { type ChildProcess, spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Described } from "../http/described.ts";
import { eventually, isBuilt, PROGRAM, temporaryFolder } from "./daemon.ts";
import { runProgram } from "./program.ts";

// biome-ignore lint/suspicious/noExplicitAny: what is printed is looked into freely.
type Json = any;

const START_MS = 120_000;
const DEPLOYMENT = {
  ...{ tenant_id: "me", model_id: "llama-7b", model_name: "llama2", model_path: "meta-llama/Llama-2-7b-hf" },
  ...{ replicas: 1, gpu_per_replica: 1, vllm_config: { max_model_len: 4_096 } },
};

describe.skipIf(!isBuilt)("--json of a controller's verbs (needs the built program)", () => {
  const folder = temporaryFolder();
  let child: ChildProcess;
  let url = "";
  let name = "";
  let described: Described;

  const json = async (path: string, init: RequestInit = {}): Promise<Json> => (await fetch(url + path, init)).json();

  async function printed(...args: readonly string[]): Promise<Json[]> {
    const env = { GPU_ORCHESTRATOR_CONTROLLER_URL: url, HOME: folder };
    const { end, stdout, stderr } = await runProgram(["cluster", ...args, "--json"], { cwd: folder, env });
    expect([end, stderr], args.join(" ")).toEqual([0, ""]);
    return stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
  }

  beforeAll(async () => {
    const argv = [PROGRAM, "controller", "--backend", "host", "--simulate", "h100x2", "--port", "0"];
    child = spawn(process.execPath, argv, { cwd: folder, stdio: ["ignore", "pipe", "inherit"], detached: true });
    url = await new Promise<string>((serving, reject) => {
      child.once("exit", (code) => reject(new Error(`exited with ${code}`)));
      createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
        const { msg, url: at } = JSON.parse(line);
        if (msg === "the controller serves") serving(at);
      });
    });
    described = new Described(await json("/openapi.json"));
    const headers = { "content-type": "application/json" };
    const asked = { method: "POST", headers, body: JSON.stringify(DEPLOYMENT) };
    const made = await eventually(
      () => json("/internal/deployments/create", asked),
      ({ deployment_name: name }) => typeof name === "string",
      START_MS,
    );
    name = made.deployment_name;
  }, START_MS);

  afterAll(async () => {
    const gone = new Promise((resolve) => child.once("exit", resolve));
    process.kill(-(child.pid as number), "SIGTERM");
    await gone;
    rmSync(folder, { recursive: true, force: true });
  });

  test(
    "is what its API has",
    async () => {
      await eventually(
        async () => (await printed("workloads", "ls"))[0],
        ({ status }) => status.state === "running",
        60_000,
      );
      const [listed] = await printed("workloads", "ls");
      const object = await json(
        `/apis/llm.orchestrator.io/v1/namespaces/${listed.metadata.namespace}/llmworkloads/${name}`,
      );
      expect(Object.keys(listed)).toEqual(Object.keys(object));
      expect(await printed("workloads", "get", name)).toEqual([expect.objectContaining({ spec: object.spec })]);
      for (const [what, path] of [
        ["why", "why"],
        ["events", "events"],
      ] as const) {
        const lines = await printed("workloads", what, name);
        described.expectBody("GET", `/admin/v1/deployments/{id}/${path}`, 200, what === "why" ? lines[0] : lines);
      }
      described.expectBody(
        "GET",
        "/admin/v1/deployments/{id}/rollout",
        200,
        (await printed("rollout", "status", name))[0],
      );
      described.expectBody("GET", "/admin/v1/infrastructure/nodes", 200, await printed("nodes", "ls"));
      const [node] = await printed("nodes", "ls");
      for (const act of ["cordon", "uncordon"]) {
        const [answer] = await printed("nodes", act, node.node_name);
        described.expectBody("POST", `/admin/v1/infrastructure/nodes/{id}/${act}`, 202, answer);
      }
      expect((await printed("scale", name, "2"))[0]).toMatchObject({ kind: "Scale", spec: { replicas: 2 } });
      expect(await printed("workloads", "rm", name)).toHaveLength(1);
    },
    START_MS,
  );
});
