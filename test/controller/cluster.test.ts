/** The backend `kubernetes`, from a manifest to replicas that serve, against an apiserver in memory and a kubelet of the test. */
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Any } from "./fake-apiserver.ts";
import {
  apply,
  begin,
  condition,
  controller,
  creating,
  DEPLOYMENT,
  end,
  ends,
  kubelet,
  running,
  server,
  started,
  until,
  WORKLOAD,
} from "./fake-cluster.ts";
import { spec } from "./objects.ts";

describe("the backend kubernetes", () => {
  beforeEach(begin);
  afterEach(end);

  test("makes a workload's children, and says Ready when its pods serve", async () => {
    await running();
    expect(server.get(DEPLOYMENT).spec.replicas).toBe(2);
    expect(server.get("/api/v1/namespaces/ns/services/chat")).toBeDefined();
    expect(server.get("/api/v1/namespaces/ns/configmaps/chat-config")).toBeDefined();
    expect(server.get("/apis/policy/v1/namespaces/ns/poddisruptionbudgets/chat")).toBeDefined();
    expect(server.get(WORKLOAD).metadata.finalizers).toEqual(["llm-orchestrator.io/finalizer"]);
    expect(server.get(WORKLOAD).status).toMatchObject({ state: "running", readyReplicas: 2 });
  });

  test("shows each series that its alerts look at, without a key", async () => {
    await running();
    const { port } = await started.open.listen("127.0.0.1", 0);
    ends.push(() => started.open.drain());
    const page = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    const rules = readFileSync("deploy/prometheus/controller-alerts.yml", "utf8");
    const names = [...rules.matchAll(/\bllm_orchestrator_[a-z_]+/g)].map(([name]) => name);
    expect(names.length).toBeGreaterThan(5);
    for (const name of names) expect(page).toMatch(new RegExp(`^${name}(\\{.*\\})? \\d`, "m"));
    expect(page).toContain('type="Schedulable"} 1');
    expect((await fetch(`http://127.0.0.1:${port}/internal/resources/available`)).status).toBe(404);
    apply({ deploymentStrategy: { type: "canary" } });
    const isUnknown = ({ type, status }: Any) => type === "Schedulable" && status === "Unknown";
    const known = () => started.cluster.objects.workloads()[0]?.status.conditions ?? [];
    await until(() => known().some(isUnknown), "nobody looks where it runs");
    const after = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    expect(after).toContain('type="Accepted"} 0');
    expect(after).not.toContain('type="Schedulable"}');
  });

  test("writes nothing when nothing has changed", async () => {
    await running();
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const before = server.writes.length;
    await new Promise((resolve) => setTimeout(resolve, 3_500));
    expect(server.writes.slice(before)).toEqual([]);
  });

  test("puts back what somebody took away, and leaves alone what others added", async () => {
    await running();
    const live = server.get(DEPLOYMENT);
    server.set(DEPLOYMENT, {
      ...live,
      metadata: { ...live.metadata, annotations: { theirs: "1" } },
      spec: { ...live.spec, replicas: 5 },
    });
    await until(() => server.get(DEPLOYMENT).spec.replicas === 2, "two replicas again");
    expect(server.get(DEPLOYMENT).metadata.annotations).toEqual({ theirs: "1" });
  });

  test("scales as the workload says, and changes no selector for a new version", async () => {
    await running();
    const { selector } = server.get(DEPLOYMENT).spec;
    apply({ replicas: 4, modelVersion: "13b" });
    await until(() => server.get(DEPLOYMENT).spec.replicas === 4, "four replicas");
    expect(server.get(DEPLOYMENT).spec.selector).toEqual(selector);
    kubelet();
    await until(() => server.get(WORKLOAD).status.updatedReplicas === 4, "the new revision");
  });

  test("says what the server refuses of a child, and asks for it again with growing pauses", async () => {
    server.refusals.set(DEPLOYMENT, { status: 403, message: "deployments.apps is forbidden" });
    apply();
    await until(() => condition("Progressing")?.status === "False", "the refusal");
    expect(condition("Progressing")).toMatchObject({
      reason: "BackendRefused",
      message: "deployments.apps is forbidden",
    });
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    const asked = server.writes.filter((write) => write === `PATCH ${DEPLOYMENT}`);
    // At 0, 1, 3, 7 and 15 s of which a look follows each second.
    expect(asked.length).toBeLessThanOrEqual(5);
    server.refusals.clear();
    await until(() => server.get(DEPLOYMENT) !== undefined, "the Deployment, once the right is there");
  });

  test("accepts no object that breaks the rules, and makes nothing of it", async () => {
    apply({ scaling: { minReplicas: 5, maxReplicas: 2 } });
    await until(() => condition("Accepted")?.status === "False", "a refusal");
    expect(condition("Accepted")).toMatchObject({ reason: "Invalid" });
    expect(server.get(DEPLOYMENT)).toBeUndefined();
  });

  test("makes one deployment for one Idempotency-Key, by whichever controller, and refuses it for another", async () => {
    const { api: second } = controller(started.url);
    const create = await creating(started.api);
    const createThere = await creating(second);
    const ask = { tenant_id: "acme", model_id: "llama", model_name: "llama2", model_path: "a/b", gpu_per_replica: 1 };
    const first = await create(ask);
    expect(first.status).toBe(200);
    const again = await create(ask);
    expect(again.body.deployment_id).toBe(first.body.deployment_id);
    expect(again.replayed).toBe("true");
    expect(server.all("llmworkloads")).toHaveLength(1);
    expect((await createThere(ask)).body.deployment_id).toBe(first.body.deployment_id);
    expect(await create({ ...ask, replicas: 2 })).toMatchObject({
      status: 422,
      body: { code: "idempotency-key-reused" },
    });
    expect(await create({ ...ask, model_id: "other" })).toMatchObject({ status: 422 });
    expect((await create(ask, "another")).body.deployment_id).not.toBe(first.body.deployment_id);
    expect(server.all("llmworkloads")).toHaveLength(2);
  });

  describe("given a hub token", () => {
    const SECRETS = "/api/v1/namespaces/default/secrets";
    const ask = {
      tenant_id: "acme",
      model_id: "llama",
      model_name: "a/b",
      gpu_per_replica: 1,
      huggingface_token: "hf_1",
    };
    const secrets = () => server.all("secrets").map(({ metadata }) => metadata.name);
    const isLeaving = () => server.all("llmworkloads").some(({ metadata }) => metadata.deletionTimestamp !== undefined);

    test("keeps the deployment when the same request comes to a controller that has not seen it yet", async () => {
      const second = controller(started.url);
      await second.cluster.objects.stop();
      const [create, createThere] = [await creating(started.api), await creating(second.api)];
      const { deployment_id: id } = (await create(ask)).body;
      const there = await createThere(ask);
      expect([there.status, there.body.deployment_id, isLeaving()]).toEqual([200, id, false]);
      expect(secrets()).toEqual([`hf-token-${id}`]);
    });

    test("makes up for a token that could not be kept when the request comes again", async () => {
      const create = await creating(started.api);
      server.refusals.set(SECRETS, { status: 503, message: "etcd is away" });
      expect((await create(ask)).status).toBe(503);
      expect([server.all("llmworkloads").length, isLeaving(), secrets()]).toEqual([1, false, []]);
      server.refusals.clear();
      const { status, body } = await create(ask);
      expect([status, secrets()]).toEqual([200, [`hf-token-${body.deployment_id}`]]);
      expect((await create(ask)).status).toBe(200);
      expect(server.all("llmworkloads")).toHaveLength(1);
    });

    test("takes the deployment away again where the token is refused, and says what refused it", async () => {
      const create = await creating(started.api);
      server.refusals.set(SECRETS, { status: 403, message: "may not create secrets" });
      const { status, body } = await create(ask);
      expect([status, body.error]).toEqual([502, "may not create secrets"]);
      await until(() => server.all("llmworkloads").length === 0, "the workload is gone");
    });
  });

  test("that is for one namespace makes there what names none, and nothing elsewhere", async () => {
    const create = await creating(controller(started.url, { namespace: "ns" }).api);
    const ask = { tenant_id: "acme", model_id: "llama", model_name: "a/b", gpu_per_replica: 1 };
    expect((await create(ask)).status).toBe(200);
    expect(server.all("llmworkloads").map(({ metadata }) => metadata.namespace)).toEqual(["ns"]);
    const object = {
      apiVersion: "llm.orchestrator.io/v1",
      kind: "LLMWorkload",
      metadata: { name: "chat" },
      spec: spec({ replicas: 1 }),
    };
    const elsewhere = WORKLOAD.replace("/ns/", "/team-b/");
    expect(await create(object, "twice", "PUT", elsewhere)).toMatchObject({
      status: 422,
      body: { code: "object-invalid", errors: [{ path: "metadata.namespace" }] },
    });
    expect(server.get(elsewhere)).toBeUndefined();
  });

  test("keeps a deployment's Idempotency-Key when it is changed", async () => {
    const create = await creating(started.api);
    const ask = { tenant_id: "acme", model_id: "llama", model_name: "llama2", model_path: "a/b", gpu_per_replica: 1 };
    const { deployment_id: id } = (await create(ask)).body;
    const [old] = started.cluster.objects.workloads();
    if (old === undefined) throw new Error("it was learnt when it was made");
    const { metadata, spec: was } = old;
    const annotations = { "llm-orchestrator.io/request": "somebody else's", theirs: "1" };
    await started.cluster.objects.put({ ...metadata, annotations, spec: { ...was, replicas: 3 } });
    expect((await create(ask)).body.deployment_id).toBe(id);
    expect(server.all("llmworkloads")).toHaveLength(1);
  });

  test("goes on with a drain past a pod whose eviction is refused, and says why it is", async () => {
    for (const name of ["first", "second"]) {
      server.set(`/api/v1/namespaces/ns/pods/${name}`, {
        metadata: { name, namespace: "ns", labels: {} },
        spec: { nodeName: "n1", containers: [] },
        status: { phase: "Running" },
      });
    }
    server.refusals.set("/api/v1/namespaces/ns/pods/first/eviction", {
      status: 403,
      message: "evictions are forbidden",
    });
    const { backend } = started.cluster;
    await until(() => started.loop.looks > 0, "a look");
    const drain = () => backend.drain("n1", { reason: "", deadlineMs: 600_000, force: false });
    await expect
      .poll(drain, { timeout: 45_000 })
      .toEqual({ node: "n1", status: "draining", blockedBy: ["ns/first: evictions are forbidden"] });
    expect(started.loop.trouble).toBeNull();
    server.refusals.clear();
    await until(() => server.get("/api/v1/namespaces/ns/pods/first") === undefined, "the first pod's eviction");
  });

  test("takes everything away before a workload that is deleted goes", async () => {
    await running();
    apply({}, { deletionTimestamp: "2026-01-02T00:00:00Z" });
    await until(() => server.get(DEPLOYMENT) === undefined, "no Deployment");
    expect(server.get(WORKLOAD)).toBeDefined();
    // Nobody is sent to pods that stop.
    const deleted = server.writes
      .filter((write) => write.startsWith("DELETE "))
      .map((write) => write.split("/").at(-2));
    expect(deleted.slice(0, 2)).toEqual(["services", "deployments"]);
    for (const { metadata } of server.all("pods")) server.remove(`/api/v1/namespaces/ns/pods/${metadata.name}`);
    await until(() => server.get(WORKLOAD) === undefined, "no workload");
  });

  test("keeps a workload that is deleted for as long as somebody else's finalizer holds a child of it", async () => {
    await running();
    const service = "/api/v1/namespaces/ns/services/chat";
    const held = server.get(service);
    const metadata = { ...held.metadata, finalizers: ["service.kubernetes.io/load-balancer-cleanup"] };
    server.set(service, { ...held, metadata });
    apply({}, { deletionTimestamp: "2026-01-02T00:00:00Z" });
    await until(() => server.get(DEPLOYMENT) === undefined, "no Deployment");
    for (const { metadata: pod } of server.all("pods")) server.remove(`/api/v1/namespaces/ns/pods/${pod.name}`);
    const ready = () =>
      server.get(WORKLOAD).status.conditions.find(({ type }: { type: string }) => type === "Ready").message;
    await until(() => ready() === "0 replicas are left, services/chat", "what is waited for");
    expect(server.get(WORKLOAD).status.state).toBe("terminating");
    server.remove(service);
    await until(() => server.get(WORKLOAD) === undefined, "no workload");
  });

  test("takes the claim of a workload's models away with it, and waits until it is gone", async () => {
    await running();
    const claim = "/api/v1/namespaces/ns/persistentvolumeclaims/chat-models-pvc";
    const labels = { "app.kubernetes.io/managed-by": "gpu-orchestrator" };
    const finalizers = ["kubernetes.io/pvc-protection"];
    server.set(claim, { metadata: { name: "chat-models-pvc", namespace: "ns", labels, finalizers } });
    apply({}, { deletionTimestamp: "2026-01-02T00:00:00Z" });
    await until(() => server.get(DEPLOYMENT) === undefined, "no Deployment");
    for (const { metadata: pod } of server.all("pods")) server.remove(`/api/v1/namespaces/ns/pods/${pod.name}`);
    await until(() => server.get(claim)?.metadata.deletionTimestamp !== undefined, "the claim's end");
    const ready = () => condition("Ready")?.message;
    await until(() => ready() === "0 replicas are left, persistentvolumeclaims/chat-models-pvc", "what is waited for");
    server.remove(claim);
    await until(() => server.get(WORKLOAD) === undefined, "no workload");
  });
});
