import { z } from "zod";
import { exactly, instant, pageSize } from "../asking.ts";

const MAX_TEXT = 512;

const text = (description: string) => {
  const error = `expected text of 1 to ${MAX_TEXT} characters`;
  return z.string({ error }).min(1, { error }).max(MAX_TEXT, { error }).meta({ description }).optional();
};

export const auditQuerySchema = exactly({
  principal: text("Only what this principal did or was refused"),
  action: text("Only this call, such as `POST /gpu/allocate`"),
  object: text("Only what was about this: an allocation, a GPU, a webhook"),
  result: text("`done`, `refused`, or the code of a refusal"),
  from: instant("Only from then on"),
  to: instant("Only before then"),
  before: z
    .string()
    .regex(/^[1-9]\d{0,14}$/, { error: "expected the `next` of the page before" })
    .meta({ description: "The `next` of the page before" })
    .optional(),
  limit: pageSize,
  format: z
    .enum(["json", "jsonl"], { error: "expected json or jsonl" })
    .meta({ description: "jsonl: the entries of the page, one a line. Default: what the Accept header names, or json" })
    .optional(),
});
