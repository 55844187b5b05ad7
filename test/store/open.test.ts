import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { backup, DatabaseSync } from "node:sqlite";
import { expect, onTestFinished, test } from "vitest";
import { type RefusalReason, StoreRefusedError } from "../../src/store/errors.ts";
import { SCHEMA_VERSION } from "../../src/store/migrations.ts";
import { openStore } from "../../src/store/store.ts";
import { startCommitter } from "./child.ts";
import { databasePath, open, openForTest } from "./files.ts";
import { grantTurn, queued, releaseTurn, request, START, turn } from "./turns.ts";

async function refusalOf(path: string): Promise<StoreRefusedError> {
  let store: ReturnType<typeof open>;
  try {
    store = open(path);
  } catch (error) {
    if (error instanceof StoreRefusedError) return error;
    throw error;
  }
  await store.close();
  throw new Error("it was opened");
}

async function expectRefusal(path: string, reason: RefusalReason, message: RegExp): Promise<void> {
  const refusal = await refusalOf(path);
  expect({ reason: refusal.reason, message: refusal.message }).toEqual({
    reason,
    message: expect.stringMatching(message),
  });
  expect(refusal.message).toContain(path);
}

/** A closed database with some hundred pages in it. */
async function filled(path = databasePath()): Promise<string> {
  const store = open(path);
  for (let i = 0; i < 40; i++) {
    const padded = request(`a-${i}`, { workloadData: { padding: "x".repeat(10_000) } });
    await store.commit(turn({ at: START + i, allocations: [queued(padded)] }));
  }
  await store.close();
  return path;
}

function tamper(path: string, sql: string): void {
  const database = new DatabaseSync(path, { enableForeignKeyConstraints: false });
  database.exec(sql);
  database.close();
}

test("the folder is made, and nobody else can read the database, its log or its lock", async () => {
  const path = join(dirname(databasePath()), "deep", "down", "orchestrator.db");
  await openForTest(path).commit(turn({ allocations: [queued(request("a-1"))] }));
  for (const file of [path, `${path}-wal`, `${path}.lock`]) expect(statSync(file).mode & 0o777).toBe(0o600);
});

test("a database in memory works and leaves no file", async () => {
  const store = openStore({ path: ":memory:", retentionMs: 1e12 });
  await store.commit(turn({ allocations: [queued(request("a-1"))] }));
  expect(store.load().allocations).toHaveLength(1);
  await store.close();
  expect(existsSync(":memory:")).toBe(false);
  expect(existsSync(":memory:.lock")).toBe(false);
});

test("it is durable against a power cut: write-ahead log, synced at every commit", async () => {
  const path = databasePath();
  const { openDatabase } = await import("../../src/store/open.ts");
  const { database, close } = openDatabase(path);
  onTestFinished(close);
  const value = (name: string) => Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0];
  expect([value("journal_mode"), value("synchronous"), value("foreign_keys")]).toEqual(["wal", 2, 1]);
  const strict = database
    .prepare("SELECT name FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%' AND NOT strict")
    .all();
  expect(strict).toEqual([]);
});

test("a second store on the same file is refused, by whatever name, until the first is closed", async () => {
  const path = databasePath();
  const first = open(path);
  const otherName = join(dirname(path), "link.db");
  symlinkSync(path, otherName);
  await expectRefusal(path, "in-use", /in use by another gpu-orchestrator.*: stop that one/);
  expect((await refusalOf(otherName)).reason).toBe("in-use");
  await first.commit(turn({ allocations: [queued(request("a-1"))] }));
  await first.close();
  expect(openForTest(otherName).load().allocations).toHaveLength(1);
});

test("a second process is refused, and takes over when the first is killed", async () => {
  const path = databasePath();
  const first = startCommitter(path, "ask");
  expect(await first.next()).toEqual({ type: "opened" });
  await expectRefusal(path, "in-use", /in use/);
  const second = startCommitter(path, "ask");
  expect(await second.next()).toMatchObject({ type: "refused", reason: "in-use" });
  expect(await first.ask()).toMatchObject({ type: "committed", n: 0 });

  await first.kill();
  expect(openForTest(path).load().allocations).toHaveLength(4);
});

