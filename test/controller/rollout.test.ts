/** Rollouts on hosts with and without a spare GPU, step by step, against a host that starts and stops at its own pace. */

import { describe, expect, test } from "vitest";
import { type RolloutAsk, rolloutStep } from "../../src/controller/reconcile/rollout.ts";
import { type ReplicaSeen, readyOf, type TrackSeen } from "../../src/controller/reconcile/seen.ts";
import fc from "../fc.ts";
import { track } from "./objects.ts";

const ask = (change: Partial<RolloutAsk> = {}): RolloutAsk => ({
  revision: "new",
  desired: 3,
  strategy: "rolling",
  allowDowntime: true,
  hasSpare: false,
  base: 3,
  ...change,
});

const targets = (of: RolloutAsk, tracks: readonly TrackSeen[]) => Object.fromEntries(rolloutStep(of, tracks).targets);

describe("a rollout", () => {
  test("without older replicas is none: the current revision has as many as are desired", () => {
    expect(targets(ask(), [])).toEqual({ new: 3 });
  });

  test("with a spare GPU places one more before one that serves goes", () => {
    const old = track("old", ["ready", "ready", "ready"]);
    expect(targets(ask({ hasSpare: true }), [old])).toEqual({ old: 3, new: 1 });
    expect(targets(ask(), [old, track("new", ["starting"])])).toEqual({ old: 3, new: 1 });
    expect(targets(ask(), [old, track("new", ["ready"])])).toEqual({ old: 2, new: 1 });
  });

  test("without a spare GPU takes one down, and only one until its successor serves", () => {
    expect(targets(ask(), [track("old", ["ready", "ready", "ready"])])).toEqual({ old: 2, new: 0 });
    const stopping = track("old", ["ready", "ready", "stopping"]);
    expect(targets(ask(), [stopping])).toEqual({ old: 2, new: 0 });
    const gone = track("old", ["ready", "ready"]);
    expect(targets(ask(), [gone, track("new", ["waiting"])])).toEqual({ old: 2, new: 1 });
    expect(targets(ask(), [gone, track("new", ["starting"])])).toEqual({ old: 2, new: 1 });
    expect(targets(ask(), [gone, track("new", ["ready"])])).toEqual({ old: 1, new: 1 });
  });

  test("whose successor does not come up takes no second one down", () => {
    for (const phase of ["starting", "unready", "failed"] as const) {
      expect(targets(ask(), [track("old", ["ready", "ready"]), track("new", [phase])])).toMatchObject({ old: 2 });
    }
  });

  test("of a lone replica without a spare GPU waits unless downtime is allowed, and says so", () => {
    const old = [track("old", ["ready"])];
    const lone = ask({ desired: 1, base: 1, allowDowntime: false });
    expect(rolloutStep(lone, old)).toMatchObject({
      blocked: "NoSpareGPU",
      targets: new Map([
        ["old", 1],
        ["new", 0],
      ]),
    });
    expect(rolloutStep({ ...lone, allowDowntime: true }, old)).toMatchObject({
      blocked: null,
      targets: new Map([
        ["old", 0],
        ["new", 0],
      ]),
    });
    expect(targets({ ...lone, hasSpare: true }, old)).toEqual({ old: 1, new: 1 });
  });

  test("of the strategy recreate starts the new ones when no older one is left, not even one that stops", () => {
    const recreate = ask({ strategy: "recreate" });
    expect(targets(recreate, [track("old", ["ready", "stopping"])])).toEqual({ new: 0 });
    expect(targets(recreate, [])).toEqual({ new: 3 });
  });

  test("that is taken back in the middle keeps those that serve, of whatever revision", () => {
    const tracks = [track("old", ["ready", "ready"]), track("new", ["starting"])];
    expect(targets(ask({ revision: "old" }), tracks)).toEqual({ new: 0, old: 2 });
  });
});

/** A host of `gpus` GPUs: what is asked for waits until one is free, starts, serves; what is to go stops first. */
class Host {
  readonly gpus: number;
  readonly tracks = new Map<string, ReplicaSeen[]>();
  #count = 0;

  constructor(gpus: number) {
    this.gpus = gpus;
  }

  seen(): TrackSeen[] {
    return [...this.tracks].map(([revision, replicas]) => ({ revision, wanted: replicas.length, replicas }));
  }

  placed(): number {
    return this.#all().filter(({ phase }) => phase !== "waiting").length;
  }

  ready(): number {
    return this.seen().reduce((sum, one) => sum + readyOf(one), 0);
  }

