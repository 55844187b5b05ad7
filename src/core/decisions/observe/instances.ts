/**
 * MIG: GPUs that are cut into instances, each a device of its own. Source: NVIDIA's Multi-Instance GPU user guide.
 *
 *  1. An instance that the driver names (`nvidia-smi -L`) is a device: it has a UUID, a reading and a place in the
 *     inventory like a GPU. Its health is its GPU's.
 *  2. While a GPU has MIG on, it is not granted whole; a placement has whole GPUs or instances, never both. A CUDA
 *     process sees one instance at most, so several are granted only to a request that names a profile; a request for
 *     one device may get an instance that has the memory.
 *  3. Compute instances of one GPU instance share its memory: each is offered what the others leave of it, by what was
 *     promised to them and by what they are seen to use, whichever is more. An instance is a part already: shared leases
 *     have whole GPUs only.
 *  4. A process counts for the instance whose ids the driver gives it; without ids for every instance that it may be on.
 *  5. An instance that is gone from a GPU which reads well has been destroyed. After {@link FORGOTTEN_AFTER_MS} it leaves
 *     the inventory, unless a lease still holds it.
 */
import type { HostState } from "../../host/state.ts";
import type { GpuUuid } from "../../model/ids.ts";
import { type InstanceOfGpu, isInstance } from "../../model/mig.ts";
import type { GpuProcess, GpuReading, HostReading, MigInstance, Observation } from "../../model/reading.ts";

/** An observation in which every instance that has a name is a reading of its own, after its GPU's. */
export function withInstances(observation: Observation, { gpus }: HostState): Observation {
  if (!observation.ok) return observation;
  const { reading } = observation;
  const known = gpus.values().filter(isInstance);
  if (known.length === 0 && reading.gpus.every(({ migInstances }) => migInstances.length === 0)) return observation;
  return { ...observation, reading: expanded(reading, known) };
}

function expanded(reading: HostReading, known: readonly InstanceOfGpu[]): HostReading {
  const readings = reading.gpus.flatMap((gpu) => [gpu, ...instanceReadings(gpu)]);
  const present = new Set(readings.map(({ uuid }) => uuid));
  const absent = known.filter(({ uuid }) => !present.has(uuid));
  const ofThose = (parents: Iterable<GpuUuid>) => {
    const uuids = new Set(parents);
    return absent.filter(({ mig }) => uuids.has(mig.parentUuid)).map(({ uuid }) => uuid);
  };
  const unread = reading.unread ?? [];
  const nameless = reading.gpus.filter(({ migInstances }) => migInstances.some(({ uuid }) => uuid === null));
  return {
    ...reading,
    gpus: readings,
    unread: [...unread, ...ofThose(unread)],
    doubted: ofThose(nameless.map(({ uuid }) => uuid)),
  };
}

function instanceReadings(gpu: GpuReading): GpuReading[] {
  const readings: GpuReading[] = [];
  for (const instance of gpu.migInstances) {
    const { uuid, profile } = instance;
    if (uuid !== null && profile !== null) readings.push(instanceReading(gpu, instance, uuid, profile));
  }
  return readings;
}

function instanceReading(gpu: GpuReading, instance: MigInstance, uuid: GpuUuid, profile: string): GpuReading {
  const { gpuInstanceId, computeInstanceId, memoryTotalMib, memoryUsedMib } = instance;
  const othersUseMib = usedBesideIt(gpu, instance);
  return {
    uuid,
    index: gpu.index,
    minorNumber: null,
    name: `${gpu.name} MIG ${profile}`,
    serial: gpu.serial,
    pciBusId: gpu.pciBusId,
    memoryTotalMib,
    memoryReservedMib: null,
    memoryUsedMib: memoryUsedMib === null ? null : Math.max(0, memoryUsedMib - othersUseMib),
    memoryFreeMib: memoryTotalMib === null || memoryUsedMib === null ? null : memoryTotalMib - memoryUsedMib,
    // The driver tells these of the whole GPU alone.
    utilizationPercent: null,
    temperatureC: null,
    powerDrawW: null,
    powerLimitW: null,
    computeMode: gpu.computeMode,
    persistenceMode: gpu.persistenceMode,
    migMode: null,
    migInstances: [],
    mig: { parentUuid: gpu.uuid, profile, gpuInstanceId, computeInstanceId },
    othersUseMib,
    processes: gpu.processes.filter((process) => mayBeOn(process, instance)),
    health: gpu.health,
    errorValues: gpu.errorValues,
  };
}

function mayBeOn(process: GpuProcess, { gpuInstanceId, computeInstanceId }: MigInstance): boolean {
  return (
    (process.gpuInstanceId ?? gpuInstanceId) === gpuInstanceId &&
    (process.computeInstanceId ?? computeInstanceId) === computeInstanceId
  );
}

/**
 * MiB of its memory that processes of other compute instances use. What no such process explains counts as its own: a
 * process that does not tell its memory, or is not shown, may be anywhere.
 */
function usedBesideIt({ processes }: GpuReading, { gpuInstanceId, computeInstanceId, memoryUsedMib }: MigInstance) {
  let usedMib = 0;
  for (const process of processes) {
    if (process.gpuInstanceId !== gpuInstanceId || process.computeInstanceId === null) continue;
    if (process.computeInstanceId !== computeInstanceId) usedMib += process.usedMemoryMib ?? 0;
  }
  return Math.min(usedMib, memoryUsedMib ?? usedMib);
}
