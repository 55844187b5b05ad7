/** A day of each GPU: who had it, when it sat idle and when it was out of service. */
import { useEffect, useState } from "preact/hooks";
import type { History } from "../api/answers.ts";
import { clock, lasting } from "../model/time.ts";
import { type Bar, barsOf, marksOf, periodFor } from "../model/time-line.ts";
import { pure, useFetched } from "./context.tsx";
import { Choice, Section } from "./small.tsx";

const HOUR = 3_600_000;
const SPANS = { "15 min": HOUR / 4, "1 h": HOUR, "6 h": 6 * HOUR, "24 h": 24 * HOUR, "7 d": 168 * HOUR } as const;
type SpanName = keyof typeof SPANS;
const SPAN_NAMES = Object.keys(SPANS) as SpanName[];
const MARKS = 6;
/** From so many on the lines are lower, and stand in two columns where there is room. */
const MANY = 20;
/** Behind this part of the line an hour's name stands before its mark. */
const LATE = 0.85;
/** From is moved on in steps of this, so that the same question is asked again rather than another each second. */
const STEP_MS = 60_000;
/** A day of a busy host is much to fetch, and changes little in this time, in ms. */
const GAP_MS = 10_000;

const WORDS: { readonly [kind in Bar["kind"]]: string } = {
  held: "held",
  idle: "held and idle",
  out: "out of service",
  between: "being given back",
  unknown: "not known",
};
const LEGEND = Object.keys(WORDS) as Bar["kind"][];

export const TimeLine = pure(function TimeLine({
  indices,
  revision,
}: {
  readonly indices: ReadonlyMap<string, number | null>;
  readonly revision: number;
}) {
  const [chosen, setSpan] = useState<SpanName | null>(null);
  const now = useMinute();
  const from = now - SPANS[chosen ?? "24 h"];
  const { value, problem } = useFetched<History>(`/gpu/history?from=${new Date(from).toISOString()}`, revision, GAP_MS);
  const [last, setLast] = useState<History | null>(null);
  useEffect(() => {
    if (value !== null) setLast(value);
  }, [value]);
  const shown = value ?? last;
  const span = chosen ?? (shown === null ? "24 h" : fitting(shown));
  const tools = <Choice label="How far back" of={SPAN_NAMES} taken={span} onTake={setSpan} />;
  return (
    <Section id="time-line" title="Time line" tools={tools}>
      {problem === null ? null : <p class="problem">{problem}</p>}
      {shown === null ? null : (
        <Lines {...{ indices, history: shown, from: now - SPANS[span], to: Date.parse(shown.to) }} />
      )}
      <p class="legend">
        {LEGEND.map((kind) => (
          <span key={kind}>
            <i class={kind} /> {WORDS[kind]}
          </span>
        ))}
      </p>
    </Section>
  );
});

/** Up to the day that is asked for while nobody has chosen. */
function fitting({ gpus, to }: History): SpanName {
  const periods = SPAN_NAMES.slice(0, -1).map((name) => SPANS[name]);
  const period = periodFor(
    gpus.map(({ spans }) => spans),
    periods,
    Date.parse(to),
  );
  return SPAN_NAMES.find((name) => SPANS[name] === period) ?? "24 h";
}

/** The present minute. */
function useMinute(): number {
  const [minute, setMinute] = useState(() => Math.floor(Date.now() / STEP_MS));
  useEffect(() => {
    const timer = setInterval(() => setMinute(Math.floor(Date.now() / STEP_MS)), STEP_MS / 4);
    return () => clearInterval(timer);
  }, []);
  return minute * STEP_MS;
}

interface LinesFacts {
  readonly indices: ReadonlyMap<string, number | null>;
  readonly history: History;
  readonly from: number;
  readonly to: number;
}

function Lines({ indices, history, from, to }: LinesFacts) {
  const spans = new Map(history.gpus.map((gpu) => [gpu.uuid, gpu.spans]));
  const all = [...indices];
  const half = Math.ceil(all.length / 2);
  const columns = all.length < MANY ? [all] : [all.slice(0, half), all.slice(half)];
  const marks = marksOf(from, to, MARKS);
  const at = (time: number) => `${((time - from) / (to - from)) * 100}%`;
  return (
    <div class={columns.length > 1 ? "line-columns" : ""}>
      {columns.map((column) => (
        <div class="lines" key={column[0]?.[0]}>
          <div class="axis" aria-hidden="true">
            {marks.map((mark) => (
              <span key={mark} class={mark > from + (to - from) * LATE ? "last" : ""} style={{ left: at(mark) }}>
                {clock(mark, to)}
              </span>
            ))}
          </div>
          {column.map(([uuid, index]) => (
            <Line key={uuid} name={String(index ?? "?")} bars={barsOf(spans.get(uuid) ?? [], from, to)} />
          ))}
        </div>
      ))}
    </div>
  );
}

function Line({ name, bars }: { readonly name: string; readonly bars: readonly Bar[] }) {
  return (
    <div class="line">
      <b>{name}</b>
      <div class="track" role="img" aria-label={`GPU ${name}: ${summary(bars)}`}>
        {bars.map((bar) => (
          <i
            key={bar.fromMs}
            class={bar.kind}
            style={{ left: `${bar.from * 100}%`, width: `${(bar.to - bar.from) * 100}%` }}
            title={`${bar.label}${bar.kind === "idle" ? ", idle" : ""}: ${clock(bar.fromMs, bar.toMs)} to ${clock(bar.toMs, bar.toMs)}, ${lasting(bar.toMs - bar.fromMs)}`}
          >
            {bar.kind !== "unknown" && bar.to - bar.from > 0.04 ? bar.label : null}
          </i>
        ))}
      </div>
    </div>
  );
}

function summary(bars: readonly Bar[]): string {
  const sums = Map.groupBy(bars, ({ kind }) => kind);
  if (sums.size === 0) return "free all the time";
  const percent = (of: readonly Bar[]) => Math.round(of.reduce((sum, bar) => sum + bar.to - bar.from, 0) * 100);
  return [...sums].map(([kind, of]) => `${WORDS[kind]} ${percent(of)} %`).join(", ");
}
