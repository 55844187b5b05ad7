import type { GpuUuid } from "../../core/model/ids.ts";
import type { GpuReading, HostReading, MigInstance } from "../../core/model/reading.ts";
import { idsIn, type ListedGpu, type ListedInstance } from "./listing.ts";
import { oneLine } from "./text.ts";

/** The listing is asked for anew although nothing has changed: it is joined to the document by numbers. */
const RECHECK_MS = 10 * 60_000;
/** How many readings in a row ask again after an answer that could not be used. */
const EAGER_RETRIES = 3;
/** After those. */
const RETRY_MS = 60_000;

/** What the listing adds to an instance, by the instance's number. */
type Names = ReadonlyMap<number, Pick<ListedInstance, "uuid" | "profile">>;

/**
 * The UUIDs of MIG instances, which the document does not tell, and whether it is time to ask for them.
 *
 *  1. An answer counts for the instances that the reading just before it shows, and for as long as readings show the
 *     same. When they change, it is asked for anew in the same probe.
 *  2. The answer is taken GPU by GPU. One whose numbers are not those of the reading was cut anew between the two runs:
 *     its instances have no UUID until the two agree.
 */
export class KnownInstances {
  /** By GPU: which instances it had, and their names. */
  #known = new Map<GpuUuid, { readonly cut: string; readonly names: Names }>();
  #askedOf: string | null = null;
  #askedAt = Number.NEGATIVE_INFINITY;
  #failures = 0;
  #failure: string | null = null;

  isDue({ gpus }: HostReading, now: number): boolean {
    const split = gpus.filter(isSplit);
    if (split.length === 0) return false;
    if (split.every((gpu) => this.#namesOf(gpu) !== null)) return now - this.#askedAt >= RECHECK_MS;
    if (this.#failures < EAGER_RETRIES || cutOfAll(split) !== this.#askedOf) return true;
    return now - this.#askedAt >= RETRY_MS;
  }

  /** @param answer what `nvidia-smi -L` lists, asked just after `reading`; or why there is no answer. */
  learn({ gpus }: HostReading, answer: readonly ListedGpu[] | string, now: number): void {
    const split = gpus.filter(isSplit);
    const askedOf = cutOfAll(split);
    if (askedOf !== this.#askedOf) this.#failures = 0;
    this.#askedOf = askedOf;
    this.#askedAt = now;
    this.#failure = typeof answer === "string" ? answer : this.#join(split, answer);
    this.#failures = this.#failure === null ? 0 : this.#failures + 1;
  }

  /** `reading` with the UUIDs and profiles that are known, and a warning when some are not. */
  complete(reading: HostReading): HostReading {
    let nameless = 0;
    const gpus = reading.gpus.map((gpu) => {
      if (!isSplit(gpu)) return gpu;
      const names = this.#namesOf(gpu);
      if (names === null) nameless += gpu.migInstances.length;
      const migInstances = gpu.migInstances.map((instance) => ({ ...instance, ...names?.get(instance.index) }));
      return { ...gpu, migInstances };
    });
    if (nameless === 0) return { ...reading, gpus };
    const which = nameless === 1 ? "1 MIG instance has" : `${nameless} MIG instances have`;
    const warning = oneLine(`${which} no UUID and cannot be granted: ${this.#failure ?? "it is not known yet"}`);
    return { ...reading, gpus, warnings: [...reading.warnings, warning] };
  }

  #namesOf(gpu: GpuReading): Names | null {
    const known = this.#known.get(gpu.uuid);
    return known?.cut === cutOf(gpu) ? known.names : null;
  }

  /** @returns why some GPU's instances have no names now; `null`: all have. */
  #join(split: readonly GpuReading[], listing: readonly ListedGpu[]): string | null {
    const uuids = listing.flatMap(({ uuid, instances }) => [uuid, ...instances.map((instance) => instance.uuid)]);
    const repeated = new Set(uuids.filter((uuid, at) => uuids.indexOf(uuid) !== at));
    const known = new Map<GpuUuid, { readonly cut: string; readonly names: Names }>();
    let failure: string | null = null;
    for (const gpu of split) {
      const misfit = misfitOf(gpu, listedAs(gpu, listing), repeated);
      if (typeof misfit === "string") failure ??= misfit;
      else known.set(gpu.uuid, { cut: cutOf(gpu), names: misfit });
    }
    this.#known = known;
    return failure;
  }
}

function isSplit({ migInstances }: GpuReading): boolean {
  return migInstances.length > 0;
}

/** All that tells one way to cut a GPU from another. */
function cutOf({ migInstances }: GpuReading): string {
  const parts = ({ index, gpuInstanceId, computeInstanceId, memoryTotalMib, multiprocessorCount }: MigInstance) =>
    [index, gpuInstanceId, computeInstanceId, memoryTotalMib, multiprocessorCount].join("/");
  return migInstances.map(parts).join(",");
}

function cutOfAll(split: readonly GpuReading[]): string {
  return JSON.stringify(split.map((gpu) => [gpu.uuid, cutOf(gpu)]));
}

/** By its UUID; where it goes by its PCI address, by its index. */
function listedAs({ uuid, index, pciBusId }: GpuReading, listing: readonly ListedGpu[]): ListedGpu | undefined {
  return listing.find((gpu) => (uuid === pciBusId ? gpu.index === index : gpu.uuid === uuid));
}

/** The names of a GPU's instances, or why the listing does not fit it. */
function misfitOf(gpu: GpuReading, listed: ListedGpu | undefined, repeated: ReadonlySet<string>): Names | string {
  if (listed === undefined) return `nvidia-smi -L does not list GPU ${gpu.index}`;
  const names = new Map(listed.instances.map((instance) => [instance.index, instance]));
  if (names.size !== gpu.migInstances.length || listed.instances.length !== names.size) {
    const count = listed.instances.length;
    return `nvidia-smi -L lists ${count} instances of GPU ${gpu.index}, nvidia-smi -q ${gpu.migInstances.length}`;
  }
  for (const { index, gpuInstanceId, computeInstanceId } of gpu.migInstances) {
    const name = names.get(index);
    if (name === undefined) return `nvidia-smi -L does not list instance ${index} of GPU ${gpu.index}`;
    if (repeated.has(name.uuid)) return `nvidia-smi -L lists ${name.uuid} twice`;
    const ids = idsIn(name.uuid);
    if (ids !== null && (ids.gpuInstanceId !== gpuInstanceId || ids.computeInstanceId !== computeInstanceId)) {
      return `nvidia-smi -L lists instance ${index} of GPU ${gpu.index} under other ids than nvidia-smi -q`;
    }
  }
  return new Map([...names].map(([index, { uuid, profile }]) => [index, { uuid, profile }]));
}
