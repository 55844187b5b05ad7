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
