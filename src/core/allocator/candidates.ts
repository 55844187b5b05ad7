/** Which GPUs may be granted later. Which of them fit a request says fit.ts, and which are taken place.ts. */
import type { EpochMs } from "../base/time.ts";
import { availableMibOf } from "../host/candidates.ts";
import { ailing, type Block, isolationOf } from "../host/condition.ts";
import { type Candidate, FreeGpus } from "../host/free-gpus.ts";
import { shareableWhenEmptyMib } from "../host/shared-memory.ts";
import type { GpuSight } from "../host/sight.ts";
import type { HostState } from "../host/state.ts";
import type { Gpu } from "../model/gpu.ts";

/** Why one request passes over one GPU. */
export type PassReason =
  | Block
  | "memory"
  | "kind"
  | "model"
  /** Others are asked for by name. */
  | "named"
  | "utilization"
  | "isolated"
  | "reserved"
  | "quota"
  | "window"
  /** Of a shared GPU, for one more share: the last one still takes memory, or there are as many as there may be. */
  | "settling"
  | "crowded";

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

/** The same free GPUs, with the memory that is left for them in `state`: one granted may have shared its own. */
export function withRoomIn(state: HostState, free: FreeGpus): FreeGpus {
  if (!state.gpus.hasInstances) return free;
  return FreeGpus.of(
    free.all().map((candidate) => {
      const { gpu } = candidate;
      if (gpu.mig === null) return candidate;
      const { reading } = state.sight.gpus.get(gpu.uuid) as GpuSight;
      return { ...candidate, availableMib: availableMibOf(gpu, reading, state) };
    }),
  );
}
