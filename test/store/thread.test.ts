import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { Worker } from "node:worker_threads";
import { expect, onTestFinished, test } from "vitest";
import { StorageUnavailableError } from "../../src/ports/refusals.ts";
import { WriterDiedError } from "../../src/store/errors.ts";
import { openDatabase } from "../../src/store/open.ts";
import { MIN_RETENTION_MS, SqliteStore } from "../../src/store/store.ts";
import { LocalWriter, type Writer } from "../../src/store/writer.ts";
import { WriterThread } from "../../src/store/writer-thread.ts";
import { databasePath, openForTest, openThreadedForTest, until } from "./files.ts";
import { openThreaded } from "./threaded.ts";
import { gpu, grantTurn, notification, queued, releaseTurn, request, START, turn } from "./turns.ts";

const GPUS = ["GPU-a", "GPU-b", "GPU-c", "GPU-d"];
const STORE = new URL("../../src/store/store.ts", import.meta.url);

test("turns are acknowledged in the order in which they came, and each can be read from then on", async () => {
  const { store } = await openThreadedForTest();
  const acknowledged: number[] = [];
  const commits = Array.from({ length: 40 }, async (_, i) => {
    const id = `a-${i}`;
    const asked = request(id, { submittedAt: START + i });
    const events = [{ type: "submitted", request: asked }] as const;
    const notifications = [notification(`d-${i}`, id)];
    await store.commit(turn({ at: START + i, allocations: [queued(asked)], events, notifications }));
    acknowledged.push(i);
    expect(store.load().allocations.map((allocation) => allocation.request.id)).toContain(id);
    expect(store.due(START, 100).map(({ deliveryId }) => deliveryId)).toContain(`d-${i}`);
    expect(store.readJournal(i).next().value).toMatchObject({ seq: i + 1 });
  });
  await Promise.all(commits);
  expect(acknowledged).toEqual(Array.from({ length: 40 }, (_, i) => i));
});

test("turns and prunings that are asked for at once come one after the other", async () => {
  const { store } = await openThreadedForTest();
  const past = turn({ allocations: [{ ...queued(request("a-1")) }] });
  const pruned = [store.commit(past), store.prune(START), store.commit(turn({ at: START + 1 }))];
  await Promise.all(pruned);
  expect(store.load()).toMatchObject({ lastTurnAt: START + 1, allocations: [queued(request("a-1"))] });
});

test("small turns are written by the main thread, large ones by the store's, and what either wrote both can read", async () => {
  const path = databasePath();
  const opened = openDatabase(path);
  const writer = new WriterThread(path, opened.database, 10);
  const store = new SqliteStore(opened, MIN_RETENTION_MS, writer);
  onTestFinished(() => store.close());
  let asked = 0;
  const commit = async (requests: number) => {
    const allocations = Array.from({ length: requests }, () => queued(request(`a-${asked++}`)));
    await store.commit(turn({ at: START + asked, allocations }));
  };
  // The thread that does not write may only read.
  const isMainWriting = () => opened.database.prepare("PRAGMA query_only").get()?.query_only === 0;
  for (let i = 0; i < 30; i++) await commit(1);
  expect(writer.ready).toBe(false);
  for (let i = 0; i < 30; i++) await commit(30);
  await until(() => writer.ready);
  await commit(30);
  expect(isMainWriting()).toBe(false);
  expect(store.load().allocations).toHaveLength(asked);
  for (let i = 0; i < 60; i++) await commit(1);
  expect(isMainWriting()).toBe(true);
  expect(writer.ready).toBe(true);
  expect(store.load().allocations).toHaveLength(asked);
  for (let i = 0; i < 30; i++) await commit(30);
  expect(isMainWriting()).toBe(false);
});

