/**
 * Who uses GPUs without a lease, told once: when it has been seen in several readings, and when it is over.
 *
 *  1. An episode is of a GPU, not of a process: it goes on when one process follows another, and over a restart.
 *  2. Whatever keeps a GPU from being read ends no episode.
 */

import type { EpochMs } from "../../base/time.ts";
import type { Event } from "../../host/events.ts";
import type { HostState } from "../../host/state.ts";
import type { Gpu } from "../../model/gpu.ts";
import { memoryInUseMib, occupying } from "../../readings/use.ts";

/** Pids that one event names. */
const MAX_PIDS = 16;

/** What the latest reading says of foreign use that was not said before. */
export function foreignUse(state: HostState, now: EpochMs): Event[] {
  return state.gpus.values().flatMap((gpu) => begun(gpu, state, now) ?? over(gpu, state, now) ?? []);
}

function begun({ uuid, hold, foreignSince }: Gpu, { policy, sight }: HostState, at: EpochMs): Event | null {
  const seen = sight.gpus.get(uuid);
  if (policy.foreignUse === "exclude" || foreignSince !== null || hold.kind !== "free" || seen === undefined)
    return null;
  if (seen.foreignReadings < policy.foreignUseReadings) return null;
  const occupation = seen.ailments.find(({ block }) => block === "occupied");
  if (occupation === undefined) return null;
  const { since, detail: reason } = occupation;
  const pids = occupying(seen.reading).map(({ pid }) => pid);
  return { type: "gpu-foreign-use", uuid, at, since, reason, pids: pids.slice(0, MAX_PIDS) };
}

function over({ uuid, hold, foreignSince }: Gpu, { policy, sight }: HostState, at: EpochMs): Event | null {
  if (foreignSince === null) return null;
  const type = "gpu-foreign-use-over";
  if (policy.foreignUse === "exclude") return { type, uuid, at, reason: "the settings no longer ask for it" };
  if (hold.kind !== "free") return { type, uuid, at, reason: `the GPU is ${hold.kind}` };
  const seen = sight.gpus.get(uuid);
  if (seen === undefined || memoryInUseMib(seen.reading) === null || seen.foreignReadings > 0) return null;
  return { type, uuid, at, reason: "a reading shows no use without a lease" };
}
