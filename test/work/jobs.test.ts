import { describe, expect, test } from "vitest";
import { WorkError } from "../../src/work/errors.ts";
import type { Run } from "../../src/work/model.ts";
import { chooseNode } from "../../src/work/node-choice.ts";
import { backoffMs, chanceOf } from "../../src/work/retries.ts";
import { restoredWork } from "../../src/work/state.ts";
import { mayAsk } from "../../src/work/wanted.ts";
import { aTask, aWorkload, type Wish } from "./fixtures.ts";
import { World } from "./world.ts";

/** A world with a worker, in which a task has got as far as running. */
function running(wish: Wish = {}): World {
  const world = new World(4);
  world.sync(true);
  submit(world, "t", wish);
  begin(world);
  return world;
}

function submit(world: World, id: string, wish: Wish = {}): void {
  world.command({ type: "submit-task", task: aTask(id, wish), maxTasks: 100 });
}

/** Whatever may start starts. */
function begin(world: World): void {
  world.sync(true);
  world.look();
  world.look();
  world.sync(true);
  for (let i = 0; i < 8; i++) world.startOne(0);
  world.sync(true);
}

/** Its main process ends, and the books hear of it. */
function exits(world: World, code: number, left = 0): void {
  world.exitOne(0, code, left);
  world.sync(true);
}

function publish(world: World): void {
  world.sync(true);
  world.sync(true);
}

function runsOf(world: World): Run[] {
  return [...world.state.runs.values()];
}

function code(act: () => void): string {
  try {
    act();
  } catch (error) {
    if (error instanceof WorkError) return error.code;
    throw error;
  }
  return "accepted";
}

