import { expect, onTestFinished, test, vi } from "vitest";
import { clockAtStart, ManualClock, steadyClock, type TimeRecord } from "../../src/platform/clock.ts";
import { FakeHost } from "../fixtures/fake-host.ts";

test("the steady clock starts at the wall clock and ignores its jumps", () => {
  const clock = steadyClock();
  expect(Math.abs(clock.now() - Date.now())).toBeLessThan(1_000);
  const before = clock.now();
  const spy = vi.spyOn(Date, "now").mockReturnValue(0);
  expect(clock.now()).toBeGreaterThanOrEqual(before);
  spy.mockRestore();
});

const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * 24 * HOUR_MS;

test("the first look after a sleep of the host counts it, and jitter between its clocks does not count", () => {
  const host = new FakeHost();
  const clock = steadyClock(1_000_000, host);
  expect(clock.now()).toBe(1_000_000);
  host.awakeMs += 2_000;
  host.sleptMs += 10;
  expect(clock.now()).toBe(1_002_000);
  host.awakeMs += 1;
  host.sleptMs += 8 * HOUR_MS;
  const awake = clock.now();
  expect(awake).toBeGreaterThanOrEqual(1_002_001 + 8 * HOUR_MS);
  expect(awake).toBeLessThanOrEqual(1_002_001 + 8 * HOUR_MS + 20);
  host.awakeMs += 1_500;
  expect(clock.now()).toBe(awake + 1_500);
});

test("a wall clock that is set moves the steady clock neither way, nor makes it read the uptime at every look", () => {
  const host = new FakeHost();
  const clock = steadyClock(undefined, host);
  const start = host.wallMs();
  expect(clock.now()).toBe(start);
  for (const set of [YEAR_MS, -2 * YEAR_MS, 700, -700]) {
    host.epochMs += set;
    host.awakeMs += 10;
    const reads = host.uptimeReads;
    for (let look = 0; look < 10; look++) clock.now();
    expect(host.uptimeReads - reads).toBe(1);
  }
  expect(clock.now()).toBe(start + 40);
});

test("without an uptime the monotonic clock alone counts", () => {
  const host = new FakeHost();
  host.hasUptime = false;
  const clock = steadyClock(undefined, host);
  const start = clock.now();
  host.awakeMs += 10_000;
  host.sleptMs += HOUR_MS;
  expect(clock.now()).toBe(start + 10_000);
});

test("timers count the sleep of the host: what fell due in it runs at once, the rest at its time", () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const host = new FakeHost();
  const clock = steadyClock(0, host);
  const ran: string[] = [];
  clock.after(HOUR_MS, () => ran.push("in the sleep"));
  clock.after(9 * HOUR_MS, () => ran.push("later"));
  const cancel = clock.after(HOUR_MS, () => ran.push("never"));
  host.sleptMs += 8 * HOUR_MS;
  clock.now();
  cancel();
  vi.advanceTimersByTime(1);
  expect(ran).toEqual(["in the sleep"]);
  vi.advanceTimersByTime(HOUR_MS - 20_000);
  expect(ran).toHaveLength(1);
  vi.advanceTimersByTime(20_000);
  expect(ran).toEqual(["in the sleep", "later"]);
  expect(vi.getTimerCount()).toBe(0);
});

test("a timer of more than 24 days runs once, at its time", () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const host = new FakeHost();
  const clock = steadyClock(0, host);
  let runs = 0;
  clock.after(60 * 24 * HOUR_MS, () => runs++);
  const pass = (ms: number) => {
    // In small steps, as a clock that is looked at every second or so sees it.
    for (let passed = 0; passed < ms; passed += HOUR_MS) {
      host.awakeMs += HOUR_MS;
      vi.advanceTimersByTime(HOUR_MS);
    }
  };
  pass(60 * 24 * HOUR_MS - HOUR_MS);
  expect(runs).toBe(0);
  pass(2 * HOUR_MS);
  expect(runs).toBe(1);
});

/** A daemon that runs on `host`, writes down a turn after `forMs`, and is gone for `awayMs`; its record. */
function ran(host: FakeHost, bootId: string, forMs: number, last: TimeRecord | null = null) {
  const { clock, bootedAt } = clockAtStart(last, bootId, host);
  host.awakeMs += forMs;
  return { lastAt: clock.now(), bootId, bootedAt } satisfies TimeRecord;
}

test("the first start ever shows the wall clock and moves nothing", () => {
  const host = new FakeHost();
  const { clock, movedMs } = clockAtStart(null, "boot-1", host);
  expect([clock.now(), movedMs]).toEqual([host.wallMs(), 0]);
});

