/** Secrets of webhooks: one, or two while its receivers change over; for all, or by principal. */
import { z } from "zod";
import { PRINCIPAL } from "./api-keys.ts";
import { type Read, Refusal, refuse, show, webhookSecret } from "./settings.ts";

const MOST_AT_ONCE = 2;
const MAX_LINES = 10_000;

/** A secret, or a list of the new one and the old one. */
export const webhookSecrets: Read<readonly string[]> = (value) => {
  const given = Array.isArray(value) ? value : [value];
  if (given.length === 0 || given.length > MOST_AT_ONCE) {
    return new Refusal("expected one secret, or a list of the new one and the old one");
  }
  const read = given.map(webhookSecret);
  const wrong = read.find((one) => one instanceof Refusal);
  return wrong ?? (read as readonly string[]);
};

export function secretsByPrincipal() {
  return z
    .unknown()
    .transform((value, context): Readonly<Record<string, readonly string[]>> => {
      const given = value ?? {};
      if (typeof given !== "object" || Array.isArray(given)) {
        refuse(context, new Refusal(`expected a section of \`PRINCIPAL: SECRET\` lines, got ${show(given)}`));
        return z.NEVER;
      }
      const entries = Object.entries(given);
      if (entries.length > MAX_LINES) {
        refuse(context, new Refusal(`holds ${entries.length} lines, more than ${MAX_LINES}`));
        return z.NEVER;
      }
      const found: [string, readonly string[]][] = [];
      for (const [key, below] of entries) {
        const [name, secrets] = [PRINCIPAL(key), webhookSecrets(below)];
        for (const part of [name, secrets]) {
          if (part instanceof Refusal) refuse(context, new Refusal(part.message, part.hint, [key]));
        }
        if (!(secrets instanceof Refusal)) found.push([key, secrets]);
      }
      return Object.fromEntries(found);
    })
    .prefault({});
}
