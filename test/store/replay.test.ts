/** A turn of the journal made again from the file alone, by a real scheduler's real file. */
import { writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { expect, onTestFinished, test } from "vitest";
import type { Event } from "../../src/core/host/events.ts";
import { StorageUnavailableError } from "../../src/ports/refusals.ts";
import { openDatabase } from "../../src/store/open.ts";
import type { PruneLimits } from "../../src/store/prune.ts";
import { replayTurn } from "../../src/store/replay.ts";
import { MIN_RETENTION_MS, SqliteStore } from "../../src/store/store.ts";
import { LocalWriter } from "../../src/store/writer.ts";
import { ask, settled, startScheduler } from "../scheduler/harness.ts";
import { ADMIN, DEFAULT_POLICY, minutes } from "../simulation/simulated-host.ts";
import { databasePath, open, openForTest } from "./files.ts";

function typesOf(events: readonly Event[]): string[] {
  return events.map(({ type }) => type);
}

/** Every turn that `file` has; those that cannot be made again throw. */
function everyTurn(file: string) {
  const reader = new DatabaseSync(file, { readOnly: true });
  const numbers = reader.prepare("SELECT seq FROM journal ORDER BY seq").all() as { seq: number }[];
  reader.close();
  return numbers.map(({ seq }) => replayTurn(file, seq));
}

test("a grant is made again beside the running scheduler, with the queue and the GPUs that it found", async () => {
  const file = databasePath();
  const { scheduler, clock } = await startScheduler(openForTest(file), { gpus: 2 });
  const first = await scheduler.allocate(ask({ requiredGpus: 2 }), ADMIN);
  const waiting = await scheduler.allocate(ask({ requiredGpus: 1, priority: 3 }), ADMIN);
  const urgent = await scheduler.allocate(ask({ requiredGpus: 1, priority: 9 }), ADMIN);
  await clock.advance(minutes(2));
  await scheduler.observe({ ok: false, startedAt: clock.now(), finishedAt: clock.now(), failure: FAILURE });
  const lastSeq = lastSeqOf(file);
  await scheduler.release({ id: first.allocation.request.id, serviceName: null, fencingToken: null }, ADMIN);
  await settled();

  const turn = replayTurn(file, lastSeq + 1);
  expect(turn).toMatchObject({ at: clock.now(), first: lastSeq + 1, isSame: true, failure: null });
  expect(typesOf(turn.recorded)).toEqual(["ended"]);
  const { before } = turn.commands[0] as (typeof turn.commands)[number];
  expect([...before.line.order.values()].map(({ allocation }) => allocation.request.id)).toEqual([
    urgent.allocation.request.id,
    waiting.allocation.request.id,
  ]);
  expect(before.sight).toMatchObject({ failure: FAILURE, lastGoodProbeAt: clock.now() - minutes(2) });
  expect(before.policy).toEqual(DEFAULT_POLICY);
});

const FAILURE = { kind: "driver", message: "NVIDIA-SMI has failed", exitCode: 9 } as const;

function lastSeqOf(file: string): number {
  const reader = new DatabaseSync(file, { readOnly: true });
  const { seq } = reader.prepare("SELECT max(seq) AS seq FROM journal").get() as { seq: number };
  reader.close();
  return seq;
}

test("every turn can be made again over restarts and changed settings, and after the file was closed", async () => {
  const file = databasePath();
  for (const bootId of ["boot-1", "boot-2"]) {
    const store = openForTest(file);
    const { scheduler, clock, look } = await startScheduler(store, { gpus: 3, bootId });
    for (let i = 0; i < 12; i++) {
      await scheduler.allocate(ask({ requiredGpus: 1 + (i % 3), ttlMs: minutes(1 + (i % 4)) }), ADMIN);
      await clock.advance(minutes(0.3));
      await look();
    }
    await scheduler.reconfigure({ ...DEFAULT_POLICY, agingIntervalMs: 1, reserveAfterMs: 0 }, 5_000);
    await clock.advance(minutes(5));
    await scheduler.stop();
    await store.close();
  }
  const turns = everyTurn(file);
  expect(turns.length).toBeGreaterThan(30);
  expect(turns.filter(({ isSame }) => !isSame)).toEqual([]);
});

test("a turn is the same whatever order the fields of its events were written in", async () => {
  const file = databasePath();
  const store = openForTest(file);
  const { scheduler } = await startScheduler(store, { gpus: 2 });
  await scheduler.allocate(ask(), ADMIN);
  await scheduler.stop();
  await store.close();
  const database = new DatabaseSync(file);
  const { seq, events } = database.prepare("SELECT max(seq) AS seq, events FROM journal").get() as {
    seq: number;
    events: string;
  };
  const turned = JSON.stringify(JSON.parse(events), (_key, value) =>
    value === null || typeof value !== "object" || Array.isArray(value)
      ? value
      : Object.fromEntries(Object.entries(value).reverse()),
  );
  expect(turned).not.toBe(events);
  database.prepare("UPDATE journal SET events = ? WHERE seq = ?").run(turned, seq);
  database.close();
  expect(replayTurn(file, seq)).toMatchObject({ isSame: true, failure: null });
});

test("a turn is the same whatever sentence an older version gave for a quarantine", async () => {
  const file = databasePath();
  const store = openForTest(file);
  const { scheduler, clock } = await startScheduler(store, { gpus: 1, policy: { verifyRelease: "always" } });
  const { allocation } = await scheduler.allocate(ask(), ADMIN);
  await scheduler.release({ id: allocation.request.id, serviceName: null, fencingToken: null }, ADMIN);
  await clock.advance(DEFAULT_POLICY.reclaimTimeoutMs + minutes(1));
  await scheduler.stop();
  await store.close();
  const database = new DatabaseSync(file);
  const { seq } = database.prepare("SELECT seq FROM journal WHERE instr(events, 'gpu-quarantined') > 0").get() as {
    seq: number;
  };
  const { changes } = database
    .prepare(
      "UPDATE journal SET events = replace(events, 'not empty after its lease ended', 'still in use') WHERE seq = ?",
    )
    .run(seq);
  database.close();
  expect(changes).toBe(1);
  const turn = replayTurn(file, seq);
  expect(JSON.stringify(turn.recorded)).toContain("still in use: ");
  expect(turn).toMatchObject({ isSame: true, failure: null });
});

test("what can be told of is told after the journal and its snapshots were pruned, and of the rest it is said so", async () => {
  const file = databasePath();
  const limits: PruneLimits = { rows: 30, snapshotAfterEvents: 25, journalKeptEvents: 60 };
  const opened = openDatabase(file);
  const store = new SqliteStore(opened, MIN_RETENTION_MS, new LocalWriter(opened.database, limits));
  onTestFinished(() => store.close());
  const { scheduler, clock } = await startScheduler(store, { gpus: 2, policy: { verifyRelease: "never" } });
  const round = async () => {
    const { allocation } = await scheduler.allocate(ask(), ADMIN);
    await scheduler.release({ id: allocation.request.id, serviceName: null, fencingToken: null }, ADMIN);
    await store.prune(clock.now());
  };
  for (let i = 0; i < 30; i++) await round();
  expect(() => replayTurn(file, 1)).toThrow(/^event 1 is not kept any more; there is none that can be told of$/);
  expect(() => replayTurn(file, 80)).toThrow(/^what went before event 80 is not kept any more; there is none/);

  // Whatever makes the capture begin anew, a keyframe is what one can begin with.
  const commit = store.commit.bind(store);
  store.commit = () => Promise.reject(new StorageUnavailableError("the disk is full"));
  await expect(scheduler.allocate(ask(), ADMIN)).rejects.toThrow("the disk is full");
  store.commit = commit;
  const next = lastSeqOf(file) + 1;
  for (let i = 0; i < 6; i++) await round();
  expect(() => replayTurn(file, 80)).toThrow(`the oldest that can be told of is ${next}`);
  for (let event = next; event <= lastSeqOf(file); event++)
    expect(replayTurn(file, event)).toMatchObject({ isSame: true });
});

test("who waits without a webhook is known to have been seen, by the turn that asks and by those after it", async () => {
  const file = databasePath();
  const { scheduler, clock } = await startScheduler(openForTest(file), { gpus: 1, policy: { abandonAfterMs: 30_000 } });
  const holder = await scheduler.allocate(ask(), ADMIN);
  const { id } = (await scheduler.allocate(ask({ webhookUrl: null }), ADMIN)).allocation.request;
  for (let i = 0; i < 5; i++) {
    await clock.advance(20_000);
    await scheduler.read(id, ADMIN);
  }
  await scheduler.renew(holder.allocation.request.id, null, ADMIN);
  await scheduler.renew(holder.allocation.request.id, null, ADMIN);
  const last = lastSeqOf(file);
  for (const seq of [last - 1, last]) {
    const { isSame, recorded, commands } = replayTurn(file, seq);
    expect([isSame, typesOf(recorded)]).toEqual([true, ["renewed"]]);
    expect(commands[0]?.before.allocations.get(id)).toMatchObject({ status: "queued", seenAt: clock.now() });
  }
});

test("what lies before the latest snapshot can be told of too", async () => {
  const file = databasePath();
  const limits: PruneLimits = { rows: 30, snapshotAfterEvents: 25, journalKeptEvents: 1_000 };
  const opened = openDatabase(file);
  const store = new SqliteStore(opened, MIN_RETENTION_MS, new LocalWriter(opened.database, limits));
  onTestFinished(() => store.close());
  const start = async () => startScheduler(store, { gpus: 2, policy: { verifyRelease: "never" } });
  for (let run = 0; run < 3; run++) {
    const { scheduler, clock } = await start();
    for (let i = 0; i < 12; i++) {
      const { allocation } = await scheduler.allocate(ask(), ADMIN);
      await scheduler.release({ id: allocation.request.id, serviceName: null, fencingToken: null }, ADMIN);
    }
    await store.prune(clock.now());
    await scheduler.stop();
  }
  expect(store.latestSnapshot()?.seq).toBeGreaterThan(100);
  // Made from the snapshot before it: the turns before that are of no use then.
  opened.database.exec("UPDATE journal SET events = '[]' WHERE seq BETWEEN 2 AND 10");
  const seqs = [60, 90, lastSeqOf(file)];
  expect(seqs.map((seq) => replayTurn(file, seq).isSame)).toEqual([true, true, true]);
});

test("a turn that was changed afterwards is seen to be so", async () => {
  const file = databasePath();
  const store = openForTest(file);
  const { scheduler } = await startScheduler(store, { gpus: 2 });
  await scheduler.allocate(ask({ requiredGpus: 1 }), ADMIN);
  const last = lastSeqOf(file);
  await store.close();
  const writer = new DatabaseSync(file);
  writer.exec(`UPDATE journal SET events = replace(events, '"GPU-0"', '"GPU-1"') WHERE seq = ${last}`);
  writer.close();
  const turn = replayTurn(file, last);
  expect(turn).toMatchObject({ isSame: false, failure: null });
  expect(leasedIn(turn.recorded)).toEqual(["GPU-1"]);
  expect(leasedIn(turn.commands.flatMap(({ events }) => events))).toEqual(["GPU-0"]);
});

test("a file that is not there, not ours, newer or empty is refused, and says which it is", async () => {
  const file = databasePath();
  expect(() => replayTurn(file, 1)).toThrow(/^there is no file /);
  await open(file).close();
  expect(() => replayTurn(file, 1)).toThrow(/^there is no event 1 yet: the last is 0$/);
  const writer = new DatabaseSync(file);
  writer.exec("PRAGMA user_version = 99");
  expect(() => replayTurn(file, 1)).toThrow(/was written by a newer gpu-orchestrator: replay it with that one$/);
  writer.exec("PRAGMA application_id = 7");
  expect(() => replayTurn(file, 1)).toThrow(/is not a database of gpu-orchestrator$/);
  writer.close();
  const text = `${file}.txt`;
  writeFileSync(text, "a letter, and no database at all".repeat(50));
  expect(() => replayTurn(text, 1)).toThrow(/is not a database of gpu-orchestrator$/);
  writeFileSync(text, "");
  expect(() => replayTurn(text, 1)).toThrow(/is empty: nothing has happened in it$/);
});

function leasedIn(events: readonly Event[]): string[] {
  return events.flatMap((event) => (event.type === "granted" ? event.lease.gpus.map(({ uuid }) => uuid) : []));
}
