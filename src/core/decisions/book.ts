/**
 * GPUs are kept for a principal from a time for a while, as by a window of its own (window-allowances.ts).
 *
 *  1. What is booked must hold as things stand: each lease beside it may last as long as it can, windows and earlier
 *     bookings keep what they keep, and a head of the line that was told when it starts still starts then. Otherwise it
 *     is refused, and nothing changes.
 *  2. It holds against what is asked for later. It cannot hold against GPUs that fall sick, nor against windows that the
 *     settings add afterwards: then it has its part of what there is.
 *  3. It is no lease: its principal asks for GPUs as ever, and is a member while it is open. What nobody uses of it is kept
 *     idle until it ends or is cancelled.
 */
import { futureCandidates } from "../allocator/candidates.ts";
import type { EpochMs } from "../base/time.ts";
import { accountNamed, limitedAccounts } from "../host/accounts.ts";
import { candidates } from "../host/candidates.ts";
import { withBookings } from "../host/changes.ts";
import { findGpu, indexNow } from "../host/indices.ts";
import type { HostState } from "../host/state.ts";
import { memberOf, namedBy, type WindowSet } from "../host/window-plan.ts";
import {
  type Booking,
  bookedAt,
  MAX_BOOKED_AHEAD_MS,
  MAX_BOOKINGS,
  MAX_BOOKINGS_OF_ONE,
  MIN_BOOKED_MS,
  windowOf,
} from "../model/booking.ts";
import { GpuNotFoundError, NotOwnerError, ReservationNotFoundError, ReservationRefusedError } from "../model/errors.ts";
import type { Gpu } from "../model/gpu.ts";
import { holdersOf } from "../model/holds.ts";
import type { Actor, GpuUuid } from "../model/ids.ts";
import { hardEndOf, settlingMs } from "../model/leases.ts";
import type { Policy } from "../model/policy.ts";
import { putOff } from "../queue/schedule.ts";
import { type Shortfall, WindowAllowances } from "../queue/window-allowances.ts";
import type { BookingAsk, Command } from "./commands.ts";
import type { Drafting } from "./drafting.ts";

/** @throws GpuNotFoundError, NotOwnerError, ReservationRefusedError */
export function book(draft: Drafting, { id, ask, actor }: Extract<Command, { type: "book" }>, now: EpochMs): void {
  if (ask.principal !== null && ask.principal !== actor.principal && !actor.admin) {
    throw new NotOwnerError(`a reservation for ${ask.principal}`);
  }
  const booking = bookingOf(id, ask, actor, draft.state, now);
  const before = withBookings(draft.state, bookedAt(draft.state.bookings, now));
  const objection = beyondLimits(booking, before, actor, now) ?? cannotHold(booking, before, now);
  if (objection !== null) throw new ReservationRefusedError(objection);
  draft.write({ type: "reserved", at: now, booking });
}

/** @throws ReservationNotFoundError, NotOwnerError */
export function cancelBooking(
  draft: Drafting,
  { id, actor }: Extract<Command, { type: "cancel-booking" }>,
  now: EpochMs,
): void {
  const booking = bookedAt(draft.state.bookings, now).find((one) => one.id === id);
  if (booking === undefined) throw new ReservationNotFoundError(id);
  if (!actor.admin && actor.principal !== booking.principal) throw new NotOwnerError(`reservation ${id}`);
  const { principal } = booking;
  draft.write({ type: "reservation-cancelled", at: now, bookingId: id, principal, by: actor.principal });
}

function bookingOf(id: string, ask: BookingAsk, actor: Actor, state: HostState, now: EpochMs): Booking {
  const from = ask.from ?? now;
  return {
    id,
    principal: ask.principal ?? actor.principal,
    serviceName: ask.serviceName,
    gpus: typeof ask.gpus === "number" ? ask.gpus : namedGpus(ask.gpus, state),
    from: Math.max(from, now),
    to: typeof ask.to === "number" ? ask.to : from + ask.to.afterMs,
    madeAt: now,
    madeBy: actor.principal,
  };
}

function namedGpus(names: readonly string[], state: HostState): readonly GpuUuid[] {
  const uuids = names.map((name) => {
    const gpu = findGpu(state, name);
    if (gpu === undefined) throw new GpuNotFoundError(name);
    return gpu.uuid;
  });
  return [...new Set(uuids)];
}

function countOf({ gpus }: Booking): number {
  return typeof gpus === "number" ? gpus : gpus.length;
}

function beyondLimits(booking: Booking, { bookings, policy }: HostState, actor: Actor, now: EpochMs): string | null {
  const { principal, from, to } = booking;
  if (to <= now) return "its end has passed";
  if (to < from) return "it ends before it begins";
  if (to - from < MIN_BOOKED_MS) return "it is shorter than a minute";
  if (to - now > MAX_BOOKED_AHEAD_MS) return "it ends more than 14 days from now";
  if (bookings.length >= MAX_BOOKINGS) return `the host has ${MAX_BOOKINGS} reservations, its limit`;
  const own = bookings.filter((one) => one.principal === principal).length;
  if (!actor.admin && own >= MAX_BOOKINGS_OF_ONE) {
    return `${principal} has ${own} reservations, and may have ${MAX_BOOKINGS_OF_ONE}`;
  }
  return beyondQuotas(booking, bookings, policy);
}

