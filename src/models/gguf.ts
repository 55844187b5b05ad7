/**
 * The head of a GGUF file: its metadata and the list of its tensors (ggml-org/ggml, docs/gguf.md, versions 2 and 3).
 * Only numbers and short texts are kept; vocabularies are stepped over.
 */
import type { JsonObject, JsonValue } from "../core/base/json.ts";
import { type FileBytes, Malformed } from "./file-bytes.ts";

const MAGIC = 0x46554747;
const MAX_ENTRIES = 100_000;
const MAX_KEY = 256;
const MAX_TEXT = 256;
const MAX_DEPTH = 4;

/** Bytes of the metadata's plain types, by their number. */
const PLAIN_BYTES: Readonly<Record<number, number>> = {
  ...{ 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 },
};
const TEXT_TYPE = 8;
const ARRAY_TYPE = 9;

export interface GgufHead {
  readonly metadata: ReadonlyMap<string, number | string>;
  /** How many words its vocabulary has; `null`: it does not say. */
  readonly words: number | null;
  /** Names of its tensors, as far as they matter: whether there is an output projection. */
  readonly hasOutput: boolean;
  /** All of the file that is tensors. */
  readonly tensorBytes: number;
}

/** @throws Malformed */
export async function readGguf(file: FileBytes): Promise<GgufHead> {
  if ((await file.u32()) !== MAGIC) throw new Malformed("is no GGUF file");
  const version = await file.u32();
  if (version !== 2 && version !== 3) throw new Malformed(`is GGUF of version ${version}`);
  const tensors = await entries(file);
  const pairs = await entries(file);
  const metadata = new Map<string, number | string>();
  let words: number | null = null;
  for (let index = 0; index < pairs; index++) {
    const key = await text(file, MAX_KEY);
    const { value, length } = await readValue(file, await file.u32(), 0);
    if (value !== null) metadata.set(key, value);
    if (key === "tokenizer.ggml.tokens") words = length;
  }
  let hasOutput = false;
  for (let index = 0; index < tensors; index++) {
    if ((await text(file, MAX_KEY)) === "output.weight") hasOutput = true;
    const dimensions = await file.u32();
    if (dimensions > 8) throw new Malformed("has a tensor of too many dimensions");
    await file.skip(8 * dimensions + 4 + 8);
  }
  return { metadata, words, hasOutput, tensorBytes: file.size - file.position };
}

async function entries(file: FileBytes): Promise<number> {
  const count = await file.u64();
  if (count > MAX_ENTRIES) throw new Malformed("has too many entries");
  return count;
}

async function text(file: FileBytes, most: number): Promise<string> {
  const length = await file.u64();
  if (length > most) throw new Malformed("has too long a name");
  return file.text(length);
}

/** @returns `value` null for what is stepped over; `length` that of a list. */
async function readValue(
  file: FileBytes,
  type: number,
  depth: number,
): Promise<{ readonly value: number | string | null; readonly length: number | null }> {
  if (type === TEXT_TYPE) {
    const length = await file.u64();
    if (length <= MAX_TEXT) return { value: await file.text(length), length: null };
    await file.skip(length);
    return { value: null, length: null };
  }
  if (type === ARRAY_TYPE) {
    const of = await file.u32();
    const length = await file.u64();
    const bytes = PLAIN_BYTES[of];
    if (depth >= MAX_DEPTH || length > file.size) throw new Malformed("has a list that cannot be");
    if (bytes !== undefined) await file.skip(bytes * length);
    else for (let index = 0; index < length; index++) await readValue(file, of, depth + 1);
    return { value: null, length };
  }
  const bytes = PLAIN_BYTES[type];
  if (bytes === undefined) throw new Malformed(`has a value of the unknown kind ${type}`);
  return { value: await file.plain(type, bytes), length: null };
}

/** Families whose layers are built as the `config.json` of this model_type says. */
const FAMILIES: Readonly<Record<string, string>> = {
  ...{ llama: "llama", qwen2: "qwen2", qwen3: "qwen3", qwen3moe: "qwen3_moe", gemma2: "gemma2", gemma3: "gemma3_text" },
  ...{ phi3: "phi3", starcoder2: "starcoder2", deepseek2: "deepseek_v3" },
  ...{ qwen3next: "qwen3_next", qwen35: "qwen3_5", qwen35moe: "qwen3_5_moe" },
};

/** The fields of a `config.json` that the metadata of a GGUF file amounts to. */
export function configOfGguf({ metadata, words, hasOutput }: GgufHead): JsonObject {
  const arch = String(metadata.get("general.architecture") ?? "");
  const of = (key: string) => metadata.get(`${arch}.${key}`) ?? null;
  const keyLength = of("attention.key_length");
  const rope = of("rope.dimension_count");
  const isLatent = of("attention.kv_lora_rank") !== null;
  return {
    model_type: FAMILIES[arch] ?? arch,
    hidden_size: of("embedding_length"),
    num_hidden_layers: of("block_count"),
    intermediate_size: of("feed_forward_length"),
    num_attention_heads: of("attention.head_count"),
    num_key_value_heads: of("attention.head_count_kv"),
    head_dim: isLatent ? null : keyLength,
    sliding_window: of("attention.sliding_window"),
    num_experts: of("expert_count"),
    moe_intermediate_size: of("expert_feed_forward_length"),
    n_shared_experts: of("expert_shared_count"),
    first_k_dense_replace: of("leading_dense_block_count"),
    q_lora_rank: of("attention.q_lora_rank"),
    kv_lora_rank: of("attention.kv_lora_rank"),
    qk_rope_head_dim: isLatent ? rope : null,
    qk_nope_head_dim:
      isLatent && typeof keyLength === "number" && typeof rope === "number" ? Math.max(0, keyLength - rope) : null,
    v_head_dim: isLatent ? of("attention.value_length") : null,
    vocab_size: of("vocab_size") ?? words,
    tie_word_embeddings: !hasOutput,
    ...(arch.startsWith("qwen3") ? deltaNetOf(of) : {}),
  };
}

/** The fields of a gated delta net, which llama.cpp names after Mamba's (`src/models/qwen3next.cpp`). */
function deltaNetOf(of: (key: string) => JsonValue): JsonObject {
  const heads = of("ssm.time_step_rank");
  const inner = of("ssm.inner_size");
  if (typeof heads !== "number" || typeof inner !== "number" || heads === 0) return {};
  return {
    full_attention_interval: of("full_attention_interval"),
    linear_num_value_heads: heads,
    linear_value_head_dim: Math.floor(inner / heads),
    linear_num_key_heads: of("ssm.group_count"),
    linear_key_head_dim: of("ssm.state_size"),
    linear_conv_kernel_dim: of("ssm.conv_kernel"),
    shared_expert_intermediate_size: of("expert_shared_feed_forward_length"),
  };
}
