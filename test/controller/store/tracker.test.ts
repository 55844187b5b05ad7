/** Nodes, deployments and pods as rows: the same on both databases. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { inventoryIn } from "../../../src/controller/kubernetes/inventory.ts";
import type { KubeObject } from "../../../src/controller/kubernetes/watch.ts";
import type { Workload } from "../../../src/controller/objects/workload.ts";
import type { Look } from "../../../src/controller/reconcile/backend.ts";
import type { NodeSeen, TrackSeen } from "../../../src/controller/reconcile/seen.ts";
import { type Database, DatabaseError, type Row, type Statement } from "../../../src/controller/store/database.ts";
import { ResourceTracker } from "../../../src/controller/store/tracker.ts";
import { lookOf, node, replica, workload } from "../objects.ts";
import { BACKENDS } from "./backends.ts";

const NOW = Date.parse("2026-11-30T12:00:00.000Z");
const WRITES = /^\s*(INSERT|UPDATE|DELETE)/;

describe.each(BACKENDS.map((make) => make()))("the resource tracker in $name", (backend) => {
  if (!backend.isThere) {
    test.skip("all of it", () => undefined);
    return;
  }
  let database: Database;
  let writes: string[];
  let tracker: ResourceTracker;
  let workloads: Workload[];
  let nodes: NodeSeen[];
  let tracks: TrackSeen[];
  let inventory: Look["inventory"] | undefined;
  let leads: boolean;
  let now: number;
  let errors: { readonly err?: Error; readonly table?: string; readonly id?: string }[];
  beforeAll(() => backend.start(), 60_000);
  afterAll(() => backend.stop());
  beforeEach(async () => {
    const real = (await backend.fresh())();
    writes = [];
    database = {
      dialect: real.dialect,
      run(statements: readonly Statement[]) {
        writes.push(...statements.flatMap(({ sql }) => (WRITES.test(sql) ? [sql.trim().slice(0, 60)] : [])));
        return real.run(statements);
      },
      close: () => real.close(),
    };
    workloads = [workload({}, { status: { state: "running", desiredReplicas: 2, readyReplicas: 1 } })];
    nodes = [node(), node({ name: "node-b", usedGpus: 2 })];
    tracks = [{ revision: "r1", wanted: 2, replicas: [replica("a", "ready"), replica("b", "waiting")] }];
    inventory = undefined;
    leads = true;
    now = NOW;
    const look = () => lookOf({ nodes, tracksOf: () => tracks, ...(inventory === undefined ? {} : { inventory }) });
    tracker = new ResourceTracker({
      database,
      objects: { workloads: () => workloads } as never,
      seen: look,
      leads: () => leads,
      now: () => now,
      everyMs: 60_000,
      log: { error: (facts) => errors.push(facts) },
    });
    errors = [];
    return async () => {
      await real.close();
      expect(errors).toEqual([]);
    };
  });

  const rowsOf = async (table: string): Promise<readonly Row[]> => {
    const [rows = []] = await database.run([{ sql: `SELECT * FROM ${table} ORDER BY id` }]);
    return rows.map((row) => Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null)));
  };

  test("writes what is there: nodes, deployments and their pods", async () => {
    await tracker.track();
    expect(await rowsOf("gpu_nodes")).toMatchObject([
      { node_id: "node-a", gpu_type: "NVIDIA H100 80GB HBM3", gpu_count: 8, gpu_memory_gb: 80, gpus_allocated: 0 },
      { node_id: "node-b", gpus_allocated: 2, status: "ready", last_heartbeat: new Date(NOW).toISOString() },
    ]);
    expect(await rowsOf("deployments")).toMatchObject([
      {
        ...{ deployment_id: "chat", tenant_id: "default", model_id: "llama2", status: "running", namespace: "default" },
        ...{ desired_replicas: 2, ready_replicas: 1, gpu_per_replica: 1, cpu_request: 2, memory_request_gb: 8 },
        ...{ uid: "uid-1", generation: 1, min_replicas: 1, max_replicas: 5, cluster: "local" },
      },
    ]);
    const pods = await rowsOf("pod_allocations");
    expect(pods).toMatchObject([
      { pod_name: "a", deployment_id: "chat", node_id: "node-a", status: "running", gpu_count: 1 },
      { pod_name: "b", deployment_id: "chat", status: "pending" },
    ]);
    // A pod that waits has no node, and what nobody says is absent.
    expect(pods[1]).not.toHaveProperty("node_id");
    expect(pods[0]).not.toHaveProperty("gpu_utilization_percent");
  });

  test("writes only what has changed since, and that somebody has looked", async () => {
    await tracker.track();
    writes.length = 0;
    now += 60_000;
    await tracker.track();
    expect(writes).toEqual([expect.stringContaining("UPDATE gpu_nodes SET last_heartbeat")]);
    nodes = [node({ usedGpus: 3 }), nodes[1] as NodeSeen];
    writes.length = 0;
    await tracker.track();
    expect(writes).toHaveLength(2);
    expect((await rowsOf("gpu_nodes"))[0]).toMatchObject({ gpus_allocated: 3 });
  });

  test("keeps what is gone as such, with when it went", async () => {
    await tracker.track();
    now += 60_000;
    const gone = new Date(now).toISOString();
    [workloads, nodes, tracks] = [[], [node()], []];
    await tracker.track();
    expect((await rowsOf("deployments"))[0]).toMatchObject({
      status: "terminated",
      ready_replicas: 0,
      terminated_at: gone,
    });
    const ended = { status: "terminated", terminated_at: gone, terminated_reason: "gone" };
    expect(await rowsOf("pod_allocations")).toMatchObject([ended, ended]);
    expect((await rowsOf("gpu_nodes"))[1]).toMatchObject({ node_id: "node-b", status: "deleted" });
    writes.length = 0;
    await tracker.track();
    expect(writes).toHaveLength(1);
  });

  test("knows a deployment that comes again, and a pod whose name is given again", async () => {
    await tracker.track();
    [workloads, tracks] = [[], []];
    await tracker.track();
    workloads = [workload({}, { metadata: { ...workload().metadata, uid: "uid-2" } })];
    tracks = [{ revision: "r2", wanted: 1, replicas: [replica("a", "ready")] }];
    await tracker.track();
    const [deployment] = await rowsOf("deployments");
    expect(deployment).toMatchObject({ uid: "uid-2", status: "pending" });
    expect(deployment).not.toHaveProperty("terminated_at");
    const pods = await rowsOf("pod_allocations");
    expect(pods.find(({ pod_name: name }) => name === "a")).not.toHaveProperty("terminated_at");
  });

  test("tells two workloads of one name apart", async () => {
    const older = workload();
    const other = workload(
      {},
      { metadata: { ...older.metadata, namespace: "b", uid: "uid-2", creationTimestamp: "2030-01-01T00:00:00Z" } },
    );
    [workloads, tracks] = [[other, older], []];
    await tracker.track();
    const ids = (await rowsOf("deployments")).map(({ deployment_id: id, uid }) => [id, uid]).sort();
    expect(ids).toEqual([
      ["b/chat", "uid-2"],
      ["chat", "uid-1"],
    ]);
  });

  test("writes nothing as long as another one decides, and everything when it decides itself", async () => {
    leads = false;
    await tracker.track();
    expect(writes).toEqual([]);
    leads = true;
    await tracker.track();
    expect(await rowsOf("pod_allocations")).toHaveLength(2);
  });

  test("writes of a cluster what its nodes and pods say, and no secret", async () => {
    const kubeNode: KubeObject = {
      metadata: {
        ...{ name: "node-a", uid: "node-uid", resourceVersion: "1", creationTimestamp: "2026-01-01T00:00:00Z" },
        labels: { "nvidia.com/gpu.product": "NVIDIA-H100", "nvidia.com/gpu.memory": "81559" },
      },
      spec: {},
      status: {
        allocatable: { "nvidia.com/gpu": "8" },
        capacity: { cpu: "63500m", memory: "512Gi", "ephemeral-storage": "1Ti" },
        addresses: [{ type: "InternalIP", address: "10.0.0.7" }],
        conditions: [{ type: "Ready", status: "True" }],
      },
    };
    const env = [
      { name: "HF_TOKEN", value: "hf_do-not-write" },
      { name: "VLLM_USE_V1", value: "1" },
      { name: "FROM_SECRET", valueFrom: {} },
    ];
    const requests = { cpu: "500m", memory: "2Gi" };
    const pod: KubeObject = {
      metadata: {
        ...{ name: "chat-x", namespace: "default", uid: "pod-uid", resourceVersion: "1" },
        creationTimestamp: "2026-11-30T11:00:00Z",
        labels: { "llm-orchestrator.io/workload": "chat", "llm-orchestrator.io/revision": "r" },
      },
      spec: {
        nodeName: "node-a",
        containers: [
          {
            image: "vllm:1",
            env,
            ports: [{ name: "http", containerPort: 8_000 }],
            resources: { requests, limits: { "nvidia.com/gpu": "2" } },
          },
        ],
      },
      status: {
        phase: "Running",
        podIP: "10.1.0.1",
        startTime: "2026-11-30T11:00:05Z",
        conditions: [{ type: "Ready", status: "True" }],
      },
    };
    inventory = () => inventoryIn([kubeNode], [pod]);
    await tracker.track();
    expect(await rowsOf("gpu_nodes")).toMatchObject([
      {
        ...{ node_id: "node-uid", node_name: "node-a", node_ip: "10.0.0.7", gpu_type: "NVIDIA-H100", gpu_count: 8 },
        ...{
          cpu_cores: 63,
          memory_gb: 512,
          storage_gb: 1_024,
          gpus_allocated: 2,
          cpu_allocated: 0.5,
          memory_allocated_gb: 2,
        },
      },
    ]);
    const [row] = await rowsOf("pod_allocations");
    expect(row).toMatchObject({
      ...{ allocation_id: "pod-uid", pod_uid: "pod-uid", node_id: "node-uid", pod_ip: "10.1.0.1", status: "running" },
      ...{ cpu_request: 0.5, memory_request_gb: 2, gpu_count: 2, container_image: "vllm:1", service_port: 8_000 },
      ...{ created_at: "2026-11-30T11:00:00.000Z", started_at: "2026-11-30T11:00:05.000Z" },
    });
    expect(JSON.parse(row?.environment_vars as string)).toEqual({ HF_TOKEN: "[left out]", VLLM_USE_V1: "1" });
    expect(JSON.stringify(await rowsOf("deployments"))).not.toContain("hf_do-not-write");
  });

  test("writes a workload that was not accepted with what its columns take, and all others", async () => {
    const bad = (name: string, gpu: string, minReplicas: number) => {
      const one = workload({}, { metadata: { ...workload().metadata, name, uid: name } });
      const { resources, scaling } = one.spec;
      return { ...one, spec: { ...one.spec, resources: { ...resources, gpu }, scaling: { ...scaling, minReplicas } } };
    };
    workloads = [bad("half", "0.5", 1), bad("word", "one", 1), bad("many", "1", 2 ** 31), workload()];
    tracks = [];
    await tracker.track();
    const found = (await rowsOf("deployments")).map((row) => [
      ...[row.deployment_id, row.gpu_per_replica, row.min_replicas, row.desired_replicas],
    ]);
    expect(found.sort()).toEqual([
      ["chat", 1, 1, 1],
      ["half", 0, 1, 1],
      ["many", 1, undefined, 0],
      ["word", 0, 1, 1],
    ]);
    expect(tracker.trackedAt).toBe(NOW);
  });

  test("writes the others when the database does not take a row, and that one when it does", async () => {
    const target = (value: unknown) =>
      workload(
        {
          scaling: { ...workload().spec.scaling, targetMetrics: [{ type: "gpu_utilization", target: value }] },
        } as never,
        {
          metadata: { ...workload().metadata, name: "bad", uid: "bad" },
        },
      );
    workloads = [target("much"), workload()];
    tracks = [];
    await tracker.track();
    expect((await rowsOf("deployments")).map((row) => row.deployment_id)).toEqual(["chat"]);
    expect(errors).toEqual([{ err: expect.any(DatabaseError), table: "deployments", id: "bad" }]);
    expect(tracker.trackedAt).toBe(NOW);
    workloads = [target(70), workload()];
    errors = [];
    await tracker.track();
    expect((await rowsOf("deployments")).map((row) => row.deployment_id).sort()).toEqual(["bad", "chat"]);
  });

  test("goes on after what it cannot even read", async () => {
    const readable = workloads;
    workloads = [{ ...workload(), spec: null as never }];
    await tracker.track();
    expect(errors).toMatchObject([{ err: expect.any(TypeError) }]);
    errors = [];
    workloads = readable;
    await tracker.track();
    expect(await rowsOf("deployments")).toHaveLength(1);
  });

  test("leaves out what is secret by its name, wherever it stands", async () => {
    const args = [
      ...[
        "--api-key=s1",
        "--api-key",
        "s2",
        "s3",
        "--max-num-batched-tokens=8192",
        "--tokenizer",
        "shown-1",
        "--hf-token",
      ],
      ...["s4", "-c", "export HF_TOKEN='s 5'; vllm serve shown-2 --api-key s6 --port 1", "PASSWORD=s7", "--token=s 8"],
    ];
    const env = { HF_TOKEN: "s9", VLLM_USE_V1: "shown-3" };
    const config = { api_key: "s10", max_tokens: 512, dtype: "shown-4" };
    const parameters = { secret: "s11", tokenizer: "shown-5" };
    const whole = "kubectl.kubernetes.io/last-applied-configuration";
    const annotations = { [whole]: JSON.stringify({ spec: { engine: { env } } }), team: "shown-6" };
    const given = workload({ parameters, engine: { args, env, config } }, {});
    workloads = [{ ...given, metadata: { ...given.metadata, annotations } }];
    await tracker.track();
    const [row] = await rowsOf("deployments");
    const text = JSON.stringify([row, await rowsOf("pod_allocations")]);
    expect(text.match(/\bs ?\d+\b/g)).toBeNull();
    for (const shown of [1, 2, 3, 4, 5, 6]) expect(text).toContain(`shown-${shown}`);
    expect(JSON.parse(row?.spec as string).engine.args).toEqual([
      ...["--api-key=[left out]", "--api-key", "[left out]", "[left out]", "--max-num-batched-tokens=8192"],
      ...["--tokenizer", "shown-1", "--hf-token", "[left out]", "-c"],
      "export HF_TOKEN=[left out]; vllm serve shown-2 --api-key [left out] --port 1",
      ...["PASSWORD=[left out]", "--token=[left out]"],
    ]);
    expect(JSON.parse(row?.annotations as string)).toEqual({ team: "shown-6" });
    expect(JSON.parse(row?.vllm_config as string)).toEqual({ ...config, api_key: "[left out]" });
  });
});