describe("a task", () => {
  test("waits for its lease, is dispatched with it, is done when its result is in place, and its GPU comes back", () => {
    const world = new World(1);
    world.sync(true);
    submit(world, "t");
    expect(world.task("t").status).toBe("PENDING");
    begin(world);
    expect(world.task("t").status).toBe("DISPATCHED");
    expect(runsOf(world)[0]).toMatchObject({ phase: "running", lease: { gpuUuids: ["GPU-0"] } });

    exits(world, 0);
    expect(world.task("t").status).toBe("DISPATCHED");
    publish(world);
    expect(world.task("t")).toMatchObject({ status: "DONE", error: null });

    world.look();
    expect([...world.gpus.values()]).toEqual([null]);
  });

  test("that needs no GPU asks for no lease", () => {
    const world = running({ gpus: 0 });
    expect(world.allocations.size).toBe(0);
    expect(runsOf(world)[0]).toMatchObject({ phase: "running", lease: null });
  });

  test("keeps its lease until the last of its processes is gone, though the main one has ended", () => {
    const world = running();
    exits(world, 0, 2);
    world.look();
    expect(world.gpus.get("GPU-0")).not.toBeNull();
    world.ladder();
    world.sync(true);
    world.look();
    expect(world.gpus.get("GPU-0")).toBeNull();
  });

  test("fails by its exit code, and starts no second time unless it says so", () => {
    const world = running();
    exits(world, 7);
    publish(world);
    expect(world.task("t")).toMatchObject({ status: "FAILED", error: "failed" });
    world.settle(20);
    expect(world.begun.get("t/0")).toBe(1);
  });

  test("is tried again after a back-off, but not for exit codes that it names", () => {
    const world = running({ retry: { max: 2, neverOn: [9], backoffMs: 10_000 } });
    exits(world, 7);
    expect(world.task("t").status).toBe("PENDING");
    world.now += 5_000;
    begin(world);
    expect(world.begun.get("t/0")).toBe(1);
    world.now += 8_000;
    begin(world);
    expect(world.begun.get("t/0")).toBe(2);
    exits(world, 9);
    publish(world);
    expect(world.task("t").status).toBe("FAILED");
  });

  test("is failed as poison when three nodes or holders died under it, however often it may be lost", () => {
    const world = running({ retry: { lost: 50, backoffMs: 1_000 } });
    for (let death = 1; death <= 3; death++) {
      world.killHolder(0);
      world.sync(true);
      publish(world);
      world.now += 400_000;
      begin(world);
    }
    expect(world.task("t").error).toMatch(/^poison/);
    expect(world.begun.get("t/0")).toBe(3);
  });

  test("is not started a second time by itself where nothing ends it for sure", () => {
    const world = running({ retry: { lost: 5 } });
    const facts = { ...world.facts(), endsSurely: false };
    world.command({
      type: "worker-reports",
      worker: facts,
      runs: [
        {
          run: runsOf(world)[0]?.id ?? "",
          phase: "ended",
          startedAt: 1,
          port: null,
          published: false,
          ended: { at: 0, reason: "lost", detail: "", exitCode: null, signal: null, resultOk: null, tail: [] },
        },
      ],
    });
    expect(world.task("t").slots[0]?.outcome?.kind).toBe("failed");
  });

  test("is cancelled at once while it waits, and by its worker once it runs", () => {
    const world = new World(1);
    world.sync(true);
    submit(world, "waits");
    world.command({ type: "cancel-task", id: "waits" });
    expect(world.task("waits").status).toBe("CANCELLED");
    expect(code(() => world.command({ type: "cancel-task", id: "waits" }))).toBe("task-ended");
    expect(code(() => world.command({ type: "cancel-task", id: "nope" }))).toBe("task-not-found");

    const other = running();
    other.command({ type: "cancel-task", id: "t" });
    expect(other.task("t").status).toBe("DISPATCHED");
    expect(runsOf(other)[0]?.phase).toBe("stopping");
    other.sync(true);
    other.ladder();
    publish(other);
    expect(other.task("t").status).toBe("CANCELLED");
    expect(runsOf(other)[0]).toMatchObject({ phase: "ended", reason: "cancelled" });
  });

  test("that was handed out but never reached its worker is not started after its cancellation", () => {
    const world = new World(1);
    world.sync(true);
    submit(world, "t");
    world.look();
    world.sync(false);
    expect(runsOf(world)[0]?.phase).toBe("starting");
    world.command({ type: "cancel-task", id: "t" });
    world.sync(true);
    world.startOne(0);
    world.sync(true);
    expect(world.task("t").status).toBe("CANCELLED");
    expect(world.begun.size).toBe(0);
  });

  test("waits for those that it depends on, and fails with them", () => {
    const world = running();
    submit(world, "u", { dependsOn: ["t"] });
    submit(world, "v", { dependsOn: ["u"] });
    begin(world);
    expect(world.begun.get("u/0")).toBeUndefined();
    exits(world, 1);
    publish(world);
    expect(["t", "u", "v"].map((id) => world.task(id).error)).toEqual([
      "failed",
      "dependency-failed",
      "dependency-failed",
    ]);
    expect(code(() => submit(world, "w", { dependsOn: ["nope"] }))).toBe("document-invalid");
    expect(code(() => submit(world, "x", { dependsOn: ["t"], owner: "bob" }))).toBe("document-invalid");
  });

  test("with several replicas needs all of them; the first failure stops the rest", () => {
    const world = running({ replicas: 3 });
    expect(world.begun.size).toBe(3);
    exits(world, 3);
    expect(
      runsOf(world)
        .map(({ phase }) => phase)
        .sort(),
    ).toEqual(["ended", "stopping", "stopping"]);
    world.sync(true);
    world.ladder();
    publish(world);
    expect(world.task("t").status).toBe("FAILED");
  });

  test("that no host could hold fails at once with why", () => {
    const world = running({ gpus: 9 });
    expect(world.task("t")).toMatchObject({ status: "FAILED", error: "never-fits: too many GPUs" });
  });

  test("runs into its own timeout, and is stopped", () => {
    const world = running({ spec: { timeout: "60s" } });
    world.now += 59_000;
    world.command({ type: "tick" });
    expect(runsOf(world)[0]?.phase).toBe("running");
    world.now += 61_000;
    world.command({ type: "tick" });
    expect(runsOf(world)[0]).toMatchObject({ phase: "stopping", why: "timeout" });
  });

  test("without a lease that would end runs no longer than its max_duration either", () => {
    for (const [gpus, phase] of [
      [0, "stopping"],
      [1, "running"],
    ] as const) {
      const world = running({ gpus, spec: { max_duration: "60s", timeout: "1h" } });
      world.now += 61_000;
      world.command({ type: "tick" });
      expect(runsOf(world)[0]?.phase).toBe(phase);
    }
  });

  test("is refused when as many are open as may be", () => {
    const world = new World(1);
    world.command({ type: "submit-task", task: aTask("a"), maxTasks: 1 });
    expect(code(() => world.command({ type: "submit-task", task: aTask("b"), maxTasks: 1 }))).toBe("work-full");
  });

  test.each([
    ["preempted", "preempted"],
    ["drained", "preempted"],
    ["expired", "lease-ended"],
    ["revoked", "lease-ended"],
  ])("whose lease is taken away as %s is stopped for that reason: %s", (ended, why) => {
    const world = running();
    world.endAllocation("allocation-1", ended);
    world.look();
    expect(runsOf(world)[0]).toMatchObject({ phase: "stopping", why });
  });

  test("whose result says ok: false has failed, whatever its exit code", () => {
    const world = running();
    const ended = { at: 0, reason: null, detail: "", exitCode: 0, signal: null, resultOk: false, tail: [] };
    const run = runsOf(world)[0]?.id ?? "";
    const report = { run, phase: "ended", startedAt: 1, port: null, published: false, ended } as const;
    world.command({ type: "worker-reports", worker: world.facts(), runs: [report] });
    expect(world.task("t").slots[0]?.outcome).toEqual({
      kind: "failed",
      reason: "its responses.json says ok: false, or is no JSON",
    });
  });

  test("whose order was lost on its way to the worker is sent again, and not taken for lost", () => {
    const world = new World(1);
    world.sync(true);
    submit(world, "t");
    world.look();
    world.sync(false);
    begin(world);
    expect(runsOf(world).map(({ phase }) => phase)).toEqual(["running"]);
    expect(world.begun.get("t/0")).toBe(1);
  });

  test("takes no answer about an earlier attempt to get its lease", () => {
    const world = new World(1);
    world.sync(true);
    submit(world, "t");
    const run = runsOf(world)[0]?.id ?? "";
    const missed = { type: "lease-seen", run, attempt: 1, seen: { status: "missed", reason: "unclaimed" } } as const;
    world.command(missed);
    world.command(missed);
    expect(runsOf(world)[0]).toMatchObject({ phase: "waiting", attempt: 2 });
  });

  test("which its worker no longer knows is lost, and after another boot of its host rebooted", () => {
    const lost = running();
    lost.folders.clear();
    lost.sync(true);
    expect(runsOf(lost)[0]).toMatchObject({ phase: "ended", reason: "lost" });
    const rebooted = running();
    rebooted.folders.clear();
    rebooted.reboot();
    rebooted.sync(true);
    expect(runsOf(rebooted)[0]).toMatchObject({ phase: "ended", reason: "rebooted" });
  });
});

