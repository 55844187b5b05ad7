/** Of which kind each layer of a language model is. */
import { type Fields, UnreadableConfig } from "./fields.ts";

/** What a layer makes of the tokens before one. `none`: nothing, it has only a feed-forward. */
export type Mixing = "attention" | "delta" | "mamba" | "mamba2" | "convolution" | "none";

export interface Layer {
  readonly mixing: Mixing;
  /** Of attention: it keeps no more tokens than these; `null`: all. */
  readonly window: number | null;
  readonly feedForward: "dense" | "experts" | "none";
}

/** Layers of both kinds alternate unless a field says otherwise; each that many-th one keeps all. */
const PATTERN: Readonly<Record<string, number>> = { gemma2: 2, gemma3: 6, gemma3_text: 6 };
/** Llama 4: layers whose attention has no position are those that keep all. */
const LLAMA_4_PATTERN = 4;
/** Every fourth layer of these has attention unless a field says otherwise, the others a gated delta net. */
export const DELTA_FAMILIES: ReadonlySet<string> = new Set([
  ...["qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"],
]);
const ATTENTION_INTERVAL = 4;
/** Nothing but recurrent layers, without feed-forward. */
const PURE: Readonly<Record<string, Mixing>> = { mamba: "mamba", falcon_mamba: "mamba", mamba2: "mamba2" };
/** By their names in `layer_types`. */
const RECURRENT_KINDS: Readonly<Record<string, Mixing>> = {
  linear_attention: "delta",
  mamba: "mamba2",
  conv: "convolution",
};
/** Fields of families whose layers are of kinds that are not known here: Falcon-H1, Bamba, MiniMax, Kimi Linear, Griffin. */
const UNKNOWN = ["mamba_d_ssm", "attn_layer_indices", "attn_type_list", "linear_attn_config", "block_types"];
/** A character for each layer of Nemotron-H. */
const PATTERN_KINDS: Readonly<Record<string, Layer>> = {
  M: { mixing: "mamba2", window: null, feedForward: "none" },
  "*": { mixing: "attention", window: null, feedForward: "none" },
  "-": { mixing: "none", window: null, feedForward: "dense" },
  E: { mixing: "none", window: null, feedForward: "experts" },
};
const MAX_LAYERS = 4_096;

/** @param hasExperts whether a layer may be a mixture of experts at all. */
export function layersOf(fields: Fields, family: string, count: number, hasExperts: boolean): readonly Layer[] {
  const unknown = UNKNOWN.find((key) => fields.has(key));
  if (unknown !== undefined) throw new UnreadableConfig(`layers as ${unknown} describes them are not known here`);
  if (count > MAX_LAYERS) throw new UnreadableConfig(`there are more than ${MAX_LAYERS} layers`);
  const pure = Object.hasOwn(PURE, family) ? PURE[family] : undefined;
  if (pure !== undefined) return repeated({ mixing: pure, window: null, feedForward: "none" }, count);
  const pattern = fields.text("hybrid_override_pattern");
  if (pattern !== "") return ofPattern(pattern, count);
  const windows = windowsOf(fields, family, count);
  const mixings = mixingsOf(fields, family, count);
  const sparse = hasExperts ? sparseLayers(fields, count) : new Set<number>();
  return windows.map((window, layer) => ({
    mixing: mixings[layer] ?? "attention",
    window,
    feedForward: sparse.has(layer) ? "experts" : "dense",
  }));
}

function repeated(layer: Layer, count: number): readonly Layer[] {
  return Array.from({ length: count }, () => layer);
}

function ofPattern(pattern: string, count: number): readonly Layer[] {
  if (pattern.length !== count) throw new UnreadableConfig("hybrid_override_pattern is not a character for each layer");
  return [...pattern].map((character) => {
    const layer = Object.hasOwn(PATTERN_KINDS, character) ? PATTERN_KINDS[character] : undefined;
    if (layer === undefined) throw new UnreadableConfig(`hybrid_override_pattern has a layer that is not known here`);
    return layer;
  });
}

function mixingsOf(fields: Fields, family: string, count: number): readonly Mixing[] {
  const kinds = fields.list("layer_types");
  if (kinds.length > 0) return kinds.map((kind) => recurrentKind(kind) ?? "attention");
  const each = Array.from({ length: count }, (_, layer) => layer);
  if (DELTA_FAMILIES.has(family)) {
    const interval = Math.max(1, fields.maybe("full_attention_interval") ?? ATTENTION_INTERVAL);
    return each.map((layer) => ((layer + 1) % interval === 0 ? "attention" : "delta"));
  }
  if (family === "jamba") {
    const period = Math.max(1, fields.maybe("attn_layer_period") ?? 8);
    const offset = fields.maybe("attn_layer_offset") ?? 4;
    return each.map((layer) => (layer % period === offset ? "attention" : "mamba"));
  }
  if (family === "lfm2") {
    const attention = new Set(fields.numbers("full_attn_idxs"));
    return each.map((layer) => (attention.has(layer) ? "attention" : "convolution"));
  }
  return each.map(() => "attention");
}

function recurrentKind(kind: unknown): Mixing | null {
  return typeof kind === "string" && Object.hasOwn(RECURRENT_KINDS, kind) ? (RECURRENT_KINDS[kind] ?? null) : null;
}

function sparseLayers(fields: Fields, count: number): ReadonlySet<number> {
  const first = Math.min(count, fields.maybe("first_k_dense_replace") ?? 0);
  const dense = new Set(fields.numbers("mlp_only_layers"));
  const period = fields.maybe("expert_layer_period");
  const step = Math.max(
    1,
    period ?? fields.maybe("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq") ?? 1,
  );
  const rest = period === null ? step - 1 : (fields.maybe("expert_layer_offset") ?? 1) % step;
  const sparse = new Set<number>();
  for (let layer = first; layer < count; layer++) if (layer % step === rest && !dense.has(layer)) sparse.add(layer);
  return sparse;
}

/** Of each layer how many tokens its attention keeps; `null`: all. */
function windowsOf(fields: Fields, family: string, layers: number): readonly (number | null)[] {
  const window = fields.maybe("sliding_window") || (fields.maybe("attention_chunk_size") ?? 0);
  const kinds = fields.list("layer_types");
  const each = Array.from({ length: layers }, (_, layer) => layer);
  if (kinds.length > 0) {
    if (kinds.length !== layers) throw new UnreadableConfig("layer_types is not a kind for each layer");
    return kinds.map((kind) => (recurrentKind(kind) === null ? windowOfKind(String(kind), window) : null));
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
  if (kind === "full_attention" || kind === "attention") return null;
  if ((kind === "sliding_attention" || kind === "chunked_attention") && window > 0) return window;
  throw new UnreadableConfig(`layers of the kind ${JSON.stringify(kind.slice(0, 40))} are not known here`);
}
