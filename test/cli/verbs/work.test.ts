/** Which task is meant by what was typed. */
import { expect, test } from "vitest";
import { taskNamed } from "../../../src/cli/verbs/work.ts";
import { ApiProblem } from "../../../src/client/errors.ts";
import type { TaskRecord, WorkClient } from "../../../src/client/work.ts";

function daemon(all: readonly string[], listed: readonly string[]): Pick<WorkClient, "task" | "tasks"> {
  const record = (id: string) => ({ task_id: id }) as TaskRecord;
  return {
    async task(id) {
      if (all.includes(id)) return record(id);
      throw new ApiProblem(404, "task-not-found", "task not found");
    },
    tasks: async () => listed.map(record),
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

test("where the daemon runs no work there is none, and another refusal is told", async () => {
  const refuse = (code: string) => async () => {
    throw new ApiProblem(403, code, code);
  };
  expect(await taskNamed("task-1", { task: refuse("work-disabled"), tasks: refuse("work-disabled") })).toBe(null);
  await expect(taskNamed("task-1", { task: refuse("key-refused"), tasks: refuse("work-disabled") })).rejects.toThrow();
});
