/** Nodes and pods, as the reconcilers see them. Pure. */
import { urlHost } from "../../platform/url-host.ts";
import { ANNOTATION, keyOf, LABEL } from "../objects/meta.ts";
import { memoryOfProduct } from "../reconcile/gpu-memory.ts";
import type { NodeSeen, ReplicaSeen, StuckReason, TrackSeen } from "../reconcile/seen.ts";
import { groupSeen, replicasIn } from "./group.ts";
import { ownersOf, PRODUCT, VLLM_PORT } from "./owned.ts";
import type { KubeObject } from "./watch.ts";

const GPU = "nvidia.com/gpu";

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
}

interface ContainerStatus {
  readonly ready?: boolean;
  readonly started?: boolean;
  readonly restartCount?: number;
  readonly state?: { readonly waiting?: Told; readonly terminated?: Told };
  readonly lastState?: { readonly terminated?: Told };
}

interface Told {
  readonly reason?: string;
  readonly message?: string;
}

interface PodSpec {
  readonly nodeName?: string;
  readonly containers?: readonly {
    readonly resources?: { readonly limits?: Readonly<Record<string, string>> };
    readonly ports?: readonly { readonly name?: string; readonly containerPort: number }[];
  }[];
}

type Container = Readonly<Partial<Record<"image" | "env" | "ports" | "resources", unknown>>>;

interface PodStatus {
  readonly phase?: string;
  readonly podIP?: string;
  readonly conditions?: readonly Condition[];
  readonly containerStatuses?: readonly ContainerStatus[];
}

/** What is read of a pod, here and in inventory.ts: probes, mounts and volumes are as much again. */
export function podKept(pod: KubeObject): KubeObject {
  const { nodeName } = (pod.spec ?? {}) as PodSpec;
  const { containers = [] } = (pod.spec ?? {}) as { readonly containers?: readonly Container[] };
  const kept = containers.map(({ image, env, ports, resources }) => ({ image, env, ports, resources }));
  return { metadata: pod.metadata, spec: { nodeName, containers: kept }, status: pod.status ?? {} };
}

/** Without the list of images that it has, which can be most of a node. */
export function nodeKept(node: KubeObject): KubeObject {
  const { images: _, ...status } = node.status ?? {};
  return { ...node, status };
}

/** GPUs that a pod holds, or will when it starts: from the moment it is bound. */
export function gpusOf(pod: KubeObject): number {
  const { containers = [] } = (pod.spec ?? {}) as PodSpec;
  return containers.reduce((sum, { resources }) => sum + countIn(resources?.limits?.[GPU]), 0);
}

/** Of devices; a quantity or a label that says no number says nothing: it must not make nonsense of the sum over all. */
function countIn(said: string | undefined): number {
  return /^\d{1,4}$/.test(said ?? "") ? Number(said) : 0;
}

/** Where it serves, as its container says (render.ts). */
function portOf(pod: KubeObject): number {
  const { containers = [] } = (pod.spec ?? {}) as PodSpec;
  const http = containers.flatMap(({ ports = [] }) => ports).find(({ name }) => name === "http");
  return http?.containerPort ?? VLLM_PORT;
}

export function isOver(pod: KubeObject): boolean {
  const { phase } = (pod.status ?? {}) as PodStatus;
  return phase === "Succeeded" || phase === "Failed";
}

/** Not so of those that belong to the node itself, and would only come again. */
export function isEvictable(pod: KubeObject): boolean {
  const isMirror = "kubernetes.io/config.mirror" in (pod.metadata.annotations ?? {});
  return !isOver(pod) && !isMirror && !ownersOf(pod.metadata).some(({ kind }) => kind === "DaemonSet");
}

/** What makes pods of our templates: of a Deployment, and of a LeaderWorkerSet. */
const MAKERS: ReadonlySet<string> = new Set(["ReplicaSet", "StatefulSet"]);

/**
 * The key of its workload; `null`: it is of none. Labels alone make no replica: a Job that somebody gave them, or pods of the
 * first seed, which have no revision, would count, and be deleted when they have ended.
 */
export function workloadOf({ metadata }: KubeObject): string | null {
  const { namespace = "", labels } = metadata;
  const name = labels?.[LABEL.workload];
  if (name === undefined || labels?.[LABEL.revision] === undefined) return null;
  const maker = ownersOf(metadata).find(({ controller }) => controller === true);
  return maker === undefined || MAKERS.has(maker.kind) ? keyOf({ namespace, name }) : null;
}

export function nodeOf(pod: KubeObject): string | null {
  return ((pod.spec ?? {}) as PodSpec).nodeName ?? null;
}

