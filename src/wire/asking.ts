import { z } from "zod";
import { parseDuration } from "../core/base/duration.ts";
import { nearest } from "../core/base/suggest.ts";

/** No wait is longer, whoever asks for it and how. */
export const MAX_WAIT_MS = 60_000;

const MIN_LIFETIME_MS = 1_000;

/** Ten years. */
export const MAX_LIFETIME_MS = 315_360_000_000;

const MAX_ID_LENGTH = 256;

export const DEFAULT_PAGE = 100;

export const MAX_PAGE = 1_000;

export function whole(min: number, max: number, description: string) {
  const error = `expected a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error }).meta({ description }).nullish();
}

export const flag = (description: string) =>
  z.boolean({ error: "expected true or false" }).meta({ description }).nullish();

/** In milliseconds; `null` when it is neither a duration nor a number of seconds within bounds. */
export function lifetimeMs(given: string | number): number | null {
  const ms = typeof given === "number" ? Math.round(given * 1_000) : parseDuration(given);
  return ms !== null && ms >= MIN_LIFETIME_MS && ms <= MAX_LIFETIME_MS ? ms : null;
}

export function lifetime(description: string) {
  const error = "expected a duration such as 90s or 1h30m, or a number of seconds, from 1 s to 10 years";
  return z
    .union([z.string(), z.number()], { error })
    .refine((given) => lifetimeMs(given) !== null, { error })
    .meta({ description, example: "1h30m" })
    .nullish();
}

export const serviceName = z
  .string({ error: "expected a name of 1 to 128 characters of A-Z a-z 0-9 . _ -" })
  .regex(/^[A-Za-z0-9._-]{1,128}$/, { error: "expected a name of 1 to 128 characters of A-Z a-z 0-9 . _ -" })
  .meta({ description: "Who will use the GPUs", example: "trainer" });

export const allocationId = z
  .string({ error: "expected an allocation's id" })
  .min(1, { error: "expected an allocation's id" })
  .max(MAX_ID_LENGTH, { error: "expected an allocation's id" });

export const fencingToken = whole(0, Number.MAX_SAFE_INTEGER, "The lease's token; a wrong one is refused with 409");

/** What others call our fields: other schedulers, and what our own answers show. */
const OTHER_NAMES: { readonly [name: string]: string } = {
  num_gpus: "required_gpus",
  gpu_count: "required_gpus",
  memory_mb: "min_memory_mb",
  ttl_seconds: "ttl",
  max_duration_seconds: "max_duration",
  timeout: "queue_timeout",
};

/** Why a field is refused that there is not. */
export function unknownField(name: string, known: readonly string[]): string {
  const other = OTHER_NAMES[name] ?? "";
  const meant = known.includes(other) ? other : nearest(name, known);
  return meant === null ? "no such field" : `no such field; did you mean ${meant}?`;
}

/** An object with these fields and no other; what is wrong with several is said a line each, in their order. */
export function exactly<S extends z.ZodRawShape>(shape: S) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? (issue.keys as string[]).map((name) => unknownField(name, known)).join("\n")
        : "expected a JSON object",
  });
}

const MAX_REASON_LENGTH = 500;

const reasonError = { error: `expected the reason, as text of 1 to ${MAX_REASON_LENGTH} characters` };

/** What an admin decides is decided for a reason, which is kept. */
const reason = z
  .string(reasonError)
  .trim()
  .min(1, reasonError)
  .max(MAX_REASON_LENGTH, reasonError)
  .meta({ description: "Kept in the journal and shown with what it explains", example: "fan replaced on Friday" });

export const reasonFields = { reason };

export const reasonSchema = exactly(reasonFields);

/** What is kept of an admin's word that undoes something and names no reason. */
export const NO_REASON = "no reason given";

const MAX_URL_LENGTH = 2_048;

/** Where webhooks are to go; whether they may is judged by the settings. */
export const webhookUrl = z
  .string({ error: "expected an http or https address" })
  .min(1, { error: "expected an http or https address" })
  .max(MAX_URL_LENGTH, { error: `expected an address of at most ${MAX_URL_LENGTH} characters` });

const MAX_MESSAGE_LENGTH = 500;

const messageError = { error: `expected the message, as text of 1 to ${MAX_MESSAGE_LENGTH} characters` };

/** To whoever holds a lease. */
export const nudgeSchema = exactly({
  message: z
    .string(messageError)
    .trim()
    .min(1, messageError)
    .max(MAX_MESSAGE_LENGTH, messageError)
    .meta({ description: "For its holder alone", example: "Done by six? I have a deadline tonight." }),
});

/** Of a word that gives back what another took: the reason stands with that one. */
export const optionalReasonSchema = exactly({ reason: reason.nullish() });

/** A query's values are text; to readers of the OpenAPI document this one is a number. */
export function asInteger(bounds: object) {
  return ({ jsonSchema }: { readonly jsonSchema: Record<string, unknown> }) => {
    delete jsonSchema.pattern;
    Object.assign(jsonSchema, { type: "integer", ...bounds });
  };
}

export const pageSize = z
  .string()
  .regex(/^(?:[1-9]\d{0,2}|1000)$/, { error: `expected a whole number from 1 to ${MAX_PAGE}` })
  .meta({ override: asInteger({ minimum: 1, maximum: MAX_PAGE, default: DEFAULT_PAGE }) })
  .optional();

/** `null`: not given. */
export function lifetimeOf(given: string | number | null | undefined): number | null {
  return given === undefined || given === null ? null : lifetimeMs(given);
}

/** In a query. */
export const instant = (description: string) =>
  z.iso
    .datetime({ offset: true, error: "expected a time such as 2026-01-31T00:00:00Z (RFC 3339; a + is %2B here)" })
    .meta({ description })
    .optional();
