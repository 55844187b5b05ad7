/** MIG instances among the GPUs of the inventory. The numbers are those of decisions/observe/instances.ts. */

import type { EpochMs } from "../base/time.ts";
import type { Gpu } from "../model/gpu.ts";
import type { HostState } from "./state.ts";

/** Hosts are cut anew by destroying all instances and creating others, which takes seconds, at a boot minutes. */
export const FORGOTTEN_AFTER_MS = 10 * 60_000;

/** The GPU that an instance is cut from; `undefined` of a whole GPU. */
export function parentOf({ mig }: Gpu, { gpus }: HostState): Gpu | undefined {
  return mig === null ? undefined : gpus.get(mig.parentUuid);
}

/** The other compute instances of its GPU instance, which share its memory. */
export function sharersOf(gpu: Gpu, { gpus }: HostState): readonly Gpu[] {
  const { mig } = gpu;
  if (mig === null) return [];
  return gpus.instancesOf(mig.parentUuid).filter((other) => {
    return other.uuid !== gpu.uuid && other.mig?.gpuInstanceId === mig.gpuInstanceId;
  });
}

/** MiB of its memory that leases of its sharers were promised. See 3. */
export function promisedBesideMib(gpu: Gpu, state: HostState): number {
  let promisedMib = 0;
  for (const { hold } of sharersOf(gpu, state)) {
    if (hold.kind !== "leased") continue;
    promisedMib += state.allocations.get(hold.allocationId)?.request.requirement.memoryMib ?? 0;
  }
  return promisedMib;
}

/**
 * What stands on the same silicon in the way of granting a device: its GPU's hold, an instance's, or one that shares its
 * memory and may still have some. `null`: nothing does.
 */
export function entanglementOf(gpu: Gpu, state: HostState): Gpu | null {
  const parent = parentOf(gpu, state);
  if (parent !== undefined && parent.hold.kind !== "free") return parent;
  if (gpu.mig !== null) return sharersOf(gpu, state).find(({ hold }) => hold.kind === "reclaiming") ?? null;
  const instances = state.gpus.instancesOf(gpu.uuid);
  return instances.find(({ hold }) => hold.kind === "leased" || hold.kind === "reclaiming") ?? null;
}

/** Whether an instance that is not seen may be one of those that the driver does not name now. */
export function isDoubted({ mig }: Gpu, { sight }: HostState): boolean {
  const parent = mig === null ? undefined : sight.gpus.get(mig.parentUuid);
  return parent?.reading.migInstances.some(({ uuid }) => uuid === null) ?? false;
}

/** The instances that are seen on GPUs of the inventory and not named, as devices of no name. */
export function* namelessInstances({ gpus, sight }: HostState): Generator<Pick<Gpu, "mig" | "memoryTotalMib">> {
  for (const { uuid } of gpus.values()) {
    for (const instance of sight.gpus.get(uuid)?.reading.migInstances ?? []) {
      if (instance.uuid !== null) continue;
      const { gpuInstanceId, computeInstanceId, memoryTotalMib } = instance;
      yield { mig: { parentUuid: uuid, profile: "", gpuInstanceId, computeInstanceId }, memoryTotalMib };
    }
  }
}

/** Whether a GPU is cut, or ready to be: by its latest reading; without one, by what the inventory holds. See 2. */
export function isSplit({ uuid, mig }: Gpu, { gpus, sight }: HostState): boolean {
  if (mig !== null) return false;
  const mode = sight.gpus.get(uuid)?.reading.migMode ?? null;
  return mode === null ? gpus.instancesOf(uuid).length > 0 : mode === "Enabled";
}

/** Why an instance can be forgotten at `now`; `null` when it cannot. See 5. */
export function goneReason(gpu: Gpu, { sight }: HostState, now: EpochMs): string | null {
  if (gpu.mig === null || gpu.hold.kind === "leased") return null;
  const absence = sight.missing.get(gpu.uuid);
  const parent = sight.gpus.get(gpu.mig.parentUuid);
  // A GPU that does not tell its mode does not tell its instances either.
  if (absence === undefined || (parent?.reading.migMode ?? null) === null) return null;
  if (now - absence.since < FORGOTTEN_AFTER_MS) return null;
  return "the instance is gone, and its GPU reads well without it";
}
