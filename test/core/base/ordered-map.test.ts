import { expect, test } from "vitest";
import { OrderedMap, type Ordering } from "../../../src/core/base/ordered-map.ts";
import fc from "../../fc.ts";

/** With the largest value of every part as its measure. */
const LARGEST: Ordering<number, number, number> = {
  compare: (a, b) => a - b,
  measure: (_key, value, left, right) => Math.max(value, left ?? -Infinity, right ?? -Infinity),
};

type Tree = OrderedMap<number, number, number>;

/** Keys are few enough to be hit again, and enough for a tree of a dozen floors. */
const KEYS = 3_000;

const change = fc.record({
  from: fc.nat({ max: KEYS - 1 }),
  /** Stretches make it lean to one side. */
  length: fc.oneof(fc.constant(1), fc.nat({ max: 900 })),
  value: fc.nat({ max: 1_000 }),
  isSet: fc.boolean(),
});

function sorted(model: ReadonlyMap<number, number>): readonly (readonly [number, number])[] {
  return [...model].sort(([a], [b]) => a - b);
}

function expectSame(tree: Tree, model: ReadonlyMap<number, number>, probe: number): void {
  const entries = sorted(model);
  const values = entries.map(([, value]) => value);
  expect(tree.size).toBe(model.size);
  expect([...tree.values()]).toEqual(values);
  expect(tree.first()).toEqual(entries[0]);
  expect(tree.measure).toBe(values.length === 0 ? undefined : Math.max(...values));
  expect(tree.get(probe)).toBe(model.get(probe));
  expect(tree.rank(probe)).toBe(entries.filter(([key]) => key < probe).length);
  expect([...tree.valuesFrom(probe)]).toEqual(entries.filter(([key]) => key >= probe).map(([, value]) => value));
  const wanted = tree.find(
    (largest) => largest >= probe % 1_000,
    (value) => value >= probe % 1_000,
  );
  expect(wanted).toBe(values.find((value) => value >= probe % 1_000));
}

test("whatever is set, taken and deleted, it holds what a plain map holds, in order, and its old versions stay", () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 12 }), fc.nat({ max: KEYS }), (changes, probe) => {
      let tree: Tree = OrderedMap.empty(LARGEST);
      const model = new Map<number, number>();
      for (const { from, length, value, isSet } of changes) {
        const [old, oldEntries] = [tree, sorted(model)];
        for (let key = from; key < Math.min(KEYS, from + length); key++) {
          if (isSet) {
            tree = tree.set(key, (value * 7 + key) % 1_000);
            model.set(key, (value * 7 + key) % 1_000);
          } else {
            const taken = tree.take(key);
            expect(taken?.value).toBe(model.get(key));
            tree = taken?.rest ?? tree;
            model.delete(key);
          }
        }
        expectSame(tree, model, probe);
        expect([...old.values()]).toEqual(oldEntries.map(([, kept]) => kept));
      }
    }),
    { numRuns: 200 },
  );
});

test("a part whose measure promises nothing is not looked at, however many it holds", () => {
  let tree: Tree = OrderedMap.empty(LARGEST);
  for (let key = 0; key < 10_000; key++) tree = tree.set(key, key === 7_777 ? 1 : 0);
  let looks = 0;
  const found = tree.find(
    (largest) => {
      looks++;
      return largest > 0;
    },
    (value) => value > 0,
  );
  expect(found).toBe(1);
  expect(looks).toBeLessThan(100);
});

test("what was never there is not deleted: the map stays the same value", () => {
  const tree = OrderedMap.empty(LARGEST).set(1, 1);
  expect(tree.delete(2)).toBe(tree);
  expect(tree.delete(1).size).toBe(0);
  expect(tree.take(2)).toBeUndefined();
});
