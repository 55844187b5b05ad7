/** What a GPU's name says of its memory. */
import { expect, test } from "vitest";
import { nodesSeen } from "../../src/controller/kubernetes/pods.ts";
import { memoryOfProduct } from "../../src/controller/reconcile/gpu-memory.ts";
import { parseShape } from "../../src/monitor/simulated/models.ts";

test("is never more than the driver reports of it, and little less, as the labels of nodes write it", () => {
  for (const key of ["h100", "h200", "b200", "gb200", "a100", "a100-40gb", "a10g", "l40s", "t4", "v100"]) {
    const { name = "", memoryTotalMib = 0 } = parseShape(`${key}x1`)?.model ?? {};
    const share = (memoryOfProduct(name.replaceAll(" ", "-")) ?? 0) / memoryTotalMib;
    expect(share, name).toBeLessThanOrEqual(1);
    expect(share, name).toBeGreaterThan(0.92);
  }
});

test("of an instance is the instance's, and nothing is guessed", () => {
  expect(memoryOfProduct("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb")).toBe(4_768);
  expect(memoryOfProduct("A100-SXM4-80GB-SHARED")).toBe(76_293);
  expect(memoryOfProduct("nvidia-l40s")).toBe(46_068);
  for (const name of ["", "A100", "NVIDIA-Something-New", "gpu-t40"]) expect(memoryOfProduct(name), name).toBeNull();
});

test("counts where a node does not say how much its GPUs have", () => {
  const node = (labels: object) =>
    ({ metadata: { name: "n", labels }, spec: {}, status: { allocatable: { "nvidia.com/gpu": "1" } } }) as never;
  const product = { "nvidia.com/gpu.product": "NVIDIA-L40S" };
  const memoryOf = (labels: object) => nodesSeen([node(labels)], [])[0]?.gpuMemoryMib;
  expect(memoryOf(product)).toBe(46_068);
  expect(memoryOf({ ...product, "nvidia.com/gpu.memory": "46000" })).toBe(46_000);
  expect(memoryOf({})).toBeNull();
});
