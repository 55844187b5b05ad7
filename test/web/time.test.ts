import { expect, test } from "vitest";
import { aged, clock, expected, lasting } from "../../src/web/model/time.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
/** Noon where the test runs, so that no day ends nearby. */
const NOON = new Date(2_026, 10, 30, 12).getTime();

test("a duration has two units at most, and seconds only while they matter", () => {
  const told = [0, 43_900, 5 * MINUTE + 7_000, 10 * MINUTE, 12 * MINUTE + 59_000, 134 * MINUTE, 2 * HOUR, 76 * HOUR];
  expect(told.map(lasting)).toEqual(["0 s", "43 s", "5 min 7 s", "10 min", "12 min", "2 h 14 min", "2 h", "3 d 4 h"]);
  expect(lasting(-5_000)).toBe("0 s");
  expect([59_000, 61_000, 5 * MINUTE + 7_000, 12 * MINUTE].map(aged)).toEqual(["59 s", "1 min", "5 min", "12 min"]);
});

test("an instant of today is a time, one of this week has its weekday, and one further off its date", () => {
  expect(clock(NOON + 130 * MINUTE, NOON)).toBe("14:10");
  expect(clock(NOON - 24 * HOUR, NOON)).toBe("Sun 12:00");
  expect(clock(NOON - 10 * 24 * HOUR, NOON)).toBe("20 Nov 12:00");
});

test("a grant is expected in minutes when it is near, and by the clock when it is not", () => {
  expect(expected(NOON + 12 * MINUTE, NOON + 24.5 * MINUTE, NOON)).toBe("in 12 to 25 min");
  expect(expected(NOON + 12 * MINUTE, NOON + 12 * MINUTE, NOON)).toBe("in 12 min");
  expect(expected(NOON - HOUR, NOON + 30_000, NOON)).toBe("any moment");
  expect(expected(NOON + HOUR, NOON + 2.5 * HOUR, NOON)).toBe("13:00 to 14:30");
});
