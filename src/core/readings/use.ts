/**
 * What a reading says of the use of a GPU: by processes, by memory, and by the time that it works.
 *
 *  1. A GPU at rest is not always at 0 MiB and 0 %: a driver keeps memory for itself, a virtual GPU shows some that nobody
 *     uses, and without persistence mode asking is work.
 *  2. Where memory is not told (unified memory), the processes are what there is to go by.
 */
import type { GpuProcess, GpuReading } from "../model/reading.ts";

/** The share of a GPU's memory that a driver may keep for itself while nothing runs, and its least, in MiB. */
const IDLE_SHARE = 0.02;
const IDLE_LEAST_MIB = 512;
/** By how much a level that counts as idle moves. */
export const IDLE_DRIFT = 0.05;

/** MiB that a driver may keep for itself on a GPU of this size. */
function driversOwnMib(totalMib: number): number {
  return Math.max(IDLE_LEAST_MIB, Math.ceil(totalMib * IDLE_SHARE));
}

type Memory = Pick<GpuReading, "memoryTotalMib" | "memoryUsedMib" | "memorySource" | "idleMemoryMib">;

/** Memory in use, above which a GPU without a visible process is in use by an invisible one, in MiB. */
export function idleCeilingMib(totalMib: number, { idleMemoryMib = 0 }: Pick<Memory, "idleMemoryMib">): number {
  return Math.max(driversOwnMib(totalMib), Math.ceil(idleMemoryMib * (1 + IDLE_DRIFT)));
}

/** Whether what is in use is no more than a driver keeps for itself: then the whole is there to be had. */
export function isAsGoodAsEmpty(usedMib: number, totalMib: number): boolean {
  return usedMib <= driversOwnMib(totalMib);
}

/** MiB in use, by the driver or else by the processes; `null`: not known. */
export function memoryInUseMib(reading: Memory & Pick<GpuReading, "processes" | "computeMode">): number | null {
  if (reading.memoryUsedMib !== null || reading.memorySource === undefined) return reading.memoryUsedMib;
  return occupying(reading).reduce((sum, { usedMemoryMib }) => sum + (usedMemoryMib ?? reading.memoryTotalMib ?? 0), 0);
}

/** Whether a process computes, rather than draws a desktop. Old drivers list only those that compute. */
export function computes(type: string | null): boolean {
  return type === null || type.includes("C");
}

/** MiB of a process that is too small to do any work: the least CUDA context of today's drivers takes more. */
const SMALL_PROCESS_MIB = 64;

/** One process at a time may use it: `Exclusive_Process`, and `Exclusive_Thread` of old drivers. */
export function isExclusive({ computeMode }: Pick<GpuReading, "computeMode">): boolean {
  return computeMode?.startsWith("Exclusive") === true;
}

/** The one process through which several use a GPU in that mode; it takes no work itself. */
const MPS_SERVER = /(?:^|\/)nvidia-cuda-mps-server$/;

export function isMpsServer({ name }: GpuProcess): boolean {
  return name !== null && MPS_SERVER.test(name);
}

/**
 * The processes that make a GPU unfit for anybody else. One that does not tell its memory does, and on a GPU that is for
 * one process any that computes.
 */
export function occupying(reading: Pick<GpuReading, "processes" | "computeMode">): readonly GpuProcess[] {
  const exclusive = isExclusive(reading);
  const leastMib = exclusive ? 0 : SMALL_PROCESS_MIB;
  return reading.processes.filter((process) => {
    if (!computes(process.type) || (exclusive && isMpsServer(process))) return false;
    return (process.usedMemoryMib ?? Infinity) >= leastMib;
  });
}

/** Whether only one lease can work on a GPU at a time, however it is shared. */
export function takesOneLease(reading: Pick<GpuReading, "processes" | "computeMode">): boolean {
  return isExclusive(reading) && !reading.processes.some(isMpsServer);
}

/** A GPU that works more than this, in percent, works for somebody, even if he cannot be seen. */
export const BUSY_PERCENT = 5;

/**
 * How much of the time the GPU works for somebody, in percent; `null`: not told. With persistence mode off the driver
 * sets the GPU up for each question, and shows that as work: without a process and memory there is no other.
 */
export function workPercent(reading: GpuReading): number | null {
  const { utilizationPercent, persistenceMode, processes, memoryUsedMib: used } = reading;
  const isQuestion = persistenceMode === "Disabled" && processes.length === 0 && used !== null;
  return isQuestion && used < SMALL_PROCESS_MIB && utilizationPercent !== null ? 0 : utilizationPercent;
}

/**
 * Whether a GPU works for nobody: the mark of a driver that has lost track of what it runs. With persistence mode off the
 * driver sets the GPU up for each question, and what it shows then may be that.
 */
export function isGhost(reading: GpuReading): boolean {
  const { utilizationPercent, processes, memoryTotalMib: total, memoryUsedMib: used, persistenceMode } = reading;
  if (utilizationPercent !== 100 || processes.length > 0 || persistenceMode === "Disabled") return false;
  return total !== null && used !== null && used <= idleCeilingMib(total, reading);
}
