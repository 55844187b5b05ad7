import type { EpochMs } from "../../base/time.ts";
import { isWell, lossOf } from "../../host/condition.ts";
import type { Event } from "../../host/events.ts";
import { evolve } from "../../host/evolve.ts";
import { goneReason } from "../../host/mig.ts";
import { SETTLED_SLACK_MIB } from "../../host/shared-memory.ts";
import type { HostState } from "../../host/state.ts";
import type { MigIdentity } from "../../model/device.ts";
import type { Gpu } from "../../model/gpu.ts";
import { namesOfHolders } from "../../model/holds.ts";
import type { GpuReading, Observation } from "../../model/reading.ts";
import { GOOD_READINGS_TO_RECOVER, READINGS_UNTIL_QUARANTINE } from "../../readings/health.ts";
import { isGhost, memoryInUseMib, occupying } from "../../readings/use.ts";
import { foreignUse } from "./foreign-use.ts";
import { FORGOTTEN_REASON, forgotten } from "./forgotten.ts";
import { withInstances } from "./instances.ts";
import { withMemorySettings } from "./memory-settings.ts";
import { emptyLevelMib, shareEvents } from "./shares.ts";
import { withObservation } from "./sight.ts";
import { answeredBefore, replacedReason } from "./slots.ts";

/** An observation with what the settings say of it, and MIG instances as readings of their own. */
export function completed(given: Observation, state: HostState): Observation {
  return withInstances(withMemorySettings(given, state.policy), state);
}

/**
 * Takes in what a probe brought: the sight is replaced, and what outlives the process becomes events.
 *
 * A failed probe removes no reading: each grows stale by itself, so losing the monitor ends nothing.
 */
export function observe(before: HostState, given: Observation, now: EpochMs): { events: Event[]; state: HostState } {
  const observation = completed(given, before);
  let state = withObservation(before, observation);
  const events: Event[] = [];
  if (!observation.ok) return { events, state };
  const write = (event: Event) => {
    events.push(event);
    state = evolve(state, event);
  };
  for (const reading of observation.reading.gpus) {
    const known = state.gpus.get(reading.uuid);
    const identity = identityOf(reading, known);
    if (known === undefined || !sameIdentity(known, identity)) write({ type: "gpu-seen", gpu: identity });
    const logged = before.sight.kernelLog?.sequence ?? 0;
    if (known === undefined && logged > 0 && state.sight.newcomers.has(reading.uuid)) {
      write(answeredBefore(reading, logged, now));
    }
    const gpu = state.gpus.get(reading.uuid) as Gpu;
    const { hold } = gpu;
    if (hold.kind === "leased") {
      const { allocationId, use } = hold;
      const inUse = observation.startedAt < hold.since ? null : useIn(reading, baselineOf(state, gpu));
      if (inUse === true && use.since === null) write({ type: "use-seen", uuid: gpu.uuid, allocationId, at: now });
      if (inUse === false && use.since !== null) write({ type: "use-gone", uuid: gpu.uuid, allocationId, at: now });
    } else if (hold.kind === "shared") {
      for (const event of shareEvents(gpu.uuid, hold, state, observation.startedAt, now)) write(event);
    } else if (hold.kind === "reclaiming" || hold.kind === "quarantined") {
      // Only a reading that began after the end can prove that the GPU is empty.
      if (observation.startedAt >= hold.since && isEmpty(reading, hold.baselineMib, hold.since)) {
        write({ type: "gpu-freed", uuid: gpu.uuid, at: now });
      }
    }
  }
  for (const event of noteLosses(state, now)) write(event);
  for (const gpu of state.gpus.values()) {
    const reason = goneReason(gpu, state, now) ?? replacedReason(gpu, state);
    if (reason !== null) write({ type: "gpu-gone", uuid: gpu.uuid, at: now, reason });
  }
  for (const { uuid } of forgotten(state)) write({ type: "gpu-gone", uuid, at: now, reason: FORGOTTEN_REASON });
  for (const event of noteGhosts(state, now)) write(event);
  for (const event of foreignUse(state, now)) write(event);
  return { events, state };
}

