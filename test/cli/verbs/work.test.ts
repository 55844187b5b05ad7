/** Which task is meant by what was typed. */
import { expect, test } from "vitest";
import { found, taskNamed } from "../../../src/cli/verbs/work.ts";
import { ApiProblem } from "../../../src/client/errors.ts";
import type { TaskRecord, WorkClient, WorkloadRecord } from "../../../src/client/work.ts";

function daemon(all: readonly string[], listed: readonly string[]): Pick<WorkClient, "task" | "tasks" | "workloads"> {
  const record = (id: string) => ({ task_id: id }) as TaskRecord;
  return {
    async task(id) {
      if (all.includes(id)) return record(id);
      throw new ApiProblem(404, "task-not-found", "task not found");
    },
    tasks: async () => listed.map(record),
    workloads: async () => [{ id: "chat" } as WorkloadRecord],
  };
}

test("a task is found by its whole id though it is not among the latest, and by what it begins with if it is", async () => {
  const work = daemon(["task-old", "task-01", "task-02"], ["task-01", "task-02"]);
  expect(await taskNamed("task-old", work)).toBe("task-old");
  expect(await taskNamed("task-02", work)).toBe("task-02");
  expect(await taskNamed("task-01", work)).toBe("task-01");
  expect(await taskNamed("task-ol", work)).toBe(null);
  await expect(taskNamed("task-0", work)).rejects.toThrow("begins 2 ids");
});

test("an old task can be stopped, and its logs and results read, by its whole id", async () => {
  const work = daemon(["task-old", "task-01"], ["task-01"]);
  expect(await found(work, "task-old")).toEqual({ kind: "task", id: "task-old" });
  expect(await found(work, "task-0")).toEqual({ kind: "task", id: "task-01" });
  expect(await found(work, "ch")).toEqual({ kind: "workload", id: "chat" });
  expect(await found(work, "run-of-any")).toEqual({ kind: "run", id: "run-of-any" });
  await expect(found(work, "task-9")).rejects.toThrow("nothing of that name");
});

test("where the daemon runs no work there is none, and another refusal is told", async () => {
  const refuse = (code: string) => async () => {
    throw new ApiProblem(403, code, code);
  };
  expect(await taskNamed("task-1", { task: refuse("work-disabled"), tasks: refuse("work-disabled") })).toBe(null);
  await expect(taskNamed("task-1", { task: refuse("key-refused"), tasks: refuse("work-disabled") })).rejects.toThrow();
});
