/** Replicas that are larger than any node: groups of pods, as LeaderWorkerSets. */
import { describe, expect, test } from "vitest";
import { groupPath } from "../../src/controller/kubernetes/group.ts";
import { tracksSeen } from "../../src/controller/kubernetes/pods.ts";
import { childrenOf, deploymentPath, type RenderSettings, templateIn } from "../../src/controller/kubernetes/render.ts";
import type { KubeObject } from "../../src/controller/kubernetes/watch.ts";
import type { WorkloadSpec } from "../../src/controller/objects/workload.ts";
import { roomFor } from "../../src/controller/reconcile/fleet.ts";
import { NO_MEMORIES, reconcile } from "../../src/controller/reconcile/reconcile.ts";
import type { Seen } from "../../src/controller/reconcile/seen.ts";
import { condition, node, PODS, SETTINGS, seen, workload } from "./objects.ts";

// biome-ignore lint/suspicious/noExplicitAny: manifests are looked into freely.
type Any = any;

const NODES = ["a", "b", "c"].map((name) => node({ name }));
const settings = { ...SETTINGS, maxGpus: 64 };
const asking = (gpu: string, change: Partial<WorkloadSpec> = {}) =>
  workload({ replicas: 2, resources: { cpu: "16", memory: "64Gi", gpu }, ...change });
const look = (of: ReturnType<typeof asking>, change: Partial<Seen> = {}) =>
  reconcile(of, seen([], { nodes: NODES, groups: "there", ...change }), NO_MEMORIES, settings);

const render: RenderSettings = {
  reconcile: settings,
  priorityClasses: new Set(),
  products: [],
  liveProducts: [],
  template: null,
  optional: new Set(["leaderworkersets"]),
  namespace: "llm-orchestrator",
  gateway: null,
  pods: PODS,
  hasRuntimeClass: false,
};

/** By kind, with what goes and what was decided. */
function children(of = asking("16"), change: Partial<RenderSettings> = {}, at: Partial<Seen> = {}): Any {
  const { wanted } = look(of, at);
  if (wanted === null) throw new Error("not accepted");
  const { made, gone } = childrenOf(of, wanted, { ...render, ...change });
  return { gone, wanted, ...Object.fromEntries(made.map(({ object }) => [object.kind, object])) };
}

