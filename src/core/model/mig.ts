/** What a device tells of itself as a MIG instance. The numbers are those of decisions/observe/instances.ts. */

import type { Request } from "./allocation.ts";
import type { MigIdentity } from "./device.ts";
import type { Gpu } from "./gpu.ts";
import type { GpuUuid } from "./ids.ts";

export type InstanceOfGpu = Gpu & { readonly mig: MigIdentity };

export function isInstance(gpu: Gpu): gpu is InstanceOfGpu {
  return gpu.mig !== null;
}

/** Whether a device is of the kind that is asked for, whole or instance: see 2. */
export function isOfKind(
  {
    migProfile,
    sharing,
    requirement,
  }: Pick<Request, "migProfile" | "sharing"> & { readonly requirement: { readonly gpus: number } },
  { mig }: Pick<Gpu, "mig">,
): boolean {
  if (sharing === "shared" && mig !== null) return false;
  if (migProfile === null) return mig === null || requirement.gpus === 1;
  return mig !== null && mig.profile.toLowerCase() === migProfile.toLowerCase();
}

/** What names the memory of an instance: that of its GPU instance. `null`: a whole GPU, which has its own. */
export function memoryPoolOf({ mig }: Pick<Gpu, "mig">): string | null {
  return mig === null ? null : `${mig.parentUuid}/${mig.gpuInstanceId}`;
}

/** The device itself, or the GPU that it is an instance of: that is where it sits. */
export function boardOf({ uuid, mig }: Pick<Gpu, "uuid" | "mig">): GpuUuid {
  return mig?.parentUuid ?? uuid;
}
