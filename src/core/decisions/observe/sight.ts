/**
 * What the monitor sees, brought up to date by each observation. Nothing here is durable: after a restart the first
 * readings say it anew.
 *
 *  1. A fault counts from the first reading that shows it; it is over after {@link GOOD_READINGS_TO_RECOVER} good
 *     readings in a row. The figures shown are always the latest.
 *  2. A GPU that was never seen sick or missing needs no such proof: a fresh start does not wait.
 *  3. A failed probe takes no reading away. It brings none either, so it neither heals nor ails a GPU, unless it says
 *     that no earlier reading can be trusted.
 */

import type { EpochMs } from "../../base/time.ts";
import { withSight } from "../../host/changes.ts";
import { BLINDING, readingTime } from "../../host/condition.ts";
import { indicesOf } from "../../host/indices.ts";
import { READINGS_TO_SETTLE, SETTLED_SLACK_MIB } from "../../host/shared-memory.ts";
import type { Absence, GpuSight, Quiet, Recovery, Sight, Stillness, Watch } from "../../host/sight.ts";
import type { HostState } from "../../host/state.ts";
import type { GpuUuid } from "../../model/ids.ts";
import type { GpuReading, HostReading, Observation, ProbeFailure } from "../../model/reading.ts";
import { closenessOf } from "../../readings/closeness.ts";
import { type Ailment, ailmentsOf, GOOD_READINGS_TO_RECOVER, isFault } from "../../readings/health.ts";
import { BUSY_PERCENT, IDLE_DRIFT, isGhost, memoryInUseMib, occupying, workPercent } from "../../readings/use.ts";
import { ownershipOf } from "./ownership.ts";
import { newcomersAfter } from "./slots.ts";

/**
 * The part of an observation that is not durable: what can be seen now.
 *
 * @param observation with its MIG instances as readings of their own (instances.ts).
 */
export function withObservation(state: HostState, observation: Observation): HostState {
  const { finishedAt } = observation;
  if (!observation.ok) return withSight(state, afterFailure(state.sight, observation.failure, finishedAt));
  const { reading, startedAt } = observation;
  const { owners, groups } = ownershipOf(reading.gpus, state, state.sight.groups);
  const gpus = new Map<GpuUuid, GpuSight>();
  for (const gpu of reading.gpus) {
    const before = state.sight.gpus.get(gpu.uuid);
    const ailments = ailmentsOf(gpu, owners, reading.processesHidden).map((ailment) => ({
      ...ailment,
      since: before?.ailments.find(({ block }) => block === ailment.block)?.since ?? finishedAt,
    }));
    const watch = watchOf(gpu, before?.watch ?? null, observation, state.policy.staleAfterMs);
    const recovery = ailments.some(isFault) ? null : recoveryOf(gpu.uuid, state, finishedAt);
    const stillness = stillnessOf(gpu, before?.stillness ?? null, finishedAt);
    const quiet = quietOf(gpu, before?.quiet ?? null, finishedAt);
    const isFree = state.gpus.get(gpu.uuid)?.hold.kind === "free";
    const ghost = isGhost(gpu);
    const isCut = ailments.some(({ block }) => block === "mig");
    const foreign = isFree && !ghost && !isCut && ailments.some(({ block }) => block === "occupied");
    const foreignReadings = foreign ? (before?.foreignReadings ?? 0) + 1 : 0;
    const ghostReadings = ghost ? (before?.ghostReadings ?? 0) + 1 : 0;
    const seen = { reading: gpu, startedAt, finishedAt, ailments, recovery, foreignReadings, ghostReadings };
    gpus.set(gpu.uuid, {
      ...seen,
      owners,
      watch,
      stillness,
      quiet: isFree || !state.gpus.has(gpu.uuid) ? quiet : null,
    });
  }
  // What was seen of them before grows stale by itself.
  for (const uuid of reading.unread ?? []) {
    const before = state.sight.gpus.get(uuid);
    if (before !== undefined) gpus.set(uuid, before);
  }
  const next: Sight = {
    gpus,
    failure: null,
    lastProbeAt: finishedAt,
    lastGoodProbeAt: finishedAt,
    simulated: reading.simulated,
    driverVersion: reading.driverVersion,
    cudaVersion: reading.cudaVersion,
    warnings: reading.warnings,
    processesHidden: reading.processesHidden ?? false,
    closeness: closenessOf(reading.topology, state.sight.closeness),
    missing: missingFrom(reading, state, finishedAt),
    xids: state.sight.xids,
    kernelLog: state.sight.kernelLog,
    groups,
    indices: indicesOf(reading, state.sight.indices),
    newcomers: newcomersAfter(state, observation),
    unseenSinceBoot: stillUnseen(state.sight.unseenSinceBoot, gpus),
  };
  return withSight(state, next);
}

