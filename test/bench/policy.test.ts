import { describe, expect, test } from "vitest";
import { clairvoyant, greedy, strict } from "../../bench/policy/disciplines.ts";
import { calibrationOf, figuresOf, headSince, partsOfBound } from "../../bench/policy/figures.ts";
import { serve } from "../../bench/policy/mixed.ts";
import { Ours } from "../../bench/policy/ours.ts";
import { withService } from "../../bench/policy/patience.ts";
import { type Discipline, replay, type Served } from "../../bench/policy/replay.ts";
import { HOST_GPUS, hasTrace, type Job, LONGEST_S, sample } from "../../bench/policy/trace.ts";
import { DEFAULT_POLICY } from "../simulation/simulated-host.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** In minutes, and all of them ask for `max_duration` as it is. */
function jobs(...asked: readonly (readonly [submitted: number, gpus: number, duration: number])[]): readonly Job[] {
  return asked.map(([submitted, gpus, duration], index) => ({
    index,
    submittedMs: submitted * MINUTE,
    gpus,
    milli: 1_000,
    durationMs: duration * MINUTE,
    priority: 5,
    statedMs: duration * MINUTE,
  }));
}

function starts(all: readonly Job[], discipline: Discipline): readonly number[] {
  return replay(all, discipline).map(({ startedMs }) => startedMs / MINUTE);
}

describe("on a host with half of its GPUs busy for 60 minutes, a request for all of them waits, and others come after it", () => {
  const asked = jobs([0, 4, 60], [1, 8, 30], [2, 2, 50], [3, 2, 100], [70, 1, 5]);

  test("strict keeps everybody behind it", () => {
    expect(starts(asked, strict())).toEqual([0, 60, 90, 90, 90]);
  });

  test("greedy lets everybody by, for as long as they come", () => {
    expect(starts(asked, greedy())).toEqual([0, 103, 2, 3, 70]);
  });

  test("clairvoyant lets by whoever is gone in time", () => {
    expect(starts(asked, clairvoyant())).toEqual([0, 60, 2, 90, 90]);
  });

  test("clairvoyant lets a long one by on a GPU that the head can spare", () => {
    const spare = jobs([0, 4, 60], [1, 7, 30], [2, 1, 500], [3, 1, 500]);
    expect(starts(spare, clairvoyant())).toEqual([0, 60, 2, 90]);
  });

  test("the replay refuses a policy that starts more than there is room for", () => {
    const all: Discipline = { submitted: (job) => [job], ended: () => [] };
    expect(() => replay(asked, all)).toThrow("request 1 cannot start");
  });

  test("the replay refuses a policy that forgets somebody", () => {
    const first: Discipline = { submitted: (job) => (job.index === 0 ? [job] : []), ended: () => [] };
    expect(() => replay(asked, first)).toThrow("request 1 never started");
  });

  test("figures are of the time in which requests come", () => {
    const { waits, several, longestAtHead, utilisation, makespanS } = figuresOf(replay(asked, strict()));
    expect(waits.max).toBe(88 * 60);
    expect(several.mean).toBe(((0 + 59 + 88 + 87) / 4) * 60);
    expect(longestAtHead).toBe(59 * 60);
    expect(utilisation).toBeCloseTo((4 * 60 + 8 * 10) / (HOST_GPUS * 70));
    expect(makespanS).toBe(190 * 60);
  });
});

test("a wait counts as a part of a turn for each that was there before, and of one more", () => {
  const served = replay(jobs([0, 8, 60], [1, 8, 30], [70, 1, 5]), strict());
  // The second waited 59 minutes behind one that had started; the third 20 behind one that had too.
  expect(partsOfBound(served, 0, 60 * MINUTE)).toEqual([0, 59 / 60, 20 / 60]);
  const behindOne = replay(jobs([0, 8, 60], [1, 8, 30], [2, 8, 5]), strict());
  expect(partsOfBound(behindOne, 10 * MINUTE, 60 * MINUTE)[2]).toBeCloseTo(88 / 130);
});

