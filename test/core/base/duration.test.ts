import { expect, test } from "vitest";
import { formatDuration, MAX_DURATION_MS, parseDuration } from "../../../src/core/base/duration.ts";
import fc from "../../fc.ts";

test.each([
  ["250ms", 250],
  ["5s", 5_000],
  ["1m30s", 90_000],
  ["2h", 7_200_000],
  ["30d", 2_592_000_000],
  ["1d2h3m4s5ms", 93_784_005],
  ["0s", 0],
  ["1.5h", 5_400_000],
  ["2.3h", 8_280_000],
  ["90m", 5_400_000],
  ["36500d", MAX_DURATION_MS],
])("%s is %d ms", (text, expected) => {
  expect(parseDuration(text)).toBe(expected);
});

test.each([
  "",
  "5",
  "5 s",
  " 5s",
  "5s\n",
  "-5s",
  "+5s",
  "5S",
  "5sec",
  "1e3s",
  "0x5s",
  ".5s",
  "5.s",
  "30s1m",
  "1s1s",
  "1m1m",
  "s",
  "ms",
  "0.5ms",
  "1.0001s1",
  "36500d1ms",
  "99999999999999999999s",
  `${"0".repeat(100)}5s`,
  "５s",
  "none",
])("%j is no duration", (text) => {
  expect(parseDuration(text)).toBeNull();
});

test("what is written is read as the same number", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: MAX_DURATION_MS }), (durationMs) => {
      expect(parseDuration(formatDuration(durationMs))).toBe(durationMs);
    }),
  );
});

test("a duration is written with the largest units first and no empty ones", () => {
  expect(formatDuration(90_000)).toBe("1m30s");
  expect(formatDuration(86_400_001)).toBe("1d1ms");
  expect(formatDuration(0)).toBe("0s");
});

test("no text throws, and whatever is read is a whole number within the limit", () => {
  const texts = fc.oneof(fc.string(), fc.stringMatching(/^(\d{1,4}(\.\d{1,3})?(ms|[dhms])){0,5}$/));
  fc.assert(
    fc.property(texts, (text) => {
      const parsed = parseDuration(text);
      if (parsed !== null) expect(Number.isInteger(parsed) && parsed >= 0 && parsed <= MAX_DURATION_MS).toBe(true);
    }),
  );
});