/** What an account has booked for one time counts together: leases could never use more of it than the quota. */
function beyondQuotas(booking: Booking, others: readonly Booking[], { quotas }: Policy): string | null {
  const owner = { principal: booking.principal, serviceName: booking.serviceName ?? "" };
  for (const { key, quota } of limitedAccounts(owner, quotas)) {
    const isPrincipal = accountNamed(key).kind === "principal";
    // One for all services of its principal counts for none of them.
    if (quota.maxGpus === null || (!isPrincipal && booking.serviceName === null)) continue;
    const sameAccount = others.filter((one) =>
      isPrincipal ? one.principal === booking.principal : one.serviceName === booking.serviceName,
    );
    const booked = mostAtOnce(sameAccount, booking);
    if (booked + countOf(booking) <= quota.maxGpus) continue;
    return `${key} may have ${quota.maxGpus} GPUs at once${booked === 0 ? "" : `, and has reserved ${booked} then`}`;
  }
  return null;
}

/** The most GPUs that `others` keep at one instant while `booking` is open. */
function mostAtOnce(others: readonly Booking[], { from, to }: Booking): number {
  // The sum grows only where one begins.
  const begins = [from, ...others.map((one) => one.from).filter((at) => from < at && at < to)];
  const openAt = (at: EpochMs) => others.filter((one) => one.from <= at && at < one.to);
  return Math.max(...begins.map((at) => openAt(at).reduce((sum, one) => sum + countOf(one), 0)));
}

/** See 1. `null`: it can. */
function cannotHold(booking: Booking, before: HostState, now: EpochMs): string | null {
  const after = withBookings(before, [...before.bookings, booking]);
  const named = typeof booking.gpus === "number" ? null : namedTaken(booking, before, now);
  if (named !== null) return named;
  const lacking = fallingShort(before, after, now);
  if (lacking !== null) return lackWords(lacking, after);
  const id = putOff(before, after, now);
  return id === null ? null : `${id} waits for these GPUs, and was told when it starts`;
}

/** Windows that would lack GPUs for the booking's sake, or while it is open. */
function fallingShort(before: HostState, after: HostState, now: EpochMs): Shortfall | null {
  const own: WindowSet = 1 << (after.windows.length - 1);
  const lackedBefore = new Map(shortfallsOf(before, now).map(({ open, lacking }) => [open, lacking]));
  const isNew = ({ open, lacking }: Shortfall) => lacking > ((open & own) === 0 ? (lackedBefore.get(open) ?? 0) : 0);
  return shortfallsOf(after, now).find(isNew) ?? null;
}

function shortfallsOf(state: HostState, now: EpochMs): readonly Shortfall[] {
  const windows = new WindowAllowances(state, () => futureCandidates(state, candidates(state, now), now), now);
  return windows.shortfalls(windows.occupancies(state));
}

function lackWords({ open, usable, leased, lacking }: Shortfall, { windows, bookings }: HostState): string {
  // The last is the one that is asked for.
  const others = windows.slice(0, -1).filter((_, index) => open & (1 << index));
  const kept = others.length === 0 ? "" : `, and ${others.map(({ name }) => name).join(" and ")} keep theirs`;
  const there = `${usable} can be granted`;
  const held = leased === 0 ? "" : `, of which ${leased} are leased beyond its start`;
  return `${lacking} of ${countOf(bookings.at(-1) as Booking)} GPUs are too many then: ${there}${held}${kept}`;
}

/** Why the GPUs that a booking names cannot be kept for it; `null`: they can. */
function namedTaken(booking: Booking, state: HostState, now: EpochMs): string | null {
  const indexOf = indexNow(state);
  const usable = new Set(futureCandidates(state, candidates(state, now), now).map(({ gpu }) => gpu.uuid));
  const overlapping = state.windows.filter(({ spans }) =>
    spans.some(({ from, to }) => from < booking.to && booking.from < to),
  );
  for (const uuid of namedBy(windowOf(booking), state.gpus.values(), indexOf)) {
    const name = `GPU ${indexOf(uuid) ?? uuid}`;
    if (!usable.has(uuid)) return `${name} cannot be granted now`;
    if (isLeasedInto(state.gpus.get(uuid), booking, state)) return `${name} is leased beyond its start`;
    const other = overlapping.find((window) => namedBy(window, state.gpus.values(), indexOf).has(uuid));
    if (other !== undefined) return `${name} is kept by ${other.name} then`;
  }
  return null;
}

function isLeasedInto(gpu: Gpu | undefined, booking: Booking, { allocations, policy }: HostState): boolean {
  return (gpu === undefined ? [] : holdersOf(gpu.hold)).some(({ allocationId }) => {
    const holder = allocations.get(allocationId);
    if (holder === undefined || holder.status === "queued") return false;
    const emptyFrom = (hardEndOf(holder) ?? Infinity) + settlingMs(policy);
    return emptyFrom > booking.from && memberOf(holder.request, [windowOf(booking)]) === 0;
  });
}
