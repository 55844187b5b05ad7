/** How the verbs `backup` and `restore` of the built program end, and what they leave behind. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { isBuilt, temporaryFolder } from "../e2e/daemon.ts";
import { runProgram, startProgram } from "../e2e/program.ts";
import { isInstalled } from "../metrics/scrape.ts";
import { open } from "../store/files.ts";
import { queued, request, START, turn } from "../store/turns.ts";

/** Long enough for a copy to be caught in the making. */
const BIG_MIB = 48;
const MOST_TRIES = 20;

/** A folder with a closed database `state.db` of at least so many MiB. */
async function withDatabase(mib = 0): Promise<string> {
  const folder = temporaryFolder();
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const store = open(join(folder, "state.db"));
  for (let i = 0; i <= mib; i++) {
    const padded = request(`a-${i}`, { workloadData: { padding: "x".repeat(2 ** 20) } });
    await store.commit(turn({ at: START + i, allocations: [queued(padded)] }));
  }
  await store.close();
  rmSync(join(folder, "state.db.lock"));
  return folder;
}

const DATABASE = ["--database", "state.db"];

test.skipIf(!isBuilt)("exit codes and messages say what went wrong (needs the built program)", async () => {
  const cwd = await withDatabase();
  writeFileSync(join(cwd, "memory.yaml"), 'storage:\n  path: ":memory:"\n');
  writeFileSync(join(cwd, "bad.yaml"), "storage: 3\n");
  writeFileSync(join(cwd, "dear.txt"), "dear");
  const there = readdirSync(cwd).toSorted();
  const cases: [string[], number, RegExp][] = [
    [["backup"], 64, /missing required argument/],
    [["backup", "copy.db", "--config", "bad.yaml"], 78, /bad\.yaml:1:10 storage: expected a section/],
    [["backup", "copy.db", "--config", "memory.yaml"], 1, /^storage\.path is :memory:, so there is no file/],
    [["restore", "copy.db", "--config", "memory.yaml"], 1, /^storage\.path is :memory:, so there is no file/],
    [["backup", "copy.db"], 1, /^there is no database at .*: name it by --database \(a relative storage\.path/],
    [["backup", "dear.txt", ...DATABASE], 1, /^.*dear\.txt exists: name another file, or replace it by --overwrite/],
    [["backup", "missing/copy.db", ...DATABASE], 1, /^the folder .*missing does not exist: make it first/],
    [["backup", "state.db", "--overwrite", ...DATABASE], 1, /^.*state\.db belongs to the database itself/],
    [["restore", "missing.db", ...DATABASE], 1, /^there is no file .*missing\.db/],
  ];
  for (const [args, end, stderr] of cases) {
    const ended = await runProgram(args, { cwd });
    expect(ended, args.join(" ")).toEqual({ end, stdout: "", stderr: expect.stringMatching(stderr) });
    expect(ended.stderr, "no stack, no class").not.toMatch(/Error|\n +at /);
  }
  expect(readdirSync(cwd).toSorted()).toEqual(there);
  expect(readFileSync(join(cwd, "dear.txt"), "utf8")).toBe("dear");
});

test.skipIf(!isBuilt || !isInstalled("prlimit"))(
  "a disk without space for the copy fails the backup and the restore, and leaves nothing behind (needs the built program and prlimit)",
  async () => {
    const cwd = await withDatabase(2);
    const under = ["prlimit", `--fsize=${2 ** 20}`];
    const there = () => readdirSync(cwd).toSorted();
    const before = there();
    const failed = await runProgram(["backup", "copy.db", ...DATABASE], { cwd, under });
    expect(failed).toMatchObject({
      end: 1,
      stdout: "",
      stderr: expect.stringMatching(/copy\.db could not be written \(.+\)/),
    });
    expect(there().filter((name) => !name.startsWith("state.db"))).toEqual([]);
    expect(there()).toEqual(expect.arrayContaining(before));

    expect((await runProgram(["backup", "copy.db", ...DATABASE], { cwd })).end).toBe(0);
    const bytes = readFileSync(join(cwd, "state.db"));
    const refused = await runProgram(["restore", "copy.db", ...DATABASE], { cwd, under });
    expect(refused).toMatchObject({ end: 1, stderr: expect.stringMatching(/state\.db was not replaced \(.+\)/) });
    expect(there().filter((name) => /incomplete|replaced/.test(name))).toEqual([]);
    expect(readFileSync(join(cwd, "state.db")).equals(bytes)).toBe(true);
  },
);

test.skipIf(!isBuilt)(
  "a backup that is interrupted ends by the signal and leaves nothing behind (needs the built program)",
  { timeout: 60_000 },
  async () => {
    const cwd = await withDatabase(BIG_MIB);
    const copies = () => readdirSync(cwd).filter((name) => name.startsWith("copy"));
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const { process: child, ended } = startProgram(["backup", "copy.db", ...DATABASE], { cwd });
      while (copies().length === 0 && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 1));
      child.kill("SIGTERM");
      const { end } = await ended;
      expect(copies()).toEqual(end === 0 ? ["copy.db"] : []);
      if (end === "SIGTERM") return;
      // It was done already, or in its last step.
      expect(end).toBe(0);
      rmSync(join(cwd, "copy.db"));
    }
    throw new Error("no backup was slow enough to be interrupted");
  },
);
