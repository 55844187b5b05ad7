/**
 * `npm run test:mutants`: plants the bugs of this folder's lists, one at a time, and demands that the suite catches each.
 *
 *  1. Bugs are planted in copies of the project; the working tree is only read.
 *  2. They are judged list by list. Before a list's first bug, the copy as it is must pass the type check and every test
 *     file that a bug of the list names. So what fails with a bug fails because of it. A list that cannot be judged
 *     fails the run, and the next one is taken.
 *  3. A bug is caught when the program that has it compiles and a test fails: one that ran, and did not pass. A file
 *     that does not load or a run that does not end is a fault of the list, and fails the run as loudly as a survivor.
 *  4. A mutant whose text does not stand in its file exactly once is out of date, and nothing is run at all.
 *
 * `npm run test:mutants -- WORD...` plants only those whose name or file has one of the words in it. A word that is
 * the name of a list (`core`, `room`, `work`) means that list and no other.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { LISTS, outOfDate } from "./lists.ts";
import type { Mutant } from "./mutant.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** All that the tests need of the project, beside its packages. */
const COPIED = [
  "src",
  "test",
  "scripts",
  "executors",
  "deploy",
  "docs",
  "templates",
  "package.json",
  "tsconfig.json",
  "vitest.config.ts",
];
const BUILD = "scripts/build.mjs";
/** Each runs a type check or a test file at a time. */
const WORKERS = 2;
/** What catching one bug may take: design.md's bar. */
const MUTANT_LIMIT_MS = 60_000;
/** Of a type check, which is not what is judged: minutes on a machine that has much else to do. */
const TYPES_LIMIT_MS = 300_000;
/** For one test: one that waits in vain for what a bug has broken fails then, before its run is cut off. */
const TEST_LIMIT_MS = 15_000;
/** For each test file that a list names, unmutated; all of one list run one after the other, and share what they are given. */
const BASELINE_LIMIT_MS = 60_000;
/** Tests that are as long as they are told to be: short enough for the limits above, long enough to catch. */
const SIZES = {
  KILL_CYCLES: "24",
  HISTORIES: "6",
  LINE_HISTORIES: "100",
  CLUSTER_HISTORIES: "10",
  CLUSTER_SHRINK: "no",
  FUZZ_SECONDS: "3",
};
/** Of a command's output, when it has to be shown. */
const SHOWN_OUTPUT_CHARACTERS = 4_000;

type Verdict =
  | { readonly kind: "caught"; readonly by: string }
  | { readonly kind: "survived" }
  /** Nothing can be said of the tests: the mutant itself is at fault. */
  | { readonly kind: "unusable"; readonly why: string };

/** As far as it is read here; vitest's JSON reporter writes more. */
interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: "passed" | "failed";
    readonly message: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

interface Ended {
  /** `null`: it was killed at its limit. */
  readonly status: number | null;
  readonly output: string;
}

const running = new Set<ChildProcess>();

/** Runs a program of node_modules, or the copy's own build, in `folder`, and ends it with all its children after `limitMs`. */
function run(folder: string, program: string, args: readonly string[], limitMs: number): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const script = program === BUILD ? join(folder, BUILD) : join(ROOT, "node_modules", program);
    // A group of its own, so that a test that never ends can be killed with the workers of its runner.
    const child = spawn(process.execPath, [script, ...args], {
      cwd: folder,
      detached: true,
      stdio: "pipe",
      env: { ...process.env, ...SIZES },
    });
    running.add(child);
    let output = "";
    const keep = (chunk: Buffer) => {
      output = (output + chunk).slice(-SHOWN_OUTPUT_CHARACTERS);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    const timer = setTimeout(() => killGroup(child), limitMs);
    child.once("error", reject);
    child.once("close", (status) => {
      clearTimeout(timer);
      running.delete(child);
      resolve({ status, output });
    });
  });
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // It has ended in the meantime.
  }
}

function checkTypes(folder: string): Promise<Ended> {
  return run(folder, "typescript/bin/tsc", ["-p", "tsconfig.mutant.json"], TYPES_LIMIT_MS);
}

