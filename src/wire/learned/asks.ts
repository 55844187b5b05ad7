import { z } from "zod";

export const forgetQuerySchema = z.strictObject({
  key: z.string().min(1).max(4_096).meta({ description: "Of one kind. Default: all of them" }).optional(),
});
