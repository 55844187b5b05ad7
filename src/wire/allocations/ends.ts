/** Why an allocation ended, in words: what was said when it ended, or what its reason means for a request like it. */
import { formatDuration } from "../../core/base/duration.ts";
import type { EndReason, Outcome, Request } from "../../core/model/allocation.ts";
import { printable } from "../../platform/printable.ts";

type Told = Pick<Request, "ttlMs" | "maxDurationMs" | "queueTimeoutMs" | "webhookUrl">;

const WORDS: { readonly [reason in EndReason]: (request: Told) => string } = {
  released: () => "its owner or an admin released it",
  cancelled: () => "its owner or an admin cancelled it while it waited",
  expired: ({ ttlMs }) => `its TTL${lasting(ttlMs)} passed without a renewal`,
  max_duration: ({ maxDurationMs }) => `it had lasted for its max_duration${lasting(maxDurationMs)}`,
  timed_out: ({ queueTimeoutMs }) => `it was not granted within its queue_timeout${lasting(queueTimeoutMs)}`,
  abandoned: () => "it waited, and its client did not ask for it within scheduler.abandon_after",
  unclaimed: ({ webhookUrl }) =>
    webhookUrl === null
      ? "it was granted, and its client did not ask for it within scheduler.abandon_after"
      : "it was granted, and its webhook was not answered with 2xx within scheduler.claim_timeout",
  revoked: () => "an admin ended it",
  preempted: () => "its GPUs were taken back for a more urgent request",
  rebooted: () => "the host was booted anew, which ends leases without a TTL",
  idle: () => "its GPUs were not used",
  "process-gone": () => "the process that it was bound to has ended, and all that came from it",
};

function lasting(ms: number | null): string {
  return ms === null ? "" : ` of ${formatDuration(ms)}`;
}

/** Never empty: a client that logs it and nothing else tells enough. */
export function endDetail(request: Told, { reason, detail }: Outcome): string {
  return detail === null ? WORDS[reason](request) : printable(detail);
}
