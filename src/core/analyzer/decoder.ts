/**
 * Language models: a stack of attention and feed-forward layers between an embedding and an output projection.
 *
 * Field names are those of `config.json`; which families differ in what was read from huggingface/transformers
 * (`src/transformers/models/*`). Unknown families are taken to be built like Llama.
 */
import type { Architecture, CacheLayers } from "./architecture.ts";
import { type Fields, UnreadableConfig } from "./fields.ts";
import { DELTA_FAMILIES, type Layer, layersOf, type Mixing } from "./layers.ts";
import { frozen, linear, NONE, other, type ParameterCount, repeat, sum, total } from "./parameters.ts";
import { gatedDeltaNet, type Mixer, mamba, mamba2, NO_MIXER, shortConvolution } from "./recurrent.ts";

const GEMMAS: ReadonlySet<string> = new Set(["gemma", "gemma2", "gemma3", "gemma3_text"]);
/** Their `config.json` leaves `tie_word_embeddings` out when it is true. */
const TIED_BY_DEFAULT: ReadonlySet<string> = new Set([
  ...GEMMAS,
  ...["gpt2", "starcoder2", "smollm3", "cohere", "mamba", "lfm2"],
]);
/** Biases on queries, keys and values although no field says so. */
const QKV_BIAS: ReadonlySet<string> = new Set([
  ...["qwen2", "qwen2_moe", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"],
]);
/** A norm over each head's queries and one over its keys. */
const HEAD_NORMS: ReadonlySet<string> = new Set([
  ...["qwen3", "qwen3_moe", "qwen3_vl_text", "qwen3_vl_moe_text", "gemma3", "gemma3_text", "lfm2"],
  ...DELTA_FAMILIES,
]);
/** The same over all heads together. */
const WIDE_NORMS: ReadonlySet<string> = new Set(["olmo2", "minimax_m2"]);
const FOUR_NORMS: ReadonlySet<string> = new Set(["gemma2", "gemma3", "gemma3_text"]);
/** Two matrices in the feed-forward instead of three. */
const UNGATED: ReadonlySet<string> = new Set(["gpt2", "gpt_neox", "phi", "starcoder2", "opt", "falcon", "nemotron_h"]);
/** Families whose attention has a gate as wide as its queries. */
const GATED_ATTENTION = DELTA_FAMILIES;
/**
 * States of recurrent layers are kept in fp32 whatever the KV cache is kept in: by llama.cpp, and by what Qwen3-Next's
 * and Nemotron-H's own configurations say. An engine that keeps them in 16 bit takes half of it.
 */
const STATE_BYTES = 4;

interface Widths {
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

export function decoder(fields: Fields, family: string): Architecture {
  const hidden = fields.count("hidden_size", "n_embd", "d_model");
  const count = fields.count("num_hidden_layers", "n_layer");
  const sparse = expertsOf(fields, family, hidden);
  const layers = layersOf(fields, family, count, sparse !== null);
  const hasAttention = layers.some(({ mixing }) => mixing === "attention");
  const heads = hasAttention ? fields.count("num_attention_heads", "n_head") : 1;
  const vocabSize = fields.count("vocab_size");
  const widths: Widths = {
    hidden,
    heads,
    kvHeads: fields.maybe("num_key_value_heads") ?? heads,
    headDim: fields.maybe("head_dim") ?? Math.max(1, Math.floor(hidden / heads)),
  };
  if (widths.kvHeads === 0) throw new UnreadableConfig("num_key_value_heads is 0");

  const mixers = mixersOf(layers, fields, family, widths);
  const attention = mixers.get("attention")?.parameters ?? NONE;
  const dense = feedForwardOf(fields, family, hidden);
  const parts = { dense, experts: sparse ?? NONE, none: NONE };
  const norms = (layer: Layer) => other(hidden * normsOf(layer, family));
  const stack = sum(
    ...layers.map((layer) => sum(mixers.get(layer.mixing)?.parameters ?? NONE, parts[layer.feedForward], norms(layer))),
  );
  const embedding = vocabSize * hidden;
  const isTied = fields.flagOr("tie_word_embeddings", TIED_BY_DEFAULT.has(family));
  // Qwen3-Next's says nothing of its own, and it shares the embeddings.
  const named = fields.maybe("num_nextn_predict_layers", "mtp_num_hidden_layers");
  const predictors = named ?? (family === "qwen3_next" ? 1 : 0);
  const apart = DELTA_FAMILIES.has(family) ? 0 : 2 * embedding;
  const predictor = sum(attention, sparse ?? dense, other(5 * hidden), linear(2 * hidden, hidden), other(apart));
  return {
    kind: "decoder",
    parameters: sum(stack, other(embedding * (isTied ? 1 : 2) + hidden)),
    tiedParameters: isTied ? embedding : 0,
    unloadedParameters: predictors * total(predictor),
    cache: cacheOf(fields, layers, mixers, widths),
    heads: splitOf(layers, mixers, heads),
    hiddenSize: hidden,
    widest: fields.maybe("intermediate_size") ?? 4 * hidden,
    layers: count,
    vocabSize,
    positions: 0,
  };
}

/** Heads that a tensor-parallel degree must divide: those of attention, else those of the recurrent layers. */
function splitOf(layers: readonly Layer[], mixers: ReadonlyMap<Mixing, Mixer>, heads: number): number {
  const [first] = layers;
  const hasAttention = layers.some(({ mixing }) => mixing === "attention");
  return hasAttention || first === undefined ? heads : (mixers.get(first.mixing)?.heads ?? 1);
}

function normsOf({ mixing, feedForward }: Layer, family: string): number {
  if (FOUR_NORMS.has(family)) return 4;
  if (family === "olmo") return 0;
  return mixing === "none" || feedForward === "none" ? 1 : 2;
}

/** Of each kind of layer that there is. */
function mixersOf(
  layers: readonly Layer[],
  fields: Fields,
  family: string,
  widths: Widths,
): ReadonlyMap<Mixing, Mixer> {
  const { hidden } = widths;
  const make: Readonly<Record<Mixing, () => Mixer>> = {
    attention: () => ({ parameters: attentionOf(fields, family, widths), heads: widths.heads, state: 0 }),
    delta: () => gatedDeltaNet(fields, hidden),
    mamba: () => mamba(fields, family, hidden),
    mamba2: () => mamba2(fields, hidden),
    convolution: () => shortConvolution(fields, hidden),
    none: () => NO_MIXER,
  };
  return new Map([...new Set(layers.map(({ mixing }) => mixing))].map((mixing) => [mixing, make[mixing]()]));
}

function isLatent(fields: Fields): boolean {
  return (fields.maybe("kv_lora_rank") ?? 0) > 0;
}

function attentionOf(fields: Fields, family: string, widths: Widths): ParameterCount {
  const { hidden, heads, kvHeads, headDim } = widths;
  if (isLatent(fields)) return latentAttention(fields, hidden, heads);
  const bias = fields.flag("attention_bias") || fields.flag("qkv_bias");
  const onInputs = bias || QKV_BIAS.has(family);
  const norms = HEAD_NORMS.has(family) ? 2 * headDim : WIDE_NORMS.has(family) ? (heads + kvHeads) * headDim : 0;
  // gpt-oss learns where each head's attention goes when it is needed nowhere.
  const sinks = family === "gpt_oss" ? heads : 0;
  const gate = GATED_ATTENTION.has(family) ? linear(hidden, heads * headDim, onInputs) : NONE;
  return sum(
    gate,
    linear(hidden, heads * headDim, onInputs),
    repeat(linear(hidden, kvHeads * headDim, onInputs), 2),
    linear(heads * headDim, hidden, bias && !fields.flag("qkv_bias")),
    other(norms + sinks),
  );
}

/** DeepSeek-V2's multi-head latent attention (arXiv 2405.04434, section 2.1). */
function latentAttention(fields: Fields, hidden: number, heads: number): ParameterCount {
  const rank = fields.count("kv_lora_rank");
  const rope = fields.count("qk_rope_head_dim");
  const nope = fields.count("qk_nope_head_dim");
  const values = fields.count("v_head_dim");
  const queryRank = fields.maybe("q_lora_rank") ?? 0;
  const queries =
    queryRank === 0
      ? linear(hidden, heads * (nope + rope))
      : sum(linear(hidden, queryRank), other(queryRank), linear(queryRank, heads * (nope + rope)));
  return sum(
    queries,
    linear(hidden, rank + rope),
    other(rank),
    linear(rank, heads * (nope + values)),
    linear(heads * values, hidden),
  );
}

function feedForwardOf(fields: Fields, family: string, hidden: number): ParameterCount {
  const width = widthOf(fields, family) ?? 4 * hidden;
  return feedForward(hidden, width, UNGATED.has(family) ? 2 : 3);
}

function widthOf(fields: Fields, family: string): number | null {
  if (family === "granitemoehybrid") return fields.maybe("shared_intermediate_size");
  const adjusted = family === "lfm2" ? fields.maybe("block_ff_dim") : null;
  if (adjusted === null) return fields.maybe("intermediate_size_mlp", "intermediate_size", "n_inner", "ffn_dim");
  if (!fields.flagOr("block_auto_adjust_ff_dim", true)) return adjusted;
  const multiple = Math.max(1, fields.maybe("block_multiple_of") ?? 256);
  return Math.ceil(Math.floor((2 * adjusted) / 3) / multiple) * multiple;
}

function feedForward(hidden: number, width: number, matrices: number): ParameterCount {
  return sum(repeat(linear(hidden, width), matrices - 1), linear(width, hidden));
}

/** One layer's experts, all of which are in memory, with those that every token passes and the router; `null`: none. */
function expertsOf(fields: Fields, family: string, hidden: number): ParameterCount | null {
  const experts = fields.maybe("n_routed_experts", "num_experts", "num_local_experts") ?? 0;
  if (experts === 0) return null;
  const width = fields.maybe("moe_intermediate_size") ?? fields.count("intermediate_size");
  const perShared = fields.maybe(
    ...["shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size"],
  );
  const shared =
    perShared ??
    width * (fields.maybe("n_shared_experts") ?? (family === "llama4_text" || family === "llama4" ? 1 : 0));
  const matrices = UNGATED.has(family) ? 2 : 3;
  // Qwen weighs what its shared expert says.
  const gate = fields.has("shared_expert_intermediate_size") ? hidden : 0;
  const biases = family === "gpt_oss" ? experts * (2 * width + hidden) + experts : 0;
  return sum(
    frozen(repeat(feedForward(hidden, width, matrices), experts)),
    shared === 0 ? NONE : frozen(feedForward(hidden, shared, matrices)),
    other(hidden * experts + biases + gate),
  );
}

function cacheOf(
  fields: Fields,
  layers: readonly Layer[],
  mixers: ReadonlyMap<Mixing, Mixer>,
  { kvHeads, headDim }: Widths,
): CacheLayers[] {
  const latent = isLatent(fields);
  const kept = {
    heads: latent ? 1 : kvHeads,
    valuesPerHead: latent ? fields.count("kv_lora_rank") + fields.count("qk_rope_head_dim") : 2 * headDim,
    fixed: null,
    bytesPerValue: null,
  };
  const groups = Map.groupBy(layers, ({ mixing, window }) => (mixing === "attention" ? window : mixing));
  return [...groups].flatMap(([group, { length }]): CacheLayers[] => {
    if (group === null || typeof group === "number") return [{ ...kept, layers: length, window: group }];
    const { heads, state } = mixers.get(group) ?? NO_MIXER;
    if (state === 0) return [];
    const one = { layers: length, heads, valuesPerHead: state / heads, window: null };
    return [{ ...one, fixed: 1, bytesPerValue: STATE_BYTES }];
  });
}
