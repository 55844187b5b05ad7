import { expect, onTestFinished, test } from "vitest";
import { ControllerError } from "../../src/controller/objects/errors.ts";
import type { Model } from "../../src/controller/objects/model.ts";
import { revisionOf } from "../../src/controller/objects/revision.ts";
import type { WorkloadStatus } from "../../src/controller/objects/workload.ts";
import { ReconcileLoop } from "../../src/controller/reconcile/loop.ts";
import type { ReplicaSeen } from "../../src/controller/reconcile/seen.ts";
import { model, node, replica, SETTINGS, workload } from "./objects.ts";

const HOUR_MS = 3_600_000;

test("changes that never end do not put the next look off for ever", async () => {
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  const look = async () => {
    await pause(200);
    return { nodes: [], tracksOf: () => [], loadOf: () => [], serviceOf: () => null, isolates: false };
  };
  const loop = new ReconcileLoop({
    objects: { workloads: () => [], models: () => [], subscribe: () => () => undefined },
    backend: { look, tend: async () => undefined },
    settings: SETTINGS,
    leads: () => true,
    now: () => Date.now(),
    log: { info: () => undefined, warn: () => undefined, error: () => undefined },
  } as never);
  onTestFinished(() => loop.stop());
  loop.start();
  const changes = setInterval(() => loop.soon(), 10);
  await expect
    .poll(() => loop.looks, { timeout: 20_000, interval: 50 })
    .toBeGreaterThan(4)
    .finally(() => clearInterval(changes));
});

test("what somebody asks for does not wait for the others: a long pass is cut, and goes on where it was", async () => {
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  const named = (name: string, status: WorkloadStatus = {}) => {
    const one = workload({ replicas: 1 }, { status });
    return { ...one, metadata: { ...one.metadata, name, uid: name } };
  };
  const others = Array.from({ length: 300 }, (_, index) => named(`w-${index}`, { observedGeneration: 1 }));
  const workloads = new Map(others.map((one) => [one.metadata.name, one]));
  const applied: string[] = [];
  let changed: () => void = () => undefined;
  const loop = new ReconcileLoop({
    objects: {
      workloads: () => [...workloads.values()],
      models: () => [],
      revisions: () => [],
      subscribe: (run: () => void) => {
        changed = run;
        return () => undefined;
      },
      putStatus: async (one: ReturnType<typeof named>, status: WorkloadStatus) => {
        workloads.set(one.metadata.name, { ...one, status });
      },
      keepRevision: async () => undefined,
    },
    history: { addEvent: () => undefined, endScaling: () => undefined },
    backend: {
      look: async () => ({
        nodes: [node()],
        tracksOf: () => [],
        loadOf: () => [],
        serviceOf: () => null,
        isolates: true,
        stampOf: () => [],
      }),
      templateOf: () => ({}),
      // Ten at once: 300 take six seconds.
      apply: async ({ metadata }: ReturnType<typeof named>) => {
        applied.push(metadata.name);
        await pause(200);
        return [];
      },
      tend: async () => undefined,
    },
    settings: SETTINGS,
    leads: () => true,
    newId: () => "id",
    now: () => Date.now(),
    log: { info: () => undefined, warn: () => undefined, error: () => undefined },
  } as never);
  onTestFinished(() => loop.stop());
  loop.start();
  await expect.poll(() => applied.length, { timeout: 10_000 }).toBeGreaterThan(20);
  workloads.set("asked", named("asked"));
  const before = applied.length;
  changed();
  await expect.poll(() => applied, { timeout: 10_000 }).toContain("asked");
  // Those under way, ten at once for each 200 ms until it is looked at.
  expect(applied.indexOf("asked") - before).toBeLessThan(60);
  await expect.poll(() => new Set(applied).size, { timeout: 30_000 }).toBe(301);
});

