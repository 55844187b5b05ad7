import { z } from "zod";
import { instant } from "../fields.ts";
import { gpuState } from "../gpus/answers.ts";

export const historySchema = z
  .object({
    from: instant,
    to: instant.meta({ description: "No later than now" }),
    gpus: z.array(
      z.object({
        uuid: z.string(),
        spans: z
          .array(
            z.object({
              from: instant,
              to: instant,
              state: gpuState,
              services: z.array(z.string()).meta({ description: "That held it, a part of it or instances of it" }),
              idle: z.boolean().meta({ description: "Whether all that held it were flagged as idle" }),
            }),
          )
          .meta({ description: "Without a gap, oldest first" }),
      }),
    ),
  })
  .meta({
    id: "History",
    description:
      "What each GPU was. States that were shorter than two seconds may be missing. unknown: there was no reading, the " +
      "daemon did not run, or it is not kept any more; 8 days are, and 100,000 changes",
  });

export type HistoryAnswer = z.output<typeof historySchema>;
