/** What books become of runs that they have not begun. */
import { describe, expect, test } from "vitest";
import { recordOf } from "../../src/work/adopt.ts";
import { decide } from "../../src/work/decide.ts";
import type { Assignment, HeldLease, Task, Workload } from "../../src/work/model.ts";
import { emptyWork, newSlot, type WorkState } from "../../src/work/state.ts";
import { unwanted } from "../../src/work/wanted.ts";
import { aTask, aWorkload } from "./fixtures.ts";
import { World } from "./world.ts";

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

type AdoptedRun = Omit<ReturnType<typeof runOf>, "startedAt"> & { readonly startedAt: number | null };

function adopted(state: WorkState, ...runs: readonly AdoptedRun[]): WorkState {
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

  test("that had not begun is not tried again either: the next run's name may be that of one before it", () => {
    const run = { ...runOf(aTask("task-1", { retry: { max: 3, lost: 3 } }), 0), startedAt: null };
    let state = adopted(emptyWork(), run);
    state = decide(state, { type: "lease-over", allocationId: "lease-0", endReason: "preempted" }, NOW).state;
    const end = { at: NOW, reason: null, detail: "", exitCode: null, signal: null, resultOk: null, tail: [] };
    const seen = { run: "run-of-task-1-0-1", phase: "ended", startedAt: null, port: null, ended: end, published: true };
    const worker = new World(1).facts();
    const report = { type: "worker-reports", worker, runs: [{ ...seen, phase: "ended" as const }] } as const;
    state = decide(state, report, NOW + 1_000).state;
    state = decide(state, { type: "tick" }, NOW + 60_000).state;
    expect(state.tasks.get("task-1")).toMatchObject({ status: "FAILED", slots: [{ tries: 1 }] });
  });

  test("is adopted once, however often its worker says it", () => {
    const run = runOf(aTask("task-1"), 0);
    const once = adopted(emptyWork(), run);
    const all = ({ tasks, runs }: WorkState) => [[...tasks.values()], [...runs.values()]];
    expect(all(adopted(once, run))).toEqual(all(once));
    expect(once.tasks.size).toBe(1);
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
      {
        type: "submit-workload",
        workload: { ...aWorkload("other-uid"), id: aWorkload("old-uid").id },
        maxWorkloads: 9,
      },
      NOW,
    );
    const state = adopted(submitted.state, runOf(aWorkload("old-uid"), 0));
    expect(state.workloads.get("new-uid")?.id).toBe("workload-new-uid");
  });

  test("of a service that the books have themselves, out of an older backup, is of that one, or left out", () => {
    const workload = aWorkload("old-uid");
    const submitted = decide(emptyWork(), { type: "submit-workload", workload, maxWorkloads: 9 }, NOW);
    const left = adopted(submitted.state, runOf(workload, 0));
    expect([[...left.workloads.values()].map(({ uid }) => uid), left.runs.get("run-of-old-uid-0-1")]).toEqual([
      ["old-uid"],
      undefined,
    ]);
  });

  test("began at most now, though its worker's clock be ahead", () => {
    const state = adopted(emptyWork(), { ...runOf(aTask("task-1"), 0), startedAt: NOW + 86_400_000 });
    expect(state.tasks.get("task-1")).toMatchObject({ startedAt: NOW, submittedAt: NOW });
    expect(state.runs.get("run-of-task-1-0-1")).toMatchObject({ startedAt: NOW });
  });
});

describe("a service of lost books", () => {
  /** As its worker reports it, until all of it is in the books or nothing changes any more. */
  function reported(...runs: readonly ReturnType<typeof runOf>[]): WorkState {
    let state = emptyWork();
    for (const uid of ["uid-1", "uid-2", "uid-3"]) {
      state = decide(state, { type: "adopt-runs", node: "node-1", uid, runs }, NOW).state;
    }
    return state;
  }

  const shown = (state: WorkState) =>
    [...state.workloads.values()].map(({ id, replicas, slots }) => [id, replicas, slots.map(({ live }) => live)]);

  test("that had been scaled is adopted as its newest run knew it, whichever is reported first", () => {
    const scaled = { ...aWorkload("old", 3), updatedAt: NOW - 60_000 };
    // Handed out after the scaling, or begun after it.
    const state = reported(runOf(aWorkload("old", 1), 0, { epoch: NOW - 1 }), runOf(scaled, 1), runOf(scaled, 2));
    const runs = [0, 1, 2].map((replica) => `run-of-old-${replica}-1`);
    expect(shown(state)).toEqual([["name-of-old", 3, runs]]);
    const byEpoch = reported(runOf(aWorkload("old", 1), 0), runOf(aWorkload("old", 2), 1, { epoch: NOW - 1 }));
    expect(shown(byEpoch)).toEqual([["name-of-old", 2, runs.slice(0, 2)]]);
  });

  test("of which two runs are one replica is adopted once, with the newer; the other is left out", () => {
    const [before, after] = [aWorkload("old", 2), { ...aWorkload("old", 2), generation: 1 }];
    const newer = runOf(after, 0, { run: "run-newer" });
    const state = reported(runOf(before, 0, { epoch: NOW - 1 }), runOf(before, 1), newer);
    expect(shown(state)).toEqual([["name-of-old", 2, ["run-newer", "run-of-old-1-1"]]]);
    expect(state.workloads.get("uid-1")).toMatchObject({ generation: 1, adoptedFrom: "old" });
    expect(state.runs.get("run-of-old-0-1")).toBe(undefined);
  });

  test("that was deleted since it was adopted does not come back by a run that was left out", () => {
    const job = aWorkload("old");
    let state = adopted(emptyWork(), runOf(job, 0), runOf(job, 0, { run: "run-another" }));
    state = decide(state, { type: "delete-workload", id: "name-of-old" }, NOW).state;
    state = decide(
      state,
      { type: "adopt-runs", node: "node-1", uid: "uid-2", runs: [runOf(job, 0, { run: "run-another" })] },
      NOW,
    ).state;
    expect([...state.workloads.values()].map(({ uid }) => uid)).toEqual(["new-uid"]);
    expect(state.runs.get("run-another")).toBe(undefined);
  });
});