/** A loop over one workload of one replica, in a cluster that says by stamps what is new. */
function overOne() {
  const phase = { now: "ready" as ReplicaSeen["phase"] };
  const world = {
    stamp: ["tracks", "nodes"] as unknown[],
    models: [] as Model[],
    wallMs: 1_800_000_000_000,
    steadyMs: 0,
    applied: 0,
    fails: false,
    hasReplicas: true,
    /** How changes of replicas have ended. */
    ended: [] as unknown[],
    workload: workload({ replicas: 1 }),
    phase,
  };
  const revision = revisionOf(world.workload.metadata, world.workload.spec);
  const loop = new ReconcileLoop({
    objects: {
      workloads: () => [world.workload],
      models: () => world.models,
      putModelStatus: async () => undefined,
      revisions: () => [],
      putStatus: async (_: unknown, status: WorkloadStatus) => {
        world.workload = { ...world.workload, status };
      },
      keepRevision: async () => undefined,
      forget: async () => undefined,
    },
    history: {
      addEvent: () => undefined,
      endScaling: (name: string, how: string, _: string, why?: string) => world.ended.push([name, how, why]),
    },
    backend: {
      look: async () => ({
        nodes: [node()],
        tracksOf: () => (world.hasReplicas ? [{ revision, wanted: 1, replicas: [replica("one", phase.now)] }] : []),
        loadOf: () => [],
        serviceOf: () => null,
        isolates: true,
        stampOf: () => [...world.stamp],
      }),
      templateOf: () => ({}),
      apply: async () => {
        world.applied++;
        if (world.fails) throw new ControllerError("backend-unavailable", "not now");
        return [];
      },
      tend: async () => undefined,
    },
    settings: SETTINGS,
    leads: () => true,
    newId: () => "id",
    now: () => world.wallMs,
    steadyMs: () => world.steadyMs,
    log: { info: () => undefined, warn: () => undefined, error: () => undefined },
  } as never);
  onTestFinished(() => loop.stop());
  const passes = async (afterMs = 1_000) => {
    const before = world.applied;
    world.wallMs += afterMs;
    world.steadyMs += afterMs;
    await loop.pass();
    return world.applied - before;
  };
  return { world, passes };
}

test("a workload that is as it is to be is decided on again when something is new, and once a minute", async () => {
  const { world, passes } = overOne();
  // Its status is written first, and that is new.
  expect(await passes()).toBe(1);
  expect(await passes()).toBe(1);
  for (let times = 0; times < 3; times++) expect(await passes()).toBe(0);
  world.stamp = ["other tracks", "nodes"];
  expect(await passes()).toBe(1);
  expect(await passes()).toBe(0);
  world.stamp = ["other tracks", "other nodes"];
  expect(await passes()).toBe(1);
  world.models = [model()];
  expect(await passes()).toBe(1);
  world.workload = { ...world.workload };
  expect(await passes()).toBe(1);
  expect(await passes(58_000)).toBe(0);
  expect(await passes(2_000)).toBe(1);
});

test("a workload that is not as it is to be is decided on at each look: its times run out", async () => {
  const { world, passes } = overOne();
  world.phase.now = "starting";
  for (let times = 0; times < 4; times++) expect(await passes()).toBe(1);
});

test("a change of replicas ends as a success when they serve, failed when they do not come up, cancelled with its workload", async () => {
  const { world, passes } = overOne();
  await passes();
  world.phase.now = "starting";
  for (let times = 0; times < 12; times++) await passes(SETTINGS.progressDeadlineMs / 10);
  expect(world.ended).toEqual([
    ["chat", "success", undefined],
    ["chat", "failed", expect.stringMatching(/^NoProgress: .*one on node-a is starting/)],
  ]);
  const deletionTimestamp = new Date(world.wallMs).toISOString();
  world.workload = { ...world.workload, metadata: { ...world.workload.metadata, deletionTimestamp } };
  await passes();
  expect(world.ended).toHaveLength(2);
  world.hasReplicas = false;
  await passes();
  expect(world.ended.slice(2)).toEqual([["chat", "cancelled", undefined]]);
});

test.each([-HOUR_MS, HOUR_MS])(
  "a clock that is set by %d ms makes no pause longer, and no time run out",
  async (byMs) => {
    const { world, passes } = overOne();
    world.phase.now = "starting";
    await passes();
    const stuck = () => world.workload.status.conditions?.find(({ type }) => type === "Stuck")?.status;
    expect(stuck()).toBe("False");
    world.fails = true;
    // Its pauses grow to some seconds.
    for (let times = 0; times < 12; times++) await passes(10_000);
    world.fails = false;
    world.wallMs += byMs;
    expect(await passes(0)).toBe(1);
    expect(await passes()).toBe(1);
    expect(stuck()).toBe("False");
    for (let times = 0; times < 11; times++) await passes(SETTINGS.progressDeadlineMs / 10);
    expect(stuck()).toBe("True");
  },
);
