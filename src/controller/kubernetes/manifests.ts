/**
 * What the controller needs in a cluster, as objects to be applied. Pure.
 *
 *  1. It reads everywhere, and writes only what it must: nodes (cordon), evictions, Events, its own objects, its Lease.
 *  2. What a workload is made of it may write in the namespaces of workloads only, by a RoleBinding in each. In another
 *     namespace the apiserver refuses, and the workload's `Progressing` says which right is missing.
 *  3. It makes Secrets, of tokens that callers bring for their models, and can neither read nor change any.
 */
import { ConfigError, type Problem } from "../../config/problems.ts";
import { GROUP } from "../objects/meta.ts";
import { QOS_CLASSES, type QosClass, type QosSettings } from "../reconcile/settings.ts";
import { postgresOf } from "../settings/database.ts";
import { crds } from "./crds.ts";

type Json = Readonly<Record<string, unknown>>;

type Database = Exclude<ManifestSettings["database"], undefined | null>;

type PriorityRules = Readonly<Record<QosClass, Pick<QosSettings, "priority" | "isPreemptible">>>;

const DEFAULT_QOS: PriorityRules = {
  premium: { priority: 100, isPreemptible: false },
  standard: { priority: 50, isPreemptible: true },
  basic: { priority: 10, isPreemptible: true },
};

export interface ManifestSettings {
  readonly image: string;
  readonly namespace: string;
  /** Where workloads may be made. */
  readonly workloadNamespaces: readonly string[];
  /** Absent: the first seed's. */
  readonly qos?: PriorityRules;
  /** Absent: as many as have one history, which is two with a database and one without. */
  readonly replicas?: number;
  /** The PostgreSQL of all replicas; absent: each keeps history for itself. */
  readonly database?: {
    readonly host: string;
    readonly port: number;
    readonly name: string;
    readonly user: string;
    readonly schema: string;
    /** `own`: its authority is `ca.crt` of the Secret {@link DATABASE_SECRET}. */
    readonly tls: "off" | "known" | "own";
  } | null;
}

