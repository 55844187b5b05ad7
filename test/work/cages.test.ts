/** In which cage a run is, and which limits hold there: said by its worker, and kept with it. */
import { expect, test } from "vitest";
import { decide } from "../../src/work/decide.ts";
import type { Run, RunSeen } from "../../src/work/model.ts";
import { assignedTask, reportTo } from "../../src/work/nodes.ts";
import { emptyWork, type WorkState } from "../../src/work/state.ts";
import { runView } from "../../src/work-service/views.ts";
import { aTask } from "./fixtures.ts";
import { World } from "./world.ts";

const CAGE = { kind: "cgroup", limits: ["memory", "pids"] };
const END = { at: 1, reason: null, detail: "", exitCode: 0, signal: null, resultOk: true, tail: [] };
const worker = new World(1).facts();

function seen(more: Partial<RunSeen>): RunSeen {
  return { run: "run-t-0-1", phase: "running", startedAt: 1, port: null, ended: null, published: false, ...more };
}

/** Books with a task that has been handed out, and what its worker says of it then, report by report. */
function after(...reports: readonly RunSeen[]): WorkState {
  const commands = [
    { type: "worker-reports", worker, runs: [] },
    { type: "submit-task", task: aTask("t", { gpus: 0 }), maxTasks: 9 },
    { type: "hand-out", node: worker.node, instance: worker.instance },
    ...reports.map((report) => ({ type: "worker-reports", worker, runs: [report] }) as const),
  ] as const;
  return commands.reduce((state, command) => decide(state, command, 10).state, emptyWork());
}

const shown = (state: WorkState) => {
  const { cage, limits } = runView(state.runs.get("run-t-0-1") as Run, true);
  return [cage, limits];
};

test("a run shows them from when its worker has said them, also when it has ended", () => {
  expect(shown(after())).toEqual([null, null]);
  expect(shown(after(seen({})))).toEqual([null, null]);
  // As a worker that was brought up to date says it of what it had before.
  expect(shown(after(seen({}), seen({ cage: CAGE })))).toEqual(["cgroup", ["memory", "pids"]]);
  for (const reports of [[seen({ cage: CAGE })], []]) {
    const state = after(...reports, seen({ cage: CAGE, phase: "ended", ended: END }));
    expect(shown(state)).toEqual(["cgroup", ["memory", "pids"]]);
  }
});

test("a controller hears them of what its node has", () => {
  const given = { kind: "task", job: "t", owner: "alice", replica: 0, replicas: 1, epoch: 1, lease: null } as const;
  const { spec } = aTask("t", { gpus: 0 });
  const task = assignedTask("books", "job", { ...given, run: "run-t-0-1", spec }, 1);
  const commands = [
    { type: "worker-reports", worker, runs: [] },
    { type: "submit-task", task, maxTasks: 9 },
    { type: "hand-out", node: worker.node, instance: worker.instance },
    { type: "worker-reports", worker, runs: [seen({ cage: CAGE })] },
  ] as const;
  const state = commands.reduce((books, command) => decide(books, command, 10).state, emptyWork());
  expect(reportTo(state, "books")).toMatchObject([{ run: "run-t-0-1", cage: CAGE }]);
});
