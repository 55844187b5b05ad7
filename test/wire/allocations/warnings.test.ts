import { expect, test } from "vitest";
import { warningsOf } from "../../../src/wire/allocations/warnings.ts";

const of = (...keys: readonly string[]) =>
  warningsOf({ workload_type: "inference", workload_data: Object.fromEntries(keys.map((key) => [key, 1])) });

test("a key that is nearly a known one is warned of as often as it comes, whatever others came between", () => {
  const warning = ["workload_data.batchsize is not read; did you mean batch_size?"];
  expect(of("batchsize")).toEqual(warning);
  expect(of("batchsize", "purpose", "batch_size")).toEqual(warning);
  for (let round = 0; round < 5; round++) {
    expect(of(...Array.from({ length: 250 }, (_, i) => `key-of-my-own-${round}-${i}`))).toEqual([]);
  }
  expect(of("batchsize")).toEqual(warning);
});

test("a key is near a known one by two edits, which may be letters more or fewer, and near a short one by one", () => {
  expect(of("batch_siz")).toHaveLength(1);
  expect(of("batch_sizes_")).toHaveLength(1);
  expect(of("batch_sizes__")).toEqual([]);
  expect(of("modl")).toEqual(["workload_data.modl is not read; did you mean model?"]);
  expect(of("mod")).toEqual([]);
});
