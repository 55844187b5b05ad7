import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { isOfType, namePartsOf } from "../../src/work/documents/spec.ts";
import { promptsOf, readTask, shareOf } from "../../src/work/documents/task.ts";
import { readWorkload, readWorkloadChange } from "../../src/work/documents/workload.ts";
import { WorkError } from "../../src/work/errors.ts";
import { formatCpu, formatMemory, parseCpuMillis, parseMemoryBytes } from "../../src/work/quantities.ts";
import { document, TASK_SETTINGS, WORKLOAD_SETTINGS } from "./fixtures.ts";

const SEED = "../shared/seeds/003_2cb4773746aba6d6.txt";

/** The two tasks that MLOC's own document shows. */
function seedTasks(): unknown[] {
  const text = readFileSync(SEED, "utf8");
  return [...text.matchAll(/```yaml\n(apiVersion[\s\S]*?)```/g)].map(([, yaml]) => parse(yaml as string));
}

function refusal(read: () => unknown): WorkError {
  try {
    read();
  } catch (error) {
    if (error instanceof WorkError) return error;
    throw error;
  }
  throw new Error("it was not refused");
}

const task = (value: unknown) => readTask(value as never, TASK_SETTINGS);
const workload = (value: unknown) => readWorkload(value as never, WORKLOAD_SETTINGS);

describe("quantities", () => {
  test("CPU is cores or thousandths of one", () => {
    expect([8, "8", "2000m", "0.5", 1.5].map(parseCpuMillis)).toEqual([8_000, 8_000, 2_000, 500, 1_500]);
    for (const wrong of ["", "two", "-1", "0", 0, "1e3", "5k", null, true, {}])
      expect(parseCpuMillis(wrong)).toBeNull();
  });

  test("Gi counts by 1,024 and G by 1,000", () => {
    expect(parseMemoryBytes("32Gi")).toBe(32 * 2 ** 30);
    expect(parseMemoryBytes("32G")).toBe(32e9);
    expect(parseMemoryBytes("512Mi")).toBe(2 ** 29);
    expect(parseMemoryBytes(1_024)).toBe(1_024);
    for (const wrong of ["", "32 gigs", "-1Gi", "0", "9999999P", null]) expect(parseMemoryBytes(wrong)).toBeNull();
  });

  test("what is written is read as the same", () => {
    for (const millis of [1, 500, 1_000, 2_500, 64_000]) expect(parseCpuMillis(formatCpu(millis))).toBe(millis);
    for (const bytes of [1, 1_024, 2 ** 31, 1_500_000]) expect(parseMemoryBytes(formatMemory(bytes))).toBe(bytes);
  });
});

