import { describe, expect, test } from "vitest";
import { WORKLOAD_DEFAULTS } from "../../../src/core/analyzer/defaults.ts";
import type { JsonObject } from "../../../src/core/base/json.ts";
import type { WorkloadType } from "../../../src/core/model/workload.ts";
import { normalizeWorkloadType } from "../../../src/http/allocations/asks.ts";
import { analyzed } from "./asks.ts";

/** GPUs and MiB per GPU, which most rules are about. */
function need(type: WorkloadType, data: JsonObject): [gpus: number, memoryMib: number] {
  const { gpus, memoryMib } = analyzed(type, data).requirement;
  return [gpus, memoryMib];
}

describe("a workload of which nothing is known gets its type's defaults", () => {
  test.each([
    ["training", 1, 8192, 5, 90],
    ["inference", 1, 4096, 7, 80],
    ["embedding", 1, 2048, 6, 85],
    ["ocr", 1, 4096, 6, 80],
    ["graph_processing", 1, 4096, 5, 75],
    ["generic", 1, 4096, 5, 80],
  ] as const)("%s", (type, gpus, memoryMib, priority, maxUtilizationPercent) => {
    const { requirement, sources, notes } = analyzed(type);
    expect(requirement).toEqual({ gpus, memoryMib, priority, maxUtilizationPercent, maxUtilizationExplicit: false });
    expect(new Set(Object.values(sources))).toEqual(new Set([`default of ${type}`]));
    expect(notes).toEqual([]);
  });
});

describe("a size or a concurrency counts only above its threshold", () => {
  test.each([
    ["training", "batch_size", 64, 128],
    ["inference", "batch_size", 32, 64],
    ["embedding", "batch_size", 32, 64],
    ["ocr", "image_count", 100, 200],
    ["generic", "batch_size", 50, 100],
    ["training", "concurrent_requests", 10, 20],
    ["inference", "concurrent_requests", 10, 20],
    ["embedding", "concurrent_requests", 10, 20],
    ["ocr", "concurrent_requests", 50, 100],
    ["generic", "concurrent_requests", 10, 20],
  ] as const)("%s by %s: above %i 2 GPUs, above %i 4", (type, key, lower, upper) => {
    const memoryMib = WORKLOAD_DEFAULTS[type].defaultMemoryMib;
    expect(need(type, { [key]: lower })).toEqual([1, memoryMib]);
    expect(need(type, { [key]: lower + 1 })).toEqual([2, memoryMib]);
    expect(need(type, { [key]: upper })).toEqual([2, memoryMib]);
    expect(need(type, { [key]: upper + 1 })).toEqual([4, memoryMib]);
  });

  test.each([
    ["node_count", 1_000_000, 2_000_000],
    ["concurrent_requests", 5, 10],
  ])("graph_processing by %s: above %i twice the memory, above %i four times", (key, lower, upper) => {
    expect(need("graph_processing", { [key]: lower })).toEqual([1, 4096]);
    expect(need("graph_processing", { [key]: lower + 1 })).toEqual([1, 8192]);
    expect(need("graph_processing", { [key]: upper })).toEqual([1, 8192]);
    expect(need("graph_processing", { [key]: upper + 1 })).toEqual([1, 16384]);
  });

  test("the thresholds are those of the settings", () => {
    const settings = {
      ...WORKLOAD_DEFAULTS,
      inference: { ...WORKLOAD_DEFAULTS.inference, largeBatchSize: 5, xlargeBatchSize: 7, defaultMemoryMib: 5000 },
    };
    expect(analyzed("inference", { batch_size: 8 }, {}, { defaults: settings }).requirement).toMatchObject({
      gpus: 4,
      memoryMib: 5000,
    });
  });

  test("another type's size is not read", () => {
    expect(need("ocr", { batch_size: 1e9 })).toEqual([1, 4096]);
    expect(need("graph_processing", { batch_size: 1e9, image_count: 1e9 })).toEqual([1, 4096]);
  });
});

