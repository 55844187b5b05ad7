/** Who holds a GPU: one lease alone, several that share it, or nobody. */
import type { EpochMs } from "../base/time.ts";
import type { Request } from "./allocation.ts";
import type { GpuHold, Remains, Share } from "./gpu.ts";
import type { AllocationId } from "./ids.ts";
import type { GpuUse } from "./use.ts";

/** In words, why a GPU is quarantined on which several leases had been, and not all of them were seen to leave. */
export const OVERDUE = "what ended leases left there has not been seen to go";

/** The same while others go on sharing it. What is seen there may be theirs, so nothing of that is named. */
export function overdueRemains({ remains }: SharedHold): string {
  return `what is left of ${remains.map(({ allocationId }) => allocationId).join(", ")} has not been seen to go`;
}

export interface Holder {
  readonly allocationId: AllocationId;
  readonly since: EpochMs;
  readonly use: GpuUse;
}

export type SharedHold = Extract<GpuHold, { kind: "shared" }>;

const NOBODY: readonly Holder[] = [];

/** Those whose leases run, in the order of their grants. */
export function holdersOf(hold: GpuHold): readonly Holder[] {
  if (hold.kind === "shared") return hold.shares;
  return hold.kind === "leased" ? [hold] : NOBODY;
}

/** How one lease has used a GPU; `null` when it does not hold it. */
export function useBy(hold: GpuHold, id: AllocationId): GpuUse | null {
  return holdersOf(hold).find(({ allocationId }) => allocationId === id)?.use ?? null;
}

/** The first of those who hold a GPU, and the others if there are any, as events tell of them. */
export function namesOfHolders(hold: GpuHold) {
  const [first, ...others] = holdersOf(hold).map(({ allocationId }) => allocationId);
  return { allocationId: first ?? null, ...(others.length === 0 ? {} : { sharedWith: others }) };
}

/** MiB that leases have reserved, those that have ended and left something included. */
export function reservedMib({ shares, remains }: SharedHold): number {
  let sum = 0;
  for (const { memoryMib } of shares) sum += memoryMib;
  for (const { memoryMib } of remains) sum += memoryMib;
  return sum;
}

/** The share that has not settled yet, for which the next one waits; there is at most one. */
export function settlingShare({ shares }: SharedHold): Share | null {
  return shares.find(({ settledAt }) => settledAt === null) ?? null;
}

/** The pid that a client has named as its own; `null`: none that could be one. */
export function namedPid({ workloadData: { pid } }: Request): number | null {
  return typeof pid === "number" && Number.isSafeInteger(pid) && pid > 1 ? pid : null;
}

/** What a lease that ends at `at` may leave behind. */
export function remainsOf({ allocationId, memoryMib }: Share, request: Request, at: EpochMs): Remains {
  return { allocationId, since: at, memoryMib, pid: namedPid(request), submittedAt: request.submittedAt };
}
