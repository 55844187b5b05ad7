import { localityOf } from "../allocator/closeness.ts";
import { limitsLater, limitsNow, place } from "../allocator/place.ts";
import { coming, type FreeGpu, survey, withRoomIn } from "../allocator/survey.ts";
import type { Event } from "../events.ts";
import { evolve } from "../evolve.ts";
import { boardOf } from "../mig.ts";
import type { AllocationId, EpochMs, GpuUuid, Lease, Policy, Request } from "../model.ts";
import type { HostState } from "../state.ts";
import { Budgets } from "./budgets.ts";
import { askOf, compareKeys, firstWaiting } from "./line.ts";
import { besides, reserve } from "./reservation.ts";

/** What follows once everybody who can be served has been: the grants, and the state after them. */
export interface Scheduled {
  readonly events: readonly Event[];
  readonly state: HostState;
}

/**
 * Serves the waiting line with the GPUs that are free at `now`.
 *
 *  1. The head is the first that will find enough GPUs once today's leases end, leaving out those held for somebody
 *     else. One that needs a sick or foreign-used GPU to get well is not the head until it does: nobody can say when,
 *     and nothing is kept idle for it.
 *  2. The first that fits now is served, unless the head stands before it and has waited `reserveAfterMs`.
 *  3. In that case every GPU that the head could use, free now or later, is held for it (reservation.ts), and the next
 *     head is looked for among those that can do with the rest. A held GPU that is free goes only to a request that
 *     will have given it back before the head can start.
 *
 *  4. Whoever has to wait for his own quota (budgets.ts) is left out of all this: he is no head, and nothing is held
 *     for him.
 *
 * Each turn of the loop grants a GPU, holds a GPU, or ends it, so the cost is bounded by the host's GPUs times the
 * logarithm of the line.
 *
 * @param newcomer a request submitted in this very turn: a grant to it is a lease at once, since its client is still
 *   on the line; any other grant is an offer until its client is seen to have it.
 */
export function schedule(before: HostState, now: EpochMs, newcomer: AllocationId | null): Scheduled {
  const events: Event[] = [];
  let state = before;
  let free: readonly FreeGpu[] = state.line.order.size === 0 ? [] : survey(state, now);
  const later = free.length === 0 ? [] : coming(before, free, now);
  const held = new Set<GpuUuid>();
  const budgets = new Budgets(before, later, now);
  const isOpen = budgets.isOpen.bind(budgets);
  while (free.length > 0 && state.line.order.size > 0) {
    const head = firstWaiting(state.line, (shape) => budgets.within(shape, limitsLater(shape, later, held)), isOpen);
    const fits = firstWaiting(state.line, (shape) => budgets.within(shape, limitsNow(shape, free)), isOpen);
    if (head !== undefined && (fits === undefined || compareKeys(head.key, fits.key) < 0)) {
      const { request } = head.allocation;
      if (now - request.submittedAt >= state.policy.reserveAfterMs) {
        const unheld = later.filter(({ gpu }) => !held.has(gpu.uuid));
        const reservation = reserve(request, unheld, state, now);
        for (const uuid of reservation.gpus) held.add(uuid);
        budgets.setAside(request);
        free = besides(reservation, free);
        continue;
      }
    }
    if (fits === undefined) break;
    const { request } = fits.allocation;
    const chosen = choose(request, free, state);
    // `firstWaiting` is exact, so this is a bug and not bad luck.
    if (chosen === null) throw new Error(`${request.id} was found to fit and could not be placed`);
    const event = grant(request, chosen, state, now, request.id === newcomer);
    events.push(event);
    state = evolve(state, event);
    budgets.follow(state);
    const taken = new Set(chosen.map(({ gpu }) => gpu.uuid));
    free = withRoomIn(
      state,
      free.filter(({ gpu }) => !taken.has(gpu.uuid)),
    );
  }
  return { events, state };
}

/** Chooses GPUs for a request, of those held for others only where the rest do not do. `null`: too few fit. */
function choose(request: Request, free: readonly FreeGpu[], state: HostState): readonly FreeGpu[] | null {
  const { durationMs } = askOf(request);
  const levels = new Set(free.map(({ longestMs }) => longestMs).filter((level) => level >= durationMs));
  for (const level of [...levels].sort((a, b) => b - a)) {
    const open = free.filter(({ longestMs }) => longestMs >= level);
    const chosen = place(request, open, state.gpus.values(), state.sight.closeness);
    if (chosen !== null) return chosen;
  }
  return null;
}

function grant(request: Request, chosen: readonly FreeGpu[], state: HostState, now: EpochMs, atOnce: boolean): Event {
  const lease: Lease = {
    gpus: chosen.map(({ gpu, baselineMib }) => {
      const { numaNodes, cpuAffinity } = localityOf(state.sight.closeness, boardOf(gpu));
      // In the order in which records.ts writes them: a replay gives the same bytes.
      return {
        uuid: gpu.uuid,
        index: gpu.index,
        name: gpu.name,
        pciBusId: gpu.pciBusId,
        memoryTotalMib: gpu.memoryTotalMib,
        mig: gpu.mig,
        baselineMib,
        numaNodes,
        cpuAffinity,
      };
    }),
    fencingToken: state.nextFencingToken,
    grantedAt: now,
    expiresAt: endOf(request, now, now),
  };
  return {
    type: "granted",
    id: request.id,
    lease,
    claimBy: atOnce ? null : now + claimPatience(request, state.policy),
  };
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
