import { describe, expect, test } from "vitest";
import type { Architecture } from "../../../src/core/analyzer/architecture.ts";
import { findModel } from "../../../src/core/analyzer/catalogue.ts";
import { BF16, findWeightFormat, NF4, type WeightFormat } from "../../../src/core/analyzer/formats.ts";
import {
  adapterParameters,
  GIB,
  kvBytesPerToken,
  kvCacheBytes,
  MIB,
  MIXED,
  MIXED_BF16_GRADIENTS,
  mibOf,
  PURE_BF16,
  servingParts,
  type Training,
  tensorParallelSizes,
  totalBytes,
  trainingActivationBytes,
  trainingParts,
  weightBytes,
} from "../../../src/core/analyzer/memory.ts";
import { parseModelName } from "../../../src/core/analyzer/parse-name.ts";
import { isReadable, readConfig } from "../../../src/core/analyzer/read-config.ts";
import type { JsonObject } from "../../../src/core/base/json.ts";

function modelOf(name: string): Architecture {
  const entry = findModel(parseModelName(name).canonical);
  if (entry === null) throw new Error(`${name} is not in the catalogue`);
  return entry.architecture;
}

function formatOf(name: string): WeightFormat {
  const format = findWeightFormat(name);
  if (format === null) throw new Error(`${name} is no format`);
  return format;
}

function architecture(config: JsonObject): Architecture {
  const read = readConfig(config);
  if (!isReadable(read)) throw new Error(read.problem);
  return read;
}

/** Small enough to count: 2 layers, hidden 8, 4 heads of 2, 2 of them for keys and values, 16 in between, 10 words. */
const TINY: JsonObject = {
  model_type: "llama",
  hidden_size: 8,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 16,
  vocab_size: 10,
};

describe("parameters by hand", () => {
  test("linear layers and the rest are counted apart", () => {
    // Per layer: queries 8*8, keys and values 2*8*4, output 8*8, feed-forward 3*8*16.
    const linear = 2 * (64 + 64 + 64 + 384);
    // Embedding and output projection 2*10*8, two norms a layer and a last one.
    expect(architecture(TINY).parameters).toMatchObject({ linear, other: 160 + 2 * 16 + 8 });
  });

  test("a tied projection, experts, biases and head norms change what they should", () => {
    const base = architecture(TINY).parameters;
    const tied = architecture({ ...TINY, tie_word_embeddings: true });
    expect(tied.parameters.other).toBe(base.other - 80);
    expect(tied.tiedParameters).toBe(80);
    expect(architecture({ ...TINY, num_local_experts: 3 }).parameters).toMatchObject({
      linear: base.linear + 2 * 2 * 384,
      other: base.other + 2 * 8 * 3,
    });
    expect(architecture({ ...TINY, model_type: "qwen2" }).parameters.other).toBe(base.other + 2 * (8 + 4 + 4));
    expect(architecture({ ...TINY, model_type: "qwen3" }).parameters.other).toBe(base.other + 2 * 4);
  });

  test("of a mixture of experts, the layers that have none are counted as such", () => {
    const sparse = { ...TINY, n_routed_experts: 4, moe_intermediate_size: 2, n_shared_experts: 1 };
    // Per sparse layer five experts of 3*8*2 instead of 3*8*16.
    expect(architecture({ ...sparse, first_k_dense_replace: 1 }).parameters.linear).toBe(
      architecture(TINY).parameters.linear - 384 + 5 * 48,
    );
  });

  test("layers that predict further tokens are in the file and not in memory", () => {
    expect(architecture({ ...TINY, num_nextn_predict_layers: 1 }).unloadedParameters).toBeGreaterThan(0);
    expect(architecture({ ...TINY, num_nextn_predict_layers: 1 }).parameters).toEqual(architecture(TINY).parameters);
  });

  test("an unreadable configuration says which field is missing or wrong", () => {
    expect(readConfig({})).toEqual({ problem: "hidden_size is missing" });
    expect(readConfig({ ...TINY, num_hidden_layers: -1 })).toEqual({
      problem: "num_hidden_layers is not a whole number from 0 to 16777216",
    });
    expect(readConfig({ ...TINY, layer_types: ["full_attention", "rwkv"] })).toEqual({
      problem: 'layers of the kind "rwkv" are not known here',
    });
    // Falcon-H1 has both kinds in each layer: taken for a Llama it would seem to need too little.
    expect(readConfig({ ...TINY, mamba_d_ssm: 16 })).toEqual({
      problem: "layers as mamba_d_ssm describes them are not known here",
    });
    expect(readConfig({ ...TINY, hybrid_override_pattern: "M" })).toEqual({
      problem: "hybrid_override_pattern is not a character for each layer",
    });
  });
});