describe("the queue slots of work", () => {
  test("go to each owner in turn", () => {
    const world = new World(0);
    world.sync(true);
    for (const id of ["a1", "a2", "a3"]) submit(world, id, { owner: "alice" });
    submit(world, "b1", { owner: "bob" });
    const asking = mayAsk(world.state, 2, world.now).map(({ owner }) => owner);
    expect(asking).toEqual(["alice", "bob"]);
    expect(mayAsk(world.state, 10, world.now)).toHaveLength(4);
  });

  test("are not asked for while no worker could take the run", () => {
    const world = new World(1);
    submit(world, "t");
    expect(mayAsk(world.state, 10, world.now)).toEqual([]);
    expect(runsOf(world)[0]).toMatchObject({ phase: "waiting", waiting: { reason: "no-worker" } });
  });
});

describe("a worker", () => {
  test("of an older process is sent away once a newer one has reported", () => {
    const world = new World(1);
    world.instance = 2;
    world.sync(true);
    world.instance = 1;
    expect(code(() => world.sync(true))).toBe("worker-superseded");
  });

  test("that takes over has looked before the one before it was refused: what that one began meanwhile keeps its lease", () => {
    const world = new World(2);
    world.sync(true);
    world.nextWorkerLooks();
    submit(world, "t");
    begin(world);
    expect(runsOf(world)[0]?.phase).toBe("running");
    world.restartWorker();
    world.sync(true);
    world.look();
    expect(world.violations).toEqual([]);
    expect(runsOf(world).map(({ phase }) => phase)).toEqual(["running"]);
    // When it looks again it finds the run, and it ends as any other does.
    world.sync(true);
    exits(world, 0);
    expect(runsOf(world)[0]).toMatchObject({ phase: "ended", reason: "exited" });
  });

  test("that takes over and has not found a run at its second look either has lost it", () => {
    const world = running();
    world.folders.clear();
    world.restartWorker();
    world.sync(true);
    expect(runsOf(world)[0]?.phase).toBe("running");
    world.sync(true);
    expect(runsOf(world)[0]).toMatchObject({ phase: "ended", reason: "lost" });
    expect(world.begun.get("t/0")).toBe(1);
  });

  test("of a host that has booted since is the only one there: what it does not know is over at once", () => {
    const world = running();
    world.folders.clear();
    world.reboot();
    world.sync(true);
    expect(runsOf(world)[0]).toMatchObject({ phase: "ended", reason: "rebooted" });
  });

  test("that is stale is removed if nothing is open there, and kept otherwise", () => {
    const world = running();
    world.now += 1_000_000;
    world.command({ type: "remove-stale-workers", staleMs: 600_000 });
    expect(world.state.workers.size).toBe(1);
    exits(world, 0);
    publish(world);
    world.now += 1_000_000;
    world.command({ type: "remove-stale-workers", staleMs: 600_000 });
    expect(world.state.workers.size).toBe(0);
  });

  test("is told to stop what is in no books, and it is counted", () => {
    const world = running();
    world.state = restoredWork({ tasks: [], workloads: [], runs: [], workers: [], lastEpoch: 0 });
    world.sync(true);
    expect(world.orphansStopped).toBe(1);
  });
});