test("while it runs, others can read the database and copy it", async () => {
  const path = databasePath();
  const store = openForTest(path);
  await store.commit(turn({ allocations: [queued(request("a-1"))] }));
  const reader = new DatabaseSync(path, { readOnly: true });
  onTestFinished(() => reader.close());
  expect(reader.prepare("SELECT id FROM allocations").all()).toEqual([{ id: "a-1" }]);
  const copy = join(dirname(path), "copy.db");
  await backup(reader, copy);
  await store.commit(turn({ allocations: [queued(request("a-2"))] }));
  expect(openForTest(copy).load().allocations).toEqual([queued(request("a-1"))]);
});

test("a database of a newer schema is refused, and left as it is", async () => {
  const path = await filled();
  tamper(path, "PRAGMA user_version = 999");
  const before = readFileSync(path);
  await expectRefusal(
    path,
    "newer-schema",
    /schema 999, this one knows \d+\): run the newer one again, or restore a backup/,
  );
  expect(readFileSync(path).equals(before)).toBe(true);
});

test.each([
  ["a short text", "hello\n"],
  ["a long text", "these are not the bytes you are looking for\n".repeat(1_000)],
])("%s is refused as a database, and left as it is", async (_, text) => {
  const path = databasePath();
  writeFileSync(path, text);
  await expectRefusal(path, "foreign", /is not a SQLite database: set storage\.path/);
  expect(readFileSync(path, "utf8")).toBe(text);
});

test("the database of another program is refused, and left as it is", async () => {
  const path = databasePath();
  tamper(path, "CREATE TABLE songs (title TEXT)");
  const before = readFileSync(path);
  await expectRefusal(path, "foreign", /database of another program/);
  expect(readFileSync(path).equals(before)).toBe(true);
});

test("an empty file is a new database", async () => {
  const path = databasePath();
  writeFileSync(path, "");
  expect(openForTest(path).load().lastTurnAt).toBeNull();
});

test("a database cut off anywhere is refused as damaged", async () => {
  const whole = await filled();
  const { size } = statSync(whole);
  for (const kept of [0.9, 0.5, 0.1]) {
    const path = databasePath();
    copyFileSync(whole, path);
    truncateSync(path, Math.floor((size * kept) / 4096) * 4096);
    await expectRefusal(path, "damaged", /is damaged \(.*\): restore it from a backup/);
  }
});

/** Enough for a part of them to be in the database and the rest in its log; two turns make twelve events. */
const UNCLOSED_TURNS = 160;
const UNCLOSED_EVENTS = 6 * UNCLOSED_TURNS;

/** A database as a power cut leaves it: with a log, and without the memory that its connections shared. */
async function unclosed(): Promise<string> {
  const path = databasePath();
  const committer = startCommitter(path, "ask");
  await committer.next();
  for (let i = 0; i < UNCLOSED_TURNS; i++) await committer.ask();
  await committer.kill();
  const copy = databasePath();
  for (const part of ["", "-wal"]) copyFileSync(path + part, copy + part);
  expect(statSync(copy).size).toBeGreaterThan(50 * 4096);
  return copy;
}

test("after a power cut it opens: with a log, without the memory for it, and with the lock file of the dead", async () => {
  const path = await unclosed();
  writeFileSync(`${path}.lock`, "");
  const store = openForTest(path);
  expect(store.load().lastTurnAt).toBe(START + UNCLOSED_TURNS - 1);
  expect([...store.readJournal()]).toHaveLength(UNCLOSED_EVENTS);
});

test("a database cut off at any byte beside its whole log is refused with advice, or is whole", async () => {
  const source = await unclosed();
  const { size } = statSync(source);
  const sizes = [1, 15, 16, 99, 100, 511, 512, 4_095, 4_096, 4_097, size >> 1, size - 4_096, size - 1];
  for (const kept of sizes) {
    const path = databasePath();
    for (const part of ["", "-wal"]) copyFileSync(source + part, path + part);
    truncateSync(path, kept);
    let store: ReturnType<typeof open> | null = null;
    try {
      store = open(path);
    } catch (error) {
      expect(error).toMatchObject({
        reason: "damaged",
        message: expect.stringMatching(/(is damaged \(.+\)|is empty, but its log .+): restore /),
      });
      expect(readFileSync(`${path}-wal`).equals(readFileSync(`${source}-wal`)), "the log is lost").toBe(true);
    }
    // What the log has of the pages that are gone is as good as the pages.
    if (store !== null) expect([...store.readJournal()], `cut at ${kept}`).toHaveLength(UNCLOSED_EVENTS);
    await store?.close();
  }
});

