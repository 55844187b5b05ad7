/** Files of work's books that older programs have left: what was in them goes on. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, describe, expect, test } from "vitest";
import { ManualClock } from "../../src/platform/clock.ts";
import type { RunSeen, Worker } from "../../src/work/model.ts";
import { Books } from "../../src/work-service/books.ts";
import { WorkStore } from "../../src/work-service/store.ts";

const folder = mkdtempSync(join(tmpdir(), "gpuo-upgrade-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Each made by the program of its time: released schemas, and the one of this program. */
const AT = new URL("../fixtures/work-databases/", import.meta.url);
const FIXTURES = readdirSync(AT);
/** By their clock. */
const WRITTEN_AT = 1_790_000_000_000;

function older(name: string): string {
  const path = join(folder, `${name}.${Math.random()}.db`);
  const database = new DatabaseSync(path);
  database.exec(readFileSync(new URL(name, AT), "utf8"));
  database.close();
  return path;
}

function schemaOf(path: string) {
  const database = new DatabaseSync(path, { readOnly: true });
  const schema = database
    .prepare("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY 1, 2")
    .all();
  const version = database.prepare("PRAGMA user_version").get()?.user_version;
  database.close();
  return { schema, version };
}

function fresh(): string {
  const path = join(folder, `fresh.${Math.random()}.db`);
  new WorkStore(path).close();
  return path;
}

describe.each(FIXTURES)("%s", (name) => {
  test("opens up to date, with its tasks, its service, what runs and the keys that were given", () => {
    const path = older(name);
    const store = new WorkStore(path);
    store.moveTo({ at: WRITTEN_AT + 1_000, bootId: "boot-1", uptimeMs: 1_001_000 });
    const { tasks, workloads, runs, workers, lastEpoch } = store.load();
    expect(tasks.map(({ id, status }) => [id, status])).toEqual([
      ["task-done", "DONE"],
      ["task-runs", "DISPATCHED"],
      ["task-waits", "PENDING"],
    ]);
    expect(workloads.map(({ id, replicas }) => [id, replicas])).toEqual([["name-of-service", 2]]);
    expect(runs.map(({ id, phase }) => [id, phase])).toEqual([
      ["run-service-0-1", "ready"],
      ["run-service-1-1", "waiting"],
      ["run-task-done-0-1", "ended"],
      ["run-task-runs-0-1", "running"],
      ["run-task-waits-0-1", "waiting"],
    ]);
    expect(workers.map(({ node }) => node)).toEqual(["node-1"]);
    expect(lastEpoch).toBe(WRITTEN_AT + 4);
    const key = store.findKey("alice", "key-of-task-runs", WRITTEN_AT + 1_000);
    expect(key).toEqual({ fingerprint: "f", ids: ["task-runs"] });
    store.close();
    expect(schemaOf(path)).toEqual(schemaOf(fresh()));
  });

  test("goes on: what runs comes to its end, and what waits is asked for", () => {
    const store = new WorkStore(older(name));
    const books = new Books(store, new ManualClock(WRITTEN_AT + 1_000));
    const { lastSeen: _, ...worker } = books.state.workers.get("node-1") as Worker;
    const end = { at: 1, reason: null, detail: "", exitCode: 0, signal: null, resultOk: true, tail: [] };
    const report = (run: string, phase: RunSeen["phase"], ended: RunSeen["ended"]) => {
      return { run, phase, startedAt: 1, port: ended === null ? 20_001 : null, ended, published: ended !== null };
    };
    const runs = [report("run-service-0-1", "ready", null), report("run-task-runs-0-1", "ended", end)];
    // The second time its results are in place.
    for (let i = 0; i < 2; i++) books.command({ type: "worker-reports", worker, runs });
    expect(books.state.tasks.get("task-runs")?.status).toBe("DONE");
    expect(store.deliveries.due(WRITTEN_AT + 2_000, 9).map(({ task }) => task)).toContain("task-runs");
    expect(books.state.runs.get("run-service-0-1")?.phase).toBe("ready");
    store.close();
  });
});

test("the schema that this program writes has a fixture, which is what a later program will meet", () => {
  const { version } = schemaOf(fresh());
  expect(FIXTURES).toContain(`schema-${version}.sql`);
  expect(schemaOf(older(`schema-${version}.sql`))).toEqual(schemaOf(fresh()));
});