describe("a replica that needs more GPUs than any node has", () => {
  test("is refused without the CRD of LeaderWorkerSets, in words, and nothing is made", () => {
    const lacking = look(asking("16"), { groups: "lacking" });
    expect(lacking.wanted).toBeNull();
    expect(condition(lacking, "Accepted")).toMatchObject({ status: "False", reason: "NeedsLeaderWorkerSet" });
    // On one host there is no other node to be had.
    expect(condition(look(asking("16"), { groups: "never" }), "Schedulable")).toMatchObject({ reason: "NeverFits" });
  });

  test("spans the fewest nodes that have an equal part each, and never fits where none do", () => {
    const plan = (gpu: string) => look(asking(gpu)).wanted?.plan;
    expect(plan("16")).toMatchObject({ gpus: 16, nodes: 2 });
    expect(plan("24")).toMatchObject({ gpus: 24, nodes: 3 });
    expect(plan("8")).toMatchObject({ gpus: 8, nodes: 1 });
    for (const never of ["17", "32"]) {
      expect(condition(look(asking(never)), "Schedulable"), never).toMatchObject({ reason: "NeverFits" });
    }
    // A server of one's own is not known to be able to.
    const custom = asking("16", { engine: { type: "custom", image: "own:1" } });
    expect(condition(look(custom), "Schedulable")).toMatchObject({ reason: "NeverFits" });
  });

  test("has room where as many nodes have a part free", () => {
    const extent = { gpus: 16, nodes: 2, product: null };
    const free = (...used: number[]) =>
      roomFor(
        NODES.map((one, index) => ({ ...one, usedGpus: used[index] ?? 0 })),
        extent,
      );
    expect([free(0, 0, 0), free(0, 1, 0), free(0, 1, 1), free(8, 8, 8)]).toEqual([1, 1, 0, 0]);
  });

  test("is a LeaderWorkerSet whose pods have equal parts of it, and no Deployment", () => {
    const { LeaderWorkerSet, Deployment, Service, gone } = children();
    expect(Deployment).toBeUndefined();
    expect(gone).toContain(deploymentPath(asking("16")));
    expect(LeaderWorkerSet.spec).toMatchObject({
      replicas: 2,
      leaderWorkerTemplate: { size: 2, restartPolicy: "RecreateGroupOnPodRestart" },
    });
    const { leaderTemplate, workerTemplate } = LeaderWorkerSet.spec.leaderWorkerTemplate;
    for (const { spec } of [leaderTemplate, workerTemplate]) {
      expect(spec.containers[0].resources.limits).toMatchObject({ "nvidia.com/gpu": "8", memory: "32Gi" });
      expect(spec.securityContext.runAsNonRoot).toBe(true);
    }
    const [leader] = leaderTemplate.spec.containers;
    expect(leader.args.slice(2)).toEqual(
      expect.arrayContaining(["--tensor-parallel-size=8", "--pipeline-parallel-size=2", "--port=8000"]),
    );
    const [worker] = workerTemplate.spec.containers;
    expect([worker.readinessProbe, worker.ports]).toEqual([undefined, undefined]);
    // Only leaders are called.
    expect(Service.spec.selector).toMatchObject({ "leaderworkerset.sigs.k8s.io/worker-index": "0" });
    expect(children(asking("8")).Service.spec.selector).not.toHaveProperty("leaderworkerset.sigs.k8s.io/worker-index");
  });

  test("surges only where a whole group has room", () => {
    const rolling = (usedGpus: number) => {
      const nodes = NODES.map((one) => ({ ...one, usedGpus }));
      return children(asking("16"), {}, { nodes }).LeaderWorkerSet.spec.rolloutStrategy.rollingUpdateConfiguration;
    };
    expect(rolling(0)).toEqual({ maxSurge: 1, maxUnavailable: 0 });
    expect(rolling(1)).toEqual({ maxSurge: 0, maxUnavailable: 1 });
  });

  test("keeps its shape for as long as its revision lasts: a larger node that comes rolls nothing", () => {
    const first = children();
    const template = templateIn(first.LeaderWorkerSet as KubeObject, first.wanted.revision);
    expect(template).toMatchObject({ size: 2 });
    const nodes = [...NODES, node({ name: "big", gpus: 16 })];
    const later = children(asking("16"), { template }, { nodes });
    expect(later.wanted.plan?.nodes).toBe(1);
    expect(later.LeaderWorkerSet).toMatchObject({ spec: { leaderWorkerTemplate: { size: 2 } } });
    expect(later.gone).toContain(deploymentPath(asking("16")));
  });

  test("becomes a Deployment when it is made smaller, and the groups go", () => {
    const { Deployment, LeaderWorkerSet, gone } = children(asking("8"));
    expect(Deployment.spec.replicas).toBe(2);
    expect(LeaderWorkerSet).toBeUndefined();
    expect(gone).toContain(groupPath(asking("8")));
    // A cluster without the kind is asked for nothing.
    expect(children(asking("8"), { optional: new Set() }).gone).not.toContain(groupPath(asking("8")));
  });

  test("lets its own pods through a NetworkPolicy", () => {
    const closed = { encryption: false, networkPolicies: ["deny-ingress", "deny-egress"] } as Any;
    const { NetworkPolicy } = children(asking("16", { security: closed }));
    const own = { podSelector: { matchLabels: expect.objectContaining({ "llm-orchestrator.io/workload": "chat" }) } };
    expect(NetworkPolicy.spec.ingress).toContainEqual({ from: [own] });
    expect(NetworkPolicy.spec.egress).toContainEqual({ to: [own] });
    const alone = children(asking("8", { security: closed })).NetworkPolicy.spec;
    expect([alone.ingress.length, alone.egress.length]).toEqual([1, 1]);
  });
});

describe("pods of a group", () => {
  const pod = (group: number, worker: number, status: object, metadata: object = {}): KubeObject =>
    ({
      metadata: {
        name: worker === 0 ? `chat-${group}` : `chat-${group}-${worker}`,
        namespace: "ns",
        labels: {
          "llm-orchestrator.io/revision": "r1",
          "llm-orchestrator.io/group-size": "2",
          "leaderworkerset.sigs.k8s.io/group-index": String(group),
          "leaderworkerset.sigs.k8s.io/worker-index": String(worker),
        },
        ...metadata,
      },
      spec: { containers: [{ resources: { limits: { "nvidia.com/gpu": "8" } } }], nodeName: `n${worker}` },
      status,
    }) as unknown as KubeObject;
  const ready = { phase: "Running", podIP: "10.0.0.7", conditions: [{ type: "Ready", status: "True" }] };
  const pending = { phase: "Pending" };
  const phases = (pods: readonly KubeObject[]) => tracksSeen(pods)[0]?.replicas.map(({ phase }) => phase);

  test("are one replica each, which serves when all of them do", () => {
    const [replica, ...others] = tracksSeen([pod(0, 1, ready), pod(0, 0, ready)])[0]?.replicas ?? [];
    expect(others).toEqual([]);
    expect(replica).toMatchObject({ name: "chat-0", phase: "ready", gpus: 16, pods: ["chat-0", "chat-0-1"] });
    expect(phases([pod(0, 0, ready), pod(0, 1, ready), pod(1, 0, ready), pod(1, 1, pending)])).toEqual([
      "ready",
      "starting",
    ]);
    // One that is not there yet is missed.
    expect(phases([pod(0, 0, ready)])).toEqual(["starting"]);
    expect(phases([pod(0, 0, ready), pod(0, 1, { phase: "Failed" })])).toEqual(["failed"]);
    const going = pod(0, 1, ready, { deletionTimestamp: "2026-01-01T00:00:00Z" });
    expect(
      phases([pod(0, 0, ready), { ...going, metadata: { ...pod(0, 1, ready).metadata, ...going.metadata } }]),
    ).toEqual(["stopping"]);
  });
});
