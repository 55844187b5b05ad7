/**
 * What may be granted now, and why the rest may not: driver truth and the books, put together.
 */
import { cordonReason, cordonsOf } from "../drain.ts";
import { type SharedHold, settlingShare } from "../holds.ts";
import { entanglementOf, isDoubted, parentOf, promisedBesideMib } from "../mig.ts";
import type { EpochMs, Gpu, GpuReading, GpuUuid, Policy, ProbeFailureKind } from "../model.ts";
import type { GpuSight, HostState } from "../state.ts";
import { type Ailment, GOOD_READINGS_TO_RECOVER, idleCeilingMib, isFault, READINGS_UNTIL_LOST } from "./health.ts";
import { closedToShares, shareableMib, shareableWhenEmptyMib } from "./sharing.ts";

/** Why a GPU may not be granted at all now. `held` is by another lease. */
export const BLOCKS = [
  "held",
  "reclaiming",
  "quarantined",
  "cordoned",
  "lost",
  "unhealthy",
  "unknown",
  "recovering",
  "degraded",
  "mig",
  "occupied",
] as const;
export type Block = (typeof BLOCKS)[number];

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

export interface BlockedGpu {
  readonly block: Block;
  /** In words, with the facts. Contains driver text: escape it where it is shown. */
  readonly detail: string;
  readonly since: EpochMs | null;
}

