/**
 * A power cut at any point of the database's write log: what was acknowledged before it is there, whole, and nothing
 * that came after it is there by half.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, onTestFinished, test } from "vitest";
import { emptyHost } from "../../src/core/host/changes.ts";
import { evolve } from "../../src/core/host/evolve.ts";
import type { Allocation } from "../../src/core/model/allocation.ts";
import { seededRandom } from "../../src/monitor/simulated/random.ts";
import { MIN_RETENTION_MS, openStore, type SqliteStore } from "../../src/store/store.ts";
import { DEFAULT_POLICY } from "../simulation/simulated-host.ts";
import { turn as aTurn } from "../store/turns.ts";
import { type Recording, recordByLooking, recordByTracing } from "./recordings.ts";
import { canTrace, syncedPaths } from "./strace.ts";
import type { Report } from "./turn-player.ts";
import { CUT_STYLES, Disk, type Files, garbage, type Operation } from "./write-log.ts";

const CUTS = Number(process.env.POWER_CUTS ?? 240);
const SEED = Number(process.env.POWER_SEED ?? 1);
/** Enough for the log to be taken into the database and begun anew, before the store is closed half-way and after. */
const TURNS = 400;
const SHM_BYTES = 32_768;
/** What is laid down is never cut again, so it need not be synced: memory is faster. */
const CUT_FOLDER = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();

