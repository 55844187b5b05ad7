/** What a workload is made of in a cluster, and what is seen of it there: without a server. */
import { describe, expect, test } from "vitest";
import { deploymentView } from "../../src/controller/api/views.ts";
import { differenceIn } from "../../src/controller/kubernetes/children.ts";
import { eventOf } from "../../src/controller/kubernetes/events.ts";
import { microTime } from "../../src/controller/kubernetes/leader.ts";
import { mergePatch } from "../../src/controller/kubernetes/objects.ts";
import { nodesSeen, tracksSeen } from "../../src/controller/kubernetes/pods.ts";
import { externalUrl } from "../../src/controller/kubernetes/reach.ts";
import { childrenOf, productsIn, type RenderSettings, tokenSecret } from "../../src/controller/kubernetes/render.ts";
import type { KubeObject } from "../../src/controller/kubernetes/watch.ts";
import { ANNOTATION } from "../../src/controller/objects/meta.ts";
import type { WorkloadSpec } from "../../src/controller/objects/workload.ts";
import { startupSeconds } from "../../src/controller/reconcile/plan.ts";
import { NO_MEMORIES, reconcile } from "../../src/controller/reconcile/reconcile.ts";
import { look, NOW, PODS, SETTINGS, seen, track, workload } from "./objects.ts";

const render: RenderSettings = {
  reconcile: SETTINGS,
  priorityClasses: new Set(["llm-basic"]),
  products: [],
  liveProducts: [],
  template: null,
  optional: new Set(),
  namespace: "llm-orchestrator",
  gateway: null,
  pods: PODS,
  hasRuntimeClass: false,
};
// biome-ignore lint/suspicious/noExplicitAny: manifests are looked into freely.
type Any = any;

function made(change: Partial<WorkloadSpec> = {}, settings: Partial<RenderSettings> = {}): Record<string, Any> {
  const of = workload({ replicas: 2, ...change });
  const { wanted } = reconcile(of, seen(), NO_MEMORIES, settings.reconcile ?? SETTINGS);
  if (wanted === null) throw new Error("not accepted");
  const { made: children } = childrenOf(of, wanted, { ...render, ...settings });
  return Object.fromEntries(children.map(({ object }) => [object.kind, object]));
}

