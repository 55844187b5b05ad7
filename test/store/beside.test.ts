/** A second database in the backup of the first. */
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, onTestFinished, test } from "vitest";
import { BackupError, backUp } from "../../src/store/backup.ts";
import { restore } from "../../src/store/restore.ts";
import { databasePath, open } from "./files.ts";
import { turn } from "./turns.ts";

const ROWS = 40;
const besides = (path: string) => join(dirname(path), "second.db");
const rowsIn = (path: string) => {
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    return (database.prepare("SELECT count(*) AS n FROM t").get() as { n: number }).n;
  } finally {
    database.close();
  }
};

/** More than one part, in a file with a log, which is still open. */
function second(path: string): DatabaseSync {
  const database = new DatabaseSync(besides(path));
  database.exec("PRAGMA journal_mode = WAL; CREATE TABLE t (a BLOB)");
  for (let i = 0; i < ROWS; i++) database.exec("INSERT INTO t VALUES (randomblob(500000))");
  return database;
}

async function first(): Promise<string> {
  const path = databasePath();
  const store = open(path);
  await store.commit(turn({ bootId: "boot-1" }));
  await store.close();
  return path;
}

test("is restored with it; what was there keeps another name, and nothing else is left", async () => {
  const path = await first();
  const held = second(path);
  const copy = join(dirname(path), "copy.db");
  await backUp(path, copy, { beside: besides(path) });
  held.exec("DELETE FROM t WHERE rowid > 1");
  held.close();
  const prepared: string[] = [];
  const { beside } = restore(path, copy, {
    file: besides(path),
    prepare: (file, name) => prepared.push(`${rowsIn(file)} of ${name}`),
  });
  expect(beside).toBe(true);
  expect(prepared).toEqual([expect.stringMatching(/^40 of .*copy\.db$/)]);
  expect(rowsIn(besides(path))).toBe(ROWS);
  expect(statSync(besides(path)).mode & 0o777).toBe(0o600);
  const left = readdirSync(dirname(path)).filter((name) => /incomplete|beside|second/.test(name));
  const [kept = "", ...more] = left.filter((name) => name.startsWith("second.db.replaced-"));
  expect([more, left.length]).toEqual([[], 2]);
  expect(rowsIn(join(dirname(path), kept))).toBe(1);
  // The first holds nothing of it any more, and the daemon opens it.
  expect(statSync(path).size).toBeLessThan(2_000_000);
  await open(path).close();
});

test("that was not in the backup stays as it is", async () => {
  const path = await first();
  const copy = join(dirname(path), "copy.db");
  await backUp(path, copy, { beside: besides(path) });
  second(path).close();
  const never = () => {
    throw new Error("nothing is to be prepared");
  };
  expect(restore(path, copy, { file: besides(path), prepare: never }).beside).toBe(false);
  expect(rowsIn(besides(path))).toBe(ROWS);
});

test("that is not fit leaves both as they were", async () => {
  const path = await first();
  second(path).close();
  const copy = join(dirname(path), "copy.db");
  await backUp(path, copy, { beside: besides(path) });
  const unfit = () => {
    throw new Error("it is of another age");
  };
  expect(() => restore(path, copy, { file: besides(path), prepare: unfit })).toThrow(
    new BackupError("it is of another age: use another backup"),
  );
  expect(readdirSync(dirname(path)).filter((name) => /replaced|incomplete|beside/.test(name))).toEqual([]);
});

test("the way back takes both files that were replaced, with what was only in the second one's log", async () => {
  const path = await first();
  second(path).close();
  const copy = join(dirname(path), "copy.db");
  await backUp(path, copy, { beside: besides(path) });
  const pair = { file: besides(path), prepare: () => undefined };
  leaveALog(besides(path), "DELETE FROM t WHERE rowid > 3");
  const { kept, keptBeside } = restore(path, copy, pair);
  expect(rowsIn(besides(path))).toBe(ROWS);
  expect(keptBeside).toBe(`${besides(path)}${(kept ?? "").slice(path.length)}`);
  // Folded in: the one file has it all.
  expect(existsSync(`${keptBeside}-wal`)).toBe(false);
  expect(rowsIn(keptBeside ?? "")).toBe(3);
  expect(restore(path, kept ?? "", pair)).toMatchObject({ beside: true, keptBeside: expect.any(String) });
  expect(rowsIn(besides(path))).toBe(3);
});

/** As a process that was killed does. */
function leaveALog(path: string, sql: string): void {
  const program = `
    const { DatabaseSync } = require("node:sqlite");
    const database = new DatabaseSync(process.argv[1]);
    database.exec(process.argv[2]);
    process.kill(process.pid, "SIGKILL");`;
  spawnSync(process.execPath, ["-e", program, path, sql]);
  expect(statSync(`${path}-wal`).size).toBeGreaterThan(0);
}

test("a first database that cannot be kept leaves the second one as it was", async () => {
  const path = await first();
  second(path).close();
  const copy = join(dirname(path), "copy.db");
  await backUp(path, copy, { beside: besides(path) });
  leaveALog(besides(path), "DELETE FROM t WHERE rowid > 1");
  // A folder has no second name.
  rmSync(`${path}-wal`, { force: true });
  mkdirSync(`${path}-wal`);
  for (let i = 0; i < 100; i++) writeFileSync(join(`${path}-wal`, `${i}`), "");
  expect(() => restore(path, copy, { file: besides(path), prepare: () => undefined })).toThrow(BackupError);
  expect(rowsIn(besides(path))).toBe(1);
  expect(readdirSync(dirname(path)).filter((name) => /replaced|incomplete/.test(name))).toEqual([]);
});

const SHM = "/dev/shm";
const hasOtherDisk = existsSync(SHM) && statSync(SHM).dev !== statSync(tmpdir()).dev;

test.skipIf(!hasOtherDisk)(
  "a second step that fails undoes the first (needs /dev/shm beside the temporary folder)",
  async () => {
    const path = await first();
    const folder = mkdtempSync(join(SHM, "gpuo-beside-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    second(path).close();
    const copy = join(dirname(path), "copy.db");
    await backUp(path, copy, { beside: besides(path) });
    const elsewhere = join(folder, "second.db");
    copyFileSync(besides(path), elsewhere);
    const before = [path, elsewhere].map((name) => readFileSync(name));
    // No file system renames into another.
    expect(() => restore(path, copy, { file: elsewhere, prepare: () => undefined })).toThrow(/EXDEV/);
    expect([path, elsewhere].map((name, i) => readFileSync(name).equals(before[i] as Buffer))).toEqual([true, true]);
    expect(readdirSync(folder)).toEqual(["second.db"]);
    expect(readdirSync(dirname(path)).filter((name) => /replaced|incomplete/.test(name))).toEqual([]);
  },
);

test("that is damaged is not backed up", async () => {
  const path = await first();
  second(path).close();
  truncateSync(besides(path), 300_000);
  const copy = join(dirname(path), "copy.db");
  await expect(backUp(path, copy, { beside: besides(path) })).rejects.toThrow();
  expect(existsSync(copy)).toBe(false);
  expect(readdirSync(dirname(path)).filter((name) => /incomplete|beside/.test(name))).toEqual([]);
});
