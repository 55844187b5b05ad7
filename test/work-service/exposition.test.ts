/** What Prometheus reads of work: the names, labels and types that dashboards and alerts are made of. */
import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { type Exposed, exposition, WorkCounters } from "../../src/work-service/exposition.ts";
import { isInstalled } from "../metrics/scrape.ts";
import { aTask } from "../work/fixtures.ts";
import { World } from "../work/world.ts";

/** Two tasks, of which one has failed, with everything counted that has happened to them. */
function after(): Exposed {
  const world = new World(2);
  const counters = new WorkCounters(["process"]);
  const plain = world.command.bind(world);
  world.command = (command) => {
    const before = world.state;
    plain(command);
    counters.take(World.between(before, command, world.now), world.state);
  };
  world.sync(true);
  for (const id of ["a", "b"]) world.command({ type: "submit-task", task: aTask(id), maxTasks: 10 });
  for (let i = 0; i < 2; i++) world.look();
  world.sync(true);
  world.now += 400;
  for (let i = 0; i < 2; i++) world.startOne(0);
  world.sync(true);
  world.exitOne(0, 7, 0);
  world.sync(true);
  const figures = { orphansStopped: 3, unkillable: 1 };
  return { state: world.state, now: world.now, figures, counters, brokerUp: true };
}

test("has the names and labels that the contract gives, in the text format", () => {
  const lines = exposition(after(), false).split("\n");
  expect(lines).toEqual(
    expect.arrayContaining([
      'gpu_orchestrator_work_runs{executor="process",state="running"} 1',
      'gpu_orchestrator_work_run_ends_total{executor="process",reason="failed"} 1',
      'gpu_orchestrator_work_run_ends_total{executor="process",reason="gpu-failed"} 0',
      'gpu_orchestrator_work_tasks{status="DISPATCHED"} 2',
      'gpu_orchestrator_work_start_seconds_bucket{le="0.25"} 0',
      'gpu_orchestrator_work_start_seconds_bucket{le="0.5"} 2',
      'gpu_orchestrator_work_start_seconds_bucket{le="+Inf"} 2',
      "gpu_orchestrator_work_start_seconds_sum 0.8",
      "gpu_orchestrator_work_start_seconds_count 2",
      "gpu_orchestrator_work_orphans_stopped_total 3",
      "gpu_orchestrator_work_unkillable_runs 1",
      'gpu_orchestrator_work_worker_up{node="node-1"} 1',
      'gpu_orchestrator_cluster_nodes{state="up"} 1',
      "gpu_orchestrator_cluster_broker_up 1",
      "# TYPE gpu_orchestrator_work_run_ends_total counter",
      "# TYPE gpu_orchestrator_work_start_seconds histogram",
    ]),
  );
});

test("in OpenMetrics a counter's family is named without _total, and its series with it", () => {
  const page = exposition(after(), true);
  expect(page).toContain("# TYPE gpu_orchestrator_work_run_ends counter\n");
  expect(page).toContain("\ngpu_orchestrator_work_orphans_stopped_total 3\n");
  expect(page).not.toContain("_total counter");
});

test("a host that is alone has nothing of others, and a node's name cannot end its label", () => {
  const alone = { ...after(), brokerUp: null };
  expect(exposition(alone, false)).not.toContain("cluster");
  const worker = [...alone.state.workers.values()][0] as NonNullable<ReturnType<typeof alone.state.workers.get>>;
  const node = 'a"} 1\nb\\';
  const state = { ...alone.state, workers: alone.state.workers.set(node, { ...worker, node }) };
  expect(exposition({ ...alone, state }, false)).toContain('worker_up{node="a\\"} 1\\nb\\\\"} 1\n');
});

test.skipIf(!isInstalled("promtool"))("promtool finds nothing wrong with it (needs promtool)", () => {
  const { stdout, stderr } = spawnSync("promtool", ["check", "metrics"], {
    input: exposition(after(), false),
    encoding: "utf8",
  });
  expect(stdout + stderr).toBe("");
});
