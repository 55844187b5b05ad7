/**
 * The kinds of values that settings have. Each is a zod schema whose input default is the text that a user would write,
 * and whose message says what was expected, what was found and, where it can be told, what was meant.
 */
import { isIP } from "node:net";
import { z } from "zod";
import { parseDuration } from "../core/base/duration.ts";
import { nearest } from "../core/base/suggest.ts";

/** Why a value was not taken. `at` leads into the value, for an item of a list. */
export class Refusal {
  readonly message: string;
  readonly hint: string | null;
  readonly at: readonly (string | number)[];

  constructor(message: string, hint: string | null = null, at: readonly (string | number)[] = []) {
    this.message = message;
    this.hint = hint;
    this.at = at;
  }
}

export type Read<T> = (value: unknown) => T | Refusal;

/** One setting with its default, given as it would stand in the file. */
export function setting<T>(read: Read<T>, byDefault: unknown) {
  return z
    .unknown()
    .transform((value, context): T => {
      const result = read(value);
      if (!(result instanceof Refusal)) return result;
      refuse(context, result);
      return z.NEVER;
    })
    .prefault(byDefault);
}

export function refuse(context: z.core.$RefinementCtx<unknown>, refusal: Refusal): void {
  const { message, hint, at } = refusal;
  context.addIssue({ code: "custom", message, params: { hint }, path: [...at], input: undefined });
}

/** A map with fixed keys. One that is left empty (`server:`) is one with its defaults. */
export function section<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  const error = (issue: { readonly input?: unknown }) =>
    `expected a section with keys below it, got ${show(issue.input)}`;
  return z.preprocess((value) => value ?? {}, z.strictObject(shape, { error })).prefault({});
}

export function nullable<T>(read: Read<T>): Read<T | null> {
  return (value) => {
    if (value === null) return null;
    const result = read(value);
    const saysNone = typeof value === "string" && /^(none|off|never|nil|)$/i.test(value.trim());
    return result instanceof Refusal && saysNone ? new Refusal(result.message, "null") : result;
  };
}

export function duration(leastMs: string, mostMs: string): Read<number> {
  const least = parseDuration(leastMs) ?? 0;
  const most = parseDuration(mostMs) ?? Number.POSITIVE_INFINITY;
  return (value) => {
    const parsed = typeof value === "string" ? parseDuration(value) : null;
    if (parsed === null)
      return new Refusal(`expected a duration such as 5s or 1m30s, got ${show(value)}`, meantDuration(value));
    if (parsed >= least && parsed <= most) return parsed;
    return new Refusal(`must be between ${leastMs} and ${mostMs}, got ${show(value)}`);
  };
}

/** `15`, `15 seconds` and `15S` are not durations, but it is plain what they should have been. */
function meantDuration(value: unknown): string | null {
  if (typeof value !== "string" && typeof value !== "number") return null;
  const tidied = String(value)
    .toLowerCase()
    .replace(/\s+/g, "")
    .replace(/milliseconds?|millis|msecs?/g, "ms")
    .replace(/seconds?|secs?/g, "s")
    .replace(/minutes?|mins?/g, "m")
    .replace(/hours?|hrs?/g, "h")
    .replace(/days?/g, "d");
  const guess = /^\d+$/.test(tidied) ? `${tidied}s` : tidied;
  return parseDuration(guess) === null ? null : JSON.stringify(guess);
}

const INSTANT = /^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:\d\d))?$/;

/** A day, which begins at midnight UTC, or a time with its zone; in ms since 1970. */
export const instant: Read<number> = (value) => {
  const at = typeof value === "string" && INSTANT.test(value) ? Date.parse(value.replace(" ", "T")) : Number.NaN;
  return Number.isNaN(at)
    ? new Refusal(`expected a day such as 2027-01-31 or a time such as 2027-01-31T12:00:00Z, got ${show(value)}`)
    : at;
};

export function integer(least: number, most: number): Read<number> {
  return (value) => {
    if (typeof value !== "number" || !Number.isInteger(value)) {
      return new Refusal(`expected a whole number, got ${show(value)}`, meantNumber(value));
    }
    return value >= least && value <= most ? value : outOfRange(value, least, most);
  };
}

export function decimal(least: number, most: number): Read<number> {
  return (value) => {
    if (typeof value !== "number" || !Number.isFinite(value)) {
      return new Refusal(`expected a number, got ${show(value)}`, meantNumber(value));
    }
    return value >= least && value <= most ? value : outOfRange(value, least, most);
  };
}

function outOfRange(value: number, least: number, most: number): Refusal {
  return new Refusal(`must be between ${least} and ${most}, got ${value}`);
}

function meantNumber(value: unknown): string | null {
  return typeof value === "string" && /^\d{1,15}$/.test(value.trim()) ? value.trim() : null;
}

export const flag: Read<boolean> = (value) => {
  if (typeof value === "boolean") return value;
  const word = typeof value === "string" || typeof value === "number" ? String(value).toLowerCase() : "";
  const meant = ["yes", "on", "1", "true"].includes(word)
    ? "true"
    : ["no", "off", "0", "false"].includes(word)
      ? "false"
      : null;
  return new Refusal(`expected true or false, got ${show(value)}`, meant);
};

export function oneOf<const Word extends string>(words: readonly Word[]): Read<Word> {
  return (value) => {
    const found = words.find((word) => word === value);
    if (found !== undefined) return found;
    const meant = typeof value === "string" ? nearest(value, words) : null;
    return new Refusal(`expected ${words.slice(0, -1).join(", ")} or ${words.at(-1)}, got ${show(value)}`, meant);
  };
}

