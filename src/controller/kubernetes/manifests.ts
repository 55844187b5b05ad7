/**
 * What the controller needs in a cluster, as objects to be applied. Pure.
 *
 *  1. It reads everywhere, and writes only what it must: nodes (cordon), evictions, Events, its own objects, its Lease.
 *  2. What a workload is made of it may write in the namespaces of workloads only, by a RoleBinding in each. In another
 *     namespace the apiserver refuses, and the workload's `Progressing` says which right is missing.
 *  3. It makes Secrets, of tokens that callers bring for their models, and can neither read nor change any.
 */
import { GROUP } from "../objects/meta.ts";
import { QOS_CLASSES, type QosClass } from "../reconcile/settings.ts";
import { crds } from "./crds.ts";

type Json = Readonly<Record<string, unknown>>;

export interface ManifestSettings {
  readonly image: string;
  readonly namespace: string;
  /** Where workloads may be made. */
  readonly workloadNamespaces: readonly string[];
  readonly replicas: number;
}

const NAME = "llm-orchestrator";
const WORKLOADS = "llm-orchestrator-workloads";
const LABELS = { "app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "orchestrator" };
const METRICS_PORT = 8_080;
const HEALTH_PORT = 8_081;
/** The user of the image. */
const USER = 10_001;
const LOOK = ["get", "list", "watch"];
const PRIORITIES: Readonly<Record<QosClass, number>> = { premium: 100_000, standard: 50_000, basic: 10_000 };

/** In the order in which they are to be applied. */
export function manifests(settings: ManifestSettings): readonly Json[] {
  const { namespace, workloadNamespaces } = settings;
  const namespaces = [...new Set([namespace, ...workloadNamespaces])];
  return [
    ...namespaces.map((name) => object("v1", "Namespace", name, null, {})),
    ...crds(true),
    ...QOS_CLASSES.map(priorityClass),
    object("v1", "ServiceAccount", NAME, namespace, {}),
    object("rbac.authorization.k8s.io/v1", "ClusterRole", NAME, null, { rules: CLUSTER_RULES }),
    object("rbac.authorization.k8s.io/v1", "ClusterRole", WORKLOADS, null, { rules: WORKLOAD_RULES }),
    object("rbac.authorization.k8s.io/v1", "Role", NAME, namespace, {
      rules: [rule("coordination.k8s.io", ["leases"], ["get", "create", "update"])],
    }),
    binding("ClusterRoleBinding", NAME, null, "ClusterRole", settings),
    binding("RoleBinding", NAME, namespace, "Role", settings),
    ...workloadNamespaces.map((where) => binding("RoleBinding", WORKLOADS, where, "ClusterRole", settings)),
    service(namespace),
    networkPolicy(namespace),
    ...(settings.replicas > 1 ? [disruptionBudget(namespace)] : []),
    deployment(settings),
  ];
}

function rule(apiGroup: string, resources: readonly string[], verbs: readonly string[]) {
  return { apiGroups: [apiGroup], resources, verbs };
}

const CLUSTER_RULES = [
  rule("", ["nodes"], [...LOOK, "patch"]),
  // A pod that does not come up, or that a dead node cannot tell of, is deleted; which of two goes first is marked.
  rule("", ["pods"], [...LOOK, "patch", "delete"]),
  rule("", ["services", "configmaps"], LOOK),
  rule("", ["pods/eviction"], ["create"]),
  rule("events.k8s.io", ["events"], ["create"]),
  rule("apps", ["deployments", "controllerrevisions"], LOOK),
  rule("networking.k8s.io", ["networkpolicies"], LOOK),
  rule("monitoring.coreos.com", ["servicemonitors"], LOOK),
  rule("gateway.networking.k8s.io", ["httproutes"], LOOK),
  rule("policy", ["poddisruptionbudgets"], LOOK),
  rule("scheduling.k8s.io", ["priorityclasses"], LOOK),
  rule(GROUP, ["llmworkloads", "llmmodels"], [...LOOK, "create", "patch", "delete"]),
  rule(GROUP, ["llmworkloads/status"], ["patch"]),
  // An owner that its dependents hold up (blockOwnerDeletion) is one whose finalizers one may set.
  rule(GROUP, ["llmworkloads/finalizers"], ["update"]),
];

const MAKE = ["create", "patch", "delete"];
const WORKLOAD_RULES = [
  rule("", ["secrets"], ["create"]),
  rule("", ["services", "configmaps"], MAKE),
  rule("apps", ["deployments", "controllerrevisions"], MAKE),
  rule("networking.k8s.io", ["networkpolicies"], MAKE),
  rule("monitoring.coreos.com", ["servicemonitors"], MAKE),
  rule("gateway.networking.k8s.io", ["httproutes"], MAKE),
  rule("policy", ["poddisruptionbudgets"], MAKE),
];

function object(apiVersion: string, kind: string, name: string, namespace: string | null, more: Json): Json {
  const metadata = { name, ...(namespace === null ? {} : { namespace }), labels: LABELS };
  return { apiVersion, kind, metadata, ...more };
}

function binding(
  kind: string,
  name: string,
  where: string | null,
  roleKind: string,
  { namespace }: ManifestSettings,
): Json {
  return object("rbac.authorization.k8s.io/v1", kind, name, where, {
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: roleKind, name },
    subjects: [{ kind: "ServiceAccount", name: NAME, namespace }],
  });
}

