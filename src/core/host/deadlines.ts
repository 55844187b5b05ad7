import { compareText } from "../base/order.ts";
import type { OrderedMap, Ordering } from "../base/ordered-map.ts";
import type { EpochMs } from "../base/time.ts";
import type { LiveAllocation } from "../model/allocation.ts";
import type { Gpu } from "../model/gpu.ts";
import { settlingShare } from "../model/holds.ts";
import { heldUntil } from "../model/leases.ts";
import type { Policy } from "../model/policy.ts";

/** Something that falls due: an allocation's next change by time, or the end of a GPU's patience. */
export interface Deadline {
  readonly at: EpochMs;
  readonly of: "allocation" | "gpu";
  /** Its id or UUID. */
  readonly name: string;
}

/** What falls due, earliest first. */
export type Deadlines = OrderedMap<Deadline, Deadline>;

export const BY_TIME: Ordering<Deadline, Deadline, undefined> = {
  compare: (a, b) => a.at - b.at || compareText(a.of, b.of) || compareText(a.name, b.name),
  measure: () => undefined,
};

/** When an allocation changes by time alone; `null` when it does not. */
export function allocationDeadline(allocation: LiveAllocation, policy: Policy): EpochMs | null {
  const { request } = allocation;
  switch (allocation.status) {
    case "queued": {
      const timeout = request.queueTimeoutMs === null ? Infinity : request.submittedAt + request.queueTimeoutMs;
      // A webhook is as good as a sign of life: its receiver is told of the grant.
      const silence = request.webhookUrl === null ? allocation.seenAt + policy.abandonAfterMs : Infinity;
      return finite(Math.min(timeout, silence));
    }
    case "offered":
      return Math.min(allocation.claimBy, heldUntil(allocation) ?? Infinity);
    case "leased":
      return heldUntil(allocation);
    default:
      return allocation satisfies never;
  }
}

export function finite(at: number): EpochMs | null {
  return at === Infinity ? null : at;
}

export function gpuDeadline({ hold }: Gpu, policy: Policy): EpochMs | null {
  if (hold.kind === "reclaiming") return hold.since + policy.reclaimTimeoutMs;
  if (hold.kind !== "shared") return null;
  const startedAt = settlingShare(hold)?.startedAt ?? null;
  const settles = startedAt === null ? Infinity : startedAt + policy.sharing.settleTimeoutMs;
  const [oldest] = hold.remains;
  const overdue =
    oldest === undefined || hold.overdueSince !== null ? Infinity : oldest.since + policy.reclaimTimeoutMs;
  return finite(Math.min(settles, overdue));
}

/** Moves the deadline of one allocation or GPU; `null`: it had none, or has none any more. */
export function moveDeadline(
  deadlines: Deadlines,
  { of, name }: Omit<Deadline, "at">,
  from: EpochMs | null,
  to: EpochMs | null,
): Deadlines {
  if (from === to) return deadlines;
  const without = from === null ? deadlines : deadlines.delete({ at: from, of, name });
  if (to === null) return without;
  const deadline: Deadline = { at: to, of, name };
  return without.set(deadline, deadline);
}
