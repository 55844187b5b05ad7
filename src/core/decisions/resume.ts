/** What the daemon makes up for when it begins to serve again. */

import type { EpochMs } from "../base/time.ts";
import { withSight } from "../host/changes.ts";
import { claimPatience } from "../model/leases.ts";
import { tellWhoIsDrained } from "./admin.ts";
import type { Command } from "./commands.ts";
import { type Drafting, end } from "./drafting.ts";
import { drainsPutOff } from "./drain.ts";

/** After a restart, a lease whose end fell into the absence lives this much longer, or its TTL if that is less. */
const GRACE_AFTER_ABSENCE_MS = 10_000;

/**
 * The daemon begins to serve. Leases whose end fell into its absence get a grace in which to renew; on a new boot of
 * the host, leases without an end are over, since whatever used them is gone.
 */
export function resume(draft: Drafting, command: Extract<Command, { type: "resume" }>, now: EpochMs): void {
  const { bootId, allocations } = draft.state;
  draft.write({ type: "resumed", at: now, bootId: command.bootId, fencingFloor: command.fencingFloor });
  const rebooted = bootId !== null && bootId !== command.bootId;
  if (rebooted) {
    answerFaults(draft, now);
    const unseenSinceBoot = new Set(draft.state.gpus.values().map(({ uuid }) => uuid));
    draft.state = withSight(draft.state, { ...draft.state.sight, unseenSinceBoot, missing: new Map() });
  }
  for (const allocation of allocations.values()) {
    if (allocation.status === "queued") continue;
    const { request, lease } = allocation;
    if (request.ttlMs === null && rebooted) {
      end(draft, allocation, "rebooted", now);
      continue;
    }
    const overdue = lease.expiresAt !== null && lease.expiresAt <= now;
    if (!overdue && allocation.status === "leased") continue;
    const grace = Math.min(request.ttlMs ?? GRACE_AFTER_ABSENCE_MS, GRACE_AFTER_ABSENCE_MS);
    draft.write({
      type: "extended",
      id: request.id,
      at: now,
      expiresAt: overdue ? now + grace : lease.expiresAt,
      // Nobody could claim while the daemon was away.
      claimBy:
        allocation.status === "offered"
          ? Math.max(allocation.claimBy, now + claimPatience(request, draft.state.policy))
          : null,
    });
  }
  putOffNotices(draft, now);
}

/**
 * While the daemon was away, no client could read a notice, or release. A preempted lease gets its whole grace again; a
 * drained one may have had hours, and gets the grace that any lease gets.
 */
function putOffNotices(draft: Drafting, now: EpochMs): void {
  for (const event of drainsPutOff(draft.state, now + GRACE_AFTER_ABSENCE_MS)) draft.write(event);
  tellWhoIsDrained(draft, now);
  for (const allocation of draft.state.allocations.values()) {
    const notice = allocation.status === "queued" ? null : allocation.notice;
    if (notice?.kind !== "preempt") continue;
    const until = Math.max(notice.until, now + notice.until - notice.at);
    draft.write({ type: "preempting", id: allocation.request.id, at: now, until, for: notice.for });
  }
}

/** A boot resets every GPU, and numbers the records of the kernel's log anew. */
function answerFaults(draft: Drafting, now: EpochMs): void {
  for (const { uuid, fault, answeredUpTo } of draft.state.gpus.values()) {
    if (fault === null && answeredUpTo === 0) continue;
    draft.write({ type: "gpu-fault-answered", uuid, at: now, reason: "the host was booted anew", answeredUpTo: 0 });
  }
}