describe("model_size sets the base", () => {
  test.each([
    ["small", 1, 4096, 2048],
    ["medium", 2, 8192, 4096],
    ["large", 4, 16384, 8192],
    ["xlarge", 8, 32768, 16384],
  ])("%s", (model_size, trainingGpus, trainingMib, inferenceMib) => {
    expect(need("training", { model_size })).toEqual([trainingGpus, trainingMib]);
    expect(need("training", { model_size: ` ${model_size.toUpperCase()} ` })).toEqual([trainingGpus, trainingMib]);
    expect(need("inference", { model_size })).toEqual([1, inferenceMib]);
  });

  test("of other types it has no rule, and that is said", () => {
    const { requirement, notes } = analyzed("embedding", { model_size: "xlarge" });
    expect(requirement.memoryMib).toBe(2048);
    expect(notes).toEqual(["model_size has no rule for embedding"]);
  });
});

describe("every other rule only raises", () => {
  test("large and batch 128 is 4 GPUs, because 128 is not above 128 and 2 is less than 4", () => {
    const { requirement, sources } = analyzed("training", { model_size: "large", batch_size: 128 });
    expect(requirement.gpus).toBe(4);
    expect(sources.requiredGpus).toBe("model_size large: 4 GPUs");
  });

  test("xlarge with the largest batch stays at 8 GPUs", () => {
    expect(need("training", { model_size: "xlarge", batch_size: 1000, multi_gpu: true })).toEqual([8, 32768]);
  });

  test("of two rules that give the same, the first is the source", () => {
    expect(analyzed("inference", { batch_size: 33, concurrent_requests: 11 }).sources.requiredGpus).toBe(
      "batch_size 33 above large (32): at least 2 GPUs",
    );
  });

  test("the rule that raised last is the source", () => {
    expect(analyzed("inference", { batch_size: 33, concurrent_requests: 21 }).sources.requiredGpus).toBe(
      "concurrent_requests 21 above very high (20): at least 4 GPUs",
    );
    expect(analyzed("training", { model_size: "small", batch_size: 129 }).sources.requiredGpus).toBe(
      "batch_size 129 above xlarge (128): at least 4 GPUs",
    );
    expect(analyzed("graph_processing", { node_count: 1_500_000 }).sources.minMemoryMib).toBe(
      "node_count 1500000 above large (1000000): 2 times the memory",
    );
  });

  test("multi_gpu is at least 2 GPUs for training and nothing elsewhere", () => {
    expect(need("training", { multi_gpu: true })).toEqual([2, 8192]);
    expect(need("training", { multi_gpu: false })).toEqual([1, 8192]);
    expect(need("training", { multi_gpu: true, model_size: "large" })).toEqual([4, 16384]);
    expect(analyzed("inference", { multi_gpu: true })).toMatchObject({
      requirement: { gpus: 1 },
      notes: ["multi_gpu has no rule for inference"],
    });
  });

  test("dedicated is at least 8192 MiB and priority 8 for inference and nothing elsewhere", () => {
    const small = analyzed("inference", { dedicated: true, model_size: "small" });
    expect(small.requirement).toMatchObject({ gpus: 1, memoryMib: 8192, priority: 8 });
    expect(small.sources).toMatchObject({
      minMemoryMib: "dedicated: at least 8192 MiB",
      priority: "dedicated: priority 8",
    });
    expect(need("inference", { dedicated: true, model_size: "xlarge" })).toEqual([1, 16384]);
    expect(analyzed("training", { dedicated: true }).requirement.priority).toBe(5);
  });

  test("a graph's two measures do not multiply each other", () => {
    expect(need("graph_processing", { node_count: 2_000_001, concurrent_requests: 11 })).toEqual([1, 16384]);
  });
});

describe("priority", () => {
  test("the workflow's beats dedicated and the default; the caller's beats the workflow's", () => {
    const data = { dedicated: true, workflow_priority: 3 };
    expect(analyzed("inference", data)).toMatchObject({
      requirement: { priority: 3 },
      sources: { priority: "workflow_priority" },
    });
    expect(analyzed("inference", data, { priority: 10 })).toMatchObject({
      requirement: { priority: 10 },
      sources: { priority: "asked for" },
    });
  });

  test.each([0, 11, -1, 7.5, "9", true, [3], { level: 3 }])(
    "a workflow_priority of %j is ignored and noted",
    (value) => {
      const { requirement, notes } = analyzed("ocr", { workflow_priority: value });
      expect(requirement.priority).toBe(6);
      expect(notes).toHaveLength(1);
      expect(notes[0]).toMatch(/^workflow_priority .* ignored: not a whole number from 1/);
    },
  );

  test("1 and 10 are accepted", () => {
    expect(analyzed("ocr", { workflow_priority: 1 }).requirement.priority).toBe(1);
    expect(analyzed("ocr", { workflow_priority: 10 }).requirement.priority).toBe(10);
  });
});

