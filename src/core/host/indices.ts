/**
 * The indices by which `nvidia-smi -i` knows GPUs now. They move when a GPU is drained, lost or added, so what is shown is
 * never what once was. No two GPUs have one; a MIG instance has its GPU's.
 */
import type { Gpu } from "../model/gpu.ts";
import type { GpuUuid } from "../model/ids.ts";
import type { HostReading } from "../model/reading.ts";
import type { Sight } from "./sight.ts";
import type { HostState } from "./state.ts";

/** The index of a GPU now; `null`: the driver does not count it. */
export type IndexOf = (uuid: GpuUuid) => number | null;

/**
 * By the latest reading. Before the first, GPUs are where they were when they were last seen, as far as that is known of
 * one GPU only.
 */
export function indexNow(state: HostState): IndexOf {
  const { indices, lastGoodProbeAt } = state.sight;
  if (lastGoodProbeAt !== null) return (uuid) => indices.get(uuid) ?? null;
  const whole = state.gpus.values().filter(({ mig, lostSince }) => mig === null && lostSince === null);
  return (uuid) => {
    const gpu = state.gpus.get(uuid);
    const board = gpu?.mig === null ? gpu : state.gpus.get(gpu?.mig?.parentUuid ?? "");
    const namesakes = whole.filter(({ index }) => index === board?.index);
    return namesakes.length === 1 && namesakes[0] === board ? (board?.index ?? null) : null;
  };
}

/** The indices that a reading tells. A GPU that was not read keeps its own, unless another has it now. */
export function indicesOf({ gpus, unread }: HostReading, before: Sight["indices"]): Sight["indices"] {
  const indices = new Map(gpus.map(({ uuid, index }) => [uuid, index]));
  const taken = new Set(indices.values());
  for (const uuid of unread ?? []) {
    const index = before.get(uuid);
    if (index !== undefined && !taken.has(index)) indices.set(uuid, index);
  }
  return indices;
}

/**
 * The GPU of that UUID or index: first the one that the driver counts so now, then one that had the index when it was last
 * seen. An index names the GPU, not what it is cut into.
 */
export function findGpu(state: HostState, name: string): Gpu | undefined {
  const byUuid = state.gpus.get(name);
  if (byUuid !== undefined) return byUuid;
  const indexOf = indexNow(state);
  const whole = [...state.gpus.values()].filter(({ mig }) => mig === null);
  const counted = whole.find(({ uuid }) => `${indexOf(uuid) ?? ""}` === name);
  if (counted !== undefined) return counted;
  const byIndex = whole.filter(({ index }) => String(index) === name);
  return byIndex.find(({ uuid }) => state.sight.gpus.has(uuid)) ?? (byIndex.length === 1 ? byIndex[0] : undefined);
}
