import { expect, test } from "vitest";
import { fromPlain, type Plain, toPlain } from "../../../src/core/replay/plain.ts";
import fc from "../../fc.ts";

const key = fc.oneof(fc.string(), fc.constantFrom("$number", "1", "a"));

const value: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(null, true, Number.NaN, Infinity, 1.5, "text"),
    fc.integer(),
    fc.string(),
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(key, tie("value"), { maxKeys: 4, noNullPrototype: true }),
    fc.array(fc.tuple(key, tie("value")), { maxLength: 4 }).map((entries) => new Map(entries)),
    fc.array(fc.string(), { maxLength: 4 }).map((members) => new Set(members)),
  ),
})).value;

test("whatever a value holds, it comes back from its text as it was", () => {
  fc.assert(
    fc.property(value, (one) => {
      const text = JSON.stringify(toPlain(one));
      expect(fromPlain(JSON.parse(text) as Plain)).toEqual(one);
    }),
    { numRuns: 1_000 },
  );
});

test("what is JSON already is not copied", () => {
  const ask = { gpus: 2, names: ["a", "b"], data: { sizes: [1, 2], note: null } };
  expect(toPlain(ask)).toBe(ask);
});

test("what is undefined is left out, and the rest stays in its order", () => {
  expect(Object.keys(toPlain({ b: 1, left: undefined, a: 2 }) as object)).toEqual(["b", "a"]);
});