/** @returns vitest's report, or `null` when it wrote none. */
async function runTests(folder: string, files: readonly string[], bail: boolean, limitMs: number) {
  const reportFile = join(folder, "report.json");
  rmSync(reportFile, { force: true });
  const args = [
    "run",
    ...files,
    "--no-file-parallelism",
    "--no-cache",
    `--fsModuleCachePath=${join(folder, ".cache")}`,
  ];
  args.push("--reporter=json", `--outputFile=${reportFile}`);
  if (bail) args.push("--bail=1", `--testTimeout=${TEST_LIMIT_MS}`);
  const ended = await run(folder, "vitest/vitest.mjs", args, limitMs);
  let report: Report | null = null;
  try {
    report = JSON.parse(readFileSync(reportFile, "utf8")) as Report;
  } catch {
    // Killed, or ended before any test: `ended` tells.
  }
  return { ended, report };
}

/** A copy of the project in which bugs can be planted. */
function copyProject(folder: string): string {
  mkdirSync(folder);
  for (const name of COPIED) cpSync(join(ROOT, name), join(folder, name), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  // Incremental: of each mutant only what it can have broken is checked.
  const options = { incremental: true, tsBuildInfoFile: "types.tsbuildinfo" };
  const settings = { extends: "./tsconfig.json", include: ["src"], compilerOptions: options };
  writeFileSync(join(folder, "tsconfig.mutant.json"), JSON.stringify(settings));
  return folder;
}

/** Plants one bug, looks whether it is caught, and takes it out again. */
async function judge(mutant: Mutant, folder: string): Promise<Verdict> {
  const path = join(folder, mutant.file);
  const original = readFileSync(path, "utf8");
  writeFileSync(
    path,
    original.replace(mutant.find, () => mutant.replace),
  );
  try {
    const types = await checkTypes(folder);
    if (types.status !== 0) return { kind: "unusable", why: `it does not compile:\n${types.output}` };
    if (mutant.built) {
      const build = await run(folder, BUILD, [], MUTANT_LIMIT_MS);
      if (build.status !== 0) return { kind: "unusable", why: `it cannot be built:\n${build.output}` };
    }
    return verdictOf(await runTests(folder, mutant.tests, true, MUTANT_LIMIT_MS));
  } finally {
    rmSync(join(folder, "dist"), { recursive: true, force: true });
    writeFileSync(path, original);
  }
}

function verdictOf({ ended, report }: Awaited<ReturnType<typeof runTests>>): Verdict {
  const unusable = (why: string): Verdict => ({ kind: "unusable", why });
  if (report === null) {
    return unusable(ended.status === null ? `no end within ${MUTANT_LIMIT_MS} ms` : `no report:\n${ended.output}`);
  }
  const failed = report.testResults.flatMap(failedTests)[0];
  if (failed !== undefined) return { kind: "caught", by: failed };
  const broken = report.testResults.find(({ status }) => status === "failed");
  if (broken !== undefined) return unusable(`${broken.name} did not load:\n${broken.message}`);
  return ended.status === 0 ? { kind: "survived" } : unusable(`no test failed, and yet:\n${ended.output}`);
}

function failedTests({ assertionResults }: Report["testResults"][number]): string[] {
  return assertionResults.filter(({ status }) => status === "failed").map(({ fullName }) => fullName);
}

/** @returns why the project as it is cannot be the ground for mutants; `null` when all is well. */
async function checkBaseline(folder: string, mutants: readonly Mutant[]): Promise<string | null> {
  const types = await checkTypes(folder);
  if (types.status !== 0) return `without any bug the program does not compile:\n${types.output}`;
  if (mutants.some(({ built }) => built)) {
    const build = await run(folder, BUILD, [], MUTANT_LIMIT_MS);
    if (build.status !== 0) return `without any bug the program cannot be built:\n${build.output}`;
  }
  const files = [...new Set(mutants.flatMap(({ tests }) => tests))];
  const { ended, report } = await runTests(folder, files, false, files.length * BASELINE_LIMIT_MS);
  if (report === null) return `without any bug the tests gave no report:\n${ended.output}`;
  for (const file of report.testResults) {
    if (file.status === "failed") return `without any bug ${file.name} fails: ${failedTests(file)[0] ?? file.message}`;
  }
  const found = report.testResults.length;
  if (found !== files.length) return `the mutants name ${files.length} test files, of which ${found} were found`;
  return ended.status === 0 ? null : `without any bug the tests end with ${ended.status}:\n${ended.output}`;
}

const inSeconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`;
const TABLE_INDENT = " ".repeat(23);

function tell(number: number, { name }: Mutant, verdict: Verdict, ms: number): void {
  console.log(`${String(number).padStart(3)}  ${verdict.kind.padEnd(8)}  ${inSeconds(ms).padStart(6)}  ${name}`);
  if (verdict.kind === "caught") console.log(`${TABLE_INDENT}by: ${verdict.by}`);
  if (verdict.kind === "unusable") console.log(verdict.why.trimEnd().replace(/^/gm, TABLE_INDENT));
}

interface Tally {
  readonly judged: number;
  readonly caught: number;
  readonly slowestMs: number;
}

async function judgeAll(mutants: readonly Mutant[], folders: readonly string[]): Promise<Tally> {
  const waiting = mutants.values();
  let judged = 0;
  let caught = 0;
  let slowestMs = 0;
  const work = async (folder: string) => {
    // All workers draw from one iterator, so each mutant goes to one of them.
    for (const mutant of waiting) {
      const began = performance.now();
      const verdict = await judge(mutant, folder);
      const ms = performance.now() - began;
      slowestMs = Math.max(slowestMs, ms);
      if (verdict.kind === "caught") caught++;
      tell(++judged, mutant, verdict, ms);
    }
  };
  await Promise.all(folders.map(work));
  return { judged, caught, slowestMs };
}

const NOTHING: Tally = { judged: 0, caught: 0, slowestMs: 0 };

/** @returns what was judged of one list: nothing, when the project as it is fails. */
async function judgeList(name: string, mutants: readonly Mutant[], folders: readonly string[]): Promise<Tally> {
  const complaint = await checkBaseline(folders[0] as string, mutants);
  if (complaint !== null) {
    console.log(`${name}: ${complaint}`);
    return NOTHING;
  }
  console.log(`${name}: without any bug everything passes`);
  const began = performance.now();
  const tally = await judgeAll(mutants, folders);
  console.log(`${name}: ${summary(tally, performance.now() - began)}`);
  return tally;
}

const summary = ({ judged, caught, slowestMs }: Tally, ms: number) =>
  `${caught} of ${judged} planted bugs caught in ${inSeconds(ms)}; the slowest took ${inSeconds(slowestMs)}`;

/** @returns whether all were caught. */
async function judgeLists(lists: readonly (readonly [string, readonly Mutant[]])[], folders: readonly string[]) {
  const began = performance.now();
  let all = NOTHING;
  for (const [name, mutants] of lists) {
    const { judged, caught, slowestMs } = await judgeList(name, mutants, folders);
    all = {
      judged: all.judged + judged,
      caught: all.caught + caught,
      slowestMs: Math.max(all.slowestMs, slowestMs),
    };
  }
  if (lists.length > 1) console.log(`all lists: ${summary(all, performance.now() - began)}`);
  return all.caught === lists.flatMap(([, mutants]) => mutants).length;
}

/** @returns the lists with those of their mutants that one of the words means; all of them where there is none. */
function chosenBy(words: readonly string[]): [string, readonly Mutant[]][] {
  const inText = words.filter((word) => LISTS[word] === undefined);
  const chosen = Object.entries(LISTS).map(([name, mutants]): [string, readonly Mutant[]] => {
    if (words.length === 0 || words.includes(name)) return [name, mutants];
    const isMeant = (text: string) => inText.some((word) => text.toLowerCase().includes(word));
    return [name, mutants.filter((mutant) => isMeant(`${mutant.name} ${mutant.file}`))];
  });
  return chosen.filter(([, mutants]) => mutants.length > 0);
}

async function main(words: readonly string[]): Promise<boolean> {
  const lists = chosenBy(words);
  if (lists.length === 0) throw new Error(`no mutant has one of these words: ${words.join(" ")}`);
  const home = mkdtempSync(join(tmpdir(), "gpu-orchestrator-mutants-"));
  // Some tests begin programs as another user, who must be able to read them.
  chmodSync(home, 0o755);
  const cleanUp = () => {
    for (const child of running) killGroup(child);
    // What was killed may still be writing its last.
    rmSync(home, { recursive: true, force: true, maxRetries: 5 });
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      cleanUp();
      process.exit(1);
    });
  }
  try {
    const folders = Array.from({ length: WORKERS }, (_, i) => copyProject(join(home, String(i + 1))));
    const problems = outOfDate(
      folders[0] as string,
      lists.flatMap(([, mutants]) => mutants),
    );
    if (problems.length > 0) throw new Error(problems.join("\n"));
    return await judgeLists(lists, folders);
  } finally {
    cleanUp();
  }
}

try {
  process.exitCode = (await main(process.argv.slice(2).map((word) => word.toLowerCase()))) ? 0 : 1;
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
