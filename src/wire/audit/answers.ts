import { z } from "zod";
import { instant, words } from "../fields.ts";

export const auditEntrySchema = z
  .object({
    id: z.int(),
    at: instant,
    principal: words.meta({ description: "null: there was no key, or nobody has it" }),
    key_id: words.meta({ description: "The first 12 hex digits of the key's SHA-256" }),
    address: words.meta({ description: "null: the daemon itself, on the principal's behalf" }),
    action: z.string().meta({ example: "POST /gpu/allocate" }),
    object: words.meta({ description: "What it was about: an allocation, a GPU, a webhook" }),
    result: z.string().meta({
      description:
        "done, or the refusal's code. counted: further refusals of that minute. not-kept: refusals that could not be written",
    }),
    reason: words.meta({ description: "An admin's word; of what is counted, the refusals' code" }),
    request_id: words.meta({ description: "The X-Request-Id of the answer" }),
    count: z.int().meta({ description: "How many refusals the entry stands for" }),
  })
  .meta({ id: "AuditEntry" });

export type AuditEntryAnswer = z.output<typeof auditEntrySchema>;

export const auditSchema = z
  .object({
    entries: z.array(auditEntrySchema).meta({ description: "Newest first; a page may be short and not be the last" }),
    next: z.string().nullable().meta({ description: "`before` of the next page; null: this is the last" }),
  })
  .meta({ id: "Audit" });
