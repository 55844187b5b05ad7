import { z } from "zod";
import { exactly, instant } from "../asking.ts";

export const usageQuerySchema = exactly({
  from: instant("Where the period begins. Default: 24 h before `to`"),
  to: instant("Where it ends; this instant does not count. Default: now"),
  format: z
    .enum(["json", "csv"], { error: "expected json or csv" })
    .meta({ description: "Default: what the Accept header names, or json" })
    .optional(),
});
