/** What a restore leaves behind, one rule at a time: `simulation.test.ts` plays histories of it. */
import { expect, test } from "vitest";
import type { RunSeen } from "../../src/work/model.ts";
import { wantedOf } from "../../src/work/wanted.ts";
import { aTask, aWorkload } from "./fixtures.ts";
import { World } from "./world.ts";

/** A service whose one replica runs. */
function serving(): World {
  const world = new World(2);
  world.command({ type: "submit-workload", workload: aWorkload("w"), maxWorkloads: 9 });
  world.sync(true);
  world.look();
  for (let i = 0; i < 2; i++) world.sync(true);
  world.startOne(0);
  world.sync(true);
  return world;
}

const phases = (world: World) => [...world.state.runs.values()].map(({ phase }) => phase);

test("a run is not handed out while what nobody wants any more lives on its lease, or is of its replica", () => {
  const world = serving();
  world.exitOne(0, 1, 0);
  world.sync(true);
  world.now += 10_000;
  for (let i = 0; i < 2; i++) world.look();
  const handOut = (alive: readonly Pick<RunSeen, "run" | "allocationId">[]) => {
    world.command({ type: "hand-out", node: world.node, instance: world.instance, alive });
    return phases(world);
  };
  expect(handOut([{ run: "run-other-0-1", allocationId: "allocation-1" }])).toEqual(["ended", "assigned"]);
  expect(handOut([{ run: "run-w-0-9" }])).toEqual(["ended", "assigned"]);
  expect(handOut([{ run: "run-w-1-9", allocationId: "allocation-9" }, { run: "run-w-0-x" }])).toEqual([
    "ended",
    "starting",
  ]);
});

test("what is over by the books and lives all the same is stopped, and not taken for settled", () => {
  const world = new World(1);
  world.command({ type: "submit-task", task: aTask("t"), maxTasks: 9 });
  world.sync(true);
  world.look();
  for (let i = 0; i < 2; i++) world.sync(true);
  world.startOne(0);
  world.sync(true);
  world.exitOne(0, 0, 0);
  for (let i = 0; i < 2; i++) world.sync(true);
  const [run] = [...world.state.runs.values()];
  expect(run?.phase).toBe("ended");
  const seen: RunSeen = {
    run: run?.id ?? "",
    phase: "running",
    startedAt: 1,
    port: null,
    ended: null,
    published: true,
  };
  expect(wantedOf(world.state, world.node, [seen])).toMatchObject({ orphans: [run?.id], settled: [] });
});

test("a run that is lost while it is stopped for its lease hands that on to nobody", () => {
  const world = serving();
  world.endAllocation("allocation-1", "expired");
  world.look();
  expect(phases(world)).toEqual(["stopping"]);
  world.folders.clear();
  world.sync(true);
  expect([...world.state.runs.values()][0]).toMatchObject({ phase: "ended", reason: "lost" });
  expect([...world.state.workloads.values()][0]?.slots[0]).toMatchObject({ live: null, kept: null });
});
