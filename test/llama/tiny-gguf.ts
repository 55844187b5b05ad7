/** A model of the llama family with random weights, small enough to be made in a test: what it writes is noise, and real. */
import { writeFileSync } from "node:fs";

const TYPES = { u32: 4, i32: 5, f32: 6, text: 8, list: 9 } as const;
const ALIGNMENT = 32;
const SHAPE = { embedding: 64, heads: 4, blocks: 2, feedForward: 128, context: 512 };
/** As llama.cpp counts kinds of tokens. */
const [UNKNOWN, CONTROL, BYTE] = [2, 3, 6];

class Writer {
  readonly #parts: Buffer[] = [];

  u32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return this.raw(bytes);
  }

  u64(value: number): this {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return this.raw(bytes);
  }

  f32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    return this.raw(bytes);
  }

  text(value: string): this {
    const bytes = Buffer.from(value);
    return this.u64(bytes.length).raw(bytes);
  }

  raw(bytes: Buffer): this {
    this.#parts.push(bytes);
    return this;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((ALIGNMENT - (bytes.length % ALIGNMENT)) % ALIGNMENT)]);
}

/** Tokens are the 256 bytes, so that any text can be said and read. */
function vocabulary() {
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`);
  return {
    tokens: ["<unk>", "<s>", "</s>", ...bytes],
    kinds: [UNKNOWN, CONTROL, CONTROL, ...bytes.map(() => BYTE)],
  };
}

function metadata(): { readonly count: number; readonly bytes: Buffer } {
  const out = new Writer();
  let count = 0;
  const entry = (key: string, type: keyof typeof TYPES) => {
    count++;
    return out.text(key).u32(TYPES[type]);
  };
  const list = (key: string, of: keyof typeof TYPES, length: number) => entry(key, "list").u32(TYPES[of]).u64(length);
  const { embedding, heads, blocks, feedForward, context } = SHAPE;
  entry("general.architecture", "text").text("llama");
  entry("general.name", "text").text("tiny-random");
  for (const [key, value] of [
    ["context_length", context],
    ["embedding_length", embedding],
    ["block_count", blocks],
    ["feed_forward_length", feedForward],
    ["attention.head_count", heads],
    ["rope.dimension_count", embedding / heads],
  ] as const)
    entry(`llama.${key}`, "u32").u32(value);
  entry("llama.attention.layer_norm_rms_epsilon", "f32").f32(1e-5);
  const { tokens, kinds } = vocabulary();
  entry("tokenizer.ggml.model", "text").text("llama");
  list("tokenizer.ggml.tokens", "text", tokens.length);
  for (const token of tokens) out.text(token);
  list("tokenizer.ggml.scores", "f32", tokens.length);
  for (const _ of tokens) out.f32(0);
  list("tokenizer.ggml.token_type", "i32", kinds.length);
  for (const kind of kinds) out.u32(kind);
  entry("tokenizer.ggml.bos_token_id", "u32").u32(1);
  entry("tokenizer.ggml.eos_token_id", "u32").u32(2);
  return { count, bytes: out.bytes };
}

/** Fixed: the same file every time. */
function weights() {
  let state = 20_261_130;
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
}

function tensors() {
  const { embedding, blocks, feedForward } = SHAPE;
  const words = vocabulary().tokens.length;
  const next = weights();
  const tensor = (name: string, ...shape: number[]) => {
    const values = shape.reduce((product, length) => product * length, 1);
    const bytes = Buffer.alloc(4 * values);
    for (let i = 0; i < values; i++) bytes.writeFloatLE(shape.length === 1 ? 1 : next() / 2, 4 * i);
    return { name: `${name}.weight`, shape, bytes: padded(bytes) };
  };
  const block = (i: number) => [
    tensor(`blk.${i}.attn_norm`, embedding),
    ...["q", "k", "v", "output"].map((part) => tensor(`blk.${i}.attn_${part}`, embedding, embedding)),
    tensor(`blk.${i}.ffn_norm`, embedding),
    tensor(`blk.${i}.ffn_gate`, embedding, feedForward),
    tensor(`blk.${i}.ffn_up`, embedding, feedForward),
    tensor(`blk.${i}.ffn_down`, feedForward, embedding),
  ];
  return [
    tensor("token_embd", embedding, words),
    ...Array.from({ length: blocks }, (_, i) => block(i)).flat(),
    tensor("output_norm", embedding),
    tensor("output", embedding, words),
  ];
}

export function writeTinyGguf(path: string): void {
  const all = tensors();
  const { count, bytes } = metadata();
  const head = new Writer().raw(Buffer.from("GGUF")).u32(3).u64(all.length).u64(count).raw(bytes);
  let offset = 0;
  for (const { name, shape, bytes: data } of all) {
    head.text(name).u32(shape.length);
    for (const length of shape) head.u64(length);
    head.u32(0).u64(offset);
    offset += data.length;
  }
  writeFileSync(path, Buffer.concat([padded(head.bytes), ...all.map((tensor) => tensor.bytes)]));
}
