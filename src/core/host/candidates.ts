/**
 * What each GPU is to those who wait: what the driver shows and what the books say, put together. The state keeps it
 * (state.ts, 2), since looking at every GPU anew in every decision costs most of the decision.
 */
import type { EpochMs } from "../base/time.ts";
import type { Gpu } from "../model/gpu.ts";
import { boardOf } from "../model/mig.ts";
import type { GpuReading } from "../model/reading.ts";
import type { Closeness } from "../readings/closeness.ts";
import { isAsGoodAsEmpty, isGhost, memoryInUseMib, takesOneLease, workPercent } from "../readings/use.ts";
import { ailing, blockOf, isolationOf, readingTime, strainOf } from "./condition.ts";
import { type Candidate, Candidates, type FreeGpus } from "./free-gpus.ts";
import { promisedBesideMib } from "./mig.ts";
import { closedToShares, shareableMib } from "./shared-memory.ts";
import type { GpuSight } from "./sight.ts";
import type { HostState } from "./state.ts";

/** As of which no reading is too old: a bucket says itself until when it is good. */
const AT_ONCE: EpochMs = -Infinity;

/**
 * MiB that a new exclusive lease finds on a GPU that may be granted. An empty one is offered whole: what the driver keeps
 * for itself is not somebody's use.
 */
export function availableMibOf(gpu: Gpu, reading: GpuReading, state: HostState): number {
  const total = reading.memoryTotalMib as number;
  // Of memory that is shared (instances.ts, 3) every free sharer is offered the same.
  const used = (memoryInUseMib(reading) as number) + (reading.othersUseMib ?? 0);
  const taken = isAsGoodAsEmpty(used, total) ? 0 : used;
  return total - (gpu.mig === null ? taken : Math.max(taken, promisedBesideMib(gpu, state)));
}

/**
 * Whether anybody may have it, or a part of it. The processes on a shared GPU count as its leases' own; that it is busy
 * with no process on it is no lease's doing.
 */
function isOpen(gpu: Gpu, state: HostState): boolean {
  const { hold } = gpu;
  if (hold.kind !== "shared") return hold.kind === "free" && blockOf(gpu, state, AT_ONCE) === null;
  if (hold.overdueSince !== null) return false;
  const block = ailing(gpu, state, AT_ONCE)?.block ?? null;
  if (block !== "occupied") return block === null;
  const { reading } = state.sight.gpus.get(gpu.uuid) as GpuSight;
  return !isGhost(reading);
}

/** What a GPU is to those who wait, as long as its reading is not too old; `null`: it may not be granted. */
function candidateOf(gpu: Gpu, state: HostState): Candidate | null {
  if (!isOpen(gpu, state)) return null;
  const sight = state.sight.gpus.get(gpu.uuid) as GpuSight;
  const { reading } = sight;
  const { staleAfterMs, sharing } = state.policy;
  return {
    gpu,
    availableMib: availableMibOf(gpu, reading, state),
    shareableMib: shareableMib(gpu, sight, sharing),
    shared: gpu.hold.kind === "shared",
    closed: closedToShares(gpu, sharing, takesOneLease(reading)),
    utilizationPercent: workPercent(reading),
    strained: strainOf(gpu, state) !== null,
    isolated: isolationOf(gpu, state) !== null,
    baselineMib: memoryInUseMib(reading) as number,
    longestMs: Infinity,
    kind: kindOf(gpu, state.sight.closeness),
    freshUntil: readingTime(sight, staleAfterMs) + staleAfterMs,
  };
}

function kindOf({ uuid }: Gpu, closeness: Closeness | null): number {
  if (closeness === null) return -1;
  return closeness.kinds[closeness.places.get(uuid) ?? closeness.stranger] as number;
}

/** A full look at every GPU. */
export function candidatesOf(state: HostState): Candidates {
  const byPlace = state.gpus.values().map((gpu) => candidateOf(gpu, state));
  const seen = [...state.sight.gpus.values()];
  const areSomeCut = seen.some(({ reading }) => reading.migMode === "Enabled" || reading.migInstances.length > 0);
  return Candidates.of(byPlace, areSomeCut);
}

/** What the state kept, after these GPUs have changed: each counts for what is on the same silicon too. */
export function candidatesAfter(state: HostState, changed: readonly Gpu[]): Candidates {
  const { gpus } = state;
  const concerned = gpus.hasInstances ? [...withSilicon(state, changed)] : changed;
  return state.candidates.with(
    concerned.map((gpu) => ({ place: gpus.placeOf(gpu.uuid), candidate: candidateOf(gpu, state) })),
  );
}

function withSilicon({ gpus }: HostState, changed: readonly Gpu[]): ReadonlySet<Gpu> {
  const concerned = new Set<Gpu>();
  for (const { uuid } of changed) {
    const gpu = gpus.get(uuid) as Gpu;
    concerned.add(gpu);
    const board = gpus.get(boardOf(gpu));
    if (board === undefined) continue;
    concerned.add(board);
    for (const instance of gpus.instancesOf(board.uuid)) concerned.add(instance);
  }
  return concerned;
}

/** Every GPU that may be granted at `now`, whole or in part. */
export function freeGpus(state: HostState, now: EpochMs): FreeGpus {
  return state.candidates.free.at(now);
}

/** The same one by one, in no order that counts. */
export function candidates(state: HostState, now: EpochMs): readonly Candidate[] {
  return freeGpus(state, now).all();
}
