import type { GpuReading } from "../model.ts";
import type { Block } from "./survey.ts";

export interface Ailment {
  readonly block: Extract<Block, "lost" | "unhealthy" | "unknown" | "degraded" | "mig">;
  readonly detail: string;
}

/**
 * What a reading says against new leases on a GPU; `null` when nothing does.
 *
 * `lost`: it has left the bus. `unhealthy`: it must not be used before repair. `unknown`: the reading lacks what a
 * grant needs. `degraded`: it works, and new work should go elsewhere. `mig`: it is cut into instances and cannot be
 * used whole.
 *
 * Sources: NVIDIA's GPU memory error management guide (row remapping: pending, failure) and the meaning of
 * `gpu_recovery_action` in its driver documentation.
 */
export function ailmentOf(reading: GpuReading): Ailment | null {
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
  if (reading.memoryTotalMib === null || reading.memoryUsedMib === null) {
    return { block: "unknown", detail: "the driver gives no memory reading" };
  }
  if (reading.migMode === "Enabled") {
    return { block: "mig", detail: "MIG is enabled: the GPU cannot be used whole" };
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
  return null;
}