/** Says once that a GPU is lost, and once that it is back for good: the books outlive what is seen. */
function noteLosses(state: HostState, now: EpochMs): Event[] {
  const events: Event[] = [];
  for (const gpu of state.gpus.values()) {
    const { uuid, hold, lostSince } = gpu;
    const sight = state.sight.gpus.get(uuid);
    const loss = lossOf(gpu, state);
    if (loss !== null && lostSince === null) {
      events.push({ type: "gpu-lost", uuid, at: now, ...namesOfHolders(hold), reason: loss });
    } else if (lostSince !== null && sight !== undefined && isWell(sight)) {
      const reason = `${GOOD_READINGS_TO_RECOVER} good readings in a row`;
      events.push({ type: "gpu-back", uuid, at: now, ...namesOfHolders(hold), reason });
    }
  }
  return events;
}

function noteGhosts(state: HostState, at: EpochMs): Event[] {
  const events: Event[] = [];
  for (const { uuid, hold } of state.gpus.values()) {
    const readings = state.sight.gpus.get(uuid)?.ghostReadings ?? 0;
    if (hold.kind !== "free" || readings < READINGS_UNTIL_QUARANTINE) continue;
    const reason = `100 % busy in ${readings} readings in a row, with no process and no memory in use`;
    events.push({ type: "gpu-quarantined", uuid, at, reason });
  }
  return events;
}

function identityOf(reading: GpuReading, known: Gpu | undefined) {
  return {
    uuid: reading.uuid,
    index: reading.index,
    name: reading.name,
    pciBusId: reading.pciBusId ?? known?.pciBusId ?? null,
    // A sick GPU may not tell its size; it has not shrunk for that.
    memoryTotalMib: reading.memoryTotalMib ?? known?.memoryTotalMib ?? null,
    mig: reading.mig ?? null,
  };
}

function sameIdentity(known: Gpu, seen: ReturnType<typeof identityOf>): boolean {
  return (
    known.index === seen.index &&
    known.name === seen.name &&
    known.pciBusId === seen.pciBusId &&
    known.memoryTotalMib === seen.memoryTotalMib &&
    isSameInstance(known.mig, seen.mig)
  );
}

function isSameInstance(a: MigIdentity | null, b: MigIdentity | null): boolean {
  return (
    a?.parentUuid === b?.parentUuid &&
    a?.profile === b?.profile &&
    a?.gpuInstanceId === b?.gpuInstanceId &&
    a?.computeInstanceId === b?.computeInstanceId
  );
}

function baselineOf(state: HostState, gpu: Gpu): number {
  const { hold } = gpu;
  if (hold.kind !== "leased") return 0;
  const holder = state.allocations.get(hold.allocationId);
  if (holder === undefined || holder.status === "queued") return 0;
  return holder.lease.gpus.find(({ uuid }) => uuid === gpu.uuid)?.baselineMib ?? 0;
}

/**
 * Whether a leased GPU is used: a process that computes, or memory above the level before the grant. `null`: there is no
 * such process, and the memory cannot be read.
 */
function useIn(reading: GpuReading, baselineMib: number): boolean | null {
  if (occupying(reading).length > 0) return true;
  const usedMib = memoryInUseMib(reading);
  return usedMib === null ? null : usedMib > baselineMib + SETTLED_SLACK_MIB;
}

/**
 * Whether a reading shows that nothing of a lease which ended at `endedAt` is left. Memory that cannot be read proves
 * nothing. What started after the end is not the lease's: it may occupy the GPU, but does not keep it from being
 * given back.
 */
function isEmpty(reading: GpuReading, baselineMib: number, endedAt: EpochMs): boolean {
  let usedMib = memoryInUseMib(reading);
  if (usedMib === null || reading.memoryTotalMib === null || isGhost(reading)) return false;
  for (const process of occupying(reading)) {
    const isLater = process.origin !== null && process.origin.startedAt > endedAt;
    if (!isLater || process.usedMemoryMib === null) return false;
    usedMib -= process.usedMemoryMib;
  }
  return usedMib <= (emptyLevelMib(reading, baselineMib) ?? 0);
}
