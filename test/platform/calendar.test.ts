import cron from "node-cron";
import { expect, test } from "vitest";
import { beginnings } from "../../src/platform/calendar.ts";
import fc from "../fc.ts";

/** From midnight to midnight in UTC, both named by date. */
function between(schedule: string, timeZone: string, from: string, to: string): readonly string[] {
  return beginnings(schedule, timeZone, Date.parse(from), Date.parse(to)).map((at) => new Date(at).toISOString());
}

test("nine on weekdays in Berlin is an hour earlier by UTC once summer time has begun", () => {
  expect(between("0 9 * * 1-5", "Europe/Berlin", "2027-03-25", "2027-03-31")).toEqual([
    "2027-03-25T08:00:00.000Z",
    "2027-03-26T08:00:00.000Z",
    "2027-03-29T07:00:00.000Z",
    "2027-03-30T07:00:00.000Z",
  ]);
});

test("the span has its first instant and not its last", () => {
  const at = Date.parse("2027-01-04T08:00Z");
  expect(beginnings("0 9 * * *", "Europe/Berlin", at, at + 1)).toEqual([at]);
  expect(beginnings("0 9 * * *", "Europe/Berlin", at - 1, at)).toEqual([]);
});

test.for([
  // Clocks go from 2:00 to 3:00, from 2:00 to 3:00, and by half an hour from 2:00 to 2:30.
  ["Europe/Berlin", "30 2 * * *", "2027-03-28", "2027-03-28T01:00:00.000Z"],
  ["America/New_York", "30 2 * * *", "2027-03-14", "2027-03-14T07:00:00.000Z"],
  ["Australia/Lord_Howe", "15 2 * * *", "2027-10-02", "2027-10-02T15:30:00.000Z"],
] as const)("in %s, %s comes when the clock has jumped if it skips that time", ([zone, schedule, day, at]) => {
  expect(between(schedule, zone, day, `${day}T23:00Z`)).toEqual([at]);
});

test.for([
  // Clocks go back from 3:00 to 2:00, from 2:00 to 1:00, and by half an hour from 2:00 to 1:30.
  ["Europe/Berlin", "30 2 * * *", "2027-10-31", "2027-10-31T00:30:00.000Z"],
  ["America/New_York", "30 1 * * *", "2027-11-07", "2027-11-07T05:30:00.000Z"],
  ["Australia/Lord_Howe", "45 1 * * *", "2027-04-03", "2027-04-03T14:45:00.000Z"],
] as const)("in %s, %s comes once on the day that has that time twice", ([zone, schedule, day, at]) => {
  expect(between(schedule, zone, day, `${day}T23:00Z`)).toEqual([at]);
});

test("a schedule of every hour goes by the hours as they pass", () => {
  const hourly = (zone: string, from: string) => {
    const at = Date.parse(from);
    return beginnings("15 * * * *", zone, at, at + 6 * 3_600_000).map((each) => (each - at) / 60_000);
  };
  expect(hourly("Europe/Berlin", "2027-03-27T23:00Z")).toEqual([15, 75, 135, 195, 255, 315]);
  expect(hourly("Europe/Berlin", "2027-10-30T22:00Z")).toEqual([15, 75, 135, 195, 255, 315]);
  // By UTC the quarter past is that to three or past, and when half an hour is skipped, 2:15 is not.
  expect(hourly("Australia/Lord_Howe", "2027-10-02T13:00Z")).toEqual([45, 105, 195, 255, 315]);
});

test("last days, nearest weekdays and the nth weekday are node-cron's", () => {
  expect(between("0 0 L * *", "UTC", "2027-01-01", "2027-04-01").map((at) => at.slice(5, 10))).toEqual([
    "01-31",
    "02-28",
    "03-31",
  ]);
  expect(between("0 0 15W * *", "UTC", "2027-05-01", "2027-06-01").map((at) => at.slice(5, 10))).toEqual(["05-14"]);
  expect(between("0 0 * * 1#2", "UTC", "2027-05-01", "2027-06-01").map((at) => at.slice(5, 10))).toEqual(["05-10"]);
  expect(between("@weekly", "UTC", "2027-05-01", "2027-05-10").map((at) => at.slice(5, 10))).toEqual([
    "05-02",
    "05-09",
  ]);
});

test("apart from days on which clocks change, the beginnings are the minutes that node-cron matches", () => {
  const list = (least: number, most: number) =>
    fc.uniqueArray(fc.integer({ min: least, max: most }), { minLength: 1, maxLength: 3 }).map((all) => all.join());
  const anyOr = (arbitrary: fc.Arbitrary<string>) => fc.oneof(fc.constant("*"), arbitrary);
  const expression = fc.tuple(
    list(0, 59),
    anyOr(list(0, 23)),
    anyOr(list(1, 28)),
    anyOr(list(1, 12)),
    anyOr(list(0, 7)),
  );
  // None of these changes its clocks in the days looked at.
  const zone = fc.constantFrom("UTC", "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Kiritimati", "America/New_York");
  fc.assert(
    fc.property(expression, zone, fc.integer({ min: 0, max: 120 }), (fields, timezone, day) => {
      const schedule = fields.join(" ");
      const from = Date.UTC(2027, 5, 1) + day * 86_400_000;
      const to = from + 86_400_000;
      const task = cron.createTask(schedule, () => undefined, { timezone });
      const matched: number[] = [];
      for (let at = from; at < to; at += 60_000) if (task.match(new Date(at))) matched.push(at);
      void task.destroy();
      expect(beginnings(schedule, timezone, from, to)).toEqual(matched);
    }),
    { numRuns: 60 },
  );
});

test("an expression or a zone that means nothing throws", () => {
  expect(() => beginnings("0 25 * * *", "UTC", 0, 1)).toThrow();
  expect(() => beginnings("0 9 * * *", "Europe/Nowhere", 0, 1)).toThrow(RangeError);
});
