import { expect, onTestFinished, test, vi } from "vitest";
import { ManualClock } from "../../src/platform/clock.ts";
import { everyNight } from "../../src/platform/nightly.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** Nightly work whose wall clock is at `hour` o'clock, local time; `pass` lets both clocks go on. */
function nightsFrom(hour: number) {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"], now: new Date(2026, 5, 10, hour) });
  onTestFinished(() => void vi.useRealTimers());
  const clock = new ManualClock();
  const runs: number[] = [];
  const begun = clock.now();
  const stop = everyNight(clock, () => runs.push((clock.now() - begun) / HOUR_MS));
  const pass = async (hours: number) => {
    for (let passed = 0; passed < hours * HOUR_MS; passed += MINUTE_MS) {
      clock.advance(MINUTE_MS);
      await vi.advanceTimersByTimeAsync(MINUTE_MS);
    }
  };
  return { clock, runs, pass, stop };
}

test("work is done once a night", async () => {
  const { runs, pass, stop } = nightsFrom(0);
  await pass(72);
  expect(runs.map((at) => Math.round(at))).toEqual([3, 27, 51]);
  stop();
  await pass(72);
  expect(runs).toHaveLength(3);
});

test("when the wall clock is set, so that no night comes, it is done all the same, and no oftener than once a day", async () => {
  const { runs, pass, stop } = nightsFrom(12);
  vi.setSystemTime(new Date(2025, 5, 10, 12));
  await pass(80);
  expect(runs).toHaveLength(3);
  for (const [i, at] of runs.entries()) expect(at - (runs[i - 1] ?? 0)).toBeGreaterThanOrEqual(15);
  stop();
});

test("a wall clock that was set a year ahead does not make up for a year of nights", async () => {
  const { runs, pass, stop } = nightsFrom(12);
  vi.setSystemTime(new Date(2027, 5, 10, 12));
  await pass(40);
  expect(runs.length).toBeGreaterThanOrEqual(1);
  expect(runs.length).toBeLessThanOrEqual(2);
  stop();
});

test("a timer that is early by the wall clock does the work of that night, once", async () => {
  const { runs, pass } = nightsFrom(0);
  await pass(3);
  vi.setSystemTime(new Date(2026, 5, 10, 2, 57));
  await pass(21);
  expect(runs).toHaveLength(1);
  await pass(6);
  expect(runs).toHaveLength(2);
});
