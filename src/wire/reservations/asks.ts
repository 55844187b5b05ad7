import { z } from "zod";
import { PRINCIPAL_NAME } from "../../core/model/ids.ts";
import { exactly, lifetime, serviceName } from "../asking.ts";

const MOST_GPUS = 1_024;
const countError = `expected a whole number from 1 to ${MOST_GPUS}, or a list of UUIDs and indices`;
const gpuName = z.union([z.string().min(1).max(128), z.int().min(0).max(MOST_GPUS)], { error: countError });

const instant = (description: string) =>
  z.iso
    .datetime({ offset: true, error: "expected a time such as 2026-01-31T14:00:00Z (RFC 3339)" })
    .meta({ description, example: "2026-01-31T14:00:00Z" })
    .nullish();

export const reservationSchema = exactly({
  gpus: z
    .union([z.int().min(1).max(MOST_GPUS), z.array(gpuName).min(1).max(MOST_GPUS)], { error: countError })
    .meta({ description: "How many whole GPUs, whichever they are; or which, by UUID or index", example: 2 }),
  from: instant("Left out: now"),
  to: instant("Its end; this or duration"),
  duration: lifetime("How long, from its beginning"),
  service_name: serviceName.nullish().meta({ description: "Only for requests of this service. Left out: for any" }),
  principal: z
    .string({ error: "expected the name of a principal" })
    .regex(PRINCIPAL_NAME, { error: "expected the name of a principal" })
    .meta({ description: "Whose requests may use them. Admins may name another; left out: the caller's own" })
    .nullish(),
}).superRefine(({ to, duration }, context) => {
  const given = [to, duration].filter((one) => one !== undefined && one !== null).length;
  if (given !== 1)
    context.addIssue({ code: "custom", path: ["duration"], message: "give duration or to, one of them" });
});

export type ReservationAsk = z.output<typeof reservationSchema>;
