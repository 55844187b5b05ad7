/**
 * `npm run bench:policy`: a production trace on one host of eight GPUs, in virtual time, served by the daemon's own
 * decisions and by what others do. Writes bench/POLICY.md and docs/policy.svg.
 */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { clairvoyant, greedy, strict } from "./disciplines.ts";
import { calibrationOf, type Figures, figuresOf, waitsOf } from "./figures.ts";
import { mixed } from "./mixed.ts";
import { Ours, type OursSettings } from "./ours.ts";
import { patience, saturated } from "./patience.ts";
import { plot, type Series } from "./plot.ts";
import { type Discipline, replay } from "./replay.ts";
import { hasTrace, type Job, sample } from "./trace.ts";

const SEED = 1;
const LOADS = [0.7, 0.9, 1.1];
const MIXES = [
  { severalShare: null, name: "as traced" },
  { severalShare: 0.1, name: "10 % in several GPUs" },
  { severalShare: 0.5, name: "50 % in several GPUs" },
] as const;
const POLICIES: readonly { readonly name: string; readonly style: Series["style"]; readonly make: () => Discipline }[] =
  [
    { name: "strict", style: "strict", make: strict },
    { name: "greedy", style: "greedy", make: greedy },
    { name: "ours, nothing stated", style: "plain", make: () => new Ours() },
    { name: "ours, `max_duration` stated", style: "ours", make: () => new Ours({ statedOfTen: 10 }) },
    { name: "clairvoyant", style: "limit", make: clairvoyant },
  ];
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const lines: string[] = [];
const say = (line = "") => {
  lines.push(line);
  console.log(line);
};
const hours = (seconds: number) => (seconds / 3_600).toFixed(seconds < 36_000 ? 2 : 0);
const percent = (part: number) => `${(part * 100).toFixed(1)} %`;

function jobsOf(severalShare: number | null, load: number): readonly Job[] {
  return sample({ seed: SEED, load, severalShare, requests: null });
}

function cells({ waits, several, longestAtHead, utilisation, makespanS }: Figures): string {
  const figures = [waits.mean, waits.p50, waits.p95, waits.max, several.max, longestAtHead].map(hours);
  return `${figures.join(" | ")} | ${percent(utilisation)} | ${hours(makespanS)} |`;
}

const COLUMNS = "mean | p50 | p95 | max | max, several GPUs | max at the head | utilisation | makespan |";
const RULE = "---|---|---|---|---|---|---|---|";

/** By mix, then policy, then load. */
function comparison(): Figures[][][] {
  return MIXES.map(({ severalShare, name }) => {
    say(`### ${name[0]?.toUpperCase()}${name.slice(1)}`);
    say();
    say(`| load | policy | ${COLUMNS}`);
    say(`|---|---|${RULE}`);
    const byPolicy: Figures[][] = POLICIES.map(() => []);
    for (const load of LOADS) {
      const jobs = jobsOf(severalShare, load);
      POLICIES.forEach((policy, index) => {
        const figures = figuresOf(replay(jobs, policy.make()));
        byPolicy[index]?.push(figures);
        say(`| ${load} | ${policy.name} | ${cells(figures)}`);
      });
    }
    say();
    return byPolicy;
  });
}

function stating(): void {
  say("## Who states a `max_duration`");
  say();
  say(
    "At a load of 0.9. Where the head waits for a lease without a stated end nobody can tell when it will start, and its",
  );
  say("patience counts.");
  say();
  say(`| mix | stated | ${COLUMNS}`);
  say(`|---|---|${RULE}`);
  for (const { severalShare, name } of MIXES) {
    const jobs = jobsOf(severalShare, 0.9);
    for (const statedOfTen of [0, 5, 9, 10]) {
      say(`| ${name} | ${statedOfTen * 10} % | ${cells(figuresOf(replay(jobs, new Ours({ statedOfTen }))))}`);
    }
  }
  say();
}

function reservations(): void {
  say("## `scheduler.reserve_after`");
  say();
  say("At a load of 0.9, `max_duration` stated.");
  say();
  say(`| mix | reserve_after | ${COLUMNS}`);
  say(`|---|---|${RULE}`);
  for (const { severalShare, name } of MIXES) {
    const jobs = jobsOf(severalShare, 0.9);
    for (const [label, reserveAfterMs] of [
      ["0s", 0],
      ["1m", MINUTE],
      ["10m", 10 * MINUTE],
      ["1h", HOUR],
      ["6h", 6 * HOUR],
    ] as const) {
      const settings: OursSettings = { policy: { reserveAfterMs }, statedOfTen: 10 };
      say(`| ${name} | ${label} | ${cells(figuresOf(replay(jobs, new Ours(settings))))}`);
    }
  }
  say();
}

function ageing(): void {
  say("## `scheduler.aging_interval`");
  say();
  say(
    "At a load of 0.9, with the trace's classes of service as priorities (LS 7, best effort 5); `max_duration` stated.",
  );
  say();
  say("| mix | aging_interval | LS: mean | p95 | max | best effort: mean | p95 | max | utilisation |");
  say("|---|---|---|---|---|---|---|---|---|");
  for (const { severalShare, name } of MIXES) {
    const jobs = jobsOf(severalShare, 0.9);
    for (const [label, agingIntervalMs] of [
      ["1m", MINUTE],
      ["10m", 10 * MINUTE],
      ["1h", HOUR],
      ["6h", 6 * HOUR],
      ["1000h", 1_000 * HOUR],
    ] as const) {
      const settings: OursSettings = { policy: { agingIntervalMs }, statedOfTen: 10, priorities: true };
      const served = replay(jobs, new Ours(settings));
      const classes = [7, 5].map((priority) => waitsOf(served.filter(({ job }) => job.priority === priority)));
      const figures = classes.map(({ mean, p95, max }) => [mean, p95, max].map(hours).join(" | ")).join(" | ");
      say(`| ${name} | ${label} | ${figures} | ${percent(figuresOf(served).utilisation)} |`);
    }
  }
  say();
}

