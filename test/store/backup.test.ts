import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  linkSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { emptyHost } from "../../src/core/host/changes.ts";
import { evolve } from "../../src/core/host/evolve.ts";
import { ManualClock } from "../../src/platform/clock.ts";
import { EventFeed } from "../../src/scheduler/event-feed.ts";
import { BackupError, backUp } from "../../src/store/backup.ts";
import { restore } from "../../src/store/restore.ts";
import type { SqliteStore } from "../../src/store/store.ts";
import { DEFAULT_POLICY } from "../simulation/simulated-host.ts";
import { startCommitter } from "./child.ts";
import { databasePath, open, openForTest } from "./files.ts";
import { gpu, grantTurn, notification, queued, releaseTurn, request, START, turn } from "./turns.ts";

const GPUS = ["GPU-a", "GPU-b"];
const beside = (path: string, name: string) => join(dirname(path), name);
const filesBeside = (path: string) => readdirSync(dirname(path)).toSorted();

/** A database that two leases, a waiting request and a webhook are in; the tokens 1 and 2 were given. */
async function fill(store: SqliteStore): Promise<void> {
  const seen = GPUS.map((uuid) => gpu(uuid));
  const events = seen.map(({ hold: _, ...identity }) => ({ type: "gpu-seen" as const, gpu: identity }));
  await store.commit(turn({ gpus: seen, events, bootId: "boot-1" }));
  await store.commit({ ...grantTurn(["a-1", "a-2"], GPUS, START + 1, 1), notifications: [notification("d-1", "a-1")] });
  const waiting = request("b-1", { submittedAt: START + 2 });
  const submitted = { type: "submitted" as const, request: waiting };
  await store.commit(turn({ at: START + 2, events: [submitted], allocations: [queued(waiting)], nextFencingToken: 3 }));
}

/** Releases both leases and gives another: what a backup from before does not know. */
async function goOn(store: SqliteStore): Promise<void> {
  await store.commit(releaseTurn(grantTurn(["a-1", "a-2"], GPUS, START + 1, 1), START + 3));
  await store.commit(grantTurn(["c-1"], GPUS, START + 4, 1_000));
}

async function closed(path = databasePath()): Promise<string> {
  const store = open(path);
  await fill(store);
  await store.close();
  return path;
}

function tamper(path: string, sql: string): void {
  const database = new DatabaseSync(path, { enableForeignKeyConstraints: false });
  database.exec(sql);
  database.close();
}

/** All that the file holds, by way of a copy, so that looking changes nothing. */
async function contentOf(path: string) {
  const copy = databasePath();
  for (const part of ["", "-wal"]) if (existsSync(path + part)) copyFileSync(path + part, copy + part);
  const store = open(copy);
  const content = {
    state: store.load(),
    journal: [...store.readJournal()],
    due: store.due(Number.MAX_SAFE_INTEGER, 1_000),
  };
  await store.close();
  return content;
}

test("a running store is copied into one file, which only its owner can read, and goes on", async () => {
  const path = databasePath();
  const store = openForTest(path);
  await fill(store);
  const before = store.load();
  const target = beside(path, "copy.db");
  const made = await backUp(path, target);
  expect(made).toEqual({ from: path, to: target, bytes: statSync(target).size });
  await goOn(store);

  expect(filesBeside(path).filter((name) => name.startsWith("copy.db"))).toEqual(["copy.db"]);
  expect(statSync(target).mode & 0o777).toBe(0o600);
  const content = await contentOf(target);
  expect(content.state).toEqual(before);
  expect(content.due.map(({ deliveryId }) => deliveryId)).toEqual(["d-1"]);
  expect(store.load().allocations.map(({ request: { id } }) => id)).toEqual(["b-1", "c-1"]);
});

test("a copy made under load holds every turn acknowledged before it began, and none by half", async () => {
  const path = databasePath();
  const committer = startCommitter(path, "loop");
  await committer.next();
  for (let copies = 0; copies < 5; copies++) {
    for (let i = 0; i < 50; i++) await committer.next();
    const acknowledged = await committer.next();
    const target = beside(path, `copy-${copies}.db`);
    await backUp(path, target);
    const { state, journal } = await contentOf(target);
    const turns = journal.filter(({ event }) => event.type === "ended" || event.type === "granted").length / 4;
    expect(Number.isInteger(turns)).toBe(true);
    expect(turns).toBeGreaterThan(acknowledged.type === "committed" ? acknowledged.n : Number.NaN);
    expect(state.allocations).toHaveLength(turns % 2 === 0 ? 0 : 4);
  }
});

