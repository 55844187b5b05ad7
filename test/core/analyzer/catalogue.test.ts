import { describe, expect, test } from "vitest";
import { CATALOGUE, findModel } from "../../../src/core/analyzer/catalogue.ts";
import { parameterCount } from "../../../src/core/analyzer/memory.ts";
import { parseModelName } from "../../../src/core/analyzer/parse-name.ts";

/** Parameters by the metadata of the published safetensors files (a tied projection counts once). */
const PUBLISHED_PARAMETERS: { readonly [id: string]: number } = {
  "meta-llama/Llama-2-7b-hf": 6_738_415_616,
  "meta-llama/Llama-2-13b-hf": 13_015_864_320,
  "meta-llama/Llama-2-70b-hf": 68_976_648_192,
  "meta-llama/Meta-Llama-3-8B": 8_030_261_248,
  "meta-llama/Meta-Llama-3-70B": 70_553_706_496,
  "meta-llama/Llama-3.1-8B": 8_030_261_248,
  "meta-llama/Llama-3.1-70B": 70_553_706_496,
  "meta-llama/Llama-3.1-405B": 405_853_388_800,
  "meta-llama/Llama-3.2-1B": 1_235_814_400,
  "meta-llama/Llama-3.2-3B": 3_212_749_824,
  "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_496,
  "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": 8_030_261_248,
  "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": 70_553_706_496,
  "Qwen/Qwen2.5-0.5B": 494_032_768,
  "Qwen/Qwen2.5-1.5B": 1_543_714_304,
  "Qwen/Qwen2.5-3B": 3_085_938_688,
  "Qwen/Qwen2.5-7B": 7_615_616_512,
  "Qwen/Qwen2.5-14B": 14_770_033_664,
  "Qwen/Qwen2.5-32B": 32_763_876_352,
  "Qwen/Qwen2.5-72B": 72_706_203_648,
  "Qwen/Qwen2.5-Coder-7B": 7_615_616_512,
  "Qwen/Qwen2.5-Coder-32B": 32_763_876_352,
  "Qwen/QwQ-32B": 32_763_876_352,
  "Qwen/Qwen3-0.6B": 596_049_920,
  "Qwen/Qwen3-1.7B": 1_720_574_976,
  "Qwen/Qwen3-4B": 4_022_468_096,
  "Qwen/Qwen3-8B": 8_190_735_360,
  "Qwen/Qwen3-14B": 14_768_307_200,
  "Qwen/Qwen3-32B": 32_762_123_264,
  "Qwen/Qwen3-30B-A3B": 30_532_122_624,
  "Qwen/Qwen3-235B-A22B": 235_093_634_560,
  "mistralai/Mistral-7B-v0.1": 7_241_732_096,
  "mistralai/Mistral-7B-Instruct-v0.2": 7_241_732_096,
  "mistralai/Mistral-7B-v0.3": 7_248_023_552,
  "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
  "mistralai/Mixtral-8x22B-v0.1": 140_630_071_296,
  "google/gemma-2-2b": 2_614_341_888,
  "google/gemma-2-9b": 9_241_705_984,
  "google/gemma-2-27b": 27_227_128_320,
  "microsoft/phi-4": 14_659_507_200,
};

test.each(CATALOGUE)("$id has exactly the published number of parameters", ({ id, architecture }) => {
  const { linear, other } = parameterCount(architecture);
  expect(linear + other).toBe(PUBLISHED_PARAMETERS[id]);
});

test("every entry is found under its own id", () => {
  for (const { id } of CATALOGUE) expect(findModel(parseModelName(id).canonical)?.id).toBe(id);
});

describe("a model is found under the names that people use for it", () => {
  test.each([
    ["meta-llama/Meta-Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B"],
    ["RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16", "meta-llama/Llama-3.1-8B"],
    ["llama3.1:8b-instruct-q4_K_M", "meta-llama/Llama-3.1-8B"],
    ["/models/Meta-Llama-3-8B.Q4_K_M.gguf", "meta-llama/Meta-Llama-3-8B"],
    ["llama3:70b", "meta-llama/Meta-Llama-3-70B"],
    ["TheBloke/Llama-2-13B-chat-GPTQ", "meta-llama/Llama-2-13b-hf"],
    ["qwen2.5:72b", "Qwen/Qwen2.5-72B"],
    ["Qwen/Qwen2.5-7B-Instruct-AWQ", "Qwen/Qwen2.5-7B"],
    ["Qwen/Qwen3-8B-FP8", "Qwen/Qwen3-8B"],
    ["Qwen3-30B-A3B-Instruct-2507", "Qwen/Qwen3-30B-A3B"],
    ["mixtral:8x7b", "mistralai/Mixtral-8x7B-v0.1"],
    ["mistral:7b", "mistralai/Mistral-7B-v0.3"],
    ["google/gemma-2-9b-it", "google/gemma-2-9b"],
    ["gemma2:27b", "google/gemma-2-27b"],
    ["phi4", "microsoft/phi-4"],
    ["unsloth/Llama-3.2-3B-Instruct-bnb-4bit", "meta-llama/Llama-3.2-3B"],
  ])("%s", (name, id) => {
    expect(findModel(parseModelName(name).canonical)?.id).toBe(id);
  });
});

describe("a relative of a known model is not taken for it", () => {
  test.each([
    "Qwen/Qwen2.5-VL-7B-Instruct",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    "qwen-72b",
    "intfloat/e5-mistral-7b-instruct",
    "llama",
    "constructor",
    "",
  ])("%s", (name) => {
    expect(findModel(parseModelName(name).canonical)).toBeNull();
  });
});
