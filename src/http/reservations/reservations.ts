/** `/gpu/reservations`: GPUs that are kept for a principal from a time for a while. */
import type { BookingAsk } from "../../core/decisions/commands.ts";
import { type Booking, bookedAt } from "../../core/model/booking.ts";
import { ReservationRefusedError } from "../../core/model/errors.ts";
import { type Actor, ANONYMOUS } from "../../core/model/ids.ts";
import { printable } from "../../platform/printable.ts";
import type { Scheduler } from "../../scheduler/scheduler.ts";
import { lifetimeOf } from "../../wire/asking.ts";
import type { ReservationAnswer } from "../../wire/reservations/answers.ts";
import { type ReservationAsk, reservationSchema } from "../../wire/reservations/asks.ts";
import { timestamp } from "../../wire/values.ts";
import { json } from "../exchange/answers.ts";
import { checker } from "../exchange/checks.ts";
import type { Operation } from "../exchange/endpoint.ts";
import type { EndpointParts } from "../parts.ts";

export function reservations({ scheduler }: EndpointParts): Operation {
  return {
    role: "read",
    body: "ignored",
    answer({ actor }) {
      const now = scheduler.now();
      const all = [...bookedAt(scheduler.state.bookings, now)].sort(
        (a, b) => a.from - b.from || (a.id < b.id ? -1 : 1),
      );
      return json(200, { reservations: all.map((one) => reservationView(one, actor, now)), now: timestamp(now) });
    },
  };
}

export function reserving({ scheduler }: EndpointParts): Operation {
  const check = checker(reservationSchema);
  return {
    role: "allocate",
    body: "needed",
    async answer({ body, actor }) {
      const ask = bookingAsk(check(body), scheduler);
      if ((ask.principal ?? actor.principal) === ANONYMOUS && ask.serviceName === null) {
        throw new ReservationRefusedError("without keys everybody is one principal: name the service_name it is for");
      }
      return json(201, reservationView(await scheduler.book(ask, actor), actor, scheduler.now()));
    },
  };
}

export function reservationEnd({ scheduler }: EndpointParts): Operation {
  return {
    role: "allocate",
    body: "ignored",
    answer: async ({ id, actor }) =>
      json(200, reservationView(await scheduler.cancelBooking(id, actor), actor, scheduler.now())),
  };
}

/** The difference between the wall clock, by which callers name times, and the daemon's is rounded to this. */
const STEP_MS = 1_000;

function bookingAsk(given: ReservationAsk, scheduler: Scheduler): BookingAsk {
  const aheadMs = Math.round((Date.now() - scheduler.now()) / STEP_MS) * STEP_MS;
  const instantOf = (text: string) => Date.parse(text) - aheadMs;
  return {
    principal: given.principal ?? null,
    serviceName: given.service_name ?? null,
    gpus: typeof given.gpus === "number" ? given.gpus : given.gpus.map(String),
    from: typeof given.from === "string" ? instantOf(given.from) : null,
    to: typeof given.to === "string" ? instantOf(given.to) : { afterMs: lifetimeOf(given.duration) ?? 0 },
  };
}

function reservationView(booking: Booking, actor: Actor, now: number): ReservationAnswer {
  const { id, principal, serviceName, gpus, from, to, madeAt } = booking;
  const mayKnow = actor.admin || actor.principal === principal;
  return {
    id,
    gpus: typeof gpus === "number" ? gpus : null,
    gpu_uuids: typeof gpus === "number" ? null : gpus.map(printable),
    from: timestamp(from),
    to: timestamp(to),
    service_name: serviceName,
    ...(mayKnow ? { principal: printable(principal) } : {}),
    open: from <= now,
    made_at: timestamp(madeAt),
  };
}
