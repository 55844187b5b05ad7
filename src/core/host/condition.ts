/** Why a GPU may not be granted: its hold, a cordon, what the driver shows, and what it does not show. */

import type { EpochMs } from "../base/time.ts";
import type { Gpu } from "../model/gpu.ts";
import { overdueRemains, type SharedHold, settlingShare } from "../model/holds.ts";
import type { GpuUuid } from "../model/ids.ts";
import type { Policy } from "../model/policy.ts";
import type { ProbeFailureKind } from "../model/reading.ts";
import { type Ailment, GOOD_READINGS_TO_RECOVER, isFault, READINGS_UNTIL_LOST } from "../readings/health.ts";
import { idleCeilingMib } from "../readings/use.ts";
import { cordonReason, cordonsOf } from "./cordons.ts";
import { entanglementOf, isDoubted, parentOf } from "./mig.ts";
import type { GpuSight } from "./sight.ts";
import type { HostState } from "./state.ts";

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

export interface BlockedGpu {
  readonly block: Block;
  /** In words, with the facts. Contains driver text: escape it where it is shown. */
  readonly detail: string;
  readonly since: EpochMs | null;
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
    return { block: "quarantined", detail: overdueRemains(hold), since: overdueSince };
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
  if (seen?.reading.health.license?.startsWith("Unlicensed") === true) {
    return `it runs without a vGPU licence: ${seen.reading.health.license}`;
  }
  if (seen?.reading.health.fabricHealth === "Limited Capacity") return "its NVLink fabric has limited capacity";
  if (seen?.reading.health.slowdown === true) return "the driver slows it for heat or by the power brake";
  const degraded = seen?.ailments.find(({ block }) => block === "degraded") ?? seen?.recovery?.from;
  return degraded?.block === "degraded" ? degraded.detail : null;
}

/** How long memory must have stood still, with nobody there, to be called idle. */
const IDLE_PROVEN_MS = 24 * 60 * 60_000;

/** MiB that a GPU shows in use although nobody has been seen to use it for a day, and that keep it from being granted. */
export function proposedIdleMib({ reading, quiet, finishedAt }: GpuSight): number | null {
  const { memoryTotalMib: total } = reading;
  if (quiet === null || total === null || finishedAt - quiet.since < IDLE_PROVEN_MS) return null;
  return quiet.mib > idleCeilingMib(total, reading) ? quiet.mib : null;
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

/** Whether at least one GPU's state is known at `now`; otherwise nothing can be said about any request. */
export function anyCurrentReading(state: HostState, now: EpochMs): boolean {
  for (const { uuid } of state.gpus.values()) if (staleness(uuid, state, now) === null) return true;
  return false;
}
