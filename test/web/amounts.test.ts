import { expect, test } from "vitest";
import { count, gib, hours, indices, modelOf, NO_READING, rounded, share } from "../../src/web/model/amounts.ts";

test("memory is told in GiB, with a digit where it tells something, and no reading is not 0", () => {
  const told = [0, 512, 1_024, 63_590, 81_559, 143_771, null].map(gib);
  expect(told).toEqual(["0", "0.5", "1", "62.1", "79.6", "140", NO_READING]);
  expect([0.4, 99.6, null].map(rounded)).toEqual(["0", "100", NO_READING]);
  expect([0, 0.004, 0.02, 12.34, 123.4].map(hours)).toEqual(["0.00", "<0.01", "0.02", "12.3", "123"]);
});

test("a part of a whole is within 0 and 1, and unknown when one of them is", () => {
  expect(share(5, 10)).toBe(0.5);
  expect(share(12, 10)).toBe(1);
  expect([share(null, 10), share(5, null), share(5, 0)]).toEqual([null, null, null]);
});

test("indices in a row are told by their ends, whatever order they come in", () => {
  expect(indices([3, 0, 1, 2])).toBe("0 to 3");
  expect(indices([7, 1, 0, 5, 4, 3])).toBe("0, 1, 3 to 5, 7");
  expect(indices([null, 2])).toBe("2");
  expect(indices([])).toBe("");
});

test("what is counted is one or several, and the maker's name is no part of a model", () => {
  expect([count(1, "GPU"), count(0, "lease"), count(2, "entry", "entries")]).toEqual([
    "1 GPU",
    "0 leases",
    "2 entries",
  ]);
  expect(modelOf("NVIDIA H100 80GB HBM3")).toBe("H100 80GB HBM3");
});
