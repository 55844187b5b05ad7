/** What is asked at every command of books with many tasks: it must not be looked for among all of them. */
import { expect, test, vi } from "vitest";
import { decide } from "../../src/work/decide.ts";
import { emptyWork, serviceFor, type WorkState } from "../../src/work/state.ts";
import { aTask, aWorkload } from "./fixtures.ts";

const submitted = (state: WorkState, id: string, wish = {}) =>
  decide(state, { type: "submit-task", task: aTask(id, wish), maxTasks: 100 }, 1).state;

test("a task whose replicas all have a run is looked at again when there is news of one, or it is cancelled", () => {
  let state = submitted(emptyWork(), "t1");
  state = submitted(state, "t2", { replicas: 2 });
  state = submitted(state, "t3", { dependsOn: ["t1"] });
  // The one that depends on another waits for no run.
  expect([...state.movingTasks.values()]).toEqual(["t3"]);
  const { state: after } = decide(state, { type: "cancel-task", id: "t1" }, 2);
  expect([...after.tasks.values()].map(({ status }) => status)).toEqual(["CANCELLED", "PENDING", "FAILED"]);
  expect([...after.movingTasks.values()]).toEqual([]);
  expect([...after.openTasks.values()]).toEqual(["t2"]);
});

test("a service is found by its id before its name, of its owner alone, and its workloads are gone through once", () => {
  const named = { ...aWorkload("w1"), name: "name-of-w2" };
  const others = { ...aWorkload("w0"), id: "name-of-w2", owner: "bob" };
  let state = emptyWork();
  for (const workload of [others, named, aWorkload("w2"), { ...aWorkload("w3"), id: "gone", deleted: true }])
    state = { ...state, workloads: state.workloads.set(workload.uid, workload) };
  const walks = vi.spyOn(state.workloads, "values");
  const found = (service: string, owner = "alice") => {
    const { spec } = aTask("t1");
    return serviceFor(state, { owner, spec: { ...spec, service } })?.uid;
  };
  expect([found("name-of-w2"), found("name-of-w1"), found("service"), found("gone")]).toEqual([
    "w2",
    "w1",
    "w2",
    undefined,
  ]);
  expect([found("name-of-w2", "bob"), found("name-of-w1", "bob"), found("name-of-w2", "eve")]).toEqual([
    "w0",
    undefined,
    undefined,
  ]);
  expect(walks).toHaveBeenCalledTimes(1);
});