const MAX_TEXT_LENGTH = 1_024;

/** Text in one line. `what` names it in messages; `form` is what it must match. */
export function text(what: string, form: RegExp): Read<string> {
  return (value) => {
    if (typeof value !== "string") {
      const meant = typeof value === "number" || typeof value === "boolean" ? JSON.stringify(String(value)) : null;
      return new Refusal(`expected ${what}, got ${show(value)}`, meant);
    }
    return value.length <= MAX_TEXT_LENGTH && form.test(value)
      ? value
      : new Refusal(`expected ${what}, got ${show(value)}`);
  };
}

const MAX_LIST_LENGTH = 1_000;

export function listOf<T>(read: Read<T>): Read<readonly T[]> {
  return (value) => {
    if (!Array.isArray(value)) {
      const meant = typeof value === "string" && value !== "" ? `[${value.slice(0, 64)}]` : null;
      return new Refusal(`expected a list, got ${show(value)}`, meant);
    }
    if (value.length > MAX_LIST_LENGTH) return new Refusal(`holds ${value.length} items, more than ${MAX_LIST_LENGTH}`);
    const items: T[] = [];
    for (const [index, item] of value.entries()) {
      const result = read(item);
      if (result instanceof Refusal) return new Refusal(result.message, result.hint, [index, ...result.at]);
      items.push(result);
    }
    return items;
  };
}

/** A number, or its digits as text: existing files have `"8086"`. 0 lets the system choose a free one. */
export const port: Read<number> = (value) => {
  const number = typeof value === "string" && /^\d{1,5}$/.test(value) ? Number(value) : value;
  if (typeof number === "number" && Number.isInteger(number)) {
    return number >= 0 && number <= 65_535 ? number : outOfRange(number, 0, 65_535);
  }
  const meant = typeof value === "string" ? (value.match(/^\s*:?\s*(\d{1,5})\s*$/)?.[1] ?? null) : null;
  return new Refusal(`expected a port number, got ${show(value)}`, meant);
};

/** A name as in RFC 1123, with `_` too, since Docker's service names may have it. */
const HOST_NAME = /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?$/;

/** An IP address without brackets, or a host name; without a port. */
export const host: Read<string> = (value) => {
  if (typeof value !== "string") return new Refusal(`expected a host name or an IP address, got ${show(value)}`);
  const name = value.toLowerCase();
  // Digits and dots that are no IPv4 address would pass for a name.
  if (isIP(value) !== 0 || (HOST_NAME.test(name) && !/^[\d.]+$/.test(name))) return name;
  const bare = name
    .replace(/^[a-z]+:\/\//, "")
    .replace(/\/.*$/, "")
    .replace(/^\[(.*)\](:\d+)?$/, "$1");
  const withoutPort = isIP(bare) === 0 ? bare.replace(/:\d+$/, "") : bare;
  const isMeant = withoutPort !== name && (isIP(withoutPort) !== 0 || HOST_NAME.test(withoutPort));
  return new Refusal(`expected a host name or an IP address, got ${show(value)}`, isMeant ? withoutPort : null);
};

/** An absolute `http` or `https` address. Not shown in messages, since it may hold a password. */
export const httpUrl: Read<string> = (value) => {
  const expected = "expected an http:// or https:// address";
  if (typeof value !== "string") return new Refusal(`${expected}, got ${show(value)}`);
  if (!/^https?:\/\//i.test(value))
    return new Refusal(expected, /^[\w.-]+(:\d+)?$/.test(value) ? `http://${value}` : null);
  return URL.canParse(value) ? value : new Refusal(expected);
};

/** A service's address; `null` and the empty string switch the service off. */
export const serviceUrl: Read<string | null> = (value) => (value === "" ? null : nullable(httpUrl)(value));

const SECRET_PREFIX = "whsec_";
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;

/** A secret as in Standard Webhooks 1.0.0, `whsec_` and base64, or any other text. Never shown in messages. */
export const webhookSecret: Read<string> = (value) => {
  if (typeof value !== "string" || value === "")
    return new Refusal("expected `whsec_` and base64, or other text in quotes");
  if (value.length > MAX_TEXT_LENGTH) return new Refusal(`longer than ${MAX_TEXT_LENGTH} characters`);
  if (!value.startsWith(SECRET_PREFIX)) return value;
  const encoded = value.slice(SECRET_PREFIX.length);
  const written = Buffer.from(encoded, "base64").toString("base64");
  // Node skips what is not base64: only what comes back the same was all read.
  const isBase64 = BASE64.test(encoded) && written.replace(/=+$/, "") === encoded.replace(/=+$/, "");
  return isBase64 ? value : new Refusal("what follows `whsec_` is not base64");
};

/** How many bytes a secret signs with. */
export function webhookSecretBytes(secret: string): number {
  if (!secret.startsWith(SECRET_PREFIX)) return Buffer.byteLength(secret, "utf8");
  return Buffer.from(secret.slice(SECRET_PREFIX.length), "base64").length;
}

const MAX_SHOWN = 40;

/** A value as a message shows it: short, in one line, and never more than the kind of a collection. */
export function show(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a section";
  if (typeof value !== "string") return String(value);
  return JSON.stringify(value.length > MAX_SHOWN ? `${value.slice(0, MAX_SHOWN)}...` : value);
}