/** Nemotron 3 Nano, with layers of experts alone: the total that its safetensors state. */
const NEMOTRON_3_NANO: JsonObject = {
  ...{ model_type: "nemotron_h", hidden_size: 2688, num_hidden_layers: 52, vocab_size: 131_072 },
  hybrid_override_pattern: "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
  ...{ num_attention_heads: 32, num_key_value_heads: 2, head_dim: 128, intermediate_size: 1856 },
  ...{ mamba_num_heads: 64, mamba_head_dim: 64, ssm_state_size: 128, n_groups: 8, conv_kernel: 4 },
  ...{ n_routed_experts: 128, n_shared_experts: 1, moe_intermediate_size: 1856 },
  ...{ moe_shared_expert_intermediate_size: 3712, tie_word_embeddings: false },
};
const LFM2: JsonObject = {
  ...{ model_type: "lfm2", hidden_size: 2048, num_hidden_layers: 16, vocab_size: 65_536 },
  ...{ num_attention_heads: 32, num_key_value_heads: 8, block_ff_dim: 12_288, conv_L_cache: 3 },
  full_attn_idxs: [2, 5, 8, 10, 12, 14],
};
const MAMBA: JsonObject = {
  ...{ model_type: "mamba", hidden_size: 2560, num_hidden_layers: 64, state_size: 16, conv_kernel: 4 },
  ...{ expand: 2, time_step_rank: 160, vocab_size: 50_280 },
};
const FALCON_MAMBA: JsonObject = {
  ...{ model_type: "falcon_mamba", hidden_size: 4096, intermediate_size: 8192, num_hidden_layers: 64 },
  ...{ state_size: 16, conv_kernel: 4, time_step_rank: 256, vocab_size: 65_024, tie_word_embeddings: false },
};

describe("recurrent layers", () => {
  test.each([
    ["Nemotron 3 Nano", NEMOTRON_3_NANO, 31_577_937_344],
    ["LFM2 1.2B", LFM2, 1_170_340_608],
    ["Mamba 2.8B", MAMBA, 2_768_345_600],
    ["Falcon Mamba 7B", FALCON_MAMBA, 7_272_665_088],
  ])("%s has the published number of parameters", (_, config, published) => {
    const { linear, other } = architecture(config).parameters;
    expect(linear + other).toBe(published);
  });

  test("keep as much of a sequence whatever its length, in fp32, and split by their heads", () => {
    const { cache } = architecture(MAMBA);
    const state = 64 * 5120 * (16 + 3) * 4;
    for (const tokens of [1, 100_000]) expect(kvCacheBytes(cache, 1, tokens, 3, 2)).toBe((3 * state) / 2);
  });

  test("of a hybrid only the layers with attention keep tokens", () => {
    const { cache } = modelOf("Qwen3-Next-80B-A3B-Instruct");
    const attention = 12 * 2 * 2 * 256;
    expect(kvCacheBytes(cache, 2, 1001, 1, 1) - kvCacheBytes(cache, 2, 1, 1, 1)).toBe(1000 * attention * 2);
    // llama.cpp shows 75.38 MiB for one sequence: 72 of the delta nets and 3.38 of their convolutions.
    expect(kvCacheBytes(cache, 2, 0, 1, 1) / MIB).toBe(75.375);
  });

  test("a model without attention is split by what it has", () => {
    expect(architecture({ ...MAMBA }).heads).toBe(5120);
    expect(architecture(LFM2).heads).toBe(32);
  });
});

describe("weights", () => {
  test("a quantisation applies to the linear layers, a GGUF type and fp32 to the whole file", () => {
    const count = { linear: 1000, other: 100, adaptable: 0 };
    expect(weightBytes(count, BF16)).toBe(2200);
    expect(weightBytes(count, formatOf("fp8"))).toBe(1200);
    expect(weightBytes(count, formatOf("awq"))).toBeCloseTo(519.53125 + 200, 6);
    expect(weightBytes(count, NF4)).toBe(562.5 + 200);
    expect(weightBytes(count, formatOf("fp32"))).toBe(4400);
    expect(weightBytes(count, formatOf("q8_0"))).toBeCloseTo((1100 * 8.5008) / 8, 6);
  });

  test("Llama 3.1 8B as Q4_K_M is the 4.58 GiB that llama.cpp measured", () => {
    expect(weightBytes(modelOf("Llama-3.1-8B").parameters, formatOf("Q4_K_M")) / GIB).toBeCloseTo(4.58, 2);
  });
});

