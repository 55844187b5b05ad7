/**
 * When leased GPUs were seen in use: what accounting and idleness rest on.
 *
 * 1. A span goes from the reading that first shows use to the one that first shows none. Between two readings, and while
 *    nobody looks, the last known state counts.
 * 2. A GPU's spans are in order and do not overlap. There are at most {@link MAX_USE_SPANS}: beyond that the two with the
 *    shortest gap between them become one, which knows how long the GPU was in use, and no longer exactly when.
 * 3. {@link usedMsBetween} is a difference of one function at two instants, so adjoining periods add up to the
 *    millisecond, and a whole lease is exact whatever was merged.
 */
import type { EpochMs } from "../base/time.ts";
import type { GpuUuid } from "./ids.ts";

/** In use from the first to the second instant; `usedMs` is less than that where short gaps were merged (use.ts). */
export type UseSpan = readonly [from: EpochMs, to: EpochMs, usedMs: number];

/** When a leased GPU was in use: had a process that computes, or memory above the baseline. */
export interface GpuUse {
  /** What is over, oldest first. */
  readonly spans: readonly UseSpan[];
  /** In use since then, by the latest reading that could tell; `null`: not in use. */
  readonly since: EpochMs | null;
}

/** What an ended lease leaves of its use of one GPU. */
export interface UsedGpu {
  readonly uuid: GpuUuid;
  readonly spans: readonly UseSpan[];
}

/** Spans kept for one GPU of one lease: some 40 bytes each in the database. */
export const MAX_USE_SPANS = 64;

export const NO_USE: GpuUse = { spans: [], since: null };

/** Whether any reading during the lease showed use. */
export function wasUsed(use: GpuUse): boolean {
  return use.since !== null || use.spans.length > 0;
}

/** @throws Error when it is in use already. */
export function useBegun(use: GpuUse, at: EpochMs): GpuUse {
  if (use.since !== null) throw new Error(`use begins at ${at}, and has since ${use.since}`);
  return { ...use, since: at };
}

/** @throws Error when it is not in use. */
export function useEnded(use: GpuUse, at: EpochMs): GpuUse {
  if (use.since === null) throw new Error(`use ends at ${at}, and there was none`);
  return { spans: spansUntil(use, at), since: null };
}

/** The spans as they are if what is in use now is so until `at`, and no longer. */
export function spansUntil({ spans, since }: GpuUse, at: EpochMs): readonly UseSpan[] {
  if (since === null) return spans;
  const all: readonly UseSpan[] = [...spans, [since, at, at - since]];
  return all.length > MAX_USE_SPANS ? withoutShortestGap(all) : all;
}

/** The earliest, of gaps of the same length. */
function withoutShortestGap(spans: readonly UseSpan[]): readonly UseSpan[] {
  let second = 1;
  for (let i = 2; i < spans.length; i++) if (gapBefore(spans, i) < gapBefore(spans, second)) second = i;
  const [from, , usedBefore] = spans[second - 1] as UseSpan;
  const [, to, usedAfter] = spans[second] as UseSpan;
  return [...spans.slice(0, second - 1), [from, to, usedBefore + usedAfter], ...spans.slice(second + 1)];
}

function gapBefore(spans: readonly UseSpan[], i: number): number {
  return (spans[i] as UseSpan)[0] - (spans[i - 1] as UseSpan)[1];
}

/** Milliseconds of use in `[from, to)`. Of a merged span that the period cuts, a part in proportion to its length. */
export function usedMsBetween(spans: readonly UseSpan[], from: EpochMs, to: EpochMs): number {
  let usedMs = 0;
  for (const span of spans) {
    if (span[0] >= to) break;
    usedMs += usedMsUntil(span, to) - usedMsUntil(span, from);
  }
  return usedMs;
}

function usedMsUntil([from, to, usedMs]: UseSpan, at: EpochMs): number {
  if (at <= from) return 0;
  if (at >= to) return usedMs;
  if (usedMs === to - from) return at - from;
  return Math.floor(usedMs * ((at - from) / (to - from)));
}

/** When the GPU was last in use before now; `null`: never, or it is now. */
export function lastUseEnd(use: GpuUse): EpochMs | null {
  return use.since === null ? (use.spans.at(-1)?.[1] ?? null) : null;
}