describe("the choice of a node", () => {
  const worker = (node: string, more: object = {}) => ({
    node,
    executors: ["process"],
    topics: [],
    tags: [],
    labels: {},
    lastSeen: 0,
    hardware: {},
    ...more,
  });
  const { spec } = aTask("t");

  test("prefers who can start now, then the fewest GPUs left over, then the name", () => {
    const offers = [
      { worker: worker("a"), freeGpus: 0 },
      { worker: worker("b"), freeGpus: 8 },
      { worker: worker("d"), freeGpus: 2 },
      { worker: worker("c"), freeGpus: 2 },
    ];
    expect(chooseNode(spec, offers, 0)).toEqual({ node: "c", isHere: true, startsNow: true });
    expect(chooseNode(spec, offers.slice(0, 1), 0)).toEqual({ node: "a", isHere: true, startsNow: false });
  });

  test("goes by executor, topic, tags and labels, and says what is missing", () => {
    const reason = (offers: readonly object[], now = 0) =>
      chooseNode({ ...spec, tags: ["x"], nodeSelector: { zone: "1" } }, offers as never, now);
    const fit = { tags: ["x"], labels: { zone: "1" } };
    expect(reason([])).toEqual({ node: null, reason: "no-worker" });
    expect(reason([{ worker: worker("a", fit), freeGpus: 1 }])).toMatchObject({ node: "a" });
    expect(reason([{ worker: worker("a", fit), freeGpus: 1 }], 200_000)).toEqual({
      node: null,
      reason: "worker-stale",
    });
    for (const wrong of [{ tags: [] }, { labels: {} }, { executors: [] }, { topics: ["tasks.ppo"] }]) {
      expect(reason([{ worker: worker("a", { ...fit, ...wrong }), freeGpus: 1 }])).toEqual({
        node: null,
        reason: "no-suitable-worker",
      });
    }
  });
});

