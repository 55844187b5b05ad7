/** What keys that are bound to tenants may do, over HTTP. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { ControllerError } from "../../src/controller/objects/errors.ts";
import { API_VERSION } from "../../src/controller/objects/meta.ts";
import { revisionOf, revisionParts } from "../../src/controller/objects/revision.ts";
import type { Workload } from "../../src/controller/objects/workload.ts";
import { spec } from "./objects.ts";
import { type ServedApi, serveApi } from "./served-api.ts";
import type { SqliteObjects } from "./sqlite-objects.ts";

const folder = mkdtempSync(join(tmpdir(), "controller-api-"));
afterAll(() => rmSync(folder, { recursive: true }));
const TENANT = "llm-orchestrator.io/tenant";
const MODEL = "llm-orchestrator.io/model-id";
const OBJECTS = `/apis/${API_VERSION}`;
const CONFIG = `
auth:
  api_keys:
    root-key-0123456789ab: {principal: root, role: admin}
    acme-key-0123456789ab: {principal: acme, role: admin, tenants: [acme]}
    other-key-0123456789ab: {principal: other, role: admin, tenants: [other]}
tenants:
  acme: {max_gpus: 4}
`;

let api: ServedApi;
let store: SqliteObjects;
let url = "";

beforeEach(async () => {
  const config = join(folder, "config.yaml");
  writeFileSync(config, CONFIG);
  api = await serveApi({ config });
  ({ store, url } = api);
});
afterEach(() => api.close());

async function call(who: "root" | "acme" | "other", method: string, path: string, body?: object) {
  const headers = { "x-api-key": `${who}-key-0123456789ab`, "content-type": "application/json" };
  const answer = await fetch(url + path, { method, headers, body: body === undefined ? null : JSON.stringify(body) });
  return { status: answer.status, body: JSON.parse(await answer.text()) };
}

function onlyOne(): Workload {
  const [one] = store.workloads();
  if (one === undefined) throw new Error("there is no workload");
  return one;
}

/** A workload of the tenant acme, by its label. */
const workload = (namespace: string, change: object = {}) => ({
  apiVersion: API_VERSION,
  kind: "LLMWorkload",
  metadata: { name: "chat", namespace, labels: { [TENANT]: "acme" } },
  spec: { ...spec({ replicas: 1 }), ...change },
});
const put = (who: "root" | "acme", namespace: string, change: object = {}) =>
  call(who, "PUT", `${OBJECTS}/namespaces/${namespace}/llmworkloads/chat`, workload(namespace, change));

const MODEL_OBJECT = {
  apiVersion: API_VERSION,
  kind: "LLMModel",
  metadata: { name: "mine" },
  spec: {
    name: "llama2",
    version: "7b",
    type: "text-generation",
    framework: "pytorch",
    source: { type: "hub", uri: "a/b" },
  },
};

