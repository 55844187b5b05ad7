/** What the figures of one run are held against: the table of targets, and whether each is met. */
import { type Figure, type Report, row } from "./report.ts";

interface Target {
  readonly what: string;
  /** The figure's key, as the part that measures it notes it. */
  readonly key: string;
  readonly unit: string;
  readonly digits: number;
  readonly atMost?: number;
  readonly atLeast?: number;
}

const US = { unit: " us", digits: 1 };
const MS = { unit: " ms", digits: 1 };
const MIB = { unit: " MiB", digits: 0 };
const TIMES = { unit: "", digits: 2 };

const TARGETS: readonly Target[] = [
  { what: "allocate + release of bare's, 64 connections", key: "cycles 64 ratio", ...TIMES, atLeast: 0.45 },
  { what: "the same, 8 connections", key: "cycles 8 ratio", ...TIMES, atLeast: 0.22 },
  { what: "the same, 1 connection", key: "cycles 1 ratio", ...TIMES, atLeast: 0.28 },
  { what: "the same in memory, 64 connections", key: "memory 64 ratio", ...TIMES, atLeast: 0.65 },
  { what: "CPU a request at 64 connections, times bare's", key: "cycles 64 cpu", unit: "", digits: 1, atMost: 2.3 },
  { what: "a grant on 8 free GPUs", key: "a grant, all free, 1 of 8 GPUs", ...US, atMost: 4 },
  { what: "on 64", key: "a grant, all free, 1 of 64 GPUs", ...US, atMost: 6 },
  { what: "on 1,024", key: "a grant, all free, 1 of 1024 GPUs", ...US, atMost: 10 },
  { what: "eight at once on 64", key: "a grant, all free, 8 of 64 GPUs", ...US, atMost: 15 },
  {
    what: "release and grant, 100,000 waiting, 8 GPUs",
    key: "a release and the grant after it, 8 GPUs, 100000 waiting",
    ...US,
    atMost: 8,
  },
  {
    what: "the same, 1,024 GPUs",
    key: "a release and the grant after it, 1024 GPUs, 100000 waiting",
    ...US,
    atMost: 15,
  },
  {
    what: "adverse backfill, 10,000 waiting",
    key: "a release with the head's GPUs held, 8 GPUs, 10000 waiting, adverse",
    ...US,
    atMost: 40,
  },
  {
    what: "a hundred estimates",
    key: "a hundred estimates, 8 GPUs, 10000 waiting, mixed",
    unit: " us",
    digits: 0,
    atMost: 150,
  },
  { what: "release to the waiter's webhook, p50", key: "grant p50", unit: " ms", digits: 2, atMost: 1 },
  { what: "the same, p99", key: "grant p99", unit: " ms", digits: 2, atMost: 4 },
  { what: "a page of 1,000 waiting records", key: "page", ...MS, atMost: 15 },
  { what: "start to listening, times `node -e 0`", key: "start", ...TIMES, atMost: 2.7 },
  { what: "`gpuo status` of 16 GPUs, median", key: "looks", ...MS, atMost: 100 },
  { what: "the same, p95", key: "looks p95", ...MS, atMost: 150 },
  { what: "idle memory", key: "idle memory", ...MIB, atMost: 90 },
  { what: "memory after 50,000 cycles", key: "memory after cycles", ...MIB, atMost: 160 },
];

/** @param builds in the order of their columns; the last is the one that is judged. */
export function sayTargets(report: Report, builds: readonly string[]): void {
  report.table("what", "target", ...builds, "met");
  const judged = builds.at(-1) ?? "";
  for (const target of TARGETS) {
    const { what, key } = target;
    const found = builds.map((build) => report.figure(key, build));
    const own = report.figure(key, judged);
    const limit = target.atLeast === undefined ? `<= ${target.atMost}` : `>= ${target.atLeast}`;
    const figures = found.map((figure) => text(figure, target));
    report.say(row(what, `${limit}${target.unit}`, ...figures, own === undefined ? "" : isMet(own, target)));
  }
}

function text(figure: Figure | undefined, { digits, unit }: Target): string {
  return figure === undefined ? "not measured" : `${figure.toFixed(digits)}${unit}`;
}

/** As the table shows it: a figure that reads like its target meets it. */
function isMet(figure: Figure, { digits, atLeast = -Infinity, atMost = Infinity }: Target): string {
  const shown = Number(figure.toFixed(digits));
  return shown >= atLeast && shown <= atMost ? "yes" : "no";
}