test("after a turn that failed in the thread the next is its too, however small: it may still hold the file", async () => {
  const opened = openDatabase(databasePath());
  const writer = new WriterThread(opened.file as string, opened.database, 40);
  const store = new SqliteStore(opened, MIN_RETENTION_MS, writer);
  onTestFinished(() => store.close());
  const isMainWriting = () => opened.database.prepare("PRAGMA query_only").get()?.query_only === 0;
  let asked = 0;
  const commitLarge = () => {
    const allocations = Array.from({ length: 100 }, () => queued(request(`a-${asked++}`)));
    return store.commit(turn({ at: START + asked, gpus: GPUS.map((uuid) => gpu(uuid)), allocations }));
  };
  for (let i = 0; i < 30; i++) await commitLarge();
  await until(() => writer.ready);
  await commitLarge();
  const broken = grantTurn(["b-1", "b-2"], ["GPU-a", "GPU-a"], START + asked, 1);
  for (let i = 0; i < 80; i++) await expect(store.commit(broken)).rejects.toThrow(/invariant 1/);
  expect(isMainWriting()).toBe(false);
  await store.commit(turn({ at: START + asked }));
  expect(isMainWriting()).toBe(false);
  await store.commit(turn({ at: START + asked }));
  expect(isMainWriting()).toBe(true);
});

test("the event loop goes on while a commit waits for the disk", async () => {
  const path = databasePath();
  const { store } = await openThreadedForTest(path);
  const other = new DatabaseSync(path);
  onTestFinished(() => other.close());
  other.exec("BEGIN IMMEDIATE");
  // Were this thread to stand still, nobody would ever end the other transaction, and the commit would be refused.
  let isAnswered = false;
  const committed = store.commit(turn({ allocations: [queued(request("a-1"))] })).then(() => {
    isAnswered = true;
  });
  await sleep(50);
  expect(store.load().allocations).toEqual([]);
  expect(isAnswered).toBe(false);
  other.exec("ROLLBACK");
  await committed;
  expect(store.load().allocations).toHaveLength(1);
});

test("the thread tells what SQLite refused, and takes the next turn", async () => {
  const { store } = await openThreadedForTest();
  await store.commit(turn({ gpus: GPUS.map((uuid) => gpu(uuid)) }));
  const both = grantTurn(["a-1", "a-2"], ["GPU-a", "GPU-a"], START, 1);
  const refused = store.commit(both);
  await expect(refused).rejects.toThrow(/invariant 1/);
  await expect(refused).rejects.not.toThrow(StorageUnavailableError);
  await store.commit(grantTurn(["a-1"], ["GPU-a"], START, 1));
  expect([...store.readJournal()].map(({ seq }) => seq)).toEqual([1, 2]);
});

test("whenever the thread dies, a turn that was refused is not there and one that was not is, and the next is taken", async () => {
  const path = databasePath();
  const { store, writer, workers } = await openThreadedForTest(path);
  await store.commit(turn({ gpus: GPUS.map((uuid) => gpu(uuid)) }));
  const seen = { taken: 0, refused: 0 };
  let events = 0;
  // On a busy machine a turn may be done, or not begun, for many rounds on end.
  const hasMetBoth = () => Math.min(seen.taken, seen.refused) > 0;
  for (let round = 0; round < 24 || (round < 200 && !hasMetBoth()); round++) {
    await until(() => writer.ready);
    // A thread that has worked is started again soon; see the fourth rule of writer-thread.ts.
    await store.commit(turn({ at: START + round }));
    const ids = GPUS.map((_, i) => `r-${round}-${i}`);
    const granted = grantTurn(ids, GPUS, START + round, round * 4 + 1);
    const done = store.commit(granted).then(
      () => true,
      (error) => {
        expect(error).toBeInstanceOf(StorageUnavailableError);
        return false;
      },
    );
    // Anywhere from before the job to after its end: the instant is not ours to choose.
    await sleepMicroseconds((round % 24) * 25 * 2 ** Math.floor(round / 24));
    const dead = workers.at(-1)?.terminate();
    const taken = await done;
    // A dying thread may still refuse a turn, so the next one waits for its end.
    await dead;
    seen[taken ? "taken" : "refused"] += 1;
    expect(store.load().allocations.map((allocation) => allocation.request.id)).toEqual(taken ? ids : []);
    // No thread is there yet, or a new one is: either way the next turn is taken.
    if (taken) await store.commit(releaseTurn(granted, START + round));
    else await store.commit(turn({ at: START + round, events: [{ type: "gpu-freed", uuid: "GPU-a", at: START }] }));
    events += taken ? 12 : 1;
    expect([...store.readJournal()].map(({ seq }) => seq)).toEqual(Array.from({ length: events }, (_, i) => i + 1));
  }
  expect(workers.length).toBeGreaterThan(10);
  await store.close();
  expect([...openForTest(path).readJournal()]).toHaveLength(events);
  // Both have been met, or this proves little.
  expect(hasMetBoth()).toBe(true);
});

