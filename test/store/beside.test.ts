/** A second database in the backup of the first. */
import { existsSync, readdirSync, statSync, truncateSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
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

test("that is damaged is not backed up", async () => {
  const path = await first();
  second(path).close();
  truncateSync(besides(path), 300_000);
  const copy = join(dirname(path), "copy.db");
  await expect(backUp(path, copy, { beside: besides(path) })).rejects.toThrow();
  expect(existsSync(copy)).toBe(false);
  expect(readdirSync(dirname(path)).filter((name) => /incomplete|beside/.test(name))).toEqual([]);
});
