/** What becomes of a GPU's hold: by one more share, the end of a lease, an admin's word, an absence of the daemon. */

import type { EpochMs } from "../base/time.ts";
import type { EndedAllocation } from "../model/allocation.ts";
import type { Gpu, GpuHold, Share } from "../model/gpu.ts";
import { OVERDUE, remainsOf, reservedMib, type SharedHold } from "../model/holds.ts";

export const FREE: GpuHold = { kind: "free" };

/** The hold of a GPU with one more share on it. */
export function withOneMore({ uuid, hold, memoryTotalMib }: Gpu, share: Share, baselineMib: number): SharedHold {
  if (hold.kind !== "free" && hold.kind !== "shared") {
    throw new Error(`invariant 1: granted a share of ${uuid}, which is ${hold.kind}`);
  }
  const next: SharedHold =
    hold.kind === "shared"
      ? { ...hold, shares: [...hold.shares, share] }
      : { kind: "shared", since: share.since, baselineMib, shares: [share], remains: [], overdueSince: null };
  // Invariant 1: what is reserved is there. The head-room is the settings' matter, and these change.
  if (memoryTotalMib !== null && reservedMib(next) > memoryTotalMib) {
    throw new Error(`invariant 1: ${reservedMib(next)} MiB of ${uuid} are reserved, which has ${memoryTotalMib}`);
  }
  return next;
}

/** The hold of a GPU of which an admin says that nothing is left of what was there. */
export function cleared(hold: GpuHold): GpuHold {
  if (hold.kind === "quarantined") return FREE;
  return hold.kind === "shared" && hold.overdueSince !== null ? { ...hold, remains: [], overdueSince: null } : hold;
}

/** The hold of a GPU without one lease, which must be seen to be gone if `verify` is true. */
export function holdAfterEnd(
  hold: GpuHold,
  { request, outcome }: EndedAllocation,
  baselineMib: number,
  verify: boolean,
): GpuHold {
  const { id } = request;
  const since = outcome.at;
  if (hold.kind !== "shared") return verify ? { kind: "reclaiming", allocationId: id, since, baselineMib } : FREE;
  const shares = hold.shares.filter(({ allocationId }) => allocationId !== id);
  const own = hold.shares.find(({ allocationId }) => allocationId === id);
  const remains = own === undefined || !verify ? hold.remains : [...hold.remains, remainsOf(own, request, since)];
  if (shares.length > 0) return { ...hold, shares, remains };
  // Nobody is left to share it: the whole GPU must be seen empty.
  const last = remains.at(-1);
  if (last === undefined) return FREE;
  if (hold.overdueSince !== null) {
    const { overdueSince: overdue, baselineMib: level } = hold;
    return { kind: "quarantined", cause: "overdue", since: overdue, baselineMib: level, reason: OVERDUE };
  }
  return { kind: "reclaiming", allocationId: last.allocationId, since, baselineMib: hold.baselineMib };
}

export function watchedFrom(hold: SharedHold, at: EpochMs): SharedHold {
  return {
    ...hold,
    shares: hold.shares.map((share) =>
      share.settledAt === null && share.startedAt !== null ? { ...share, startedAt: at } : share,
    ),
    remains: hold.remains.map((one) => ({ ...one, since: at })),
  };
}