function folderForTest(): string {
  const folder = mkdtempSync(join(tmpdir(), "power-test-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** The kinds of places in a log; each gets its share of the cuts, however few of them there are. */
const PLACES: readonly ((operation: Operation) => boolean)[] = [
  ({ type }) => type === "acknowledged",
  // In a commit; where the log begins anew; in a checkpoint; and where files are made, removed and synced.
  (operation) => operation.type === "write" && operation.file === "-wal",
  (operation) => operation.type === "write" && operation.file === "-wal" && operation.offset === 0,
  (operation) => operation.type === "write" && operation.file === "",
  ({ type }) => type !== "write" && type !== "acknowledged",
];

/** For each number of operations after which the power is cut, how often. */
function chooseCuts({ log, given }: Recording, cuts: number, random: () => number): Map<number, number> {
  const firstTurn = log.findIndex(({ type }) => type === "acknowledged");
  const making = log.flatMap((_, i) => (i >= given && i < firstTurn ? [i + 1] : []));
  const places = PLACES.map((isPlace) => log.flatMap((one, i) => (i >= given && isPlace(one) ? [i + 1] : [])));
  const chosen = new Map<number, number>();
  for (let cut = 0; cut < cuts; cut++) {
    const indices = cut % 6 === 5 && making.length > 0 ? making : (places[cut % PLACES.length] as number[]);
    const at = indices[Math.floor(random() * indices.length)];
    if (at === undefined) throw new Error("the log has no such place");
    chosen.set(at, (chosen.get(at) ?? 0) + 1);
  }
  return chosen;
}

function layDown(files: Files, random: () => number): string {
  const path = join(mkdtempSync(join(CUT_FOLDER, "power-cut-")), "x.db");
  for (const [file, bytes] of files) writeFileSync(path + file, bytes);
  // The lock file is left behind, and of the shared memory there may be anything.
  writeFileSync(`${path}.lock`, "");
  const memory = random();
  if (memory < 0.6) writeFileSync(`${path}-shm`, memory < 0.3 ? new Uint8Array(SHM_BYTES) : garbage(SHM_BYTES, random));
  return path;
}

function turnsIn(path: string): number {
  const database = new DatabaseSync(path, { readOnly: true });
  const row = database.prepare("SELECT turns FROM progress").get() as { turns: number } | undefined;
  database.close();
  return row?.turns ?? 0;
}

/** All that a store tells of its file must be what the first `turns` turns left in it, and nothing else. */
function expectExactly(store: SqliteStore, path: string, reports: readonly Report[], turns: number): void {
  const there = reports.slice(0, turns);
  const last = there.at(-1);
  const state = store.load();
  if (last === undefined) expect(state).toMatchObject({ allocations: [], gpus: [], lastTurnAt: null });
  else expect(state).toEqual(last.state);
  expect(store.due(Number.MAX_SAFE_INTEGER, 1_000_000)).toEqual(last?.pending ?? []);

  const journal = [...store.readJournal()];
  expect(journal.map(({ event }) => event)).toEqual(there.flatMap(({ turn }) => turn.events));
  expect(journal.map(({ seq }) => seq)).toEqual(journal.map((_, i) => i + 1));

  const records = new Map<string, Allocation>();
  for (const { turn } of there)
    for (const allocation of turn.allocations) records.set(allocation.request.id, allocation);
  const found = store.list({ status: null, serviceName: null, principal: null, before: null, limit: 1_000_000 });
  expect(new Map(found.map((allocation) => [allocation.request.id, withoutSign(allocation)]))).toEqual(
    new Map([...records].map(([id, allocation]) => [id, withoutSign(allocation)])),
  );
  for (const key of there.flatMap(({ turn }) => turn.keys)) expect(store.findKey(key.principal, key.key)).toEqual(key);
  for (const { principal, key } of reports.slice(turns).flatMap(({ turn }) => turn.keys)) {
    expect(store.findKey(principal, key)).toBeUndefined();
  }

  // Invariant 8: the journal folds to the state; and invariant 1, by the rows that guard it.
  const folded = there.flatMap(({ turn }) => turn.events).reduce(evolve, emptyHost(DEFAULT_POLICY));
  expect(byId([...folded.allocations.values()])).toEqual(byId(state.allocations));
  const byUuid = (gpus: typeof state.gpus) => gpus.toSorted((a, b) => (a.uuid < b.uuid ? -1 : 1));
  expect(byUuid([...folded.gpus.values()])).toEqual(byUuid(state.gpus));
  expect(folded.nextFencingToken).toBe(state.nextFencingToken);
  const database = new DatabaseSync(path, { readOnly: true });
  const guards = database.prepare("SELECT gpu_uuid, allocation_id FROM live_leases ORDER BY gpu_uuid").all();
  database.close();
  const held = state.allocations.flatMap((allocation) =>
    allocation.status === "queued"
      ? []
      : allocation.lease.gpus.map(({ uuid }) => ({ gpu_uuid: uuid, allocation_id: allocation.request.id })),
  );
  expect(guards.map((row) => ({ ...row }))).toEqual(held.toSorted((a, b) => (a.gpu_uuid < b.gpu_uuid ? -1 : 1)));
}

/** When a waiting client was last seen is not durable. */
function withoutSign(allocation: Allocation): Allocation {
  return allocation.status === "queued" ? { ...allocation, seenAt: 0 } : allocation;
}

function byId(allocations: readonly Allocation[]): Allocation[] {
  return allocations.map(withoutSign).toSorted((a, b) => (a.request.id < b.request.id ? -1 : 1));
}

/** @returns how many turns are there. */
async function reopen(path: string, reports: readonly Report[]): Promise<number> {
  const store = openStore({ path, retentionMs: MIN_RETENTION_MS });
  try {
    const turns = turnsIn(path);
    expectExactly(store, path, reports, turns);
    // It goes on as if nothing had been: with what would have come next.
    const next = reports[turns];
    await store.commit(next?.turn ?? aTurn({ at: store.load().lastTurnAt ?? 0 }));
    if (next !== undefined) expectExactly(store, path, reports, turns + 1);
    return turns;
  } finally {
    await store.close();
  }
}

/** Cuts the power `cuts` times. @returns for each style, how many cuts there were with bytes in doubt. */
async function cutAndReopen(recording: Recording, cuts: number) {
  const { log, reports } = recording;
  const random = seededRandom(SEED);
  const chosen = chooseCuts(recording, cuts, random);
  const disk = new Disk();
  let acknowledged = 0;
  let whole = 0;
  const inDoubt = new Map<string, number>();
  for (const [i, operation] of log.entries()) {
    disk.apply(operation);
    if (operation.type === "acknowledged") acknowledged = operation.turn;
    for (let cut = 0; cut < (chosen.get(i + 1) ?? 0); cut++) {
      const style = CUT_STYLES[Math.floor(random() * CUT_STYLES.length)] as (typeof CUT_STYLES)[number];
      if (disk.unsyncedBytes > 0) inDoubt.set(style, (inDoubt.get(style) ?? 0) + 1);
      const path = layDown(disk.afterPowerCut(style, random), random);
      try {
        const turns = await reopen(path, reports);
        expect([acknowledged, acknowledged + 1]).toContain(turns);
        if (turns > acknowledged) whole += 1;
      } catch (error) {
        const where = `after ${i + 1} operations and ${acknowledged} turns, "${style}"`;
        throw new Error(`POWER_SEED=${SEED}: ${where}`, { cause: error });
      } finally {
        rmSync(dirname(path), { recursive: true });
      }
    }
  }
  return { inDoubt, whole };
}

function expectCovered(found: Awaited<ReturnType<typeof cutAndReopen>>): void {
  for (const style of CUT_STYLES) expect(found.inDoubt.get(style) ?? 0, style).toBeGreaterThan(CUTS / 40);
  // Some cuts came after the bytes of a turn, and before its acknowledgement.
  expect(found.whole).toBeGreaterThan(0);
}

test("wherever the power is cut, every turn acknowledged before is there, and none is half there", {
  timeout: 60_000 + CUTS * 500,
}, async () => {
  const file = join(folderForTest(), "x.db");
  const recording = await recordByLooking({ file, seed: SEED, turns: TURNS, where: "here" });
  expectCovered(await cutAndReopen(recording, CUTS));
});

/** Written to file and log, and not synced: invariants of the write log itself. */
function expectOrder(log: readonly Operation[]): void {
  const disk = new Disk();
  let acknowledged = 0;
  for (const operation of log) {
    disk.apply(operation);
    if (operation.type === "acknowledged") {
      // An acknowledgement waits for the disk.
      expect(disk.unsyncedBytes, `turn ${operation.turn}`).toBe(0);
      acknowledged += 1;
    } else if (operation.type === "write" && operation.file === "") {
      // The database takes nothing that the log might lose.
      expect(disk.isUnsynced("-wal")).toBe(false);
      expect(disk.isUnsynced("-journal")).toBe(false);
    } else if ((operation.type === "write" && operation.offset === 0) || operation.type === "remove") {
      // The log is begun anew, or removed, when the database has all of it.
      expect(disk.isUnsynced("")).toBe(false);
    }
  }
  expect(acknowledged).toBeGreaterThanOrEqual(TURNS);
}

const TRACED = { seed: SEED, turns: TURNS } as const;

test.skipIf(!canTrace)(
  "wherever the power is cut in the write log as the system saw it: the same (needs strace)",
  { timeout: 120_000 + CUTS * 500 },
  async () => {
    const file = join(folderForTest(), "x.db");
    const recording = await recordByTracing({ ...TRACED, file, where: "here" });
    expectOrder(recording.log);
    expectCovered(await cutAndReopen(recording, CUTS));
  },
);

test.skipIf(!canTrace)(
  "an acknowledgement by the store's thread waits for the disk as well, and so do new folders (needs strace)",
  { timeout: 120_000 },
  async () => {
    const folder = folderForTest();
    const file = join(folder, "made", "by", "it", "x.db");
    const trace = join(folder, "trace");
    expectOrder((await recordByTracing({ ...TRACED, file, where: "thread" }, trace)).log);
    const synced = syncedPaths(trace);
    for (const made of [".", "made", "made/by", "made/by/it"]) expect(synced).toContain(join(folder, made));
  },
);
