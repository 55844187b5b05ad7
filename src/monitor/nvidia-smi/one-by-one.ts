/**
 * Reads GPUs one at a time, when one that is lost spoils the listing of all.
 *
 * `nvidia-smi -q -x` then prints nothing but "Unable to determine the device handle for GPU 0000:02:00.0: ..." and
 * exits with 15, or another code, although the other GPUs work. Asked for with `-i`, each of those answers.
 *
 *  1. Runs follow one another, all within what is left of the probe's deadline. The GPU that the failure names is asked
 *     for last, and no other takes more than half of what is left: one that hangs does not starve the rest.
 *  2. A GPU is called lost only by its own answer. One that was not asked for, or did not answer, is *unread*: nothing
 *     new is said of it.
 *  3. With no GPU read there is no reading: then it was not one GPU that failed.
 */

import { pciDevice } from "../../core/base/pci-address.ts";
import type { GpuHealth, GpuReading, HostReading, ProbeFailure } from "../../core/model/reading.ts";
import { parseNvidiaSmiInTurns } from "./parse.ts";
import type { RunEnd } from "./run.ts";
import { oneLine } from "./text.ts";
import { judge } from "./verdict.ts";

/** With less time left a run is not begun, in ms. */
export const MIN_RUN_MS = 100;

/** What must be known of a GPU to ask for it, and to say of it that it is lost. */
export type KnownGpu = Pick<GpuReading, "uuid" | "index" | "name" | "pciBusId">;

export interface OneByOne {
  readonly gpus: readonly KnownGpu[];
  /** What the whole listing gave instead. */
  readonly failure: ProbeFailure;
  /** Runs `nvidia-smi` with these arguments. */
  readonly run: (args: readonly string[], timeoutMs: number) => Promise<RunEnd>;
  /** 0 while a run lives that cannot be killed. */
  readonly leftMs: () => number;
}

type Answer =
  | { readonly said: "reading"; readonly gpu: GpuReading; readonly host: HostReading }
  | { readonly said: "lost" | "gone" | "nothing" };

/** @returns `null` when no GPU could be read. */
export async function readOneByOne({ gpus, failure, run, leftMs }: OneByOne): Promise<HostReading | null> {
  const suspect = pciDevice(failure.message);
  const isSuspect = ({ pciBusId }: KnownGpu) => suspect !== null && deviceOf(pciBusId) === suspect;
  const order = [...gpus].sort((a, b) => Number(isSuspect(a)) - Number(isSuspect(b)));
  const read: GpuReading[] = [];
  const unread: string[] = [];
  let host: HostReading | null = null;
  for (const [position, gpu] of order.entries()) {
    const left = leftMs();
    const timeoutMs = position === order.length - 1 ? left : left / 2;
    if (timeoutMs < MIN_RUN_MS) {
      unread.push(gpu.uuid);
      continue;
    }
    const answer = await askForOne(gpu, (args) => run(args, timeoutMs));
    if (answer.said === "nothing") unread.push(gpu.uuid);
    else if (answer.said === "lost") read.push(lostReading(gpu, "GPU is lost"));
    else if (answer.said === "reading") {
      host = answer.host;
      read.push(answer.gpu);
    }
  }
  if (host === null) return null;
  const warnings = [...host.warnings, oneLine(`the GPUs are read one by one, since ${failure.message}`)];
  return { ...host, gpus: read.sort((a, b) => a.index - b.index), unread, warnings };
}

function deviceOf(pciBusId: string | null): string | null {
  return pciBusId === null ? null : pciDevice(pciBusId);
}

/** Asks for one GPU by its UUID, or by its address where that stands for it. */
export async function askForOne(gpu: KnownGpu, run: (args: readonly string[]) => Promise<RunEnd>): Promise<Answer> {
  return answerOf(gpu, await run(["-q", "-x", "-i", gpu.uuid]));
}

/** What came of asking for one GPU. `gone`: the driver knows it no more. */
async function answerOf(gpu: KnownGpu, end: RunEnd): Promise<Answer> {
  if (end.kind !== "exited") return { said: "nothing" };
  const verdict = judge(end, await parseNvidiaSmiInTurns(end.stdout));
  if (verdict.ok) {
    const { reading } = verdict.document;
    const [only] = reading.gpus;
    // A GPU that fails may have lost its UUID, but stands where it stood.
    const isIt = only?.uuid === gpu.uuid || (only !== undefined && deviceOf(only.pciBusId) === deviceOf(gpu.pciBusId));
    if (only === undefined || reading.gpus.length > 1 || !isIt) return { said: "nothing" };
    const warnings = [...reading.warnings, ...verdict.warnings];
    return { said: "reading", gpu: { ...only, uuid: gpu.uuid, index: gpu.index }, host: { ...reading, warnings } };
  }
  const { kind, message } = verdict.failure;
  if (kind === "no-devices") return { said: "gone" };
  if (kind !== "gpu-lost") return { said: "nothing" };
  const named = pciDevice(message);
  return { said: named === null || named === deviceOf(gpu.pciBusId) ? "lost" : "nothing" };
}

const NOTHING_KNOWN: GpuHealth = {
  eccMode: null,
  eccCorrectedVolatile: null,
  eccCorrectedAggregate: null,
  eccUncorrectedVolatile: null,
  eccUncorrectedAggregate: null,
  sramThresholdExceeded: null,
  repairPending: null,
  retiredPages: null,
  retiredPagesPending: null,
  remappedRowsCorrectable: null,
  remappedRowsUncorrectable: null,
  remappedRowsPending: null,
  remappedRowsFailure: null,
  unrepairableMemory: null,
  recoveryAction: null,
  fabricState: null,
  fabricStatus: null,
  fabricHealth: null,
  slowdown: null,
  license: null,
};

/** Not one figure, and the driver's words for why. */
export function lostReading({ uuid, index, name, pciBusId }: KnownGpu, words: string): GpuReading {
  return {
    uuid,
    index,
    minorNumber: null,
    name,
    serial: null,
    pciBusId,
    memoryTotalMib: null,
    memoryReservedMib: null,
    memoryUsedMib: null,
    memoryFreeMib: null,
    utilizationPercent: null,
    temperatureC: null,
    powerDrawW: null,
    powerLimitW: null,
    computeMode: null,
    persistenceMode: null,
    migMode: null,
    migInstances: [],
    processes: [],
    health: NOTHING_KNOWN,
    errorValues: { "nvidia-smi -i": words },
  };
}
