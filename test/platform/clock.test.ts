import { expect, test, vi } from "vitest";
import { ManualClock, steadyClock } from "../../src/platform/clock.ts";

test("the steady clock starts at the wall clock and ignores its jumps", () => {
  const clock = steadyClock();
  expect(Math.abs(clock.now() - Date.now())).toBeLessThan(1_000);
  const before = clock.now();
  const spy = vi.spyOn(Date, "now").mockReturnValue(0);
  expect(clock.now()).toBeGreaterThanOrEqual(before);
  spy.mockRestore();
});

test("it never starts before the time it is told has been", () => {
  const future = Date.now() + 86_400_000;
  expect(steadyClock(future).now()).toBeGreaterThanOrEqual(future);
});

test("sleep of the host counts, and jitter between its clocks does not", () => {
  let monotonic = 100;
  let uptime = 5_000;
  const clock = steadyClock(0, { wallMs: () => 1_000_000, monotonicMs: () => monotonic, uptimeMs: () => uptime });
  expect(clock.now()).toBe(1_000_000);
  monotonic += 2_000;
  uptime += 2_010;
  expect(clock.now()).toBe(1_002_000);
  monotonic += 1_500;
  uptime += 8 * 3_600_000;
  expect(clock.now()).toBeGreaterThanOrEqual(1_002_000 + 8 * 3_600_000);
  const awake = clock.now();
  monotonic += 1_500;
  uptime += 1_500;
  expect(clock.now()).toBe(awake + 1_500);
});

test("without an uptime the monotonic clock alone counts", () => {
  let monotonic = 0;
  const clock = steadyClock(0, { wallMs: () => 50, monotonicMs: () => monotonic, uptimeMs: () => null });
  monotonic = 10_000;
  expect(clock.now()).toBe(10_050);
});

test("the manual clock runs timers in order as it passes them, those that they set included", () => {
  const clock = new ManualClock(0);
  const ran: string[] = [];
  clock.after(20, () => ran.push("b"));
  clock.after(10, () => {
    ran.push(`a at ${clock.now()}`);
    clock.after(5, () => ran.push("a2"));
  });
  const cancel = clock.after(12, () => ran.push("never"));
  cancel();
  clock.advance(20);
  expect(ran).toEqual(["a at 10", "a2", "b"]);
  expect(clock.now()).toBe(20);
});