function calibration(): void {
  say("## ETA");
  say();
  say(
    "Of the requests that had to wait: what they were told as they came, and whether it came true. *None*: those to whom no",
  );
  say(
    "range was given. *Within*, of the others: those that started in their range. *Width* and *wait* are means, in hours.",
  );
  say();
  say("| mix | load | stated | waited | none | within | before | after | width | wait |");
  say("|---|---|---|---|---|---|---|---|---|---|");
  for (const { severalShare, name } of MIXES) {
    for (const load of LOADS) {
      const jobs = jobsOf(severalShare, load);
      for (const statedOfTen of [10, 9]) {
        const ours = new Ours({ statedOfTen, estimates: true });
        const { waited, none, within, before, after, widthS, waitS } = calibrationOf(ours.told, replay(jobs, ours));
        const parts = [within, before, after].map((count) => percent(count / (waited - none)));
        const figures = [...parts, hours(widthS), hours(waitS)].join(" | ");
        say(`| ${name} | ${load} | ${statedOfTen * 10} % | ${waited} | ${percent(none / waited)} | ${figures} |`);
      }
    }
  }
  say();
}

function picture(figures: readonly Figures[][][]): string {
  const panels = (value: (one: Figures) => number) =>
    MIXES.map(({ name }, mix) => ({
      title: `${name}`,
      series: POLICIES.map(({ name: policy, style }, index) => ({
        name: policy.replaceAll("`", ""),
        style,
        values: (figures[mix]?.[index] ?? []).map(value),
      })),
    }));
  const time = [
    [1, "1 h"],
    [10, "10 h"],
    [100, "100 h"],
    [1_000, "1000 h"],
  ] as const;
  return plot("Waits and utilisation by load, for three mixes of requests and five policies", LOADS, [
    {
      label: "mean wait",
      scale: "log",
      from: 0.5,
      to: 1_000,
      ticks: time,
      panels: panels((f) => f.waits.mean / 3_600),
    },
    {
      label: "longest wait at the head",
      scale: "log",
      from: 0.5,
      to: 1_000,
      ticks: time,
      panels: panels((f) => f.longestAtHead / 3_600),
    },
    {
      label: "utilisation",
      scale: "linear",
      from: 0.4,
      to: 1,
      ticks: [0.4, 0.6, 0.8, 1].map((part) => [part, `${part * 100} %`] as const),
      panels: panels((f) => f.utilisation),
    },
  ]);
}

function introduction(): void {
  const kept = jobsOf(null, 1);
  say("# Policies, beside each other");
  say();
  say("Made by `npm run bench:policy`; the same figures every time. It needs the trace beside the repository.");
  say();
  say(
    "The requests of a production cluster (Alibaba's cluster-trace-gpu-v2023; Weng et al., USENIX ATC 2023) come to one",
  );
  say(
    "host of eight equal GPUs, in virtual time. *Strict* is first come, first served. *Greedy* skips whoever does not fit.",
  );
  say(
    "*Ours* is the daemon's own `decide` with default settings: where nobody states a `max_duration`, and where everybody",
  );
  say(
    "states one of 1 to 3 times the true duration, at random. *Clairvoyant* is EASY backfill that knows all true durations.",
  );
  say();
  say(
    `Recipe: of the trace, ${kept.length} requests: those submitted after its 10,000,000th second, when it had been filled,`,
  );
  say(
    "that last 12 hours at most. A part of a GPU counts as a whole one. Arrivals keep their rhythm; time between them is",
  );
  say(
    "stretched to a load of 0.7, 0.9 and 1.1 of the host's GPU time. For the second and third mix, requests of one GPU,",
  );
  say(
    "chosen at random, become such of several until these make up 10 % and 50 % of the GPU time; how many GPUs is drawn",
  );
  say(`from the trace's requests of several, how long from all. Seed ${SEED}. Nobody has a higher priority.`);
  say();
  say(
    "Waits and makespan are in hours. *Max at the head* is the longest that anybody waited once all who came before had",
  );
  say(
    "started: strict bounds it by the longest lease, ours by the longest stated, and where nothing is stated by patience and",
  );
  say(
    "two longest leases, greedy not at all. *Utilisation* is of the time from the first to the last submission. Above a load",
  );
  say("that a policy can carry the line grows as long as requests come, and waits with it.");
  say();
  say(
    "A second trace, with users, could not be had as data where this was made: of Philly's there was the pointer to an",
  );
  say("archive of 1 GB, of Helios' and Acme's the summaries.");
  say();
  say("![Waits and utilisation by load](../docs/policy.svg)");
  say();
  say("## Waits and utilisation");
  say();
}

if (!hasTrace) {
  console.error("the trace is not here: ../shared/fixtures/traces/openb-gpu-pods.csv beside the repository");
  process.exit(1);
}
introduction();
const figures = comparison();
patience(MIXES, say);
saturated(MIXES, say);
mixed(MIXES, say);
stating();
reservations();
ageing();
calibration();
writeFileSync(fileURLToPath(new URL("../POLICY.md", import.meta.url)), `${lines.join("\n").trimEnd()}\n`);
writeFileSync(fileURLToPath(new URL("../../docs/policy.svg", import.meta.url)), picture(figures));