describe("a key that is bound to a tenant", () => {
  test("makes workloads in the default namespace and in its tenant's, and in no other", async () => {
    expect(await put("acme", "payments")).toMatchObject({ status: 403, body: { code: "tenant-foreign" } });
    expect(store.workloads()).toEqual([]);
    expect((await put("acme", "acme")).status).toBe(201);
    expect((await call("acme", "DELETE", `${OBJECTS}/namespaces/acme/llmworkloads/chat`)).status).toBe(200);
    await store.forget(store.workloads()[0] as never);
    expect((await put("acme", "default")).status).toBe(201);
  });

  test("changes its own workload where somebody else has placed it", async () => {
    expect((await put("root", "payments")).status).toBe(201);
    expect((await put("acme", "payments", { replicas: 2 })).status).toBe(200);
  });

  test("changes and deletes no LLMModel, which is everybody's", async () => {
    const path = `${OBJECTS}/llmmodels/mine`;
    expect(await call("root", "PUT", path, MODEL_OBJECT)).toMatchObject({ status: 200 });
    const other = { ...MODEL_OBJECT, spec: { ...MODEL_OBJECT.spec, source: { type: "hub", uri: "evil/model" } } };
    expect(await call("acme", "PUT", path, other)).toMatchObject({ status: 403, body: { code: "tenant-foreign" } });
    expect(await call("acme", "DELETE", path)).toMatchObject({ status: 403, body: { code: "tenant-foreign" } });
    expect(store.models()[0]?.spec.source?.uri).toBe("a/b");
    expect((await call("root", "DELETE", path)).status).toBe(200);
  });

  test("sees the models that its tenant may use, and makes deployments of those only", async () => {
    const put = (access: object) => {
      const body = { ...MODEL_OBJECT, spec: { ...MODEL_OBJECT.spec, access } };
      return call("root", "PUT", `${OBJECTS}/llmmodels/mine`, body);
    };
    const asked = { model_id: "m", model_name: "llama2", model_params: { version: "7b" } };
    const create = () => call("acme", "POST", "/internal/deployments/create", asked);
    const seen = async () => {
      const { body } = await call("acme", "GET", `${OBJECTS}/llmmodels`);
      return body.items.map(({ spec }: { spec: { access: object } }) => spec.access);
    };
    expect((await put({ tenants: ["other"] })).status).toBe(200);
    expect(await seen()).toEqual([]);
    expect((await call("acme", "GET", `${OBJECTS}/llmmodels/mine`)).status).toBe(404);
    expect((await call("root", "GET", `${OBJECTS}/llmmodels/mine`)).status).toBe(200);
    const path = `${OBJECTS}/namespaces/acme/llmworkloads/chat`;
    expect((await call("acme", "PUT", path, workload("acme"))).status).toBe(201);
    expect(await call("acme", "PUT", "/internal/deployments/chat", { replicas: 2 })).toMatchObject({
      status: 403,
      body: { code: "tenant-foreign", detail: "the LLMModel mine is not for the tenant acme" },
    });
    expect((await create()).status).toBe(403);
    await put({ tenants: ["other", "acme"] });
    expect(await seen()).toEqual([{ tenants: ["acme"] }]);
    expect((await call("acme", "PUT", "/internal/deployments/chat", { replicas: 2 })).status).toBe(200);
    expect((await create()).status).toBe(200);
  });

  test("sees the use of its own deployments only", async () => {
    await put("root", "acme");
    const foreign = { ...workload("other"), metadata: { name: "theirs", namespace: "other" } };
    await call("root", "PUT", `${OBJECTS}/namespaces/other/llmworkloads/theirs`, foreign);
    const ids = async (who: "root" | "acme") => {
      const { body } = await call(who, "GET", "/admin/v1/infrastructure/gpu-utilization");
      return body.deployment_metrics.map((one: { deployment_id: string }) => one.deployment_id);
    };
    expect(await ids("root")).toEqual(["chat", "theirs"]);
    expect(await ids("acme")).toEqual(["chat"]);
  });
});

test("what has happened to a deployment is told under the names that its other answers have", async () => {
  await put("root", "acme");
  const event = { at: "2026-12-01T00:00:00.000Z", type: "Ready=True", reason: "AllReady", message: "" };
  store.addEvent({ deploymentId: "chat", ...event });
  expect(await call("acme", "GET", "/admin/v1/deployments/chat/events")).toEqual({
    status: 200,
    body: [{ deployment_id: "chat", ...event }],
  });
});

test("what is being deleted is changed no more: 409, and 400 for a restart, as the Orchestration Service has it", async () => {
  await put("root", "acme");
  await call("root", "DELETE", "/internal/deployments/chat");
  const change = await call("acme", "PUT", "/internal/deployments/chat", { replicas: 2 });
  expect(change).toMatchObject({ status: 409, body: { code: "wrong-state", status_code: 409 } });
  const restart = await call("acme", "POST", "/internal/deployments/chat/restart");
  expect(restart).toMatchObject({ status: 400, body: { code: "not-restartable", error: "chat is terminating" } });
  expect((await call("acme", "DELETE", "/internal/deployments/chat")).status).toBe(200);
});

