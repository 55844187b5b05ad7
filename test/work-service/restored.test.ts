/** Books that come out of a backup: what was open then has an end since that nobody knows. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, expect, test } from "vitest";
import { ManualClock } from "../../src/platform/clock.ts";
import { readTask } from "../../src/work/documents/task.ts";
import type { RunSeen, WorkerFacts } from "../../src/work/model.ts";
import { Books } from "../../src/work-service/books.ts";
import { prepareRestored } from "../../src/work-service/restored.ts";
import { WorkStore } from "../../src/work-service/store.ts";
import { document, TASK_SETTINGS, taskOf } from "../work/fixtures.ts";

const folder = mkdtempSync(join(tmpdir(), "gpuo-restored-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const WORKER: WorkerFacts = {
  node: "node-1",
  instance: 1,
  pid: 1,
  startedAt: 0,
  bootId: "boot",
  executors: ["process"],
  topics: [],
  tags: [],
  labels: {},
  cage: "cgroup",
  endsSurely: true,
  hardware: {},
};
const seenAs = (run: string, phase: RunSeen["phase"], ended: RunSeen["ended"] = null): RunSeen => {
  return { run, phase, startedAt: 1, port: null, ended, published: true };
};

test("what was open is stopped and then FAILED, what was over stays, and no run's name comes twice", () => {
  const path = join(folder, "work.db");
  const clock = new ManualClock();
  const [live, over] = ["t-live", "t-over"];
  const first = new WorkStore(path);
  const before = new Books(first, clock);
  for (const id of [live, over, "t-waiting"]) {
    const spec = id === "t-waiting" ? { resources: { hardware: { gpu: { count: 1 } } } } : {};
    const task = taskOf(id, readTask(document(spec) as never, TASK_SETTINGS));
    before.command({ type: "submit-task", task, maxTasks: 9 });
  }
  before.command({ type: "cancel-task", id: over });
  before.command({ type: "worker-reports", worker: WORKER, runs: [] });
  before.command({ type: "hand-out", node: "node-1", instance: 1 });
  const [run] = [...before.state.openRuns.values()].filter((id) => id.includes(live));
  before.command({ type: "worker-reports", worker: WORKER, runs: [seenAs(run as string, "running")] });
  expect(before.state.tasks.get(live)?.status).toBe("DISPATCHED");
  first.close();

  prepareRestored(path, "the backup");
  const second = new WorkStore(path);
  const after = new Books(second, clock);
  const status = (id: string) => [after.state.tasks.get(id)?.status, after.state.tasks.get(id)?.error];
  after.command({ type: "worker-reports", worker: WORKER, runs: [seenAs(run as string, "running")] });
  expect([status(over), status("t-waiting")]).toEqual([
    ["CANCELLED", null],
    ["FAILED", "outcome-unknown"],
  ]);
  // Its GPU is not anybody else's while it lives.
  expect(after.state.runs.get(run as string)?.phase).toBe("stopping");
  expect(status(live)[0]).toBe("DISPATCHED");
  const end = { at: 2, reason: null, detail: "", exitCode: 0, signal: null, resultOk: true, tail: [] };
  // The second time its results are in place.
  for (let i = 0; i < 2; i++)
    after.command({ type: "worker-reports", worker: WORKER, runs: [seenAs(run as string, "ended", end)] });
  expect(status(live)).toEqual(["FAILED", "outcome-unknown"]);
  expect(after.state.tasks.get(live)?.slots[0]?.tries).toBeGreaterThan(1_000);
  second.close();
});

test("a file that is not work's, is newer or damaged is refused, by its name", () => {
  const path = join(folder, "other.db");
  const make = (sql: string) => {
    rmSync(path, { force: true });
    const database = new DatabaseSync(path);
    database.exec(sql);
    database.close();
    return () => prepareRestored(path, "the backup");
  };
  expect(make("CREATE TABLE t (a); PRAGMA application_id = 5")).toThrow(
    "the backup is the database of another program",
  );
  rmSync(path, { force: true });
  new WorkStore(path).close();
  const database = new DatabaseSync(path);
  database.exec("PRAGMA user_version = 99");
  database.close();
  expect(() => prepareRestored(path, "the backup")).toThrow("the backup was written by a newer gpu-orchestrator");
});

test("books of an older version are brought to this one's schema", () => {
  const path = join(folder, "old.db");
  new WorkStore(path).close();
  const database = new DatabaseSync(path);
  database.exec("DROP TABLE deliveries; DROP TABLE clock; PRAGMA user_version = 1");
  database.close();
  prepareRestored(path, "the backup");
  const store = new WorkStore(path);
  expect(store.deliveries.nextDueAt()).toBe(null);
  store.close();
});
