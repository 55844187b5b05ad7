/** What a request asks for, apart from who asks: the family that it belongs to, and how much of it. */

import type { Request } from "../model/allocation.ts";
import type { Gpu } from "../model/gpu.ts";
import type { GpuUuid } from "../model/ids.ts";
import { isOfKind } from "../model/mig.ts";
import type { LimitedAccount } from "./accounts.ts";
import type { WindowSet } from "./window-plan.ts";

/** What all requests of a family have in common. */
export interface FamilyShape {
  readonly gpus: number;
  readonly maxUtilizationPercent: number;
  readonly maxUtilizationExplicit: boolean;
  /** A part of each of them will do, beside other leases. */
  readonly shared: boolean;
  /** Product names that are acceptable; `null` for any. */
  readonly names: ReadonlySet<string> | null;
  /** The GPUs that its members name, each all of them; `null`: any will do. */
  readonly only: ReadonlySet<GpuUuid> | null;
  /** Whose quotas its members count for; `null`: nobody's. */
  readonly quotas: FamilyQuotas | null;
  /** The reserved windows whose GPUs its members may use. */
  readonly memberOf: WindowSet;
}

/** Only accounts that have a quota of what leases take keep their requests apart: there are few of them. */
export interface FamilyQuotas {
  readonly accounts: readonly LimitedAccount[];
  /** Its members have no `max_duration`; only told apart where GPU-time is limited. */
  readonly endless: boolean;
}

/** What a request asks for that limits are put on. */
export interface Ask {
  /** MiB that each of its GPUs must have. */
  readonly memoryMib: number;
  /** The longest that its lease can last; Infinity: it has no `max_duration`. */
  readonly durationMs: number;
}

/** The most that a request can ask for and be served. */
export type Limit = Ask;

export function askOf({ requirement, maxDurationMs }: Request): Ask {
  return { memoryMib: requirement.memoryMib, durationMs: maxDurationMs ?? Infinity };
}

/** What of a device a request can ask for: one of each is enough to look at (`Inventory.models`). */
export type Device = Pick<Gpu, "name" | "mig">;

/** The part of a request that tells which devices will do. */
export type KindAsked = Pick<Request, "gpuModel" | "migProfile" | "sharing"> & {
  readonly requirement: { readonly gpus: number };
};

/**
 * Which product names a request accepts, of those on this host; `null` when it accepts any. The name of a MIG instance
 * has its profile in it, so that a set of names is one of whole GPUs, or of instances, where either alone will do.
 */
export function acceptableNames(asked: KindAsked, gpus: Iterable<Device>): ReadonlySet<string> | null {
  const { gpuModel, migProfile, sharing, requirement } = asked;
  const isAny = gpuModel === null && migProfile === null;
  if (isAny && requirement.gpus === 1 && sharing === "exclusive") return null;
  const wanted = gpuModel?.toLowerCase() ?? null;
  const names = new Set<string>();
  let all = true;
  for (const gpu of gpus) {
    if (isOfKind(asked, gpu) && (wanted === null || gpu.name.toLowerCase().includes(wanted))) names.add(gpu.name);
    else all = false;
  }
  return isAny && all ? null : names;
}

/** @param quotas, member left out where they do not matter. */
export function shapeOf(
  request: Request,
  gpus: Iterable<Device>,
  quotas: FamilyQuotas | null = null,
  member: WindowSet = 0,
): FamilyShape {
  return {
    gpus: request.requirement.gpus,
    // Readings are whole percents, so limits that differ by a fraction are the same limit.
    maxUtilizationPercent: Math.floor(request.requirement.maxUtilizationPercent),
    maxUtilizationExplicit: request.requirement.maxUtilizationExplicit,
    shared: request.sharing === "shared",
    names: acceptableNames(request, gpus),
    only: request.exactGpus === undefined ? null : new Set(request.exactGpus),
    quotas,
    memberOf: member,
  };
}

export function isWithin({ memoryMib, durationMs }: Ask, limits: readonly Limit[]): boolean {
  for (const limit of limits) if (memoryMib <= limit.memoryMib && durationMs <= limit.durationMs) return true;
  return false;
}