test("null is no statement, and a model registry's fields are taken: the Orchestration Service's clients send both", async () => {
  const ask = { model_id: "llama2-7b", model_name: "Llama 2 7B", model_path: "meta-llama/Llama-2-7b-hf", replicas: 1 };
  const nulls = { huggingface_token: null, gpu_count: null, gpu_type: null, vllm_config: null, labels: null };
  const made = await call("acme", "POST", "/api/v1/deployments", { ...ask, tenant_id: "acme", ...nulls });
  expect(made).toMatchObject({ status: 202, body: { model_name: "Llama 2 7B", total_gpus: 1 } });
  const told = { model_metadata: {}, model_capabilities: ["chat"], model_type: "text", model_family: "llama" };
  const model_requirements = { gpu_count: 2, memory_gb: 48, cpu_cores: 6, disk_gb: 100 };
  const registry = { ...told, model_size: "7B", model_pricing: { input: 1 }, model_version: "1.2", model_requirements };
  const id = (await call("acme", "POST", "/api/v1/deployments", { ...ask, ...registry })).body.deployment_id;
  const found = () => store.workloads().find(({ metadata }) => metadata.name === id)?.spec;
  expect(found()).toMatchObject({ modelVersion: "1.2", resources: { gpu: "2", memory: "48Gi", cpu: "6" } });
  const changed = await call("acme", "PUT", `/api/v1/deployments/${id}`, { memory_limit: null, cpu_limit: "4" });
  expect(changed.status).toBe(200);
  expect(found()).toMatchObject({ resources: { gpu: "2", memory: "48Gi", cpu: "4" } });
  // What is stated goes over what the model needs.
  const own = { ...ask, replicas: 0, model_requirements, gpu_count: 1, memory_limit: "8Gi", cpu_limit: null };
  const stated = (await call("acme", "POST", "/api/v1/deployments", own)).body.deployment_id;
  const { resources } = store.workloads().find(({ metadata }) => metadata.name === stated)?.spec ?? {};
  expect(resources).toMatchObject({ gpu: "1", memory: "8Gi", cpu: "6" });
  expect((await call("acme", "POST", "/api/v1/deployments", { ...ask, replicas: "1" })).status).toBe(422);
  expect((await call("acme", "POST", "/api/v1/deployments", null as never)).status).not.toBe(500);
});

test("a tenant has no more GPUs than its maximum, by whichever call", async () => {
  const ask = { model_id: "m", model_name: "m", model_path: "a/b", gpu_per_replica: 2 };
  const create = (change: object) => call("acme", "POST", "/api/v1/deployments", { ...ask, ...change });
  const over = (words: string) => ({
    status: 403,
    body: { code: "tenant-maximum", detail: expect.stringContaining(words) },
  });
  expect(await create({ replicas: 3 })).toMatchObject(over("may have 4 GPUs: 0 are its already, and this asks for 6"));
  const made = await create({ replicas: 1 });
  expect(made.status).toBe(202);
  const id = made.body.deployment_id;
  expect(await create({ replicas: 2 })).toMatchObject(over("2 are its already, and this asks for 4"));
  expect(await call("acme", "PUT", `/internal/deployments/${id}`, { replicas: 3 })).toMatchObject(over("6"));
  expect((await call("acme", "PUT", `/internal/deployments/${id}`, { replicas: 2 })).status).toBe(200);
  const scaled = (who: "root" | "acme") => call(who, "POST", "/admin/v1/models/m/scale", { replicas: 3 });
  expect(await scaled("acme")).toMatchObject(over("6"));
  expect(await scaled("root")).toMatchObject(over("6"));
  expect(store.workloads().map(({ spec }) => spec.replicas)).toEqual([2]);
});

test("a scaling that asks for another number is in progress and stands among the events; one for none is over at once", async () => {
  await put("root", "acme");
  const scale = (body: object) => call("root", "POST", "/admin/v1/models/llama2/scale", body);
  const made = await scale({ replicas: 2, reason: "more" });
  expect(made).toMatchObject({ status: 202, body: { to_replicas: 2, status: "in_progress" } });
  const events = async () => (await call("root", "GET", "/admin/v1/scaling/events")).body;
  const { event_id } = made.body;
  const event = { event_id, scaling_type: "manual", to_replicas: 2, trigger_reason: "more", status: "in_progress" };
  expect(await events()).toMatchObject([event]);
  // Nobody has looked since: it is taken back before it was begun.
  expect(await scale({ replicas: 0 })).toMatchObject({ status: 202, body: { status: "success" } });
  expect(await events()).toMatchObject([{ ...event, status: "cancelled" }]);
  expect(await scale({ replicas: null })).toMatchObject({
    status: 202,
    body: { to_replicas: null, status: "success" },
  });
  expect(store.workloads()[0]?.spec.replicas).toBeUndefined();
  expect(await events()).toHaveLength(1);
});

