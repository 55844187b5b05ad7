/** Times as people say them. */
import { expect, test } from "vitest";
import { timeSaid } from "../../src/cli/when.ts";

/** A Wednesday; all by this machine's time zone, whichever that is. */
const NOW = new Date(2026, 11, 2, 15, 30);
const on = (day: number, hour = 0, minute = 0) => new Date(2026, 11, day, hour, minute);

test.each([
  ["now", NOW],
  ["16:00", on(2, 16)],
  ["14:00", on(3, 14)],
  ["today 14:00", on(2, 14)],
  ["tomorrow 14:00", on(3, 14)],
  ["tomorrow", on(3)],
  ["Mon 9:00", on(7, 9)],
  ["wednesday 16:00", on(2, 16)],
  ["wed 9:00", on(9, 9)],
  ["2h", on(2, 17, 30)],
  ["2026-12-24 18:00", on(24, 18)],
  ["2026-12-24", on(24)],
  ["2026-12-24T18:00:00Z", new Date(Date.UTC(2026, 11, 24, 18))],
])("%s is what it says", (text, at) => {
  expect(timeSaid("--from", text, NOW)).toEqual(at);
});

test.each(["someday 9:00", "25:00", "9:75", "soon", "2026-13-45"])("%s is refused, and says what is taken", (text) => {
  expect(() => timeSaid("--from", text, NOW)).toThrow(/^--from .*: expected a (time|duration) such as/);
});

test.each([
  ["16:00", on(3, 16)],
  ["14:00", on(4, 14)],
  ["2h", on(2, 17, 30)],
  ["tomorrow 9:00", on(3, 9)],
])("with a beginning that is tomorrow at 14:00, an end of %s is after it unless it names its own day", (text, at) => {
  expect(timeSaid("--to", text, NOW, on(3, 14))).toEqual(at);
});
