import { describe, expect, test } from "vitest";
import { decide } from "../../src/work/decide.ts";
import { isOver, openRunsOf } from "../../src/work/state.ts";
import { countedOn } from "../../src/work/wanted.ts";
import fc from "../fc.ts";
import { aTask, aWorkload } from "./fixtures.ts";
import { CRASH_POINTS, DaemonDied, World } from "./world.ts";

type Op = (world: World) => void;

const index = fc.nat(7);
const task = fc.record({
  n: fc.nat(5),
  gpus: fc.nat(3),
  replicas: fc.integer({ min: 1, max: 3 }),
  max: fc.nat(2),
  lost: fc.nat(2),
  after: fc.option(fc.nat(5)),
  timeout: fc.option(fc.constant("20s")),
});

/** Ids are given by number, so that others can be named before they are there. */
const submitTask = task.map(
  ({ n, gpus, replicas, max, lost, after, timeout }): Op =>
    (world) => {
      const id = `task-${n}`;
      const before = after === null ? undefined : world.task(`task-${after}`);
      if (!world.isNew(id)) return;
      const dependsOn = before === undefined ? [] : [before.id];
      world.command({
        type: "submit-task",
        task: aTask(id, { gpus, replicas, retry: { max, lost, backoffMs: 1_000 }, dependsOn, spec: { timeout } }),
        maxTasks: 100,
      });
    },
);

const submitWorkload = fc.record({ n: fc.nat(2), replicas: fc.integer({ min: 1, max: 3 }) }).map(
  ({ n, replicas }): Op =>
    (world) => {
      if (!world.isNew(`w${n}`)) return;
      world.command({ type: "submit-workload", workload: aWorkload(`w${n}`, replicas), maxWorkloads: 10 });
    },
);

const onWorkload = (act: (world: World, id: string, pick: number) => void) =>
  fc.tuple(fc.nat(2), index).map(
    ([n, pick]): Op =>
      (world) => {
        const live = [...world.state.workloads.values()].filter(({ deleted }) => !deleted);
        const workload = live.find(({ uid, adoptedFrom }) => (adoptedFrom ?? uid) === `w${n}`);
        if (workload !== undefined) act(world, workload.id, pick);
      },
  );

const onTask = (act: (world: World, id: string) => void) =>
  fc.nat(5).map(
    (n): Op =>
      (world) => {
        const found = world.task(`task-${n}`);
        if (found !== undefined && !isOver(found)) act(world, found.id);
      },
  );