describe("a workload in a cluster", () => {
  test("is a Deployment whose selector holds no version, a Service, a ConfigMap and a budget", () => {
    const { Deployment, Service, ConfigMap, PodDisruptionBudget } = made();
    expect(Deployment.spec.selector.matchLabels).toEqual({
      "llm-orchestrator.io/workload": "chat",
      "llm-orchestrator.io/track": "stable",
    });
    expect(made({ modelVersion: "13b" }).Deployment.spec.selector).toEqual(Deployment.spec.selector);
    expect(Service.spec.ports.map(({ port }: Any) => port)).toEqual([80, 8_000]);
    expect(ConfigMap.data).toEqual({ model_name: "llama2", model_version: "7b", model_type: "text-generation" });
    expect(PodDisruptionBudget.spec.maxUnavailable).toBe(1);
    expect(made({ replicas: 1 }).PodDisruptionBudget).toBeUndefined();
  });

  test("has pods that run as nobody in particular, on a root that cannot be written, with whole GPUs", () => {
    const { spec } = made().Deployment.spec.template;
    expect(spec.securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 1_000, fsGroup: 2_000 });
    const [container] = spec.containers;
    expect(container.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
    expect(container.resources).toEqual({
      requests: { cpu: "1", memory: "8Gi", "nvidia.com/gpu": "1" },
      limits: { cpu: "2", memory: "8Gi", "nvidia.com/gpu": "1" },
    });
    expect(spec.priorityClassName).toBe("llm-basic");
    expect(spec.automountServiceAccountToken).toBe(false);
  });

  test("has an engine whose caches can be written by the user that it runs as", () => {
    const [container] = made().Deployment.spec.template.spec.containers;
    const { value: home } = container.env.find(({ name }: Any) => name === "HOME");
    expect(container.volumeMounts).toContainEqual({ name: "cache", mountPath: home });
    expect(container.env.find(({ name }: Any) => name === "HF_HOME").value.startsWith(`${home}/`)).toBe(true);
  });

  test("is the first seed's own server where the settings name an image that is not vLLM's", () => {
    const own = { ...SETTINGS, image: "llm-server:latest" };
    const { wanted } = reconcile(workload(), seen(), NO_MEMORIES, own);
    if (wanted === null) throw new Error("not accepted");
    const { made: children } = childrenOf(workload(), wanted, { ...render, reconcile: own });
    const deployment: Any = children.find(({ object }) => object.kind === "Deployment")?.object;
    const [container] = deployment.spec.template.spec.containers;
    expect(container).toMatchObject({
      image: "llm-server:latest",
      ports: [{ containerPort: 8_080 }, { containerPort: 9_090 }],
    });
    expect(container.args).toBeUndefined();
    expect(container.readinessProbe.httpGet.path).toBe("/ready");
  });

  test("is reached by the name of its Service, which leads to all of its replicas", () => {
    const service = "http://chat.default.svc";
    const endpoints = (phases: readonly ("ready" | "starting")[]) =>
      look(workload(), seen([track("r", phases)], { service })).status.endpoints;
    expect(endpoints(["ready", "ready"])).toEqual([service]);
    expect(endpoints(["starting"])).toEqual([]);
  });

  test("is given the Secret with its hub token where it has one, and never another's", () => {
    const of = workload({}, { metadata: { ...workload().metadata, annotations: { [ANNOTATION.hubToken]: "other" } } });
    const { wanted } = look(of, seen());
    if (wanted === null) throw new Error("not accepted");
    const children = childrenOf(of, wanted, render).made;
    const deployment: Any = children.find(({ object }) => object.kind === "Deployment")?.object;
    const [container] = deployment.spec.template.spec.containers;
    expect(container.envFrom).toEqual([{ secretRef: { name: "hf-token-chat" } }]);
    const secret: Any = tokenSecret(of, "hf_x").object;
    expect(secret.metadata).toMatchObject({ name: "hf-token-chat", ownerReferences: [{ uid: "uid-1" }] });
    expect(JSON.stringify(children)).not.toContain("hf_x");
  });

  test("has the RuntimeClass of GPUs where the cluster has it, and only for GPUs", () => {
    const of = (has: boolean, gpu = "1") => {
      const resources = { cpu: "2", memory: "8Gi", gpu };
      return made({ resources }, { hasRuntimeClass: has }).Deployment.spec.template.spec.runtimeClassName;
    };
    expect([of(true), of(false), of(true, "0")]).toEqual(["nvidia", undefined, undefined]);
  });

  test("finds its models in the storage that the settings name, and keeps there what it fetches", () => {
    const stored = (storage: object) => {
      const pods = { ...PODS, storage: { mountPath: "/models", ...storage } } as typeof PODS;
      const objects = made({}, { pods });
      const { volumes, containers } = objects.Deployment.spec.template.spec;
      expect(containers[0].volumeMounts).toContainEqual({ name: "models", mountPath: "/models" });
      expect(containers[0].env).toContainEqual({ name: "HF_HOME", value: "/models/huggingface" });
      return { volume: volumes.find(({ name }: Any) => name === "models"), claim: objects.PersistentVolumeClaim };
    };
    const nfs = { server: "10.0.0.9", path: "/export" };
    expect(stored({ kind: "nfs", ...nfs })).toEqual({ volume: { name: "models", nfs }, claim: undefined });
    const { volume } = stored({ kind: "pvc", claim: "shared" });
    expect(volume).toEqual({ name: "models", persistentVolumeClaim: { claimName: "shared" } });
    const csi = stored({ kind: "csi", storageClass: "fast", size: "1Ti" });
    expect(csi.volume.persistentVolumeClaim.claimName).toBe(csi.claim.metadata.name);
    expect(csi.claim.spec).toMatchObject({ storageClassName: "fast", resources: { requests: { storage: "1Ti" } } });
    expect(csi.claim.metadata.ownerReferences).toHaveLength(1);
  });

  test("serves where the settings say, behind a Service of their type", () => {
    const settings = {
      reconcile: { ...SETTINGS, vllmPort: 9_000 },
      pods: { ...PODS, serviceType: "NodePort" as const },
    };
    const { Deployment, Service } = made({}, settings);
    const [container] = Deployment.spec.template.spec.containers;
    expect(container.ports).toEqual([{ name: "http", containerPort: 9_000, protocol: "TCP" }]);
    expect(container.args).toContain("--port=9000");
    expect(Service.spec).toMatchObject({ type: "NodePort", ports: [{ port: 80 }, { port: 8_000 }] });
  });

  test("is reached from outside by a NodePort or a load balancer, as far as that is known", () => {
    const service = (spec: object, status: object = {}) => ({ metadata: {}, spec, status }) as unknown as KubeObject;
    const node = service({ type: "NodePort", ports: [{ port: 80, nodePort: 30_123 }] });
    expect(externalUrl(node, "gpu.example")).toBe("http://gpu.example:30123");
    expect(externalUrl(node, null)).toBeNull();
    const balanced = (ingress: object[]) =>
      externalUrl(service({ type: "LoadBalancer", ports: [{ port: 80 }] }, { loadBalancer: { ingress } }), null);
    expect([balanced([]), balanced([{ ip: "203.0.113.7" }])]).toEqual([null, "http://203.0.113.7:80"]);
    const known = { service: "http://chat.default.svc", external: "http://gpu.example:30123" };
    const of = workload({ replicas: 1 });
    const { status } = look(of, seen([track("r", ["ready"])], known));
    expect(deploymentView({ ...of, status })).toMatchObject({
      internal_endpoint: "http://chat.default.svc",
      external_endpoint: "http://gpu.example:30123",
    });
  });

  test("is given as long to start as its weights take to load, and at least ten minutes", () => {
    expect(startupSeconds(1_024, 600)).toBe(600);
    const gigabytes = (140 * 1_024 * 2 ** 20) / 1_000 ** 3;
    expect(startupSeconds(140 * 1_024, 600)).toBe(Math.ceil((gigabytes * 15 + 105) * 1.3));
  });

  test("surges only where a node has a GPU for it", () => {
    expect(made().Deployment.spec.strategy.rollingUpdate).toEqual({ maxSurge: 1, maxUnavailable: 0 });
    const full = workload({ replicas: 2 });
    const { wanted } = look(full, seen([], { nodes: [{ ...seen().nodes[0], usedGpus: 8 } as Any] }));
    const { made: children } = childrenOf(full, wanted as Any, render);
    const deployment = children.find(({ object }) => object.kind === "Deployment")?.object as Any;
    expect(deployment.spec.strategy.rollingUpdate).toEqual({ maxSurge: 0, maxUnavailable: 1 });
  });
});

