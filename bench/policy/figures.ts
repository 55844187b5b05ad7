import { quantile } from "../measure.ts";
import type { Served } from "./replay.ts";
import { HOST_GPUS, type Job } from "./trace.ts";

/** Waits are in seconds. */
export interface Figures {
  readonly waits: Waits;
  /** Of the requests for several GPUs. */
  readonly several: Waits;
  /** The longest that anybody waited once all who came before it had started. */
  readonly longestAtHead: number;
  /** Part of the host's GPU time in use from the first to the last submission. */
  readonly utilisation: number;
  /** From the first submission to the last end. */
  readonly makespanS: number;
}

export interface Waits {
  readonly mean: number;
  readonly p50: number;
  readonly p95: number;
  readonly max: number;
}

export function figuresOf(served: readonly Served[]): Figures {
  const lastMs = served.at(-1)?.job.submittedMs ?? 0;
  let usedMs = 0;
  let endMs = 0;
  for (const { job, startedMs } of served) {
    const end = startedMs + job.durationMs;
    endMs = Math.max(endMs, end);
    usedMs += job.gpus * Math.max(0, Math.min(end, lastMs) - startedMs);
  }
  return {
    waits: waitsOf(served),
    several: waitsOf(served.filter(({ job }) => job.gpus > 1)),
    longestAtHead: Math.max(...headSince(served).map((since, index) => startOf(served, index) - since)) / 1_000,
    utilisation: usedMs / (HOST_GPUS * lastMs),
    makespanS: endMs / 1_000,
  };
}

export function waitsOf(served: readonly Served[]): Waits {
  const waits = served.map(({ job, startedMs }) => (startedMs - job.submittedMs) / 1_000);
  return {
    mean: waits.reduce((sum, wait) => sum + wait, 0) / waits.length,
    p50: quantile(waits, 0.5),
    p95: quantile(waits, 0.95),
    max: quantile(waits, 1),
  };
}

/** Per request, since when all who came before it had started: its submission at the earliest, its own start at the latest. */
export function headSince(served: readonly Served[]): readonly number[] {
  let before = 0;
  return served.map(({ job, startedMs }) => {
    const since = Math.min(startedMs, Math.max(job.submittedMs, before));
    before = Math.max(before, startedMs);
    return since;
  });
}

/**
 * Of each request, what part of its bound its wait was: as many turns as there were requests before it when it came, and
 * one for itself, after `firstMs`. All have the same priority, so nobody who comes later stands before it.
 */
export function partsOfBound(served: readonly Served[], firstMs: number, turnMs: number): readonly number[] {
  /** Of those who came before, when they started, in order. */
  const starts: number[] = [];
  return served.map(({ job, startedMs }) => {
    const before = starts.length - placeOf(starts, job.submittedMs);
    starts.splice(placeOf(starts, startedMs), 0, startedMs);
    return (startedMs - job.submittedMs) / (firstMs + (before + 1) * turnMs);
  });
}

/** How many of `sorted` are no later than `at`. */
function placeOf(sorted: readonly number[], at: number): number {
  let [from, to] = [0, sorted.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if ((sorted[middle] as number) <= at) from = middle + 1;
    else to = middle;
  }
  return from;
}

function startOf(served: readonly Served[], index: number): number {
  return (served[index] as Served).startedMs;
}

/** What a request that had to wait was told, from and to when it would start; `null`: nothing. */
export interface Told {
  readonly job: Job;
  readonly eta: { readonly fromMs: number; readonly toMs: number } | null;
}

/** How many of those that waited started within what they were told, and how many before or after it. */
export function calibrationOf(told: readonly Told[], served: readonly Served[]) {
  const counts = { within: 0, before: 0, after: 0 };
  let widthMs = 0;
  let waitMs = 0;
  for (const { job, eta } of told) {
    if (eta === null) continue;
    const { startedMs } = served[job.index] as Served;
    counts[startedMs < eta.fromMs ? "before" : startedMs > eta.toMs ? "after" : "within"]++;
    widthMs += eta.toMs - eta.fromMs;
    waitMs += startedMs - job.submittedMs;
  }
  const none = told.filter(({ eta }) => eta === null).length;
  const given = told.length - none;
  return { ...counts, waited: told.length, none, widthS: widthMs / given / 1_000, waitS: waitMs / given / 1_000 };
}
