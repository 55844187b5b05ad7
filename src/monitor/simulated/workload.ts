/**
 * What a leased GPU's user does to it, as functions of time alone: a program starts, makes its CUDA context, loads
 * its model, computes; at the end of the lease it goes, and its memory after it.
 */
import type { EpochMs } from "../../core/base/time.ts";
import type { Request } from "../../core/model/allocation.ts";
import type { WorkloadType } from "../../core/model/workload.ts";
import { noiseAt, type Random } from "./random.ts";

/** From the lease to the first trace on the GPU: a program must start first. */
const START_MS = 1_000;
/** From there to the full use of memory. */
const LOAD_MS = 4_000;
/** The end of the lease is when the daemon heard of it; the process needs this much longer to go. */
const EXIT_MS = 300;
/** From the end of the process until the driver has taken all of its memory back. */
const TEARDOWN_MS = 1_200;
/** MiB that a process takes with its CUDA context alone. */
const CONTEXT_MIB = 460;
/** Of the GPU's memory, what even the greediest workload leaves. */
const MOST_OF_GPU = 0.95;
/** Percent by which utilisation goes up and down around its mean. */
const UNREST_PERCENT = 8;
/** Utilisation while a model is loaded: the copies, not the kernels. */
const LOADING_PERCENT = 12;

/** Mean utilisation, in percent: training computes all the time, servers wait for requests. */
const BUSY_PERCENT: { readonly [type in WorkloadType]: number } = {
  training: 92,
  inference: 55,
  embedding: 68,
  ocr: 60,
  graph_processing: 74,
  generic: 62,
};

export interface Workload {
  readonly name: string;
  readonly pid: number;
  readonly startsAt: EpochMs;
  /** `null` while its lease lasts. */
  readonly endsAt: EpochMs | null;
  /** What it takes once it is loaded. */
  readonly memoryMib: number;
  readonly busyPercent: number;
  /** Tells its unrest from that of others. */
  readonly seed: number;
}

/** A workload as `request` would run it: what it asked for is somewhat more than what it needs. */
export function workloadOf(
  request: Request,
  gpu: { readonly totalMib: number; readonly pid: number },
  startsAt: EpochMs,
  random: Random,
): Workload {
  const wanted = request.requirement.memoryMib * (0.78 + 0.17 * random());
  return {
    name: request.serviceName,
    pid: gpu.pid,
    startsAt,
    endsAt: null,
    memoryMib: Math.round(Math.min(Math.max(wanted, CONTEXT_MIB), gpu.totalMib * MOST_OF_GPU)),
    busyPercent: BUSY_PERCENT[request.workloadType] - 4 + 8 * random(),
    seed: Math.floor(random() * 2 ** 32),
  };
}

/** When it begins to show on the GPU. */
export function appearsAt(workload: Workload): EpochMs {
  return workload.startsAt + START_MS;
}

/** Whether its process is listed at `at`. One whose lease ended before it had started never shows. */
export function isListed(workload: Workload, at: EpochMs): boolean {
  const { endsAt } = workload;
  if (at < appearsAt(workload)) return false;
  return endsAt === null || (endsAt > appearsAt(workload) && at < endsAt + EXIT_MS);
}

/** MiB that it has in use at `at`. */
export function memoryAt(workload: Workload, at: EpochMs): number {
  const { endsAt } = workload;
  if (endsAt === null || at < endsAt + EXIT_MS) return loadedAt(workload, Math.min(at, endsAt ?? at));
  const left = 1 - (at - endsAt - EXIT_MS) / TEARDOWN_MS;
  return left <= 0 ? 0 : Math.round(loadedAt(workload, endsAt) * left);
}

function loadedAt(workload: Workload, at: EpochMs): number {
  const running = at - appearsAt(workload);
  if (running < 0) return 0;
  const context = Math.min(CONTEXT_MIB, workload.memoryMib);
  return Math.round(context + (workload.memoryMib - context) * Math.min(1, running / LOAD_MS));
}

/** Percent of the time in which it computes, around `at`. */
export function utilizationAt(workload: Workload, at: EpochMs): number {
  const running = at - appearsAt(workload);
  if (running < 0 || (workload.endsAt !== null && at >= workload.endsAt)) return 0;
  const mean = running < LOAD_MS ? LOADING_PERCENT : workload.busyPercent;
  return Math.round(Math.min(100, Math.max(0, mean + UNREST_PERCENT * noiseAt(workload.seed, at))));
}

/** Whether nothing is left of it at `at`. */
export function isGone(workload: Workload, at: EpochMs): boolean {
  return workload.endsAt !== null && at >= workload.endsAt + EXIT_MS + TEARDOWN_MS;
}
