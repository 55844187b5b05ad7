import type { EpochMs } from "../base/time.ts";
import type { HoldingAllocation, LeasedGpu, Request } from "./allocation.ts";
import type { Policy } from "./policy.ts";

/** The part of a GPU that a lease has, by the memory that it reserves: what it is charged for. */
export function partOf({ memoryTotalMib }: Pick<LeasedGpu, "memoryTotalMib">, sharedMib: number | null): number {
  return sharedMib === null || memoryTotalMib === null ? 1 : Math.min(1, sharedMib / memoryTotalMib);
}

/** The same of all its GPUs together: 4 for a lease that has four alone. */
export function partsOf({ gpus, sharedMib }: Charged): number {
  return gpus.reduce((sum, gpu) => sum + partOf(gpu, sharedMib), 0);
}

interface Charged {
  readonly gpus: readonly Pick<LeasedGpu, "memoryTotalMib">[];
  readonly sharedMib: number | null;
}

/** When a lease ends unless it is renewed or what it was told is withdrawn; `null`: it has no end. */
export function heldUntil({ lease, notice }: HoldingAllocation): EpochMs | null {
  return notice === null ? lease.expiresAt : Math.min(notice.until, lease.expiresAt ?? Infinity);
}

/** How long a GPU may take to be seen empty after a lease, in ms. */
export function settlingMs({ verifyRelease, reclaimTimeoutMs }: Policy): number {
  return verifyRelease === "never" ? 0 : reclaimTimeoutMs;
}

/** When a lease is over whatever is renewed; `null`: it has no `max_duration`. */
export function hardEndOf({ request, lease }: HoldingAllocation): EpochMs | null {
  if (request.maxDurationMs === null) return null;
  // A grace after an absence of the daemon can reach beyond it.
  return Math.max(lease.grantedAt + request.maxDurationMs, lease.expiresAt ?? 0);
}

/** How long a lease is said to last, `max_duration` before TTL, in ms; `null`: nothing is said. */
export function nominalMs({ maxDurationMs, ttlMs }: Request): number | null {
  return maxDurationMs ?? ttlMs;
}

/** How long an offer waits for a sign of its client, in ms. */
export function claimPatience(request: Request, policy: Policy): number {
  return request.webhookUrl === null ? policy.abandonAfterMs : policy.claimTimeoutMs;
}

/** When a lease granted at `grantedAt` ends if last renewed at `renewedAt`: the earlier of TTL and hard end. */
export function endOf(request: Request, grantedAt: EpochMs, renewedAt: EpochMs): EpochMs | null {
  const byTtl = request.ttlMs === null ? Infinity : renewedAt + request.ttlMs;
  const hardEnd = request.maxDurationMs === null ? Infinity : grantedAt + request.maxDurationMs;
  const end = Math.min(byTtl, hardEnd);
  return end === Infinity ? null : end;
}
