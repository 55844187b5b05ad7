/** What books become of runs that they have not begun. */
import { describe, expect, test } from "vitest";
import { recordOf } from "../../src/work/adopt.ts";
import { decide } from "../../src/work/decide.ts";
import type { Assignment, HeldLease, Task, Workload } from "../../src/work/model.ts";
import { emptyWork, newSlot, type WorkState } from "../../src/work/state.ts";
import { unwanted } from "../../src/work/wanted.ts";
import { aTask, aWorkload } from "./fixtures.ts";

const LEASE: HeldLease = { allocationId: "lease-1", gpuUuids: ["GPU-1"], gpuIndices: [0], env: {}, fencingToken: 1 };
const NOW = 1_800_000_000_000;

function runOf(job: Task | Workload, replica: number, more: Partial<Assignment> = {}) {
  const isTask = "status" in job;
  const assignment: Assignment = {
    run: `run-of-${isTask ? job.id : job.uid}-${replica}-1`,
    kind: isTask ? "task" : "service",
    job: isTask ? job.id : job.uid,
    owner: job.owner,
    replica,
    replicas: job.slots.length,
    epoch: NOW - 5,
    spec: job.spec as Assignment["spec"],
    lease: { ...LEASE, allocationId: `lease-${replica}` },
    record: recordOf(job),
    ...more,
  };
  return { assignment, startedAt: NOW - 5_000, port: null };
}

function adopted(state: WorkState, ...runs: readonly ReturnType<typeof runOf>[]): WorkState {
  return decide(state, { type: "adopt-runs", node: "node-1", uid: "new-uid", runs }, NOW).state;
}

describe("a run that is adopted", () => {
  test("is followed under its task's id, is not tried again, and has the lease that it had", () => {
    const output = { destination: { type: "http", url: "https://example.org" }, artifacts: ["a"] };
    const job = aTask("task-1", {
      retry: { max: 4, lost: 4 },
      spec: { webhook_url: "https://example.org/hook", output },
    });
    const state = adopted(emptyWork(), runOf(job, 0));
    const task = state.tasks.get("task-1");
    expect(task).toMatchObject({
      status: "DISPATCHED",
      startedAt: NOW - 5_000,
      retry: { max: 0, lost: 0 },
      webhookUrl: "https://example.org/hook",
      warnings: [expect.stringContaining("its books were lost")],
      slots: [{ ...newSlot(0), live: "run-of-task-1-0-1", tries: 1 }],
    });
    // Its headers, with which it was to be uploaded, are lost.
    expect(task?.spec.document).toMatchObject({ spec: { output: { artifacts: ["a"] } } });
    expect(JSON.stringify(task?.spec.document)).not.toContain("destination");
    const mark = { allocationId: "lease-0", run: "run-of-task-1-0-1", attempt: 1 };
    expect(unwanted(state, [mark])).toEqual([]);
    expect(state.lastEpoch).toBe(NOW - 5);
  });

  test("is adopted once, however often its worker says it", () => {
    const run = runOf(aTask("task-1"), 0);
    const once = adopted(emptyWork(), run);
    expect(adopted(once, run)).toEqual(once);
  });

  test("of a task of several replicas is a task of its own: nobody knows what became of the others", () => {
    const job = aTask("task-1", { replicas: 2 });
    const state = adopted(emptyWork(), runOf(job, 0), runOf(job, 1));
    expect([...state.tasks.values()].map(({ id }) => id)).toEqual(["run-of-task-1-0-1", "run-of-task-1-1-1"]);
    expect([...state.runs.values()].every(({ phase }) => phase === "running")).toBe(true);
  });

  test("of a service is a replica of it, and those that are gone are replaced; one too many is left where it is", () => {
    const job = aWorkload("old-uid", 2);
    const twice = runOf(job, 1, { run: "run-another" });
    const state = adopted(emptyWork(), runOf(job, 1), twice);
    const workload = state.workloads.get("new-uid");
    expect(workload).toMatchObject({ id: "name-of-old-uid", replicas: 2, restart: job.restart });
    expect(workload?.slots.map(({ live }) => live)).toEqual(["run-new-uid-0-1", "run-of-old-uid-1-1"]);
    expect(state.runs.get("run-another")).toBe(undefined);
  });

  test("of a service whose id is taken has another", () => {
    const submitted = decide(
      emptyWork(),
      { type: "submit-workload", workload: aWorkload("old-uid"), maxWorkloads: 9 },
      NOW,
    );
    const state = adopted(submitted.state, runOf(aWorkload("old-uid"), 0));
    expect(state.workloads.get("new-uid")?.id).toBe("workload-new-uid");
  });
});
