/** Reserved windows under a running scheduler: who counts the calendar out, when, and against which clock. */
import { expect, test } from "vitest";
import type { Allocation } from "../../src/core/model/allocation.ts";
import type { Booking } from "../../src/core/model/booking.ts";
import type { ReservedWindow } from "../../src/core/model/policy.ts";
import { ManualClock } from "../../src/platform/clock.ts";
import type { Scheduler } from "../../src/scheduler/scheduler.ts";
import { WindowCalendar } from "../../src/scheduler/window-calendar.ts";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { DEFAULT_POLICY } from "../simulation/simulated-host.ts";
import { ask, settled, startScheduler } from "./harness.ts";

const ANN = { principal: "ann", admin: false };
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

function window(over: Partial<ReservedWindow> = {}): ReservedWindow {
  return {
    name: "office",
    schedule: "0 9 * * 1-5",
    timeZone: "Europe/Berlin",
    durationMs: 9 * HOUR_MS,
    gpus: 1,
    members: [{ services: ["own"], principals: [], workloadTypes: [] }],
    spans: [],
    ...over,
  };
}

const at = (iso: string) => Date.parse(iso);
const shown = ({ state }: Scheduler) =>
  state.policy.windows.map(({ spans }) =>
    spans.map(({ from, to }) => `${new Date(from).toISOString()} ${new Date(to).toISOString()}`),
  );

/** Time may pass of which no timer hears at once. */
class SleepyClock extends ManualClock {
  #sleptMs = 0;
  override now(): number {
    return super.now() + this.#sleptMs;
  }
  sleep(ms: number): void {
    this.#sleptMs += ms;
  }
}

/** One GPU, and time that goes on as it does for a daemon: in small steps. */
async function start(from: string, windows: readonly ReservedWindow[], wallAheadMs = () => 0) {
  const clock = new SleepyClock(at(from));
  const running = await startScheduler(new MemoryStore(), { clock, wallAheadMs, policy: { windows } });
  const pass = async (ms: number) => {
    const end = clock.now() + ms;
    while (clock.now() < end) {
      clock.advance(Math.min(500, end - clock.now()));
      await settled();
    }
  };
  const statusOf = (allocation: Allocation) => running.scheduler.peek(allocation.request.id).allocation.status;
  const ask1 = async (over: Parameters<typeof ask>[0] = {}) =>
    (await running.scheduler.allocate(ask(over), ANN)).allocation;
  return { ...running, pass, statusOf, ask: ask1 };
}

test("the week to come is counted out at the start, by the clock of the window's zone", async () => {
  const { scheduler } = await start("2027-03-26T12:00Z", [window()]);
  expect(shown(scheduler)[0]?.slice(0, 3)).toEqual([
    "2027-03-26T08:00:00.000Z 2027-03-26T17:00:00.000Z",
    "2027-03-29T07:00:00.000Z 2027-03-29T16:00:00.000Z",
    "2027-03-30T07:00:00.000Z 2027-03-30T16:00:00.000Z",
  ]);
});

test.for([
  ["Europe/Berlin", "2027-03-27T12:00Z", "2027-03-28T01:00:00.000Z 2027-03-28T09:00:00.000Z"],
  ["Europe/Berlin", "2027-10-30T12:00Z", "2027-10-31T00:30:00.000Z 2027-10-31T08:30:00.000Z"],
  ["America/New_York", "2027-03-13T18:00Z", "2027-03-14T07:00:00.000Z 2027-03-14T15:00:00.000Z"],
  ["America/New_York", "2027-11-06T18:00Z", "2027-11-07T07:30:00.000Z 2027-11-07T15:30:00.000Z"],
  ["Australia/Lord_Howe", "2027-10-02T12:00Z", "2027-10-02T15:30:00.000Z 2027-10-02T23:30:00.000Z"],
  ["Australia/Lord_Howe", "2027-04-03T12:00Z", "2027-04-03T16:00:00.000Z 2027-04-04T00:00:00.000Z"],
] as const)(
  "a duration is elapsed time: in %s from half past two, when clocks change after %s",
  async ([timeZone, from, span]) => {
    const schedule = timeZone === "Australia/Lord_Howe" && from.startsWith("2027-10") ? "15 2 * * *" : "30 2 * * *";
    const { scheduler } = await start(from, [window({ schedule, timeZone, durationMs: 8 * HOUR_MS })]);
    expect(shown(scheduler)[0]?.[0]).toBe(span);
  },
);

