/**
 * GPUs that readings no longer show stay in the inventory: they may come back. But not without end: a sick driver that
 * names its GPUs anew at every reading would fill memory and disk.
 */
import type { EpochMs } from "../../base/time.ts";
import type { HostState } from "../../host/state.ts";
import type { Gpu } from "../../model/gpu.ts";

/** Several times what a host has: only GPUs without a name that lasts come so far. */
export const MAX_ABSENT_GPUS = 256;
export const FORGOTTEN_REASON = `more than ${MAX_ABSENT_GPUS} GPUs are remembered that readings no longer show, and others went missing after it`;

/** Those that are too many: the longest missing, but none that a lease or an admin's word is about. */
export function forgotten({ gpus, sight }: HostState): readonly Gpu[] {
  if (sight.missing.size <= MAX_ABSENT_GPUS) return [];
  const since = ({ uuid }: Gpu): EpochMs => sight.missing.get(uuid)?.since ?? Number.POSITIVE_INFINITY;
  const absent = gpus.values().filter(({ uuid }) => sight.missing.has(uuid));
  const idle = absent.filter(
    ({ hold, cordon }) => cordon === null && (hold.kind === "free" || hold.kind === "quarantined"),
  );
  idle.sort((a, b) => since(a) - since(b) || (a.uuid < b.uuid ? -1 : 1));
  return idle.slice(0, absent.length - MAX_ABSENT_GPUS);
}
