import { describe, expect, test } from "vitest";
import { GIB, MIB } from "../../../src/core/analyzer/memory.ts";
import type { JsonObject } from "../../../src/core/base/json.ts";
import { analyzed } from "./asks.ts";

const REFERENCE_MIB = 81_000;

function inference(data: JsonObject, requiredGpus: number | null = null) {
  const { requirement, sources, notes } = analyzed("inference", data, { requiredGpus });
  return { gpus: requirement.gpus, memoryMib: requirement.memoryMib, sources, notes: notes.join("\n") };
}

function training(data: JsonObject, requiredGpus: number | null = null) {
  const { requirement, sources, notes } = analyzed("training", data, { requiredGpus });
  return { gpus: requirement.gpus, memoryMib: requirement.memoryMib, sources, notes: notes.join("\n") };
}

describe("a model of the catalogue that is served", () => {
  test("gets its weights, KV cache and overhead, and the source says so", () => {
    const { gpus, memoryMib, sources, notes } = inference({ model: "Qwen/Qwen3-8B", max_model_len: 8192 });
    // 8,190,735,360 parameters of 2 bytes; 147,456 bytes of KV cache a token; 48 + 500 + 1331.2 MiB beside them.
    expect(gpus).toBe(1);
    expect(memoryMib).toBe(Math.ceil((8_190_735_360 * 2 + 147_456 * 8192) / MIB + 1879.2));
    expect(sources.minMemoryMib).toBe(
      "Qwen/Qwen3-8B in bf16 on 1 GPU: weights 15623 MiB, KV cache 1152 MiB (8192 tokens x 1 at once), activations 1332 MiB, overhead 548 MiB",
    );
    expect(notes).toContain("gpu_memory_utilization");
    expect(notes).not.toContain("assumed");
  });

  test("is split over the fewest GPUs on which it needs at most the reference size", () => {
    const { gpus, memoryMib, sources } = inference({ model: "meta-llama/Llama-3.1-70B-Instruct" });
    expect(gpus).toBe(2);
    expect(memoryMib).toBeGreaterThan(70_553_706_496 / MIB);
    expect(memoryMib).toBeLessThanOrEqual(REFERENCE_MIB);
    expect(sources.requiredGpus).toBe(
      "meta-llama/Llama-3.1-70B in bf16: 2 GPUs, so that each needs at most 81000 MiB (a card of 80 GB)",
    );
  });

  test("is split for the GPUs that gpu_memory_mb tells of", () => {
    const { gpus, memoryMib, sources } = inference({ model: "llama3.1:70b", gpu_memory_mb: 24_576 });
    expect(gpus).toBe(8);
    expect(memoryMib).toBeLessThanOrEqual(24_576);
    expect(sources.requiredGpus).toContain("24576 MiB (gpu_memory_mb)");
  });

  test("is divided by the GPUs that the caller states, whatever each then needs", () => {
    const one = inference({ model: "llama3.1:70b" }, 1);
    const four = inference({ model: "llama3.1:70b" }, 4);
    expect([one.gpus, four.gpus]).toEqual([1, 4]);
    expect(one.memoryMib).toBeGreaterThan(130_000);
    expect(four.memoryMib).toBeLessThan(40_000);
    expect(four.sources).toMatchObject({ requiredGpus: "asked for" });
    expect(four.sources.minMemoryMib).toContain("on 4 GPUs");
  });

  test("is divided by tensor_parallel_size when no GPUs are stated", () => {
    expect(inference({ model: "Qwen/Qwen3-8B", tensor_parallel_size: 4 })).toMatchObject({
      gpus: 4,
      sources: { requiredGpus: "Qwen/Qwen3-8B in bf16: 4 GPUs, by tensor_parallel" },
    });
    expect(inference({ model: "Qwen/Qwen3-8B", tensor_parallel_size: 0.5 }).gpus).toBe(1);
  });

  test("fits a GPU of exactly its need and not one of a MiB less", () => {
    const { memoryMib } = inference({ model: "Qwen/Qwen3-32B" });
    expect(inference({ model: "Qwen/Qwen3-32B", gpu_memory_mb: memoryMib }).gpus).toBe(1);
    expect(inference({ model: "Qwen/Qwen3-32B", gpu_memory_mb: memoryMib - 1 }).gpus).toBe(2);
  });

  test("holds one sequence when nobody is said to ask", () => {
    const one = inference({ model: "Qwen/Qwen3-8B", concurrent_requests: 1 }).memoryMib;
    expect(inference({ model: "Qwen/Qwen3-8B", concurrent_requests: 0 }).memoryMib).toBe(one);
    expect(inference({ model: "Qwen/Qwen3-8B" }).memoryMib).toBe(one);
  });

  test("takes its format from quantization, then its name's quantisation, then dtype", () => {
    const mib = (data: JsonObject) => inference({ model: "Qwen/Qwen2.5-7B-Instruct-AWQ", ...data }).memoryMib;
    const awq = mib({});
    expect(mib({ dtype: "auto" })).toBe(awq);
    expect(mib({ quantization: "none" })).toBe(awq);
    expect(mib({ quantization: "fp8" })).toBeGreaterThan(awq);
    expect(mib({ dtype: "bfloat16" })).toBe(awq);
    expect(mib({ quantization: "bf16" })).toBeGreaterThan(mib({ quantization: "fp8", dtype: "bfloat16" }));
    const plain = (dtype: string) => inference({ model: "Qwen/Qwen2.5-7B-Instruct", dtype }).memoryMib;
    expect(plain("fp8")).toBeLessThan(plain("float16"));
    expect(plain("float16")).toBeLessThan(plain("float32"));
    const unknown = inference({ model: "Qwen/Qwen2.5-7B-Instruct-AWQ", quantization: "magic" });
    expect(unknown.memoryMib).toBe(awq);
    expect(unknown.notes).toContain('quantization "magic" ignored: not a known format');
  });

  test("keeps its output projection apart in the one FP8 checkpoint that does", () => {
    const fp8 = inference({ model: "Qwen/Qwen3-0.6B-FP8", model_size: "small" });
    expect(fp8.sources.minMemoryMib).toContain("weights 1014 MiB");
  });

  test("needs a larger KV cache for more tokens and sequences, a smaller one in a smaller format", () => {
    const mib = (data: JsonObject) => inference({ model: "Qwen/Qwen3-14B", ...data }).memoryMib;
    expect(mib({ max_model_len: 32_768 })).toBeGreaterThan(mib({ max_model_len: 8192 }));
    expect(mib({ context_length: 32_768 })).toBe(mib({ max_model_len: 32_768 }));
    expect(mib({ input_tokens: 1000, max_tokens: 3000 })).toBe(mib({ max_model_len: 4000 }));
    expect(mib({})).toBe(mib({ max_model_len: 4096 }));
    expect(mib({ max_tokens: 10_000 })).toBe(mib({ max_model_len: 12_048 }));
    const eight = { max_model_len: 8192, concurrent_requests: 8 };
    expect(mib(eight)).toBeGreaterThan(mib({ max_model_len: 8192 }));
    expect(mib({ ...eight, kv_cache_dtype: "fp8" })).toBe(mib({ ...eight, max_model_len: 4096 }));
    expect(mib({ ...eight, kv_cache_dtype: "auto" })).toBe(mib(eight));
  });

  test("says what it assumed", () => {
    expect(inference({ model: "Qwen/Qwen3-8B" }).notes).toContain(
      "4096 tokens a sequence are assumed: context_length is not given",
    );
    expect(inference({ model: "google/gemma-2-9b-it", context_length: 8192 }).notes).toContain("sliding window");
    expect(inference({ model: "google/gemma-2-9b-it", context_length: 4096 }).notes).not.toContain("sliding window");
    expect(inference({ model: "Qwen/Qwen3-8B", kv_cache_dtype: "tiny" }).notes).toContain("kv_cache_dtype");
  });

  test("that fits no split is asked for on the widest, and that is said", () => {
    const crowd = { model: "Qwen/Qwen3-30B-A3B", concurrent_requests: 1e9, max_model_len: 1e6 };
    const { gpus, notes, sources } = inference(crowd);
    expect(gpus).toBe(32);
    expect(sources.requiredGpus).toContain("32 GPUs, the widest split, although each needs more than 81000 MiB");
    expect(notes).toContain("concurrent_requests 1000000000 counts as 100000");
  });

  test("raises the rules and is raised by them", () => {
    const small = inference({ model: "Qwen/Qwen3-0.6B", batch_size: 65, model_size: "xlarge" });
    expect(small).toMatchObject({ gpus: 4, memoryMib: 16_384 });
    expect(small.sources.minMemoryMib).toBe("model_size xlarge: 16384 MiB");
    const large = inference({ model: "Qwen/Qwen3-14B", batch_size: 65, model_size: "small" });
    expect(large.gpus).toBe(4);
    expect(large.sources.minMemoryMib).toContain("Qwen/Qwen3-14B");
  });

  test("that needs more than the caller states gets what is stated, and a note", () => {
    const { requirement, notes } = analyzed("inference", { model: "Qwen/Qwen3-14B" }, { minMemoryMib: 1000 });
    expect(requirement.memoryMib).toBe(1000);
    expect(notes.join()).toContain("min_memory_mb 1000 is less than the model needs");
  });
});

