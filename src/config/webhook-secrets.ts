/** Secrets of webhooks: one, or two while its receivers change over; for all, or by principal. */
import { PRINCIPAL } from "./api-keys.ts";
import { sectionsByName } from "./by-name.ts";
import { type Read, Refusal, setting, webhookSecret } from "./settings.ts";

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
  return sectionsByName(PRINCIPAL, setting(webhookSecrets, null), { lines: "PRINCIPAL: SECRET", most: MAX_LINES });
}
