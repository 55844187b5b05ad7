/** What was seen of a GPU since the lease on it ended: the reason for which it is quarantined. */
import type { EpochMs } from "../base/time.ts";
import type { Gpu } from "../model/gpu.ts";
import { memoryInUseMib, occupying } from "../readings/use.ts";
import type { HostState } from "./state.ts";

/** Pids that one reason names. */
const MAX_PIDS = 8;

/**
 * In words. That nothing was read is not that something was still there.
 *
 * @param since the end of the lease.
 */
export function leftovers({ uuid }: Gpu, since: EpochMs, { sight }: HostState): string {
  const seen = sight.gpus.get(uuid);
  if (seen === undefined || seen.startedAt < since) {
    const failure = sight.failure === null ? "" : ` (${sight.failure.message})`;
    return `not seen empty: no reading of it has been taken since its lease ended${failure}`;
  }
  const pids = occupying(seen.reading).map(({ pid }) => pid);
  const parts: string[] = [];
  if (pids.length > 0) parts.push(`${pids.length === 1 ? "process" : "processes"} ${inBrief(pids)}`);
  const usedMib = memoryInUseMib(seen.reading);
  if (usedMib === null) parts.push("memory that the driver does not tell");
  else if (usedMib > 0) parts.push(`${usedMib} MiB in use`);
  return `not empty after its lease ended: ${parts.length === 0 ? "its readings could not be used" : parts.join(", ")}`;
}

function inBrief(pids: readonly number[]): string {
  const more = pids.length - MAX_PIDS;
  return `${pids.slice(0, MAX_PIDS).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
