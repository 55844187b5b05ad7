/**
 * Reserved windows of a simulated host: they open some minutes from where its wall clock stands when they are set, and
 * at the same minutes of every year. When they are open is worked out here a second time, without the calendar.
 */
import type { EpochMs, Span } from "../../src/core/base/time.ts";
import type { Members, ReservedWindow } from "../../src/core/model/policy.ts";

export interface DrawnWindow {
  readonly gpus: number | readonly string[];
  readonly members: Members;
  /** Minutes from now at which it opens. */
  readonly minutes: readonly number[];
  readonly durationMs: number;
}

const MINUTE_MS = 60_000;

export function reservedWindows(drawn: readonly DrawnWindow[], wallMs: EpochMs): readonly ReservedWindow[] {
  return drawn.map(({ gpus, members, minutes, durationMs }, at) => {
    const openings = minutes.map((minute) => new Date(wallMs + minute * MINUTE_MS));
    const field = (of: (opening: Date) => number) => [...new Set(openings.map(of))].join(",");
    const schedule = [
      field((opening) => opening.getUTCMinutes()),
      field((opening) => opening.getUTCHours()),
      field((opening) => opening.getUTCDate()),
      field((opening) => opening.getUTCMonth() + 1),
      "*",
    ].join(" ");
    return { name: `window-${at}`, schedule, timeZone: "UTC", durationMs, gpus, members: [members], spans: [] };
  });
}

/** When a window is open that is not over at `wallMs`, by the wall clock, in order and apart. */
export function openingsOf({ schedule, durationMs }: ReservedWindow, wallMs: EpochMs): readonly Span[] {
  const fields = schedule.split(" ").map((field) => field.split(",").map(Number));
  const [minutes = [], hours = [], days = [], months = []] = fields;
  const year = new Date(wallMs).getUTCFullYear();
  const openings: EpochMs[] = [];
  for (const one of [year - 1, year, year + 1]) {
    for (const month of months) {
      for (const day of days) {
        const date = Date.UTC(one, month - 1, day);
        if (new Date(date).getUTCDate() !== day) continue;
        for (const hour of hours) for (const minute of minutes) openings.push(date + (hour * 60 + minute) * MINUTE_MS);
      }
    }
  }
  const spans: { from: EpochMs; to: EpochMs }[] = [];
  for (const from of openings.sort((a, b) => a - b)) {
    const to = from + durationMs;
    const last = spans.at(-1);
    if (to <= wallMs) continue;
    if (last !== undefined && from <= last.to) last.to = to;
    else spans.push({ from, to });
  }
  return spans;
}
