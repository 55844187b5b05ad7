/** Nodes, clusters and health, as the second seed's clients read them. */
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import type { Any } from "./fake-apiserver.ts";
import { apply, begin, end, NODE, running, server, started, until } from "./fake-cluster.ts";
import { spec } from "./objects.ts";
import { serveApi } from "./served-api.ts";

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
  expect(health.metrics).toMatchObject({ total_nodes: 1, healthy_nodes: 1, running_deployments: 1 });
  expect(use.cluster_metrics).toMatchObject({ total_gpus: 8, allocated_gpus: 2, available_gpus: 6 });
  expect(use.summary).toMatchObject({ active_deployments: 1, total_running_pods: 2, total_gpus: 8 });
  expect(use.summary).toMatchObject({ cluster_gpu_allocation_percent: 25, cluster_memory_allocation_percent: 25 });
  const { body: clusters } = await get("GET", "/admin/v1/clusters");
  expect(clusters).toMatchObject([{ name: "local", backend: "kubernetes", reachable: true, nodes: 1, total_gpus: 8 }]);
});

test("nodes are found by their state and by a part of their GPUs' name", async () => {
  await running();
  const names = async (query: string) =>
    (await get("GET", `/admin/v1/infrastructure/nodes?${query}`)).body.map(({ node_name: name }: Any) => name);
  expect(await names("status=ready&gpu_type=h100")).toEqual(["n1"]);
  expect(await names("gpu_type=A100")).toEqual([]);
  expect(await names("status=drained")).toEqual([]);
  expect((await get("GET", "/admin/v1/infrastructure/nodes?state=ready")).status).toBe(422);
});

test("the cluster's GPUs are told by kind and node, with what engines were told to take, and null where nobody says", async () => {
  await running();
  const gpus = async () => (await get("GET", "/admin/v1/gpu/cluster-status")).body;
  const { nodes, summary_by_gpu_type: byType, cluster_total: total } = await gpus();
  const memory = { total_vram_gb: 637.18, allocated_vram_gb: 146.55, available_vram_gb: 490.63 };
  const sum = { total_gpus: 8, allocated_gpus: 2, available_gpus: 6, available_capacity_percent: 75, ...memory };
  expect(total).toEqual({ ...sum, vram_allocation_percent: 23 });
  expect(byType).toEqual({ H100: { ...sum, vram_allocation_percent: 23, vram_per_gpu_gb: 80 } });
  const deployment = { deployment_name: "chat", model_name: "llama2", gpu_count: 2, memory_fraction: 0.92 };
  expect(nodes).toMatchObject([
    { node_name: "n1", vram_total_gb: 637.18, deployments: [{ ...deployment, vram_allocated_gb: 146.55 }], gpus: null },
  ]);
  // One that is none of ours holds a GPU, and nobody knows how much of it.
  const name = "other";
  server.set(`/api/v1/namespaces/ns/pods/${name}`, {
    metadata: { name, namespace: "ns", labels: {} },
    spec: { nodeName: "n1", containers: [{ resources: { limits: { "nvidia.com/gpu": "3" } } }] },
    status: { phase: "Running" },
  });
  await expect
    .poll(async () => (await gpus()).cluster_total, { timeout: 10_000 })
    .toMatchObject({
      allocated_gpus: 5,
      total_vram_gb: 637.18,
      allocated_vram_gb: null,
      vram_allocation_percent: null,
    });
  expect((await gpus()).nodes[0].deployments).toHaveLength(1);
});

test("health has what the second seed's probe reads", async () => {
  await running();
  expect((await get("GET", "/health")).body).toMatchObject({
    ...{ status: "healthy", service: "orchestration-service", database: "connected", kubernetes: "connected" },
  });
});

test("a model's state has its endpoint and GPUs, and a gateway is given the endpoint that is reached from outside", async () => {
  await running();
  const state = await get("GET", "/internal/deployments/status?model_id=llama2");
  expect(state.body).toMatchObject({ status: "running", endpoint: "http://chat.ns.svc", gpu_count: 2 });
  expect((await get("GET", "/internal/models/llama2/endpoint")).body.endpoint_url).toBe("http://chat.ns.svc");
  const api = await serveApi();
  onTestFinished(() => api.close());
  const draft = { namespace: "ns", name: "chat", labels: {}, annotations: {}, spec: spec({ replicas: 1 }) };
  const endpoints = ["http://chat.ns.svc", "http://192.0.2.7"];
  await api.store.putStatus(await api.store.put(draft), { endpoints });
  const told = await fetch(`${api.url}/internal/models/llama2/endpoint`);
  expect(await told.json()).toMatchObject({ endpoint_url: "http://192.0.2.7" });
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