describe("a task's document", () => {
  test.skipIf(!existsSync(SEED))("MLOC's own two examples are read without a warning (needs ../shared)", () => {
    const [inference, ppo] = seedTasks().map(task);
    expect(inference).toMatchObject({ name: "mistral-7b-infer", replicas: 1, warnings: [] });
    expect(inference?.spec).toMatchObject({
      executor: "vllm",
      identifier: "mistralai/Mistral-7B-Instruct-v0.1",
      resources: { cpuMillis: 8_000, memoryBytes: 32 * 2 ** 30, gpu: { count: 1, nameParts: [] } },
    });
    expect(ppo).toMatchObject({ name: "mistral-7b-ppo-training", warnings: [] });
    expect(ppo?.spec.executor).toBe("ppo");
  });

  test("says which keys are missing as MLOC does: the first in its words, all of them in the list", () => {
    const { code, message, errors } = refusal(() => task({ a: 1 }));
    expect(code).toBe("document-incomplete");
    expect(message).toBe("Missing required field: apiVersion");
    expect(errors?.map(({ path }) => path)).toEqual(["apiVersion", "kind", "metadata", "spec", "spec.taskType"]);
    expect(refusal(() => task({ ...document(), spec: {} })).message).toBe("Missing required field: spec.taskType");
    expect(refusal(() => task([1])).code).toBe("document-incomplete");
  });

  test("names every wrong value at once, each with its path", () => {
    const { code, errors } = refusal(() =>
      task(document({ resources: { hardware: { gpu: { count: -3 }, memory: "lots" } }, priority: "high", timeout: 0 })),
    );
    expect(code).toBe("document-invalid");
    expect(errors?.map(({ path }) => path).sort()).toEqual([
      "spec.priority",
      "spec.resources.hardware.gpu.count",
      "spec.resources.hardware.memory",
      "spec.timeout",
    ]);
  });

  test("an unknown key is a warning in MLOC's documents and an error in ours", () => {
    const mloc = { ...document({ trainning: {} }), apiVersion: "mloc/v1" };
    expect(task(mloc).warnings).toEqual(["spec.trainning: no such key; did you mean training?"]);
    expect(refusal(() => task(document({ trainning: {} }))).errors).toEqual([
      { path: "spec.trainning", message: "no such key; did you mean training?" },
    ]);
  });

  test("nothing that a client sends can be taken for a flag or leave its folder", () => {
    const model = (identifier: string) => document({ model: { source: { identifier } } });
    for (const wrong of ["-rf", "--host=0.0.0.0", "../etc", "a/b/c", "a/../b", "/etc/passwd", "a b", "a\nb"]) {
      expect(refusal(() => task(model(wrong))).errors?.[0]?.path, wrong).toBe("spec.model.source.identifier");
    }
    expect(refusal(() => task(document({ model: { source: { revision: "--x" } } }))).code).toBe("document-invalid");
    expect(task(model("org/name-1.0_x")).spec.identifier).toBe("org/name-1.0_x");
  });

  test("only the url of a dataset may be an address, and none of its names is a path", () => {
    const data = (more: object) => task(document({ data: { type: "dataset", ...more } }));
    const wrong = ["http://10.0.0.5/x.json", "file:///etc/passwd", "hf://a/b", "/etc", "./a", "../a", "~/a", "a/../b"];
    for (const key of ["name", "dataset_name"]) {
      for (const value of wrong) {
        expect(refusal(() => data({ [key]: value })).errors?.[0]?.path, value).toBe(`spec.data.${key}`);
      }
      expect(() => data({ [key]: "org/set-1.0" })).not.toThrow();
    }
    for (const value of wrong.slice(1)) {
      expect(refusal(() => data({ url: value })).errors?.[0]?.path, value).toBe("spec.data.url");
    }
    expect(() => data({ url: "http://10.0.0.5/x.json", name: "20220301.en" })).not.toThrow();
  });

  test("memory of GPUs that are not asked for is taken, ignored and said to be", () => {
    const warned = (hardware: object) => task(document({ gpu_memory_mb: 1_000, resources: { hardware } })).warnings;
    const ignored = ["spec.gpu_memory_mb: ignored, since no GPU is asked for"];
    expect([warned({}), warned({ gpu: { count: 0 } })]).toEqual([ignored, ignored]);
    expect([warned({ gpu: {} }), warned({ gpu: { count: 1 } })]).toEqual([[], []]);
  });

  test("download_dir and the output's path are taken, ignored and said to be", () => {
    const { warnings } = task(
      document({ model: { vllm: { download_dir: "/" } }, output: { destination: { path: "./x" } } }),
    );
    expect(warnings).toHaveLength(2);
  });

  test("without a gpu it needs none; with one that says no count it needs one", () => {
    expect(task(document()).spec.resources.gpu).toBeNull();
    expect(
      task(document({ resources: { hardware: { gpu: { type: "nvidia-a100_80gb" } } } })).spec.resources.gpu,
    ).toEqual({
      count: 1,
      nameParts: ["nvidia", "a100", "80gb"],
      memoryMib: null,
    });
    expect(task(document({ resources: { hardware: { gpu: { count: 0 } } } })).spec.resources.gpu).toBeNull();
  });

  test("a GPU is of a type when each part of it occurs in the GPU's name", () => {
    const is = (type: string) => isOfType("NVIDIA A100-SXM4-80GB", namePartsOf(type));
    expect(["any", "a100", "nvidia-a100", "A100_80GB", "sxm4 a100"].map(is)).toEqual([true, true, true, true, true]);
    expect(["h100", "a100-40gb", "tesla a100"].map(is)).toEqual([false, false, false]);
  });

  test("what only reads may be tried again when it is lost; nothing else may unless it says so", () => {
    expect(task(document({ taskType: "inference" })).retry.lost).toBe(2);
    expect(task(document({ taskType: "echo" })).retry.lost).toBe(2);
    expect(task(document({ taskType: "ppo" })).retry).toMatchObject({ max: 0, lost: 0 });
    expect(task(document({ taskType: "inference", retry: { lost: 0 } })).retry.lost).toBe(0);
  });

  test("a task type that no executor is set for is refused, with those that there are", () => {
    expect(refusal(() => task(document({ taskType: "constructor" }))).errors?.[0]).toMatchObject({
      path: "spec.taskType",
    });
    expect(task(document({ taskType: "mine", executor: "process" })).spec.executor).toBe("process");
  });

  test("its prompts are dealt out to its replicas, each to one", () => {
    const prompts = ["a", "b", "c", "d", "e"];
    const whole = document({ taskType: "inference", inference: { prompts, max_tokens: 4 } });
    const shares = [0, 1].map((replica) => promptsOf(shareOf(whole as never, replica, 2)));
    expect(shares).toEqual([
      ["a", "c", "e"],
      ["b", "d"],
    ]);
    expect(shareOf(whole as never, 0, 1)).toBe(whole);
  });
});

