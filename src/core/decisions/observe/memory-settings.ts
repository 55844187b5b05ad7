/**
 * What the settings and the host say of a GPU's memory where the driver does not.
 *
 *  1. A size that the driver tells is the size. Where it tells none, as with unified memory, the settings do, or the host:
 *     an integrated GPU shares its memory, of which {@link KEPT_FOR_HOST_MIB} are left to the host.
 *  2. A GPU with an error in the place of its size is sick, and not one of unified memory.
 */
import type { MemoryByGpu, Policy } from "../../model/policy.ts";
import type { GpuReading, HostReading, Observation } from "../../model/reading.ts";

export const KEPT_FOR_HOST_MIB = 8 * 1024;

/** Boards on which CPU and GPU have one memory, and the driver tells no size. */
const INTEGRATED = /\b(?:GB10|N1X?|Thor|Orin|Xavier|Tegra)\b/i;

export function withMemorySettings(observation: Observation, policy: Policy): Observation {
  if (!observation.ok) return observation;
  const { gpus: shown } = observation.reading;
  const isSilent = policy.idleMemoryMib === undefined || Object.keys(policy.idleMemoryMib).length === 0;
  if (isSilent && shown.every(({ memoryTotalMib }) => memoryTotalMib !== null)) return observation;
  const gpus = shown.map((gpu) => withIdleLevel(withSize(gpu, observation.reading, policy), policy));
  return { ...observation, reading: { ...observation.reading, gpus } };
}

function withSize(gpu: GpuReading, { hostMemoryMib }: HostReading, { memoryMib }: Policy): GpuReading {
  if (gpu.memoryTotalMib !== null || gpu.migMode === "Enabled" || hasMemoryError(gpu)) return gpu;
  const stated = statedFor(gpu, memoryMib);
  if (stated !== null) return { ...gpu, memoryTotalMib: stated, memorySource: "settings" };
  const leftMib = (hostMemoryMib ?? 0) - KEPT_FOR_HOST_MIB;
  if (leftMib <= 0 || !INTEGRATED.test(gpu.name)) return gpu;
  return { ...gpu, memoryTotalMib: leftMib, memorySource: "host" };
}

function hasMemoryError({ errorValues }: GpuReading): boolean {
  return Object.keys(errorValues).some((path) => path.startsWith("fb_memory_usage") || path.startsWith("nvidia-smi"));
}

function withIdleLevel(gpu: GpuReading, { idleMemoryMib }: Policy): GpuReading {
  const stated = statedFor(gpu, idleMemoryMib);
  return stated === null ? gpu : { ...gpu, idleMemoryMib: stated };
}

function statedFor({ uuid, name }: GpuReading, table: MemoryByGpu = {}): number | null {
  const exact = table[uuid];
  if (exact !== undefined) return exact;
  const model = name.toLowerCase();
  const [longest] = Object.keys(table)
    .filter((key) => model.includes(key.toLowerCase()))
    .sort((a, b) => b.length - a.length || (a < b ? -1 : 1));
  return longest === undefined ? null : (table[longest] ?? null);
}
