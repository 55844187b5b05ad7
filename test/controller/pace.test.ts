/** Writes to an apiserver have a pace: others want to be served, too. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { KubeConnection } from "../../src/controller/kubernetes/connection.ts";
import { childrenOf } from "../../src/controller/kubernetes/render.ts";
import type { Wanted } from "../../src/controller/reconcile/reconcile.ts";
import { look, PODS, SETTINGS, workload } from "./objects.ts";

const server = createServer((_req, res) => res.end("{}"));
let connection: KubeConnection;

beforeEach(async () => {
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const given = { server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, token: "t", ca: null };
  connection = new KubeConnection({ kubeconfig: null, context: null, given }, { perSecond: 50, burst: 10 });
});
afterEach(async () => {
  await connection.close();
  server.closeAllConnections();
  await new Promise((closed) => server.close(closed));
});

async function took(count: number, path: string, method: "GET" | "PATCH"): Promise<number> {
  const startedAt = performance.now();
  await Promise.all(Array.from({ length: count }, () => connection.call(path, { method })));
  return performance.now() - startedAt;
}

test("writes beyond a burst come at their pace; neither reads nor the Lease wait behind them", async () => {
  // Of 40, ten at once and 30 at 50 a second.
  const writes = took(40, "/api/v1/namespaces/ns/services/x", "PATCH");
  expect(await took(40, "/api/v1/pods", "GET")).toBeLessThan(400);
  expect(await took(40, "/apis/coordination.k8s.io/v1/namespaces/ns/leases/x", "PATCH")).toBeLessThan(400);
  expect(await writes).toBeGreaterThan(550);
});

test("a pod is asked for its readiness every 5 s, three times, and for its life every 10 s, six times, without a delay", () => {
  const of = workload({ replicas: 2 });
  const { made } = childrenOf(of, look(of).wanted as Wanted, {
    ...{ reconcile: SETTINGS, pods: PODS, namespace: "n", gateway: null, hasRuntimeClass: false, template: null },
    ...{ priorityClasses: new Set<string>(), products: [], liveProducts: [], optional: new Set<never>() },
  });
  const deployment = made.find(({ path }) => path.includes("/deployments/"))?.object as {
    spec: { template: { spec: { containers: Record<string, object>[] } } };
  };
  const [container] = deployment.spec.template.spec.containers;
  expect(container?.readinessProbe).toMatchObject({ periodSeconds: 5, failureThreshold: 3 });
  expect(container?.livenessProbe).toMatchObject({ periodSeconds: 10, failureThreshold: 6 });
  expect(container?.startupProbe).toMatchObject({ periodSeconds: 10, failureThreshold: 60 });
  expect(JSON.stringify(container)).not.toContain("initialDelaySeconds");
});