describe("a model of the catalogue that is trained", () => {
  test("fully takes 18 bytes a parameter, sharded over the fewest GPUs", () => {
    const { gpus, memoryMib, sources } = training({ model: "Llama-3.1-8B", max_model_len: 2048, micro_batch_size: 1 });
    expect(gpus).toBe(2);
    expect(memoryMib * 2 * MIB).toBeGreaterThan(18 * 8_030_261_248);
    expect(memoryMib).toBeLessThanOrEqual(REFERENCE_MIB);
    expect(sources.minMemoryMib).toMatch(/full fine-tuning, mixed precision on 2 GPUs: .*\(ZeRO 3\)/);
  });

  test("with LoRA takes about its weights and a little, with QLoRA much less", () => {
    const on = { model: "Llama-3.1-8B", max_model_len: 512 };
    const [full, lora, qlora] = ["full", "LoRA", "qlora"].map((method) => training({ ...on, method }, 1).memoryMib);
    expect(lora).toBeGreaterThan(15_317);
    expect(lora).toBeLessThan(1.3 * 15_317);
    expect(qlora).toBeLessThan(0.6 * (lora ?? 0));
    expect(full).toBeGreaterThan(7 * (lora ?? 0));
    expect(training({ ...on, finetune_method: "qlora" }, 1).memoryMib).toBe(qlora);
    expect(training({ ...on, method: "osmosis" }, 1)).toMatchObject({ memoryMib: full });
  });

  test("follows precision, rank, tokens and the ZeRO stage", () => {
    const mib = (data: JsonObject) => training({ model: "Qwen/Qwen3-8B", ...data }, 4).memoryMib;
    const base = mib({});
    expect(mib({ gradient_precision: "bf16" })).toBeLessThan(base);
    expect(mib({ optimizer_precision: "bf16" })).toBeLessThan(mib({ gradient_precision: "bf16" }));
    expect(mib({ zero_stage: 0 })).toBeGreaterThan(mib({ zero_stage: 1 }));
    expect(mib({ zero_stage: 1 })).toBeGreaterThan(mib({ zero_stage: 2 }));
    expect(mib({ zero_stage: 2 })).toBeGreaterThan(mib({ zero_stage: 3 }));
    expect(mib({ zero_stage: 3 })).toBe(base);
    expect(mib({ micro_batch_size: 4 })).toBe(mib({ max_model_len: 8192 }));
    expect(mib({ micro_batch_size: 4 })).toBeGreaterThan(base);
    expect(mib({ method: "lora", lora_rank: 8 })).toBeLessThan(mib({ method: "lora", lora_rank: 128 }));
  });
});

