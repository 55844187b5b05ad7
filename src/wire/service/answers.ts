import { z } from "zod";
import { ROLES } from "../../core/model/roles.ts";
import { gpuReasons } from "../allocations/answers.ts";
import { quotaSchema } from "../quotas/answers.ts";

export const healthSchema = z
  .object({ status: z.literal("ok"), ok: z.literal(true).optional() })
  .meta({ id: "Health" });

export const meSchema = z
  .object({
    principal: z.string(),
    role: z.enum(ROLES),
    keyed: z.boolean().meta({ description: "Whether a key said who calls; false: keys are not asked for" }),
    version: z.string().meta({ description: "The daemon's" }),
    work: z.boolean().meta({ description: "Whether this daemon runs work too" }),
    quota: quotaSchema.nullable().meta({ description: "What the principal may have; null: no limit" }),
    allocations: z
      .array(z.string())
      .meta({ description: "The principal's own leases, offers and waiting requests, 1,000 at most" }),
  })
  .meta({ id: "Me", description: "Who calls, and what is the caller's" });

export type MeAnswer = z.output<typeof meSchema>;

export const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    instance: z.string().meta({ description: "This very answer; its id is also in X-Request-Id" }),
    code: z.string().meta({ description: "What programs should look at: it does not change" }),
    errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
    gpus: gpuReasons
      .optional()
      .meta({ description: "Of no-gpu-free: of each GPU why not; null for one that would do by itself" }),
    limit: z.string().optional().meta({ description: "Of limit-reached: the setting that says how much one may have" }),
  })
  .meta({ id: "Problem", description: "RFC 9457" });
