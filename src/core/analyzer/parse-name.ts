import { findWeightFormat, type WeightFormat, withoutGgufType } from "./formats.ts";

/** What a model's name says by itself. */
export interface ParsedName {
  /** Family, version and size in one spelling, to look up in the catalogue: `llama3.1:8b` is `llama-3.1-8b`. */
  readonly canonical: string;
  /** All parameters, experts included; `null` when the name gives no size. */
  readonly parameters: number | null;
  /** True for `8x7b`: the product counts what the experts share several times. */
  readonly isUpperBound: boolean;
  /** `null` when the name gives no dtype and no quantisation. */
  readonly format: WeightFormat | null;
}

/** Longer names are cut: no registry has them, and the work stays bounded. */
const MAX_NAME_LENGTH = 256;
/** `1m` and the like are context lengths, not sizes. */
const MIN_MILLIONS = 10;
const MAX_BILLIONS = 100_000;

/** Words that leave the architecture as it is. */
const VARIANT_WORDS: ReadonlySet<string> = new Set([
  ..."meta instruct chat it hf base thinking 2507 latest gguf dynamic quantized".split(" "),
  ..."awq gptq bnb bitsandbytes int4 int8 4bit 8bit w4a16 w8a8 w8a16 nf4 mxfp4 fp8 fp16 f16 bf16 fp32 f32".split(" "),
]);

/**
 * Reads size and format from a model's name, by whole words: `qwen-72b` is 72 billion parameters and holds no 2B.
 *
 * `org/name`, Ollama's `name:tag` and file names are understood. Of several sizes the largest counts; the active
 * parameters of a mixture of experts (`a3b` in `30b-a3b`) do not, since all experts are in memory.
 */
export function parseModelName(name: string): ParsedName {
  const bounded = name.slice(0, MAX_NAME_LENGTH);
  const last = bounded.split("/").findLast((part) => part.trim() !== "") ?? "";
  const words = wordsOf(withoutGgufType(last));
  let parameters: number | null = null;
  let isUpperBound = false;
  for (const word of words) {
    const size = sizeOf(word);
    if (size === null || (parameters !== null && size <= parameters)) continue;
    parameters = size;
    isUpperBound = word.includes("x");
  }
  const canonical = words.filter((word) => !VARIANT_WORDS.has(word)).join("-");
  return { canonical, parameters, isUpperBound, format: findWeightFormat(last) };
}

function wordsOf(lower: string): string[] {
  return (
    lower
      // `qwen-1_8b` and `stablelm-2-1_6b` write the point as an underscore.
      .replace(/(?<![0-9_])([01])_(\d{1,2}b)(?![a-z0-9])/g, "$1.$2")
      // A point belongs to a number or separates: `v0.1`, but `7b.Q4_K_M.gguf`.
      .replace(/\.(?!\d)|(?<!\d)\./g, "-")
      // `qwen3` and `llama3.1` are a family and its version; `int4` and `a3b` are one word.
      .replace(/(?<=[a-z]{4}|phi)(?=\d)/g, "-")
      .split(/[^a-z0-9.]+/)
      .filter((word) => word !== "")
  );
}

function sizeOf(word: string): number | null {
  const experts = /^(\d{1,3})x(\d{1,4}(?:\.\d{1,3})?)b$/.exec(word);
  if (experts !== null) return billions(Number(experts[1]) * Number(experts[2]));
  // BLOOM writes 7.1 billion as `7b1`.
  const split = /^(\d{1,4})b(\d)$/.exec(word);
  if (split !== null) return billions(Number(`${split[1]}.${split[2]}`));
  const plain = /^(\d{1,6}(?:\.\d{1,3})?)([bm])$/.exec(word);
  if (plain === null) return null;
  const value = Number(plain[1]);
  if (plain[2] === "b") return billions(value);
  return value >= MIN_MILLIONS ? value * 1e6 : null;
}

function billions(value: number): number | null {
  return value > 0 && value <= MAX_BILLIONS ? value * 1e9 : null;
}
