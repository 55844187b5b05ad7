/**
 * Encoders: what reads pictures beside a language model, what turns text into vectors, what hears.
 *
 * Built as in huggingface/transformers (`src/transformers/models/*`); the counts of the catalogue are held against
 * the published ones by a test.
 */
import type { Architecture } from "./architecture.ts";
import type { Fields } from "./fields.ts";
import { convolution, frozen, layerNorm, linear, NONE, other, type ParameterCount, repeat, sum } from "./parameters.ts";

/** Seconds of speech are heard 30 at a time. */
const WHISPER_POSITIONS = 1_500;
const WHISPER_TOKENS = 448;
const RGB = 3;

/** Queries, keys and values: all with a bias, none, or all but the keys, as in Whisper. */
type InputBias = "all" | "none" | "not-keys";

function attention(hidden: number, encoderHidden: number, bias: InputBias): ParameterCount {
  return sum(
    linear(hidden, hidden, bias !== "none"),
    linear(encoderHidden, hidden, bias === "all"),
    linear(encoderHidden, hidden, bias !== "none"),
    linear(hidden, hidden, true),
  );
}

/** Attention and an ungated feed-forward, each with a norm before or behind it. */
function encoderLayer(hidden: number, width: number, bias: InputBias = "all"): ParameterCount {
  return sum(
    attention(hidden, hidden, bias),
    linear(hidden, width, true),
    linear(width, hidden, true),
    repeat(layerNorm(hidden), 2),
  );
}

/** BERT and its kin (RoBERTa, XLM-R): text in, vectors out. */
export function textEncoder(fields: Fields): Architecture {
  const hidden = fields.count("hidden_size");
  const layers = fields.count("num_hidden_layers");
  const width = fields.count("intermediate_size");
  const vocabSize = fields.count("vocab_size");
  const positions = fields.count("max_position_embeddings");
  const rows = vocabSize + positions + (fields.maybe("type_vocab_size") ?? 0);
  return {
    ...ENCODER,
    parameters: sum(
      other(rows * hidden),
      layerNorm(hidden),
      repeat(encoderLayer(hidden, width), layers),
      // The pooler.
      linear(hidden, hidden, true),
    ),
    hiddenSize: hidden,
    widest: width,
    layers,
    vocabSize,
    positions,
  };
}

const ENCODER = {
  kind: "encoder",
  tiedParameters: 0,
  unloadedParameters: 0,
  cache: [],
  heads: 1,
} as const;

/** What a language model sees with, its projector included; trainers leave it frozen. */
export function visionTower(fields: Fields, family: string, textHidden: number): ParameterCount {
  switch (family) {
    case "qwen2_vl":
      return frozen(qwen2Vision(fields, textHidden));
    case "qwen2_5_vl":
      return frozen(qwen25Vision(fields, textHidden));
    case "qwen3_vl":
    case "qwen3_vl_moe":
      return frozen(qwen3Vision(fields, textHidden));
    default:
      return frozen(vitWithProjector(fields, family, textHidden));
  }
}

/** The fields left out of these models' `config.json` are the defaults of transformers' configuration class. */
function qwen2Vision(fields: Fields, textHidden: number): ParameterCount {
  const hidden = fields.maybe("embed_dim") ?? 1_280;
  const depth = fields.maybe("depth") ?? 32;
  const width = hidden * (fields.maybe("mlp_ratio") ?? 4);
  const patch = fields.maybe("patch_size", "spatial_patch_size") ?? 14;
  return sum(
    convolution(RGB, hidden, 2 * patch * patch, false),
    repeat(encoderLayer(hidden, width), depth),
    merger(fields, hidden, textHidden, layerNorm(hidden)),
  );
}

