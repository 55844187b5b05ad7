/**
 * What is held for the head of the line, and what others may do with it meanwhile (backfill).
 *
 *  1. A head could start, at the earliest, once as many of the GPUs held for it as it asks for are free: those free
 *     now at once, those under a lease at the lease's hard end (`max_duration`). A lease without one has no end that
 *     can be counted on, its TTL can be renewed; when that leaves too few, nobody knows when the head can start.
 *  2. A held GPU goes to a request only if its lease is over, and the GPU has been seen to be empty, before that. Up to
 *     `reclaimTimeoutMs` are allowed for the latter, while the leases that the head waits for are taken to leave their
 *     GPUs empty at once. So a head starts no later than it would have without backfill, if they last as long as they
 *     may; if some end sooner, then no later than was foreseen when its GPUs began to be held.
 */

import type { FutureCandidate } from "../allocator/candidates.ts";
import { usable } from "../allocator/fit.ts";
import type { EpochMs } from "../base/time.ts";
import type { Candidate } from "../host/free-gpus.ts";
import { sharersOf } from "../host/mig.ts";
import { type HostState, holderOf } from "../host/state.ts";
import type { Request } from "../model/allocation.ts";
import type { Gpu } from "../model/gpu.ts";
import { holdersOf, settlingShare } from "../model/holds.ts";
import type { AllocationId, GpuUuid } from "../model/ids.ts";
import { hardEndOf, settlingMs } from "../model/leases.ts";

/** What is held for one request. */
export interface Reservation {
  readonly head: AllocationId;
  readonly gpus: ReadonlySet<GpuUuid>;
  /** The longest that a lease granted now may last on them; 0: none may be granted. */
  readonly longestMs: number;
}

/** One that is made for the head of the line. */
export interface HeadReservation extends Reservation {
  /** By the hard ends of leases it is certain when the head can start at the latest. */
  readonly isCertain: boolean;
}

/** Holds for `head` all of `coming` that it can use; there are enough of them. */
export function reserve(
  head: Request,
  coming: readonly FutureCandidate[],
  state: HostState,
  now: EpochMs,
): HeadReservation {
  const wanted = usable(head, coming, state.gpus.models());
  const starts: number[] = [];
  for (const { gpu } of wanted) starts.push(opensAt(head, state.gpus.get(gpu.uuid) ?? gpu, state, now) ?? Infinity);
  const start = starts.sort((a, b) => a - b)[head.requirement.gpus - 1] ?? Infinity;
  const longestMs = start === Infinity ? 0 : Math.max(0, start - now - settlingMs(state.policy));
  // Memory that is shared is held with all that could take it.
  const gpus = wanted.flatMap(({ gpu }) => [gpu.uuid, ...sharersOf(gpu, state).map(({ uuid }) => uuid)]);
  return { head: head.id, gpus: new Set(gpus), longestMs, isCertain: start !== Infinity };
}

/** The free GPUs that are left beside a reservation: the rest, and what is held for short leases only. */
export function besides({ gpus, longestMs }: Reservation, free: readonly Candidate[]): readonly Candidate[] {
  return free
    .map((candidate) => (gpus.has(candidate.gpu.uuid) ? { ...candidate, longestMs } : candidate))
    .filter((candidate) => candidate.longestMs > 0);
}

/**
 * When `head` can have this GPU at the latest, with every lease lasting to its hard end; `null`: no such end is known.
 *
 * On a shared GPU an exclusive request needs the last share to end. A shared request counts from the first end: that
 * alone may leave enough memory.
 */
function opensAt({ sharing }: Request, { hold }: Gpu, state: HostState, now: EpochMs): EpochMs | null {
  // Memory that has settled may leave enough for one more.
  if (sharing === "shared" && hold.kind === "shared" && settlingShare(hold) !== null) return now;
  const ends: number[] = [];
  for (const { allocationId } of holdersOf(hold)) {
    ends.push(hardEndOf(holderOf(allocationId, state)) ?? Infinity);
  }
  if (ends.length === 0) return now;
  const end = hold.kind === "shared" && sharing === "shared" ? Math.min(...ends) : Math.max(...ends);
  return end === Infinity ? null : end;
}
