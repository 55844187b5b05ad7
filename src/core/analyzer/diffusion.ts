/**
 * Picture generators: a denoiser (UNet or transformer), its text encoders and the decoder that makes pixels, built as
 * in huggingface/diffusers. A pipeline's parts stand under the names that its `model_index.json` has.
 */
import type { Architecture } from "./architecture.ts";
import { type Fields, UnreadableConfig } from "./fields.ts";
import { convolution, frozen, layerNorm, linear, NONE, other, type ParameterCount, repeat, sum } from "./parameters.ts";
import { clipText, t5Encoder } from "./towers.ts";

const CELLS = 9;
/** Sides of what the denoiser sees and of the picture differ by this. */
const LATENT_SCALE = 8;
const FLUX_PIXELS = 1_024;
const MAX_SIDE = 8_192;

export function diffusionPipeline(fields: Fields): Architecture {
  const transformer = fields.part("transformer");
  const unet = fields.part("unet");
  const vae = fields.part("vae");
  if (transformer === null && unet === null) throw new UnreadableConfig("unet or transformer is missing");
  const denoiser = transformer !== null ? fluxTransformer(transformer) : unet !== null ? unetOf(unet) : NONE;
  const side = Math.min(MAX_SIDE, unet === null ? FLUX_PIXELS : (unet.maybe("sample_size") ?? 64) * LATENT_SCALE);
  const channels = vae?.numbers("block_out_channels") ?? [];
  return {
    kind: "diffusion",
    parameters: sum(
      denoiser,
      frozen(
        sum(...["text_encoder", "text_encoder_2", "text_encoder_3"].map((name) => textEncoderOf(fields.part(name)))),
      ),
      vae === null ? NONE : frozen(autoencoder(vae)),
    ),
    tiedParameters: 0,
    unloadedParameters: 0,
    cache: [],
    heads: 1,
    hiddenSize: 0,
    // The decoder's last stage but one works on pixels with this many channels.
    widest: channels[1] ?? 256,
    layers: 1,
    vocabSize: 0,
    positions: side * side,
  };
}

function textEncoderOf(fields: Fields | null): ParameterCount {
  if (fields === null) return NONE;
  const name = fields.list("architectures").map(String)[0] ?? "";
  if (name.startsWith("T5")) return t5Encoder(fields);
  return clipText(fields, name === "CLIPTextModelWithProjection");
}

/** FLUX.1: blocks in which picture and text have weights of their own, then blocks that they share. */
function fluxTransformer(fields: Fields): ParameterCount {
  const hidden = fields.count("num_attention_heads") * fields.count("attention_head_dim");
  const headNorms = 2 * fields.count("attention_head_dim");
  const attention = repeat(linear(hidden, hidden, true), 4);
  const feedForward = sum(linear(hidden, 4 * hidden, true), linear(4 * hidden, hidden, true));
  const side = sum(linear(hidden, 6 * hidden, true), attention, feedForward, other(headNorms));
  const single = sum(
    linear(hidden, 3 * hidden, true),
    repeat(linear(hidden, hidden, true), 3),
    linear(hidden, 4 * hidden, true),
    linear(5 * hidden, hidden, true),
    other(headNorms),
  );
  const embedder = (inputs: number) => sum(linear(inputs, hidden, true), linear(hidden, hidden, true));
  const channels = fields.count("in_channels");
  return sum(
    repeat(side, 2 * fields.count("num_layers")),
    repeat(single, fields.count("num_single_layers")),
    embedder(256),
    fields.flag("guidance_embeds") ? embedder(256) : NONE,
    embedder(fields.count("pooled_projection_dim")),
    linear(fields.count("joint_attention_dim"), hidden, true),
    linear(channels, hidden, true),
    linear(hidden, 2 * hidden, true),
    linear(hidden, fields.maybe("out_channels") ?? channels, true),
  );
}

function resnet(inputs: number, outputs: number, timeWidth: number): ParameterCount {
  return sum(
    layerNorm(inputs),
    convolution(inputs, outputs, CELLS),
    timeWidth === 0 ? NONE : linear(timeWidth, outputs, true),
    layerNorm(outputs),
    convolution(outputs, outputs, CELLS),
    inputs === outputs ? NONE : convolution(inputs, outputs, 1),
  );
}