test("the database of a daemon that was killed is copied with what its log holds, and stays as it is", async () => {
  const path = databasePath();
  const committer = startCommitter(path, "ask");
  await committer.next();
  await committer.ask();
  await committer.kill();
  const log = readFileSync(`${path}-wal`);
  const target = beside(path, "copy.db");
  await backUp(path, target);
  expect((await contentOf(target)).state.allocations).toHaveLength(4);
  expect(readFileSync(`${path}-wal`).equals(log)).toBe(true);
  expect(openForTest(path).load().allocations).toHaveLength(4);
});

test("what has the name already is replaced only when that is said, and by a whole copy", async () => {
  const path = await closed();
  const target = beside(path, "copy.db");
  writeFileSync(target, "something dear");
  await expect(backUp(path, target)).rejects.toThrow(
    /copy\.db exists: name another file, or replace it by --overwrite/,
  );
  expect(readFileSync(target, "utf8")).toBe("something dear");
  await backUp(path, target, { overwrite: true });
  expect((await contentOf(target)).state.allocations).toHaveLength(3);
});

test("where a copy cannot go is said, and nothing is left behind", async () => {
  const path = await closed();
  const linked = beside(path, "same.db");
  linkSync(path, linked);
  const there = filesBeside(path);
  const folder = dirname(path);
  const cases: [string, RegExp][] = [
    [join(folder, "missing", "copy.db"), /the folder .*missing does not exist: make it first/],
    [folder, /is a folder: name a file in it/],
    [path, /belongs to the database itself/],
    [`${path}-wal`, /belongs to the database itself/],
    [`${path}.lock`, /belongs to the database itself/],
    [linked, /belongs to the database itself/],
    [join("/proc", "copy.db"), /copy\.db could not be written \(.+\): its folder must be writable and have space/],
  ];
  for (const [target, message] of cases) {
    await expect(backUp(path, target, { overwrite: true }), target).rejects.toThrow(message);
    await expect(backUp(path, target, { overwrite: true }), target).rejects.toThrow(BackupError);
  }
  expect(filesBeside(path)).toEqual(there);
});

