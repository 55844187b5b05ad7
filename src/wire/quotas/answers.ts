import { z } from "zod";
import { instant } from "../fields.ts";

const counted = (unit: string) =>
  z
    .object({ limit: z.int(), used: z.int(), left: z.int() })
    .nullable()
    .meta({ description: `${unit}; null: no limit` });

export const quotaSchema = z
  .object({
    kind: z.enum(["principal", "service"]),
    name: z.string(),
    gpus: counted("GPUs held at once, by leases and offers"),
    queued: counted("Requests that wait"),
    max_priority: z.int().nullable().meta({ description: "Requests that ask for more get this; null: no limit" }),
    gpu_hours: z
      .object({
        limit: z.number(),
        used: z.number().nullable().meta({
          description:
            "In this period, with what running leases may still take until their max_duration; null: being counted",
        }),
        left: z.number().nullable(),
        period_seconds: z.number(),
        period_from: instant,
        renews_at: instant,
      })
      .nullable()
      .meta({ description: "GPU-hours reserved per period; null: no limit" }),
  })
  .meta({ id: "Quota" });

export type QuotaAnswer = z.output<typeof quotaSchema>;

export const quotasSchema = z.object({ now: instant, accounts: z.array(quotaSchema) }).meta({
  id: "Quotas",
  description: "Of the caller's principal and of all services; an admin sees every principal",
});

export type QuotasAnswer = z.output<typeof quotasSchema>;
