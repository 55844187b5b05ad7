/** Revisions, drift and drains in a cluster, against an apiserver in memory. */
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
  kubelet,
  NODE,
  running,
  server,
  started,
  until,
  WORKLOAD,
} from "./fake-cluster.ts";

const NODES = "/admin/v1/infrastructure/nodes";
const image = () => server.get(DEPLOYMENT).spec.template.spec.containers[0].image;
const revisions = () =>
  server
    .all("controllerrevisions")
    .map(({ revision, data }: Any) => [revision, data.parts.modelVersion])
    .sort();

describe("a workload's revisions in a cluster", () => {
  beforeEach(begin);
  afterEach(end);

  test("are ControllerRevisions, and undo goes back to the one before, template and all", async () => {
    await running();
    apply({ modelVersion: "13b" });
    await until(() => revisions().length === 2, "a second revision");
    kubelet();
    await until(() => condition("Ready")?.status === "True", "Ready");
    const call = await creating(started.api);
    const path = "/admin/v1/deployments/chat/rollout";
    expect(await call({}, "a", "POST", `${path}/undo`)).toMatchObject({ status: 202 });
    await until(() => server.get(WORKLOAD).spec.modelVersion === "7b", "the version before");
    await until(() => revisions().some(([number]) => number === 3), "a new number");
    expect(revisions()).toEqual([
      [2, "13b"],
      [3, "7b"],
    ]);
    expect(await call({}, "b", "POST", `${path}/promote`)).toMatchObject({ status: 501, body: { code: "not-built" } });
    const refused = await call({ to_revision: 9 }, "c", "POST", `${path}/undo`);
    expect(refused).toMatchObject({ status: 409, body: { code: "wrong-state" } });
    expect(server.get(WORKLOAD).spec.replicas).toBe(2);
  });

  test("keep the image that they began with: another default rolls nothing until something else does", async () => {
    await running();
    const before = image();
    const { template } = server.get(DEPLOYMENT).spec;
    await started.loop.stop();
    const second = controller(started.url, {}, { image: "vllm/vllm-openai:another" });
    await until(() => second.loop.looks > 2, "looks of a controller with another default image");
    expect(server.get(DEPLOYMENT).spec.template).toEqual(template);
    apply({ modelVersion: "13b" });
    await until(() => image() !== before, "the other image, with the next revision");
    expect(image()).toBe("vllm/vllm-openai:another");
  });

  test("of a workload that is gone are in nobody's way when another has its name", async () => {
    await running();
    const [old] = server.all("controllerrevisions");
    const path = `/apis/apps/v1/namespaces/ns/controllerrevisions/${old.metadata.name}`;
    apply({}, { deletionTimestamp: "2026-01-02T00:00:00Z" });
    await until(() => server.get(DEPLOYMENT) === undefined, "no Deployment");
    for (const { metadata } of server.all("pods")) server.remove(`/api/v1/namespaces/ns/pods/${metadata.name}`);
    await until(() => server.get(WORKLOAD) === undefined, "no workload");
    // Kubernetes has not collected it yet. Its template names the other workload: which nodes that one avoids.
    expect(server.get(path).metadata.uid).toBe(old.metadata.uid);
    await running();
    const [{ metadata, data }] = server.all("controllerrevisions");
    expect(data.parts).toEqual(old.data.parts);
    expect(data.template).not.toEqual(old.data.template);
    expect(metadata.ownerReferences[0].uid).toBe(server.get(WORKLOAD).metadata.uid);
    expect(metadata.uid).not.toBe(old.metadata.uid);
  });

  test("are put back where somebody changed what runs, and that is said", async () => {
    await running();
    const live = server.get(DEPLOYMENT);
    const [container] = live.spec.template.spec.containers;
    const wrong = { ...live.spec.template.spec, containers: [{ ...container, image: "evil:1" }] };
    server.set(DEPLOYMENT, { ...live, spec: { ...live.spec, template: { ...live.spec.template, spec: wrong } } });
    await until(() => image() === container.image, "the image as it was");
    await until(() => condition("Drifted")?.status === "True", "Drifted");
    expect(condition("Drifted")).toMatchObject({
      reason: "PutBack",
      message: 'deployments/chat: spec.template.spec.containers[0].image was "evil:1"',
    });
  });
});

describe("a drain in a cluster", () => {
  beforeEach(begin);
  afterEach(end);
  const pod = (name: string) => server.get(`/api/v1/namespaces/ns/pods/${name}`);
  const other = (name: string) =>
    server.set(`/api/v1/namespaces/ns/pods/${name}`, {
      metadata: { name, namespace: "ns", labels: {} },
      spec: { nodeName: "n1", containers: [] },
      status: { phase: "Running" },
    });

  test("is asked of any controller, and carried on by the one that leads, until somebody uncordons", async () => {
    await running();
    const second = controller(started.url, {}, {}, false);
    await until(() => second.loop.looks > 0, "the second looks");
    other("first");
    const call = await creating(second.api);
    expect((await call({ deadline: 600 }, "a", "POST", `${NODES}/n1/drain`)).status).toBe(202);
    await until(() => pod("first") === undefined, "an eviction by the one that leads");
    const live = server.get(NODE);
    server.set(NODE, { ...live, spec: { unschedulable: false } });
    await until(() => server.get(NODE).metadata.annotations["llm-orchestrator.io/drain"] === undefined, "its end");
    other("second");
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(pod("second")).toBeDefined();
  });

  test("deletes what is left at its deadline with force, and nothing without", async () => {
    await until(() => started.loop.looks > 0, "a look");
    other("stubborn");
    server.refusals.set("/api/v1/namespaces/ns/pods/stubborn/eviction", { status: 429, message: "the budget" });
    const { backend } = started.cluster;
    const asked = await backend.drain("n1", { reason: "", deadlineMs: 1_500, force: false });
    expect(asked).toEqual({ node: "n1", status: "draining", blockedBy: ["ns/stubborn"] });
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    expect(pod("stubborn")).toBeDefined();
    expect(server.writes.filter((write) => write.startsWith("DELETE"))).toEqual([]);
    await backend.drain("n1", { reason: "", deadlineMs: 500, force: true });
    await until(() => pod("stubborn") === undefined, "its deletion");
  });

  test("lets a lone replica's successor come up elsewhere before it goes", async () => {
    server.set("/api/v1/nodes/n2", { ...server.get(NODE), metadata: { name: "n2", labels: {} } });
    apply({ replicas: 1 });
    await until(() => server.get(DEPLOYMENT) !== undefined, "a Deployment");
    kubelet();
    await until(() => condition("Ready")?.status === "True", "Ready");
    const [old] = server.all("pods");
    await started.cluster.backend.drain("n1", { reason: "", deadlineMs: 600_000, force: false });
    await until(() => server.get(DEPLOYMENT).spec.replicas === 2, "one more");
    await until(
      () => pod(old.metadata.name).metadata.annotations?.["controller.kubernetes.io/pod-deletion-cost"] === "-1000000",
      "the old one is marked",
    );
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(pod(old.metadata.name)).toBeDefined();
    expect(condition("Ready")?.status).toBe("True");
    const { metadata, spec, status } = old;
    const name = `${metadata.name}-successor`;
    server.set(`/api/v1/namespaces/ns/pods/${name}`, {
      metadata: { name, namespace: "ns", labels: metadata.labels },
      spec: { ...spec, nodeName: "n2" },
      status,
    });
    await until(() => server.get(DEPLOYMENT).spec.replicas === 1, "one again");
    await until(() => pod(old.metadata.name) === undefined, "the old one's end");
    expect(pod(name)).toBeDefined();
  });
});
