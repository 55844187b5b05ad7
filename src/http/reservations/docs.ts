import { z } from "zod";
import type { ZodOpenApiOperationObject } from "zod-openapi";
import { reservationAnswerSchema, reservationsSchema } from "../../wire/reservations/answers.ts";
import { reservationSchema } from "../../wire/reservations/asks.ts";
import { answer, bodyOf, CHANGING, problems, reading, WITH_BODY, WITH_KEY } from "../describing.ts";

export const list = reading(
  "listReservations",
  "GPUs that are kept for somebody once, now or later",
  reservationsSchema,
);

export const create: ZodOpenApiOperationObject = {
  operationId: "reserve",
  summary: "Keep GPUs for a principal from a time for a while; refused when that cannot hold",
  requestBody: bodyOf(reservationSchema, { gpus: 1, duration: "10m", service_name: "trainer" }),
  responses: {
    "201": answer("The reservation", reservationAnswerSchema),
    ...problems(...WITH_KEY, ...WITH_BODY, ...CHANGING, "reservation-refused", "gpu-not-found", "not-owner"),
  },
};

export const cancel: ZodOpenApiOperationObject = {
  operationId: "cancelReservation",
  summary: "Give up what is left of a reservation; leases stay",
  requestParams: { path: z.object({ id: z.string().meta({ description: "A reservation's id" }) }) },
  responses: {
    "200": answer("The reservation that was", reservationAnswerSchema),
    ...problems(...WITH_KEY, ...CHANGING, "reservation-not-found", "not-owner"),
  },
};
