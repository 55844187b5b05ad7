/** GPUs that fail under a run, and those on which something of the run before is left. */
import { describe, expect, test } from "vitest";
import { restoredWork } from "../../src/work/state.ts";
import { aTask, aWorkload, type Wish } from "./fixtures.ts";
import { World } from "./world.ts";

function begin(world: World): void {
  world.look();
  world.look();
  world.sync(true);
  for (let i = 0; i < 8; i++) world.startOne(0);
  world.sync(true);
}

function running(wish: Wish): World {
  const world = new World(2);
  world.sync(true);
  world.command({ type: "submit-task", task: aTask("t", wish), maxTasks: 10 });
  begin(world);
  return world;
}

function serving(): World {
  const world = new World(2);
  world.sync(true);
  world.command({ type: "submit-workload", workload: aWorkload("w"), maxWorkloads: 10 });
  begin(world);
  world.readyOne(0);
  world.sync(true);
  return world;
}

const last = (world: World) => [...world.state.runs.values()].sort((a, b) => a.epoch - b.epoch).at(-1);
const held = (world: World) => [...world.gpus].filter(([, holder]) => holder !== null).map(([uuid]) => uuid);

/** What was told to stop does, and its lease is looked after. */
function ends(world: World): void {
  world.sync(true);
  world.ladder();
  world.sync(true);
  world.look();
}

describe("a GPU that fails", () => {
  test("ends its run, which has failed if it may not be lost, and its lease is given back", () => {
    const world = running({ retry: { lost: 0 } });
    world.failGpu(0);
    world.look();
    expect(last(world)).toMatchObject({ phase: "stopping", why: "gpu-failed", detail: "GPU-0" });
    ends(world);
    expect(last(world)).toMatchObject({ phase: "ended", reason: "gpu-failed" });
    expect(held(world)).toEqual([]);
    world.sync(true);
    world.sync(true);
    expect(world.task("t")).toMatchObject({ status: "FAILED", error: "gpu-failed: GPU-0" });
  });

  test("is the infrastructure's fault: what may be lost starts again, on another", () => {
    const world = running({ retry: { max: 0, lost: 1, backoffMs: 1_000 } });
    world.failGpu(0);
    world.look();
    ends(world);
    world.now += 2_000;
    begin(world);
    expect(last(world)).toMatchObject({ phase: "running", lease: { gpuUuids: ["GPU-1"] } });
    expect(world.task("t").slots[0]).toMatchObject({ losses: 1, failures: 0, deaths: 0 });
  });

  test("takes a service to another GPU, though its lease would have stayed", () => {
    const world = serving();
    world.failGpu(0);
    world.look();
    ends(world);
    expect(held(world)).toEqual([]);
    world.now += 2_000;
    begin(world);
    expect(held(world)).toEqual(["GPU-1"]);
    expect(last(world)).toMatchObject({ phase: "running", lease: { gpuUuids: ["GPU-1"] } });
  });

  test("while a service backs off: its lease is not kept for the next run", () => {
    const world = serving();
    world.exitOne(0, 1, 0);
    world.sync(true);
    expect(held(world)).toEqual(["GPU-0"]);
    world.failGpu(0);
    world.look();
    world.look();
    expect(held(world)).toEqual([]);
    expect(world.state.workloads.get("w")?.slots[0]).toMatchObject({ kept: null });
  });
});

describe("a GPU that is not empty", () => {
  function restarting(): World {
    const world = serving();
    world.exitOne(0, 1, 0);
    world.leaveMemory(0);
    world.sync(true);
    world.leaveMemory(0);
    world.now += 2_000;
    begin(world);
    return world;
  }

  test("keeps the next run on its lease from starting until it is", () => {
    const world = restarting();
    expect(last(world)).toMatchObject({ phase: "assigned", lease: { allocationId: "allocation-1" } });
    expect(world.begun.get("w/0")).toBe(1);
    world.memoryReturns();
    begin(world);
    expect(world.begun.get("w/0")).toBe(2);
    expect(world.allocations.size).toBe(1);
    expect(world.violations).toEqual([]);
  });

  test("is waited for after a restart of the daemon too", () => {
    const world = restarting();
    const { tasks, workloads, runs, workers, lastEpoch } = world.state;
    const all = { tasks: [...tasks.values()], workloads: [...workloads.values()], runs: [...runs.values()] };
    world.state = restoredWork({ ...all, workers: [...workers.values()], lastEpoch });
    begin(world);
    expect(world.begun.get("w/0")).toBe(1);
    world.memoryReturns();
    begin(world);
    expect(world.begun.get("w/0")).toBe(2);
  });

  test("for too long ends that run before it began, and the next has another GPU, with nothing counted against it", () => {
    const world = restarting();
    world.now += 60_000;
    world.look();
    const ended = [...world.state.runs.values()].find(({ phase }) => phase === "ended" && last(world)?.phase !== phase);
    expect(last(world)).toMatchObject({ phase: "ended", reason: "gpu-not-clean", detail: "GPU-0" });
    expect(ended).toBeUndefined();
    world.now += 2_000;
    begin(world);
    expect(last(world)).toMatchObject({ phase: "running", lease: { gpuUuids: ["GPU-1"] } });
    expect(world.state.workloads.get("w")?.slots[0]).toMatchObject({ failures: 1 });
    expect(world.violations).toEqual([]);
  });
});
