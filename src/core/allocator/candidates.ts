/**
 * Which GPUs may be granted now, and which later: what the driver shows and what the books say, put together. Which of
 * them fit a request says fit.ts, and which are taken place.ts.
 */
import type { EpochMs } from "../base/time.ts";
import { ailing, type Block, blockOf, isolationOf, strainOf } from "../host/condition.ts";
import { promisedBesideMib } from "../host/mig.ts";
import { closedToShares, shareableMib, shareableWhenEmptyMib } from "../host/shared-memory.ts";
import type { GpuSight } from "../host/sight.ts";
import type { HostState } from "../host/state.ts";
import type { Gpu } from "../model/gpu.ts";
import type { GpuReading } from "../model/reading.ts";
import { idleCeilingMib } from "../readings/health.ts";

/** Why one request passes over one GPU. */
export type PassReason =
  | Block
  | "memory"
  | "kind"
  | "model"
  | "utilization"
  | "isolated"
  | "reserved"
  | "quota"
  | "window"
  /** Of a shared GPU, for one more share: the last one still takes memory, or there are as many as there may be. */
  | "settling"
  | "crowded";

/** A GPU that may be granted, whole or a part of it. */
export interface Candidate {
  readonly gpu: Gpu;
  /** MiB that a new lease finds there: an exclusive one, until fit.ts asks for a shared one. */
  readonly availableMib: number;
  /** MiB that a new shared lease finds there. */
  readonly shareableMib: number;
  /** It has shares already, so nobody gets it alone. */
  readonly shared: boolean;
  /** Why it takes no more shares for now; `null`: it does. */
  readonly closed: "settling" | "crowded" | null;
  readonly utilizationPercent: number | null;
  /** The driver slows it for heat or power, or it is degraded: taken last. */
  readonly strained: boolean;
  /** It cannot work together with others. */
  readonly isolated: boolean;
  /** MiB in use now: the level to which it must return after a lease. */
  readonly baselineMib: number;
  /** The longest that a lease granted there now may last; Infinity: it is held for nobody. */
  readonly longestMs: number;
}

/** A GPU that is free, or will be once its lease has ended. */
export interface FutureCandidate {
  readonly gpu: Gpu;
  /** MiB that a new exclusive lease will find there, as far as can be told. */
  readonly memoryMib: number;
  /** MiB that a new shared lease will find there. */
  readonly shareableMib: number;
  /** It cannot work together with others. */
  readonly isolated: boolean;
  /** How it can be had now; `null`: it is held, or shared. */
  readonly now: Candidate | null;
}

/** What there will be once today's leases have ended. Beside a desktop, a GPU that is free now has no more than that. */
export function futureCandidates(state: HostState, free: readonly Candidate[], now: EpochMs): FutureCandidate[] {
  const whole = free.filter(({ shared }) => !shared);
  const freeNow = new Map(whole.map((candidate) => [candidate.gpu.uuid, candidate]));
  return state.gpus
    .values()
    .filter((gpu) => comesFree(gpu, state, now))
    .map((gpu) => {
      const candidate = freeNow.get(gpu.uuid) ?? null;
      return {
        gpu,
        memoryMib: roomOf(gpu, candidate),
        shareableMib: candidate?.shareableMib ?? shareableWhenEmptyMib(gpu, state.policy.sharing),
        isolated: isolationOf(gpu, state) !== null,
        now: candidate,
      };
    });
}

/** What others take of a memory that is shared, they take for as long as their leases last. */
function roomOf({ mig, memoryTotalMib }: Gpu, now: Candidate | null): number {
  return (mig === null ? now?.availableMib : null) ?? memoryTotalMib ?? 0;
}

/** Whether nothing but a lease stands in a GPU's way. What a lease itself does to its GPU does not count. */
function comesFree(gpu: Gpu, state: HostState, now: EpochMs): boolean {
  switch (gpu.hold.kind) {
    case "quarantined":
      return false;
    case "leased":
    case "shared":
    case "reclaiming": {
      if (gpu.hold.kind === "shared" && gpu.hold.overdueSince !== null) return false;
      const block = ailing(gpu, state, now)?.block ?? "occupied";
      return block === "occupied";
    }
    case "free":
      return ailing(gpu, state, now) === null;
    default:
      return gpu.hold satisfies never;
  }
}

/**
 * MiB that a new exclusive lease finds on a GPU that may be granted. An empty one is offered whole: what the driver keeps
 * for itself is not somebody's use.
 */
function availableMibOf(gpu: Gpu, reading: GpuReading, state: HostState): number {
  const total = reading.memoryTotalMib as number;
  // Of memory that is shared (instances.ts, 3) every free sharer is offered the same.
  const used = (reading.memoryUsedMib as number) + (reading.othersUseMib ?? 0);
  const taken = used <= idleCeilingMib(total) ? 0 : used;
  return total - (gpu.mig === null ? taken : Math.max(taken, promisedBesideMib(gpu, state)));
}

/** The same free GPUs, with the memory that is left for them in `state`: one granted may have shared its own. */
export function withRoomIn(state: HostState, free: readonly Candidate[]): readonly Candidate[] {
  if (free.every(({ gpu }) => gpu.mig === null)) return free;
  return free.map((candidate) => {
    const { gpu } = candidate;
    if (gpu.mig === null) return candidate;
    const { reading } = state.sight.gpus.get(gpu.uuid) as GpuSight;
    return { ...candidate, availableMib: availableMibOf(gpu, reading, state) };
  });
}

/** Whether anybody may have it, or a part of it. The processes on a shared GPU count as its leases' own. */
function isOpen(gpu: Gpu, state: HostState, now: EpochMs): boolean {
  const { hold } = gpu;
  if (hold.kind !== "shared") return blockOf(gpu, state, now) === null;
  const block = ailing(gpu, state, now)?.block ?? null;
  return hold.overdueSince === null && (block === null || block === "occupied");
}

/**
 * Every GPU that may be granted at `now`, whole or in part, in no order that counts. Linear in the host's GPUs, and in
 * the leases and processes of those that are shared.
 */
export function candidates(state: HostState, now: EpochMs): Candidate[] {
  const free: Candidate[] = [];
  for (const gpu of state.gpus.values()) {
    if (!isOpen(gpu, state, now)) continue;
    const sight = state.sight.gpus.get(gpu.uuid) as GpuSight;
    const { reading } = sight;
    free.push({
      gpu,
      availableMib: availableMibOf(gpu, reading, state),
      shareableMib: shareableMib(gpu, sight, state.policy.sharing),
      shared: gpu.hold.kind === "shared",
      closed: closedToShares(gpu, state.policy.sharing),
      utilizationPercent: reading.utilizationPercent,
      strained: strainOf(gpu, state) !== null,
      isolated: isolationOf(gpu, state) !== null,
      baselineMib: reading.memoryUsedMib as number,
      longestMs: Infinity,
    });
  }
  return free;
}
