/** Replicas that do not come up, and nodes that are away or are to be emptied. */
import { describe, expect, test } from "vitest";
import { revisionOf } from "../../src/controller/objects/revision.ts";
import type { WorkloadSpec } from "../../src/controller/objects/workload.ts";
import { evacuationOf } from "../../src/controller/reconcile/evacuation.ts";
import { NO_RECOVERY, type RecoveryMemory, recover } from "../../src/controller/reconcile/recovery.ts";
import type { ReplicaSeen, TrackSeen } from "../../src/controller/reconcile/seen.ts";
import { condition, look, NOW, node, replica, seen, spec, track, workload } from "./objects.ts";

const MINUTE = 60_000;
const of = (...replicas: ReplicaSeen[]): TrackSeen[] => [{ revision: "r", wanted: replicas.length, replicas }];
const crash = { reason: "CrashLoop" as const, message: "CUDA error" };

describe("a replica that does not come up", () => {
  const at = (minutes: number, tracks: TrackSeen[], memory: RecoveryMemory, nodes = [node()]) =>
    recover({ tracks, nodes, now: NOW + minutes * MINUTE }, memory, 10 * MINUTE);

  test("is started anew after two minutes, one at a time, with pauses that double", () => {
    const tracks = of(replica("a", "unready", { trouble: crash }), replica("b", "unready", { trouble: crash }));
    const first = at(0, tracks, NO_RECOVERY);
    expect(first.removed).toEqual([]);
    const second = at(2, tracks, first.memory);
    expect(second.removed).toEqual([{ name: "a", isForced: false, avoided: "node-a", why: "CUDA error" }]);
    expect(at(3.9, tracks, second.memory).removed).toEqual([]);
    const third = at(4, tracks, second.memory);
    expect(third.removed).toHaveLength(1);
    expect(at(7.9, tracks, third.memory).removed).toEqual([]);
    expect(at(8, tracks, third.memory).removed).toHaveLength(1);
  });

  test("rests no longer than an hour, and not at all after a calm time", () => {
    const memory = { since: {}, last: { at: NOW, pauseMs: 60 * MINUTE } };
    const tracks = of(replica("a", "unready", { trouble: crash }));
    const known = { since: { a: NOW }, last: memory.last };
    expect(at(59, tracks, known).removed).toEqual([]);
    expect(at(60, tracks, known).memory.last?.pauseMs).toBe(60 * MINUTE);
    expect(at(10, of(replica("a", "ready")), memory).memory.last).toBeNull();
    expect(at(9, of(replica("a", "ready")), memory).memory.last).not.toBeNull();
  });

  test("may take its whole budget to start, as long as nothing is said against it", () => {
    const tracks = of(replica("a", "starting"));
    const first = at(0, tracks, NO_RECOVERY);
    expect(at(10, tracks, first.memory).removed).toEqual([]);
    expect(at(11, tracks, first.memory).removed).toMatchObject([{ name: "a" }]);
  });

  test("goes at once when it has failed for good: another has been made already", () => {
    expect(at(0, of(replica("a", "failed"), replica("b", "ready")), NO_RECOVERY).removed).toMatchObject([
      { name: "a", isForced: false },
    ]);
  });

  test("is given up where it stops on a node that is away, and waited for where it is not", () => {
    const tracks = of(replica("a", "stopping"));
    const away = [node({ ready: false })];
    const first = at(0, tracks, NO_RECOVERY, away);
    expect(at(1.9, tracks, first.memory, away).removed).toEqual([]);
    expect(at(2, tracks, first.memory, away).removed).toMatchObject([{ name: "a", isForced: true }]);
    expect(at(9, tracks, at(0, tracks, NO_RECOVERY).memory).removed).toEqual([]);
  });
});