  #all(): ReplicaSeen[] {
    return [...this.tracks.values()].flat();
  }

  apply(wanted: ReadonlyMap<string, number>): void {
    const rank = ["waiting", "starting", "unready", "ready"];
    for (const [revision, replicas] of this.tracks) {
      const live = replicas.filter(({ phase }) => phase !== "stopping");
      const surplus = live.length - (wanted.get(revision) ?? 0);
      const going = live
        .toSorted((a, b) => rank.indexOf(a.phase) - rank.indexOf(b.phase))
        .slice(0, Math.max(0, surplus));
      const kept = replicas.filter((one) => !going.includes(one) || one.phase !== "waiting");
      this.tracks.set(
        revision,
        kept.map((one) => (going.includes(one) ? { ...one, phase: "stopping" } : one)),
      );
    }
    for (const [revision, target] of wanted) {
      const replicas = this.tracks.get(revision) ?? [];
      const live = replicas.filter(({ phase }) => phase !== "stopping").length;
      const added = track(`${revision}-${this.#count++}`, Array(Math.max(0, target - live)).fill("waiting")).replicas;
      this.tracks.set(revision, [...replicas, ...added]);
    }
  }

  /** Some time passes: what stops is gone, what has a GPU serves, what waits gets one. `pick` says who is slow. */
  advance(pick: () => boolean): void {
    for (const [revision, replicas] of this.tracks) {
      const left = replicas.filter(({ phase }) => phase !== "stopping" || pick());
      this.tracks.set(
        revision,
        left.map((one) => (one.phase === "starting" && !pick() ? { ...one, phase: "ready" } : one)),
      );
    }
    for (const [revision, replicas] of this.tracks) {
      const next = replicas.map((one): ReplicaSeen => {
        if (one.phase !== "waiting" || this.placed() >= this.gpus || pick()) return one;
        const started: ReplicaSeen = { ...one, phase: "starting" };
        this.tracks.set(
          revision,
          (this.tracks.get(revision) ?? []).map((other) => (other === one ? started : other)),
        );
        return started;
      });
      this.tracks.set(revision, next);
    }
  }
}

interface Plan {
  readonly gpus: number;
  readonly desired: number;
  readonly revisions: readonly string[];
  readonly slow: readonly boolean[];
}

function roll(host: Host, plan: Plan, watch: (before: number, base: number) => void): void {
  let step = 0;
  const slow = [...plan.slow, false];
  const pick = () => slow[step++ % slow.length] === true;
  for (const revision of plan.revisions) {
    let base: number | null = null;
    for (let looks = 0; looks < 150; looks++) {
      const old = host.seen().some((one) => one.revision !== revision && one.replicas.length > 0);
      base = old ? (base ?? host.placed()) : null;
      const hasSpare = host.placed() < host.gpus;
      const { desired } = plan;
      const before = host.ready();
      host.apply(
        rolloutStep(
          { revision, desired, strategy: "rolling", allowDowntime: true, hasSpare, base: base ?? 0 },
          host.seen(),
        ).targets,
      );
      watch(before, Math.min(desired, Math.max(base ?? 0, 0)));
      if (base === null && host.ready() === Math.min(plan.gpus, desired)) break;
      host.advance(pick);
    }
  }
}

const anyPlan = fc.record({
  gpus: fc.integer({ min: 1, max: 8 }),
  desired: fc.integer({ min: 1, max: 8 }),
  revisions: fc.constantFrom(["a", "b"], ["a", "b", "c"], ["a", "b", "a"]),
  slow: fc.array(fc.boolean(), { minLength: 1, maxLength: 6 }),
});

test("every rollout ends, on a full host too, with as many of the last revision as have room and none of another", () => {
  fc.assert(
    fc.property(anyPlan, (plan) => {
      const host = new Host(plan.gpus);
      roll(host, plan, () => undefined);
      const last = plan.revisions.at(-1) as string;
      expect(host.ready()).toBe(Math.min(plan.gpus, plan.desired));
      for (const { revision, replicas } of host.seen()) if (revision !== last) expect(replicas).toEqual([]);
    }),
    { numRuns: 150 },
  );
});

test("no step of a rollout takes more than one from those that served", () => {
  fc.assert(
    fc.property(anyPlan, (plan) => {
      const host = new Host(plan.gpus);
      roll(host, plan, (before, base) => {
        expect(host.ready()).toBeGreaterThanOrEqual(Math.min(before, base - 1));
      });
    }),
    { numRuns: 150 },
  );
});
