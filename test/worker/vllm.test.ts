/** The executor vllm, against a fake of its server that knows the real flags. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Site } from "./site.ts";

const FAKE = new URL("../fixtures/fake-vllm.mjs", import.meta.url).pathname;
const executors = { vllm: { type: "vllm" as const, command: [process.execPath, FAKE] } };
const site = new Site({ executors });
beforeAll(async () => void (await site.start()));
afterAll(async () => site.close());

const model = { source: { identifier: "org/model", revision: "main" }, vllm: { max_model_len: 128, dtype: "auto" } };

describe("the executor vllm", () => {
  test("as a task serves the model, sends it the prompts, and ends with its answers", async () => {
    const id = site.submit([], {
      taskType: "inference",
      executor: "vllm",
      command: null,
      model,
      inference: { prompts: ["one two", "three"], max_tokens: 1 },
    });
    expect(await site.isOver(id)).toMatchObject({ status: "DONE", error: null });
    const result = JSON.parse(readFileSync(join(site.dir, "results", id, "responses.json"), "utf8"));
    expect(result).toMatchObject({
      ok: true,
      model: "org/model",
      items: [
        { index: 0, output: "FAKE: one two", finish_reason: "length" },
        { index: 1, output: "FAKE: three", finish_reason: "length" },
      ],
      usage: { prompt_tokens: 3, completion_tokens: 3, total_tokens: 6, num_requests: 2 },
    });
  });

  test("as a service becomes ready, and is stopped by its signal", async () => {
    const uid = site.serve({ executor: "vllm", model, readiness: { http: "/health", interval: "100ms" } });
    const run = await site.phase(uid, "ready");
    const port = run.phase === "ready" ? run.port : null;
    expect((await fetch(`http://127.0.0.1:${port}/health`)).status).toBe(200);
    const { argv } = JSON.parse(site.read(run.id, "order.json") ?? "{}");
    expect(argv.slice(argv.indexOf("serve"), argv.indexOf("serve") + 4)).toEqual([
      "serve",
      "org/model",
      "--host",
      "127.0.0.1",
    ]);
    site.books.command({ type: "delete-workload", id: uid });
    await site.phase(uid, "ended");
    expect(site.run(uid)).toMatchObject({ exitCode: 0, reason: "cancelled" });
  });
});
