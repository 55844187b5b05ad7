import { describe, expect, test } from "vitest";
import { findWeightFormat } from "../../../src/core/analyzer/formats.ts";
import { parseModelName } from "../../../src/core/analyzer/parse-name.ts";

describe("the size is read from a name by whole words", () => {
  test.each([
    ["qwen-72b", 72e9],
    ["Qwen-72B-Chat", 72e9],
    ["acme/model-350m", 350e6],
    ["acme/model-1.5b", 1.5e9],
    ["bert-110M", 110e6],
    ["mixtral-8x7b", 56e9],
    ["acme-8x22B", 176e9],
    ["acme-30b-a3b", 30e9],
    ["acme-A3B-30B", 30e9],
    ["bigscience/bloom-7b1", 7.1e9],
    ["Qwen/Qwen-1_8B-Chat", 1.8e9],
    ["stabilityai/stablelm-2-1_6b", 1.6e9],
    ["Llama_3_8B", 8e9],
    ["llama_2_13b.Q4_K_M.gguf", 13e9],
    ["llama8b", 8e9],
    ["qwen2.5:72b-instruct-q4_0", 72e9],
    ["Qwen2.5-7B-Instruct-1M", 7e9],
    ["TinyLlama-1.1B-intermediate-step-1431k-3T", 1.1e9],
    ["org-70b/model-7b", 7e9],
    ["acme/model-7b/", 7e9],
  ])("%s", (name, parameters) => {
    expect(parseModelName(name).parameters).toBe(parameters);
  });
});

describe("what is no size is not taken for one", () => {
  test.each([
    ["a version", "bge-large-en-v1.5"],
    ["active parameters alone", "Qwen1.5-MoE-A2.7B"],
    ["a quantisation", "acme-4bit"],
    ["a letter after the number", "whisper-large-v3-7bx"],
    ["a letter before the number", "acme-x7b"],
    ["a context length", "acme-1m"],
    ["zero", "acme-0b"],
    ["more than any model has", "acme-999999b"],
    ["nothing", ""],
    ["separators", "///---"],
  ])("%s", (_, name) => {
    expect(parseModelName(name).parameters).toBeNull();
  });
});

test("of several sizes the largest counts, whatever the order", () => {
  expect(parseModelName("acme-70b-draft-1b").parameters).toBe(70e9);
  expect(parseModelName("acme-draft-1b-70b").parameters).toBe(70e9);
});

test("a product of experts says that it is an upper bound", () => {
  expect(parseModelName("acme-8x7b").isUpperBound).toBe(true);
  expect(parseModelName("acme-7b").isUpperBound).toBe(false);
});

test("a name of a megabyte is read in bounded time", () => {
  for (const name of ["1".repeat(1e6), "a-".repeat(5e5), "q4_k".repeat(25e4), "7b".repeat(5e5)]) {
    const started = performance.now();
    parseModelName(name);
    expect(performance.now() - started).toBeLessThan(100);
  }
});

describe("the format is read from a name, a dtype or a quantisation", () => {
  test.each([
    ["Qwen2.5-7B-Instruct-AWQ", 0.5 + 2.5 / 128],
    ["Llama-2-13B-chat-GPTQ", 0.5 + 2.5 / 128],
    ["Qwen2.5-7B-Instruct-GPTQ-Int8", 1 + 3 / 128],
    ["Meta-Llama-3.1-8B-Instruct-quantized.w8a8", 1 + 3 / 128],
    ["Qwen3-8B-FP8", 1],
    ["fp8_e4m3", 1],
    ["float8_e4m3fn", 1],
    ["int4", 0.5 + 2.5 / 128],
    ["nf4", 0.5625],
    ["bnb-4bit", 4.127 / 8],
    ["bitsandbytes", 1 + 3 / 128],
    ["gpt-oss-mxfp4", 0.53125],
    ["bfloat16", 2],
    ["float16", 2],
    ["half", 2],
    ["float32", 4],
    ["llama-2-7b.Q4_K_M.gguf", 4.8944 / 8],
    ["llama3.1:8b-instruct-q4_K_M", 4.8944 / 8],
    ["acme-7b-IQ4_XS", 4.4597 / 8],
    ["q8_0", 8.5008 / 8],
    ["acme-7b-q6-k", 6.5633 / 8],
  ])("%s", (text, bytesPerWeight) => {
    expect(findWeightFormat(text)?.bytesPerWeight).toBeCloseTo(bytesPerWeight, 10);
  });

  test.each(["Qwen2.5-7B-Instruct", "marlin", "hawq-7b", "fp80", "q4", "iq9_s", ""])("%j names none", (text) => {
    expect(findWeightFormat(text)).toBeNull();
  });
});