const ops: fc.Arbitrary<Op> = fc.oneof(
  { weight: 3, arbitrary: submitTask },
  { weight: 1, arbitrary: submitWorkload },
  { weight: 6, arbitrary: fc.constant<Op>((world) => world.look()) },
  {
    weight: 6,
    arbitrary: fc.boolean().map(
      (answered): Op =>
        (world) =>
          world.sync(answered),
    ),
  },
  {
    weight: 6,
    arbitrary: index.map(
      (pick): Op =>
        (world) =>
          world.startOne(pick),
    ),
  },
  {
    weight: 2,
    arbitrary: index.map(
      (pick): Op =>
        (world) =>
          world.readyOne(pick),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(index, fc.constantFrom(0, 1, 7), fc.nat(2)).map(
      ([pick, code, left]): Op =>
        (world) =>
          world.exitOne(pick, code, left),
    ),
  },
  { weight: 3, arbitrary: fc.constant<Op>((world) => world.ladder()) },
  {
    weight: 3,
    arbitrary: fc.constantFrom(10, 1_000, 30_000, 700_000).map(
      (ms): Op =>
        (world) => {
          world.now += ms;
        },
    ),
  },
  { weight: 1, arbitrary: onTask((world, id) => world.command({ type: "cancel-task", id })) },
  { weight: 1, arbitrary: onWorkload((world, id) => world.command({ type: "delete-workload", id })) },
  { weight: 1, arbitrary: onWorkload((world, id) => world.command({ type: "restart-workload", id })) },
  {
    weight: 1,
    arbitrary: onWorkload((world, id, replicas) =>
      world.command({ type: "change-workload", id, replicas: replicas % 4, labels: null }),
    ),
  },
  {
    weight: 1,
    arbitrary: index.map(
      (pick): Op =>
        (world) =>
          world.killHolder(pick),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constant<Op>((world) => {
      world.workerUp = false;
    }),
  },
  { weight: 2, arbitrary: fc.constant<Op>((world) => world.restartWorker()) },
  { weight: 1, arbitrary: fc.constant<Op>((world) => world.nextWorkerLooks()) },
  {
    // The old worker is obeyed until the new one reports.
    weight: 1,
    arbitrary: index.map(
      (pick): Op =>
        (world) => {
          world.nextWorkerLooks();
          world.look();
          world.sync(true);
          world.startOne(pick);
          world.sync(true);
          world.restartWorker();
          world.sync(true);
        },
    ),
  },
  { weight: 1, arbitrary: fc.constant<Op>((world) => world.reboot()) },
  {
    weight: 1,
    arbitrary: fc.nat(2).map(
      (keep): Op =>
        (world) =>
          world.command({ type: "remove-ended-runs", before: world.now, keep }),
    ),
  },
  {
    // It has begun, and nobody has heard of that when it is stopped.
    weight: 1,
    arbitrary: index.map(
      (pick): Op =>
        (world) => {
          world.look();
          world.sync(true);
          world.startOne(pick);
          for (const { id, status, cancelling } of [...world.state.tasks.values()])
            if (status === "DISPATCHED" && !cancelling) world.command({ type: "cancel-task", id });
          world.look();
        },
    ),
  },
  { weight: 1, arbitrary: fc.constant<Op>((world) => world.loseBooks()) },
  { weight: 1, arbitrary: fc.constant<Op>((world) => world.takeBackup()) },
  { weight: 1, arbitrary: fc.constant<Op>((world) => world.restoreBackup()) },
  {
    // A service goes on from one run to the next on one lease, and the backup knows only what was before.
    weight: 2,
    arbitrary: fc.tuple(index, fc.nat(2), fc.integer({ min: 1, max: 2 })).map(
      ([pick, backedUp, restores]): Op =>
        (world) => {
          if (backedUp === 0) world.takeBackup();
          world.exitOne(pick, 1, 0);
          world.sync(true);
          if (backedUp === 1) world.takeBackup();
          world.now += 10_000;
          for (let i = 0; i < 2; i++) world.look();
          if (backedUp === 2) world.takeBackup();
          world.sync(true);
          world.startOne(pick);
          for (let restored = 0; restored < restores; restored++) {
            world.restoreBackup();
            for (let i = 0; i < 4; i++) {
              world.look();
              world.sync(true);
              world.startOne(pick);
              // What has lived till then is gone.
              if (i === 2) world.ladder();
            }
          }
        },
    ),
  },
  {
    // What begins is taken from the books that are lost into the next: by chance alone it hardly ever is.
    weight: 2,
    arbitrary: fc.tuple(index, fc.boolean()).map(
      ([pick, isLostToo]): Op =>
        (world) => {
          world.look();
          world.sync(true);
          world.startOne(pick);
          world.sync(true);
          world.loseBooks();
          for (let i = 0; i < 3; i++) world.sync(true);
          world.adoptOne(pick);
          for (let i = 0; i < 2; i++) world.sync(true);
          if (isLostToo) world.loseBooks();
        },
    ),
  },
  {
    weight: 3,
    arbitrary: index.map(
      (pick): Op =>
        (world) =>
          world.adoptOne(pick),
    ),
  },
  {
    weight: 1,
    arbitrary: index.map(
      (pick): Op =>
        (world) =>
          world.stopStranger(pick),
    ),
  },
  {
    weight: 2,
    arbitrary: index.map(
      (pick): Op =>
        (world) =>
          world.leaveMemory(pick),
    ),
  },
  { weight: 1, arbitrary: fc.constant<Op>((world) => world.memoryReturns()) },
  {
    weight: 1,
    arbitrary: index.map(
      (pick): Op =>
        (world) =>
          world.failGpu(pick),
    ),
  },
  { weight: 1, arbitrary: fc.constant<Op>((world) => world.gpusReturn()) },
  {
    weight: 1,
    arbitrary: fc.tuple(index, fc.constantFrom("expired", "preempted", "revoked")).map(
      ([pick, reason]): Op =>
        (world) => {
          const live = [...world.allocations.values()].filter(({ status }) => status !== "ended");
          const one = live[pick % Math.max(1, live.length)];
          if (one !== undefined) world.endAllocation(one.id, reason);
        },
    ),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom(...CRASH_POINTS).map(
      (point): Op =>
        (world) => {
          world.crashAt = point;
        },
    ),
  },
);

function play(history: readonly Op[]): World {
  const world = new World(4);
  for (const op of history) {
    try {
      op(world);
    } catch (error) {
      // The daemon starts again from its books: there is nothing else that it knew.
      if (!(error instanceof DaemonDied)) throw error;
    }
    expect(world.violations).toEqual([]);
    checkBooks(world);
  }
  return world;
}

function checkBooks(world: World): void {
  const { state, now } = world;
  const tick = (of: typeof state) => decide(of, { type: "tick" }, now).events;
  expect(tick(state), "a task moves that is taken to rest").toEqual(tick({ ...state, movingTasks: state.openTasks }));
  for (const { id, warnings, slots, restored } of state.tasks.values()) {
    if (restored === true) continue;
    const isAdopted = warnings.some((warning) => warning.includes("its books were lost"));
    if (isAdopted) expect(slots[0]?.tries, `${id} is tried again, though nobody knows how often it was`).toBe(1);
  }
  const adopted = [...state.workloads.values()].flatMap(({ adoptedFrom }) => adoptedFrom ?? []);
  expect(new Set(adopted).size, "a service is adopted twice").toBe(adopted.length);
  const live = new Map<string, string>();
  const leases = new Map<string, string>();
  for (const run of openRunsOf(world.state)) {
    if (run.phase === "ended") continue;
    const slot = `${run.job.uid}/${run.replica}`;
    expect(live.get(slot), `${run.id} beside another of its replica`).toBeUndefined();
    live.set(slot, run.id);
  }
  for (const { allocationId } of countedOn(world.state)) {
    expect(leases.has(allocationId), `${allocationId} is counted on twice`).toBe(false);
    leases.set(allocationId, allocationId);
  }
}

/** By default as many as CI has time for; docs/work.md has the command for more. */
const HISTORIES = Number(process.env.WORK_HISTORIES ?? 300);

describe("generated histories in which everything dies", { timeout: 15_000 + HISTORIES * 300 }, () => {
  test("a replica never runs twice, a lease is given back only by an empty cage, and no run starts without its lease", () => {
    fc.assert(
      fc.property(fc.array(ops, { minLength: 20, maxLength: 150 }), (history) => void play(history)),
      { numRuns: HISTORIES },
    );
  });

  test("when nothing dies any more every task comes to its end, within the starts that it allows, and every GPU comes back", () => {
    fc.assert(
      fc.property(fc.array(ops, { minLength: 20, maxLength: 100 }), (history) => {
        const world = play(history);
        world.endServices();
        world.settle();
        // What was about to be adopted when nothing died any more.
        world.endServices();
        world.settle();
        expect(world.violations).toEqual([]);
        const open = [...world.state.tasks.values()]
          .filter((found) => !isOver(found))
          .map(({ id, slots }) => ({ id, slots }));
        expect(open).toEqual([]);
        expect([...world.state.workloads.values()]).toEqual([]);
        expect([...world.gpus.values()].filter((holder) => holder !== null)).toEqual([]);
        for (const { id, slots, retry } of world.state.tasks.values()) {
          // Those of lost books were tried before.
          if (world.wasAdopted(id)) continue;
          for (const { replica } of slots) {
            const starts = world.begun.get(`${id}/${replica}`) ?? 0;
            expect(starts, `${id}/${replica}`).toBeLessThanOrEqual(1 + retry.max + retry.lost);
          }
        }
      }),
      { numRuns: HISTORIES / 2 },
    );
  });

  test("a task without a retry rule starts at most once, whatever dies", () => {
    fc.assert(
      fc.property(fc.array(ops, { minLength: 20, maxLength: 100 }), (history) => {
        const world = new World(4);
        world.isNew("once");
        world.command({ type: "submit-task", task: aTask("once", { retry: { max: 0, lost: 0 } }), maxTasks: 100 });
        for (const op of history) {
          try {
            op(world);
          } catch (error) {
            if (!(error instanceof DaemonDied)) throw error;
          }
        }
        world.settle();
        expect(world.begun.get("once/0") ?? 0).toBeLessThanOrEqual(1);
        const once = world.state.tasks.get("once");
        // With its books it may have gone, and been stopped as a stranger.
        if (once !== undefined) expect(isOver(once)).toBe(true);
        else expect(world.booksName).not.toBe("books-1");
      }),
      { numRuns: HISTORIES / 2 },
    );
  });
});
