/** What may be said to vLLM, and what of it is refused before an engine is started with it. */
import { describe, expect, test } from "vitest";
import { modelLengthOf } from "../../src/controller/objects/engine-config.ts";
import { readSpec } from "../../src/controller/objects/rules.ts";
import { spec } from "./objects.ts";

const breaches = (config: object) => {
  const read = readSpec({ ...spec(), engine: { config } });
  return "breaches" in read ? read.breaches.map(({ path, message }) => `${path}: ${message}`) : [];
};

describe("an engine's settings", () => {
  test.each([
    {},
    { max_model_len: 4_096, gpu_memory_utilization: 0.9 },
    { max_model_len: "8k", gpu_memory_utilization: "0.5" },
    { max_model_len: "auto", gpu_memory_utilization: 1 },
    { max_model_len: -1 },
    // The second seed's clients send null for what they do not state.
    { max_model_len: null, gpu_memory_utilization: null, model: null },
    { dtype: "auto", rope_scaling: { factor: 2 }, trust_remote_code: true },
  ])("may be %j", (config) => {
    expect(breaches(config)).toEqual([]);
  });

  test.each<[object, string]>([
    [{ gpu_memory_utilization: 7 }, "gpu_memory_utilization: expected more than 0 and at most 1"],
    [{ gpu_memory_utilization: 0 }, "gpu_memory_utilization: expected more than 0 and at most 1"],
    [{ gpu_memory_utilization: "nan" }, "gpu_memory_utilization: expected more than 0 and at most 1"],
    [{ max_model_len: 0 }, "max_model_len: expected tokens such as 8192 or 8k, or auto"],
    [{ max_model_len: 1.5 }, "max_model_len: expected tokens such as 8192 or 8k, or auto"],
    [{ max_model_len: "many" }, "max_model_len: expected tokens such as 8192 or 8k, or auto"],
    [{ max_model_len: { of: 1 } }, "max_model_len: expected tokens such as 8192 or 8k, or auto"],
    [{ model: "another/model" }, "model: it is said by engine.model"],
    [{ port: 1 }, "port: it is said by the controller"],
    [{ host: "0.0.0.0" }, "host: it is said by the controller"],
  ])("may not be %j", (config, words) => {
    expect(breaches(config)).toEqual([`spec.engine.config.${words}`]);
  });

  test("have a length in tokens by vLLM's own suffixes", () => {
    const lengths = [4_096, "4096", "4k", "4K", "1M", "auto", -1, undefined, "0", "4 k"];
    expect(lengths.map((given) => modelLengthOf({ max_model_len: given }))).toEqual([
      ...[4_096, 4_096, 4_000, 4_096, 1_048_576],
      ...[null, null, null, null, null],
    ]);
  });
});