test("X-Tenant-ID says for whom a deployment is: within the key's tenants, and never against the body", async () => {
  const create = async (who: "root" | "acme", tenant: string, body: object = {}) => {
    const headers = {
      "x-api-key": `${who}-key-0123456789ab`,
      "content-type": "application/json",
      "x-tenant-id": tenant,
    };
    const ask = JSON.stringify({ model_id: "m", model_name: "m", model_path: "a/b", ...body });
    const answer = await fetch(`${url}/api/v1/deployments`, { method: "POST", headers, body: ask });
    return { status: answer.status, body: JSON.parse(await answer.text()) };
  };
  const foreign = { status: 403, body: { code: "tenant-foreign", status_code: 403 } };
  expect(await create("acme", "other")).toMatchObject(foreign);
  // A gateway has found out whose the call is: what the caller writes beside it moves it to nobody else.
  expect(await create("root", "acme", { tenant_id: "other" })).toMatchObject(foreign);
  expect(store.workloads()).toEqual([]);
  expect(await create("root", "other")).toMatchObject({ status: 202, body: { tenant_id: "other" } });
  expect(await create("acme", "acme")).toMatchObject({ status: 202, body: { tenant_id: "acme" } });
});

test("what is there already is moved to no tenant that the service of tenants does not know", async () => {
  const asked: string[] = [];
  const demand = async (tenant: string) => {
    asked.push(tenant);
    if (tenant === "ghost") throw new ControllerError("tenant-foreign", "there is no active tenant ghost");
  };
  Object.assign(api.parts, { tenants: { demand } });
  const of = (tenant: string) => ({ ...workload("default"), spec: spec({ replicas: 1, tenant }) });
  const putOf = (tenant: string) => call("root", "PUT", `${OBJECTS}/namespaces/default/llmworkloads/chat`, of(tenant));
  expect((await putOf("acme")).status).toBe(201);
  expect((await putOf("acme")).status).toBe(200);
  expect(asked).toEqual(["acme"]);
  expect(await putOf("ghost")).toMatchObject({ status: 403, body: { code: "tenant-foreign" } });
  expect(onlyOne().metadata.labels[TENANT]).toBe("acme");
});

test("a model of several deployments is scaled by the id of one, and to delete one twice is no mistake", async () => {
  const ask = { model_id: "m", model_name: "m", model_path: "a/b", gpu_per_replica: 0 };
  const make = async () => (await call("acme", "POST", "/api/v1/deployments", ask)).body.deployment_id;
  const [one, two] = [await make(), await make()];
  expect(one).not.toBe(two);
  const scale = (body: object) => call("root", "POST", "/admin/v1/models/m/scale", body);
  const several = await scale({ replicas: 2 });
  expect(several).toMatchObject({ status: 409, body: { code: "several-deployments" } });
  expect(several.body.detail).toContain(one);
  expect(several.body.detail).toContain(two);
  expect(await scale({ replicas: 2, deployment_id: two })).toMatchObject({ status: 202, body: { deployment_id: two } });
  const path = `/internal/deployments/${one}`;
  expect((await call("acme", "DELETE", path)).status).toBe(200);
  expect((await call("acme", "DELETE", path)).status).toBe(200);
  // Its row, as the tracker makes it.
  const scaling = {
    fromReplicas: 1,
    toReplicas: 2,
    scalingType: "manual",
    triggerReason: "test",
    triggerMetrics: {},
  } as const;
  const at = "2026-12-01T00:00:00.000Z";
  store.beginScaling({ eventId: "e", deploymentId: one, tenantId: "acme", ...scaling, initiatedAt: at });
  await store.forget(store.workloads().find(({ metadata }) => metadata.name === one) as never);
  expect((await call("acme", "GET", path)).status).toBe(404);
  expect((await call("acme", "DELETE", path)).status).toBe(200);
  expect(await call("other", "DELETE", path)).toMatchObject({ status: 403, body: { code: "tenant-foreign" } });
  expect((await call("acme", "DELETE", "/internal/deployments/never-was")).status).toBe(404);
});

test("one that was made by hand and taken away before anybody has written of it may be deleted again", async () => {
  expect((await put("acme", "acme")).status).toBe(201);
  const path = "/internal/deployments/chat";
  expect((await call("acme", "DELETE", path)).status).toBe(200);
  await store.forget(onlyOne());
  expect((await call("acme", "DELETE", path)).status).toBe(200);
  expect(await call("other", "DELETE", path)).toMatchObject({ status: 403, body: { code: "tenant-foreign" } });
});

