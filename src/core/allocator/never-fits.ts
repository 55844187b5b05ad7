import { acceptableNames, type Device, type KindAsked } from "../host/demand.ts";
import { isSplit, namelessInstances } from "../host/mig.ts";
import { headroomMib } from "../host/shared-memory.ts";
import type { HostState } from "../host/state.ts";
import type { Request } from "../model/allocation.ts";
import type { Gpu } from "../model/gpu.ts";
import { isOfKind } from "../model/mig.ts";
import { roomsOf } from "./fit.ts";

/** What of a request decides whether a host could ever hold it. */
export type Need = Pick<Request, "requirement" | "gpuModel" | "migProfile" | "sharing" | "exactGpus">;

/** Devices that would do, all alike, and the most that each can give. */
interface Cards {
  readonly gpu: Pick<Gpu, "mig">;
  readonly memoryMib: number;
  readonly count: number;
}

/** Where no GPU is cut, one stands for all of its model. */
function cardsOf(
  need: KindAsked & Pick<Need, "exactGpus">,
  names: ReadonlySet<string> | null,
  state: HostState,
): Cards[] {
  const { gpus, policy, candidates } = state;
  const isWanted = (gpu: Device) => (names === null || names.has(gpu.name)) && isOfKind(need, gpu);
  // Head-room is left by all who share a GPU together.
  const mostOf = (totalMib: number) =>
    need.sharing === "shared" ? totalMib - headroomMib(totalMib, policy.sharing) : totalMib;
  // Without a reading of what is in use, no part of a GPU can be promised.
  const isWhole = ({ uuid }: Pick<Gpu, "uuid">) => state.sight.gpus.get(uuid)?.reading.memorySource !== undefined;
  const someAreWhole = need.sharing === "shared" && gpus.values().some(isWhole);
  const { exactGpus } = need;
  if (exactGpus === undefined && !candidates.areSomeCut && !gpus.hasInstances && !someAreWhole) {
    const models = gpus.models().filter(isWanted);
    return models.map((gpu) => ({ gpu, memoryMib: mostOf(gpu.memoryTotalMib ?? 0), count: gpu.count }));
  }
  const named = exactGpus === undefined ? gpus.values() : exactGpus.flatMap((uuid) => gpus.get(uuid) ?? []);
  const cards = named.filter((gpu) => isWanted(gpu) && !isSplit(gpu, state) && !(someAreWhole && isWhole(gpu)));
  return cards.map((gpu) => ({ gpu, memoryMib: mostOf(gpu.memoryTotalMib ?? 0), count: 1 }));
}

function sizeOf(cards: readonly Cards[]): number {
  return cards.reduce((sum, { count }) => sum + count, 0);
}

/**
 * The memory of the devices that could serve requests of a kind, in MiB, whoever has them and however they are, largest
 * first: the n-th is what each of n can have at most.
 */
export function cardsFor(kind: Omit<Need, "requirement">, state: HostState): number[] {
  const of = (gpus: number) => {
    const need = { ...kind, requirement: { gpus } };
    const cards = cardsOf(need, acceptableNames(need, state.gpus.models()), state);
    const rooms = roomsOf(cards, ({ memoryMib }) => memoryMib);
    return cards.flatMap(({ count }, at) => Array<number>(count).fill(rooms[at] as number));
  };
  // Alone also a MIG instance will do.
  const alone = of(1).reduce((most, mib) => Math.max(most, mib), 0);
  const several = of(2).toSorted((a, b) => b - a);
  return alone === 0 ? [] : [alone, ...several.slice(1)];
}

/**
 * Why this host could never hold the request, whatever is free and whoever is healthy; `null` when it could.
 * Judged on the inventory: every GPU seen and not removed, and MIG instances that are seen and not named.
 */
export function neverFits(need: Need, state: HostState): string | null {
  const { gpus: count, memoryMib } = need.requirement;
  if (need.sharing === "shared" && need.migProfile !== null) {
    return "asked to share a MIG instance: shared leases have whole GPUs only";
  }
  const misnamed = misnamedGpu(need, state);
  if (misnamed !== null) return misnamed;
  const names = acceptableNames(need, state.gpus.models());
  if (names === null && need.exactGpus === undefined && surelyHave(need, state)) return null;
  const cards = cardsOf(need, names, state);
  // What has no name yet may turn out to be what is asked for.
  const mayBeNameless = state.candidates.areSomeCut && need.sharing === "exclusive" && need.exactGpus === undefined;
  if (mayBeNameless && (need.migProfile !== null || count === 1)) {
    for (const gpu of namelessInstances(state)) cards.push({ gpu, memoryMib: gpu.memoryTotalMib ?? 0, count: 1 });
  }
  const rooms = roomsOf(cards, (one) => one.memoryMib);
  const large = sizeOf(cards.filter((_, at) => (rooms[at] as number) >= memoryMib));
  if (large >= count) return null;
  const whole = names !== null && need.gpuModel === null ? "whole GPU" : "GPU";
  const device = `${need.migProfile === null ? whole : "MIG instance"}${count === 1 ? "" : "s"}`;
  const kind = need.migProfile === null ? device : `${device} ${need.migProfile}`;
  const of = need.gpuModel === null ? "" : ` of a model like ${JSON.stringify(need.gpuModel)}`;
  const all = sizeOf(cards);
  if (need.exactGpus !== undefined && all < count) {
    return `of the ${count} ${count === 1 ? "GPU" : "GPUs"} asked for by name ${all === 0 ? "none" : all} would do`;
  }
  if (all < count) return `asked for ${count} ${kind}${of}; this host has ${all === 0 ? "none" : all}`;
  const largest = cards.reduce((most, one) => Math.max(most, one.memoryMib), 0);
  const toShare = need.sharing === "shared" ? " to share" : "";
  return large === 0
    ? `asked for ${memoryMib} MiB per GPU; the largest${of} here has ${largest} MiB${toShare}`
    : `asked for ${count} ${kind}${of} with ${memoryMib} MiB each; this host has ${large}`;
}

/** Counts models, where no GPU is cut. A part of one is asked for with head-room: that is looked at more closely. */
function surelyHave({ requirement, sharing }: Need, { gpus, candidates }: HostState): boolean {
  if (sharing === "shared" || candidates.areSomeCut || gpus.hasInstances) return false;
  let large = 0;
  for (const { memoryTotalMib, count } of gpus.models()) {
    if ((memoryTotalMib ?? 0) >= requirement.memoryMib) large += count;
  }
  return large >= requirement.gpus;
}

/** Which of the GPUs that are asked for by name is not there, or is named twice. */
function misnamedGpu({ exactGpus }: Need, { gpus }: HostState): string | null {
  if (exactGpus === undefined) return null;
  for (const [place, uuid] of exactGpus.entries()) {
    if (gpus.get(uuid) === undefined) return `asked for GPU ${JSON.stringify(uuid)}; this host has none of that name`;
    if (exactGpus.indexOf(uuid) !== place) return `asked for GPU ${JSON.stringify(uuid)} twice`;
  }
  return null;
}