test("a turn whose acknowledgement was lost counts as taken when it is on disk, and as refused when it is not", async () => {
  const opened = openDatabase(databasePath());
  const local = new LocalWriter(opened.database);
  let dies: "never" | "before" | "after" = "never";
  const writer: Writer = {
    async run(job) {
      if (dies === "before") throw new WriterDiedError("it died before");
      const pruned = await local.run(job);
      if (dies === "after") throw new WriterDiedError("it died after");
      return pruned;
    },
    runsAside: false,
    close: () => local.close(),
  };
  const store = new SqliteStore(opened, MIN_RETENTION_MS, writer);
  onTestFinished(() => store.close());
  await store.commit(turn({ gpus: GPUS.map((uuid) => gpu(uuid)) }));
  const granted = grantTurn(["a-1"], GPUS, START, 1);
  dies = "before";
  await expect(store.commit(granted)).rejects.toThrow(StorageUnavailableError);
  dies = "after";
  await store.commit(granted);
  await expect(store.prune(START)).rejects.toThrow(StorageUnavailableError);
  dies = "never";
  await store.commit(releaseTurn(granted, START + 1));
  expect([...store.readJournal()].map(({ event }) => event.type)).toEqual(["submitted", "granted", "ended"]);
  expect(store.load()).toMatchObject({ allocations: [], gpus: GPUS.map((uuid) => gpu(uuid)) });
});

async function sleepMicroseconds(us: number): Promise<void> {
  const end = performance.now() + us / 1_000;
  do await new Promise((resolve) => setImmediate(resolve));
  while (performance.now() < end);
}

test("without a thread, since each one dies at once, turns are taken all the same", async () => {
  const kill = (worker: Worker) => void worker.terminate();
  process.on("worker", kill);
  onTestFinished(() => void process.off("worker", kill));
  const store = openForTest();
  for (let i = 0; i < 20; i++) {
    await store.commit(turn({ at: START + i, allocations: [queued(request(`a-${i}`))] }));
    await sleep(5);
  }
  expect(store.load().allocations).toHaveLength(20);
});

test("closing during a commit waits for it, and leaves one file with everything in it", async () => {
  const path = databasePath();
  const { store } = await openThreaded(path);
  const committed = store.commit(turn({ allocations: [queued(request("a-1"))] }));
  const closed = store.close();
  await expect(store.commit(turn())).rejects.toThrow(StorageUnavailableError);
  await Promise.all([closed, store.close()]);
  await committed;
  expect(existsSync(`${path}-wal`)).toBe(false);
  expect(openForTest(path).load().allocations).toHaveLength(1);
});

test("a store that is open, or closed, does not keep the process alive; a commit under way does", async () => {
  for (const end of ["", "await store.close();"]) {
    const script = `
      import { openStore } from ${JSON.stringify(STORE.href)};
      const store = openStore({ path: ${JSON.stringify(databasePath())}, retentionMs: 1e12 });
      const turn = { at: 1, events: [], allocations: [], gpus: [], removedGpus: [], nextFencingToken: 1, bootId: null,
        cordon: null, notifications: [], settlements: [], withdrawn: [], outdated: [], keys: [],
        redeliveries: [], audit: [], inputs: null, gpuChanges: [], bookings: [] };
      await store.commit(turn);
      await new Promise((resolve) => setTimeout(resolve, 300));
      await store.commit({ ...turn, at: 2 });
      console.log(store.load().lastTurnAt);
      ${end}`;
    const run = promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], { timeout: 20_000 });
    expect((await run).stdout).toBe("2\n");
  }
});
