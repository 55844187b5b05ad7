/**
 * Measures what design.md's "What fast means here" names, in one run, and writes bench/RESULTS.md.
 *
 * `npm run bench -- [--quick] [--against COMMIT] [--only cycles,memory,grants,page,peers,decisions,readings,starts]`: with
 * `--against` every figure stands beside that of a build of the other commit, measured in turn with it. Only a whole,
 * unhurried run is written down; with another commit it takes eight to ten minutes on a quiet machine of two cores. A part
 * that fails says so in its place, and the others go on. Nothing in the tree may change meanwhile.
 */
import { execFileSync } from "node:child_process";
import { cpus, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { measureCycles } from "./cycles.ts";
import type { DecisionRow } from "./decision-tables.ts";
import { measurePage, measureReleaseToGrant } from "./grants.ts";
import { measurePeers } from "./peers.ts";
import { stopAll } from "./processes.ts";
import { Report, row } from "./report.ts";
import { measureLooks, measureReadings, measureStarts } from "./starts.ts";
import { sayTargets } from "./targets.ts";
import { type Tree, thisTree, treeOf } from "./trees.ts";

const { values: given } = parseArgs({
  options: { quick: { type: "boolean", default: false }, against: { type: "string" }, only: { type: "string" } },
});
const quick = given.quick;
const here = thisTree();
const trees: Tree[] = [...(given.against === undefined ? [] : [treeOf(given.against)]), here];
const report = new Report();
const CYCLES = ["connections", "build", "requests/s", "of bare's", "CPU a request", "times bare's", "cycle p50", "p99"];

async function cycles(inMemory: boolean, connections: readonly number[]): Promise<void> {
  report.table(...CYCLES);
  await measureCycles(report, trees, {
    rounds: quick ? 1 : 5,
    seconds: 2,
    gpus: 64,
    connections,
    inMemory,
  });
}

function decisions(): void {
  const program = fileURLToPath(new URL("decision-tables.ts", import.meta.url));
  const tables = trees.map(
    ({ folder }) =>
      JSON.parse(execFileSync(process.execPath, [program, folder], { encoding: "utf8" })) as readonly DecisionRow[],
  );
  report.table("decision", "on", ...trees.map(({ name }) => name));
  for (const [i, { what, on }] of (tables[0] ?? []).entries()) {
    report.say(row(what, on, ...tables.map((rows) => `${rows[i]?.us.toFixed(1)} us`)));
    for (const [at, { name }] of trees.entries()) {
      report.note(`${what}, ${on}`, name, tables[at]?.[i]?.us ?? Number.NaN);
    }
  }
}

const PARTS: Readonly<Record<string, () => Promise<void> | void>> = {
  async cycles() {
    report.heading(
      "## Durable allocate + release, beside bare `node:http`",
      "64 GPUs; each connection has one request under way, over plain sockets. The bare server parses the same bodies",
      "and answers the same bytes, and stores nothing. Rounds in turn, after a warm-up; medians of the rounds' ratios.",
    );
    await cycles(false, [64, 8, 1]);
  },
  async memory() {
    report.heading("## The same with the database in memory");
    await cycles(true, [64]);
  },
  async grants() {
    report.heading(
      "## From a release to the waiting request's webhook",
      "From sending the release to the last byte of the webhook at a receiver that is a plain socket.",
    );
    await measureReleaseToGrant(report, trees, quick ? 100 : 1_000);
  },
  async page() {
    report.heading("## A page of records that wait");
    await measurePage(report, trees);
  },
  async peers() {
    report.heading(
      "## A command through the queue",
      "From the start of the client to its end, with a free GPU or place at once: what a person at a shell waits for.",
      "A client of ours is a Node program, and its start is most of it; the others are C.",
    );
    await measurePeers(report, here, quick ? 5 : 40);
  },
  decisions() {
    report.heading(
      "## One decision",
      "In process, nothing stored; CPU time of the thread. *Adverse*: nobody behind the head can be served, and the search has to look at each.",
    );
    decisions();
  },
  async readings() {
    report.heading("## One reading");
    await measureReadings(report);
  },
  async starts() {
    report.heading("## Start, idle, and memory", "Eight simulated GPUs at the default interval; cycles on 64 GPUs.");
    const plan = { starts: quick ? 3 : 11, idleSeconds: quick ? 5 : 20, cycles: quick ? 2_000 : 50_000 };
    await measureStarts(report, trees, plan);
  },
  async looks() {
    report.heading("## Looking", "The command line, from its start to its end, against a daemon with 16 GPUs.");
    await measureLooks(report, trees, quick ? 9 : 41);
  },
};

const wanted = given.only?.split(",") ?? Object.keys(PARTS);
const unknown = wanted.filter((name) => !(name in PARTS));
if (unknown.length > 0) throw new Error(`${unknown.join(", ")}: the parts are ${Object.keys(PARTS).join(", ")}`);
const failed: string[] = [];

async function measure(name: string): Promise<void> {
  const begun = performance.now();
  try {
    await PARTS[name]?.();
  } catch (error) {
    failed.push(name);
    await stopAll();
    console.error(error);
    report.say();
    report.say(`Not measured: ${error instanceof Error ? error.message.split("\n")[0] : error}.`);
  }
  console.error(`${name}: ${((performance.now() - begun) / 1_000).toFixed(0)} s`);
}

try {
  report.heading(
    "# Benchmarks",
    `Made by \`npm run bench\` on a shared virtual machine: ${cpus().length} cores, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Node ${process.version}.`,
    "The machine is noisy: read ratios, and figures as +-20 %. CPU is what the kernel counts for all threads (schedstat).",
  );
  for (const name of wanted) await measure(name);
  report.heading("## Targets", "The figures of this run. What limits those that are missed: docs/performance.md.");
  sayTargets(
    report,
    trees.map(({ name }) => name),
  );
} finally {
  await stopAll();
  for (const tree of trees) tree.remove();
}
if (!quick && given.only === undefined) report.write(fileURLToPath(new URL("RESULTS.md", import.meta.url)));
if (failed.length > 0) throw new Error(`not measured: ${failed.join(", ")}`);
