import { expect, test } from "vitest";
import { WORKLOAD_DEFAULTS } from "../../../src/core/analyzer/defaults.ts";
import { isReadable, readConfig } from "../../../src/core/analyzer/read-config.ts";
import type { JsonObject, JsonValue } from "../../../src/core/base/json.ts";
import { WORKLOAD_TYPES } from "../../../src/core/model/workload.ts";
import fc from "../../fc.ts";
import { analyzed } from "./asks.ts";

const RUNS = { numRuns: 1_000 };

const MODEL_SIZES = [undefined, "small", "medium", "large", "xlarge"] as const;
const NUMERIC_KEYS = ["batch_size", "image_count", "node_count", "concurrent_requests"] as const;
/** Known models, sizes read from the name, and names that say nothing. */
const MODEL_NAMES = [
  "Qwen/Qwen3-0.6B",
  "meta-llama/Llama-3.1-70B-Instruct",
  "Qwen/Qwen2.5-7B-Instruct-AWQ",
  "qwen-72b",
  "acme/8x7b",
  "acme/unsized",
] as const;
const HINT_KEYS = [
  ...NUMERIC_KEYS,
  ...["model", "model_name", "model_size", "multi_gpu", "dedicated", "workflow_priority", "quantization", "dtype"],
  ...["max_model_len", "context_length", "input_tokens", "max_tokens", "kv_cache_dtype", "tensor_parallel_size"],
  ...["method", "finetune_method", "optimizer_precision", "gradient_precision", "lora_rank", "micro_batch_size"],
  ...["zero_stage", "gpu_memory_mb", "model_config", "tensor_parallel", "optimizer", "loss_chunks"],
];
const CONFIG_KEYS = [
  ...["hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size"],
  ...["intermediate_size", "num_local_experts", "n_routed_experts", "moe_intermediate_size", "sliding_window"],
  ...["kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "layer_types", "model_type", "d_model"],
  ...["hybrid_override_pattern", "mamba_n_heads", "mamba_d_head", "mamba_d_state", "mamba_n_groups", "mamba_d_conv"],
  ...["linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"],
  ...["linear_conv_kernel_dim", "full_attention_interval", "expert_layer_period", "full_attn_idxs", "block_ff_dim"],
  ...["text_config", "vision_config", "encoder", "decoder", "unet", "vae", "transformer", "block_out_channels"],
];

const anyType = fc.constantFrom(...WORKLOAD_TYPES);
const anyAmount = fc.oneof(fc.nat(300), fc.nat(5_000_000), fc.double({ min: 0, max: 1e300, noNaN: true }));
const anyWord = fc.constantFrom(...MODEL_NAMES, "lora", "qlora", "full", "fp8", "bf16", "q4_k_m", "xlarge", "1b", "");
const anyJson = fc.oneof(fc.jsonValue({ maxDepth: 3 }), anyWord, fc.string(), anyAmount, fc.integer(), fc.boolean());
const anyData: fc.Arbitrary<JsonObject> = fc
  .oneof(
    fc.dictionary(fc.string(), anyJson, { maxKeys: 8 }),
    fc.dictionary(fc.constantFrom(...HINT_KEYS), anyJson, { maxKeys: 12 }),
  )
  .map((data) => data as { [key: string]: JsonValue });
const anyFamily = fc.constantFrom(
  ...["llama", "bert", "whisper", "qwen3_vl", "gpt_oss", "qwen3_next", "granitemoehybrid", "nemotron_h"],
  ...["jamba", "mamba", "mamba2", "lfm2"],
);
const anyField = fc.oneof(fc.nat(10_000), anyFamily, fc.constantFrom("M-*E", ["mamba"]), anyJson);
const anyConfig = fc
  .dictionary(fc.constantFrom(...CONFIG_KEYS), anyField, { maxKeys: 16 })
  .chain((config) =>
    fc.dictionary(fc.constantFrom(...CONFIG_KEYS), fc.oneof(anyField, fc.constant(config)), { maxKeys: 16 }),
  )
  .map((config) => config as { [key: string]: JsonValue });
const anyCards = fc.array(fc.integer({ min: 1, max: 200_000 }), { maxLength: 9 });
const largestFirst = (cards: readonly number[]) => () => cards.toSorted((a, b) => b - a);
const stateable = fc.option(fc.integer({ min: 1, max: 1_000_000 }), { nil: null });

test("any workload data gets a usable requirement, with a source for every number", () => {
  fc.assert(
    fc.property(anyType, anyData, stateable, stateable, anyCards, (type, data, requiredGpus, minMemoryMib, cards) => {
      const { requirement, sources, notes, memory } = analyzed(
        type,
        data,
        { requiredGpus, minMemoryMib },
        { cards: largestFirst(cards) },
      );
      for (const part of Object.values(memory ?? {})) expect(Number.isSafeInteger(part) && part >= 0).toBe(true);
      expect(Number.isSafeInteger(requirement.gpus) && requirement.gpus >= 1).toBe(true);
      expect(Number.isSafeInteger(requirement.memoryMib) && requirement.memoryMib >= 1).toBe(true);
      expect(Number.isInteger(requirement.priority)).toBe(true);
      expect(requirement.priority >= 1 && requirement.priority <= 10).toBe(true);
      for (const text of [...Object.values(sources), ...notes]) {
        expect(text).not.toMatch(/NaN|Infinity MiB|undefined|null/);
        expect(text.length).toBeLessThan(500);
      }
    }),
    RUNS,
  );
});

test("what the caller states is what comes out, whatever the data says", () => {
  const percent = fc.double({ min: 0, max: 100, noNaN: true });
  const priorities = fc.integer({ min: 1, max: 10 });
  const figures = fc.integer({ min: 1, max: 1_000_000 });
  fc.assert(
    fc.property(anyType, anyData, figures, figures, priorities, percent, (type, data, gpus, mib, priority, busy) => {
      const stated = { requiredGpus: gpus, minMemoryMib: mib, priority, maxUtilizationPercent: busy };
      expect(analyzed(type, data, stated).requirement).toEqual({
        gpus,
        memoryMib: mib,
        priority,
        maxUtilizationPercent: busy,
        maxUtilizationExplicit: true,
      });
    }),
    RUNS,
  );
});

/** Two data that differ in one hint, which is at least as high in the second. */
const raised = fc
  .record({
    model_size: fc.constantFrom(...MODEL_SIZES),
    multi_gpu: fc.boolean(),
    dedicated: fc.boolean(),
    batch_size: anyAmount,
    image_count: anyAmount,
    node_count: anyAmount,
    concurrent_requests: anyAmount,
  })
  .chain((data) =>
    fc
      .oneof(
        fc.tuple(fc.constantFrom(...NUMERIC_KEYS), anyAmount).map(([key, more]) => ({ [key]: data[key] + more })),
        fc.constantFrom(...MODEL_SIZES).map((size) => ({
          model_size: MODEL_SIZES.indexOf(size) > MODEL_SIZES.indexOf(data.model_size) ? size : data.model_size,
        })),
        fc.constantFrom({ multi_gpu: true }, { dedicated: true }),
      )
      .map((change) => ({ less: data, more: { ...data, ...change } })),
  )
  // No size at all is the default, which may lie above `small`.
  .filter(({ less, more }) => (less.model_size === undefined) === (more.model_size === undefined))
  .map(({ less, more }) => ({ less: json(less), more: json(more) }));

function json(data: { [key: string]: JsonValue | undefined }): JsonObject {
  const entries = Object.entries(data).filter(([, value]) => value !== undefined && value !== Number.POSITIVE_INFINITY);
  return Object.fromEntries(entries) as JsonObject;
}

test("a higher size, concurrency, model size or flag never lowers GPUs, memory or priority", () => {
  fc.assert(
    fc.property(anyType, raised, (type, { less, more }) => {
      const low = analyzed(type, less).requirement;
      const high = analyzed(type, more).requirement;
      expect(high.gpus).toBeGreaterThanOrEqual(low.gpus);
      expect(high.memoryMib).toBeGreaterThanOrEqual(low.memoryMib);
      expect(high.priority).toBeGreaterThanOrEqual(low.priority);
    }),
    RUNS,
  );
});

test("naming a model never lowers GPUs or memory below what the rules give without it", () => {
  fc.assert(
    fc.property(anyType, raised, fc.constantFrom(...MODEL_NAMES), (type, { more }, model) => {
      const without = analyzed(type, more).requirement;
      const named = analyzed(type, { ...more, model }).requirement;
      expect(named.gpus).toBeGreaterThanOrEqual(without.gpus);
      expect(named.memoryMib).toBeGreaterThanOrEqual(without.memoryMib);
    }),
    RUNS,
  );
});

test("for a named model, more concurrency or context never lowers the GPUs, nor the memory on stated GPUs", () => {
  const sizes = fc.record({ concurrent_requests: fc.nat(2_000), max_model_len: fc.integer({ min: 1, max: 200_000 }) });
  const extra = fc.record({ concurrent_requests: fc.nat(2_000), max_model_len: fc.nat(200_000) });
  const gpus = fc.integer({ min: 1, max: 64 });
  fc.assert(
    fc.property(anyType, fc.constantFrom(...MODEL_NAMES), sizes, extra, gpus, (type, model, size, add, stated) => {
      const less = { model, ...size };
      const more = {
        model,
        concurrent_requests: size.concurrent_requests + add.concurrent_requests,
        max_model_len: size.max_model_len + add.max_model_len,
      };
      expect(analyzed(type, more).requirement.gpus).toBeGreaterThanOrEqual(analyzed(type, less).requirement.gpus);
      const on = { requiredGpus: stated };
      expect(analyzed(type, more, on).requirement.memoryMib).toBeGreaterThanOrEqual(
        analyzed(type, less, on).requirement.memoryMib,
      );
    }),
    RUNS,
  );
});

test("the built-in defaults cover every type, so no ask is without a figure", () => {
  expect(Object.keys(WORKLOAD_DEFAULTS).toSorted()).toEqual([...WORKLOAD_TYPES].toSorted());
});

test("any model_config is read or refused in words, and no figure that follows is negative or absurd", () => {
  fc.assert(
    fc.property(anyType, anyConfig, (type, config) => {
      const read = readConfig(config);
      if (isReadable(read)) {
        for (const figure of [read.parameters.linear, read.parameters.other, read.unloadedParameters, read.heads]) {
          expect(Number.isFinite(figure) && figure >= 0).toBe(true);
        }
      } else {
        expect(read.problem.length).toBeGreaterThan(0);
      }
      const { requirement } = analyzed(type, { model_config: config });
      expect(Number.isSafeInteger(requirement.memoryMib) && requirement.memoryMib >= 1).toBe(true);
      expect(requirement.gpus).toBeGreaterThanOrEqual(1);
    }),
    RUNS,
  );
});

test("every part of a model's memory grows with each size it depends on", () => {
  const base = fc.record({
    hidden_size: fc.integer({ min: 1, max: 8_192 }),
    num_hidden_layers: fc.integer({ min: 1, max: 100 }),
    num_attention_heads: fc.integer({ min: 1, max: 64 }),
    num_key_value_heads: fc.integer({ min: 1, max: 64 }),
    head_dim: fc.integer({ min: 1, max: 256 }),
    intermediate_size: fc.integer({ min: 1, max: 32_768 }),
    vocab_size: fc.integer({ min: 1, max: 200_000 }),
  });
  const field = fc.constantFrom("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads");
  const further = fc.constantFrom("head_dim", "intermediate_size", "vocab_size");
  fc.assert(
    fc.property(anyType, base, fc.oneof(field, further), fc.nat(1_000), (type, less, key, add) => {
      const parts = (config: typeof less) =>
        analyzed(type, { model_config: { ...config } }, { requiredGpus: 1 }).memory;
      const [low, high] = [parts(less), parts({ ...less, [key]: less[key] + add })];
      for (const part of Object.keys(low ?? {}) as (keyof NonNullable<typeof low>)[]) {
        expect(high?.[part], part).toBeGreaterThanOrEqual(low?.[part] ?? 0);
      }
    }),
    RUNS,
  );
});

test("so does every part of a model with recurrent layers, and its cache with the context", () => {
  const size = fc.integer({ min: 1, max: 256 });
  const sizes = fc.record({
    ...{ hidden_size: size, num_attention_heads: size, num_key_value_heads: size, head_dim: size, vocab_size: size },
    ...{ mamba_n_heads: size, mamba_d_head: size, mamba_d_state: size, mamba_n_groups: size, mamba_d_conv: size },
    ...{ linear_num_key_heads: size, linear_num_value_heads: size, linear_key_head_dim: size },
    ...{ linear_value_head_dim: size, linear_conv_kernel_dim: size, intermediate_size: size },
  });
  const layers = fc.array(fc.constantFrom("full_attention", "mamba", "linear_attention", "conv"), {
    minLength: 1,
    maxLength: 12,
  });
  fc.assert(
    fc.property(anyType, sizes, layers, fc.nat(20), fc.nat(500), (type, less, kinds, which, add) => {
      const parts = (config: typeof less, context: number) => {
        const model = { model_type: "granitemoehybrid", ...config };
        const model_config = { ...model, num_hidden_layers: kinds.length, layer_types: kinds };
        return analyzed(type, { model_config, context_length: context }, { requiredGpus: 1 }).memory;
      };
      const key = Object.keys(less)[which % Object.keys(less).length] as keyof typeof less;
      const low = parts(less, 100);
      for (const high of [parts({ ...less, [key]: less[key] + add }, 100), parts(less, 100 + add)]) {
        expect(low).not.toBeNull();
        for (const part of Object.keys(low ?? {}) as (keyof NonNullable<typeof low>)[]) {
          expect(high?.[part], `${part} by ${key}`).toBeGreaterThanOrEqual(low?.[part] ?? 0);
        }
      }
    }),
    RUNS,
  );
});

test("on more or larger GPUs of the host a model that is served fits on no more of them", () => {
  const card = fc.integer({ min: 8_000, max: 200_000 });
  fc.assert(
    fc.property(
      fc.constantFrom(...MODEL_NAMES),
      card,
      fc.integer({ min: 1, max: 8 }),
      fc.nat(100_000),
      (model, mib, count, add) => {
        const gpus = (cards: readonly number[]) => analyzed("inference", { model }, {}, { cards: largestFirst(cards) });
        const few = gpus(new Array<number>(count).fill(mib));
        const many = gpus(new Array<number>(count + 1).fill(mib + add));
        const fits = (analysis: typeof few, cards: number, size: number) =>
          analysis.requirement.gpus <= cards && analysis.requirement.memoryMib <= size;
        if (!fits(few, count, mib)) return;
        expect(fits(many, count + 1, mib + add)).toBe(true);
        expect(many.requirement.gpus).toBeLessThanOrEqual(few.requirement.gpus);
      },
    ),
    RUNS,
  );
});

test("neither what was seen nor what is recommended asks for what the host does not have or beats what is stated", () => {
  const advice = fc.record({
    from: fc.constant("an advisor"),
    gpus: fc.option(fc.integer({ min: -5, max: 100_000 }), { nil: null }),
    memoryMib: fc.option(fc.integer({ min: -5, max: 10_000_000 }), { nil: null }),
    priority: fc.option(fc.integer({ min: 1, max: 10 }), { nil: null }),
  });
  const observed = fc.option(
    fc.record({ memoryMib: fc.integer({ min: 1, max: 1e6 }), runs: fc.nat(50), counts: fc.boolean() }),
    {
      nil: null,
    },
  );
  const cards = fc.array(fc.integer({ min: 8_192, max: 200_000 }), { minLength: 1, maxLength: 9 });
  fc.assert(
    fc.property(
      anyType,
      cards,
      observed,
      fc.option(advice, { nil: null }),
      stateable,
      (type, here, seen, said, mib) => {
        const known = { observed: seen, advice: said };
        const { requirement } = analyzed(type, {}, { minMemoryMib: mib }, { cards: largestFirst(here) }, known);
        const large = here.filter((size) => size >= requirement.memoryMib).length;
        if (mib === null) expect(large).toBeGreaterThanOrEqual(requirement.gpus);
        else expect(requirement.memoryMib).toBe(mib);
      },
    ),
    RUNS,
  );
});
