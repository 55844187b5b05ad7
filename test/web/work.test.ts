import { expect, test } from "vitest";
import type { RunLine, Task, Workload } from "../../src/web/api/answers.ts";
import {
  firstTasks,
  gpuNames,
  meant,
  nodesOf,
  replicaLook,
  runLook,
  runText,
  taskLook,
  taskRemark,
  waitingText,
  words,
  workloadLook,
} from "../../src/web/model/work.ts";
import { END_REASONS } from "../../src/work/model.ts";

const NOW = Date.parse("2026-11-30T12:00:00Z");
const NAMES = new Map([
  ["GPU-aaaa", "GPU 10"],
  ["GPU-bbbb", "GPU 2"],
]);

function run(change: Partial<RunLine> = {}): RunLine {
  return {
    run_id: "run-1",
    replica: 0,
    state: "running",
    node: "n1",
    gpu_uuids: ["GPU-aaaa", "GPU-bbbb"],
    started_at: "2026-11-30T11:58:00Z",
    ended_at: null,
    end_reason: null,
    exit_code: null,
    ...change,
  };
}

function task(change: Partial<Task> = {}): Task {
  return {
    ...{ task_id: "task-1", name: "job", owner: "ann", status: "PENDING", error: null, cancelling: false },
    ...{ reason: null, position: null, eta: null, exit_code: null, gpus: 1, replicas: 1, retries: 0, max_retries: 0 },
    ...{ submitted_at: "2026-11-30T11:50:00Z", started_at: null, finished_at: null, runs: [] },
    ...change,
  };
}

function workload(phase: string, readyReplicas: number, deleted = false): Workload {
  const status = { phase, message: "", replicas: 2, readyReplicas, nodes: [] };
  return { id: "w", name: "chat", owner: "ann", labels: {}, createdAt: null, deleted, runs: [], status };
}

test("a run is told by its state, and when it has ended by how", () => {
  expect(runLook(run())).toMatchObject({ word: "running", tone: "held" });
  const ends = END_REASONS.map((end_reason) => runLook({ state: "ended", end_reason }));
  expect(ends.filter(({ tone }) => tone === "good").map(({ word }) => word)).toEqual(["exited"]);
  expect(ends.find(({ word }) => word === "cancelled")).toMatchObject({ tone: "off" });
  expect(new Set(ends.map(({ word }) => word)).size).toBe(END_REASONS.length);
  expect(runLook({ state: "ended", end_reason: "gpu-not-clean" })).toMatchObject({
    word: "gpu not clean",
    tone: "bad",
  });
});

test("what only a newer daemon has is shown by its own word", () => {
  expect(replicaLook("hibernating")).toMatchObject({ word: "hibernating", shape: "question" });
  expect(replicaLook("toString").word).toBe("toString");
  expect(workloadLook(workload("constructor", 0)).word).toBe("constructor");
});

test("a task looks as its run does until it is over, and as it is stopped from when that is asked for", () => {
  expect(taskLook(task())).toMatchObject({ word: "waiting" });
  const live = [run(), run({ state: "ended", end_reason: "failed" })];
  expect(taskLook(task({ status: "DISPATCHED", runs: live }))).toMatchObject({ word: "running" });
  expect(taskLook(task({ status: "DISPATCHED", runs: live, cancelling: true }))).toMatchObject({ word: "stopping" });
  // Between two tries.
  expect(taskLook(task({ runs: live.slice(1) }))).toMatchObject({ word: "waiting" });
  for (const [status, word] of [
    ["DONE", "done"],
    ["FAILED", "failed"],
    ["CANCELLED", "cancelled"],
  ] as const) {
    expect(taskLook(task({ status, cancelling: true }))).toMatchObject({ word });
  }
});

