import { expect, test } from "vitest";
import { isoTime } from "../../src/platform/iso-time.ts";
import fc from "../fc.ts";

const near = fc.integer({ min: -3_000, max: 3_000 });
const anywhere = fc.integer({ min: -8.64e15, max: 8.64e15 });
const instant = fc.oneof(
  near,
  anywhere,
  near.map((ms) => Date.UTC(2026, 11, 31, 23, 59, 59) + ms),
  fc.double({ min: -1e12, max: 1e12, noNaN: true }),
);

test("an instant is written as Date writes it, whatever was written before", () => {
  fc.assert(
    fc.property(fc.array(instant, { maxLength: 20 }), (instants) => {
      expect(instants.map(isoTime)).toEqual(instants.map((at) => new Date(at).toISOString()));
    }),
    { numRuns: 2_000 },
  );
});

test.each([Number.NaN, Infinity, 8.65e15])("%d is no instant", (at) => {
  expect(() => isoTime(at)).toThrow(RangeError);
});