/** A GPU that may be granted, whole or a part of it. */
export interface FreeGpu {
  readonly gpu: Gpu;
  /** MiB that a new lease finds there: an exclusive one, until `place.ts` asks for a shared one. */
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

/** Why `gpu` may not be granted at `now`; `null` when it may. The books come before how it feels. */
export function blockOf(gpu: Gpu, state: HostState, now: EpochMs): BlockedGpu | null {
  const block = holdOf(gpu) ?? ailing(gpu, state, now);
  if (block !== null) return block;
  const other = entanglementOf(gpu, state);
  const entangled = other === null ? null : holdOf(other);
  return entangled === null ? null : { ...entangled, detail: `${other?.uuid}: ${entangled.detail}` };
}

/** What the books say against granting a GPU; `null`: nothing. */
function holdOf({ hold }: Gpu): BlockedGpu | null {
  switch (hold.kind) {
    case "leased":
      return { block: "held", detail: `leased to ${hold.allocationId}`, since: hold.since };
    case "shared":
      return sharedBlock(hold);
    case "reclaiming":
      return {
        block: "reclaiming",
        detail: `${hold.allocationId} has ended; waiting for a reading that shows the GPU empty`,
        since: hold.since,
      };
    case "quarantined":
      return { block: "quarantined", detail: hold.reason, since: hold.since };
    case "free":
      return null;
    default:
      return hold satisfies never;
  }
}

/** Nobody gets it alone; `overdueSince` keeps it from those too who would share it. */
function sharedBlock(hold: SharedHold): BlockedGpu {
  const { shares, remains, since, overdueSince } = hold;
  if (overdueSince !== null) {
    const detail = `what is left of ${remains.map(({ allocationId }) => allocationId).join(", ")} did not go in time`;
    return { block: "quarantined", detail, since: overdueSince };
  }
  const settling = settlingShare(hold);
  const parts = [`shared by ${shares.map(({ allocationId }) => allocationId).join(", ")}`];
  if (settling !== null) parts.push(`waiting for the memory of ${settling.allocationId} to settle`);
  if (remains.length > 0) {
    parts.push(`waiting for what is left of ${remains.map(({ allocationId }) => allocationId).join(", ")}`);
  }
  return { block: "held", detail: parts.join("; "), since };
}

/** What keeps a GPU from being granted apart from leases: an admin's word, missing or bad readings, foreign use. */
export function ailing(gpu: Gpu, state: HostState, now: EpochMs): BlockedGpu | null {
  const [cordon] = cordonsOf(gpu, state);
  if (cordon !== undefined) return { block: "cordoned", detail: cordonReason(cordon), since: cordon.at };
  const stale = staleness(gpu.uuid, state, now);
  if (stale !== null) return stale;
  const fault = faultOf(gpu, state);
  if (fault?.scope === "all") return { block: "quarantined", detail: fault.reason, since: fault.at };
  const { ailments, recovery } = state.sight.gpus.get(gpu.uuid) as GpuSight;
  if (recovery !== null && keepsFromAll(recovery.from, state.policy)) {
    const { since, goodReadings, from } = recovery;
    const wanted = GOOD_READINGS_TO_RECOVER - goodReadings;
    const readings = wanted === 1 ? "1 more good reading is" : `${wanted} more good readings are`;
    return { block: "recovering", detail: `${readings} wanted after: ${from.detail}`, since };
  }
  const ailment = ailments.find((one) => keepsFromAll(one, state.policy));
  return ailment === undefined ? null : { ...ailment, block: ailment.block as Block };
}

/** What the kernel's log says against a GPU, which it says of whole ones. */
function faultOf(gpu: Gpu, state: HostState): Gpu["fault"] {
  return (parentOf(gpu, state) ?? gpu).fault;
}

/** Whether an ailment keeps a GPU from every request; the others pass it over for some, or take it last. */
function keepsFromAll({ block }: Ailment, { degradedGpus }: Policy): boolean {
  return block !== "isolated" && (block !== "degraded" || degradedGpus === "exclude");
}

/** Why a GPU cannot work together with others; `null` when it can. It recovers as from any fault. */
export function isolationOf(gpu: Gpu, state: HostState): Omit<BlockedGpu, "block"> | null {
  const fault = faultOf(gpu, state);
  if (fault?.scope === "several") return { detail: fault.reason, since: fault.at };
  const seen = state.sight.gpus.get(gpu.uuid);
  const ailment = seen?.ailments.find(({ block }) => block === "isolated");
  if (ailment !== undefined) return ailment;
  const recovery = seen?.recovery ?? null;
  return recovery?.from.block === "isolated" ? { detail: recovery.from.detail, since: recovery.since } : null;
}

/** Why a GPU is taken last although it may be granted; `null` when it is as good as any. */
export function strainOf({ uuid }: Gpu, { sight }: HostState): string | null {
  const seen = sight.gpus.get(uuid);
  if (seen?.reading.health.slowdown === true) return "the driver slows it for heat or by the power brake";
  const degraded = seen?.ailments.find(({ block }) => block === "degraded") ?? seen?.recovery?.from;
  return degraded?.block === "degraded" ? degraded.detail : null;
}

/** Whether nothing is wrong with a GPU itself, as far as is seen, and was not shortly before. */
export function isWell({ ailments, recovery }: GpuSight): boolean {
  return recovery === null && !ailments.some(isFault);
}

/** Why a GPU is lost; `null` when it is not. */
export function lossOf({ uuid, lostSince }: Gpu, { sight }: HostState): string | null {
  const seen = sight.gpus.get(uuid);
  if (seen !== undefined) return seen.ailments.find(({ block }) => block === "lost")?.detail ?? null;
  const readings = sight.missing.get(uuid)?.readings ?? 0;
  if (readings === 0 || (lostSince === null && readings < READINGS_UNTIL_LOST)) return null;
  return `missing from the last ${readings === 1 ? "reading" : `${readings} readings`}`;
}

/** Failures after which no earlier reading can be trusted: the driver is gone, or a GPU is and nobody says which. */
export const BLINDING: ReadonlySet<ProbeFailureKind> = new Set(["driver", "missing", "no-devices", "gpu-lost"]);

/** Why a GPU has no current reading at `now`; `null` when it has one. */
export function staleness(uuid: GpuUuid, state: HostState, now: EpochMs): BlockedGpu | null {
  const sight = state.sight.gpus.get(uuid);
  const { failure, lastGoodProbeAt } = state.sight;
  if (failure !== null && BLINDING.has(failure.kind)) {
    return { block: "unknown", detail: failure.message, since: lastGoodProbeAt };
  }
  if (sight === undefined) {
    const since = state.sight.missing.get(uuid)?.since ?? null;
    const gpu = state.gpus.get(uuid);
    const loss = gpu === undefined ? null : lossOf(gpu, state);
    if (loss !== null) return { block: "lost", detail: loss, since: gpu?.lostSince ?? since };
    if (since === null && gpu !== undefined && isDoubted(gpu, state)) {
      const detail = "its GPU has instances of which nvidia-smi -L does not tell the UUIDs, and it may be one of them";
      return { block: "unknown", detail, since };
    }
    const nothing = lastGoodProbeAt === null ? (failure?.message ?? "no reading yet") : "no reading of this GPU yet";
    return { block: "unknown", detail: since === null ? nothing : "missing from the latest reading", since };
  }
  const { staleAfterMs } = state.policy;
  const readAt = readingTime(sight, staleAfterMs);
  if (now - readAt > staleAfterMs) {
    const cause = failure === null ? "" : `: ${failure.message}`;
    return {
      block: "unknown",
      detail: `the last reading is ${Math.round((now - readAt) / 1000)} s old${cause}`,
      since: readAt + staleAfterMs,
    };
  }
  return null;
}

/** A probe that the host slept through, or the daemon was stopped in, may have looked before that. */
export function readingTime(
  { startedAt, finishedAt }: { readonly startedAt: EpochMs; readonly finishedAt: EpochMs },
  staleAfterMs: number,
): EpochMs {
  return finishedAt - startedAt > staleAfterMs ? startedAt : finishedAt;
}

/** Whether somebody waits for what only readings can bring: a GPU seen empty, or seen well often enough. */
export function readingsAreAwaited(state: HostState): boolean {
  if (state.line.order.size === 0) return false;
  return state.gpus.values().some(({ uuid, hold }) => {
    if (hold.kind === "reclaiming") return true;
    if (hold.kind === "shared" && (hold.remains.length > 0 || settlingShare(hold) !== null)) return true;
    return hold.kind === "free" && (state.sight.gpus.get(uuid)?.recovery ?? null) !== null;
  });
}

/** A GPU that is free, or will be once its lease has ended. */
export interface ComingGpu {
  readonly gpu: Gpu;
  /** MiB that a new exclusive lease will find there, as far as can be told. */
  readonly memoryMib: number;
  /** MiB that a new shared lease will find there. */
  readonly shareableMib: number;
  /** It cannot work together with others. */
  readonly isolated: boolean;
  /** How it can be had now; `null`: it is held, or shared. */
  readonly now: FreeGpu | null;
}

/** What there will be once today's leases have ended. Beside a desktop, a GPU that is free now has no more than that. */
export function coming(state: HostState, free: readonly FreeGpu[], now: EpochMs): ComingGpu[] {
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
function roomOf({ mig, memoryTotalMib }: Gpu, now: FreeGpu | null): number {
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
  // Of memory that is shared (mig.ts, 3) every free sharer is offered the same.
  const used = (reading.memoryUsedMib as number) + (reading.othersUseMib ?? 0);
  const taken = used <= idleCeilingMib(total) ? 0 : used;
  return total - (gpu.mig === null ? taken : Math.max(taken, promisedBesideMib(gpu, state)));
}

/** The same free GPUs, with the memory that is left for them in `state`: one granted may have shared its own. */
export function withRoomIn(state: HostState, free: readonly FreeGpu[]): readonly FreeGpu[] {
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
export function survey(state: HostState, now: EpochMs): FreeGpu[] {
  const free: FreeGpu[] = [];
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