test("openings that touch or overlap are one, and one GPU stays one", async () => {
  const { scheduler } = await start("2027-01-15T08:00Z", [window({ schedule: "0 */6 * * *", timeZone: "UTC" })]);
  const [only, ...rest] = scheduler.state.policy.windows[0]?.spans ?? [];
  expect(rest).toEqual([]);
  expect(only?.from).toBe(at("2027-01-15T00:00Z"));
  expect(only?.to).toBeGreaterThan(at("2027-12-15T00:00Z"));
});

test("of what is far off, the first time that the same windows are open together is known", () => {
  const calendar = new WindowCalendar(() => 0);
  const now = at("2027-01-15T08:00Z");
  const daily = window({ name: "daily", schedule: "0 9 * * *", durationMs: 2 * HOUR_MS, timeZone: "UTC" });
  const yearly = window({ name: "yearly", schedule: "0 10 1 7 *", durationMs: 2 * HOUR_MS, timeZone: "UTC" });
  const { windows } = calendar.fill({ ...DEFAULT_POLICY, windows: [daily, yearly] }, [], now);
  expect(windows[1]?.spans).toEqual([{ from: at("2027-07-01T10:00Z"), to: at("2027-07-01T12:00Z") }]);
  const days = windows[0]?.spans.map(({ from }) => new Date(from).toISOString().slice(5, 10));
  // Fifteen days, the first opening after those, and the one that meets the other window.
  expect(days).toEqual([
    "01-15",
    "01-16",
    "01-17",
    "01-18",
    "01-19",
    "01-20",
    "01-21",
    "01-22",
    "01-23",
    "01-24",
    "01-25",
    "01-26",
    "01-27",
    "01-28",
    "01-29",
    "01-30",
    "07-01",
  ]);
});

test("when a window closes, who waits is served at that instant and not with the next look", async () => {
  const { scheduler, clock, ask, statusOf } = await start("2027-01-15T16:59:58Z", [window()]);
  const waiting = await ask({ maxDurationMs: HOUR_MS });
  expect(waiting.status).toBe("queued");
  clock.advance(1_999);
  await settled();
  expect(statusOf(waiting)).toBe("queued");
  clock.advance(1);
  await settled();
  expect(statusOf(waiting)).toBe("offered");
  expect(scheduler.now()).toBe(at("2027-01-15T17:00Z"));
});

test("a reload counts the new windows out at once, and takes the old ones away", async () => {
  const { scheduler, ask, statusOf } = await start("2027-01-15T12:00Z", []);
  const policy = scheduler.state.policy;
  await scheduler.reconfigure({ ...policy, windows: [window()] }, 5_000);
  const waiting = await ask();
  expect(waiting.status).toBe("queued");
  expect((await ask({ serviceName: "own" })).status).toBe("leased");
  await scheduler.release({ id: null, serviceName: "own", fencingToken: null }, ANN);
  expect(statusOf(waiting)).toBe("queued");
  await scheduler.reconfigure({ ...policy, windows: [] }, 5_000);
  expect(statusOf(waiting)).toBe("offered");
});

test("a wall clock that is set moves the windows, within half a second", async () => {
  let ahead = 0;
  const { scheduler, pass, ask, statusOf } = await start("2027-01-15T12:00Z", [window()], () => ahead);
  const waiting = await ask({ maxDurationMs: HOUR_MS });
  // It was noon by the daemon's clock, which goes on; the wall clock now says that it is evening.
  ahead = 6 * HOUR_MS;
  await pass(500);
  expect(statusOf(waiting)).toBe("offered");
  expect(shown(scheduler)[0]?.[0]).toBe("2027-01-18T02:00:00.000Z 2027-01-18T11:00:00.000Z");
});

