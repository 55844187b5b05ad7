/**
 * The memory of a GPU that several leases have a part of.
 *
 *  1. What is taken is never less than what is reserved, nor less than what is seen in use: of each lease the larger of
 *     the two counts, and a lease that has ended counts until nothing of it is left.
 *  2. A process whose lease is known counts as that lease's. The rest of the memory in use may be of any lease of which
 *     no process is known, and fits into their reservations as far as these go; beyond them it is of no lease, and is
 *     taken too.
 *  3. One lease alone on a GPU is all that uses it.
 *  4. Starts are serialised: while a share settles, no other is granted on its GPU, since two programs that start at
 *     once each take the other's growing memory for granted, or for free.
 */
import type { Gpu } from "../model/gpu.ts";
import { type SharedHold, settlingShare } from "../model/holds.ts";
import type { AllocationId } from "../model/ids.ts";
import type { SharingPolicy } from "../model/policy.ts";
import type { GpuReading } from "../model/reading.ts";
import type { GpuSight } from "./sight.ts";

/** Shares of one GPU at most, whatever the settings say: each costs some 200 bytes in the GPU's row. */
export const MAX_SHARES = 64;

/** MiB by which memory may stand above a level and still count as given back, or as standing still. */
export const SETTLED_SLACK_MIB = 64;

/** Readings that must show memory standing still, however fast they come. */
export const READINGS_TO_SETTLE = 3;

/** MiB that shared leases together leave of a GPU: for CUDA contexts, fragments, and what the driver keeps. */
export function headroomMib(totalMib: number, { headroomPercent, headroomMib: leastMib }: SharingPolicy): number {
  return Math.max(leastMib, Math.ceil((totalMib * headroomPercent) / 100));
}

/** Who uses how much of a shared GPU. */
export interface MemoryUse {
  /** MiB of the processes that are known to be a lease's, and of what can only be its. */
  readonly ownMib: ReadonlyMap<AllocationId, number>;
  /** MiB beyond the level before the first grant that no such process accounts for. */
  readonly restMib: number;
}

/** `null`: the memory in use cannot be read. See 2 and 3. */
export function memoryUseOf(hold: SharedHold, reading: GpuReading, owners: GpuSight["owners"]): MemoryUse | null {
  if (reading.memoryUsedMib === null) return null;
  const { shares, remains, baselineMib } = hold;
  const usedMib = Math.max(0, reading.memoryUsedMib - baselineMib);
  const [only] = shares;
  if (only !== undefined && shares.length === 1 && remains.length === 0) {
    return { ownMib: new Map([[only.allocationId, usedMib]]), restMib: 0 };
  }
  const ownMib = new Map<AllocationId, number>();
  let knownMib = 0;
  for (const { pid, usedMemoryMib } of reading.processes) {
    const owner = owners.get(pid);
    if (owner === undefined || usedMemoryMib === null || !isOn(hold, owner)) continue;
    ownMib.set(owner, (ownMib.get(owner) ?? 0) + usedMemoryMib);
    knownMib += usedMemoryMib;
  }
  return { ownMib, restMib: Math.max(0, usedMib - knownMib) };
}

function isOn({ shares, remains }: SharedHold, id: AllocationId): boolean {
  return (
    shares.some(({ allocationId }) => allocationId === id) || remains.some(({ allocationId }) => allocationId === id)
  );
}

/** MiB of a GPU that are not to be had: see 1 and 2. */
export function takenMib(hold: SharedHold, { ownMib, restMib }: MemoryUse): number {
  let takenMib = hold.baselineMib;
  let spareMib = 0;
  for (const { allocationId, memoryMib } of [...hold.shares, ...hold.remains]) {
    const own = ownMib.get(allocationId);
    takenMib += Math.max(memoryMib, own ?? 0);
    if (own === undefined) spareMib += memoryMib;
  }
  return takenMib + Math.max(0, restMib - spareMib);
}

/** Why no share of a GPU can be had now, apart from its memory, in the words of candidates.ts; `null` when one can. */
export function closedToShares(
  { hold }: Gpu,
  { maxLeasesPerGpu }: SharingPolicy,
  takesOne = false,
): "settling" | "crowded" | null {
  if (hold.kind !== "shared") return null;
  if (takesOne) return "crowded";
  if (settlingShare(hold) !== null) return "settling";
  return hold.shares.length + hold.remains.length >= Math.min(maxLeasesPerGpu, MAX_SHARES) ? "crowded" : null;
}

/**
 * MiB that one more shared lease finds on a free or a shared GPU, which has a reading with memory. Not less than 0.
 *
 * @param usedMib as the reading has it.
 */
export function shareableMib({ hold }: Gpu, { reading, owners }: GpuSight, policy: SharingPolicy): number {
  const { memoryTotalMib: total, memoryUsedMib: used } = reading;
  if (total === null || used === null) return 0;
  const use = hold.kind === "shared" ? memoryUseOf(hold, reading, owners) : null;
  const taken = hold.kind === "shared" && use !== null ? takenMib(hold, use) : used;
  return Math.max(0, total - headroomMib(total, policy) - taken);
}

/** MiB that shared leases find on a GPU once nobody holds it, as far as can be told. */
export function shareableWhenEmptyMib({ memoryTotalMib, hold }: Gpu, policy: SharingPolicy): number {
  if (memoryTotalMib === null) return 0;
  const usedMib = hold.kind === "shared" ? hold.baselineMib : 0;
  return Math.max(0, memoryTotalMib - headroomMib(memoryTotalMib, policy) - usedMib);
}

/**
 * Whether nothing is left of a lease that has ended: none of its processes is there, and no more memory is in use than
 * the others account for.
 *
 * @param levelMib up to which a GPU counts as empty.
 */
export function hasReturned(
  id: AllocationId,
  hold: SharedHold,
  reading: GpuReading,
  owners: GpuSight["owners"],
  levelMib: number,
): boolean {
  const use = memoryUseOf(hold, reading, owners);
  if (use === null || reading.processes.some(({ pid }) => owners.get(pid) === id)) return false;
  let allowedMib = Math.max(0, levelMib - hold.baselineMib);
  for (const { allocationId, memoryMib } of [...hold.shares, ...hold.remains]) {
    if (allocationId !== id && !use.ownMib.has(allocationId)) allowedMib += memoryMib;
  }
  return use.restMib <= allowedMib;
}
