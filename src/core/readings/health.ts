import type { AllocationId } from "../model/ids.ts";
import type { GpuProcess, GpuReading } from "../model/reading.ts";

export interface Ailment {
  readonly block: "lost" | "unhealthy" | "unknown" | "degraded" | "mig" | "isolated" | "occupied";
  /** In words, with the facts. Contains driver text: escape it where it is shown. */
  readonly detail: string;
}

/** The share of a GPU's memory that a driver may keep for itself while nothing runs, and its least, in MiB. */
const IDLE_SHARE = 0.02;
const IDLE_LEAST_MIB = 512;

/** Memory in use, above which a GPU without a visible process is in use by an invisible one, in MiB. */
export function idleCeilingMib(totalMib: number): number {
  return Math.max(IDLE_LEAST_MIB, Math.ceil(totalMib * IDLE_SHARE));
}

/** Whether a process computes, rather than draws a desktop. Old drivers list only those that compute. */
export function computes(type: string | null): boolean {
  return type === null || type.includes("C");
}

/** MiB of a process that is too small to do any work: the least CUDA context of today's drivers takes more. */
const SMALL_PROCESS_MIB = 64;

/** Whether a process makes its GPU unfit for anybody else. One that does not tell its memory does. */
export function occupies(process: GpuProcess): boolean {
  return computes(process.type) && (process.usedMemoryMib ?? Infinity) >= SMALL_PROCESS_MIB;
}

/** Good readings in a row after which a GPU that was sick or missing is granted again. */
export const GOOD_READINGS_TO_RECOVER = 3;
/** Good readings in a row without a GPU after which it is lost. */
export const READINGS_UNTIL_LOST = 3;

/**
 * Whether it is a fault of the GPU, from which it must be seen to recover. The rest is what somebody does with it:
 * that ends when it ends.
 */
export function isFault({ block }: Ailment): boolean {
  return block !== "occupied" && block !== "mig";
}

/**
 * What a reading says against new leases, gravest first: sickness comes before foreign use.
 *
 * @param owners the leases that processes belong to, by pid.
 * @param processesHidden the list of processes may lack some.
 */
export function ailmentsOf(
  reading: GpuReading,
  owners: ReadonlyMap<number, AllocationId>,
  processesHidden = false,
): readonly Ailment[] {
  const found = [
    sickness(reading),
    isolation(reading),
    occupation(reading, owners) ?? business(reading, processesHidden),
  ];
  return found.filter((ailment) => ailment !== null);
}

/**
 * Why a GPU can work alone but not together with others.
 *
 * Sources: NVML's `nvmlGpuFabricState_t` and the fabric health mask; `Drain P2P` in NVIDIA's "error recovery and
 * response flags".
 */
function isolation({ health }: GpuReading): Ailment | null {
  if (health.recoveryAction === "Drain P2P") return { block: "isolated", detail: "the driver asks for: Drain P2P" };
  if (health.fabricStatus !== null && health.fabricStatus !== "Success") {
    return { block: "isolated", detail: `the NVLink fabric says: ${health.fabricStatus}` };
  }
  if (health.fabricHealth === "Unhealthy") return { block: "isolated", detail: "its NVLink fabric is unhealthy" };
  return null;
}

/** An NVSwitch host whose fabric is not set up: on its GPUs CUDA does not start, with error 802, alone or not. */
const FABRIC_NOT_READY: ReadonlySet<string> = new Set(["Not Started", "In Progress"]);

/** The use of a GPU by a process that does not belong to a lease of it. */
function occupation(reading: GpuReading, owners: ReadonlyMap<number, AllocationId>): Ailment | null {
  const foreign = reading.processes.filter(occupies);
  const first = foreign[0];
  if (first !== undefined) {
    const more = foreign.length > 1 ? ` and ${foreign.length - 1} more` : "";
    const name = first.name ?? "name not readable";
    const user = first.origin?.user;
    const of = typeof user === "string" ? ` of user ${user}` : "";
    const owner = owners.get(first.pid);
    const lease = owner === undefined ? "of no lease" : `of ${owner}, whose lease is of other GPUs`;
    return { block: "occupied", detail: `process ${first.pid} (${name})${of}${more}, ${lease}` };
  }
  const { memoryTotalMib: total, memoryUsedMib: used, processes } = reading;
  if (total === null || used === null || used <= idleCeilingMib(total)) return null;
  // Desktop processes explain the memory in use.
  if (processes.some((process) => !computes(process.type))) return null;
  return { block: "occupied", detail: `${used} MiB in use by no visible process` };
}