test("what cannot be copied is named, and nothing is left behind", async () => {
  await expect(backUp(":memory:", "copy.db")).rejects.toThrow(/storage\.path is :memory:, so there is no file/);
  const missing = databasePath();
  await expect(backUp(missing, beside(missing, "copy.db"))).rejects.toThrow(
    `there is no database at ${missing}: name it by --database`,
  );
  const damaged = await closed();
  tamper(damaged, "DELETE FROM live_leases");
  const newer = await closed();
  tamper(newer, "PRAGMA user_version = 999");
  const foreign = databasePath();
  tamper(foreign, "CREATE TABLE songs (title TEXT)");
  const text = databasePath();
  writeFileSync(text, "hello\n".repeat(1_000));
  const empty = databasePath();
  writeFileSync(empty, "");
  const cases: [string, RegExp][] = [
    [damaged, /is damaged \(the leases disagree/],
    [newer, /written by a newer gpu-orchestrator/],
    [foreign, /database of another program/],
    [text, /is not a SQLite database/],
    [empty, /is empty: there is nothing to back up/],
  ];
  for (const [path, message] of cases) {
    const target = beside(path, "copy.db");
    await expect(backUp(path, target), String(message)).rejects.toThrow(message);
    expect(filesBeside(path).filter((name) => name.startsWith("copy"))).toEqual([]);
  }
});

test("a copy that is given up leaves nothing behind", async () => {
  const path = await closed();
  const giveUp = new AbortController();
  const copying = backUp(path, beside(path, "copy.db"), { signal: giveUp.signal });
  expect(filesBeside(path).filter((name) => name.endsWith(".incomplete"))).toHaveLength(1);
  giveUp.abort(new Error("enough"));
  await expect(copying).rejects.toThrow("enough");
  expect(filesBeside(path).filter((name) => name.startsWith("copy"))).toEqual([]);
});

test("a restored database is as it was at the backup; what it was before is kept, and can be restored in turn", async () => {
  const path = databasePath();
  const backup = beside(path, "copy.db");
  const store = open(path);
  await fill(store);
  await backUp(path, backup);
  const then = store.load();
  await goOn(store);
  const later = store.load();
  await store.close();

  const restored = restore(path, backup);
  expect(restored).toMatchObject({ file: path, asOf: START + 2, leases: 2, waiting: 1 });
  const { state, due } = await contentOf(path);
  expect({ ...state, nextFencingToken: 0, lastSeq: 0 }).toEqual({ ...then, nextFencingToken: 0, lastSeq: 0 });
  expect(due.map(({ deliveryId }) => deliveryId)).toEqual(["d-1"]);

  expect(basename(restored.kept ?? "")).toMatch(/^orchestrator\.db\.replaced-\d{4}-/);
  restore(path, restored.kept ?? "");
  const again = openForTest(path).load();
  expect(again.allocations).toEqual(later.allocations);
  expect(again.nextFencingToken).toBe(later.nextFencingToken);
});

test("fencing tokens and numbers of events given since the backup do not come again, and readers of events are told", async () => {
  const path = databasePath();
  const backup = beside(path, "copy.db");
  const store = open(path);
  await fill(store);
  await backUp(path, backup);
  await goOn(store);
  const { seq } = [...store.readJournal()].at(-1) ?? { seq: 0 };
  await store.close();

  restore(path, backup);
  const after = openForTest(path);
  expect(after.load().nextFencingToken).toBe(1_001);
  const journal = [...after.readJournal()];
  expect(journal.at(-1)?.seq).toBe(seq + 2);
  // Who follows the events is told that some are none any more, also one who had the last of them.
  for (const position of [seq, seq - 1]) {
    const reader = new EventFeed(after, new ManualClock(), seq + 2, () => null).open(position);
    expect(await reader.next(0, AbortSignal.timeout(10_000))).toMatchObject({ reset: { position: seq + 1 } });
  }
  // Invariant 8 holds over it.
  const folded = journal.map(({ event }) => event).reduce(evolve, emptyHost(DEFAULT_POLICY));
  expect(folded.nextFencingToken).toBe(1_001);
  expect(folded.bootId).toBe("boot-1");
  expect([...folded.allocations.values()].map(({ request: { id } }) => id).toSorted()).toEqual(["a-1", "a-2", "b-1"]);
});

test("a database that is served is not replaced", async () => {
  const path = databasePath();
  const backup = beside(path, "copy.db");
  const store = openForTest(path);
  await fill(store);
  await backUp(path, backup);
  await goOn(store);
  const there = filesBeside(path);
  expect(() => restore(path, backup)).toThrow(/orchestrator\.db is in use by a gpu-orchestrator: stop it first/);
  expect(filesBeside(path)).toEqual(there);
  await store.commit(turn({ at: START + 5, nextFencingToken: 1_001 }));
  expect(store.load().allocations).toHaveLength(2);
});

test("it is restored where there is no database, a damaged one, or a log without one", async () => {
  const backup = beside(await closed(), "copy.db");
  await backUp(beside(backup, "orchestrator.db"), backup);

  const none = databasePath();
  expect(restore(none, backup).kept).toBeNull();
  expect(statSync(none).mode & 0o777).toBe(0o600);

  const damaged = await closed();
  truncateSync(damaged, 4_096 * 3);
  const wreck = readFileSync(damaged);
  const { kept } = restore(damaged, backup);
  expect(readFileSync(kept ?? "").equals(wreck)).toBe(true);

  const orphan = databasePath();
  const committer = startCommitter(orphan, "ask");
  await committer.next();
  await committer.ask();
  await committer.kill();
  truncateSync(orphan, 0);
  const log = readFileSync(`${orphan}-wal`);
  const aside = restore(orphan, backup).kept ?? "";
  expect(readFileSync(`${aside}-wal`).equals(log)).toBe(true);

  for (const path of [none, damaged, orphan]) {
    expect(existsSync(`${path}-wal`)).toBe(false);
    expect(openForTest(path).load().allocations).toHaveLength(3);
  }
});

test("the log of a daemon that was killed is kept with its database, not played over the backup", async () => {
  const backup = beside(await closed(), "copy.db");
  await backUp(beside(backup, "orchestrator.db"), backup);
  const path = databasePath();
  const committer = startCommitter(path, "ask");
  await committer.next();
  for (let i = 0; i < 5; i++) await committer.ask();
  await committer.kill();
  const before = await contentOf(path);

  const { kept } = restore(path, backup);
  expect((await contentOf(kept ?? "")).state).toEqual(before.state);
  expect((await contentOf(path)).state.allocations.map(({ request: { id } }) => id)).toEqual(["a-1", "a-2", "b-1"]);
});

test("what is not a good backup is named, and the database stays as it is", async () => {
  const path = await closed();
  const before = await contentOf(path);
  const damaged = await closed();
  truncateSync(damaged, Math.floor(statSync(damaged).size / 8_192) * 4_096);
  const newer = await closed();
  tamper(newer, "PRAGMA user_version = 999");
  const foreign = databasePath();
  tamper(foreign, "CREATE TABLE songs (title TEXT)");
  const text = databasePath();
  writeFileSync(text, "hello\n".repeat(1_000));
  const empty = databasePath();
  writeFileSync(empty, "");
  const disagreeing = await closed();
  tamper(disagreeing, "DELETE FROM live_leases");
  const cases: [string, RegExp][] = [
    [beside(path, "missing.db"), /there is no file .*missing\.db/],
    [dirname(path), /is not a file/],
    [path, /belongs to the database itself: name a backup/],
    [damaged, /is damaged \(.+\): use another backup/],
    [disagreeing, /is damaged \(the leases disagree.*\): use another backup/],
    [newer, /was made by a newer gpu-orchestrator: restore it with that one/],
    [foreign, /is not a backup of gpu-orchestrator/],
    [text, /is not a backup of gpu-orchestrator/],
    [empty, /is empty: it is not a backup/],
  ];
  for (const [backup, message] of cases) {
    expect(() => restore(path, backup), backup).toThrow(message);
    expect(() => restore(path, backup), backup).toThrow(BackupError);
  }
  expect(filesBeside(path)).toEqual([basename(path), `${basename(path)}.lock`]);
  expect(await contentOf(path)).toEqual(before);
});

test("where a backup cannot go is said", async () => {
  const backup = await closed();
  expect(() => restore(":memory:", backup)).toThrow(/storage\.path is :memory:/);
  const nowhere = beside(databasePath(), "missing/x.db");
  expect(() => restore(nowhere, backup)).toThrow(/the folder .*missing does not exist: make it first, or name it/);
  const foreign = databasePath();
  tamper(foreign, "CREATE TABLE songs (title TEXT)");
  const before = readFileSync(foreign);
  expect(() => restore(foreign, backup)).toThrow(/is the database of another program/);
  expect(readFileSync(foreign).equals(before)).toBe(true);
  expect(filesBeside(foreign)).toEqual(["orchestrator.db", "orchestrator.db.lock"]);
});

test("a backup is only read, and a database that is a link stays where it is", async () => {
  const backup = beside(await closed(), "copy.db");
  await backUp(beside(backup, "orchestrator.db"), backup);
  const bytes = readFileSync(backup);
  chmodSync(backup, 0o400);
  const real = await closed();
  const link = beside(databasePath(), "link.db");
  symlinkSync(real, link);
  expect(restore(link, backup).file).toBe(real);
  expect(statSync(real).mode & 0o777).toBe(0o600);
  expect(readFileSync(backup).equals(bytes)).toBe(true);
  expect(openForTest(link).load().allocations).toHaveLength(3);
});

test.skipIf(process.getuid?.() !== 0)(
  "restored by root, the database and its lock belong to whom they belonged, or to the folder's owner (needs root)",
  async () => {
    const [uid, gid] = [12_345, 12_346];
    const backup = beside(await closed(), "copy.db");
    await backUp(beside(backup, "orchestrator.db"), backup);
    const owned = await closed();
    chownSync(owned, uid, gid);
    const none = databasePath();
    chownSync(dirname(none), uid, gid);
    for (const path of [owned, none]) {
      restore(path, backup);
      for (const name of [path, `${path}.lock`]) expect(statSync(name)).toMatchObject({ uid, gid });
    }
  },
);

test.skipIf(process.getuid?.() !== 0)(
  "a user who may not have the database is told who may, and nothing is left behind (needs root)",
  async () => {
    const backup = beside(await closed(), "copy.db");
    await backUp(beside(backup, "orchestrator.db"), backup);
    const path = await closed();
    const hidden = beside(await closed(), "orchestrator.db");
    for (const name of [dirname(backup), dirname(path)]) chmodSync(name, 0o777);
    chmodSync(backup, 0o644);
    const there = filesBeside(path);
    process.seteuid?.(12_345);
    try {
      expect(() => restore(path, backup)).toThrow(`${path} belongs to user 0: run this as that user, or as root`);
      await expect(backUp(path, beside(path, "other.db"))).rejects.toThrow(
        /cannot be read \(.+\): run this as the user that the daemon runs as, or as root/,
      );
      expect(() => restore(hidden, backup)).toThrow(/cannot be read \(EACCES\): run this as the user/);
      expect(() => restore(path, hidden)).toThrow(/cannot be read \(EACCES\): run this as the user/);
    } finally {
      process.seteuid?.(0);
    }
    expect(filesBeside(path)).toEqual(there);
  },
);
