import { z } from "zod";
import { WORKLOAD_TYPES } from "../../core/model/workload.ts";
import { instant } from "../fields.ts";

export const windowsSchema = z
  .object({
    now: instant,
    windows: z.array(
      z.object({
        name: z.string(),
        schedule: z.string().meta({ description: "When it opens, as in cron", example: "0 9 * * 1-5" }),
        time_zone: z.string(),
        duration_seconds: z.number(),
        gpus: z.int().nullable().meta({ description: "How many it keeps; null: those in gpu_uuids" }),
        gpu_uuids: z.array(z.string()).nullable().meta({ description: "Those it names, of this host's; null: none" }),
        for: z
          .array(
            z.object({
              services: z.array(z.string()),
              principals: z.array(z.string()),
              workload_types: z.array(z.enum(WORKLOAD_TYPES)),
            }),
          )
          .meta({ description: "Who may use them: whoever is in each list, of one of these, that is not empty" }),
        open: z.boolean(),
        occurrences: z
          .array(z.object({ from: instant, to: instant }))
          .meta({ description: "Of the coming seven days, and the present one" }),
      }),
    ),
  })
  .meta({ id: "Windows" });

export type WindowsAnswer = z.output<typeof windowsSchema>;
