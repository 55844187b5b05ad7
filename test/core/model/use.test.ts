import { expect, test } from "vitest";
import type { GpuUse, UseSpan } from "../../../src/core/model/use.ts";
import {
  lastUseEnd,
  MAX_USE_SPANS,
  NO_USE,
  spansUntil,
  useBegun,
  usedMsBetween,
  useEnded,
  wasUsed,
} from "../../../src/core/model/use.ts";
import fc from "../../fc.ts";
import { h100, process, SimulatedHost, seconds } from "../../simulation/simulated-host.ts";

/** Used from the first of each pair of instants to the second. */
function usedAt(...pairs: readonly (readonly [number, number])[]): GpuUse {
  return pairs.reduce((use, [from, to]) => useEnded(useBegun(use, from), to), NO_USE);
}

/** What the lease held by this GPU of `host` has seen of its use. */
function useOf(host: SimulatedHost, uuid = "GPU-a"): GpuUse {
  const hold = host.state.gpus.get(uuid)?.hold;
  if (hold?.kind !== "leased") throw new Error(`${uuid} is ${hold?.kind}`);
  return hold.use;
}

const BUSY = { processes: [process(1)], memoryUsedMib: 9_000 };
const QUIET = { processes: [], memoryUsedMib: 4 };
const BLIND = { processes: [], memoryUsedMib: null };

test("use goes from the reading that shows it to the one that does not, and a restart finds it as it was", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  const granted = host.now;
  expect(useOf(host)).toEqual(NO_USE);
  host.gpu("GPU-a", BUSY);
  host.advance(seconds(5));
  host.gpu("GPU-a", QUIET);
  host.advance(seconds(10));
  expect(useOf(host)).toEqual({ spans: [[granted + 5_000, granted + 10_000, 5_000]], since: null });
  host.gpu("GPU-a", BUSY);
  host.advance(seconds(5));
  expect(useOf(host).since).toBe(granted + 20_000);
  host.advance(seconds(1));
  host.do({ type: "resume", bootId: "boot-1", fencingFloor: host.now });
  expect(useOf(host).since).toBe(granted + 20_000);
  host.release(id);
  expect(host.allocation(id)).toMatchObject({
    used: [
      {
        uuid: "GPU-a",
        spans: [
          [granted + 5_000, granted + 10_000, 5_000],
          [granted + 20_000, granted + 21_000, 1_000],
        ],
      },
    ],
  });
});

test("only changes are events, whatever the readings between them show", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit();
  for (const [mood, lasts] of [
    [BUSY, 60],
    [{ ...BUSY, processes: [] }, 60],
    [QUIET, 60],
    [BUSY, 60],
  ] as const) {
    host.gpu("GPU-a", mood);
    host.advance(seconds(lasts));
  }
  const types = host.log.map(({ type }) => type).filter((type) => type.startsWith("use-"));
  expect(types).toEqual(["use-seen", "use-gone", "use-seen"]);
});

test("while a GPU cannot be read, or nobody looks, the last known state counts", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit();
  host.gpu("GPU-a", BUSY);
  host.advance(seconds(5));
  const begun = host.now;
  host.gpu("GPU-a", BLIND);
  host.advance(seconds(50));
  host.monitoring = false;
  host.advance(seconds(3_600));
  host.failProbe("driver");
  expect(useOf(host)).toEqual({ spans: [], since: begun });
  host.gpu("GPU-a", QUIET);
  host.observe();
  expect(useOf(host)).toEqual({ spans: [[begun, begun + 3_650_000, 3_650_000]], since: null });
});

test("a reading that began before the grant says nothing of the lease", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit();
  host.gpu("GPU-a", BUSY);
  host.observe(host.now - 1);
  expect(useOf(host)).toEqual(NO_USE);
  expect(host.log.at(-1)?.type).not.toBe("use-seen");
});