test("a start whose wall clock was not touched goes on with the time, and moves nothing", () => {
  const host = new FakeHost();
  const last = ran(host, "boot-1", 60_000);
  host.awakeMs += 1_234;
  host.sleptMs += HOUR_MS;
  for (const bootId of ["boot-1", "boot-2"]) {
    const { clock, movedMs } = clockAtStart(last, bootId, host);
    expect(movedMs).toBe(0);
    expect(Math.abs(clock.now() - host.wallMs())).toBeLessThanOrEqual(20);
    expect(clock.now()).toBeGreaterThanOrEqual(last.lastAt);
  }
});

test.each([YEAR_MS, -YEAR_MS])(
  "within a boot a wall clock that was set by %d ms is shown, and the time away is measured without it",
  (set) => {
    const host = new FakeHost();
    host.epochMs = 2 * YEAR_MS;
    const last = ran(host, "boot-1", 60_000);
    host.epochMs += set;
    host.awakeMs += 5_000;
    host.sleptMs += HOUR_MS;
    const { clock, movedMs } = clockAtStart(last, "boot-1", host);
    expect(clock.now()).toBe(host.wallMs());
    // Never longer than it was, or something would end early by it; shorter by the steps of the uptime at most.
    const awayMs = clock.now() - (last.lastAt + movedMs);
    expect(awayMs).toBeLessThanOrEqual(5_000 + HOUR_MS);
    expect(awayMs).toBeGreaterThan(5_000 + HOUR_MS - 30);
  },
);

test("a wall clock that is right again moves everything back by what it had been moved", () => {
  const host = new FakeHost();
  const first = ran(host, "boot-1", 60_000);
  host.epochMs += YEAR_MS;
  const ahead = clockAtStart(first, "boot-1", host);
  const second = { lastAt: ahead.clock.now() + 1_000, bootId: "boot-1", bootedAt: ahead.bootedAt };
  host.awakeMs += 2_000;
  host.epochMs -= YEAR_MS;
  const back = clockAtStart(second, "boot-1", host);
  expect(back.clock.now()).toBe(host.wallMs());
  expect(Math.abs(ahead.movedMs + back.movedMs)).toBeLessThanOrEqual(30);
});

test("over a reboot the wall clock tells the time away; if it is behind, no time has passed", () => {
  const host = new FakeHost();
  const last = ran(host, "boot-1", 60_000);
  host.awakeMs = 20_000;
  host.sleptMs = 0;
  const wall = (at: number) => {
    host.epochMs = at - host.awakeMs;
    return clockAtStart(last, "boot-2", host);
  };
  expect(wall(last.lastAt + HOUR_MS).movedMs).toBe(0);
  expect(wall(last.lastAt + YEAR_MS).movedMs).toBe(0);
  const behind = wall(last.lastAt - YEAR_MS);
  expect(behind.clock.now()).toBe(last.lastAt - YEAR_MS);
  expect(behind.clock.now() - (last.lastAt + behind.movedMs)).toBe(0);
});

test("many restarts do not add up what the uptime is short of", () => {
  const host = new FakeHost();
  let last = ran(host, "boot-1", 1_003);
  for (let start = 0; start < 500; start++) {
    host.awakeMs += 107;
    expect(clockAtStart(last, "boot-1", host).movedMs).toBe(0);
    last = ran(host, "boot-1", 1_003, last);
  }
  expect(Math.abs(last.lastAt - host.wallMs())).toBeLessThanOrEqual(30);
});

test("a wall clock that is off by less than a second is not followed, and moves nothing", () => {
  const host = new FakeHost();
  const last = ran(host, "boot-1", 60_000);
  const { awakeMs, epochMs } = host;
  for (const off of [900, -900]) {
    host.awakeMs = awakeMs + 5_000;
    host.epochMs = epochMs + off;
    const { clock, movedMs } = clockAtStart(last, "boot-1", host);
    expect(movedMs).toBe(0);
    expect(clock.now() - last.lastAt).toBeLessThanOrEqual(5_000);
    expect(clock.now() - last.lastAt).toBeGreaterThan(4_970);
  }
});

test("an uptime that went back within a boot, as a container's may, is not gone by", () => {
  const host = new FakeHost();
  host.awakeMs = HOUR_MS;
  const last = ran(host, "boot-1", 60_000);
  const wall = host.wallMs() + 10_000;
  host.awakeMs = 7_000;
  host.sleptMs = 0;
  host.epochMs = wall - host.awakeMs;
  const { clock, movedMs } = clockAtStart(last, "boot-1", host);
  expect([clock.now(), movedMs]).toEqual([wall, 0]);
});

test("where the system tells no uptime the wall clock counts, and never backwards", () => {
  const host = new FakeHost();
  host.hasUptime = false;
  const last = ran(host, "unknown", 60_000);
  expect(last.bootedAt).toBeNull();
  host.epochMs += HOUR_MS;
  expect(clockAtStart(last, "unknown", host).movedMs).toBe(0);
  host.epochMs -= YEAR_MS;
  const behind = clockAtStart(last, "unknown", host);
  expect(last.lastAt + behind.movedMs).toBe(behind.clock.now());
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