describe("what the caller states", () => {
  test("beats every rule, downwards too", () => {
    const data = { model_size: "xlarge", batch_size: 1000, concurrent_requests: 1000, multi_gpu: true };
    const stated = { requiredGpus: 1, minMemoryMib: 100, priority: 1, maxUtilizationPercent: 12.5 };
    const { requirement, sources } = analyzed("training", data, stated);
    expect(requirement).toEqual({
      gpus: 1,
      memoryMib: 100,
      priority: 1,
      maxUtilizationPercent: 12.5,
      maxUtilizationExplicit: true,
    });
    expect(new Set(Object.values(sources))).toEqual(new Set(["asked for"]));
  });

  test("leaves the other numbers to the rules", () => {
    const { requirement } = analyzed("training", { model_size: "large" }, { requiredGpus: 1 });
    expect(requirement).toMatchObject({ gpus: 1, memoryMib: 16384, priority: 5, maxUtilizationExplicit: false });
  });

  test("a default max_utilization with a fraction stays as it is", () => {
    const settings = { ...WORKLOAD_DEFAULTS, ocr: { ...WORKLOAD_DEFAULTS.ocr, maxUtilizationPercent: 62.5 } };
    expect(analyzed("ocr", {}, {}, { defaults: settings }).requirement.maxUtilizationPercent).toBe(62.5);
  });
});

describe("nonsense in hints", () => {
  test.each([
    [{ batch_size: "abc" }, 'batch_size "abc" ignored: not a number from 0'],
    [{ batch_size: "128" }, 'batch_size "128" ignored: not a number from 0'],
    [{ batch_size: -1 }, "batch_size -1 ignored: not a number from 0"],
    [{ batch_size: Number.POSITIVE_INFINITY }, "batch_size Infinity ignored: not a number from 0"],
    [{ batch_size: [200] }, "batch_size a list ignored: not a number from 0"],
    [{ concurrent_requests: { n: 1 } }, "concurrent_requests an object ignored: not a number from 0"],
    [{ multi_gpu: "yes" }, 'multi_gpu "yes" ignored: not true or false'],
    [{ model_size: "huge" }, 'model_size "huge" ignored: not one of small, medium, large, xlarge'],
    [{ model_size: 7 }, "model_size 7 ignored: not text"],
    [{ model: 7 }, "model 7 ignored: not text"],
  ])("%j is ignored and noted", (data, note) => {
    expect(analyzed("training", data)).toMatchObject({
      requirement: { gpus: 1, memoryMib: 8192, priority: 5 },
      notes: [note],
    });
  });

  test("null counts as absent", () => {
    const data = { batch_size: null, multi_gpu: null, model_size: null, model: null, workflow_priority: null };
    expect(analyzed("training", data)).toEqual(analyzed("training"));
  });

  test("a note repeats only the start of a long text, on one line", () => {
    const [note] = analyzed("training", { batch_size: `a\nb${"c".repeat(10_000)}` }).notes;
    expect(note?.length).toBeLessThan(150);
    expect(note).not.toContain("\n");
  });

  test("a value nested too deep for JSON.stringify is still named", () => {
    let deep: JsonObject = {};
    for (let level = 0; level < 50_000; level++) deep = { deep };
    expect(analyzed("training", { batch_size: deep }).notes).toEqual([
      "batch_size an object ignored: not a number from 0",
    ]);
  });

  test("a key that every object inherits is not a hint", () => {
    const inherited = Object.create({ batch_size: 1000 }) as JsonObject;
    expect(analyzed("training", inherited).requirement.gpus).toBe(1);
  });
});

describe("a workload type is read as clients write it", () => {
  test.each([
    ["training", "training"],
    ["graph-processing", "graph_processing"],
    ["Graph_Processing", "graph_processing"],
    [" OCR ", "ocr"],
    ["video-encoding", "generic"],
    ["", "generic"],
    ["constructor", "generic"],
    [null, "generic"],
  ] as const)("%j is %s", (text, type) => {
    expect(normalizeWorkloadType(text)).toBe(type);
  });
});