function qwen25Vision(fields: Fields, textHidden: number): ParameterCount {
  const hidden = fields.count("hidden_size");
  const width = fields.maybe("intermediate_size") ?? 3_420;
  const patch = fields.maybe("patch_size", "spatial_patch_size") ?? 14;
  const layer = sum(
    linear(hidden, 3 * hidden, true),
    linear(hidden, hidden, true),
    repeat(linear(hidden, width, true), 2),
    linear(width, hidden, true),
    other(2 * hidden),
  );
  return sum(
    convolution(RGB, hidden, 2 * patch * patch, false),
    repeat(layer, fields.maybe("depth") ?? 32),
    merger(fields, hidden, fields.maybe("out_hidden_size") ?? textHidden, other(hidden)),
  );
}

function qwen3Vision(fields: Fields, textHidden: number): ParameterCount {
  const hidden = fields.count("hidden_size");
  const patch = fields.count("patch_size");
  const out = fields.maybe("out_hidden_size") ?? textHidden;
  const deep = merger(fields, hidden, out, layerNorm(hidden * mergedPatches(fields)));
  return sum(
    convolution(RGB, hidden, (fields.maybe("temporal_patch_size") ?? 2) * patch * patch),
    other((fields.maybe("num_position_embeddings") ?? 0) * hidden),
    repeat(encoderLayer(hidden, fields.count("intermediate_size")), fields.count("depth")),
    merger(fields, hidden, out, layerNorm(hidden)),
    repeat(deep, fields.list("deepstack_visual_indexes").length),
  );
}

function mergedPatches(fields: Fields): number {
  return (fields.maybe("spatial_merge_size") ?? 2) ** 2;
}

/** Neighbouring patches become one token. */
function merger(fields: Fields, hidden: number, out: number, norm: ParameterCount): ParameterCount {
  const merged = hidden * mergedPatches(fields);
  return sum(norm, linear(merged, merged, true), linear(merged, out, true));
}

/** CLIP's or SigLIP's picture side, and the projector of LLaVA, PaliGemma and Gemma 3. */
function vitWithProjector(fields: Fields, family: string, textHidden: number): ParameterCount {
  const hidden = fields.count("hidden_size");
  const isSiglip = fields.text("model_type").startsWith("siglip");
  const projector =
    family === "llava"
      ? sum(linear(hidden, textHidden, true), linear(textHidden, textHidden, true))
      : family === "gemma3"
        ? sum(linear(hidden, textHidden), other(hidden))
        : linear(hidden, textHidden, true);
  const width = fields.count("intermediate_size");
  const patch = fields.count("patch_size");
  const patches = Math.floor((fields.maybe("image_size") ?? 224) / patch) ** 2;
  return sum(
    convolution(RGB, hidden, patch * patch, isSiglip),
    // CLIP has a class token with a position of its own, and a norm before its layers.
    other((patches + (isSiglip ? 0 : 2)) * hidden),
    isSiglip ? NONE : layerNorm(hidden),
    repeat(encoderLayer(hidden, width), fields.count("num_hidden_layers")),
    layerNorm(hidden),
    projector,
  );
}

/** A layer that also attends to what an encoder found, of another width perhaps, with a norm before that. */
function decoderLayer(hidden: number, encoderHidden: number, width: number, bias: InputBias = "all"): ParameterCount {
  return sum(encoderLayer(hidden, width, bias), attention(hidden, encoderHidden, bias), layerNorm(hidden));
}

