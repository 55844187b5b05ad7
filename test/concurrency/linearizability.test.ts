/** The search itself, on the smallest of objects: a register that is written, read, and compared and set. */

import { expect, test } from "vitest";
import fc from "../fc.ts";
import { linearize, type Model, type Operation } from "./linearizability.ts";

type Step =
  | { readonly call: "write" | "read"; readonly value: number }
  /** Sets `value` if `expected` stands there; `done` tells whether it did. */
  | { readonly call: "set"; readonly expected: number; readonly value: number; readonly done: boolean };

/** In a box: a write of what stands there already must not look as if it changed nothing, for later it may. */
type Register = { readonly value: number };

const REGISTER: Model<Register, Step> = {
  initial: { value: 0 },
  key: ({ value }) => String(value),
  apply(state, step) {
    switch (step.call) {
      case "write":
        return { value: step.value };
      case "read":
        return state.value === step.value ? state : null;
      case "set":
        if ((state.value === step.expected) !== step.done) return null;
        return step.done ? { value: step.value } : state;
      default:
        return step satisfies never;
    }
  },
  mustPrecede: () => false,
  guesses: [],
};

const at = (invokedAt: number, answeredAt: number, step: Step): Operation<Step> => ({ step, invokedAt, answeredAt });
const write = (value: number): Step => ({ call: "write", value });
const read = (value: number): Step => ({ call: "read", value });

test("a read that overlaps a write may see it or not", () => {
  for (const value of [0, 1]) {
    const { verdict, order, left } = linearize([at(0, 3, write(1)), at(1, 2, read(value))], REGISTER);
    expect(verdict).toBe("linearizable");
    expect(order.map(({ step }) => step.call)).toEqual(value === 0 ? ["read", "write"] : ["write", "read"]);
    expect(left).toEqual([]);
  }
});

test("a read that begins after a write has been answered sees it", () => {
  const stale = at(2, 3, read(0));
  const { verdict, order, left } = linearize([at(0, 1, write(1)), stale], REGISTER);
  expect(verdict).toBe("impossible");
  expect(order.map(({ step }) => step)).toEqual([write(1)]);
  expect(left).toEqual([stale]);
});

test("two reads, one after the other, do not see an overlapping write come and go", () => {
  const history = (first: number, second: number) => [
    at(0, 9, write(1)),
    at(1, 2, read(first)),
    at(3, 4, read(second)),
  ];
  expect(linearize(history(0, 1), REGISTER).verdict).toBe("linearizable");
  expect(linearize(history(1, 0), REGISTER).verdict).toBe("impossible");
});

test("of two that compare and set at once, one wins", () => {
  const set = (value: number, done: boolean): Step => ({ call: "set", expected: 0, value, done });
  expect(linearize([at(0, 3, set(1, true)), at(1, 2, set(2, false))], REGISTER).verdict).toBe("linearizable");
  expect(linearize([at(0, 3, set(1, true)), at(1, 2, set(2, true))], REGISTER).verdict).toBe("impossible");
  expect(linearize([at(0, 3, set(1, false)), at(1, 2, set(2, false))], REGISTER).verdict).toBe("impossible");
});

test("an order that the model demands is kept, though time would allow another", () => {
  const history = [at(0, 3, write(1)), at(0, 3, read(0))];
  const writesFirst = { ...REGISTER, mustPrecede: (a: Operation<Step>) => a.step.call === "write" };
  expect(linearize(history, REGISTER).verdict).toBe("linearizable");
  expect(linearize(history, writesFirst).verdict).toBe("impossible");
});

test("a guess that is wrong rules nothing out", () => {
  const history = [at(0, 3, write(1)), at(0, 3, read(0))];
  const guess = { ...REGISTER, guesses: [(a: Operation<Step>) => a.step.call === "write"] };
  expect(linearize(history, guess).verdict).toBe("linearizable");
  // Not even one that contradicts itself.
  expect(linearize(history, { ...REGISTER, guesses: [() => true] }).verdict).toBe("linearizable");
});

test("a history that is too wide is undecided, and not called possible", () => {
  // Twenty writes at once in any order, and a read that none of them explains.
  const writes = Array.from({ length: 20 }, (_, i) => at(0, 9, write(i + 1)));
  const { verdict, left } = linearize([...writes, at(0, 10, read(99))], REGISTER, 1_000);
  expect(verdict).toBe("undecided");
  expect(left.map(({ step }) => step)).toContainEqual(read(99));
});

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ call: fc.constantFrom("write", "read"), value: fc.nat(2) }),
  fc.record({ call: fc.constant("set"), expected: fc.nat(2), value: fc.nat(2), done: fc.boolean() }),
);
const anyOperation = fc
  .tuple(anyStep, fc.nat(12), fc.nat(8))
  .map(([step, from, length]): Operation<Step> => at(from, from + length, step));

test("it agrees with trying every order there is", () => {
  const seen = { linearizable: 0, impossible: 0, undecided: 0 };
  fc.assert(
    fc.property(fc.array(anyOperation, { maxLength: 6 }), (history) => {
      const { verdict, order } = linearize(history, REGISTER);
      seen[verdict]++;
      expect(verdict).toBe(anyOrder(history, REGISTER.initial) ? "linearizable" : "impossible");
      if (verdict === "linearizable") expect(new Set(order)).toEqual(new Set(history));
    }),
    { numRuns: 3_000 },
  );
  // Both answers must have been asked for often enough.
  expect(Math.min(seen.linearizable, seen.impossible)).toBeGreaterThan(300);
});

/** Straight from the definition: is there an order that time allows and in which every answer can be given? */
function anyOrder(left: readonly Operation<Step>[], state: Register): boolean {
  if (left.length === 0) return true;
  return left.some((next) => {
    if (left.some(({ answeredAt }) => answeredAt < next.invokedAt)) return false;
    const after = REGISTER.apply(state, next.step);
    return (
      after !== null &&
      anyOrder(
        left.filter((other) => other !== next),
        after,
      )
    );
  });
}