describe("a model that the catalogue lacks", () => {
  test("is estimated from the size in its name by a rule of thumb, which is said", () => {
    const { gpus, memoryMib, sources, notes } = inference({ model: "acme/unheard-of-7b" });
    expect(gpus).toBe(1);
    expect(memoryMib).toBe(Math.ceil((7e9 * 2 * 1.2 + 2 * GIB) / MIB));
    expect(sources.minMemoryMib).toContain("rule of thumb");
    expect(notes).toContain("is not known: weights x 1.2 + 2 GiB is a rule of thumb");
  });

  test("qwen-72b is 72 billion parameters, not 2", () => {
    const { gpus, memoryMib } = inference({ model: "qwen-72b" });
    expect(gpus).toBe(4);
    expect(memoryMib).toBe(Math.ceil((72e9 * 2 * 1.2) / 4 / MIB + 2048));
  });

  test("follows the format of its name and says so of experts", () => {
    expect(inference({ model_name: "acme-70b-awq" }).gpus).toBe(1);
    expect(inference({ model_name: "acme-8x7b" }).notes).toContain("an upper bound");
  });

  test("is trained by the same rule on all that training keeps", () => {
    expect(training({ model: "acme-7b" }, 2).memoryMib).toBe(Math.ceil((7e9 * 18 * 1.2) / 2 / MIB + 2048));
    expect(training({ model: "acme-7b", method: "lora" }, 1).memoryMib).toBe(Math.ceil((7e9 * 2 * 1.2) / MIB + 2048));
  });

  test("and whose name gives no size changes nothing, which is said", () => {
    const named = analyzed("inference", { model: "acme/secret" });
    expect(named.requirement).toEqual(analyzed("inference").requirement);
    expect(named.notes).toEqual([
      'model "acme/secret" is not in the catalogue and its name gives no size: it changes no figure',
    ]);
  });
});

describe("which name counts", () => {
  test("model before model_name; blank is absent", () => {
    expect(inference({ model: "acme-70b", model_name: "acme-7b" }).gpus).toBe(4);
    expect(inference({ model: "  ", model_name: "acme-7b" }).sources.minMemoryMib).toContain("acme-7b");
  });

  test("a name that is not text is noted, and the other is read", () => {
    const { sources, notes } = inference({ model: { path: "x" }, model_name: "acme-7b" });
    expect(sources.minMemoryMib).toContain("acme-7b");
    expect(notes).toContain("model an object ignored: not text");
  });
});
