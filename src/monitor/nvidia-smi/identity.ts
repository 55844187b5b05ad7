import type { GpuUuid } from "../../core/model/ids.ts";
import type { HostReading } from "../../core/model/reading.ts";
import { oneLine } from "./text.ts";

/**
 * Keeps a GPU's name while the driver cannot say it. A failing GPU may lose its UUID from one reading to the next;
 * under its PCI address it would pass for a new GPU, free to be leased beside the lease that stands on the old name.
 */
export class KnownGpus {
  readonly #uuidByAddress = new Map<string, GpuUuid>();

  /** `reading` with UUIDs of earlier readings where it has only a PCI address, and a warning for each. */
  recognise(reading: HostReading): HostReading {
    const present = new Set(reading.gpus.map((gpu) => gpu.uuid));
    const warnings = [...reading.warnings];
    const gpus = reading.gpus.map((gpu) => {
      if (gpu.pciBusId === null) return gpu;
      if (gpu.uuid !== gpu.pciBusId) {
        this.#uuidByAddress.set(gpu.pciBusId, gpu.uuid);
        return gpu;
      }
      const known = this.#uuidByAddress.get(gpu.pciBusId);
      if (known === undefined || present.has(known)) return gpu;
      present.add(known);
      warnings.push(oneLine(`the GPU at ${gpu.pciBusId} is taken for ${known}, which was there before`));
      return { ...gpu, uuid: known };
    });
    return { ...reading, gpus, warnings };
  }
}
