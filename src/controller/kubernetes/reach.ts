/** Who reaches a workload's pods: NetworkPolicies, routes of a gateway, and what scrapes them. Pure. */
import { urlHost } from "../../platform/url-host.ts";
import { isolationOf, type Peer } from "../objects/isolation.ts";
import type { Workload } from "../objects/workload.ts";
import type { Plan } from "../reconcile/plan.ts";
import { type Child, GRPC_PORT, metaOf, selectorOf } from "./owned.ts";
import type { KubeObject } from "./watch.ts";

/** Whose routes lead to workloads. */
export interface Gateway {
  readonly namespace: string;
  readonly name: string;
}

export interface ReachSettings {
  /** Of the controller itself, which reads the pods' metrics. */
  readonly namespace: string;
  /** `null`: none is told of workloads. */
  readonly gateway: Gateway | null;
}

const NAMESPACE_NAME = "kubernetes.io/metadata.name";

type Rule = Readonly<Record<string, unknown>>;

/** @returns `null` where nobody is to be kept out. The node's own probes are always let in. */
export function networkPolicy(
  workload: Workload,
  { engine, port: http, nodes }: Plan,
  { namespace }: Pick<ReachSettings, "namespace">,
): Child["object"] | null {
  const { accessControl = [], networkPolicies = [] } = workload.spec.security ?? {};
  if (accessControl.length + networkPolicies.length === 0) return null;
  const { callers, rules } = isolationOf({ accessControl, networkPolicies });
  const open = engine === "vllm" ? [http] : [http, GRPC_PORT];
  const ports = open.map((port) => ({ protocol: "TCP", port }));
  const from: Rule[] = [
    // Its load is read by us.
    {
      namespaceSelector: { matchLabels: { [NAMESPACE_NAME]: namespace } },
      podSelector: { matchLabels: { "app.kubernetes.io/name": "llm-orchestrator" } },
    },
    ...callers.map(peerOf),
    ...(rules.has("same-namespace") ? [{ podSelector: {} }] : []),
  ];
  const dns = ["UDP", "TCP"].map((protocol) => ({ protocol, port: 53 }));
  // Pods of a group are one engine.
  const own = { podSelector: { matchLabels: selectorOf(workload) } };
  const within = nodes > 1 ? [own] : [];
  const egress = {
    egress: [{ to: [{ namespaceSelector: {} }], ports: dns }, ...within.map((one) => ({ to: [one] }))],
  };
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: metaOf(workload),
    spec: {
      podSelector: { matchLabels: selectorOf(workload) },
      policyTypes: ["Ingress", ...(rules.has("deny-egress") ? ["Egress"] : [])],
      ingress: [{ from, ports }, ...within.map((one) => ({ from: [one] }))],
      ...(rules.has("deny-egress") ? egress : {}),
    },
  };
}

function peerOf(peer: Peer): Rule {
  if ("cidr" in peer) return { ipBlock: { cidr: peer.cidr } };
  const { namespace, label } = peer;
  return {
    ...(namespace === null ? {} : { namespaceSelector: { matchLabels: { [NAMESPACE_NAME]: namespace } } }),
    ...(label === null ? {} : { podSelector: { matchLabels: { [label[0]]: label[1] } } }),
  };
}

/** For a Prometheus operator: each pod's metrics, by the Service's port. */
export function serviceMonitor(workload: Workload): Child["object"] {
  return {
    apiVersion: "monitoring.coreos.com/v1",
    kind: "ServiceMonitor",
    metadata: metaOf(workload),
    spec: {
      selector: { matchLabels: selectorOf(workload) },
      endpoints: [{ port: "http", path: "/metrics", interval: "15s" }],
    },
  };
}

/** Below a path of its own, since all workloads share the gateway. */
export function httpRoute(workload: Workload, { gateway }: Pick<ReachSettings, "gateway">): Child["object"] | null {
  if (gateway === null) return null;
  const { namespace, name } = workload.metadata;
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "HTTPRoute",
    metadata: metaOf(workload),
    spec: {
      parentRefs: [{ name: gateway.name, namespace: gateway.namespace }],
      rules: [
        {
          matches: [{ path: { type: "PathPrefix", value: `/${namespace}/${name}` } }],
          filters: [
            { type: "URLRewrite", urlRewrite: { path: { type: "ReplacePrefixMatch", replacePrefixMatch: "/" } } },
          ],
          backendRefs: [{ name, port: 80, weight: 1 }],
        },
      ],
    },
  };
}

interface LiveService {
  readonly type?: string;
  readonly ports?: readonly { readonly port: number; readonly nodePort?: number }[];
}

/** From outside the cluster: a NodePort under the name that the settings give, or what a load balancer was given. */
export function externalUrl({ spec, status }: KubeObject, externalHost: string | null): string | null {
  const { type, ports: [first] = [] } = (spec ?? {}) as LiveService;
  if (type === "NodePort" && first?.nodePort !== undefined && externalHost !== null) {
    return `http://${urlHost(externalHost)}:${first.nodePort}`;
  }
  if (type !== "LoadBalancer" || first === undefined) return null;
  const { loadBalancer } = (status ?? {}) as {
    readonly loadBalancer?: { readonly ingress?: readonly { readonly ip?: string; readonly hostname?: string }[] };
  };
  const { ip, hostname } = loadBalancer?.ingress?.[0] ?? {};
  const host = hostname ?? ip;
  return host === undefined ? null : `http://${urlHost(host)}:${first.port}`;
}
