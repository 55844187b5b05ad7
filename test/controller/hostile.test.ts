/** A cluster in which others have things of the same names and labels, and hands that change ours. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Wanted } from "../../src/controller/reconcile/reconcile.ts";
import type { Any } from "./fake-apiserver.ts";
import {
  apply,
  begin,
  condition,
  DEPLOYMENT,
  end,
  NODE,
  running,
  server,
  started,
  until,
  WORKLOAD,
} from "./fake-cluster.ts";
import { look, workload } from "./objects.ts";

const SERVICE = "/api/v1/namespaces/ns/services/chat";
const POLICY = "/apis/networking.k8s.io/v1/namespaces/ns/networkpolicies/chat";
const OURS = { "app.kubernetes.io/managed-by": "gpu-orchestrator", "llm-orchestrator.io/workload": "chat" };
const helm = { kind: "Release", name: "web", uid: "other", controller: true };
const foreign = (change: object = {}) => ({
  metadata: { name: "chat", namespace: "ns", ...change },
  spec: { selector: { app: "web" }, ports: [{ port: 443 }] },
});
const withoutPods = () => {
  for (const { metadata } of server.all("pods")) {
    if (metadata.name.startsWith("chat-")) server.remove(`/api/v1/namespaces/ns/pods/${metadata.name}`);
  }
};

beforeEach(begin);
afterEach(end);

describe("what is somebody else's", () => {
  test.each([
    ["nothing of ours", {}],
    ["our labels and another owner", { labels: OURS, ownerReferences: [helm] }],
  ])(
    "under a child's name, with %s, is neither taken over nor deleted, and the workload says so",
    async (_, metadata) => {
      server.set(SERVICE, foreign(metadata));
      const before = structuredClone(server.get(SERVICE));
      apply();
      await until(() => condition("Progressing")?.reason === "BackendRefused", "a refusal");
      expect(condition("Progressing").message).toContain("services/chat is there already");
      apply({}, { deletionTimestamp: "2026-01-02T00:00:00Z" });
      await until(() => server.get(WORKLOAD) === undefined, "no workload");
      expect(server.get(SERVICE)).toEqual(before);
    },
  );

  test("and has gone is no longer in the way", async () => {
    server.set(SERVICE, foreign());
    apply();
    await until(() => condition("Progressing")?.reason === "BackendRefused", "a refusal");
    server.remove(SERVICE);
    await until(() => server.get(DEPLOYMENT) !== undefined, "a Deployment");
    expect(server.get(SERVICE).metadata.ownerReferences).toMatchObject([{ kind: "LLMWorkload", name: "chat" }]);
  });

  test("and bears our labels under the name of a child that is not wanted stays, and holds up no end", async () => {
    server.set(POLICY, foreign({ labels: OURS, ownerReferences: [helm] }));
    await running();
    apply({}, { deletionTimestamp: "2026-01-02T00:00:00Z" });
    await until(() => server.get(DEPLOYMENT) === undefined, "no Deployment");
    withoutPods();
    await until(() => server.get(WORKLOAD) === undefined, "no workload");
    expect(server.get(POLICY).metadata.deletionTimestamp).toBeUndefined();
  });

  test.each([
    [
      "a Job's",
      { ...OURS, "llm-orchestrator.io/revision": "r" },
      [{ kind: "Job", name: "j", uid: "j", controller: true }],
    ],
    ["the LLM Orchestrator's own", { "llm-orchestrator.io/workload": "chat" }, []],
  ])(
    "and is %s pod with our labels counts for nothing, and is not deleted when it has ended",
    async (_, labels, owners) => {
      await running();
      const pod = "/api/v1/namespaces/ns/pods/other";
      server.set(pod, {
        metadata: { name: "other", namespace: "ns", labels, ownerReferences: owners },
        spec: { nodeName: "n1", containers: [] },
        status: { phase: "Failed" },
      });
      apply({ replicas: 2 }, { annotations: { "example.com/look": "again" } });
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      expect(server.get(WORKLOAD).status).toMatchObject({ currentReplicas: 2, readyReplicas: 2 });
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      expect(server.writes.filter((write) => write.includes("/pods/"))).toEqual([]);
      expect(server.get(pod).metadata.deletionTimestamp).toBeUndefined();
    },
  );
});

describe("a child of ours", () => {
  const hands: [string, (child: Any) => void][] = [
    ["its labels", (child) => (child.metadata.labels = {})],
    ["its owner", (child) => (child.metadata.ownerReferences = [])],
  ];
  test.each(hands)("from which somebody takes %s away is given it back", async (_, take) => {
    await running();
    const before = structuredClone(server.get(SERVICE).metadata);
    const child = structuredClone(server.get(SERVICE));
    take(child);
    child.metadata.managedFields = [{ manager: "gpu-orchestrator", operation: "Apply" }];
    server.set(SERVICE, child);
    await until(() => condition("Drifted")?.status === "True", "Drifted");
    expect(server.get(SERVICE).metadata).toMatchObject({
      labels: before.labels,
      ownerReferences: before.ownerReferences,
    });
  });
});

describe("a server that fails when it is asked what it has", () => {
  const BASE = "/apis/monitoring.coreos.com/v1";
  const CLASS = "/apis/node.k8s.io/v1/runtimeclasses/nvidia";

  test("takes no kind and no RuntimeClass away, and one that says 404 does", async () => {
    server.set(BASE, { metadata: { name: "v1" }, resources: [{ name: "servicemonitors" }] });
    server.set(CLASS, { metadata: { name: "nvidia" } });
    const { backend } = started.cluster;
    const kinds = () =>
      backend
        .figures()
        .find(({ name }) => name === "watch_up")
        ?.samples.map(({ labels }) => labels.kind);
    const runtime = () => JSON.stringify(backend.templateOf(workload(), look(workload()).wanted as Wanted));
    let ahead = 0;
    const clock = performance.now.bind(performance);
    const now = vi.spyOn(performance, "now").mockImplementation(() => clock() + ahead);
    const lookedAgain = async () => {
      ahead += 61_000;
      await backend.look();
    };
    await until(() => started.loop.looks > 0, "a look");
    await lookedAgain();
    expect(kinds()).toContain("servicemonitors");
    expect(runtime()).toContain("runtimeClassName");
    server.ill.add(BASE).add(CLASS);
    await lookedAgain();
    expect(kinds()).toContain("servicemonitors");
    expect(runtime()).toContain("runtimeClassName");
    server.ill.clear();
    for (const path of [BASE, CLASS]) server.remove(path);
    await lookedAgain();
    expect(kinds()).not.toContain("servicemonitors");
    expect(runtime()).not.toContain("runtimeClassName");
    now.mockRestore();
  });
});

describe("nodes that nobody may change", () => {
  test("hold up no drain of another", async () => {
    const node = (name: string, change: Any) => {
      const path = `/api/v1/nodes/${name}`;
      server.refusals.set(path, { status: 500, message: "a webhook says no" });
      const { status } = server.get(NODE);
      server.set(path, { spec: {}, status, ...change, metadata: { name, ...change.metadata } });
    };
    node("a-labelled", { metadata: { labels: { "avoid.llm-orchestrator.io/0123456789ab": "1" } } });
    const drain = JSON.stringify({ until: "2100-01-01T00:00:00Z", force: false });
    node("a-uncordoned", { metadata: { annotations: { "llm-orchestrator.io/drain": drain } } });
    const pod = "/api/v1/namespaces/ns/pods/somebodys";
    const containers: Any[] = [];
    server.set(pod, {
      metadata: { name: "somebodys", namespace: "ns" },
      spec: { nodeName: "n1", containers },
      status: { phase: "Running" },
    });
    const { metadata, ...of } = server.get(NODE);
    server.remove(NODE);
    server.set(NODE, {
      ...of,
      metadata: { name: "n1", labels: metadata.labels, annotations: { "llm-orchestrator.io/drain": drain } },
      spec: { unschedulable: true },
    });
    await until(() => server.get(pod) === undefined, "its eviction");
  });
});

describe("a workload that is being deleted", () => {
  test("and that somebody else's finalizer keeps is let go once, and nothing is written from then on", async () => {
    await running();
    apply(
      {},
      {
        finalizers: ["llm-orchestrator.io/finalizer", "example.com/backup"],
        deletionTimestamp: "2026-01-02T00:00:00Z",
      },
    );
    await until(() => server.get(DEPLOYMENT) === undefined, "no Deployment");
    withoutPods();
    await until(() => server.get(WORKLOAD).metadata.finalizers.length === 1, "our finalizer's end");
    expect(server.get(WORKLOAD).metadata.finalizers).toEqual(["example.com/backup"]);
    const writes = server.writes.length;
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect(server.writes.slice(writes)).toEqual([]);
  });
});
