/** `auth.api_keys`. A plain key lives only while the file is read; what stays is its SHA-256. */
import { createHash } from "node:crypto";
import { z } from "zod";
import { PRINCIPAL_NAME } from "../core/model/ids.ts";
import { ROLES, type Role } from "../core/model/roles.ts";
import type { Path } from "./document.ts";
import { type PartialQuota, partialQuota } from "./quotas.ts";
import { flag, instant, nullable, oneOf, Refusal, refuse, setting, show, text } from "./settings.ts";

interface GivenKey {
  /** 64 lower-case hex digits. */
  readonly sha256: string;
  /** Who owns what this key asks for. Several keys may have one principal. */
  readonly principal: string;
  readonly role: Role;
  /** Those of its principal, if they are given with the key. */
  readonly quotas: PartialQuota | null;
  /** From when on it is nobody's, in ms since 1970; `null`: never. */
  readonly expires: number | null;
  /** It may ask on behalf of other principals. */
  readonly delegate: boolean;
}

const MAX_KEYS = 10_000;
const SHORTEST_STRONG_KEY = 16;
const HASHED = /^sha256:/i;
/** What stands in documents in the place of a key: everybody can read it there. */
const PLACEHOLDER = /^(?:put-.*-here|change-?me.*|replace-?me.*|your[-_].*|<.*>)$/i;

export const PRINCIPAL = text("a name of 1 to 128 characters", PRINCIPAL_NAME);

/** What a key may have beside its bare name. */
export const keyHolder = z.strictObject(
  {
    principal: setting(PRINCIPAL, null),
    role: setting(oneOf(ROLES), "allocate"),
    quotas: partialQuota.nullable().default(null),
    expires: setting(nullable(instant), null),
    delegate: setting(flag, false),
  },
  { error: (issue) => `expected a name, or {principal: NAME, role: ROLE}, got ${show(issue.input)}` },
);

/** `{KEY: NAME}` or `{KEY: {principal, role, quotas}}`; a KEY may be `sha256:` and 64 hex digits. */
export function apiKeys() {
  return z
    .unknown()
    .transform((value, context): readonly GivenKey[] => {
      const entries = entriesOf(value);
      if (entries instanceof Refusal) {
        refuse(context, entries);
        return z.NEVER;
      }
      const bySha256 = new Map<string, GivenKey>();
      for (const [key, given] of entries) {
        const holder = keyHolder.safeParse(typeof given === "string" ? { principal: given } : given);
        for (const issue of holder.error?.issues ?? []) context.addIssue({ ...issue, path: [key, ...issue.path] });
        const sha256 = hashOf(key);
        if (sha256 instanceof Refusal) refuse(context, new Refusal(sha256.message, sha256.hint, [key]));
        else if (bySha256.has(sha256)) refuse(context, new Refusal("the same key is given above", null, [key]));
        else if (holder.success) bySha256.set(sha256, { sha256, ...holder.data });
      }
      return [...bySha256.values()];
    })
    .prefault({});
}

/** What is allowed but unwise about the keys as they stand in the file: a message, and the path it belongs to. */
export function keyWarnings(value: unknown): readonly { readonly path: Path; readonly message: string }[] {
  const entries = entriesOf(value);
  if (entries instanceof Refusal) return [];
  return entries.flatMap(([key]) => {
    const path = ["auth", "api_keys", key];
    if (HASHED.test(key)) return [];
    if (!/^[\x21-\x7e]+$/.test(key)) return [{ path, message: "has characters that clients cannot send in a header" }];
    if (key.length >= SHORTEST_STRONG_KEY) return [];
    return [{ path, message: `shorter than ${SHORTEST_STRONG_KEY} characters, so it could be guessed` }];
  });
}

function entriesOf(value: unknown): readonly (readonly [string, unknown])[] | Refusal {
  if (value === null || value === undefined) return [];
  // The value itself is not shown: it may be a key.
  if (typeof value !== "object" || Array.isArray(value)) return new Refusal("expected a section of `KEY: NAME` lines");
  const entries = Object.entries(value);
  return entries.length <= MAX_KEYS ? entries : new Refusal(`holds ${entries.length} keys, more than ${MAX_KEYS}`);
}

/** The digest of a key as a file has it: bare, or as `sha256:` and its digest. */
export function hashOf(key: string): string | Refusal {
  if (key.trim() === "") return new Refusal("an API key must not be empty");
  if (PLACEHOLDER.test(key.replace(HASHED, ""))) {
    return new Refusal(
      "a placeholder of the documentation, which everybody knows: `gpuo keys create NAME` makes a key",
    );
  }
  if (!HASHED.test(key)) return createHash("sha256").update(key, "utf8").digest("hex");
  const hex = key.replace(HASHED, "").toLowerCase();
  return /^[0-9a-f]{64}$/.test(hex) ? hex : new Refusal("expected 64 hex digits after `sha256:`");
}
