/** Hub tokens that callers bring: none stands in an object, which is in the database and in answers. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { hubTokensIn, withoutHubTokens } from "../../src/controller/objects/hub-tokens.ts";
import { ANNOTATION, API_VERSION } from "../../src/controller/objects/meta.ts";
import { spec } from "./objects.ts";
import { serveApi } from "./served-api.ts";

const TOKEN = "hf_canary4711";
const ASK = { tenant_id: "acme", model_id: "m", model_name: "m", model_path: "a/b", gpu_per_replica: 0 };

/** Of a host whose admin has, or has not, said where tokens are kept. */
async function served({ keeps }: { readonly keeps: boolean }) {
  const folder = mkdtempSync(join(tmpdir(), "hub-tokens-"));
  const config = join(folder, "config.yaml");
  writeFileSync(config, keeps ? `host: {secrets_dir: ${folder}}\n` : "{}\n");
  const api = await serveApi({ config });
  const kept: string[] = [];
  api.parts.backend.keepToken = async (_, token) => void kept.push(token);
  onTestFinished(async () => {
    await api.close();
    rmSync(folder, { recursive: true });
  });
  const call = async (method: string, path: string, body: object) => {
    const headers = { "content-type": "application/json" };
    const answer = await fetch(api.url + path, { method, headers, body: JSON.stringify(body) });
    return { status: answer.status, text: await answer.text() };
  };
  return { store: api.store, kept, call };
}

test("they are known in the environment, in vLLM's settings and on its command line", () => {
  const engine = {
    env: { HF_TOKEN: "a", HUGGING_FACE_HUB_TOKEN: "b", OTHER: "c" },
    config: { hf_token: "d", max_model_len: 4_096 },
    args: ["--hf-token=e", "--hf_token", "f", "--hf-token", "--port", "1"],
  };
  expect(hubTokensIn(engine).map(({ path, token }) => `${path} ${token}`)).toEqual([
    "env.HF_TOKEN a",
    "env.HUGGING_FACE_HUB_TOKEN b",
    "config.hf_token d",
    "args.0 e",
    "args.1 f",
  ]);
  expect(withoutHubTokens(engine)).toEqual({ env: { OTHER: "c" }, config: { max_model_len: 4_096 } });
  // That there is one elsewhere is no secret, nor is what stands where one was left out.
  expect(hubTokensIn({ env: { HF_TOKEN: "" }, config: { hf_token: true, "hf-token": "[left out]" } })).toEqual([]);
});

test.each([
  ["huggingface_token", { huggingface_token: TOKEN }],
  ["the environment", { environment_vars: { HUGGING_FACE_HUB_TOKEN: TOKEN, A: "1" } }],
  ["vLLM's settings", { vllm_config: { hf_token: TOKEN, max_model_len: 4_096 } }],
])("a deployment that brings one in %s has it kept, and nowhere else", async (_, part) => {
  const { store, kept, call } = await served({ keeps: true });
  const answer = await call("POST", "/internal/deployments/create", { ...ASK, ...part });
  expect([answer.status, kept]).toEqual([200, [TOKEN]]);
  expect(answer.text + JSON.stringify(store.workloads())).not.toContain(TOKEN);
  expect(store.workloads()[0]?.metadata.annotations[ANNOTATION.hubToken]).toBe("secret");
});

test.each([
  ["huggingface_token", { huggingface_token: TOKEN }],
  ["the environment", { environment_vars: { HF_TOKEN: TOKEN } }],
  ["vLLM's settings", { vllm_config: { "hf-token": TOKEN } }],
])("a host without a folder for tokens refuses one in %s, and stores nothing", async (_, part) => {
  const { store, call } = await served({ keeps: false });
  const answer = await call("POST", "/api/v1/deployments", { ...ASK, ...part });
  expect(answer).toMatchObject({ status: 422, text: expect.stringContaining("not-yet") });
  expect(store.workloads()).toEqual([]);
});

test("a change brings none, and says where one belongs", async () => {
  const { store, call } = await served({ keeps: true });
  const made = await call("POST", "/internal/deployments/create", { ...ASK, environment_vars: { A: "1" } });
  const path = `/internal/deployments/${JSON.parse(made.text).deployment_id}`;
  const changes = [{ environment_vars: { HF_TOKEN: TOKEN } }, { vllm_config: { hf_token: TOKEN } }];
  const answers = await Promise.all(changes.map((change) => call("PUT", path, change)));
  expect(answers.map(({ status, text }) => [status, JSON.parse(text).errors[0].path])).toEqual([
    [422, "environment_vars.HF_TOKEN"],
    [422, "vllm_config.hf_token"],
  ]);
  expect(JSON.stringify([answers, store.workloads()])).not.toContain(TOKEN);
  expect((await call("PUT", path, { environment_vars: { A: "2" } })).status).toBe(200);
});

test("an object brings none", async () => {
  const { store, call } = await served({ keeps: true });
  const engine = { type: "vllm", model: "a/b", env: { HF_TOKEN: TOKEN }, args: ["--hf-token", TOKEN] };
  const answer = await call("PUT", `/apis/${API_VERSION}/namespaces/default/llmworkloads/chat`, {
    ...{ apiVersion: API_VERSION, kind: "LLMWorkload", metadata: { name: "chat" } },
    spec: { ...spec(), engine },
  });
  expect(answer.status).toBe(422);
  expect(JSON.parse(answer.text).errors.map(({ path }: { path: string }) => path)).toEqual([
    "spec.engine.env.HF_TOKEN",
    "spec.engine.args.0",
  ]);
  expect(answer.text + JSON.stringify(store.workloads())).not.toContain(TOKEN);
});
