/** Where nobody says how long, or not everybody: the daemon's patience beside what others do, on seeds that nothing was tuned on. */

import { quantile } from "../measure.ts";
import { clairvoyant, greedy } from "./disciplines.ts";
import { type Figures, figuresOf, partsOfBound } from "./figures.ts";
import { Ours, type OursSettings } from "./ours.ts";
import { type Discipline, replay, type Served } from "./replay.ts";
import { HOST_GPUS, type Job, LONGEST_S, sample } from "./trace.ts";

const HOUR = 3_600_000;
const SEEDS = [11, 12, 13, 14, 15, 16, 17, 18, 19, 20];
const FEW_SEEDS = SEEDS.slice(0, 3);
const LOADS = [0.7, 0.9, 1.0, 1.1];
const PATIENCE_MS = 12 * HOUR;
/** What the bound adds for a request of priority 5: 5 intervals of ageing, and `reserve_after`. */
const FIRST_MS = 51 * 60_000;
/** Longer than any replay. */
const ENDLESS_MS = 1e11;

export interface Mix {
  readonly severalShare: number | null;
  readonly name: string;
}

interface Row {
  readonly name: string;
  readonly make: () => Discipline;
  /** Of the head, by its own rule; `null`: there is none. */
  readonly boundMs: number | null;
  /** The turn of each that stands before a request; left out where no part of the bound of all is asked for. */
  readonly turnMs?: number;
  /** A service that never ends holds a GPU from the start. */
  readonly service?: boolean;
}

const LONGEST_MS = LONGEST_S * 1_000;

/** Ours with `patienceMs`, and the longest that a head may wait then. */
function ours(name: string, settings: OursSettings = {}, over: Partial<Row> = {}): Row {
  const turnMs = turnOf(settings);
  return { name, make: () => new Ours(settings), boundMs: turnMs, turnMs, ...over };
}

/** The same with `hold_late` on. */
function late(name: string): Row {
  return ours(`${name}, hold_late on`, { policy: { holdLate: true } });
}

function turnOf(settings: OursSettings): number {
  const patienceMs = settings.policy?.patienceMs ?? PATIENCE_MS;
  // What a lease states may be three times what it lasts, and a head whose start is certain waits by what is stated.
  const longestMs = (settings.statedOfTen ?? 0) > 0 ? 3 * LONGEST_MS : LONGEST_MS;
  return patienceMs + 2 * longestMs;
}

const GREEDY: Row = { name: "greedy", make: greedy, boundMs: null };
const BESIDE: readonly Row[] = [
  GREEDY,
  ours("ours, nothing stated"),
  late("ours, nothing stated"),
  { name: "clairvoyant", make: clairvoyant, boundMs: LONGEST_MS },
];
const SETTINGS: readonly (readonly [name: string, settings?: OursSettings, over?: Partial<Row>])[] = [
  ["patience 1h", { policy: { patienceMs: HOUR } }],
  ["patience 6h", { policy: { patienceMs: 6 * HOUR } }],
  ["patience 12h, the default"],
  ["patience 24h", { policy: { patienceMs: 24 * HOUR } }],
  ["prefer_wide off, 12h", { policy: { preferWide: false } }],
  ["prefer_wide off, 24h", { policy: { preferWide: false, patienceMs: 24 * HOUR } }],
  ["50 % state a `max_duration`", { statedOfTen: 5 }],
  ["90 % state one", { statedOfTen: 9 }],
  ["one service that never ends", {}, { service: true }],
];
const VARIANTS: readonly Row[] = [
  ...SETTINGS.map((row) => ours(...row)),
  late("patience 12h"),
  { ...GREEDY, name: "one service, greedy", service: true },
];
const SATURATED: readonly Row[] = [
  GREEDY,
  ours("patience 12h, the default"),
  late("patience 12h"),
  ours("patience 24h", { policy: { patienceMs: 24 * HOUR } }),
];

