/** The program of long runs. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import type { Simulated } from "./long-run.ts";
import { runSeeds } from "./many-seeds.ts";
import { main } from "./run.ts";
import { Tally } from "./tally.ts";
import { breach } from "./violation.ts";

const PROGRAM = fileURLToPath(new URL("./run.ts", import.meta.url));

/** Runs the program in a process of its own. @returns its last line, which is the journal's hash. */
async function journalOf(ops: number, seed: number): Promise<string> {
  const args = ["--disable-warning=ExperimentalWarning", PROGRAM, "--ops", `${ops}`, "--seed", `${seed}`];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  const [status] = await once(child, "close");
  expect(status, output).toBe(0);
  return output.trimEnd().split("\n").at(-1) ?? "";
}

test("the same seed and number of operations give the same journal in two processes, another seed another one", async () => {
  const [one, again, other] = await Promise.all([journalOf(2_000, 11), journalOf(2_000, 11), journalOf(2_000, 12)]);
  expect(one).toMatch(/^journal [0-9a-f]{64}$/);
  expect(again).toBe(one);
  expect(other).not.toBe(one);
});

test("operations are split between seeds, each with a history of its own", async () => {
  const lines: string[] = [];
  const status = await main(["--ops", "1000", "--seed", "11", "--seeds", "2"], (line) => lines.push(line));
  expect(status, lines.join("\n")).toBe(0);
  const journals = lines.flatMap(
    (line) => /^seed (\d+): 500 operations in .* journal ([0-9a-f]{64});/.exec(line) ?? [],
  );
  expect(new Set([journals[1], journals[4]])).toEqual(new Set(["11", "12"]));
  expect(journals[2]).not.toBe(journals[5]);
  expect(lines.at(-1)).toMatch(/^1000 operations of 2 seeds in .*; failed: none$/);
});

test("a seed whose run fails is told with what it said, and no other begins", async () => {
  const folder = mkdtempSync(join(tmpdir(), "gpu-orchestrator-seeds-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const program = join(folder, "fails.mjs");
  const text = 'console.log("operation 3 of seed " + process.argv[5] + ": broken"); process.exitCode = 1;';
  writeFileSync(program, text);
  const lines: string[] = [];
  const seeds = Array.from({ length: 200 }, (_, seed) => seed);
  expect(await runSeeds(program, 10, seeds, (line) => lines.push(line))).toBe(1);
  // Several are under way at once.
  expect(lines[0]).toMatch(/^operation 3 of seed \d+: broken$/);
  expect(lines.at(-1)).toMatch(/^0 operations of 200 seeds in .*; failed: \d/);
  expect(lines.length).toBeLessThan(200);
});

test("a broken invariant ends the run with status 1, and tells the seed, the operation and what came before", async () => {
  let steps = 0;
  let discarded = false;
  const broken: Simulated = {
    tally: new Tally(),
    mostLive: 0,
    mostPending: 0,
    bytes: 0,
    async step() {
      if (steps === 30) breach(4, "it fell back");
      steps += 1;
    },
    async breathe() {},
    discard() {
      discarded = true;
    },
    checkWhole() {},
    journalHash: () => "",
  };
  const lines: string[] = [];
  const status = await main(
    ["--ops", "100", "--seed", "7"],
    (line) => lines.push(line),
    async () => broken,
  );
  expect(status).toBe(1);
  const told = lines.join("\n");
  expect(told).toContain("operation 30 of seed 7: Violation: invariant 4 (fencing tokens only grow): it fell back");
  expect(told).toMatch(/^ {2}30: \{"op":/m);
  expect(told).toMatch(/^ {2}11: \{"op":/m);
  expect(discarded).toBe(true);
});

test("what is no whole number is refused", async () => {
  for (const bad of ["-1", "1e6", "many", ""]) {
    await expect(
      main([`--ops=${bad}`], () => undefined),
      bad,
    ).rejects.toThrow(/--ops: expected a whole number/);
  }
});
