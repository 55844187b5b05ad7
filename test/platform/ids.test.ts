import { expect, test } from "vitest";
import { sortableIds } from "../../src/platform/ids.ts";

test("ids are 26 characters, sort by time, and count up within a millisecond", () => {
  const next = sortableIds();
  const ids = [1, 1, 1, 2, 2, 1_800_000_000_000].map((ms) => next(ms));
  for (const id of ids) expect(id).toMatch(/^[0-9a-hjkmnp-tv-z]{26}$/);
  expect([...ids].sort()).toEqual(ids);
  expect(new Set(ids).size).toBe(ids.length);
});

test("a clock that goes back does not break the order", () => {
  const next = sortableIds();
  const before = next(2_000);
  expect(next(1_000) > before).toBe(true);
});

test("counting up carries over to the next digit", () => {
  // All ones but the first digit, which is kept small: the last fifteen digits are at their end.
  const next = sortableIds((bytes) => new Uint8Array(bytes).fill(31));
  const first = next(5);
  const second = next(5);
  expect(first.slice(10)).toBe(`f${"z".repeat(15)}`);
  expect(second.slice(10)).toBe(`g${"0".repeat(15)}`);
});

test("a hundred thousand ids of one process differ", () => {
  const next = sortableIds();
  const ids = new Set(Array.from({ length: 100_000 }, (_, i) => next(Math.floor(i / 50))));
  expect(ids.size).toBe(100_000);
});