/** Pods of `basic` wait for room, and take nobody's. */
function priorityClass(name: QosClass): Json {
  return object("scheduling.k8s.io/v1", "PriorityClass", `llm-${name}`, null, {
    value: PRIORITIES[name],
    preemptionPolicy: name === "basic" ? "Never" : "PreemptLowerPriority",
  });
}

function service(namespace: string): Json {
  const port = (name: string, number: number) => ({ name, port: number, targetPort: name, protocol: "TCP" });
  return object("v1", "Service", NAME, namespace, {
    spec: { selector: LABELS, ports: [port("metrics", METRICS_PORT), port("health", HEALTH_PORT)] },
  });
}

function networkPolicy(namespace: string): Json {
  const ports = [METRICS_PORT, HEALTH_PORT].map((port) => ({ port, protocol: "TCP" }));
  return object("networking.k8s.io/v1", "NetworkPolicy", NAME, namespace, {
    spec: { podSelector: { matchLabels: LABELS }, policyTypes: ["Ingress"], ingress: [{ ports }] },
  });
}

function disruptionBudget(namespace: string): Json {
  return object("policy/v1", "PodDisruptionBudget", NAME, namespace, {
    spec: { maxUnavailable: 1, selector: { matchLabels: LABELS } },
  });
}

function deployment({ image, namespace, workloadNamespaces, replicas }: ManifestSettings): Json {
  const probe = (path: string) => ({ httpGet: { path, port: "health", scheme: "HTTP" }, periodSeconds: 10 });
  return object("apps/v1", "Deployment", NAME, namespace, {
    spec: {
      replicas,
      selector: { matchLabels: LABELS },
      template: {
        metadata: { labels: LABELS },
        spec: {
          serviceAccountName: NAME,
          securityContext: {
            runAsNonRoot: true,
            runAsUser: USER,
            fsGroup: USER,
            seccompProfile: { type: "RuntimeDefault" },
          },
          containers: [
            {
              name: "orchestrator",
              image,
              args: [
                "controller",
                `--metrics-bind-address=:${METRICS_PORT}`,
                `--health-probe-bind-address=:${HEALTH_PORT}`,
                "--leader-elect",
              ],
              // The API is on loopback, and reached by `kubectl port-forward`, until a configuration brings keys.
              ports: [
                { name: "metrics", containerPort: METRICS_PORT, protocol: "TCP" },
                { name: "health", containerPort: HEALTH_PORT, protocol: "TCP" },
              ],
              env: [
                { name: "POD_NAMESPACE", valueFrom: { fieldRef: { fieldPath: "metadata.namespace" } } },
                // What names no namespace goes where the controller may make what it is made of.
                ...workloadNamespaces.slice(0, 1).map((value) => ({ name: "K8S_NAMESPACE", value })),
              ],
              resources: { requests: { cpu: "100m", memory: "256Mi" }, limits: { memory: "512Mi" } },
              livenessProbe: { ...probe("/healthz"), failureThreshold: 6 },
              readinessProbe: probe("/readyz"),
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ["ALL"] },
              },
              volumeMounts: [{ name: "data", mountPath: "/var/lib/gpu-orchestrator/data" }],
            },
          ],
          volumes: [{ name: "data", emptyDir: {} }],
        },
      },
    },
  });
}