/** Nodes with GPUs; without any at all, none is told apart, and nothing is said never to fit. */
export function nodesSeen(nodes: readonly KubeObject[], pods: readonly KubeObject[]): NodeSeen[] {
  const used = new Map<string, number>();
  const busy = new Set<string>();
  for (const pod of pods) {
    const node = nodeOf(pod);
    if (node === null || isOver(pod)) continue;
    used.set(node, (used.get(node) ?? 0) + gpusOf(pod));
    if (isEvictable(pod)) busy.add(node);
  }
  return nodes.flatMap(({ metadata, spec, status }): NodeSeen[] => {
    const { allocatable = {}, conditions = [] } = (status ?? {}) as {
      readonly allocatable?: Readonly<Record<string, string>>;
      readonly conditions?: readonly Condition[];
    };
    const gpus = countIn(allocatable[GPU]);
    if (gpus === 0) return [];
    const said = metadata.labels?.["nvidia.com/gpu.memory"] ?? "";
    const memory = /^\d{1,9}$/.test(said) ? Number(said) : 0;
    const product = metadata.labels?.[PRODUCT] ?? null;
    return [
      {
        name: metadata.name,
        product,
        gpuMemoryMib: memory > 0 ? memory : product === null ? null : memoryOfProduct(product),
        gpus,
        usedGpus: used.get(metadata.name) ?? 0,
        ready: conditions.some(({ type, status: holds }) => type === "Ready" && holds === "True"),
        schedulable: spec?.unschedulable !== true,
        isEmpty: !busy.has(metadata.name),
        draining: spec?.unschedulable === true && metadata.annotations?.[ANNOTATION.drain] !== undefined,
      },
    ];
  });
}

export function tracksSeen(pods: readonly KubeObject[]): TrackSeen[] {
  const byRevision = Map.groupBy(pods, ({ metadata }) => metadata.labels?.[LABEL.revision] ?? "");
  return [...byRevision].map(([revision, of]) => {
    const replicas = replicasIn(of).map((pods) => {
      const each = pods.map(replicaOf);
      return LABEL.groupSize in (pods[0]?.metadata.labels ?? {}) ? groupSeen(pods, each) : (each[0] as ReplicaSeen);
    });
    return { revision, wanted: replicas.length, replicas };
  });
}

export function replicaOf(pod: KubeObject): ReplicaSeen {
  const { conditions = [], containerStatuses = [], podIP } = (pod.status ?? {}) as PodStatus;
  const scheduled = conditions.find(({ type }) => type === "PodScheduled");
  const phase = phaseOf(pod);
  return {
    name: pod.metadata.name,
    phase,
    node: nodeOf(pod),
    url: podIP === undefined ? null : `http://${urlHost(podIP)}:${portOf(pod)}`,
    gpus: gpusOf(pod),
    restarts: containerStatuses.reduce((sum, { restartCount = 0 }) => sum + restartCount, 0),
    trouble: phase === "ready" || phase === "stopping" ? null : troubleOf(containerStatuses),
    waiting:
      phase === "waiting"
        ? { reason: scheduled?.message ?? scheduled?.reason ?? "not scheduled yet", position: null, eta: null }
        : null,
  };
}

function phaseOf(pod: KubeObject): ReplicaSeen["phase"] {
  const { phase, conditions = [], containerStatuses = [] } = (pod.status ?? {}) as PodStatus;
  if (pod.metadata.deletionTimestamp !== undefined) return "stopping";
  if (isOver(pod)) return "failed";
  if (nodeOf(pod) === null) return "waiting";
  if (conditions.some(({ type, status }) => type === "Ready" && status === "True")) return "ready";
  return phase === "Running" && containerStatuses.some(({ started }) => started === true) ? "unready" : "starting";
}

const REASONS: Readonly<Record<string, StuckReason>> = {
  ImagePullBackOff: "ImagePull",
  ErrImagePull: "ImagePull",
  ErrImageNeverPull: "ImagePull",
  InvalidImageName: "ImagePull",
  CrashLoopBackOff: "CrashLoop",
  CreateContainerConfigError: "NoProgress",
  CreateContainerError: "NoProgress",
};

function troubleOf(statuses: readonly ContainerStatus[]): ReplicaSeen["trouble"] {
  for (const { state, lastState } of statuses) {
    const last = lastState?.terminated ?? state?.terminated;
    if (last?.reason === "OOMKilled") return { reason: "OutOfMemory", message: last.message ?? "it was OOMKilled" };
    const { reason = "", message } = state?.waiting ?? {};
    const found = REASONS[reason];
    if (found !== undefined) return { reason: found, message: message ?? reason };
  }
  return null;
}