test("a deployment that the backend refuses says so in its message, in the backend's words", async () => {
  await put("acme", "acme");
  const at = new Date().toISOString();
  const of = (type: string, reason: string, message: string) =>
    ({ type, status: "False", reason, message, lastTransitionTime: at, observedGeneration: 1 }) as const;
  const ready = of("Ready", "NotAllReady", "0 of 1 replicas of this revision serve");
  await store.putStatus(onlyOne(), { conditions: [ready, of("Progressing", "BackendRefused", "env: no such name")] });
  const { body } = await call("acme", "GET", "/internal/deployments/chat");
  expect(body.message).toBe("BackendRefused: env: no such name");
});

test("nobody sets secretRefs by the API", async () => {
  for (const who of ["root", "acme"] as const) {
    const answer = await put(who, "default", { security: { secretRefs: ["db-password"] } });
    expect(answer).toMatchObject({ status: 422, body: { errors: [{ path: "spec.security.secretRefs" }] } });
  }
  expect(store.workloads()).toEqual([]);
});

test("nobody has a workload's pods given a hub token, or its model called another, by annotations of an object", async () => {
  const own = { "llm-orchestrator.io/hub-token": "secret", [MODEL]: "another" };
  const annotated = (annotations: object) => {
    const { metadata, ...rest } = workload("acme");
    const body = { ...rest, metadata: { ...metadata, annotations } };
    return call("acme", "PUT", `${OBJECTS}/namespaces/acme/llmworkloads/chat`, body);
  };
  expect((await annotated({ ...own, team: "a" })).status).toBe(201);
  const annotations = () => store.workloads()[0]?.metadata.annotations;
  expect(annotations()).toEqual({ team: "a" });
  // One that has them of the API's own making keeps them, also when what was read is put back changed.
  await store.put({ ...workload("acme"), ...workload("acme").metadata, annotations: { ...own, team: "a" } });
  expect((await annotated({ ...own, [MODEL]: "a third", team: "b" })).status).toBe(200);
  expect(annotations()).toEqual({ ...own, team: "b" });
});

test("labels of a deployment's change move it to no other tenant and to no other model", async () => {
  await put("root", "acme");
  const labels = { [TENANT]: "other", [MODEL]: "another", team: "a" };
  // Whose tenant was the namespace, and whose model the spec said, has neither label before.
  await store.put({ ...workload("acme"), name: "bare", namespace: "acme", labels: {}, annotations: {} });
  for (const id of ["chat", "bare"]) {
    const { status, body } = await call("acme", "PUT", `/internal/deployments/${id}`, { labels });
    expect({ status, body }).toMatchObject({ status: 200, body: { tenant_id: "acme", model_id: "llama2" } });
  }
  expect(store.workloads().map(({ metadata }) => metadata.labels)).toEqual([
    { [TENANT]: "acme", team: "a" },
    { [TENANT]: "acme", team: "a" },
  ]);
});

test("undo goes back to an earlier revision on one host, and what is not built says so", async () => {
  await put("root", "acme");
  const [made] = store.workloads();
  if (made === undefined) throw new Error("nothing was made");
  const first = revisionParts(made.metadata, made.spec);
  const rollout = "/admin/v1/deployments/chat/rollout";
  expect(await call("acme", "POST", `${rollout}/undo`)).toMatchObject({ status: 409, body: { code: "wrong-state" } });
  const keep = (number: number, parts: typeof first, name: string) =>
    store.keepRevision(made, { name, number, parts, template: null, madeAt: "2026-01-01T00:00:00.000Z" });
  await keep(1, first, revisionOf(made.metadata, made.spec));
  await put("root", "acme", { modelVersion: "13b", replicas: 3 });
  const now = onlyOne();
  await keep(2, revisionParts(now.metadata, now.spec), revisionOf(now.metadata, now.spec));
  const { body } = await call("acme", "GET", rollout);
  expect(body.revisions).toMatchObject([
    { number: 2, current: true, model_version: "13b" },
    { number: 1, current: false, model_version: "7b" },
  ]);
  expect((await call("acme", "POST", `${rollout}/undo`)).status).toBe(202);
  expect(store.workloads()[0]?.spec).toMatchObject({ modelVersion: "7b", replicas: 3 });
  for (const path of [`${rollout}/promote`, `${rollout}/abort`, "/registry/v1/models", "/registry/v1/models/a/b"]) {
    const answer = await call("root", "POST", path);
    expect(answer, path).toMatchObject({ status: 501, body: { code: "not-built", status_code: 501 } });
  }
});