export function whisper(fields: Fields): Architecture {
  const hidden = fields.count("d_model");
  const decoderLayers = fields.count("decoder_layers");
  const encoderLayers = fields.count("encoder_layers");
  const vocabSize = fields.count("vocab_size");
  const width = fields.count("decoder_ffn_dim");
  const heads = fields.count("decoder_attention_heads");
  const heard = fields.maybe("max_source_positions") ?? WHISPER_POSITIONS;
  const spoken = fields.maybe("max_target_positions") ?? WHISPER_TOKENS;
  const kept = { layers: decoderLayers, heads, valuesPerHead: 2 * Math.floor(hidden / heads), bytesPerValue: null };
  return {
    kind: "speech",
    parameters: sum(
      convolution(fields.count("num_mel_bins"), hidden, 3),
      convolution(hidden, hidden, 3),
      other((heard + spoken) * hidden),
      repeat(encoderLayer(hidden, fields.count("encoder_ffn_dim"), "not-keys"), encoderLayers),
      repeat(decoderLayer(hidden, hidden, width, "not-keys"), decoderLayers),
      repeat(layerNorm(hidden), 2),
      other(vocabSize * hidden),
    ),
    tiedParameters: vocabSize * hidden,
    unloadedParameters: 0,
    cache: [
      { ...kept, window: spoken, fixed: null },
      { ...kept, window: null, fixed: heard },
    ],
    heads: 1,
    hiddenSize: hidden,
    widest: width,
    layers: encoderLayers + decoderLayers,
    vocabSize,
    positions: heard,
  };
}

/** TrOCR: a vision transformer reads a line of text, a decoder writes it. */
export function visionEncoderDecoder(encoder: Fields, decoder: Fields): Architecture {
  const seen = encoder.count("hidden_size");
  const patch = encoder.count("patch_size");
  const patches = Math.floor(encoder.count("image_size") / patch) ** 2 + 1;
  const hidden = decoder.count("d_model");
  const layers = decoder.count("decoder_layers");
  const vocabSize = decoder.count("vocab_size");
  const width = decoder.count("decoder_ffn_dim");
  const heads = decoder.count("decoder_attention_heads");
  const written = decoder.maybe("max_position_embeddings") ?? 512;
  const kept = { layers, heads, valuesPerHead: 2 * Math.floor(hidden / heads), bytesPerValue: null };
  return {
    kind: "encoder",
    parameters: sum(
      convolution(RGB, seen, patch * patch),
      other((patches + 1) * seen),
      repeat(
        encoderLayer(seen, encoder.count("intermediate_size"), encoder.flagOr("qkv_bias", true) ? "all" : "none"),
        encoder.count("num_hidden_layers"),
      ),
      layerNorm(seen),
      // The encoder's pooler.
      linear(seen, seen, true),
      repeat(decoderLayer(hidden, seen, width), layers),
      layerNorm(hidden),
      // Positions begin behind those of padding; the output projection is the embedding.
      other((written + 2 + vocabSize) * hidden),
    ),
    tiedParameters: vocabSize * hidden,
    unloadedParameters: 0,
    cache: [
      { ...kept, window: written, fixed: null },
      { ...kept, window: null, fixed: patches },
    ],
    heads: 1,
    hiddenSize: Math.max(seen, hidden),
    widest: width,
    layers: encoder.count("num_hidden_layers") + layers,
    vocabSize,
    positions: patches,
  };
}

/** The text side of CLIP, as diffusion pipelines have it: with an output projection when its class says so. */
export function clipText(fields: Fields, projects: boolean): ParameterCount {
  const hidden = fields.count("hidden_size");
  return sum(
    other((fields.count("vocab_size") + (fields.maybe("max_position_embeddings") ?? 77)) * hidden),
    repeat(encoderLayer(hidden, fields.count("intermediate_size")), fields.count("num_hidden_layers")),
    layerNorm(hidden),
    projects ? linear(hidden, fields.count("projection_dim")) : NONE,
  );
}

/** The encoder of T5 1.1: gated, without biases, positions shared by all layers. */
export function t5Encoder(fields: Fields): ParameterCount {
  const hidden = fields.count("d_model");
  const heads = fields.count("num_heads");
  const inner = heads * fields.count("d_kv");
  const width = fields.count("d_ff");
  const layer = sum(
    repeat(linear(hidden, inner), 3),
    linear(inner, hidden),
    repeat(linear(hidden, width), 2),
    linear(width, hidden),
    other(2 * hidden),
  );
  return sum(
    other(fields.count("vocab_size") * hidden + 32 * heads + hidden),
    repeat(layer, fields.count("num_layers")),
  );
}
