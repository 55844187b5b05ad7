import { z } from "zod";

const instant = (description: string) =>
  z.iso
    .datetime({ offset: true, error: "expected a time such as 2026-01-31T00:00:00Z (RFC 3339; a + is %2B here)" })
    .meta({ description, example: "2026-01-31T00:00:00Z" })
    .optional();

export const usageQuerySchema = z.strictObject({
  from: instant("Where the period begins. Default: 24 h before `to`"),
  to: instant("Where it ends; this instant does not count. Default: now"),
  format: z
    .enum(["json", "csv"], { error: "expected json or csv" })
    .meta({ description: "Default: what the Accept header names, or json" })
    .optional(),
});
