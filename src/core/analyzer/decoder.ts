/**
 * Language models: a stack of attention and feed-forward layers between an embedding and an output projection.
 *
 * Field names are those of `config.json`; which families differ in what was read from huggingface/transformers
 * (`src/transformers/models/*`). Unknown families are taken to be built like Llama.
 */
import type { Architecture, CacheLayers } from "./architecture.ts";
import { type Fields, UnreadableConfig } from "./fields.ts";
import { frozen, linear, NONE, other, type ParameterCount, repeat, sum, total } from "./parameters.ts";

const GEMMAS: ReadonlySet<string> = new Set(["gemma", "gemma2", "gemma3", "gemma3_text"]);
/** Their `config.json` leaves `tie_word_embeddings` out when it is true. */
const TIED_BY_DEFAULT: ReadonlySet<string> = new Set([...GEMMAS, "gpt2", "starcoder2", "smollm3", "cohere"]);
/** Biases on queries, keys and values although no field says so. */
const QKV_BIAS: ReadonlySet<string> = new Set([
  ...["qwen2", "qwen2_moe", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"],
]);
/** A norm over each head's queries and one over its keys. */
const HEAD_NORMS: ReadonlySet<string> = new Set([
  ...["qwen3", "qwen3_moe", "qwen3_vl_text", "qwen3_vl_moe_text", "gemma3", "gemma3_text"],
]);
/** The same over all heads together. */
const WIDE_NORMS: ReadonlySet<string> = new Set(["olmo2", "minimax_m2"]);
const FOUR_NORMS: ReadonlySet<string> = new Set(["gemma2", "gemma3", "gemma3_text"]);
/** Two matrices in the feed-forward instead of three. */
const UNGATED: ReadonlySet<string> = new Set(["gpt2", "gpt_neox", "phi", "starcoder2", "opt", "falcon"]);
/** Layers of both kinds alternate unless a field says otherwise; each that many-th one keeps all. */
const PATTERN: Readonly<Record<string, number>> = { gemma2: 2, gemma3: 6, gemma3_text: 6 };
/** Llama 4: layers whose attention has no position are those that keep all. */
const LLAMA_4_PATTERN = 4;

interface Widths {
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly layers: number;
}

export function decoder(fields: Fields, family: string): Architecture {
  const hidden = fields.count("hidden_size", "n_embd", "d_model");
  const heads = fields.count("num_attention_heads", "n_head");
  const layers = fields.count("num_hidden_layers", "n_layer");
  const vocabSize = fields.count("vocab_size");
  const widths: Widths = {
    hidden,
    heads,
    layers,
    kvHeads: fields.maybe("num_key_value_heads") ?? heads,
    headDim: fields.maybe("head_dim") ?? Math.max(1, Math.floor(hidden / heads)),
  };
  if (widths.kvHeads === 0) throw new UnreadableConfig("num_key_value_heads is 0");

  const attention = attentionOf(fields, family, widths);
  const dense = feedForwardOf(fields, family, hidden);
  const sparse = expertsOf(fields, family, hidden);
  const sparseLayers = sparse === null ? 0 : sparseLayersOf(fields, layers);
  const norms = other(hidden * (FOUR_NORMS.has(family) ? 4 : family === "olmo" ? 0 : 2));
  const stack = sum(
    repeat(sum(attention, norms), layers),
    repeat(dense, layers - sparseLayers),
    repeat(sparse ?? NONE, sparseLayers),
  );
  const embedding = vocabSize * hidden;
  const isTied = fields.flagOr("tie_word_embeddings", TIED_BY_DEFAULT.has(family));
  const predictors = fields.maybe("num_nextn_predict_layers") ?? 0;
  const predictor = sum(
    attention,
    sparse ?? dense,
    other(5 * hidden),
    linear(2 * hidden, hidden),
    other(2 * embedding),
  );
  return {
    kind: "decoder",
    parameters: sum(stack, other(embedding * (isTied ? 1 : 2) + hidden)),
    tiedParameters: isTied ? embedding : 0,
    unloadedParameters: predictors * total(predictor),
    cache: cacheOf(fields, family, widths),
    heads,
    hiddenSize: hidden,
    widest: fields.maybe("intermediate_size") ?? 4 * hidden,
    layers,
    vocabSize,
    positions: 0,
  };
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
  return sum(
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
  const width = fields.maybe("intermediate_size_mlp", "intermediate_size", "n_inner", "ffn_dim") ?? 4 * hidden;
  return feedForward(hidden, width, UNGATED.has(family) ? 2 : 3);
}

function feedForward(hidden: number, width: number, matrices: number): ParameterCount {
  return sum(repeat(linear(hidden, width), matrices - 1), linear(width, hidden));
}

/** One layer's experts, all of which are in memory, with those that every token passes and the router; `null`: none. */
function expertsOf(fields: Fields, family: string, hidden: number): ParameterCount | null {
  const experts = fields.maybe("n_routed_experts", "num_experts", "num_local_experts") ?? 0;
  if (experts === 0) return null;
  const width = fields.maybe("moe_intermediate_size") ?? fields.count("intermediate_size");
  const perShared = fields.maybe("shared_expert_intermediate_size");
  const shared =
    perShared ??
    width * (fields.maybe("n_shared_experts") ?? (family === "llama4_text" || family === "llama4" ? 1 : 0));
  const biases = family === "gpt_oss" ? experts * (2 * width + hidden) + experts : 0;
  return sum(
    frozen(repeat(feedForward(hidden, width, 3), experts)),
    shared === 0 ? NONE : frozen(feedForward(hidden, shared, 3)),
    other(hidden * experts + biases),
  );
}

function sparseLayersOf(fields: Fields, layers: number): number {
  const first = Math.min(layers, fields.maybe("first_k_dense_replace") ?? 0);
  const step = Math.max(1, fields.maybe("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq") ?? 1);
  const dense = new Set(fields.numbers("mlp_only_layers"));
  let sparse = 0;
  for (let layer = first; layer < layers; layer++) if ((layer + 1) % step === 0 && !dense.has(layer)) sparse++;
  return sparse;
}

function cacheOf(fields: Fields, family: string, { kvHeads, headDim, layers }: Widths): CacheLayers[] {
  const latent = isLatent(fields);
  const kept = {
    heads: latent ? 1 : kvHeads,
    valuesPerHead: latent ? fields.count("kv_lora_rank") + fields.count("qk_rope_head_dim") : 2 * headDim,
    fixed: null,
  };
  const windows = windowsOf(fields, family, layers);
  const groups = Map.groupBy(windows, (window) => window);
  return [...groups].map(([window, of]) => ({ ...kept, layers: of.length, window }));
}

/** Of each layer how many tokens it keeps; `null`: all. */
function windowsOf(fields: Fields, family: string, layers: number): readonly (number | null)[] {
  const window = fields.maybe("sliding_window") || (fields.maybe("attention_chunk_size") ?? 0);
  const kinds = fields.list("layer_types");
  const each = Array.from({ length: layers }, (_, layer) => layer);
  if (kinds.length > 0) {
    if (kinds.length !== layers) throw new UnreadableConfig("layer_types is not a kind for each layer");
    return kinds.map((kind) => windowOfKind(String(kind), window));
  }
  if (window === 0 || fields.flagOr("use_sliding_window", true) === false) return each.map(() => null);
  if (fields.has("attention_chunk_size")) {
    return each.map((layer) => ((layer + 1) % LLAMA_4_PATTERN === 0 ? null : window));
  }
  const pattern = fields.maybe("sliding_window_pattern", "_sliding_window_pattern") ?? PATTERN[family] ?? null;
  if (pattern !== null && pattern > 0) return each.map((layer) => ((layer + 1) % pattern === 0 ? null : window));
  const firstWithWindow = fields.has("use_sliding_window") ? (fields.maybe("max_window_layers") ?? 0) : 0;
  return each.map((layer) => (layer >= firstWithWindow ? window : null));
}

function windowOfKind(kind: string, window: number): number | null {
  if (kind === "full_attention") return null;
  if ((kind === "sliding_attention" || kind === "chunked_attention") && window > 0) return window;
  throw new UnreadableConfig(`layers of the kind ${JSON.stringify(kind.slice(0, 40))} are not known here`);
}
