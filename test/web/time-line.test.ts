import { expect, test } from "vitest";
import type { GpuState, Span } from "../../src/web/api/answers.ts";
import { barsOf, marksOf, periodFor } from "../../src/web/model/time-line.ts";

const HOUR = 3_600_000;
const FROM = new Date(2_026, 10, 30).getTime();
const TO = FROM + 24 * HOUR;

function span(from: number, to: number, state: GpuState, services: string[] = [], idle = false): Span {
  const at = (hours: number) => new Date(FROM + hours * HOUR).toISOString();
  return { from: at(from), to: at(to), state, services, idle };
}

const drawn = (spans: readonly Span[]) => barsOf(spans, FROM, TO).map(({ kind, label }) => `${kind} ${label}`);

test("who held it, when it sat idle, when it was out of service and what is not known are told apart", () => {
  const bars = [
    span(-2, 1, "unknown"),
    span(1, 4, "free"),
    span(4, 6, "leased", ["ocr"]),
    span(6, 8, "leased", ["ocr"], true),
    span(8, 8.5, "reclaiming"),
    span(8.5, 12, "cordoned"),
    span(12, 13, "unknown", ["train"]),
    span(13, 14, "mig", ["a", "b"]),
  ];
  expect(drawn(bars)).toEqual([
    "unknown unknown",
    "held ocr",
    "idle ocr",
    "between reclaiming",
    "out cordoned",
    "unknown train",
    "held a, b",
  ]);
  expect(barsOf(bars, FROM, TO)[0]).toMatchObject({ from: 0, to: 1 / 24 });
});

test("ten thousand short leases are no more bars than can be seen, and all their time is drawn", () => {
  const step = 24 / 10_000;
  const spans = Array.from({ length: 10_000 }, (_, i) => span(i * step, (i + 1) * step, "leased", [`svc-${i % 7}`]));
  const bars = barsOf(spans, FROM, TO);
  expect(bars.length).toBeLessThan(1_500);
  expect(bars.reduce((sum, bar) => sum + bar.to - bar.from, 0)).toBeCloseTo(1, 3);
});

test("times are marked as densely as there is room for, by the clock on the wall", () => {
  const minutes = (of: readonly number[]) => of.map((at) => (at - FROM) / 60_000);
  expect(minutes(marksOf(FROM + 61_000, FROM + HOUR / 4, 8))).toEqual([2, 4, 6, 8, 10, 12, 14]);
  expect(minutes(marksOf(FROM + 61_000, FROM + HOUR / 4, 6))).toEqual([5, 10]);
  expect(minutes(marksOf(FROM, FROM + HOUR, 6))).toEqual([10, 20, 30, 40, 50]);
  expect(marksOf(FROM, TO, 8)).toHaveLength(7);
  expect(marksOf(FROM, FROM + HOUR * 6, 8)).toHaveLength(5);
  expect(marksOf(FROM, FROM + 7 * 24 * HOUR, 8).every((at) => new Date(at).getHours() === 0)).toBe(true);
});

test("a host that has just been started is shown for as long as it is known", () => {
  const periods = [HOUR, 6 * HOUR, 24 * HOUR];
  const known = (since: number) => [[span(-1, since, "unknown"), span(since, 24, "free")]];
  expect([23.5, 20, 3].map((since) => periodFor(known(since), periods, TO) / HOUR)).toEqual([1, 6, 24]);
  expect(periodFor([[span(0, 24, "unknown")]], periods, TO)).toBe(HOUR);
});
