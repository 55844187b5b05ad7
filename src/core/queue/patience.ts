/**
 * What becomes of a head whose start is not certain, because it waits for leases without a `max_duration`.
 *
 *  1. Its patience lasts `patienceMs` from when it became such a head. Until then nothing is held for it, and others that
 *     fit are served before it.
 *  2. After that GPUs are held as soon as those that are free, and those under leases granted since, would be enough: then
 *     it waits only for requests that were let past it. While it also waits for an older lease, idle GPUs would not let it
 *     start sooner, so others still have them. With `holdLate` others have them for longer: for as long as the longest
 *     lease that had ended when patience was over, and for `patienceMs` at most. An older lease might have kept it waiting
 *     that long anyway, and GPUs are emptied less often, each time for more of those that wait for several.
 *  3. Nobody can say that a lease without a `max_duration` ends at all. One that has lasted `endlessAfterMs` is not waited
 *     for by GPUs that are kept idle.
 *  4. Of requests that state no `max_duration` and have the same priority, the one that asks for the most GPUs is served
 *     first of those that fit (`preferWide`), and among those that ask for as many, the first in line. It passes nobody
 *     else that fits: not one that states a `max_duration`, nor one of another priority, nor one whose patience is over.
 *     The patience of one that is passed runs from then on, whoever is the head.
 *
 * So where every lease ends within L (at most `endlessAfterMs`) and its GPUs are seen empty within S, the first of the
 * line starts within `patienceMs` + 2 x (L + S): one L + S after its patience is over, the leases that were there are gone
 * and nobody is let past it any more; another L + S later, those that were let past it are gone too.
 */
import type { FutureCandidate } from "../allocator/candidates.ts";
import { usable } from "../allocator/fit.ts";
import type { EpochMs } from "../base/time.ts";
import { compareKeys, earliest, type Waiting } from "../host/line.ts";
import { type HostState, holderOf } from "../host/state.ts";
import type { HoldingAllocation, QueuedAllocation, Request } from "../model/allocation.ts";
import { holdersOf } from "../model/holds.ts";
import { hardEndOf } from "../model/leases.ts";
import type { Policy } from "../model/policy.ts";

/** When the patience of one that has been the head, or passed by a wider one, is over; `null`: it has not been. */
export function patienceEndsAt({ headSince }: QueuedAllocation, { patienceMs }: Policy): EpochMs | null {
  return headSince === null ? null : headSince + patienceMs;
}

export function isOutOfPatience(waiting: QueuedAllocation, policy: Policy, now: EpochMs): boolean {
  const end = patienceEndsAt(waiting, policy);
  return end !== null && now >= end;
}

/** When GPUs are held for it at the earliest, see 2; `null`: it has not been the head. */
export function holdsFrom(waiting: QueuedAllocation, { policy, longest }: HostState): EpochMs | null {
  const due = patienceEndsAt(waiting, policy);
  if (due === null || !policy.holdLate) return due;
  // What ends later tells nothing new: once GPUs are held for it they stay so.
  const known = longest.findLast(({ endedAt }) => endedAt <= due)?.lastedMs ?? 0;
  return due + Math.min(known, policy.patienceMs);
}

/** See 2. @param coming what it may count on: what is held for nobody else. */
export function waitsForPassersOnly(
  head: QueuedAllocation,
  coming: readonly FutureCandidate[],
  state: HostState,
  now: EpochMs,
): boolean {
  const due = patienceEndsAt(head, state.policy);
  if (due === null || now < (holdsFrom(head, state) ?? now)) return false;
  const wanted = usable(head.request, coming, state.gpus.models());
  const own = wanted.filter((one) => comesBackToIt(head.request, one, due, state, now));
  return own.length >= head.request.requirement.gpus;
}

/** Whether the GPU would do for `head` once the leases granted since `due` have ended. */
function comesBackToIt(
  { sharing, requirement }: Request,
  { gpu, shareableMib }: FutureCandidate,
  due: EpochMs,
  state: HostState,
  now: EpochMs,
): boolean {
  const { hold } = state.gpus.get(gpu.uuid) ?? gpu;
  const staying = holdersOf(hold)
    .map(({ allocationId }) => holderOf(allocationId, state))
    .filter((holder) => !wasLetPast(holder, due, state.policy, now));
  if (staying.length === 0) return true;
  if (sharing === "exclusive" || hold.kind !== "shared") return false;
  const kept = staying.reduce((sum, { lease }) => sum + (lease.sharedMib ?? 0), 0);
  return shareableMib - kept >= requirement.memoryMib;
}

/** Whether a lease was let past, and can still be waited for. */
function wasLetPast(holder: HoldingAllocation, due: EpochMs, policy: Policy, now: EpochMs): boolean {
  const { grantedAt } = holder.lease;
  return grantedAt >= due && (hardEndOf(holder) !== null || now - grantedAt <= policy.endlessAfterMs);
}

/**
 * See 4: who is served in the place of `first`.
 *
 * @param first of those that fit, the first in line.
 * @param fitting of every class of the line, the first that fits; `first` is among them.
 * @param fittingHeads of those whose patience runs, those that fit.
 */
export function widestFor(
  first: Waiting,
  fitting: readonly Waiting[],
  fittingHeads: readonly Waiting[],
  policy: Policy,
  now: EpochMs,
): Waiting {
  if (!policy.preferWide || (fitting.length === 1 && fittingHeads.length === 0)) return first;
  const isEqual = ({ allocation: { request } }: Waiting) =>
    request.maxDurationMs === null && request.requirement.priority === first.allocation.request.requirement.priority;
  let limit = earliest(fittingHeads, ({ allocation }) => isOutOfPatience(allocation, policy, now));
  for (const one of fitting) {
    if (!isEqual(one) && (limit === undefined || compareKeys(one.key, limit.key) < 0)) limit = one;
  }
  let widest = first;
  for (const one of fitting) {
    if (!isEqual(one) || (limit !== undefined && compareKeys(one.key, limit.key) > 0)) continue;
    const more = gpusOf(one) - gpusOf(widest);
    if (more > 0 || (more === 0 && compareKeys(one.key, widest.key) < 0)) widest = one;
  }
  return widest;
}

function gpusOf({ allocation }: Waiting): number {
  return allocation.request.requirement.gpus;
}
