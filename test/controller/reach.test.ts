/** Who reaches a workload's pods. */
import { describe, expect, test } from "vitest";
import { httpRoute, networkPolicy, serviceMonitor } from "../../src/controller/kubernetes/reach.ts";
import { childrenOf, type RenderSettings } from "../../src/controller/kubernetes/render.ts";
import { isolationOf } from "../../src/controller/objects/isolation.ts";
import type { WorkloadSpec } from "../../src/controller/objects/workload.ts";
import type { Plan } from "../../src/controller/reconcile/plan.ts";
import { condition, look, PODS, SETTINGS, seen, workload } from "./objects.ts";

// biome-ignore lint/suspicious/noExplicitAny: objects of any kind.
type Any = any;
const security = (change: object): Pick<WorkloadSpec, "security"> => ({
  security: { encryption: false, complianceLevel: "basic", dataClassification: "internal", ...change },
});
const policy = (change: object): Any =>
  networkPolicy(workload(security(change)), { engine: "vllm", port: 8_000, nodes: 1 } as Plan, {
    namespace: "llm-orchestrator",
  });

describe("who may call a workload", () => {
  test("is said by namespaces, labels and addresses, and what is not understood opens nothing", () => {
    const { callers, unknown } = isolationOf({
      accessControl: ["web", "app=gw", "web/app=gw", "10.0.0.0/8", "Not one!"],
    });
    expect(callers).toEqual([
      { namespace: "web", label: null },
      { namespace: null, label: ["app", "gw"] },
      { namespace: "web", label: ["app", "gw"] },
      { cidr: "10.0.0.0/8" },
    ]);
    expect(unknown).toEqual(["Not one!"]);
  });

  test("is everybody where nothing is said, and nobody else where something is, but for the controller", () => {
    expect(policy({})).toBeNull();
    const made = policy({ accessControl: ["web"] });
    expect(made.spec.policyTypes).toEqual(["Ingress"]);
    expect(made.spec.podSelector.matchLabels).toMatchObject({ "llm-orchestrator.io/workload": "chat" });
    const [{ from, ports }] = made.spec.ingress;
    expect(ports).toEqual([{ protocol: "TCP", port: 8_000 }]);
    expect(from).toHaveLength(2);
    expect(from[0].namespaceSelector.matchLabels).toEqual({ "kubernetes.io/metadata.name": "llm-orchestrator" });
    expect(from[1]).toEqual({ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "web" } } });
    expect(policy({ networkPolicies: ["no-such-rule"] }).spec.ingress[0].from).toHaveLength(1);
  });

  test("reaches each port that an engine of one's own has", () => {
    const of = workload(security({ accessControl: ["web"] }));
    const made: Any = networkPolicy(of, { engine: "custom", port: 8_080, nodes: 1 } as Plan, {
      namespace: "llm-orchestrator",
    });
    expect(made.spec.ingress[0].ports.map(({ port }: Any) => port)).toEqual([8_080, 9_090]);
  });

  test("and whom its pods may reach follows the rules that are named", () => {
    const made = policy({ networkPolicies: ["same-namespace", "deny-egress"] });
    expect(made.spec.policyTypes).toEqual(["Ingress", "Egress"]);
    expect(made.spec.ingress[0].from).toContainEqual({ podSelector: {} });
    expect(made.spec.egress[0].ports).toEqual([
      { protocol: "UDP", port: 53 },
      { protocol: "TCP", port: 53 },
    ]);
  });

  test("stands in SecurityApplied: what is enforced where, and which words are not understood", () => {
    const of = workload(security({ accessControl: ["web"], networkPolicies: ["no-such-rule"] }));
    const applied = (isolates: boolean, from = of) => condition(look(from, seen([], { isolates })), "SecurityApplied");
    expect(applied(false)?.message).toBe("not enforced by this version: accessControl, networkPolicies");
    expect(applied(true)?.message).toBe('not enforced by this version: "no-such-rule"');
    const clear = workload(security({ accessControl: ["web"] }));
    expect(applied(true, clear)).toMatchObject({ status: "True", reason: "Applied" });
  });
});

test("a gateway that was named gets a route of each workload, below a path of its own", () => {
  expect(httpRoute(workload(), { gateway: null })).toBeNull();
  const route: Any = httpRoute(workload(), { gateway: { namespace: "infra", name: "public" } });
  expect(route.spec.parentRefs).toEqual([{ name: "public", namespace: "infra" }]);
  expect(route.spec.rules[0].matches[0].path.value).toBe("/default/chat");
  expect(route.spec.rules[0].backendRefs).toEqual([{ name: "chat", port: 80, weight: 1 }]);
});

test("a route goes when the gateway is named no more", () => {
  const route = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes/chat";
  const { wanted } = look(workload({ replicas: 1 }), seen());
  if (wanted === null) throw new Error("not accepted");
  const of = (gateway: RenderSettings["gateway"], optional: RenderSettings["optional"]) =>
    childrenOf(workload(), wanted, {
      reconcile: SETTINGS,
      priorityClasses: new Set(),
      products: [],
      liveProducts: [],
      template: null,
      optional,
      namespace: "llm-orchestrator",
      gateway,
      pods: PODS,
      hasRuntimeClass: false,
    });
  const both = of({ namespace: "infra", name: "public" }, new Set(["httproutes"]));
  expect(both.made.map(({ path }) => path)).toContain(route);
  expect(both.gone).not.toContain(route);
  expect(of(null, new Set(["httproutes"])).gone).toContain(route);
  // A cluster without the kind is asked for nothing.
  expect(of(null, new Set()).gone).not.toContain(route);
});

test("a ServiceMonitor finds the Service by its labels", () => {
  const monitor: Any = serviceMonitor(workload());
  expect(monitor.metadata.labels).toMatchObject(monitor.spec.selector.matchLabels);
  expect(monitor.spec.endpoints[0]).toMatchObject({ port: "http", path: "/metrics" });
});
