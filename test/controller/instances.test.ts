/** Devices that are no whole GPUs, and what nodes and replicas say that cannot be. */
import { describe, expect, test } from "vitest";
import { nodesSeen } from "../../src/controller/kubernetes/pods.ts";
import type { KubeObject } from "../../src/controller/kubernetes/watch.ts";
import { planOf } from "../../src/controller/reconcile/plan.ts";
import type { TrackSeen } from "../../src/controller/reconcile/seen.ts";
import { readPage } from "../../src/controller/replica-page.ts";
import { look, node, SETTINGS, seen, spec, track, workload } from "./objects.ts";

const MIG = "nvidia.com/mig-1g.10gb";
const instances = { resources: { cpu: "2", memory: "8Gi", gpu: "1", gpuType: MIG } };

describe("a workload of MIG instances", () => {
  test("is planned by the memory of an instance, not by that of the GPUs that nodes have", () => {
    const planned = planOf(
      spec({ ...instances, modelName: "Qwen/Qwen2.5-1.5B", engine: { config: { max_model_len: 32_768 } } }),
      [],
      [node()],
      SETTINGS,
    );
    expect(planned).toMatchObject({ resource: MIG, gpus: 1, nodes: 1 });
    const large = planOf(spec({ ...instances, engine: { config: { max_model_len: 4_096 } } }), [], [node()], SETTINGS);
    expect(large).toMatchObject({ reason: "NeverFits" });
  });

  test("fits where no node has as many whole GPUs", () => {
    const asked = { ...instances, resources: { ...instances.resources, gpu: "2" } };
    expect(planOf(spec(asked), [], [node({ gpus: 1 })], SETTINGS)).toMatchObject({ gpus: 2, nodes: 1 });
  });

  test("rolls without a surge, though whole GPUs are free: an instance may not be", () => {
    const running = workload({ ...instances, replicas: 2, engine: { model: "Qwen/Qwen2.5-1.5B" } });
    const old: TrackSeen = track("old", ["ready", "ready"]);
    expect(look(running, seen([old])).wanted).toMatchObject({ surge: false, isBlocked: false });
    const whole = workload({ replicas: 2, engine: { model: "Qwen/Qwen2.5-1.5B" } });
    expect(look(whole, seen([old])).wanted).toMatchObject({ surge: true });
  });

  test("is scaled by its load, though nobody counts its instances", () => {
    const scaling = {
      minReplicas: 1,
      maxReplicas: 4,
      strategy: "horizontal" as const,
      targetMetrics: [{ type: "queue_length" as const, target: 2 }],
    };
    const of = workload({ ...instances, engine: { model: "Qwen/Qwen2.5-1.5B" }, scaling });
    const first = look(of, seen([], { nodes: [] }));
    const { revision } = first.wanted ?? { revision: "" };
    const now = seen([track(revision, ["ready"])], {
      nodes: [],
      load: [{ replica: `${revision}-0`, metrics: { queue_length: 8 } }],
    });
    expect(look({ ...of, status: first.status }, now).wanted?.desired).toBe(4);
  });
});

test.each(["-3", "NaN", "+Inf", "1e400", "much", ""])("a load of %j that a replica says is none", (said) => {
  const page = readPage(`vllm:num_requests_waiting{engine="0"} ${said}\nvllm:kv_cache_usage_perc ${said}\n`, 0);
  expect(page).toMatchObject({ waiting: null, cache: null });
});

describe("what a node says of its GPUs", () => {
  const kept = (labels: Record<string, string>, gpus: string): KubeObject => ({
    metadata: { name: "n1", uid: "n1", resourceVersion: "1", creationTimestamp: "", labels },
    spec: {},
    status: { allocatable: { "nvidia.com/gpu": gpus }, conditions: [{ type: "Ready", status: "True" }] },
  });
  const pod = (gpus: string): KubeObject => ({
    metadata: { name: "p", namespace: "ns", uid: "p", resourceVersion: "1", creationTimestamp: "" },
    spec: { nodeName: "n1", containers: [{ resources: { limits: { "nvidia.com/gpu": gpus } } }] },
    status: { phase: "Running" },
  });

  test.each(["", "0", "-1", "much", "0x10", "1e99"])(
    "as a memory of %j says nothing, and its product tells",
    (said) => {
      const labels = { "nvidia.com/gpu.memory": said, "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB" };
      expect(nodesSeen([kept(labels, "8")], [])[0]?.gpuMemoryMib).toBe(38_146);
    },
  );

  test.each(["1k", "much", "-3", "1e9", "0.5"])(
    "and a pod that asks for %j of them make no nonsense of the sum",
    (said) => {
      expect(nodesSeen([kept({}, "8")], [pod("2"), pod(said)])[0]?.usedGpus).toBe(2);
      expect(nodesSeen([kept({}, said)], [])).toEqual([]);
    },
  );
});
