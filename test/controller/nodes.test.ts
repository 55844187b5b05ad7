/** Nodes, clusters and health, as the second seed's clients read them. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { begin, end, NODE, running, server, started, until } from "./fake-cluster.ts";

beforeEach(begin);
afterEach(end);

async function get(method: string, path: string) {
  const { port } = await at;
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method });
  return { status: answer.status, body: JSON.parse(await answer.text()) };
}
let at: Promise<{ readonly port: number }>;
beforeEach(() => {
  at = started.api.listen("127.0.0.1", 0);
});
afterEach(() => started.api.drain());

test("a node has the columns of the tables, its pods, and null where nobody says", async () => {
  await running();
  server.set(NODE, {
    ...server.get(NODE),
    status: {
      ...server.get(NODE).status,
      capacity: { cpu: "16", memory: "64Gi" },
      addresses: [{ type: "InternalIP", address: "10.0.0.1" }],
    },
  });
  await until(() => (started.loop.seen?.inventory?.().nodes[0]?.cpuCores ?? null) === 16, "what the node has");
  const { body } = await get("GET", "/admin/v1/infrastructure/nodes");
  expect(body).toMatchObject([
    {
      ...{ node_id: "n1", node_name: "n1", node_ip: "10.0.0.1", gpu_type: "H100", gpu_count: 8, gpu_memory_gb: 80 },
      ...{ cpu_cores: 16, memory_gb: 64, storage_gb: null, gpus_allocated: 2, gpus_available: 6, status: "ready" },
      ...{ cpu_allocated: 2, memory_allocated_gb: 16, pod_count: 2, last_heartbeat: null },
    },
  ]);
  expect(body[0].pods).toHaveLength(2);
  const { body: use } = await get("GET", "/admin/v1/infrastructure/gpu-utilization");
  expect(use.node_metrics).toMatchObject([
    { gpu_allocation_percent: 25, cpu_allocation_percent: 12.5, memory_allocation_percent: 25, pod_count: 2 },
  ]);
  const { body: health } = await get("GET", "/admin/v1/infrastructure/health");
  expect(health.components).toMatchObject({ kubernetes: "healthy", database: "healthy", nodes: "healthy" });
  const { body: clusters } = await get("GET", "/admin/v1/clusters");
  expect(clusters).toMatchObject([{ name: "local", backend: "kubernetes", reachable: true, nodes: 1, total_gpus: 8 }]);
});

test("a node is drained by the id that the tables have, too", async () => {
  await running();
  const id = server.get(NODE).metadata.uid as string;
  expect(id).not.toBe("n1");
  const { status, body } = await get("POST", `/admin/v1/infrastructure/nodes/${id}/cordon`);
  expect([status, body.data.node_id]).toEqual([202, "n1"]);
  expect(server.get(NODE).spec.unschedulable).toBe(true);
});
