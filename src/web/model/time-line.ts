/** The 24 h time line: spans of time made into bars that can be drawn, however many spans there are. */
import type { Span } from "../api/answers.ts";

export interface Bar {
  /** From 0, where the time line begins, to 1. */
  readonly from: number;
  readonly to: number;
  readonly kind: "held" | "idle" | "out" | "unknown" | "between";
  /** Who held it, or the state it was in. */
  readonly label: string;
  readonly fromMs: number;
  readonly toMs: number;
}

/** A bar thinner than this part of the line is drawn as one with its neighbours. */
const THINNEST = 1 / 720;

/** What a GPU that was free shows: nothing. */
export function barsOf(spans: readonly Span[], from: number, to: number): Bar[] {
  const bars: Bar[] = [];
  for (const span of spans) {
    const kind = kindOf(span);
    const [fromMs, toMs] = [Math.max(from, Date.parse(span.from)), Math.min(to, Date.parse(span.to))];
    if (kind === null || toMs <= fromMs) continue;
    add(bars, {
      kind,
      label: labelOf(span),
      fromMs,
      toMs,
      from: (fromMs - from) / (to - from),
      to: (toMs - from) / (to - from),
    });
  }
  return bars;
}

function kindOf({ state, services, idle }: Span): Bar["kind"] | null {
  if (state === "unknown") return "unknown";
  if (services.length > 0) return idle ? "idle" : "held";
  if (state === "free" || state === "mig") return null;
  return state === "reclaiming" || state === "recovering" ? "between" : "out";
}

function labelOf({ state, services }: Span): string {
  return services.length > 0 ? services.join(", ") : state;
}

/** Many short leases would be many thin bars: those that nobody could tell apart become one. */
function add(bars: Bar[], bar: Bar): void {
  const last = bars.at(-1);
  const joins = last !== undefined && last.kind === bar.kind && bar.from - last.to < THINNEST;
  const isSame = joins && last.label === bar.label;
  const areThin = joins && (bar.to - bar.from < THINNEST || last.to - last.from < THINNEST);
  if (!isSame && !areThin) {
    bars.push(bar);
    return;
  }
  const label = isSame || last.label.includes(bar.label) ? last.label : "several";
  bars[bars.length - 1] = { ...last, label, to: bar.to, toMs: bar.toMs };
}

/** The shortest of the periods that has all that is known in it: a host that was started just now has no day yet. */
export function periodFor(spans: readonly (readonly Span[])[], periods: readonly number[], to: number): number {
  const known = spans.flat().filter(({ state }) => state !== "unknown");
  const since = known.reduce((first, { from }) => Math.min(first, Date.parse(from)), to);
  return periods.find((period) => to - since <= period) ?? (periods.at(-1) as number);
}

const MINUTE = 60_000;
/** What may lie between two marks, in minutes of the clock on the wall. */
const STEPS = [2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1_440];

/** Times to mark on the line, by the clock on the wall: at most so many, as near to each other as that allows. */
export function marksOf(from: number, to: number, most: number): number[] {
  const minutes = (to - from) / MINUTE;
  const step = STEPS.find((one) => minutes / one <= most) ?? 1_440;
  const marks: number[] = [];
  // No clock is changed by less than a quarter of an hour: what is looked at is each of those at least.
  const look = Math.min(step, 15) * MINUTE;
  for (let at = Math.ceil(from / look) * look; at < to; at += look) {
    const wall = new Date(at);
    if (at > from && (wall.getHours() * 60 + wall.getMinutes()) % step === 0) marks.push(at);
  }
  return marks;
}
