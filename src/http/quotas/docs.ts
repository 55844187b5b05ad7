import { quotasSchema } from "../../wire/quotas/answers.ts";
import { reading } from "../describing.ts";

export const quotas = reading("quotas", "What accounts may have, what they have, and what is left", quotasSchema);