test("a lease that used some of its GPUs says which", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const id = host.submit({ requiredGpus: 2 });
  host.gpu("GPU-b", BUSY);
  host.advance(seconds(5));
  host.advance(seconds(7));
  const { now } = host;
  host.release(id);
  expect(host.allocation(id)).toMatchObject({ used: [{ uuid: "GPU-b", spans: [[now - 7_000, now, 7_000]] }] });
});

test("use begins and ends in turn, or the journal is broken", () => {
  expect(() => useEnded(NO_USE, 1)).toThrow(/there was none/);
  expect(() => useBegun(useBegun(NO_USE, 1), 2)).toThrow(/has since 1/);
});

test("beyond the limit the spans with the shortest gap between them become one", () => {
  const pairs = Array.from({ length: MAX_USE_SPANS }, (_, i) => [100 * i, 100 * i + 10] as const);
  // 30 ms before this one, 90 ms between all others.
  const late = [100 * MAX_USE_SPANS - 60, 100 * MAX_USE_SPANS - 40] as const;
  expect(usedAt(...pairs).spans).toHaveLength(MAX_USE_SPANS);
  const { spans } = usedAt(...pairs, late);
  expect(spans).toHaveLength(MAX_USE_SPANS);
  expect(spans.at(-1)).toEqual([100 * (MAX_USE_SPANS - 1), late[1], 30]);
  expect(spans.at(-2)).toEqual([100 * (MAX_USE_SPANS - 2), 100 * (MAX_USE_SPANS - 2) + 10, 10]);
});

test("a period that cuts a merged span gets a part of its use, and never more than its own length", () => {
  const merged: readonly UseSpan[] = [[1_000, 2_000, 250]];
  expect(usedMsBetween(merged, 0, 1_500)).toBe(125);
  expect(usedMsBetween(merged, 1_500, 9_000)).toBe(125);
  expect(usedMsBetween(merged, 1_000, 1_001)).toBe(0);
  expect(usedMsBetween([[1_000, 2_000, 1_000]], 1_000, 1_001)).toBe(1);
});

const anyPairs = fc
  .array(fc.integer({ min: 0, max: 3_000_000_000 }), { minLength: 2, maxLength: 4 * MAX_USE_SPANS, size: "max" })
  .map((instants) => instants.sort((a, b) => a - b))
  .map((instants) => Array.from({ length: instants.length >> 1 }, (_, i) => instants.slice(2 * i, 2 * i + 2)));

test("whatever was merged, the whole is exact, the parts add up, and no part is longer than its period", () => {
  fc.assert(
    fc.property(anyPairs, fc.array(fc.nat(3_000_000_000), { maxLength: 12 }), fc.boolean(), (pairs, cuts, open) => {
      const end = 3_000_000_001;
      const ended = open ? pairs.slice(0, -1) : pairs;
      let use = usedAt(...(ended as [number, number][]));
      if (open) use = useBegun(use, pairs.at(-1)?.[0] as number);
      const exact = pairs.reduce((sum, [from, to], i) => {
        const until = open && i === pairs.length - 1 ? end : (to as number);
        return sum + until - (from as number);
      }, 0);
      const spans = spansUntil(use, end);
      expect(wasUsed(use)).toBe(true);
      expect(spans.length).toBeLessThanOrEqual(MAX_USE_SPANS);
      expect(usedMsBetween(spans, 0, end)).toBe(exact);
      const edges = [0, ...cuts.sort((a, b) => a - b), end];
      let sum = 0;
      for (let i = 1; i < edges.length; i++) {
        const [from, to] = [edges[i - 1] as number, edges[i] as number];
        const part = usedMsBetween(spans, from, to);
        expect(part).toBeGreaterThanOrEqual(0);
        expect(part).toBeLessThanOrEqual(to - from);
        sum += part;
      }
      expect(sum).toBe(exact);
      for (let i = 1; i < spans.length; i++) {
        expect((spans[i] as UseSpan)[0]).toBeGreaterThanOrEqual((spans[i - 1] as UseSpan)[1]);
      }
      expect(lastUseEnd(use)).toBe(open ? null : pairs.at(-1)?.[1]);
    }),
  );
});