describe("a workload", () => {
  const seed = {
    name: "my-llm-workload",
    modelName: "llama2",
    modelType: "text-generation",
    resources: { cpu: "2000m", memory: "8Gi", gpu: 1 },
    labels: { environment: "development", team: "ai-research" },
  };

  test("the LLM Orchestrator's example is read, and its resources repeated as they were written", () => {
    const draft = workload(seed);
    expect(draft.resources).toEqual(seed.resources);
    expect(draft).toMatchObject({ id: null, replicas: 1, message: null });
    expect(draft.spec).toMatchObject({ executor: "vllm", identifier: "meta/llama2", readiness: { http: "/health" } });
  });

  test("a model without settings is kept, with the key that is missing", () => {
    const draft = workload({ ...seed, modelName: "gpt2" });
    expect(draft.spec).toBeNull();
    expect(draft.message).toBe('no settings for its model: work.models."gpt2" is not set');
    expect(workload({ ...seed, modelName: "__proto__" }).spec).toBeNull();
  });

  test("a profile fills in what is not said, and no more", () => {
    const draft = workload({ ...seed, resources: { profile: "large", memory: "64Gi" } });
    expect(draft.spec?.resources).toMatchObject({ cpuMillis: 8_000, memoryBytes: 64 * 2 ** 30, gpu: { count: 4 } });
    // As the LLM Orchestrator writes what it fills in.
    expect(draft.resources).toMatchObject({ cpu: "8000m", memory: "64Gi", gpu: 4 });
    expect(refusal(() => workload({ ...seed, resources: { profile: "huge" } })).errors?.[0]?.path).toBe(
      "resources.profile",
    );
  });

  test("a wrong number of GPUs, a wrong id and a missing name are refused with their paths", () => {
    const { errors } = refusal(() => workload({ id: "x/y", resources: { gpu: -3 } }));
    expect(errors?.map(({ path }) => path).sort()).toEqual(["id", "name", "resources.gpu"]);
    for (const gpu of [512, 1.5, "1"])
      expect(refusal(() => workload({ ...seed, resources: { gpu } })).errors).toHaveLength(1);
    expect(workload({ ...seed, resources: { gpu: 64 } }).spec?.resources.gpu?.count).toBe(64);
  });

  test("a Service document says the same in ours", () => {
    const draft = workload({
      apiVersion: "gpu-orchestrator/v1",
      kind: "Service",
      metadata: { name: "embed", labels: { a: "b" } },
      spec: {
        executor: "process",
        command: ["/usr/bin/serve"],
        resources: { replicas: 2, hardware: { gpu: { type: "any", count: 1 } } },
        restart: { give_up_after: 2, backoff: "2s" },
        readiness: { http: "/ready" },
        liveness: {},
      },
    });
    expect(draft).toMatchObject({ name: "embed", replicas: 2, restart: { giveUpAfter: 2, backoffMs: 2_000 } });
    expect(draft.spec).toMatchObject({
      executor: "process",
      readiness: { http: "/ready", intervalMs: 5_000 },
      liveness: { completion: true, intervalMs: 60_000, timeoutMs: 30_000, failures: 3 },
    });
  });

  test("only replicas and labels can be changed", () => {
    expect(readWorkloadChange({ replicas: 3 })).toEqual({ replicas: 3, labels: null });
    expect(refusal(() => readWorkloadChange({ replicas: 65 })).errors?.[0]?.path).toBe("replicas");
    expect(refusal(() => readWorkloadChange({ name: "x" })).errors?.[0]?.path).toBe("name");
  });
});
