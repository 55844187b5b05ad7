/**
 * Layers that keep one state for a whole sequence, however long it is, in the place of keys and values of each token.
 *
 * What they are made of is what huggingface/transformers builds from the same fields (`src/transformers/models/*`); what
 * they keep is what ggml-org/llama.cpp allocates (`src/llama-memory-recurrent.cpp`): the last inputs of the convolution,
 * and the state of the recurrence.
 */
import type { Fields } from "./fields.ts";
import { linear, NONE, other, type ParameterCount, sum } from "./parameters.ts";

export interface Mixer {
  readonly parameters: ParameterCount;
  /** What may be split over GPUs: heads, or channels where there are no heads. */
  readonly heads: number;
  /** Values that all of them together keep of a sequence. */
  readonly state: number;
}

/** Inputs that a convolution over `kernel` tokens has to keep of each channel. */
function kept(kernel: number): number {
  return Math.max(0, kernel - 1);
}

/** Qwen3-Next's and Qwen3.5's linear attention (arXiv 2412.06464): `modeling_qwen3_next.py`. */
export function gatedDeltaNet(fields: Fields, hidden: number): Mixer {
  const keyDim = fields.count("linear_key_head_dim");
  const keys = fields.count("linear_num_key_heads") * keyDim;
  const heads = fields.count("linear_num_value_heads");
  const valueDim = fields.count("linear_value_head_dim");
  const kernel = fields.count("linear_conv_kernel_dim");
  const values = heads * valueDim;
  const channels = 2 * keys + values;
  return {
    parameters: sum(
      linear(hidden, 2 * keys + 2 * values),
      linear(hidden, 2 * heads),
      linear(values, hidden),
      // The convolution; of each head a step and a decay; and a norm.
      other(channels * kernel + 2 * heads + valueDim),
    ),
    heads,
    state: heads * keyDim * valueDim + channels * kept(kernel),
  };
}

/** Mamba 2 (arXiv 2405.21060), as Nemotron-H and Granite 4 have it: `modeling_mamba2.py`. */
export function mamba2(fields: Fields, hidden: number): Mixer {
  const heads = fields.count("mamba_n_heads", "mamba_num_heads", "num_heads");
  const stateSize = fields.count("mamba_d_state", "ssm_state_size", "state_size");
  const groups = fields.count("mamba_n_groups", "n_groups");
  const kernel = fields.count("mamba_d_conv", "conv_kernel");
  const inner = heads * fields.count("mamba_d_head", "mamba_head_dim", "head_dim");
  const channels = inner + 2 * groups * stateSize;
  const isBiased = fields.flag("mamba_proj_bias") || fields.flag("use_bias");
  const convBias = fields.flagOr("mamba_conv_bias", fields.flagOr("use_conv_bias", true)) ? channels : 0;
  return {
    parameters: sum(
      linear(hidden, inner + channels + heads, isBiased),
      linear(inner, hidden, isBiased),
      // The convolution; of each head a step, a decay and a skip; and a norm.
      other(channels * kernel + convBias + 3 * heads + inner),
    ),
    heads,
    state: inner * stateSize + channels * kept(kernel),
  };
}

/** Mamba (arXiv 2312.00752), as Jamba has it too: `modeling_mamba.py`, `modeling_jamba.py`. */
export function mamba(fields: Fields, family: string, hidden: number): Mixer {
  // Jamba's `intermediate_size` is that of its feed-forward.
  const stated = family === "jamba" ? null : fields.maybe("intermediate_size");
  const inner = stated || hidden * (fields.maybe("mamba_expand", "expand") ?? 2);
  const stateSize = fields.maybe("mamba_d_state", "state_size") ?? 16;
  const kernel = fields.maybe("mamba_d_conv", "conv_kernel") ?? 4;
  const rank = fields.maybe("mamba_dt_rank", "time_step_rank") ?? Math.ceil(hidden / 16);
  const isBiased = fields.flag("mamba_proj_bias") || fields.flag("use_bias");
  const convBias = fields.flagOr("mamba_conv_bias", fields.flagOr("use_conv_bias", true)) ? inner : 0;
  const norms = family === "jamba" ? rank + 2 * stateSize : 0;
  return {
    parameters: sum(
      linear(hidden, 2 * inner, isBiased),
      linear(inner, rank + 2 * stateSize),
      linear(rank, inner, true),
      linear(inner, hidden, isBiased),
      other(inner * kernel + convBias + inner * stateSize + inner + norms),
    ),
    heads: inner,
    state: inner * (stateSize + kept(kernel)),
  };
}

/** LFM2's gated convolution over a few tokens, which has no other state: `modeling_lfm2.py`. */
export function shortConvolution(fields: Fields, hidden: number): Mixer {
  const kernel = fields.maybe("conv_L_cache") ?? 3;
  const bias = fields.flag("conv_bias");
  return {
    parameters: sum(
      linear(hidden, 3 * hidden, bias),
      linear(hidden, hidden, bias),
      other(hidden * kernel + (bias ? hidden : 0)),
    ),
    heads: hidden,
    state: hidden * kept(kernel),
  };
}

/** The layer only passes on, as those that have nothing but a feed-forward. */
export const NO_MIXER: Mixer = { parameters: NONE, heads: 1, state: 0 };
