/** What `gpuo cluster manifests` prints. test/plane has it against a real apiserver. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { databaseIn, manifests } from "../../src/controller/kubernetes/manifests.ts";
import { loadSettings } from "../../src/controller/settings/settings.ts";

// biome-ignore lint/suspicious/noExplicitAny: objects of any kind.
type Any = any;

const SETTINGS = {
  image: "gpu-orchestrator:1.0.0",
  namespace: "llm-orchestrator",
  workloadNamespaces: ["llm-workloads"],
};
const made = (change: object = {}) => manifests({ ...SETTINGS, ...change }) as readonly Any[];
const rulesIn = (objects: readonly Any[]): Any[] => objects.flatMap(({ rules = [] }) => rules);

describe("the manifests", () => {
  test("are what deploy/kubernetes has (made anew by gpuo cluster manifests --image gpu-orchestrator:1.0.0)", () => {
    const text = readFileSync("deploy/kubernetes/llm-orchestrator.yaml", "utf8");
    expect(parseAllDocuments(text).map((one) => one.toJS())).toEqual(JSON.parse(JSON.stringify(made())));
  });

  test("may have beside them what docs/cluster.md opens the API with: it is of the same pods", () => {
    const [, block = ""] = readFileSync("docs/cluster.md", "utf8").split("```yaml\napiVersion: networking.k8s.io/v1");
    const [text = ""] = block.split("```");
    const [policy, service] = parseAllDocuments(`apiVersion: networking.k8s.io/v1${text}`).map((one) => one.toJS());
    const { matchLabels } = made().find(({ kind }) => kind === "Deployment").spec.selector;
    expect(policy.spec.podSelector.matchLabels).toEqual(matchLabels);
    expect(service.spec.selector).toEqual(matchLabels);
    const { port } = loadSettings({}, {}).api;
    expect([policy.spec.ingress[0].ports[0].port, service.spec.ports[0].targetPort]).toEqual([port, port]);
    const names = made().map(({ kind, metadata }) => `${kind}/${metadata.name}`);
    for (const { kind, metadata } of [policy, service]) expect(names).not.toContain(`${kind}/${metadata.name}`);
  });

  test("give no right to read or change a Secret, to all of a group, or to escalate", () => {
    for (const { apiGroups, resources, verbs } of rulesIn(made())) {
      expect([...apiGroups, ...resources, ...verbs]).not.toContain("*");
      if (resources.includes("secrets")) expect(verbs).toEqual(["create"]);
      for (const verb of ["escalate", "bind", "impersonate"]) expect(verbs).not.toContain(verb);
    }
  });

  test("have a class take the place of others only where all that are less urgent may lose it", () => {
    const classes = (never: readonly string[]) => {
      const one = (priority: number, name: string) => ({ priority, isPreemptible: !never.includes(name) });
      const qos = { premium: one(90, "premium"), standard: one(50, "standard"), basic: one(5, "basic") };
      const found = made({ qos }).filter(({ kind }) => kind === "PriorityClass");
      return found.map(({ value, preemptionPolicy }) => [value, preemptionPolicy]);
    };
    const [yes, no] = ["PreemptLowerPriority", "Never"];
    expect(classes(["premium"])).toEqual([
      [90_000, yes],
      [50_000, yes],
      [5_000, no],
    ]);
    expect(classes(["standard"]).map(([, policy]) => policy)).toEqual([no, yes, no]);
    expect(classes(["basic"]).map(([, policy]) => policy)).toEqual([no, no, no]);
  });

  test("let it make children in the namespaces that were named, and nowhere else", () => {
    const objects = made({ workloadNamespaces: ["a", "b"] });
    const bound = objects.filter(({ roleRef }) => roleRef?.name === "llm-orchestrator-workloads");
    expect(bound.map(({ kind, metadata }) => [kind, metadata.namespace])).toEqual([
      ["RoleBinding", "a"],
      ["RoleBinding", "b"],
    ]);
    const everywhere = objects.find(({ kind }) => kind === "ClusterRole").rules as Any[];
    const deployments = everywhere.filter(({ resources }) => resources.includes("deployments"));
    expect(deployments.flatMap(({ verbs }) => verbs)).toEqual(["get", "list", "watch"]);
  });

  test("have what names no namespace made where its children may be made", () => {
    const objects = made({ workloadNamespaces: ["a", "b"] });
    const { env } = objects.find(({ kind }) => kind === "Deployment").spec.template.spec.containers[0];
    expect(env).toContainEqual({ name: "K8S_NAMESPACE", value: "a" });
  });

  test("bring a budget for evictions only where one of several may go", () => {
    const budgets = (replicas: number) => made({ replicas }).filter(({ kind }) => kind === "PodDisruptionBudget");
    expect(budgets(1)).toEqual([]);
    expect(budgets(2)).toHaveLength(1);
  });

  test("tell the controllers of a PostgreSQL, and have no password in them", () => {
    const env = { DB_HOST: "db.example", DB_USER: "little", DB_PASSWORD: "not-to-be-printed" };
    const told = (more: object): { text: string; env: Any; volumes: Any } => {
      const objects = made({ database: databaseIn({ ...env, ...more }) });
      const { containers, volumes } = objects.find(({ kind }) => kind === "Deployment").spec.template.spec;
      return { text: JSON.stringify(objects), env: containers[0].env.slice(2), volumes: volumes.slice(1) };
    };
    const { text, env: given, volumes } = told({});
    expect(given).toEqual([
      { name: "DB_HOST", value: "db.example" },
      { name: "DB_PORT", value: "5432" },
      { name: "DB_NAME", value: "ai_platform" },
      { name: "DB_USER", value: "little" },
      { name: "DB_SCHEMA", value: "orchestration" },
      { name: "DB_PASSWORD", valueFrom: { secretKeyRef: { name: "llm-orchestrator-database", key: "password" } } },
    ]);
    expect(volumes).toEqual([]);
    expect(text).not.toContain("not-to-be-printed");
    expect(told({ DB_SCHEMA: "gpus" }).env).toContainEqual({ name: "DB_SCHEMA", value: "gpus" });
    expect(told({ DB_SSL: "disable" }).env.at(-1)).toEqual({ name: "DB_SSL", value: "disable" });
    const own = told({ DB_SSL_CA: "/of/whoever/prints.pem" });
    expect(own.env.at(-1)).toEqual({ name: "DB_SSL_CA", value: "/etc/llm-orchestrator-database/ca.crt" });
    expect(own.volumes).toMatchObject([{ name: "database", secret: { secretName: "llm-orchestrator-database" } }]);
    expect(databaseIn({})).toBeNull();
    // Two have one history then, and only then by themselves.
    const replicasOf = (change: object) => made(change).find(({ kind }) => kind === "Deployment").spec.replicas;
    expect([replicasOf({}), replicasOf({ database: databaseIn(env) }), replicasOf({ replicas: 3 })]).toEqual([1, 2, 3]);
    expect(made({ database: databaseIn(env) }).some(({ kind }) => kind === "PodDisruptionBudget")).toBe(true);
    expect(() => databaseIn({ ...env, DB_PORT: "http" })).toThrow("DB_PORT");
  });
});
