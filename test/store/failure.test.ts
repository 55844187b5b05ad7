import { execFileSync, spawnSync } from "node:child_process";
import { statSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { expect, onTestFinished, test } from "vitest";
import { StorageUnavailableError } from "../../src/ports/refusals.ts";
import { openDatabase } from "../../src/store/open.ts";
import { MIN_RETENTION_MS, SqliteStore } from "../../src/store/store.ts";
import { LocalWriter } from "../../src/store/writer.ts";
import { startCommitter } from "./child.ts";
import { databasePath, openForTest } from "./files.ts";
import {
  ended,
  gpu,
  grantTurn,
  lease,
  leased,
  notification,
  queued,
  releaseTurn,
  request,
  START,
  turn,
} from "./turns.ts";

const UUIDS = ["GPU-a", "GPU-b"];

/** A store on a disk that has `pages` pages left, until {@link FullDisk.free} is called. */
async function onFullDisk(pages: number) {
  const opened = openDatabase(databasePath());
  const { database } = opened;
  const store = new SqliteStore(opened, MIN_RETENTION_MS, new LocalWriter(database));
  onTestFinished(() => store.close());
  await store.commit(turn({ gpus: UUIDS.map((uuid) => gpu(uuid)) }));
  const used = Object.values(database.prepare("PRAGMA page_count").get() ?? {})[0] as number;
  database.exec(`PRAGMA max_page_count = ${used + pages}`);
  return { store, free: () => database.exec("PRAGMA max_page_count = 1000000") };
}

/** A queued request whose row takes about `bytes`. */
function bulky(id: string, bytes = 20_000) {
  return queued(request(id, { workloadData: { padding: "x".repeat(bytes) } }));
}

test("on a full disk a turn is refused whole, and the store takes turns again once there is space", async () => {
  const { store, free } = await onFullDisk(12);
  const granted = grantTurn(["a-1", "a-2"], UUIDS, START, 1);
  await store.commit(granted);
  const before = { state: store.load(), journal: [...store.readJournal()] };

  const releasing = releaseTurn(granted, START + 1);
  const next = leased(request("a-3"), lease(["GPU-a"], 3));
  const turnThatOverflows = {
    ...releasing,
    allocations: [...releasing.allocations, next, ...Array.from({ length: 10 }, (_, i) => bulky(`q-${i}`))],
    notifications: [notification("d-1", "a-1")],
    nextFencingToken: 4,
    bootId: "boot",
  };
  for (let attempt = 0; attempt < 3; attempt++) {
    await expect(store.commit(turnThatOverflows)).rejects.toThrow(StorageUnavailableError);
    await expect(store.commit(turnThatOverflows)).rejects.toThrow(/disk is full/);
    expect(store.load()).toEqual(before.state);
    expect([...store.readJournal()]).toEqual(before.journal);
    expect(store.nextDueAt()).toBeNull();
    expect(store.findEnded("a-1")).toBeUndefined();
  }

  free();
  await store.commit(turnThatOverflows);
  expect(store.load().allocations).toContainEqual(next);
  expect(store.load().nextFencingToken).toBe(4);
  expect(store.findEnded("a-1")).toEqual(releasing.allocations[0]);
  expect([...store.readJournal()].map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6]);
});

test("a turn that fits is taken between two that do not", async () => {
  const { store } = await onFullDisk(12);
  const tooMuch = turn({ allocations: Array.from({ length: 10 }, (_, i) => bulky(`q-${i}`)) });
  await expect(store.commit(tooMuch)).rejects.toThrow(StorageUnavailableError);
  await store.commit(grantTurn(["a-1"], UUIDS, START, 1));
  await expect(store.commit(tooMuch)).rejects.toThrow(StorageUnavailableError);
  expect(store.load().allocations.map((allocation) => allocation.request.id)).toEqual(["a-1"]);
});

/** Changes another process's limits; from util-linux, which every Debian has. */
const PRLIMIT = "prlimit";
const hasPrlimit = spawnSync(PRLIMIT, ["--version"]).status === 0;

test.skipIf(!hasPrlimit)(
  "when the system refuses to write, turns are refused, and taken again when it lets go",
  async () => {
    const path = databasePath();
    const committer = startCommitter(path, "ask");
    await committer.next();
    expect(await committer.ask()).toMatchObject({ type: "committed", n: 0 });
    // No file of that process may grow: its log is at the end of what it may write.
    const limit = (soft: string | number) =>
      execFileSync(PRLIMIT, ["--pid", String(committer.process.pid), `--fsize=${soft}:`]);
    limit(statSync(`${path}-wal`).size);
    for (let attempt = 0; attempt < 3; attempt++) {
      expect(await committer.ask()).toMatchObject({ type: "unavailable", message: expect.stringMatching(/disk/) });
    }
    limit("unlimited");
    expect(await committer.ask()).toMatchObject({ type: "committed", n: 1 });
    await committer.kill();

    const store = openForTest(path);
    expect(store.load().allocations).toEqual([]);
    expect([...store.readJournal()].map(({ event }) => event.type)).toEqual([
      ...Array.from({ length: 4 }, () => ["submitted", "granted"]).flat(),
      ...Array.from({ length: 4 }, () => "ended"),
    ]);
  },
);

