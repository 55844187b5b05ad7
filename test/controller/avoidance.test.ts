/** Nodes on which a replica did not come up: its next one goes elsewhere. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { Avoidance, avoidLabel } from "../../src/controller/kubernetes/avoidance.ts";
import { KubeConnection } from "../../src/controller/kubernetes/connection.ts";
import { Watch } from "../../src/controller/kubernetes/watch.ts";
import { NO_RECOVERY, recover } from "../../src/controller/reconcile/recovery.ts";
import { begin, DEPLOYMENT, end, NODE, running, server, started, until } from "./fake-cluster.ts";
import { NOW, node, replica, workload } from "./objects.ts";

beforeEach(begin);
afterEach(end);

const labels = () => server.get(NODE).metadata.labels as Record<string, string>;

test("a node bears a label of the workload for an hour, and no other label is touched", async () => {
  const given = { server: started.url, token: "t", ca: null };
  const connection = new KubeConnection({ kubeconfig: null, context: null, given });
  const nodes = new Watch(connection, "/api/v1/nodes", { changed: () => undefined });
  nodes.start();
  await until(() => nodes.all().length === 1, "the node");
  const before = { ...labels() };
  const avoidance = new Avoidance(connection, nodes);
  await avoidance.avoid(workload(), "n1", NOW);
  const label = avoidLabel(workload());
  expect(labels()).toEqual({ ...before, [label]: String(NOW / 1_000 + 3_600) });
  await avoidance.tend(NOW + 3_599_000);
  expect(labels()).toHaveProperty([label]);
  await avoidance.tend(NOW + 3_600_000);
  expect(labels()).toEqual(before);
  // One that is gone is avoided by nobody.
  await avoidance.avoid(workload(), "gone", NOW);
  await nodes.stop();
  await connection.close();
});

test("pods prefer nodes without the label of their workload, and their template does not change by it", async () => {
  await running();
  const { spec } = server.get(DEPLOYMENT).spec.template;
  const [{ weight, preference }] = spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution;
  const [workload] = started.cluster.objects.workloads();
  if (workload === undefined) throw new Error("it is gone");
  expect([weight, preference.matchExpressions]).toEqual([
    100,
    [{ key: avoidLabel(workload), operator: "DoesNotExist" }],
  ]);
});

test("what did not come up is not started there again, and what has failed for good is nobody's fault", () => {
  const trouble = { reason: "CrashLoop" as const, message: "again" };
  const of = (phase: "unready" | "failed", at: number, memory = NO_RECOVERY) => {
    const tracks = [{ revision: "r", wanted: 1, replicas: [replica("a", phase, { trouble })] }];
    return recover({ tracks, nodes: [node()], now: at }, memory, 600_000);
  };
  const { memory } = of("unready", NOW);
  expect(of("unready", NOW + 120_000, memory).removed).toMatchObject([{ name: "a", avoided: "node-a" }]);
  expect(of("failed", NOW).removed).toMatchObject([{ name: "a", avoided: null }]);
});