describe("the KV cache", () => {
  test("of Qwen3 follows head_dim, not hidden / heads, which would halve it", () => {
    expect(kvBytesPerToken(modelOf("Qwen3-0.6B").cache, 2)).toBe(2 * 28 * 8 * 128 * 2);
    expect(kvBytesPerToken(modelOf("Qwen3-8B").cache, 2)).toBe(144 * 1024);
  });

  test("of a latent attention is one vector a layer, and is on every GPU", () => {
    const { cache } = modelOf("deepseek-ai/DeepSeek-V3");
    expect(kvBytesPerToken(cache, 2)).toBe(61 * (512 + 64) * 2);
    expect(kvCacheBytes(cache, 2, 1000, 1, 8)).toBe(kvCacheBytes(cache, 2, 1000, 1, 1));
  });

  test("of sliding-window layers ends at the window", () => {
    const gemma = modelOf("google/gemma-3-27b-it").cache;
    expect(gemma.map(({ layers, window }) => [layers, window])).toEqual([
      [52, 1024],
      [10, null],
    ]);
    const per = 2 * 16 * 128 * 2;
    expect(kvCacheBytes(gemma, 2, 32_768, 1, 1)).toBe(per * (52 * 1024 + 10 * 32_768));
    const half = modelOf("gpt-oss-20b").cache;
    expect(half.map(({ layers, window }) => [layers, window])).toEqual([
      [12, 128],
      [12, null],
    ]);
  });

  test("of Whisper is what it has heard and at most what it may write", () => {
    const { cache } = modelOf("openai/whisper-large-v3");
    expect(kvCacheBytes(cache, 2, 1_000_000, 1, 1)).toBe(32 * 2 * 1280 * 2 * (448 + 1500));
  });

  test("is divided by no more GPUs than there are KV heads, weights by all", () => {
    const model = modelOf("Qwen3-30B-A3B");
    const serving = {
      model,
      weights: weightBytes(model.parameters, BF16),
      kvBytesPerValue: 2,
      tokensPerSequence: 1000,
    };
    const on = (gpus: number) => servingParts({ ...serving, sequences: 10 }, gpus);
    expect(on(2).weights).toBe(on(1).weights / 2);
    expect(on(4).kvCache).toBe(on(1).kvCache / 4);
    expect(on(8).kvCache).toBe(on(4).kvCache);
    expect(on(8).weights).toBe(on(1).weights / 8);
  });

  test("tensor parallelism tries the divisors of the heads, powers of two first", () => {
    expect(tensorParallelSizes(32)).toEqual([1, 2, 4, 8, 16, 32]);
    expect(tensorParallelSizes(28)).toEqual([1, 2, 4, 7, 14, 28]);
    expect(tensorParallelSizes(40)).toEqual([1, 2, 4, 8, 5, 10, 20, 40]);
  });
});

describe("training", () => {
  const TRAINING: Training = {
    parameters: { linear: 900, other: 100, adaptable: 0 },
    method: "full",
    precision: MIXED,
    momentBytes: 8,
    adapters: 0,
    frozen: BF16,
    zeroStage: 3,
    activations: 0,
  };
  const stateBytes = (training: Partial<Training>, gpus = 1) => {
    const parts = trainingParts({ ...TRAINING, ...training }, gpus);
    return totalBytes({ ...parts, overhead: 0 });
  };

  test("with Adam takes 18, 16 or 8 bytes a parameter, and LoRA only for its adapters", () => {
    expect(stateBytes({})).toBe(18_000);
    expect(stateBytes({ precision: MIXED_BF16_GRADIENTS })).toBe(16_000);
    expect(stateBytes({ precision: PURE_BF16 })).toBe(8_000);
    expect(stateBytes({ method: "lora", adapters: 10 })).toBe(2000 + 180);
    expect(stateBytes({ method: "qlora", adapters: 10 })).toBe(900 * 0.5625 + 200 + 180);
  });

  test("takes less with 8-bit moments, and with none", () => {
    expect(stateBytes({ momentBytes: 2 })).toBe(12_000);
    expect(stateBytes({ momentBytes: 0 })).toBe(10_000);
  });

  test("ZeRO 1, 2 and 3 divide the optimizer, the gradients, the weights", () => {
    expect([0, 1, 2, 3].map((zeroStage) => stateBytes({ zeroStage }, 4))).toEqual([18_000, 9_000, 6_000, 4_500]);
  });

  test("keeps a layer's input of every token, and the logits unless the loss comes in parts", () => {
    const model = architecture(TINY);
    expect(trainingActivationBytes(model, 5)).toBe(5 * (2 * 2 * 8 + 10 * 10));
    expect(trainingActivationBytes(model, 5, 4)).toBe(5 * (2 * 2 * 8 + 25));
  });

  test("LoRA's adapters lie on attention and feed-forward, not on experts or a vision tower", () => {
    // Per layer: queries and output 8+8 each, keys and values 8+4 each, feed-forward three times 8+16.
    const perRank = 2 * (16 + 16 + 12 + 12 + 3 * 24);
    expect(adapterParameters(architecture(TINY), 3)).toBe(3 * perRank);
    expect(adapterParameters(architecture({ ...TINY, num_local_experts: 2 }), 1)).toBe(2 * 56);
    expect(adapterParameters(modelOf("Qwen/Qwen2.5-VL-7B-Instruct"), 1)).toBe(
      adapterParameters(modelOf("Qwen/Qwen2.5-7B"), 1),
    );
  });
});

test("MiB are rounded up, so a need is never understated", () => {
  expect(mibOf(1)).toBe(1);
  expect(mibOf(MIB)).toBe(1);
  expect(mibOf(MIB + 1)).toBe(2);
});
