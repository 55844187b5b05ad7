/** A right that is missing holds up what needs it, and nothing else. */
import { afterEach, describe, expect, onTestFinished, test } from "vitest";
import {
  apply,
  beginWithout,
  condition,
  controller,
  DEPLOYMENT,
  end,
  ends,
  running,
  server,
  started,
  until,
  WORKLOAD,
} from "./fake-cluster.ts";

const POLICIES = "/apis/networking.k8s.io/v1/networkpolicies";
const REVISIONS = "/apis/apps/v1/controllerrevisions";
const words = (kind: string) => `${kind} is forbidden: cannot list`;
const security = { encryption: false, complianceLevel: "basic", dataClassification: "internal" };

describe("without the right to read", () => {
  afterEach(end);

  test("NetworkPolicies, only a workload that asks for isolation is held up, and says which right is missing", async () => {
    await beginWithout(new Map([[POLICIES, words("networkpolicies")]]));
    await running();
    apply({ security: { ...security, accessControl: ["web"] }, replicas: 3 });
    await until(() => condition("Progressing")?.reason === "BackendRefused", "BackendRefused");
    expect(condition("Progressing").message).toContain(words("networkpolicies"));
    expect(server.get(DEPLOYMENT).spec.replicas).toBe(2);
    apply({ replicas: 3 });
    await until(() => server.get(DEPLOYMENT).spec.replicas === 3, "three replicas");
  });

  test("claims, only workloads that have one are held up; without that for priority classes there are none", async () => {
    const unread = ["/api/v1/persistentvolumeclaims", "/apis/scheduling.k8s.io/v1/priorityclasses"];
    await beginWithout(new Map(unread.map((path) => [path, words(path.split("/").at(-1) as string)])));
    await running();
    expect(server.get(DEPLOYMENT).spec.template.spec).not.toHaveProperty("priorityClassName");
  });

  test("PodDisruptionBudgets, a workload of one replica has none and goes on, and one of two says which right", async () => {
    await beginWithout(new Map([["/apis/policy/v1/poddisruptionbudgets", words("poddisruptionbudgets")]]));
    apply({ replicas: 1 });
    await until(() => server.get(DEPLOYMENT)?.spec.replicas === 1, "a Deployment");
    apply({ replicas: 2 });
    await until(() => condition("Progressing")?.reason === "BackendRefused", "BackendRefused");
    expect(condition("Progressing").message).toContain(words("poddisruptionbudgets"));
  });

  test("ControllerRevisions, what runs goes on from its own template, and a new revision names the right", async () => {
    await beginWithout(new Map());
    await running();
    const before = server.get(DEPLOYMENT).spec.template;
    for (const one of ends.splice(0)) await one();
    server.unreadable.set(REVISIONS, words("controllerrevisions"));
    // Its own default would be another image.
    controller(started.url, {}, { image: "vllm/vllm-openai:another" });
    apply({ replicas: 3 });
    await until(() => server.get(DEPLOYMENT).spec.replicas === 3, "three replicas");
    expect(server.get(DEPLOYMENT).spec.template).toEqual(before);
    apply({ modelVersion: "13b" });
    await until(() => condition("Progressing")?.reason === "BackendRefused", "BackendRefused");
    expect(condition("Progressing").message).toContain(words("controllerrevisions"));
    expect(server.get(DEPLOYMENT).spec.template).toEqual(before);
  });

  test("something that all need, nothing is decided", async () => {
    await beginWithout(new Map([["/api/v1/services", words("services")]]));
    await until(() => started.loop.trouble?.includes(words("services")) === true, "a trouble");
    expect(started.loop.looks).toBe(0);
  });
});

test("without the right to write the status of models, workloads go on; with it models say how they are", async () => {
  await beginWithout(new Map());
  onTestFinished(end);
  const path = "/apis/llm.orchestrator.io/v1/llmmodels/mine";
  const forbidden = { status: 403, message: "llmmodels/status is forbidden: cannot patch" };
  server.refusals.set(path, forbidden);
  const spec = { name: "llama2", version: "7b", type: "text-generation", framework: "pytorch" };
  const hub = { type: "hub", uri: "a/b" };
  server.set(path, { metadata: { name: "mine" }, spec: { ...spec, source: hub, access: { tenants: ["ns"] } } });
  await running();
  expect(server.get(path).status).toBeUndefined();
  server.refusals.delete(path);
  await until(() => server.get(path).status?.usageStats?.readyReplicas === 2, "a status");
  expect(server.get(path).status.conditions).toContainEqual(
    expect.objectContaining({ type: "Available", status: "True" }),
  );
  await until(() => server.all("events").some(({ regarding }) => regarding.kind === "LLMModel"), "an Event");
  const told = server.all("events").find(({ regarding }) => regarding.kind === "LLMModel");
  expect(told).toMatchObject({ metadata: { namespace: "default" }, regarding: { name: "mine" } });
  expect(told.regarding).not.toHaveProperty("namespace");
  // Nobody else may use it any more: what runs goes on, and no more are made.
  server.set(path, { ...server.get(path), spec: { ...spec, source: hub, access: { tenants: ["other"] } } });
  await until(() => condition("Accepted")?.reason === "ModelForbidden", "ModelForbidden");
  apply({ replicas: 3 });
  await until(() => server.get(WORKLOAD).status.observedGeneration === 2, "a look");
  expect(server.get(DEPLOYMENT).spec.replicas).toBe(2);
});
