import type { Gpu, GpuUuid } from "./model.ts";

/**
 * Every GPU that was seen once, as a value. Changing one copies an array of references, which for the GPUs of one host
 * is cheaper than any tree.
 */
export class Inventory {
  readonly #gpus: readonly Gpu[];
  readonly #places: ReadonlyMap<GpuUuid, number>;

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
