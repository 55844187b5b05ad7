/** What a GPU is cut into, as the API shows it. */

import type { HostState } from "../../core/host/state.ts";
import type { Gpu } from "../../core/model/gpu.ts";
import type { MigInstance } from "../../core/model/reading.ts";
import { printable } from "../../platform/printable.ts";
import type { GpuAnswer, MigDeviceAnswer } from "../../wire/gpus/answers.ts";

/**
 * The instances that the driver shows on a GPU, nameless ones included, and those of the inventory that it does not
 * show now.
 *
 * @param view how a device of the inventory is shown.
 */
export function migDevices(
  { uuid: parent }: Gpu,
  state: HostState,
  view: (instance: Gpu) => Omit<GpuAnswer, "mig_devices">,
): MigDeviceAnswer[] {
  const known = state.gpus.instancesOf(parent);
  const shown = state.sight.gpus.get(parent)?.reading.migInstances ?? [];
  if (known.length === 0 && shown.length === 0) return [];
  const devices: MigDeviceAnswer[] = [];
  for (const gpu of known) {
    const { mig } = gpu;
    if (mig === null) continue;
    const index = shown.find(({ uuid }) => uuid === gpu.uuid)?.index ?? null;
    devices.push({ index, ...idsOf(mig), profile: printable(mig.profile), ...partOf(view(gpu)) });
  }
  const named = new Set(known.map(({ uuid }) => uuid));
  for (const instance of shown) {
    if (instance.uuid === null || !named.has(instance.uuid)) devices.push(unnamed(instance));
  }
  return devices.sort(byIds);
}

function byIds(a: MigDeviceAnswer, b: MigDeviceAnswer): number {
  return (
    a.gpu_instance_id - b.gpu_instance_id ||
    a.compute_instance_id - b.compute_instance_id ||
    ((a.uuid ?? "") < (b.uuid ?? "") ? -1 : 1)
  );
}

function idsOf({ gpuInstanceId, computeInstanceId }: Pick<MigInstance, "gpuInstanceId" | "computeInstanceId">) {
  return { gpu_instance_id: gpuInstanceId, compute_instance_id: computeInstanceId };
}

function partOf(view: Omit<GpuAnswer, "mig_devices">) {
  const { uuid, memory_total, memory_used, allocated, allocated_to, allocated_at } = view;
  const { state, reason, since, ailment, cordon, drained, processes, holders } = view;
  return {
    uuid,
    memory_total,
    memory_used,
    allocated,
    allocated_to,
    ...(allocated_at === undefined ? {} : { allocated_at }),
    state,
    reason,
    since,
    ailment,
    cordon,
    drained,
    processes,
    holders,
  };
}

/** One that is not in the inventory, or not known to be: it is seen, and cannot be granted. */
function unnamed(instance: MigInstance): MigDeviceAnswer {
  const { index, uuid, profile, memoryTotalMib, memoryUsedMib } = instance;
  const reason =
    uuid === null
      ? "nvidia-smi -L does not tell its UUID, without which nobody could use it"
      : "seen, but not yet recorded: the store takes no changes";
  return {
    index,
    ...idsOf(instance),
    uuid: uuid === null ? null : printable(uuid),
    profile: profile === null ? null : printable(profile),
    memory_total: memoryTotalMib,
    memory_used: memoryUsedMib,
    allocated: false,
    allocated_to: null,
    state: "unknown",
    reason,
    since: null,
    ailment: null,
    cordon: null,
    drained: false,
    processes: [],
    holders: [],
  };
}
