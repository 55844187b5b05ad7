/** The executor vllm with a real model: its stand-in serves a tiny one with llama.cpp. `npm run test:llama` installs that. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Site } from "../worker/site.ts";
import { writeTinyGguf } from "./tiny-gguf.ts";

const isInstalled = existsSync(new URL("node_modules/node-llama-cpp", import.meta.url));
const FAKE = new URL("fake-vllm-llama.mjs", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "gpuo-llama-"));
const gguf = join(folder, "tiny.gguf");
const executors = {
  vllm: { type: "vllm" as const, command: [process.execPath, FAKE], env: { FAKE_VLLM_GGUF: gguf } },
};
const model = { source: { identifier: "tiny/random" }, vllm: { max_model_len: 128 } };
const inference = { prompts: ["To be", "or not"], max_tokens: 12, temperature: 0 };
/** llama.cpp is loaded first, which takes minutes on a machine that has much else to do. */
const START_MS = 180_000;
let site: Site;

describe.skipIf(!isInstalled)("a model that llama.cpp serves (needs npm run test:llama)", () => {
  beforeAll(async () => {
    writeTinyGguf(gguf);
    site = await new Site({ executors }).start();
  });
  afterAll(async () => {
    await site?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const resultOf = (id: string) => JSON.parse(readFileSync(join(site.dir, "results", id, "responses.json"), "utf8"));

  test("answers a task's prompts, and gives its GPU back", { timeout: 400_000 }, async () => {
    const id = site.submit([], { taskType: "inference", executor: "vllm", command: null, model, inference });
    expect(await site.isOver(id, START_MS)).toMatchObject({ status: "DONE", error: null });
    const result = resultOf(id);
    expect(result).toMatchObject({ ok: true, model: "tiny/random", usage: { num_requests: 2 } });
    // Each byte is a token, and each text begins with one more.
    expect(result.usage.prompt_tokens).toBeGreaterThanOrEqual("To be".length + "or not".length);
    expect(result.usage.completion_tokens).toBeGreaterThan(0);
    for (const { output, finish_reason } of result.items) {
      expect(output.length).toBeGreaterThan(0);
      expect(["length", "stop"]).toContain(finish_reason);
    }
    expect(site.leases.freeGpus()).toBe(2);
  });

  test("serves as a service, is asked for one token to see whether it lives, and answers a task", {
    timeout: 400_000,
  }, async () => {
    const uid = site.serve({
      executor: "vllm",
      model,
      readiness: { http: "/health", interval: "200ms" },
      liveness: { completion: true, interval: "1s", timeout: "10s", failures: 3 },
    });
    const run = await site.phase(uid, "ready", START_MS);
    const port = run.phase === "ready" ? run.port : null;
    const models = await (await fetch(`http://127.0.0.1:${port}/v1/models`)).json();
    expect(models).toMatchObject({ data: [{ id: "tiny/random" }] });
    const task = { taskType: "inference", executor: "vllm", command: null, model: { service: uid }, inference };
    const [first, second] = [site.submit([], task, 0), site.submit([], task, 0)];
    expect(await site.isOver(first, START_MS)).toMatchObject({ status: "DONE", error: null });
    expect(await site.isOver(second, START_MS)).toMatchObject({ status: "DONE", error: null });
    // Without chance the same model says the same.
    expect(resultOf(first).items).toEqual(resultOf(second).items);
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect(site.run(uid)).toMatchObject({ id: run.id, phase: "ready" });
    site.books.command({ type: "delete-workload", id: uid });
    await site.phase(uid, "ended");
    expect(site.run(uid)).toMatchObject({ exitCode: 0, reason: "cancelled" });
  });
});
