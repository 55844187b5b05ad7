import type { AllocationId } from "../model/ids.ts";
import type { GpuReading } from "../model/reading.ts";
import { recoveryEffect } from "./recovery.ts";
import { BUSY_PERCENT, computes, idleCeilingMib, isGhost, memoryInUseMib, occupying, workPercent } from "./use.ts";

export interface Ailment {
  readonly block: "lost" | "unhealthy" | "unknown" | "degraded" | "mig" | "isolated" | "occupied";
  /** In words, with the facts. Contains driver text: escape it where it is shown. */
  readonly detail: string;
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
  const { recoveryAction: action } = health;
  if (action !== null && recoveryEffect(action) === "isolate") {
    return { block: "isolated", detail: `the driver asks for: ${action}` };
  }
  if (health.fabricStatus !== null && health.fabricStatus !== "Success") {
    return { block: "isolated", detail: `the NVLink fabric says: ${health.fabricStatus}` };
  }
  if (health.fabricHealth === "Unhealthy") return { block: "isolated", detail: "its NVLink fabric is unhealthy" };
  return null;
}

const FABRIC_STATES: ReadonlySet<string> = new Set(["Not Supported", "Not Started", "In Progress", "Completed"]);
const FABRIC_HEALTHS: ReadonlySet<string> = new Set(["Not Supported", "Healthy", "Unhealthy", "Limited Capacity"]);

/** What the fabric says in a word that is not known; `null`: nothing. */
function unknownFabricWord({ fabricState, fabricHealth }: GpuReading["health"]): string | null {
  if (fabricState !== null && !FABRIC_STATES.has(fabricState)) return fabricState;
  return fabricHealth !== null && !FABRIC_HEALTHS.has(fabricHealth) ? fabricHealth : null;
}

/** Words that the monitor puts where a reading has none, because `nvidia-smi` cannot reach the GPU. */
const OUT_OF_REACH = /^nvidia-smi\b/;

function isLoss(path: string, words: string): boolean {
  return words.startsWith("GPU is lost") || OUT_OF_REACH.test(path);
}

/** An NVSwitch host whose fabric is not set up: on its GPUs CUDA does not start, with error 802, alone or not. */
const FABRIC_NOT_READY: ReadonlySet<string> = new Set(["Not Started", "In Progress"]);

/** The use of a GPU by a process that does not belong to a lease of it. */
function occupation(reading: GpuReading, owners: ReadonlyMap<number, AllocationId>): Ailment | null {
  const foreign = occupying(reading);
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
  if (total === null || used === null || used <= idleCeilingMib(total, reading)) return null;
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

/** Work of which neither a process nor memory is seen. */
function business(reading: GpuReading, processesHidden: boolean): Ailment | null {
  if (isGhost(reading)) return { block: "occupied", detail: "100 % busy, with no process and no memory in use" };
  const busy = workPercent(reading);
  const { processes } = reading;
  if (!processesHidden || processes.length > 0 || busy === null || busy <= BUSY_PERCENT) return null;
  return { block: "occupied", detail: `${busy} % busy, and whose processes are there is not seen` };
}

/** Readings in a row that show a GPU at work for nobody, after which it is quarantined. */
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
    if (isLoss(path, words)) return { block: "lost", detail: `the driver says "${words}" (${path})` };
  }
  if (health.unrepairableMemory === true) return { block: "unhealthy", detail: "its memory cannot be repaired" };
  if (health.remappedRowsFailure === true) {
    return { block: "unhealthy", detail: "row remapping has failed" };
  }
  const action = health.recoveryAction;
  const effect = action === null ? "none" : recoveryEffect(action);
  if (effect === "exclude") return { block: "unhealthy", detail: `the driver asks for: ${action}` };
  if (reading.computeMode === "Prohibited") {
    return { block: "unhealthy", detail: "CUDA cannot start: its compute mode is Prohibited" };
  }
  if (health.fabricState !== null && FABRIC_NOT_READY.has(health.fabricState)) {
    return { block: "unhealthy", detail: `CUDA cannot start: the NVLink fabric is ${health.fabricState}` };
  }
  // In a container the memory of a GPU that is cut is not told, which is no fault of it.
  if (reading.migMode === "Enabled") return { block: "mig", detail: cutOf(reading) };
  if (Object.keys(errorValues).some((path) => path.startsWith("processes/"))) {
    return { block: "unknown", detail: "it has a process whose pid cannot be read" };
  }
  if (reading.memoryTotalMib === null || memoryInUseMib(reading) === null) {
    return { block: "unknown", detail: "the driver gives no memory reading" };
  }
  if (effect === "unknown") {
    return { block: "degraded", detail: `the driver asks for "${action}", which is not known here` };
  }
  const fabric = unknownFabricWord(health);
  if (fabric !== null) {
    return { block: "degraded", detail: `the NVLink fabric says "${fabric}", which is not known here` };
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