describe("a gpuType in a cluster", () => {
  const H100 = ["NVIDIA-H100-PCIe", "NVIDIA-A100-SXM4-40GB", "NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe"];
  const H100S = ["NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe"];

  function deployment(products: readonly string[], liveProducts: readonly string[] = []): Any {
    const of = workload({ resources: { cpu: "2", memory: "8Gi", gpu: "1", gpuType: "H100" } });
    const { wanted } = look(of, seen());
    if (wanted === null) throw new Error("not accepted");
    const { made: children } = childrenOf(of, wanted, { ...render, products, liveProducts });
    return children.find(({ object }) => object.kind === "Deployment")?.object;
  }

  const valuesIn = (object: Any): readonly string[] => {
    const { requiredDuringSchedulingIgnoredDuringExecution: required } =
      object.spec.template.spec.affinity.nodeAffinity;
    return required.nodeSelectorTerms[0].matchExpressions[0].values;
  };

  test("allows each product of the nodes that it is part of, and stands as it is where none is known", () => {
    expect(valuesIn(deployment(H100))).toEqual(H100S);
    expect(valuesIn(deployment(["NVIDIA-A100-SXM4-40GB"]))).toEqual(["H100"]);
  });

  test("rolls no pods when nodes come or go", () => {
    const live = deployment(["NVIDIA-H100-PCIe"]);
    const revision = live.spec.template.metadata.labels["llm-orchestrator.io/revision"];
    expect(productsIn(live, revision)).toEqual(["NVIDIA-H100-PCIe"]);
    expect(valuesIn(deployment(H100, productsIn(live, revision)))).toEqual(["NVIDIA-H100-PCIe"]);
    expect(valuesIn(deployment([], productsIn(live, revision)))).toEqual(["NVIDIA-H100-PCIe"]);
    expect(valuesIn(deployment(H100, productsIn(live, "another")))).toEqual(H100S);
  });

  test("that no node had is held against the first that come", () => {
    expect(valuesIn(deployment(H100, ["H100"]))).toEqual(H100S);
  });
});

describe("a condition that changes", () => {
  const told = (type: string, status: "True" | "False", message = "") =>
    eventOf(
      { kind: "LLMWorkload", metadata: workload().metadata },
      { type, status, reason: "Why", message, lastTransitionTime: new Date(NOW).toISOString() },
      NOW,
    );

  test("is an Event about the workload, a warning where something stands in its way", () => {
    expect(told("Ready", "False", "0 of 2")).toMatchObject({
      metadata: { namespace: "default" },
      regarding: { kind: "LLMWorkload", name: "chat", uid: "uid-1" },
      eventTime: microTime(NOW),
      type: "Normal",
      reason: "Why",
      note: "Ready is False: 0 of 2",
    });
    expect(told("Stuck", "True").type).toBe("Warning");
    expect(told("Stuck", "False").type).toBe("Normal");
    expect(told("Accepted", "False").type).toBe("Warning");
  });

  test("has words as long as an Event may have, in bytes", () => {
    expect(Buffer.byteLength(told("Ready", "False", "é".repeat(2_000)).note)).toBeLessThanOrEqual(1_024);
  });
});

const pod = (name: string, status: object, more: { spec?: object; metadata?: object } = {}): KubeObject =>
  ({
    metadata: { name, namespace: "ns", labels: { "llm-orchestrator.io/revision": "r1" }, ...more.metadata },
    spec: { containers: [{ resources: { limits: { "nvidia.com/gpu": "2" } } }], nodeName: "n1", ...more.spec },
    status,
  }) as unknown as KubeObject;

