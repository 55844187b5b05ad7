import { expect, test } from "vitest";
import { decide } from "../../src/work/decide.ts";
import { emptyWork } from "../../src/work/state.ts";
import { wantedOf } from "../../src/work/wanted.ts";
import { aTask } from "./fixtures.ts";

test("what a worker is given of a task has no header fields for its upload: the daemon sends that, and they may be secret", () => {
  const destination = { type: "http", url: "https://b.example/up", headers: { Authorization: "Bearer s3cret" } };
  const spec = {
    resources: { replicas: 2 },
    output: { destination, artifacts: ["a"] },
    inference: { prompts: ["x", "y"] },
  };
  const worker = {
    node: "n",
    instance: 1,
    pid: 1,
    startedAt: 0,
    bootId: "b",
    executors: ["process"],
    topics: [],
    tags: [],
  };
  const facts = { ...worker, labels: {}, cage: "cgroup", endsSurely: true, hardware: {} } as const;
  let state = emptyWork();
  for (const command of [
    { type: "worker-reports", worker: facts, runs: [] },
    { type: "submit-task", task: aTask("t1", { gpus: 0, spec }), maxTasks: 9 },
    { type: "hand-out", node: "n", instance: 1 },
  ] as const)
    state = decide(state, command, 1).state;
  const { start } = wantedOf(state, "n", []);
  expect(start).toHaveLength(2);
  expect(JSON.stringify(start)).not.toContain("s3cret");
  expect(start[0]?.spec.document.spec).toMatchObject({
    output: { destination: { type: "http", url: "https://b.example/up" }, artifacts: ["a"] },
    inference: { prompts: ["x"] },
  });
  // The books keep them.
  expect(JSON.stringify(state.tasks.get("t1")?.spec)).toContain("s3cret");
});