/** Writes the section by `say`, line by line. */
export function patience(mixes: readonly Mix[], say: (line?: string) => void): void {
  say("## When nobody says how long");
  say();
  say(
    `Means over ${SEEDS.length} further seeds (${SEEDS[0]} to ${SEEDS.at(-1)}), and over one as traced, where nothing is drawn. Waits in hours. *Max at`,
  );
  say(
    "the head* is the largest of all seeds, and *of its bound* the part of what the rule allows a head that this is: 12 h of",
  );
  say(
    "patience and two longest leases for ours (12 h each, and 36 h where some state what may be three times what they need),",
  );
  say(
    "one longest lease for clairvoyant. Greedy allows anything. *P99.9 of wait / bound* is of all requests: each one's wait",
  );
  say("by what the rule allows it, a turn of the head for each that was before it.");
  say();
  table(
    ["load"],
    LOADS.map((load) => ({ load, label: String(load) })),
    BESIDE,
    SEEDS,
    mixes,
    say,
  );
  say(`The settings at a load of 0.9, over ${FEW_SEEDS.length} of these seeds:`);
  say();
  table([], [{ load: 0.9, label: null }], VARIANTS, FEW_SEEDS, mixes, say);
}

/** Writes the section by `say`: what may be set where the host is full. */
export function saturated(mixes: readonly Mix[], say: (line?: string) => void): void {
  say("## Near saturation");
  say();
  say(
    "Where the host is full, a GPU that stands idle for the head costs most. With `scheduler.hold_late` others go first for as",
  );
  say(
    "long again as the longest lease lasted, within the same bound. A patience of 24 h does the like, with a bound of 48 h.",
  );
  say(`Over ${FEW_SEEDS.length} of the seeds above:`);
  say();
  table(
    ["load"],
    LOADS.filter((load) => load >= 1).map((load) => ({ load, label: String(load) })),
    SATURATED,
    FEW_SEEDS,
    mixes,
    say,
  );
}

function table(
  firstColumns: readonly string[],
  loads: readonly { readonly load: number; readonly label: string | null }[],
  rows: readonly Row[],
  seeds: readonly number[],
  mixes: readonly Mix[],
  say: (line?: string) => void,
): void {
  const columns = [
    "mix",
    ...firstColumns,
    "policy",
    "utilisation",
    "mean",
    "p95",
    "max",
    "max at the head",
    "of its bound",
    "p99.9 of wait / bound",
  ];
  say(`| ${columns.join(" | ")} |`);
  say(`|${"---|".repeat(columns.length)}`);
  for (const { severalShare, name } of mixes) {
    for (const { load, label } of loads) {
      // As traced, nothing that counts here is drawn at random.
      const own = severalShare === null ? seeds.slice(0, 1) : seeds;
      const samples = own.map((seed) => sample({ seed, load, severalShare, requests: null }));
      for (const row of rows) {
        const served = samples.map((jobs) => replay(row.service ? withService(jobs) : jobs, row.make()));
        say(`| ${[name, ...(label === null ? [] : [label]), row.name, ...cells(served, row)].join(" | ")} |`);
      }
    }
  }
  say();
}

/** The first request asks for one GPU and keeps it. Those that would need it too are left out: nobody can serve them. */
export function withService([first, ...others]: readonly Job[]): readonly Job[] {
  const service = { ...(first as Job), gpus: 1, durationMs: ENDLESS_MS, statedMs: ENDLESS_MS };
  return [service, ...others.filter(({ gpus }) => gpus < HOST_GPUS)].map((job, index) => ({ ...job, index }));
}

function cells(runs: readonly (readonly Served[])[], { boundMs, turnMs }: Row): string[] {
  const figures = runs.map(figuresOf);
  const mean = (value: (one: Figures) => number) => figures.reduce((sum, one) => sum + value(one), 0) / figures.length;
  const largest = (value: (one: Figures) => number) => Math.max(...figures.map(value));
  const hours = (seconds: number) => (seconds / 3_600).toFixed(seconds < 36_000 ? 2 : 0);
  const head = largest(({ longestAtHead }) => longestAtHead);
  const percent = (part: number) => `${(part * 100).toFixed(1)} %`;
  return [
    percent(mean(({ utilisation }) => utilisation)),
    hours(mean(({ waits }) => waits.mean)),
    hours(mean(({ waits }) => waits.p95)),
    hours(largest(({ waits }) => waits.max)),
    hours(head),
    boundMs === null ? "" : percent((head * 1_000) / boundMs),
    turnMs === undefined
      ? ""
      : percent(
          quantile(
            runs.flatMap((run) => partsOfBound(run, FIRST_MS, turnMs)),
            0.999,
          ),
        ),
  ];
}
