import { describe, expect, test } from "vitest";
import { revisionOf } from "../../src/controller/objects/revision.ts";
import { NO_MEMORIES } from "../../src/controller/reconcile/reconcile.ts";
import type { ReplicaSeen } from "../../src/controller/reconcile/seen.ts";
import { NO_STARTS, observedStartSeconds, type Starts, startsAfter } from "../../src/controller/reconcile/starts.ts";
import { look, NOW, replica, seen, workload } from "./objects.ts";

const MINUTE_S = 60;

/** What is known after these looks, each so many seconds after the first. */
function startsOf(...looks: readonly (readonly [number, ...ReplicaSeen[]])[]): Starts {
  return looks.reduce(
    (starts, [seconds, ...replicas]) =>
      startsAfter(starts, [{ revision: "r", wanted: replicas.length, replicas }], NOW + seconds * 1_000),
    NO_STARTS,
  );
}

describe("the time that replicas take to start", () => {
  test("is that from their node until they serve", () => {
    expect(
      startsOf(
        [0, replica("a", "waiting")],
        [5, replica("a", "starting")],
        [50, replica("a", "unready")],
        [65, replica("a", "ready")],
      ).tookMs,
    ).toEqual([60_000]);
  });

  test("is not told of one that crashed meanwhile, that was ready when it was first seen, or that came back", () => {
    const crashed = replica("a", "starting", { restarts: 1 });
    expect(
      startsOf([0, replica("a", "starting")], [9, crashed], [20, replica("a", "ready", { restarts: 1 })]).tookMs,
    ).toEqual([]);
    expect(
      startsOf([0, replica("a", "ready")], [5, replica("a", "unready")], [9, replica("a", "ready")]).tookMs,
    ).toEqual([]);
  });

  test("gives the next twice what all but one in a hundred took", () => {
    expect(observedStartSeconds(NO_STARTS)).toBe(0);
    const many = { since: new Map(), tookMs: [...Array<number>(99).fill(10_000), 900_000] };
    expect(observedStartSeconds(many)).toBe(20);
    expect(observedStartSeconds({ since: new Map(), tookMs: [450_000] })).toBe(900);
  });

  test("is kept of the last hundred", () => {
    let starts = NO_STARTS;
    for (let index = 0; index < 150; index++) {
      for (const [phase, seconds] of [["starting", 0] as const, ["ready", index] as const]) {
        const replicas = [replica(`r${index}`, phase)];
        starts = startsAfter(starts, [{ revision: "r", wanted: 1, replicas }], NOW + seconds * 1_000);
      }
    }
    expect([starts.tookMs.length, starts.tookMs[0]]).toEqual([100, 50_000]);
  });
});

test("a model that takes long to load is given twice that before it counts as stuck, and in its probe", () => {
  const of = workload({ replicas: 1 });
  const revision = revisionOf(of.metadata, of.spec);
  const at = (minutes: number, phase: ReplicaSeen["phase"]) =>
    seen([{ revision, wanted: 1, replicas: [replica("a", phase)] }], { now: NOW + minutes * MINUTE_S * 1_000 });
  const first = look(of, at(0, "starting"), NO_MEMORIES);
  expect(first.wanted?.plan?.startSeconds).toBe(10 * MINUTE_S);
  const second = look(of, at(9, "ready"), first.memory);
  expect(second.wanted?.plan?.startSeconds).toBe(18 * MINUTE_S);
  expect(look(of, at(10, "starting"), second.memory).wanted?.plan?.startSeconds).toBe(18 * MINUTE_S);
});
