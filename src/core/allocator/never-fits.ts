import { acceptableNames, type KindAsked } from "../host/demand.ts";
import { isSplit, namelessInstances } from "../host/mig.ts";
import { headroomMib } from "../host/shared-memory.ts";
import type { HostState } from "../host/state.ts";
import type { Request } from "../model/allocation.ts";
import type { Gpu } from "../model/gpu.ts";
import { isOfKind } from "../model/mig.ts";
import { roomsOf } from "./fit.ts";

/** What of a request decides whether a host could ever hold it. */
export type Need = Pick<Request, "requirement" | "gpuModel" | "migProfile" | "sharing">;

/** A device that would do, and the most that it can give. */
interface Card {
  readonly gpu: Pick<Gpu, "mig">;
  readonly memoryMib: number;
}

function cardsOf(need: KindAsked, names: ReadonlySet<string> | null, state: HostState): Card[] {
  const cards: Card[] = [];
  for (const gpu of state.gpus.values()) {
    if ((names !== null && !names.has(gpu.name)) || !isOfKind(need, gpu) || isSplit(gpu, state)) continue;
    const totalMib = gpu.memoryTotalMib ?? 0;
    // Head-room is left by all who share a GPU together.
    const mostMib = need.sharing === "shared" ? totalMib - headroomMib(totalMib, state.policy.sharing) : totalMib;
    cards.push({ gpu, memoryMib: mostMib });
  }
  return cards;
}

/**
 * The memory of the devices that could serve requests of a kind, in MiB, whoever has them and however they are, largest
 * first: the n-th is what each of n can have at most.
 */
export function cardsFor(kind: Omit<Need, "requirement">, state: HostState): number[] {
  const of = (gpus: number) => {
    const need = { ...kind, requirement: { gpus } };
    return roomsOf(cardsOf(need, acceptableNames(need, state.gpus.values()), state), (card) => card.memoryMib);
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
  const names = acceptableNames(need, state.gpus.values());
  const model: Card[] = cardsOf(need, names, state);
  // What has no name yet may turn out to be what is asked for.
  if (need.sharing === "exclusive" && (need.migProfile !== null || count === 1)) {
    for (const gpu of namelessInstances(state)) model.push({ gpu, memoryMib: gpu.memoryTotalMib ?? 0 });
  }
  const large = roomsOf(model, (one) => one.memoryMib).filter((roomMib) => roomMib >= memoryMib).length;
  if (large >= count) return null;
  const whole = names !== null && need.gpuModel === null ? "whole GPU" : "GPU";
  const device = `${need.migProfile === null ? whole : "MIG instance"}${count === 1 ? "" : "s"}`;
  const kind = need.migProfile === null ? device : `${device} ${need.migProfile}`;
  const of = need.gpuModel === null ? "" : ` of a model like ${JSON.stringify(need.gpuModel)}`;
  if (model.length < count) {
    return `asked for ${count} ${kind}${of}; this host has ${model.length === 0 ? "none" : model.length}`;
  }
  const largest = model.reduce((most, one) => Math.max(most, one.memoryMib), 0);
  const toShare = need.sharing === "shared" ? " to share" : "";
  return large === 0
    ? `asked for ${memoryMib} MiB per GPU; the largest${of} here has ${largest} MiB${toShare}`
    : `asked for ${count} ${kind}${of} with ${memoryMib} MiB each; this host has ${large}`;
}
