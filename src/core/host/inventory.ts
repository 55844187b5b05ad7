import type { Gpu } from "../model/gpu.ts";
import type { GpuUuid } from "../model/ids.ts";

const NONE: readonly Gpu[] = [];

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

  private constructor(gpus: readonly Gpu[], places: ReadonlyMap<GpuUuid, number>) {
    this.#gpus = gpus;
    this.#places = places;
  }

  static readonly empty = new Inventory([], new Map());

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

  /** In the order in which they were first seen. */
  values(): readonly Gpu[] {
    return this.#gpus;
  }

  /** The MIG instances of a GPU, in that order. */
  instancesOf(parent: GpuUuid): readonly Gpu[] {
    this.#instances ??= instancesByParent(this.#gpus);
    return this.#instances.get(parent) ?? NONE;
  }

  without(uuid: GpuUuid): Inventory {
    const gpus = this.#gpus.filter((gpu) => gpu.uuid !== uuid);
    return new Inventory(gpus, new Map(gpus.map((gpu, place) => [gpu.uuid, place])));
  }

  /** The same GPUs with these as given, new ones added. */
  with(changed: readonly Gpu[]): Inventory {
    const gpus = [...this.#gpus];
    let places = this.#places;
    for (const gpu of changed) {
      const place = places.get(gpu.uuid);
      if (place === undefined) {
        places = new Map(places).set(gpu.uuid, gpus.length);
        gpus.push(gpu);
      } else gpus[place] = gpu;
    }
    return new Inventory(gpus, places);
  }
}
