/** A booking: GPUs that are kept for one principal from a time for a while, once. The API calls it a reservation. */
import type { EpochMs } from "../base/time.ts";
import type { GpuUuid } from "./ids.ts";
import type { KeptWindow } from "./policy.ts";

/** At once, on the host: which windows a request may use is a bit for each, those of the settings included. */
export const MAX_BOOKINGS = 15;
/** One principal's at once, but for an admin's. */
export const MAX_BOOKINGS_OF_ONE = 5;
/** How far ahead one may end: so far the calendar tells every opening of every window (window-calendar.ts, 2). */
export const MAX_BOOKED_AHEAD_MS = 14 * 86_400_000;
export const MIN_BOOKED_MS = 60_000;

export interface Booking {
  readonly id: string;
  readonly principal: string;
  /** `null`: for all requests of the principal. */
  readonly serviceName: string | null;
  /** How many GPUs, whichever they are, or which. */
  readonly gpus: number | readonly GpuUuid[];
  readonly from: EpochMs;
  readonly to: EpochMs;
  readonly madeAt: EpochMs;
  /** Who asked for it: its principal, or an admin. */
  readonly madeBy: string;
}

/** What it keeps from others, as a window of its own. */
export function windowOf({ id, principal, serviceName, gpus, from, to }: Booking): KeptWindow {
  const services = serviceName === null ? [] : [serviceName];
  return {
    name: id,
    gpus,
    members: [{ principals: [principal], services, workloadTypes: [] }],
    spans: [{ from, to }],
  };
}

/** Those that are not over at `at`. */
export function bookedAt(bookings: readonly Booking[], at: EpochMs): readonly Booking[] {
  return bookings.some(({ to }) => to <= at) ? bookings.filter(({ to }) => to > at) : bookings;
}
