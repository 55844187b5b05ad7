/**
 * GPUs and the slots that they are in. A GPU that is replaced leaves its slot to another, which has nothing to do with
 * what the log says of the one before.
 */
import { pciDevice } from "../../base/pci-address.ts";
import type { EpochMs } from "../../base/time.ts";
import type { Event } from "../../host/events.ts";
import type { HostState } from "../../host/state.ts";
import type { Gpu } from "../../model/gpu.ts";
import type { GpuUuid } from "../../model/ids.ts";
import type { Observation } from "../../model/reading.ts";
import { READINGS_UNTIL_LOST } from "../../readings/health.ts";

export function deviceOf({ pciBusId, mig }: Pick<Gpu, "pciBusId" | "mig">): string | null {
  return mig !== null || pciBusId === null ? null : pciDevice(pciBusId);
}

/** The whole GPUs that were seen at an address, now or once. */
export function gpusAt(device: string, state: HostState): readonly Gpu[] {
  return state.gpus.values().filter((gpu) => deviceOf(gpu) === device);
}

/** GPUs that were never seen before, in slots in which others had been. */
export function newcomersAfter(
  state: HostState,
  { reading, startedAt }: Extract<Observation, { ok: true }>,
): ReadonlyMap<GpuUuid, EpochMs> {
  const unknown = reading.gpus.filter(({ uuid }) => !state.gpus.has(uuid));
  if (unknown.length === 0) return state.sight.newcomers;
  const newcomers = new Map(state.sight.newcomers);
  for (const { uuid, pciBusId, mig } of unknown) {
    // An instance is at the address of the GPU that it is a part of, and takes nobody's place there.
    const device = deviceOf({ pciBusId, mig: mig ?? null });
    if (device === null) continue;
    if (gpusAt(device, state).length > 0) newcomers.set(uuid, startedAt);
  }
  return newcomers;
}

/** What the log said before `gpu` came is of the GPU that was in its slot. */
export function answeredBefore({ uuid }: Pick<Gpu, "uuid">, answeredUpTo: number, at: EpochMs): Event {
  const reason = "it came to the slot of another GPU, which had these errors";
  return { type: "gpu-fault-answered", uuid, at, reason, answeredUpTo };
}

/**
 * Why a GPU is not waited for any more: another is in its slot, and a boot, or the driver's own name for it, says that it
 * stays so. `null`: it may come back.
 */
export function replacedReason(gpu: Gpu, state: HostState): string | null {
  const { uuid, pciBusId, hold } = gpu;
  if (hold.kind !== "free" || state.sight.gpus.has(uuid)) return null;
  const isNamedAnew = uuid === pciBusId;
  const absentFor = state.sight.missing.get(uuid)?.readings ?? 0;
  const isOfEarlierBoot = state.sight.unseenSinceBoot.has(uuid) && absentFor >= READINGS_UNTIL_LOST;
  // Otherwise it is not looked for: that goes through the whole inventory.
  if (!isNamedAnew && !isOfEarlierBoot) return null;
  const device = deviceOf(gpu);
  if (device === null) return null;
  const successor = gpusAt(device, state).find((other) => other.uuid !== uuid && state.sight.gpus.has(other.uuid));
  if (successor === undefined) return null;
  return isNamedAnew
    ? `it is known by its UUID now: ${successor.uuid}`
    : `since the last boot ${successor.uuid} is in its slot`;
}
