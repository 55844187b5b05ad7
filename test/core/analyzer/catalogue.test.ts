import { describe, expect, test } from "vitest";
import { type CatalogueEntry, catalogue, findModel, MODEL_RECORDS } from "../../../src/core/analyzer/catalogue.ts";
import { total } from "../../../src/core/analyzer/parameters.ts";
import { parseModelName } from "../../../src/core/analyzer/parse-name.ts";

/** How far a checkpoint may differ by the buffers that it stores and counts. */
const TOLERANCE = 0.01;

const ADDRESS = /^https:\/\/[a-z.]+\/\S+$/;

test("there are at least 60 models, of every kind", () => {
  expect(MODEL_RECORDS.length).toBeGreaterThanOrEqual(60);
  expect(new Set(MODEL_RECORDS.map(({ kind }) => kind))).toEqual(
    new Set(["language", "embedding", "vision-language", "ocr", "speech", "diffusion"]),
  );
});

test.each(MODEL_RECORDS)("$id has the published number of parameters", ({ id, parameters }) => {
  const architecture = catalogue().find((entry) => entry.id === id)?.architecture;
  if (architecture === undefined) throw new Error(`${id} is not in the catalogue`);
  const counted = total(architecture.parameters) + architecture.unloadedParameters;
  expect(Math.abs(counted / parameters - 1)).toBeLessThan(TOLERANCE);
});

test("most models have exactly the published number of parameters", () => {
  const exact = MODEL_RECORDS.filter(({ parameters }, index) => {
    const { architecture } = catalogue()[index] as CatalogueEntry;
    return total(architecture.parameters) + architecture.unloadedParameters === parameters;
  });
  expect(exact.length).toBeGreaterThanOrEqual(90);
});

test("every entry says where its facts and its published size were read, and when", () => {
  for (const { id, source, parameters_source, read } of MODEL_RECORDS) {
    expect(source, id).toMatch(ADDRESS);
    expect(parameters_source, id).toMatch(ADDRESS);
    expect(Number.isNaN(Date.parse(read)), id).toBe(false);
  }
});

test("every entry is found under its own id", () => {
  for (const { id } of catalogue()) expect(findModel(parseModelName(id).canonical)?.id).toBe(id);
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
    ["gpt-oss:20b", "openai/gpt-oss-20b"],
    ["gemma3:12b", "google/gemma-3-12b-it"],
    ["whisper-large-v3", "openai/whisper-large-v3"],
    ["Qwen/Qwen2.5-VL-7B-Instruct-AWQ", "Qwen/Qwen2.5-VL-7B-Instruct"],
    ["bge-m3", "BAAI/bge-m3"],
  ])("%s", (name, id) => {
    expect(findModel(parseModelName(name).canonical)?.id).toBe(id);
  });
});

describe("a relative of a known model is not taken for it", () => {
  test.each([
    "Qwen/Qwen2.5-Omni-7B",
    "Qwen/Qwen3-8B-Draft",
    "qwen-72b",
    "acme/e4-mistral-7b",
    "llama",
    "constructor",
    "",
  ])("%s", (name) => {
    expect(findModel(parseModelName(name).canonical)).toBeNull();
  });
});