/** Self-attention, attention over the text and a gated feed-forward, `depth` times between two projections. */
function pictureTransformer(channels: number, text: number, depth: number): ParameterCount {
  const block = sum(
    repeat(layerNorm(channels), 3),
    repeat(linear(channels, channels), 3),
    linear(channels, channels, true),
    linear(channels, channels),
    repeat(linear(text, channels), 2),
    linear(channels, channels, true),
    linear(channels, 8 * channels, true),
    linear(4 * channels, channels, true),
  );
  return depth === 0
    ? NONE
    : sum(layerNorm(channels), repeat(linear(channels, channels, true), 2), repeat(block, depth));
}

function unetOf(fields: Fields): ParameterCount {
  const channels = fields.numbers("block_out_channels");
  const first = channels[0];
  const last = channels.at(-1);
  if (first === undefined || last === undefined) throw new UnreadableConfig("unet.block_out_channels is missing");
  const perBlock = fields.count("layers_per_block");
  const text = fields.count("cross_attention_dim");
  const timeWidth = 4 * first;
  const depths = depthsOf(fields, channels.length);
  const extra = fields.maybe("projection_class_embeddings_input_dim");

  const parts: ParameterCount[] = [
    convolution(fields.maybe("in_channels") ?? 4, first, CELLS),
    linear(first, timeWidth, true),
    linear(timeWidth, timeWidth, true),
    extra === null ? NONE : sum(linear(extra, timeWidth, true), linear(timeWidth, timeWidth, true)),
  ];
  /** What each step down leaves for the way up. */
  const skips = [first];
  let width = first;
  channels.forEach((out, level) => {
    for (let layer = 0; layer < perBlock; layer++) {
      parts.push(resnet(width, out, timeWidth), pictureTransformer(out, text, depths[level] ?? 0));
      width = out;
      skips.push(out);
    }
    if (level < channels.length - 1) {
      parts.push(convolution(out, out, CELLS));
      skips.push(out);
    }
  });
  const deepest = depths.at(-1) || (depths.at(-2) ?? 1);
  parts.push(repeat(resnet(last, last, timeWidth), 2), pictureTransformer(last, text, deepest));
  channels.toReversed().forEach((out, index) => {
    const level = channels.length - 1 - index;
    for (let layer = 0; layer < perBlock + 1; layer++) {
      parts.push(resnet(width + (skips.pop() ?? 0), out, timeWidth), pictureTransformer(out, text, depths[level] ?? 0));
      width = out;
    }
    if (level > 0) parts.push(convolution(out, out, CELLS));
  });
  parts.push(layerNorm(first), convolution(first, fields.maybe("out_channels") ?? 4, CELLS));
  return sum(...parts);
}

/** How many transformer blocks each level has; none where its block has no attention. */
function depthsOf(fields: Fields, levels: number): readonly number[] {
  const stated = fields.numbers("transformer_layers_per_block");
  const kinds = fields.list("down_block_types").map(String);
  return Array.from({ length: levels }, (_, level) =>
    kinds[level]?.startsWith("CrossAttn") ? (stated[level] ?? 1) : 0,
  );
}

function attentionOnce(channels: number): ParameterCount {
  return sum(layerNorm(channels), repeat(linear(channels, channels, true), 4));
}

function autoencoder(fields: Fields): ParameterCount {
  const channels = fields.numbers("block_out_channels");
  const first = channels[0];
  const last = channels.at(-1);
  if (first === undefined || last === undefined) throw new UnreadableConfig("vae.block_out_channels is missing");
  const perBlock = fields.count("layers_per_block");
  const latent = fields.count("latent_channels");
  const middle = sum(repeat(resnet(last, last, 0), 2), attentionOnce(last));
  const way = (order: readonly number[], layers: number) => {
    let width = order[0] ?? 0;
    return sum(
      ...order.map((out, level) => {
        const resnets = [resnet(width, out, 0), repeat(resnet(out, out, 0), layers - 1)];
        width = out;
        return sum(...resnets, level < order.length - 1 ? convolution(out, out, CELLS) : NONE);
      }),
    );
  };
  const converts = fields.flagOr("use_quant_conv", true);
  return sum(
    convolution(3, first, CELLS),
    way(channels, perBlock),
    middle,
    layerNorm(last),
    convolution(last, 2 * latent, CELLS),
    converts ? sum(convolution(2 * latent, 2 * latent, 1), convolution(latent, latent, 1)) : NONE,
    convolution(latent, last, CELLS),
    middle,
    way(channels.toReversed(), perBlock + 1),
    layerNorm(first),
    convolution(first, 3, CELLS),
  );
}
