import { z } from "zod";
import { instant, owner } from "../fields.ts";

export const reservationFields = {
  gpus: z.int().nullable().meta({ description: "How many it keeps; null: those in gpu_uuids" }),
  gpu_uuids: z.array(z.string()).nullable().meta({ description: "Those it names; null: none" }),
  from: instant,
  to: instant,
  service_name: z
    .string()
    .nullable()
    .meta({ description: "Only its requests may use them; null: any of the principal" }),
};

export const reservationAnswerSchema = z
  .object({
    id: z.string(),
    ...reservationFields,
    principal: owner.optional(),
    open: z.boolean().meta({ description: "Whether it has begun" }),
    made_at: instant,
  })
  .meta({ id: "Reservation" });

export type ReservationAnswer = z.output<typeof reservationAnswerSchema>;

export const reservationsSchema = z
  .object({ reservations: z.array(reservationAnswerSchema), now: instant })
  .meta({ id: "Reservations" });

export type ReservationsAnswer = z.output<typeof reservationsSchema>;