test("a lock file that is something else is named", async () => {
  const path = databasePath();
  writeFileSync(`${path}.lock`, "this is not the file that it should be".repeat(100));
  await expectRefusal(path, "unusable", /\.lock should be an empty file and is not: remove it/);
});

test.each(["allocations", "outbox", "journal"])("an overwritten page of %s is found at the start", async (table) => {
  const path = await filled();
  const database = new DatabaseSync(path);
  const { rootpage } = database.prepare("SELECT rootpage FROM sqlite_schema WHERE name = ?").get(table) as {
    rootpage: number;
  };
  database.close();
  const bytes = readFileSync(path);
  bytes.fill(0xa5, 4096 * (rootpage - 1), 4096 * rootpage);
  writeFileSync(path, bytes);
  await expectRefusal(path, "damaged", /is damaged/);
});

test("a missing or emptied file beside a log that still holds commits is refused, and the log survives", async () => {
  for (const rest of ["missing", "empty"]) {
    const path = databasePath();
    const committer = startCommitter(path, "ask");
    await committer.next();
    await committer.ask();
    await committer.kill();
    const orphan = databasePath();
    copyFileSync(`${path}-wal`, `${orphan}-wal`);
    if (rest === "empty") writeFileSync(orphan, "");
    await expectRefusal(orphan, "damaged", new RegExp(`${rest}, but its log .*-wal is not`));
    expect(statSync(`${orphan}-wal`).size).toBeGreaterThan(0);
  }
});

test.each([
  ["a lease that the guard does not know", "DELETE FROM live_leases", /leases disagree about GPU-0/],
  ["a guard without its lease", "UPDATE allocations SET status = 'queued', lease = NULL", /leases disagree/],
  ["a lease that is not JSON", "UPDATE allocations SET lease = '{'", /JSON/],
  ["a request that is not JSON", "UPDATE allocations SET request = '{'", /JSON/],
  ["a missing table", "DROP TABLE outbox", /outbox/],
])("%s is refused at the start", async (_, sql, message) => {
  const path = databasePath();
  const committer = startCommitter(path, "ask");
  await committer.next();
  await committer.ask();
  await committer.kill();
  tamper(path, sql);
  await expectRefusal(path, "damaged", message);
});

test("a folder that cannot be made or written is named", async () => {
  const path = databasePath();
  writeFileSync(path, "");
  await expectRefusal(join(path, "inside-a-file.db"), "unusable", /is a file, and no folder: set storage.path/);
  const folder = databasePath();
  mkdirSync(folder);
  await expectRefusal(folder, "unusable", /is a folder, and no file that could be a database/);
});

test("a refused open lets go of the file: it opens once the cause is gone", async () => {
  const path = await filled();
  tamper(path, "PRAGMA user_version = 999");
  await expectRefusal(path, "newer-schema", /newer/);
  tamper(path, `PRAGMA user_version = ${SCHEMA_VERSION}`);
  expect(openForTest(path).load().allocations).toHaveLength(40);
});

test("keeping records for less than 30 days is a mistake", async () => {
  expect(() => openStore({ path: ":memory:", retentionMs: 30 * 24 * 3_600_000 - 1 })).toThrow(RangeError);
  expect(() => openStore({ path: ":memory:", retentionMs: Number.NaN })).toThrow(RangeError);
});

test("a store that was closed in good order leaves one file, with everything in it", async () => {
  const path = databasePath();
  const store = open(path);
  const granted = grantTurn([], [], START, 1);
  await store.commit(turn({ allocations: [queued(request("a-1"))] }));
  await store.commit(releaseTurn(granted, START));
  await store.close();
  expect(existsSync(`${path}-wal`)).toBe(false);
  expect(openForTest(path).load().allocations).toHaveLength(1);
});