describe.skipIf(!hasTrace)("a sample of the production trace", () => {
  const recipe = { seed: 7, load: 1.1, severalShare: 0.5, requests: 1_500 } as const;
  const trace = hasTrace ? sample(recipe) : [];

  test("asks for the load and the share that its recipe states, and is the same for the same seed", () => {
    const gpuTime = (some: readonly Job[]) => some.reduce((sum, { gpus, durationMs }) => sum + gpus * durationMs, 0);
    expect(trace).toHaveLength(recipe.requests);
    expect(gpuTime(trace) / (HOST_GPUS * (trace.at(-1) as Job).submittedMs)).toBeCloseTo(recipe.load);
    expect(gpuTime(trace.filter(({ gpus }) => gpus > 1)) / gpuTime(trace)).toBeCloseTo(recipe.severalShare, 1);
    expect(sample(recipe)).toEqual(trace);
    expect(sample({ ...recipe, seed: 8 })).not.toEqual(trace);
  });

  test("with all stating their `max_duration`, who leads the line waits for leases that stood then, and for no other", () => {
    const ours = new Ours({ statedOfTen: 10 });
    expect(worstDelay(replay(trace, ours), (job) => ours.states(job))).toBe(0);
    expect(worstDelay(replay(trace, greedy()), () => false)).toBeGreaterThan(24 * 60 * MINUTE);
  });

  test.each([0, 5])(
    "with %d of 10 stating it, who leads the line waits for its patience and two leases at most",
    (statedOfTen) => {
      const { patienceMs, reserveAfterMs } = DEFAULT_POLICY;
      const boundS = (reserveAfterMs + patienceMs + 2 * LONGEST_S * 1_000) / 1_000;
      expect(figuresOf(replay(trace, new Ours({ statedOfTen }))).longestAtHead).toBeLessThanOrEqual(boundS);
      expect(figuresOf(replay(trace, greedy())).longestAtHead).toBeGreaterThan(boundS);
    },
  );

  test("with nobody stating it, and one service that never ends, as much of the host is used as by greedy", () => {
    const some = sample({ ...recipe, load: 0.9 });
    for (const all of [some, withService(some)]) {
      const [ours, theirs] = [new Ours(), greedy()].map((one) => figuresOf(replay(all, one)));
      expect(ours?.utilisation).toBeGreaterThan((theirs?.utilisation ?? 1) - 0.03);
    }
  });

  test("on a host of large, small, shared and cut GPUs nobody is left out, and the mean wait is not much longer than by greedy", () => {
    const some = sample({ ...recipe, requests: 500, load: 0.6 });
    const meanWaitMs = (policy: Parameters<typeof serve>[1]) => {
      const served = serve(some, policy, false);
      return served.reduce((sum, { startedMs, job }) => sum + startedMs - job.submittedMs, 0) / served.length;
    };
    const [ours, theirs] = [meanWaitMs({}), meanWaitMs({ reserveAfterMs: Number.MAX_SAFE_INTEGER, preferWide: false })];
    expect(ours / HOUR).toBeLessThan(theirs / HOUR + 6);
  });

  test.each([0.7, 0.9, 1.1])(
    "at a load of %d, who states a `max_duration` gets as much of the host as from greedy, whatever the mix",
    (load) => {
      for (const severalShare of [null, 0.1, 0.5]) {
        const some = sample({ ...recipe, load, severalShare });
        const [ours, theirs] = [new Ours({ statedOfTen: 10 }), greedy()].map((one) => figuresOf(replay(some, one)));
        expect(ours?.utilisation, `a mix of ${severalShare}`).toBeGreaterThan((theirs?.utilisation ?? 1) - 0.02);
      }
    },
  );

  test.each([0.7, 0.9])("at a load of %d, who waits starts within the range that he was told", (load) => {
    for (const severalShare of [null, 0.1, 0.5]) {
      const ours = new Ours({ statedOfTen: 10, estimates: true });
      const { waited, none, within, after } = calibrationOf(
        ours.told,
        replay(sample({ ...recipe, requests: 600, load, severalShare }), ours),
      );
      expect(none / waited, `a mix of ${severalShare}`).toBeLessThan(0.5);
      expect(within / (waited - none), `a mix of ${severalShare}`).toBeGreaterThan(0.8);
      // Only who is let past before `reserve_after` can put it off beyond its latest.
      expect(after / (waited - none)).toBeLessThan(0.01);
    }
  });
});

/**
 * By how much anybody was put off by those who came later and started after it led the line for good: in ms beyond the
 * last end, by what was stated, of the leases that stood then.
 */
function worstDelay(served: readonly Served[], states: (job: Job) => boolean): number {
  const since = headSince(served);
  const endBy = ({ job, startedMs }: Served) => startedMs + (states(job) ? job.statedMs : job.durationMs);
  return Math.max(
    ...served.map(({ job, startedMs }, index) => {
      const holds = Math.max(since[index] as number, job.submittedMs + DEFAULT_POLICY.reserveAfterMs);
      const standing = served.filter((one) => one.startedMs <= holds && one.startedMs + one.job.durationMs > holds);
      return startedMs - Math.max(holds, ...standing.map(endBy));
    }),
    0,
  );
}
