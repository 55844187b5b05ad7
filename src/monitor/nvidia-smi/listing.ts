/**
 * What `nvidia-smi -L` prints: the only place where the program tells the UUIDs of MIG instances. It has no
 * specification; it was learned from the output of drivers 450 to 590:
 *
 *     GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-8d7f...)
 *       MIG 3g.40gb     Device  0: (UUID: MIG-1f0c...)
 *
 * The device number is the `index` of `nvidia-smi -q -x`. Drivers 450 and 460 name an instance by its parent and its
 * ids, `MIG-GPU-<uuid>/<GPU instance>/<compute instance>`; later ones give it a UUID of its own.
 */
import { MAX_GPUS } from "./document.ts";

/** Of 512 GPUs with 7 instances each it takes 0.3 MB. */
export const MAX_LISTING_BYTES = 1024 * 1024;
/** NVIDIA cuts a GPU into at most 7. */
const MAX_INSTANCES = 64 * MAX_GPUS;

export interface ListedInstance {
  /** Its number within its GPU. */
  readonly index: number;
  readonly uuid: string;
  /** Such as `1g.10gb`, `1c.3g.71gb`, `1g.10gb+me`. */
  readonly profile: string;
}

export interface ListedGpu {
  readonly index: number;
  readonly uuid: string;
  readonly instances: readonly ListedInstance[];
}

/** UUIDs are printable ASCII without blanks and parentheses. */
const GPU_LINE = /^GPU (\d{1,4}): .*\(UUID: ([!-'*-~]{1,128})\)\s*$/;
const INSTANCE_LINE = /^\s+MIG ([\w.+-]{1,64})\s+Device\s+(\d{1,4}): \(UUID: (MIG-[!-'*-~]{1,160})\)\s*$/;

/** The GPUs that `output` lists, with their instances. Lines of any other form are passed over. */
export function parseListing(output: Uint8Array | string): readonly ListedGpu[] {
  const text = typeof output === "string" ? output : new TextDecoder("utf-8").decode(output);
  const gpus: { index: number; uuid: string; instances: ListedInstance[] }[] = [];
  let instances = 0;
  for (const line of text.split("\n")) {
    const gpu = GPU_LINE.exec(line);
    if (gpu !== null) {
      if (gpus.length === MAX_GPUS) break;
      gpus.push({ index: Number(gpu[1]), uuid: gpu[2] as string, instances: [] });
      continue;
    }
    const instance = INSTANCE_LINE.exec(line);
    if (instance === null || instances === MAX_INSTANCES) continue;
    instances++;
    const [, profile, index, uuid] = instance as unknown as [string, string, string, string];
    gpus.at(-1)?.instances.push({ index: Number(index), uuid, profile });
  }
  return gpus;
}

const NAMED_BY_IDS = /^MIG-GPU-.+\/(\d+)\/(\d+)$/;

/** The ids of GPU and compute instance that the UUID of an old driver consists of; `null` for any other UUID. */
export function idsIn(uuid: string): { readonly gpuInstanceId: number; readonly computeInstanceId: number } | null {
  const found = NAMED_BY_IDS.exec(uuid);
  return found === null ? null : { gpuInstanceId: Number(found[1]), computeInstanceId: Number(found[2]) };
}