const NAME = "llm-orchestrator";
const WORKLOADS = "llm-orchestrator-workloads";
const LABELS = { "app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "orchestrator" };
/** Made by hand: `password`, and `ca.crt` for an authority of one's own. No manifest has a secret in it. */
const DATABASE_SECRET = "llm-orchestrator-database";
const DATABASE_CA = "/etc/llm-orchestrator-database";
const METRICS_PORT = 8_080;
const HEALTH_PORT = 8_081;
/** The user of the image. */
const USER = 10_001;
const LOOK = ["get", "list", "watch"];

/** In the order in which they are to be applied. */
export function manifests(settings: ManifestSettings): readonly Json[] {
  const { namespace, workloadNamespaces, database = null, replicas = database === null ? 1 : 2 } = settings;
  const { qos = DEFAULT_QOS } = settings;
  const namespaces = [...new Set([namespace, ...workloadNamespaces])];
  return [
    ...namespaces.map((name) => object("v1", "Namespace", name, null, {})),
    ...crds(true),
    ...QOS_CLASSES.map((name) => priorityClass(name, qos)),
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
    ...(replicas > 1 ? [disruptionBudget(namespace)] : []),
    deployment({ ...settings, replicas, database }),
  ];
}

function rule(apiGroup: string, resources: readonly string[], verbs: readonly string[]) {
  return { apiGroups: [apiGroup], resources, verbs };
}

const CLUSTER_RULES = [
  rule("", ["nodes"], [...LOOK, "patch"]),
  // A pod that does not come up, or that a dead node cannot tell of, is deleted; which of two goes first is marked.
  rule("", ["pods"], [...LOOK, "patch", "delete"]),
  rule("", ["services", "configmaps", "persistentvolumeclaims"], LOOK),
  rule("metrics.k8s.io", ["pods"], ["list"]),
  rule("node.k8s.io", ["runtimeclasses"], ["get"]),
  rule("", ["pods/eviction"], ["create"]),
  rule("events.k8s.io", ["events"], ["create"]),
  rule("apps", ["deployments", "controllerrevisions"], LOOK),
  rule("networking.k8s.io", ["networkpolicies"], LOOK),
  rule("monitoring.coreos.com", ["servicemonitors"], LOOK),
  rule("gateway.networking.k8s.io", ["httproutes"], LOOK),
  rule("leaderworkerset.x-k8s.io", ["leaderworkersets"], LOOK),
  rule("policy", ["poddisruptionbudgets"], LOOK),
  rule("scheduling.k8s.io", ["priorityclasses"], LOOK),
  rule(GROUP, ["llmworkloads", "llmmodels"], [...LOOK, "create", "patch", "delete"]),
  rule(GROUP, ["llmworkloads/status", "llmmodels/status"], ["patch"]),
  // An owner that its dependents hold up (blockOwnerDeletion) is one whose finalizers one may set.
  rule(GROUP, ["llmworkloads/finalizers"], ["update"]),
];

const MAKE = ["create", "patch", "delete"];
const WORKLOAD_RULES = [
  rule("", ["secrets"], ["create"]),
  rule("", ["services", "configmaps", "persistentvolumeclaims"], MAKE),
  rule("apps", ["deployments", "controllerrevisions"], MAKE),
  rule("networking.k8s.io", ["networkpolicies"], MAKE),
  rule("monitoring.coreos.com", ["servicemonitors"], MAKE),
  rule("gateway.networking.k8s.io", ["httproutes"], MAKE),
  rule("leaderworkerset.x-k8s.io", ["leaderworkersets"], MAKE),
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

/**
 * A class takes the place of others only where all that are less urgent may lose it: Kubernetes does not tell them apart. Pods of
 * `basic` wait for room, and take nobody's.
 */
function priorityClass(name: QosClass, qos: PriorityRules): Json {
  const lesser = QOS_CLASSES.filter((other) => qos[other].priority < qos[name].priority);
  const preempts = name !== "basic" && lesser.length > 0 && lesser.every((other) => qos[other].isPreemptible);
  return object("scheduling.k8s.io/v1", "PriorityClass", `llm-${name}`, null, {
    value: qos[name].priority * 1_000,
    preemptionPolicy: preempts ? "PreemptLowerPriority" : "Never",
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

/** What the controllers are to be told of their database: as this process would be told. @throws ConfigError */
export function databaseIn(env: Readonly<Record<string, string | undefined>>): Database | null {
  const problems: Problem[] = [];
  const { DB_SSL_CA: ca, DB_PASSWORD_FILE: _, ...rest } = env;
  const found = postgresOf(undefined, rest, problems);
  if (problems.length > 0) throw new ConfigError(problems);
  if (found === null) return null;
  const { host, port, database: name, user, schema, tls } = found;
  return { host, port, name, user, schema, tls: tls === null ? "off" : ca ? "own" : "known" };
}

function databaseEnv(database: Database | null): readonly Json[] {
  if (database === null) return [];
  const { host, port, name, user, schema, tls } = database;
  const plain = { DB_HOST: host, DB_PORT: String(port), DB_NAME: name, DB_USER: user, DB_SCHEMA: schema };
  const password = { secretKeyRef: { name: DATABASE_SECRET, key: "password" } };
  return [
    ...Object.entries(plain).map(([key, value]) => ({ name: key, value })),
    { name: "DB_PASSWORD", valueFrom: password },
    ...(tls === "off" ? [{ name: "DB_SSL", value: "disable" }] : []),
    ...(tls === "own" ? [{ name: "DB_SSL_CA", value: `${DATABASE_CA}/ca.crt` }] : []),
  ];
}

function deployment({
  image,
  namespace,
  workloadNamespaces,
  replicas,
  database,
}: Required<Omit<ManifestSettings, "qos">>): Json {
  const authority = database?.tls === "own" ? [{ name: "database", mountPath: DATABASE_CA, readOnly: true }] : [];
  const items = [{ key: "ca.crt", path: "ca.crt" }];
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
                ...databaseEnv(database),
              ],
              resources: { requests: { cpu: "100m", memory: "256Mi" }, limits: { memory: "512Mi" } },
              livenessProbe: { ...probe("/healthz"), failureThreshold: 6 },
              readinessProbe: probe("/readyz"),
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ["ALL"] },
              },
              volumeMounts: [{ name: "data", mountPath: "/var/lib/gpu-orchestrator/data" }, ...authority],
            },
          ],
          volumes: [
            { name: "data", emptyDir: {} },
            ...authority.map(({ name }) => ({ name, secret: { secretName: DATABASE_SECRET, items } })),
          ],
        },
      },
    },
  });
}
