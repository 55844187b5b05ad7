import { expect, test } from "vitest";
import { canonicalJson } from "../../../src/core/base/json.ts";

test("values with the same fields have the same canonical text, in whatever order these were written", () => {
  const one = { a: 1, b: { c: [{ d: null, e: "x" }], f: true } };
  const other = { b: { f: true, c: [{ e: "x", d: null }] }, a: 1 };
  expect(JSON.stringify(one)).not.toBe(JSON.stringify(other));
  expect(canonicalJson(one)).toBe(canonicalJson(other));
  expect(canonicalJson(one)).toBe('{"a":1,"b":{"c":[{"d":null,"e":"x"}],"f":true}}');
});

test.each([
  [{ a: 1 }, { a: 2 }],
  [{ a: 1 }, { a: 1, b: null }],
  [
    [1, 2],
    [2, 1],
  ],
  [{ a: [] }, { a: {} }],
])("%j and %j differ in their canonical text, as lists do that are in another order", (one, other) => {
  expect(canonicalJson(one)).not.toBe(canonicalJson(other));
});

test("a field that is left out and one that is undefined are the same, as they are in the database", () => {
  expect(canonicalJson({ a: 1, b: undefined })).toBe(canonicalJson({ a: 1 }));
});