test("while another program writes to the file turns are refused, and taken again afterwards", async () => {
  const path = databasePath();
  const store = openForTest(path);
  const other = new DatabaseSync(path);
  onTestFinished(() => other.close());
  other.exec("BEGIN IMMEDIATE");
  await expect(store.commit(turn({ allocations: [queued(request("a-1"))] }))).rejects.toThrow(/database is locked/);
  other.exec("ROLLBACK");
  await store.commit(turn({ allocations: [queued(request("a-1"))] }));
  expect(store.load().allocations).toHaveLength(1);
});

test("the database itself refuses a GPU in two leases, as the bug that it is", async () => {
  const store = openForTest();
  await store.commit(turn({ gpus: UUIDS.map((uuid) => gpu(uuid)) }));
  await store.commit(turn({ allocations: [leased(request("a-1"), lease(["GPU-a"]))] }));
  const second = leased(request("a-2"), lease(["GPU-b", "GPU-a"], 2));

  let thrown: unknown;
  try {
    await store.commit(turn({ allocations: [second] }));
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(Error);
  expect(thrown).not.toBeInstanceOf(StorageUnavailableError);
  expect(String(thrown)).toMatch(/invariant 1/);
  expect(store.load().allocations.map((allocation) => allocation.request.id)).toEqual(["a-1"]);

  await store.commit(turn({ allocations: [leased(request("a-3"), lease(["GPU-b"], 2))] }));
});

test("two leases on one GPU are refused within one turn as well, offered ones included", async () => {
  const store = openForTest();
  const [asked, held] = [request("a-2"), lease(["GPU-a"])];
  const offered = { status: "offered", request: asked, lease: held, claimBy: START, notice: null } as const;
  const both = turn({ gpus: [gpu("GPU-a")], allocations: [leased(request("a-1"), lease(["GPU-a"])), offered] });
  await expect(store.commit(both)).rejects.toThrow(/invariant 1/);
});

test("the database itself refuses an exclusive lease beside a shared one, and more than the GPU's memory in shares", async () => {
  const part = (id: string, sharedMib: number | null) => leased(request(id), { ...lease(["GPU-a"]), sharedMib });
  const refusedBeside = async (present: number | null, next: number | null) => {
    const store = openForTest();
    await store.commit(turn({ gpus: [gpu("GPU-a")], allocations: [part("a-1", present)] }));
    return store.commit(turn({ allocations: [part("a-2", next)] })).then(
      () => null,
      (error: unknown) => String(error),
    );
  };
  expect(await refusedBeside(1_000, null)).toMatch(/invariant 1.*no others beside it/);
  expect(await refusedBeside(null, 1_000)).toMatch(/invariant 1.*no others beside it/);
  expect(await refusedBeside(40_000, 81_559 - 40_000 + 1)).toMatch(/invariant 1.*more memory is reserved/);
  expect(await refusedBeside(40_000, 81_559 - 40_000)).toBeNull();
});

test("no statement gets around it: rows over live leases cannot be changed, and shares are more than nothing", () => {
  const { database, close } = openDatabase(databasePath());
  onTestFinished(close);
  const hold = (id: string, mib: string) =>
    database.exec(`INSERT INTO live_leases (gpu_uuid, allocation_id, shared_mib) VALUES ('GPU-a', '${id}', ${mib})`);
  database.exec(`
    INSERT INTO gpus (uuid, body) VALUES ('GPU-a', '{"memoryTotalMib":1000}'), ('GPU-n', '{"memoryTotalMib":null}');
    INSERT INTO allocations (id, service, principal, status, submitted_at, lease, request)
      VALUES ('a-1', 's', 'p', 'leased', 0, '{}', '{}'), ('a-2', 's', 'p', 'leased', 0, '{}', '{}');`);
  hold("a-1", "600");
  expect(() => hold("a-2", "401")).toThrow(/more memory is reserved/);
  expect(() => hold("a-2", "NULL")).toThrow(/no others beside it/);
  expect(() => hold("a-2", "0")).toThrow(/CHECK/);
  expect(() => database.exec("INSERT INTO live_leases VALUES ('GPU-n', 'a-2', 1)")).toThrow(/more memory is reserved/);
  expect(() => database.exec("UPDATE live_leases SET shared_mib = 1")).toThrow(/does not change/);
  expect(() => database.exec("INSERT OR REPLACE INTO live_leases VALUES ('GPU-a', 'a-1', NULL)")).toThrow(
    /invariant 1/,
  );
  hold("a-2", "400");
});

test("a lease on a GPU that was never seen is refused as a bug", async () => {
  const store = openForTest();
  const astray = turn({ allocations: [leased(request("a-1"), lease(["GPU-x"]))] });
  await expect(store.commit(astray)).rejects.toThrow(/FOREIGN KEY/);
  await expect(store.commit(astray)).rejects.not.toThrow(StorageUnavailableError);
});

test("an allocation that has ended cannot be written again", async () => {
  const store = openForTest();
  const gone = ended(request("a-1"), null, START, "cancelled");
  await store.commit(turn({ allocations: [gone] }));
  await expect(store.commit(turn({ allocations: [queued(request("a-1"))] }))).rejects.toThrow(/UNIQUE/);
  expect(store.findEnded("a-1")).toEqual(gone);
});