test("a service of which not all is ready is not told as one of which all is", () => {
  expect(workloadLook(workload("running", 2)).word).toBe("running");
  expect(workloadLook(workload("running", 1))).toMatchObject({ word: "partly ready", tone: "wait" });
  expect(workloadLook(workload("running", 2, true)).word).toBe("stopping");
});

test("who waits is told why, where in the line, and until when", () => {
  const waits = { reason: "waiting for 2 GPUs", position: 3, eta: "2026-11-30T12:30:00Z" };
  expect(waitingText(waits, NOW)).toMatch(/^position 3: waiting for 2 GPUs, by \d\d:30$/);
  expect(waitingText({ reason: "no-suitable-worker", position: null, eta: null }, NOW)).toBe("no suitable worker");
  expect(waitingText({ reason: null, position: null, eta: null }, NOW)).toBe("");
  expect(words("never-fits: 8 GPUs")).toBe("never-fits: 8 GPUs");
});

test("what is over tells how long it took, and a failure what it failed of", () => {
  const times = { started_at: "2026-11-30T11:00:00Z", finished_at: "2026-11-30T11:05:00Z" };
  expect(taskRemark(task({ status: "DONE", exit_code: 0, ...times }), NOW)).toBe("after 5 min");
  const failed = task({ status: "FAILED", error: "start-timeout", exit_code: 2, ...times });
  expect(taskRemark(failed, NOW)).toBe("start timeout, exit code 2, after 5 min");
  expect(taskRemark(task({ status: "FAILED", error: "no executor" }), NOW)).toBe("no executor");
  expect(taskRemark(task({ status: "CANCELLED", error: "cancelled", ...times }), NOW)).toBe("");
  expect(taskRemark(task({ reason: "workers-busy" }), NOW)).toBe("workers busy");
});

test("GPUs are called as everywhere on the page, in their order, and those of another host by their UUID", () => {
  expect(gpuNames(["GPU-aaaa", "GPU-bbbb"], NAMES)).toBe("2, 10");
  expect(gpuNames(["GPU-0123456789abcdef"], NAMES)).toBe("GPU-01234567");
  expect(runText(run(), NAMES, NOW)).toBe("for 2 min, n1, GPU 2, 10");
  const ended = run({ state: "ended", end_reason: "failed", ended_at: "2026-11-30T11:58:07Z", exit_code: 3 });
  expect(runText(ended, NAMES, NOW)).toBe("ran 7 s, exit code 3, n1, GPU 2, 10");
  expect(runText(run({ state: "waiting", node: null, gpu_uuids: [], started_at: null }), NAMES, NOW)).toBe("");
});

test("the nodes are those of what runs, or of the latest run of what runs no more", () => {
  const over = run({ state: "ended", node: "n2" });
  expect(nodesOf([run(), run({ replica: 1 }), over])).toBe("n1");
  expect(nodesOf([over, run({ state: "ended", node: "n3" })])).toBe("n2");
  expect(nodesOf([])).toBe("");
});

test("what is open is shown before what is over, and of that the latest few", () => {
  const named = (count: number, status: Task["status"]) =>
    Array.from({ length: count }, (_, i) => task({ task_id: `${status}-${i}`, status }));
  const shown = firstTasks([...named(3, "PENDING"), ...named(9, "DONE")], 2).map(({ task_id }) => task_id);
  expect(shown.slice(0, 3)).toEqual(["PENDING-0", "PENDING-1", "DONE-0"]);
  expect(shown.length).toBeLessThan(8);
});

test("a search finds by name, owner, id and state", () => {
  const tasks = [task(), task({ task_id: "task-2", name: "other", owner: "bob", status: "DONE" })];
  const found = (search: string) => meant(tasks, search).map(({ task_id }) => task_id);
  expect(found("")).toHaveLength(2);
  expect(found("BOB done")).toEqual(["task-2"]);
  expect(found("task-1")).toEqual(["task-1"]);
  expect(meant([workload("pending", 0)], "pending chat")).toHaveLength(1);
});