describe("pods", () => {
  const phase = (one: KubeObject) => tracksSeen([one])[0]?.replicas[0];

  test("are reached where their container serves, which is another port for an engine of one's own", () => {
    const engine = { type: "custom", image: "registry.example/llm-server:1" } as const;
    for (const [change, port] of [
      [{}, 8_000],
      [{ engine }, 8_080],
    ] as const) {
      const { spec } = made(change).Deployment.spec.template;
      expect(phase(pod("a", { podIP: "10.0.0.7" }, { spec }))?.url).toBe(`http://10.0.0.7:${port}`);
    }
  });

  test("wait until they are bound, start, serve, stop or fail, each as one phase of a replica", () => {
    const unschedulable = [{ type: "PodScheduled", status: "False", message: "0/3 nodes are available" }];
    expect(
      phase(pod("a", { phase: "Pending", conditions: unschedulable }, { spec: { nodeName: undefined } })),
    ).toMatchObject({
      phase: "waiting",
      waiting: { reason: "0/3 nodes are available" },
    });
    expect(phase(pod("a", { phase: "Pending" }))?.phase).toBe("starting");
    expect(phase(pod("a", { phase: "Running", conditions: [{ type: "Ready", status: "True" }] }))?.phase).toBe("ready");
    expect(phase(pod("a", { phase: "Running", containerStatuses: [{ started: true }] }))?.phase).toBe("unready");
    expect(phase(pod("a", { phase: "Failed" }))?.phase).toBe("failed");
    expect(
      phase(pod("a", { phase: "Running" }, { metadata: { deletionTimestamp: "2026-01-01T00:00:00Z" } }))?.phase,
    ).toBe("stopping");
  });

  test("say what keeps them from starting", () => {
    const waiting = (reason: string) =>
      pod("a", { phase: "Pending", containerStatuses: [{ state: { waiting: { reason } } }] });
    expect(phase(waiting("ImagePullBackOff"))?.trouble?.reason).toBe("ImagePull");
    expect(phase(waiting("CrashLoopBackOff"))?.trouble?.reason).toBe("CrashLoop");
    const killed = {
      state: { waiting: { reason: "CrashLoopBackOff" } },
      lastState: { terminated: { reason: "OOMKilled" } },
    };
    expect(phase(pod("a", { phase: "Running", containerStatuses: [killed] }))?.trouble?.reason).toBe("OutOfMemory");
  });

  test("count on their node from binding on, until they are over", () => {
    const node = {
      metadata: {
        name: "n1",
        labels: { "nvidia.com/gpu.product": "A100-SXM4-40GB", "nvidia.com/gpu.memory": "40960" },
      },
      status: { allocatable: { "nvidia.com/gpu": "8" }, conditions: [{ type: "Ready", status: "True" }] },
    } as unknown as KubeObject;
    const pods = [pod("bound", { phase: "Pending" }), pod("over", { phase: "Succeeded" })];
    expect(nodesSeen([node], pods)).toEqual([
      {
        name: "n1",
        product: "A100-SXM4-40GB",
        gpuMemoryMib: 40_960,
        gpus: 8,
        usedGpus: 2,
        ready: true,
        schedulable: true,
        draining: false,
        isEmpty: false,
      },
    ]);
  });
});

test("what is there already is told from what is not, and what others set is passed over", () => {
  const live = { metadata: { labels: { a: "1", theirs: "2" } }, spec: { replicas: 2, list: [{ name: "x", more: 1 }] } };
  expect(differenceIn({ metadata: { labels: { a: "1" } }, spec: { list: [{ name: "x" }] } }, live)).toBeNull();
  expect(differenceIn({ spec: { replicas: 3 } }, live)).toBe("spec.replicas was 2");
  expect(differenceIn({ spec: { list: [{ name: "x" }, { name: "y" }] } }, live)).toBe("spec.list is another list");
  expect(differenceIn({ metadata: { labels: { b: "1" } } }, live)).toBe("metadata.labels.b was taken away");
  expect(differenceIn({ spec: { strategy: {} } }, live)).toBeNull();
});

test("a change goes as what is different, and takes away what is gone", () => {
  const before = { replicas: 2, engine: { env: { A: "1" }, args: ["a"] }, paused: true, same: { x: 1 } };
  const after = { engine: { env: {}, args: ["a", "b"] }, paused: true, same: { x: 1 }, tenant: "t", left: undefined };
  expect(mergePatch(before, after)).toEqual({
    engine: { env: { A: null }, args: ["a", "b"] },
    tenant: "t",
    replicas: null,
  });
  expect(mergePatch(before, before)).toEqual({});
});