describe("a workload", () => {
  function serving(replicas = 1, restart = {}): World {
    const world = new World(4);
    world.sync(true);
    world.command({ type: "submit-workload", workload: aWorkload("w", replicas, restart), maxWorkloads: 10 });
    begin(world);
    for (let i = 0; i < replicas; i++) world.readyOne(0);
    world.sync(true);
    return world;
  }
  const slots = (world: World) => world.state.workloads.get("w")?.slots ?? [];
  const phases = (world: World) => slots(world).map(({ live }) => world.state.runs.get(live ?? "")?.phase);

  test("is restarted when it ends, with code 0 too, and keeps its lease over a short back-off", () => {
    const world = serving();
    const before = [...world.gpus.values()];
    exits(world, 0);
    world.look();
    expect(slots(world)[0]).toMatchObject({ restarts: 1, kept: { allocationId: "allocation-1" } });
    world.now += 2_000;
    begin(world);
    expect(phases(world)).toEqual(["running"]);
    expect([...world.gpus.values()]).toEqual(before);
    expect(world.allocations.size).toBe(1);
  });

  test("asks for a lease anew when the last was taken away", () => {
    const world = serving();
    world.endAllocation("allocation-1", "preempted");
    world.look();
    world.sync(true);
    world.ladder();
    world.sync(true);
    expect(slots(world)[0]).toMatchObject({ live: null, kept: null });
    world.now += 2_000;
    begin(world);
    expect(phases(world)).toEqual(["running"]);
    expect(world.allocations.size).toBe(2);
  });

  test("gives a lease back over a long back-off", () => {
    const world = serving(1, { backoffMs: 120_000, maxBackoffMs: 300_000 });
    exits(world, 1);
    world.look();
    expect([...world.gpus.values()].filter((holder) => holder !== null)).toEqual([]);
  });

  test("is given up after so many failures in a row without having been ready, with its last lines", () => {
    const world = new World(4);
    world.sync(true);
    world.command({
      type: "submit-workload",
      workload: aWorkload("w", 1, { giveUpAfter: 3, backoffMs: 1_000 }),
      maxWorkloads: 10,
    });
    for (let i = 0; i < 6; i++) {
      begin(world);
      exits(world, 1);
      world.now += 300_000;
      world.look();
    }
    expect(world.begun.get("w/0")).toBe(3);
    expect(slots(world)[0]?.outcome).toMatchObject({ kind: "failed" });
    world.command({ type: "restart-workload", id: "name-of-w" });
    begin(world);
    expect(world.begun.get("w/0")).toBe(4);
  });

  test("is not ready in time: stopped, and it counts as a failure", () => {
    const world = new World(4);
    world.sync(true);
    world.command({ type: "submit-workload", workload: aWorkload("w"), maxWorkloads: 10 });
    begin(world);
    world.now += 600_001;
    world.command({ type: "tick" });
    expect(runsOf(world)[0]).toMatchObject({ phase: "stopping", why: "start-timeout" });
  });

  test("is restarted one replica after the other", () => {
    const world = serving(2);
    world.command({ type: "restart-workload", id: "name-of-w" });
    expect(phases(world)).toEqual(["stopping", "ready"]);
    world.sync(true);
    world.ladder();
    world.sync(true);
    expect(phases(world)[1]).toBe("ready");
    begin(world);
    expect(phases(world)).toEqual(["running", "ready"]);
    world.readyOne(0);
    world.sync(true);
    expect(phases(world)).toEqual(["ready", "stopping"]);
    world.sync(true);
    world.ladder();
    world.sync(true);
    begin(world);
    world.readyOne(0);
    world.sync(true);
    expect(phases(world)).toEqual(["ready", "ready"]);
    expect(world.begun).toEqual(
      new Map([
        ["w/0", 2],
        ["w/1", 2],
      ]),
    );
    expect(world.allocations.size).toBe(2);
  });

  test("that was ready for ten minutes has its failures forgiven, and one that was not has them counted", () => {
    const failures = (readyMs: number) => {
      const world = serving(1, { backoffMs: 1_000, maxBackoffMs: 300_000 });
      for (let i = 0; i < 3; i++) {
        exits(world, 1);
        world.now += 30_000;
        begin(world);
        world.readyOne(0);
        world.sync(true);
      }
      world.now += readyMs;
      exits(world, 1);
      return slots(world)[0]?.failures;
    };
    expect([failures(599_000), failures(601_000)]).toEqual([4, 1]);
  });

  test("leaves its newest runs, and when it is gone those of the last days", () => {
    const world = serving(1, { backoffMs: 1_000 });
    for (let i = 0; i < 4; i++) {
      exits(world, 1);
      world.now += 30_000;
      begin(world);
      world.readyOne(0);
      world.sync(true);
    }
    const ids = () => runsOf(world).map(({ id }) => id);
    const remove = (before: number) => world.command({ type: "remove-ended-runs", before, keep: 2 });
    remove(world.now);
    // What serves is none of those that have ended.
    expect(ids()).toEqual(["run-w-0-3", "run-w-0-4", "run-w-0-5"]);
    world.command({ type: "delete-workload", id: "name-of-w" });
    world.sync(true);
    world.ladder();
    world.sync(true);
    expect(world.state.workloads.size).toBe(0);
    remove(world.now);
    expect(ids()).toEqual(["run-w-0-5"]);
    remove(world.now + 1);
    expect(ids()).toEqual([]);
  });

  test("is scaled up and down; what is left over is stopped, and its GPU comes back", () => {
    const world = serving(1);
    world.command({ type: "change-workload", id: "name-of-w", replicas: 3, labels: null });
    begin(world);
    expect(slots(world)).toHaveLength(3);
    world.command({ type: "change-workload", id: "name-of-w", replicas: 1, labels: null });
    expect(phases(world).slice(1)).toEqual(["stopping", "stopping"]);
    world.sync(true);
    world.ladder();
    world.sync(true);
    world.look();
    expect(slots(world)).toHaveLength(1);
    expect([...world.gpus.values()].filter((holder) => holder !== null)).toHaveLength(1);
  });

  test("is gone from its name at once when it is deleted, and from the books when its last process is", () => {
    const world = serving();
    world.command({ type: "delete-workload", id: "name-of-w" });
    expect(code(() => world.command({ type: "delete-workload", id: "name-of-w" }))).toBe("workload-not-found");
    expect(world.state.workloads.size).toBe(1);
    world.sync(true);
    world.ladder();
    world.sync(true);
    expect(world.state.workloads.size).toBe(0);
  });

  test("whose name is taken is refused, and so is one too many", () => {
    const world = serving();
    const submit = (uid: string, maxWorkloads: number) =>
      code(() =>
        world.command({
          type: "submit-workload",
          workload: { ...aWorkload(uid), id: uid === "same" ? "name-of-w" : uid },
          maxWorkloads,
        }),
      );
    expect(submit("same", 10)).toBe("workload-exists");
    expect(submit("more", 1)).toBe("work-full");
  });

  test("that would never fit stays, and is asked for again after a while", () => {
    const world = new World(4);
    world.sync(true);
    world.command({ type: "submit-workload", workload: aWorkload("w", 1, {}, 9), maxWorkloads: 10 });
    world.look();
    expect(runsOf(world)[0]).toMatchObject({ phase: "waiting", waiting: { reason: "never-fits: too many GPUs" } });
    expect(mayAsk(world.state, 10, world.now)).toEqual([]);
    expect(mayAsk(world.state, 10, world.now + 60_000)).toHaveLength(1);
  });
});

describe("back-off", () => {
  test("doubles up to its maximum, give or take a quarter", () => {
    expect([1, 2, 3, 4, 99].map((failures) => backoffMs(1_000, 5_000, failures, 0.5))).toEqual([
      1_000, 2_000, 4_000, 5_000, 5_000,
    ]);
    expect(backoffMs(1_000, 5_000, 1, 0)).toBe(750);
    expect(backoffMs(1_000, 5_000, 1, 1)).toBe(1_250);
  });

  test("is spread by what it is for", () => {
    const chances = Array.from({ length: 200 }, (_, i) => chanceOf(`run-${i}`));
    expect(Math.min(...chances)).toBeLessThan(0.1);
    expect(Math.max(...chances)).toBeGreaterThan(0.9);
    expect(chanceOf("run-1")).toBe(chanceOf("run-1"));
  });
});