function afterFailure(sight: Sight, failure: ProbeFailure, at: EpochMs): Sight {
  const next = { ...sight, failure, lastProbeAt: at };
  if (!BLINDING.has(failure.kind)) return next;
  const doubted = new Map<GpuUuid, GpuSight>();
  for (const [uuid, seen] of sight.gpus) {
    doubted.set(uuid, seen.recovery === null ? seen : { ...seen, recovery: { ...seen.recovery, goodReadings: 0 } });
  }
  return { ...next, gpus: doubted };
}

/** How far a GPU that reads well now has come; `null` when there is nothing to recover from, or no more. */
function recoveryOf(uuid: GpuUuid, state: HostState, at: EpochMs): Recovery | null {
  const before = state.sight.gpus.get(uuid);
  if (before !== undefined && before.recovery !== null) {
    const goodReadings = before.recovery.goodReadings + 1;
    return goodReadings >= GOOD_READINGS_TO_RECOVER ? null : { ...before.recovery, goodReadings };
  }
  const from = before === undefined ? absenceOf(uuid, state) : (before.ailments.find(isFault) ?? null);
  return from === null ? null : { since: at, goodReadings: 1, from: { block: from.block, detail: from.detail } };
}

/** That a GPU which is seen now was not seen in the reading before, or was lost when the daemon was last stopped. */
function absenceOf(uuid: GpuUuid, { sight, gpus }: HostState): Ailment | null {
  if ((gpus.get(uuid)?.lostSince ?? null) !== null) return { block: "lost", detail: "it was lost" };
  return sight.missing.has(uuid) ? { block: "unknown", detail: "it was missing from readings" } : null;
}

function stillUnseen(unseen: Sight["unseenSinceBoot"], gpus: Sight["gpus"]): Sight["unseenSinceBoot"] {
  return unseen.size === 0 ? unseen : new Set([...unseen].filter((uuid) => !gpus.has(uuid)));
}

function missingFrom(reading: HostReading, { sight, gpus }: HostState, at: EpochMs): Map<GpuUuid, Absence> {
  const present = new Set(reading.gpus.map(({ uuid }) => uuid));
  const missing = new Map<GpuUuid, Absence>();
  const unread = new Set([...(reading.unread ?? []), ...(reading.doubted ?? [])]);
  for (const { uuid } of gpus.values()) {
    if (present.has(uuid)) continue;
    const before = sight.missing.get(uuid);
    if (unread.has(uuid)) {
      if (before !== undefined) missing.set(uuid, before);
      continue;
    }
    missing.set(uuid, { since: before?.since ?? at, readings: (before?.readings ?? 0) + 1 });
  }
  return missing;
}

/** A gap in which the GPU was unknown begins a new series. */
function watchOf(
  reading: GpuReading,
  before: Watch | null,
  observation: Observation,
  staleAfterMs: number,
): Watch | null {
  if (!tellsUse(reading)) return before;
  const goesOn = before !== null && observation.startedAt - before.until <= staleAfterMs;
  return { since: goesOn ? before.since : observation.finishedAt, until: readingTime(observation, staleAfterMs) };
}

function stillnessOf({ memoryUsedMib: mib }: GpuReading, before: Stillness | null, at: EpochMs): Stillness | null {
  if (mib === null) return null;
  const isStill = before !== null && Math.abs(mib - before.mib) <= SETTLED_SLACK_MIB;
  if (!isStill) return { mib, since: at, readings: 1 };
  // No more are asked for; what stays the same costs nothing where it is kept.
  return { ...before, readings: Math.min(READINGS_TO_SETTLE, before.readings + 1) };
}

/** A level of memory at which a GPU has stood while nobody was seen to use it. */
function quietOf(reading: GpuReading, before: Quiet | null, at: EpochMs): Quiet | null {
  const { memoryUsedMib: mib, processes } = reading;
  if (mib === null || processes.length > 0 || (workPercent(reading) ?? 0) > BUSY_PERCENT) return null;
  return before !== null && Math.abs(mib - before.mib) <= before.mib * IDLE_DRIFT ? before : { mib, since: at };
}

/** Whether a reading tells use from none, for whatever memory was in use before. */
function tellsUse(reading: GpuReading): boolean {
  return memoryInUseMib(reading) !== null || occupying(reading).length > 0;
}
