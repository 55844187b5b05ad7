import { z } from "zod";
import { ROLES } from "../../core/model/roles.ts";
import { instant } from "../fields.ts";

const fields = {
  id: z.string().meta({ description: "The first 12 hex digits of its SHA-256, as the audit has it" }),
  principal: z.string(),
  role: z.enum(ROLES),
  source: z.enum(["file", "database"]).meta({ description: "Those of the file are changed there" }),
  created_at: instant.nullable().meta({ description: "null: it is in the file" }),
  expires_at: instant.nullable().meta({ description: "null: never" }),
  last_used_at: instant.nullable().meta({ description: "null: it never was" }),
};

export const listedKeySchema = z.object(fields).meta({ id: "Key" });

export type KeyAnswer = z.output<typeof listedKeySchema>;

export const keysSchema = z.object({ keys: z.array(listedKeySchema) }).meta({ id: "Keys" });

export const newKeySchema = z
  .object({ ...fields, key: z.string().meta({ description: "The key itself: it is shown this once" }) })
  .meta({ id: "NewKey" });
