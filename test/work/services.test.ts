/** Tasks whose prompts a workload answers that runs already. */
import { describe, expect, test } from "vitest";
import { decide } from "../../src/work/decide.ts";
import { readTask } from "../../src/work/documents/task.ts";
import type { Run, Workload } from "../../src/work/model.ts";
import { emptyWork, type WorkState, withRun, withWorkload } from "../../src/work/state.ts";
import { wantedOf } from "../../src/work/wanted.ts";
import { aWorkload, document, TASK_SETTINGS, taskOf } from "./fixtures.ts";

const BASE = {
  job: { kind: "workload", uid: "w1" },
  owner: "alice",
  replica: 0,
  epoch: 1,
  generation: 0,
  createdAt: 0,
} as const;

function served(phase: "ready" | "running", node = "node-1"): WorkState {
  const on = { lease: null, node, handedOutAt: 0, known: true, startedAt: 0, readyAt: null, port: 20_001 };
  const run: Run = { id: "run-w1-0-1", ...BASE, phase, ...on };
  const workload = aWorkload("w1");
  const slots = workload.slots.map((slot) => ({ ...slot, live: run.id, tries: 1 }));
  return withRun(withWorkload(emptyWork(), { ...workload, slots } as Workload), run);
}

const asking = (id: string, service: string, owner = "alice") =>
  taskOf(
    id,
    readTask(
      document({ taskType: "inference", command: null, model: { service }, inference: { prompts: ["a"] } }) as never,
      TASK_SETTINGS,
    ),
    owner,
  );
const submit = (state: WorkState, task: ReturnType<typeof asking>) =>
  decide(state, { type: "submit-task", task, maxTasks: 9 }, 1).state;
const runsOf = (state: WorkState, id: string) => [...state.runs.values()].filter(({ job }) => job.uid === id);

describe("a task that uses a service", () => {
  test("starts when one of its replicas is ready, not before", () => {
    expect(runsOf(submit(served("running"), asking("t", "name-of-w1")), "t")).toEqual([]);
    expect(runsOf(submit(served("ready"), asking("t", "name-of-w1")), "t")).toHaveLength(1);
  });

  test("takes nobody else's, by id or by name", () => {
    for (const name of ["name-of-w1", "service"]) {
      expect(runsOf(submit(served("ready"), asking("t", name)), "t")).toHaveLength(1);
      expect(() => submit(served("ready"), asking("t", name, "bob"))).toThrow("is no workload of yours");
    }
  });

  test("is told the port of a replica on its own node only", () => {
    const onNode = (node: string) => {
      const state = submit(served("ready", node), asking("t", "service"));
      const [run] = runsOf(state, "t");
      const here = {
        lease: null,
        node: "node-1",
        handedOutAt: 0,
        known: true,
        startedAt: null,
        readyAt: null,
        port: null,
      };
      const handed = withRun(state, { ...(run as Run), phase: "starting", ...here } as Run);
      return wantedOf(handed, "node-1", []).start.find(({ job }) => job === "t")?.service;
    };
    expect(onNode("node-1")).toEqual({ port: 20_001, model: "meta/llama2" });
    expect(onNode("node-2")).toBe(undefined);
  });

  test("fails when its service is gone", () => {
    const waiting = submit(served("running"), asking("t", "service"));
    const { state } = decide(waiting, { type: "delete-workload", id: "name-of-w1" }, 2);
    expect(state.tasks.get("t")).toMatchObject({ status: "FAILED", error: "service-gone" });
  });
});
