/** Nodes with GPUs and pods of workloads, with all that a database is told of them. Pure. */
import { parseCpuMillis, parseMemoryBytes } from "../../work/quantities.ts";
import type { Inventory, NodeFacts, PodFacts } from "../reconcile/inventory.ts";
import type { NodeSeen } from "../reconcile/seen.ts";
import { gpusOf, isOver, nodeOf, nodesSeen, replicaOf, workloadOf } from "./pods.ts";
import type { KubeObject } from "./watch.ts";

type Amounts = Readonly<Record<string, string>>;

interface Container {
  readonly image?: string;
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
  readonly ports?: readonly { readonly name?: string; readonly containerPort: number }[];
  readonly resources?: { readonly requests?: Amounts; readonly limits?: Amounts };
}

export function inventoryIn(nodes: readonly KubeObject[], pods: readonly KubeObject[]): Inventory {
  const seen = new Map(nodesSeen(nodes, pods).map((node) => [node.name, node]));
  const bound = Map.groupBy(
    pods.filter((pod) => !isOver(pod)),
    (pod) => nodeOf(pod) ?? "",
  );
  const ids = new Map(nodes.map(({ metadata }) => [metadata.name, metadata.uid]));
  return {
    nodes: nodes.flatMap((node) => {
      const known = seen.get(node.metadata.name);
      return known === undefined ? [] : [nodeFacts(node, known, bound.get(node.metadata.name) ?? [])];
    }),
    pods: pods.flatMap((pod) => {
      const workload = workloadOf(pod);
      if (workload === null) return [];
      const name = workload.slice(workload.indexOf("/") + 1);
      const node = ids.get(nodeOf(pod) ?? "");
      return [podFacts(pod, workload, name, node !== undefined && seen.has(nodeOf(pod) ?? "") ? node : null)];
    }),
  };
}

function nodeFacts(
  { metadata, status }: KubeObject,
  { name, product, gpus, gpuMemoryMib, usedGpus, ready, schedulable }: NodeSeen,
  pods: readonly KubeObject[],
): NodeFacts {
  const {
    addresses = [],
    capacity = {},
    conditions = [],
  } = (status ?? {}) as {
    readonly conditions?: readonly { readonly type: string; readonly lastHeartbeatTime?: string }[];
    readonly addresses?: readonly { readonly type: string; readonly address: string }[];
    readonly capacity?: Amounts;
  };
  const cores = parseCpuMillis(capacity.cpu);
  const { labels = {}, annotations = {} } = metadata;
  return {
    ...{ id: metadata.uid, name, product, gpus, gpuMemoryMib, usedGpus, ready, schedulable, labels, annotations },
    createdAt: metadata.creationTimestamp,
    heartbeatAt: conditions.find(({ type }) => type === "Ready")?.lastHeartbeatTime ?? null,
    ip: addresses.find(({ type }) => type === "InternalIP")?.address ?? null,
    cpuCores: cores === null ? null : Math.floor(cores / 1_000),
    memoryBytes: parseMemoryBytes(capacity.memory),
    storageBytes: parseMemoryBytes(capacity["ephemeral-storage"]),
    usedCpuCores: (sumOf(pods, "requests", "cpu", parseCpuMillis) ?? 0) / 1_000,
    usedMemoryBytes: sumOf(pods, "requests", "memory", parseMemoryBytes) ?? 0,
  };
}

function podFacts(pod: KubeObject, workload: string, service: string, node: string | null): PodFacts {
  const { name, namespace = "", uid, creationTimestamp } = pod.metadata;
  const { podIP = null, startTime = null } = (pod.status ?? {}) as {
    readonly podIP?: string;
    readonly startTime?: string;
  };
  const containers = containersOf(pod);
  const [first] = containers;
  const { phase, restarts } = replicaOf(pod);
  const cores = (which: "requests" | "limits") => {
    const millis = sumOf([pod], which, "cpu", parseCpuMillis);
    return millis === null ? null : millis / 1_000;
  };
  const env = containers.flatMap((container) => container.env ?? []);
  return {
    ...{ uid, name, namespace, workload, service, node, phase, restarts, ip: podIP, gpus: gpusOf(pod) },
    cpuRequestCores: cores("requests"),
    cpuLimitCores: cores("limits"),
    memoryRequestBytes: sumOf([pod], "requests", "memory", parseMemoryBytes),
    memoryLimitBytes: sumOf([pod], "limits", "memory", parseMemoryBytes),
    port: containers.flatMap(({ ports = [] }) => ports).find((one) => one.name === "http")?.containerPort ?? null,
    image: first?.image ?? null,
    // What comes from a Secret has no value here.
    env: Object.fromEntries(env.flatMap((one) => (one.value === undefined ? [] : [[one.name, one.value]]))),
    createdAt: creationTimestamp,
    startedAt: startTime,
  };
}

/** What all containers of a pod are guaranteed; `null`: none says. */
export function requestsOf(pod: KubeObject) {
  return {
    cpuMillis: sumOf([pod], "requests", "cpu", parseCpuMillis),
    memoryBytes: sumOf([pod], "requests", "memory", parseMemoryBytes),
  };
}

function containersOf({ spec }: KubeObject): readonly Container[] {
  return ((spec ?? {}) as { readonly containers?: readonly Container[] }).containers ?? [];
}

/** `null`: none of them says anything. */
function sumOf(
  pods: readonly KubeObject[],
  which: "requests" | "limits",
  what: string,
  parse: (given: unknown) => number | null,
): number | null {
  const said = pods.flatMap(containersOf).flatMap(({ resources }) => parse(resources?.[which]?.[what]) ?? []);
  return said.length === 0 ? null : said.reduce((sum, one) => sum + one, 0);
}
