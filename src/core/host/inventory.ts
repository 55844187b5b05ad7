import type { Gpu } from "../model/gpu.ts";
import type { GpuUuid } from "../model/ids.ts";

const NONE: readonly Gpu[] = [];
const NO_INSTANCES: ReadonlyMap<GpuUuid, readonly Gpu[]> = new Map();

/** What an inventory has several of: GPUs of one name and memory, or instances of one profile. */
export interface GpuModel {
  readonly name: string;
  readonly memoryTotalMib: number | null;
  readonly mig: Gpu["mig"];
  readonly count: number;
}

function modelsOf(gpus: readonly Gpu[]): readonly GpuModel[] {
  const models = new Map<string, GpuModel>();
  for (const { name, memoryTotalMib, mig } of gpus) {
    const key = `${memoryTotalMib}|${mig === null ? "" : mig.profile}|${name}`;
    models.set(key, { name, memoryTotalMib, mig, count: (models.get(key)?.count ?? 0) + 1 });
  }
  return [...models.values()];
}

function instancesByParent(gpus: readonly Gpu[]): ReadonlyMap<GpuUuid, readonly Gpu[]> {
  const instances = new Map<GpuUuid, Gpu[]>();
  for (const gpu of gpus) {
    if (gpu.mig === null) continue;
    const beside = instances.get(gpu.mig.parentUuid);
    if (beside === undefined) instances.set(gpu.mig.parentUuid, [gpu]);
    else beside.push(gpu);
  }
  return instances;
}

/**
 * Every GPU that was seen once, as a value. Changing one copies an array of references, which for the GPUs of one host
 * is cheaper than any tree.
 */
export class Inventory {
  readonly #gpus: readonly Gpu[];
  readonly #places: ReadonlyMap<GpuUuid, number>;
  /** Made when it is first asked for. */
  #instances: ReadonlyMap<GpuUuid, readonly Gpu[]> | null = null;
  /** Made when they are first asked for, and again when one becomes another. */
  #models: readonly GpuModel[] | null = null;
  readonly hasInstances: boolean;

  private constructor(gpus: readonly Gpu[], places: ReadonlyMap<GpuUuid, number>, hasInstances: boolean) {
    this.#gpus = gpus;
    this.#places = places;
    this.hasInstances = hasInstances;
  }

  static readonly empty = new Inventory([], new Map(), false);

  get size(): number {
    return this.#gpus.length;
  }

  has(uuid: GpuUuid): boolean {
    return this.#places.has(uuid);
  }

  get(uuid: GpuUuid): Gpu | undefined {
    const place = this.#places.get(uuid);
    return place === undefined ? undefined : this.#gpus[place];
  }

  /** Whether both surely have the same GPUs in the same places. */
  isInOrderOf(other: Inventory): boolean {
    return this.#places === other.#places;
  }

  /** Its place in {@link values}. */
  placeOf(uuid: GpuUuid): number {
    return this.#places.get(uuid) as number;
  }

  /** How many there are of what. */
  models(): readonly GpuModel[] {
    this.#models ??= modelsOf(this.#gpus);
    return this.#models;
  }

  /** In the order in which they were first seen. */
  values(): readonly Gpu[] {
    return this.#gpus;
  }

  /** The MIG instances of a GPU, in that order. */
  instancesOf(parent: GpuUuid): readonly Gpu[] {
    this.#instances ??= this.hasInstances ? instancesByParent(this.#gpus) : NO_INSTANCES;
    return this.#instances.get(parent) ?? NONE;
  }

  without(uuid: GpuUuid): Inventory {
    const gpus = this.#gpus.filter((gpu) => gpu.uuid !== uuid);
    const hasInstances = gpus.some(({ mig }) => mig !== null);
    return new Inventory(gpus, new Map(gpus.map((gpu, place) => [gpu.uuid, place])), hasInstances);
  }

  /** The same GPUs with these as given, new ones added. */
  with(changed: readonly Gpu[]): Inventory {
    const gpus = this.#gpus.slice();
    let places = this.#places;
    let { hasInstances } = this;
    let models = this.#models;
    for (const gpu of changed) {
      const place = places.get(gpu.uuid);
      const before = place === undefined ? undefined : gpus[place];
      if (!isOfSameModel(before, gpu)) models = null;
      hasInstances ||= gpu.mig !== null;
      if (place === undefined) {
        places = new Map(places).set(gpu.uuid, gpus.length);
        gpus.push(gpu);
      } else gpus[place] = gpu;
    }
    const next = new Inventory(gpus, places, hasInstances);
    next.#models = models;
    return next;
  }
}

function isOfSameModel(a: Gpu | undefined, b: Gpu): boolean {
  if (a === undefined || a.name !== b.name || a.memoryTotalMib !== b.memoryTotalMib) return false;
  return a.mig === b.mig || (a.mig !== null && b.mig !== null && a.mig.profile === b.mig.profile);
}