describe("a node that is to be emptied", () => {
  const plan = { gpus: 1, nodes: 1, product: null };
  const nodes = (used = 0) => [
    node({ name: "node-a", schedulable: false, draining: true, usedGpus: 1 }),
    node({ name: "node-b", usedGpus: used }),
  ];

  test("has its lone replica's successor come up elsewhere first, and the old one goes then", () => {
    const old = replica("old", "ready");
    const coming = { extra: 1, leaving: ["old"], spared: ["old"] };
    expect(evacuationOf(1, plan, "r", { tracks: of(old), nodes: nodes() })).toEqual(coming);
    const loading = of(old, replica("new", "starting", { node: "node-b" }));
    expect(evacuationOf(1, plan, "r", { tracks: loading, nodes: nodes(8) })).toEqual(coming);
    const serving = of(old, replica("new", "ready", { node: "node-b" }));
    expect(evacuationOf(1, plan, "r", { tracks: serving, nodes: nodes(8) })).toEqual({
      extra: 0,
      leaving: ["old"],
      spared: [],
    });
  });

  test("keeps one of two when the successor's own node is to be emptied before the old one is gone", () => {
    const both = nodes().map((one) => ({ ...one, draining: true, schedulable: false }));
    const tracks = of(replica("old", "ready"), replica("new", "ready", { node: "node-b" }));
    const stays = { extra: 0, leaving: ["new"], spared: ["old"] };
    expect(evacuationOf(1, plan, "r", { tracks, nodes: both })).toEqual(stays);
    const third = of(
      replica("new", "ready", { node: "node-b" }),
      replica("c", "ready", { node: "node-c" }),
      replica("old", "ready"),
    );
    const goes = { extra: 0, leaving: ["new", "old"], spared: [] };
    expect(evacuationOf(1, plan, "r", { tracks: third, nodes: both })).toEqual(goes);
  });

  test("surges nothing without a free GPU, of more than one, or when nothing is to go", () => {
    const stay = { extra: 0, leaving: [], spared: [] };
    const old = replica("old", "ready");
    expect(evacuationOf(1, plan, "r", { tracks: of(old), nodes: nodes(8) })).toEqual(stay);
    const waiting = of(old, replica("new", "waiting"));
    expect(evacuationOf(1, plan, "r", { tracks: waiting, nodes: nodes(8) })).toEqual(stay);
    expect(evacuationOf(2, plan, "r", { tracks: of(old), nodes: nodes() })).toEqual(stay);
    expect(evacuationOf(1, plan, "r", { tracks: of(old), nodes: [node(), node({ name: "b" })] })).toEqual(stay);
  });

  test("keeps the lone replica that serves in the middle of a rollout, until its successor of the new revision does", () => {
    const revision = revisionOf({ annotations: {} }, spec());
    const old = { revision: "older", wanted: 1, replicas: [replica("old", "ready")] };
    const rolled = (replicas: readonly ReplicaSeen[], used = 0, change: Partial<WorkloadSpec> = {}) =>
      look(
        workload({ replicas: 1, ...change }),
        seen([old, { revision, wanted: replicas.length, replicas }], { nodes: nodes(used) }),
      ).wanted;
    const loading = [replica("new", "starting", { node: "node-b" })];
    expect(rolled([])).toMatchObject({ extra: 0, leaving: [], spared: ["old"], surge: true });
    expect(rolled(loading, 8)).toMatchObject({ extra: 0, spared: ["old"] });
    expect(rolled([replica("new", "ready", { node: "node-b" })], 8)).toMatchObject({ spared: [] });
    // Without a GPU for a successor it is the rollout itself that takes it down.
    expect(rolled([], 8)).toMatchObject({ spared: [] });
    expect(rolled(loading, 8, { replicas: 2 })).toMatchObject({ spared: [] });
  });

  test("leaves the workload Ready meanwhile", () => {
    const revision = revisionOf({ annotations: {} }, spec());
    const replicas = [replica("old", "ready"), replica("new", "starting", { node: "node-b" })];
    const outcome = look(workload({ replicas: 1 }), seen([{ revision, wanted: 2, replicas }], { nodes: nodes() }));
    expect(outcome.wanted).toMatchObject({ desired: 1, extra: 1, leaving: ["old"] });
    expect(condition(outcome, "Ready")).toMatchObject({ status: "True" });
  });
});

test("a replica that stops on a dead node does not keep a workload from being Ready", () => {
  const revision = revisionOf({ annotations: {} }, spec());
  const of2 = track(revision, ["ready", "ready"]);
  const dead = { ...of2, replicas: [...of2.replicas, replica("lost", "stopping", { node: "gone" })] };
  const nodes = [node(), node({ name: "gone", ready: false })];
  expect(condition(look(workload({ replicas: 2 }), seen([dead], { nodes })), "Ready")).toMatchObject({
    status: "True",
  });
  const here = { ...of2, replicas: [...of2.replicas, replica("x", "stopping")] };
  const alive = look(workload({ replicas: 2 }), seen([here], { nodes }));
  expect(condition(alive, "Ready")).toMatchObject({ status: "False" });
});
