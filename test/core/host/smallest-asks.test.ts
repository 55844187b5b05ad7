import { expect, test } from "vitest";
import { OrderedMap } from "../../../src/core/base/ordered-map.ts";
import { type Ask, isWithin, type Limit } from "../../../src/core/host/demand.ts";
import { LongSearch, SmallestAsks } from "../../../src/core/host/smallest-asks.ts";
import fc from "../../fc.ts";

type Tree = OrderedMap<number, Ask, SmallestAsks>;

const EMPTY: Tree = OrderedMap.empty({
  compare: (a, b) => a - b,
  measure: (_key, ask, left, right) => new SmallestAsks(ask, left, right),
});

function treeOf(asks: readonly Ask[]): Tree {
  return asks.reduce((tree, ask, i) => tree.set(i, ask), EMPTY);
}

function search(tree: Tree, limits: readonly Limit[]): { readonly found: Ask | undefined; readonly looks: number } {
  const long = new LongSearch(limits);
  let looks = 0;
  const promising = (smallest: SmallestAsks) => {
    looks++;
    return long.isPromising(smallest);
  };
  return { found: tree.find(promising, (ask) => isWithin(ask, limits)), looks };
}

const ask: fc.Arbitrary<Ask> = fc.record({
  memoryMib: fc.integer({ min: 1, max: 100 }),
  durationMs: fc.integer({ min: 1, max: 100 }),
});

/** The more memory, the shorter: few undercut each other, so that a part has many corners, more than are kept. */
const traded: fc.Arbitrary<Ask> = fc
  .record({ memoryMib: fc.integer({ min: 1, max: 100 }), more: fc.nat({ max: 3 }) })
  .map(({ memoryMib, more }) => ({ memoryMib, durationMs: 101 - memoryMib + more }));

/** So tight that few are within it, or none: else somebody is found before the search is long. */
const tight: fc.Arbitrary<Limit> = fc.record({
  memoryMib: fc.integer({ min: 1, max: 12 }),
  durationMs: fc.integer({ min: 1, max: 12 }),
});

test("a search that becomes long finds the one that a look at everybody finds", () => {
  fc.assert(
    fc.property(
      fc.array(ask, { minLength: 200, maxLength: 400 }),
      fc.array(fc.record({ at: fc.nat({ max: 399 }), ask }), { maxLength: 20 }),
      fc.array(tight, { minLength: 1, maxLength: 2 }),
      (asks, changes, limits) => {
        let tree = treeOf(asks);
        expect(search(tree, limits).found).toEqual(asks.find((one) => isWithin(one, limits)));
        // What was found out of the parts before does not hold for those that have changed.
        const changed = [...asks];
        for (const { at, ask: next } of changes) {
          changed[at % asks.length] = next;
          tree = tree.set(at % asks.length, next);
        }
        expect(search(tree, limits).found).toEqual(changed.find((one) => isWithin(one, limits)));
      },
    ),
    { numRuns: 300, endOnFailure: true },
  );
});

test("a part with more corners than are kept is searched where one of them may be within a limit", () => {
  fc.assert(
    fc.property(
      fc.array(traded, { minLength: 200, maxLength: 300 }),
      fc.integer({ min: 1, max: 100 }),
      (asks, memoryMib) => {
        const limits = [{ memoryMib, durationMs: 101 - memoryMib }];
        expect(search(treeOf(asks), limits).found).toEqual(asks.find((one) => isWithin(one, limits)));
      },
    ),
    { numRuns: 300, endOnFailure: true },
  );
});

test("where some are too large and the others too long, a search ends without a look at each", () => {
  const asks = Array.from({ length: 10_000 }, (_, i) =>
    i % 2 === 0 ? { memoryMib: 1, durationMs: 100_000 + i } : { memoryMib: 80, durationMs: 50_000 - i },
  );
  const { found, looks } = search(treeOf(asks), [{ memoryMib: 40, durationMs: 60_000 }]);
  expect(found).toBeUndefined();
  expect(looks).toBeLessThan(200);
});