test("clocks that are a few milliseconds apart do not make a window open at a crooked time", async () => {
  let ahead = -3;
  const { scheduler, pass } = await start("2027-01-15T12:00Z", [window()], () => ahead);
  expect(shown(scheduler)[0]?.[0]).toBe("2027-01-15T08:00:00.000Z 2027-01-15T17:00:00.000Z");
  ahead = 999;
  await pass(500);
  expect(shown(scheduler)[0]?.[0]).toBe("2027-01-15T08:00:00.000Z 2027-01-15T17:00:00.000Z");
});

test("beside a booking that a clock set back has left a year ahead, every opening until it is over is told", () => {
  const calendar = new WindowCalendar(() => 0);
  const now = at("2027-02-07T00:00:00Z");
  const twice = window({ schedule: "32,40 5 6 2 *", timeZone: "UTC", durationMs: 60_000 });
  const openings = (bookings: readonly Booking[]) =>
    calendar
      .fill({ ...DEFAULT_POLICY, windows: [twice] }, bookings, now)
      .windows.map(({ spans }) => spans.map(({ from }) => new Date(from).toISOString()));
  // Alone, the second time limits no lease further than the first does.
  expect(openings([])).toEqual([["2028-02-06T05:32:00.000Z"]]);
  const [from, to] = [at("2028-02-06T05:39:00Z"), at("2028-02-06T05:41:00Z")];
  const booking = {
    id: "reservation-1",
    principal: "ann",
    serviceName: null,
    gpus: 1,
    from,
    to,
    madeAt: from,
    madeBy: "ann",
  };
  expect(openings([booking])).toEqual([["2028-02-06T05:32:00.000Z", "2028-02-06T05:40:00.000Z"]]);
  const later = { ...booking, from: at("2029-02-06T05:39:00Z"), to: at("2029-02-06T05:41:00Z") };
  expect(openings([later])[0]?.at(-1)).toBe("2029-02-06T05:40:00.000Z");
});

test("the calendar is counted out anew before what was told runs out", async () => {
  const { scheduler, clock, pass } = await start("2027-01-15T18:00Z", [window({ schedule: "0 9 * * *" })]);
  const last = () => scheduler.state.policy.windows[0]?.spans.at(-1)?.to ?? 0;
  const first = last();
  for (let day = 1; day <= 3; day++) {
    clock.sleep(DAY_MS);
    await pass(500);
    expect(last()).toBe(first + day * DAY_MS);
  }
});

test("after a sleep of weeks the calendar is counted out before anything is granted", async () => {
  const { scheduler, clock, look, ask } = await start("2027-01-15T18:00Z", [window({ schedule: "0 9 * * *" })]);
  clock.sleep(60 * DAY_MS - 8 * HOUR_MS);
  // Eleven in the morning in Berlin, and no timer has run since.
  await look();
  expect((await ask({ maxDurationMs: HOUR_MS })).status).toBe("queued");
  expect(scheduler.state.policy.windows[0]?.spans[0]?.from).toBe(at("2027-03-16T08:00Z"));
});

test("when the turn in which the calendar was counted out cannot be stored, it is counted out again", async () => {
  const clock = new SleepyClock(at("2027-01-15T12:00Z"));
  const store = new MemoryStore();
  const { scheduler } = await startScheduler(store, { clock, policy: { windows: [window()] } });
  const known = shown(scheduler);
  store.failing = true;
  clock.sleep(3 * DAY_MS);
  await expect(scheduler.allocate(ask(), ANN)).rejects.toThrow();
  expect(shown(scheduler)).toEqual(known);
  store.failing = false;
  await expect(scheduler.allocate(ask(), ANN)).rejects.toThrow("no GPU has a current reading");
  expect(shown(scheduler)[0]?.[0]).toBe("2027-01-18T08:00:00.000Z 2027-01-18T17:00:00.000Z");
});
