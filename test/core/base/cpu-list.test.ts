import { expect, test } from "vitest";
import { formatCpuList, parseCpuList, unionOfCpuLists } from "../../../src/core/base/cpu-list.ts";
import fc from "../../fc.ts";

test.each([
  ["0-31,64-95", "0-31,64-95"],
  ["7", "7"],
  ["4,6,9,15,17", "4,6,9,15,17"],
  ["3,2,1,0", "0-3"],
  ["0-3,2-5,6", "0-6"],
])("the list %s is %s in ascending ranges", (text, canonical) => {
  expect(formatCpuList(parseCpuList(text) ?? [])).toBe(canonical);
});

test.each(["", "N/A", "5-3", "1,", ",1", "1--2", "-1", "0x1", "1 ", "0-31:2", "1.5", "100000", "1,".repeat(9_000)])(
  "%j is no list",
  (text) => {
    expect(parseCpuList(text)).toBeNull();
  },
);

test("a union holds the CPUs of every list and no other, whatever their order", () => {
  const cpus = fc.uniqueArray(fc.nat(200), { minLength: 1, maxLength: 40 });
  const lists = fc.array(cpus, { minLength: 1, maxLength: 5 });
  const listOf = (numbers: readonly number[]) => formatCpuList(parseCpuList(numbers.join(",")) ?? []);
  fc.assert(
    fc.property(lists, (sets) => {
      const union = unionOfCpuLists(sets.map(listOf));
      const expected = [...new Set(sets.flat())].sort((a, b) => a - b);
      const members = (parseCpuList(union) ?? []).flatMap(([first, last]) =>
        Array.from({ length: last - first + 1 }, (_, n) => first + n),
      );
      expect(members).toEqual(expected);
      expect(unionOfCpuLists(sets.map(listOf).reverse())).toBe(union);
    }),
  );
});