function cutOf({ migInstances }: GpuReading): string {
  const count = migInstances.length;
  if (count === 0) return "MIG is enabled and there is no instance: nothing to grant until one is made or MIG is off";
  const nameless = migInstances.filter(({ uuid }) => uuid === null).length;
  const of = nameless === 0 ? "" : `, ${nameless === count ? "none" : `${count - nameless}`} of which can be named`;
  return `MIG is enabled: only its instances are granted, not the whole. It has ${count}${of}`;
}

/** A GPU that works more than this, in percent, works for somebody, even if he cannot be seen. */
const BUSY_PERCENT = 5;

/** Work of which neither a process nor memory is seen. */
function business(reading: GpuReading, processesHidden: boolean): Ailment | null {
  if (isGhost(reading)) return { block: "occupied", detail: "100 % busy, with no process and no memory in use" };
  const { utilizationPercent: busy, processes } = reading;
  if (!processesHidden || processes.length > 0 || busy === null || busy <= BUSY_PERCENT) return null;
  return { block: "occupied", detail: `${busy} % busy, and whose processes are there is not seen` };
}

/**
 * Whether a GPU works for nobody: the mark of a driver that has lost track of what it runs. With persistence mode off the
 * driver sets the GPU up for each question, and what it shows then may be that.
 */
export function isGhost(reading: GpuReading): boolean {
  const { utilizationPercent, processes, memoryTotalMib: total, memoryUsedMib: used, persistenceMode } = reading;
  if (utilizationPercent !== 100 || processes.length > 0 || persistenceMode === "Disabled") return false;
  return total !== null && used !== null && used <= idleCeilingMib(total);
}

/** Readings in a row after which such a GPU is quarantined. */
export const READINGS_UNTIL_QUARANTINE = 3;

/**
 * What is wrong with a GPU itself.
 *
 * `lost`: it has left the bus. `unhealthy`: it must not be used before repair. `unknown`: the reading lacks what a
 * grant needs. `degraded`: it works, and new work should go elsewhere. `mig`: it is cut into instances and cannot be
 * used whole. `isolated`: it works, but not together with others.
 *
 * Sources: NVIDIA's GPU memory error management guide (row remapping: pending, failure) and the meaning of
 * `gpu_recovery_action` in its driver documentation.
 */
function sickness(reading: GpuReading): Ailment | null {
  const { health, errorValues } = reading;
  for (const [path, words] of Object.entries(errorValues)) {
    if (words === "GPU is lost") return { block: "lost", detail: `the driver says "GPU is lost" (${path})` };
  }
  if (health.remappedRowsFailure === true) {
    return { block: "unhealthy", detail: "row remapping has failed" };
  }
  const action = health.recoveryAction;
  if (action === "Reset" || action === "Reboot" || action === "Drain and Reset") {
    return { block: "unhealthy", detail: `the driver asks for: ${action}` };
  }
  if (reading.computeMode === "Prohibited") {
    return { block: "unhealthy", detail: "CUDA cannot start: its compute mode is Prohibited" };
  }
  if (health.fabricState !== null && FABRIC_NOT_READY.has(health.fabricState)) {
    return { block: "unhealthy", detail: `CUDA cannot start: the NVLink fabric is ${health.fabricState}` };
  }
  // In a container the memory of a GPU that is cut is not told, which is no fault of it.
  if (reading.migMode === "Enabled") return { block: "mig", detail: cutOf(reading) };
  if (reading.memoryTotalMib === null || reading.memoryUsedMib === null) {
    return { block: "unknown", detail: "the driver gives no memory reading" };
  }
  if ((health.eccUncorrectedVolatile ?? 0) > 0) {
    return {
      block: "degraded",
      detail: `${health.eccUncorrectedVolatile} uncorrectable memory errors since the driver was loaded`,
    };
  }
  if (health.remappedRowsPending === true) {
    return { block: "degraded", detail: "a row remapping waits for a reset" };
  }
  if (health.retiredPagesPending === true) {
    return { block: "degraded", detail: "a page retirement waits for a reset" };
  }
  if (health.repairPending === true) return { block: "degraded", detail: "a repair waits for a reset" };
  if (health.sramThresholdExceeded === true) {
    return { block: "degraded", detail: "more uncorrectable SRAM errors than NVIDIA lets pass" };
  }
  return null;
}
