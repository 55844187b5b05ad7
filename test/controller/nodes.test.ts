/** Nodes, clusters and health, as the second seed's clients read them. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { apply, begin, end, NODE, running, server, started, until } from "./fake-cluster.ts";

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
  const annotations = { team: "a", "kubectl.kubernetes.io/last-applied-configuration": "{}" };
  server.set(NODE, {
    ...server.get(NODE),
    metadata: { ...server.get(NODE).metadata, annotations },
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
      ...{ cpu_allocated: 2, memory_allocated_gb: 16, pod_count: 2, last_heartbeat: null, annotations: { team: "a" } },
    },
  ]);
  expect(body[0].pods).toHaveLength(2);
  expect(Object.keys(body[0].annotations)).toEqual(["team"]);
  // Nobody has told of it since it was made.
  expect(body[0].updated_at).toBe(body[0].created_at);
  const { body: use } = await get("GET", "/admin/v1/infrastructure/gpu-utilization");
  expect(use.node_metrics).toMatchObject([
    { gpu_allocation_percent: 25, cpu_allocation_percent: 12.5, memory_allocation_percent: 25, pod_count: 2 },
  ]);
  const { body: health } = await get("GET", "/admin/v1/infrastructure/health");
  expect(health.components).toMatchObject({ kubernetes: "healthy", database: "healthy", nodes: "healthy" });
  const { body: clusters } = await get("GET", "/admin/v1/clusters");
  expect(clusters).toMatchObject([{ name: "local", backend: "kubernetes", reachable: true, nodes: 1, total_gpus: 8 }]);
});

test("why says of each node what stands in a replica's way: also that its GPUs are others than are asked for", async () => {
  await running();
  const { metadata, ...node } = server.get(NODE);
  const labels = { ...metadata.labels, "nvidia.com/gpu.product": "A100" };
  server.set("/api/v1/nodes/n2", { ...node, metadata: { name: "n2", labels } });
  apply({ resources: { cpu: "1", memory: "8Gi", gpu: "7", gpuType: "H100" } });
  const refusals = async () => (await get("GET", "/admin/v1/deployments/chat/why")).body.nodes;
  await expect.poll(refusals, { timeout: 10_000 }).toEqual([
    { node_id: "n1", refuses: "6 GPUs are free, and a replica needs 7" },
    { node_id: "n2", refuses: "its GPUs are A100, and H100 is asked for" },
  ]);
});

test("a node is drained by the id that the tables have, too", async () => {
  await running();
  const id = server.get(NODE).metadata.uid as string;
  expect(id).not.toBe("n1");
  const { status, body } = await get("POST", `/admin/v1/infrastructure/nodes/${id}/cordon`);
  expect([status, body.data.node_id]).toEqual([202, "n1"]);
  expect(server.get(NODE).spec.unschedulable).toBe(true);
});
