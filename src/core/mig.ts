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
import type {
  EpochMs,
  Gpu,
  GpuProcess,
  GpuReading,
  GpuUuid,
  HostReading,
  MigIdentity,
  MigInstance,
  Observation,
  Request,
} from "./model.ts";
import type { HostState } from "./state.ts";

/** Hosts are cut anew by destroying all instances and creating others, which takes seconds, at a boot minutes. */
export const FORGOTTEN_AFTER_MS = 10 * 60_000;

/** An observation in which every instance that has a name is a reading of its own, after its GPU's. */
export function withInstances(observation: Observation, { gpus }: HostState): Observation {
  if (!observation.ok) return observation;
  const { reading } = observation;
  const known = gpus.values().filter(isInstance);
  if (known.length === 0 && reading.gpus.every(({ migInstances }) => migInstances.length === 0)) return observation;
  return { ...observation, reading: expanded(reading, known) };
}

type InstanceOfGpu = Gpu & { readonly mig: MigIdentity };

export function isInstance(gpu: Gpu): gpu is InstanceOfGpu {
  return gpu.mig !== null;
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
