/** How many bytes a value takes, by the names that models, engines and files use. */

/** How a checkpoint stores its weights. */
export interface WeightFormat {
  readonly name: string;
  readonly bytesPerWeight: number;
  /**
   * `linear`: only the linear layers are stored so, embeddings and norms stay in 16 bit. `all`: the figure is an
   * average over the whole file.
   */
  readonly scope: "linear" | "all";
}

const linear = (name: string, bytesPerWeight: number): WeightFormat => ({ name, bytesPerWeight, scope: "linear" });

export const BF16 = linear("bf16", 2);
const FP16 = linear("fp16", 2);
const FP32: WeightFormat = { name: "fp32", bytesPerWeight: 4, scope: "all" };
const FP8 = linear("fp8", 1);
/** Groups of 128 with a 16-bit scale and an 8-bit zero. */
const INT8 = linear("int8", 1 + 3 / 128);
/** AWQ, GPTQ: groups of 128 with a 16-bit scale and a 4-bit zero. */
const INT4 = linear("int4", 0.5 + 2.5 / 128);
/** QLoRA's 4-bit NormalFloat: blocks of 64 with an fp32 maximum, without double quantisation (arXiv 2305.14314). */
export const NF4 = linear("nf4", 0.5 + 4 / 64);
/** The same with its maxima quantised once more, as bitsandbytes' 4-bit checkpoints are stored: 0.127 bits for them. */
const BNB_4BIT = linear("bnb-4bit", (4 + 0.127) / 8);
/** OCP Microscaling Formats 1.0: blocks of 32 with an 8-bit scale. */
const MXFP4 = linear("mxfp4", 0.5 + 1 / 32);

/**
 * Bits per weight of GGUF files: llama.cpp, tools/quantize/README.md, measured over the whole file of Llama-3.1-8B.
 * A type that the table lacks takes the nearest figure above its own block size.
 */
const GGUF_BITS: ReadonlyMap<string, number> = new Map([
  ["iq1_s", 2.0042],
  ["iq1_m", 2.146],
  ["iq2_xxs", 2.3824],
  ["iq2_xs", 2.5882],
  ["iq2_s", 2.7403],
  ["iq2_m", 2.9294],
  ["iq3_xxs", 3.2548],
  ["iq3_xs", 3.4977],
  ["iq3_s", 3.6606],
  ["iq3_m", 3.7628],
  ["iq4_xs", 4.4597],
  ["iq4_nl", 4.6818],
  ["q2_k_s", 2.9697],
  ["q2_k", 3.1593],
  ["q3_k_s", 3.6429],
  ["q3_k_m", 4.2979],
  ["q3_k_l", 4.2979],
  ["q3_k", 4.2979],
  ["q4_0", 4.6672],
  ["q4_k_s", 4.6672],
  ["q4_k_m", 4.8944],
  ["q4_k", 4.8944],
  ["q4_1", 5.5704],
  ["q5_0", 5.5704],
  ["q5_k_s", 5.5704],
  ["q5_k_m", 5.7036],
  ["q5_k", 5.7036],
  ["q5_1", 6.5633],
  ["q6_k", 6.5633],
  ["q8_0", 8.5008],
]);

const GGUF_TYPE = /(?<![a-z0-9])i?q[1-8]_(?:0|1|nl|xxs|xs|s|m|k(?:_(?:s|m|l))?)(?![a-z0-9])/;

/** First match wins: `gptq-int8` is 8 bit, and bitsandbytes without a width is taken at its larger one. */
const FORMAT_WORDS: readonly (readonly [RegExp, WeightFormat])[] = [
  [/(?<![a-z0-9])(?:int8|8-?bit|w8a8|w8a16)(?![a-z0-9])/, INT8],
  [/(?<![a-z0-9])mxfp4(?![a-z0-9])/, MXFP4],
  [/(?<![a-z0-9])(?:bnb-?4-?bit|bitsandbytes-?4-?bit)(?![a-z0-9])/, BNB_4BIT],
  [/(?<![a-z0-9])nf4(?![a-z0-9])/, NF4],
  [/(?<![a-z0-9])(?:int4|4-?bit|w4a16|awq|gptq)(?![a-z0-9])/, INT4],
  [/(?<![a-z0-9])(?:bitsandbytes|bnb)(?![a-z0-9])/, INT8],
  [/(?<![a-z0-9])(?:fp8|float8)(?![a-z0-9])/, FP8],
  [/(?<![a-z0-9])(?:bf16|bfloat16)(?![a-z0-9])/, BF16],
  [/(?<![a-z0-9])(?:fp16|float16|f16|half)(?![a-z0-9])/, FP16],
  [/(?<![a-z0-9])(?:fp32|float32|f32|float)(?![a-z0-9])/, FP32],
];

/** Finds a weight format named anywhere in `text`: a dtype, a quantisation, a model's or a file's name. */
export function findWeightFormat(text: string): WeightFormat | null {
  const lower = text.toLowerCase();
  const type = ggufTypeIn(lower);
  const bits = type === null ? undefined : GGUF_BITS.get(type);
  if (type !== null && bits !== undefined) return { name: `GGUF ${type}`, bytesPerWeight: bits / 8, scope: "all" };
  return FORMAT_WORDS.find(([word]) => word.test(lower.replaceAll("_", "-")))?.[1] ?? null;
}

function ggufTypeIn(lower: string): string | null {
  return GGUF_TYPE.exec(lower.replaceAll("-", "_"))?.[0] ?? null;
}

/** `name` in lower case without its GGUF type, whose parts would pass for words of the name. */
export function withoutGgufType(name: string): string {
  const lower = name.toLowerCase();
  const type = GGUF_TYPE.exec(lower.replaceAll("-", "_"));
  return type === null ? lower : `${lower.slice(0, type.index)}-${lower.slice(type.index + type[0].length)}`;
}

/** Bytes of one value in the KV cache. The quantised ones are llama.cpp's: blocks of 32 with a 16-bit scale. */
export const KV_BYTES: ReadonlyMap<string, number> = new Map([
  ["fp32", 4],
  ["float32", 4],
  ["f32", 4],
  ["fp16", 2],
  ["float16", 2],
  ["f16", 2],
  ["half", 2],
  ["bf16", 2],
  ["bfloat16", 2],
  ["fp8", 1],
  ["fp8_e4m3", 1],
  ["fp8_e5m2", 1],
  ["q8_0", 34 / 32],
  ["q4_0", 18 / 32],
]);
export const DEFAULT_KV_BYTES = 2;
