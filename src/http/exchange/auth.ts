/** Who is calling: API keys, and what their roles allow. */
import { hash, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { type Actor, ANONYMOUS } from "../../core/model/ids.ts";
import { ROLES, type Role } from "../../core/model/roles.ts";

export { ROLES, type Role };

export interface ApiKey {
  /** 64 lower-case hex digits. */
  readonly sha256: string;
  /** Who owns what this key asks for. Several keys may have one principal. */
  readonly principal: string;
  readonly role: Role;
  /** From when on it is nobody's, in ms since 1970 by the wall clock; absent: never. */
  readonly expiresAt?: number;
  /** It may ask on behalf of other principals. */
  readonly delegate?: boolean;
}

export interface AuthSettings {
  readonly enabled: boolean;
  /** The header that carries a key, beside `Authorization: Bearer`. */
  readonly headerName: string;
}

/** Somebody who may act; `keyed` when a valid key says so. */
export interface Caller {
  readonly actor: Actor;
  /** Tells the key, and does not give it away; `null`: there is none. */
  readonly keyId: string | null;
  readonly role: Role;
  readonly keyed: boolean;
  /** Whether it may ask on behalf of other principals; absent: not. */
  readonly delegate?: boolean;
  /** Of who came by the unix socket: the kernel says it. */
  readonly uid?: number;
}

/** With authentication off everybody is one principal and an admin. */
const EVERYBODY: Caller = { actor: { principal: ANONYMOUS, admin: true }, keyId: null, role: "admin", keyed: false };

/**
 * Whether the caller gave no key, or one that nobody has, or came by the socket and is to prove who it is, or has tried to
 * and cannot be looked up for the time being.
 */
export type Stranger = "no-key" | "wrong-key" | "unproven" | "not-now";

export function allows(role: Role, needed: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(needed);
}

/**
 * Tells callers by their headers.
 *
 * @param keys the keys as they are now; a reload gives a new list.
 */
export function authenticator(
  settings: AuthSettings,
  keys: () => readonly ApiKey[],
): (headers: IncomingHttpHeaders) => Caller | Stranger {
  if (!settings.enabled) return () => EVERYBODY;
  const headerName = settings.headerName.toLowerCase();
  let listed: readonly ApiKey[] = [];
  let holders: readonly ReturnType<typeof holderOf>[] = [];

  return (headers) => {
    const key = keyOf(headers, headerName);
    if (key === null) return "no-key";
    if (keys() !== listed) {
      listed = keys();
      holders = listed.map(holderOf);
    }
    // A header's bytes come as Latin-1: these are the bytes that were sent.
    const given = hash("sha256", Buffer.from(key, "latin1"), "buffer");
    let found: Caller | Stranger = "wrong-key";
    // All of them, whichever matches: the time tells nothing.
    for (const { digest, caller, expiresAt } of holders) {
      if (timingSafeEqual(digest, given)) found = Date.now() < expiresAt ? caller : "wrong-key";
    }
    return found;
  };
}

function holderOf({ sha256, principal, role, expiresAt = Infinity, delegate = false }: ApiKey) {
  const actor = { principal, admin: role === "admin" };
  return {
    digest: Buffer.from(sha256, "hex"),
    caller: { actor, keyId: keyIdOf(sha256), role, keyed: true, delegate },
    expiresAt,
  };
}

const KEY_ID_DIGITS = 12;
/** What {@link keyIdOf} gives. */
export const KEY_ID = /^[0-9a-f]{12}$/;

/** What a key is called where it is spoken of: the beginning of its SHA-256. */
export function keyIdOf(sha256: string): string {
  return sha256.slice(0, KEY_ID_DIGITS);
}

function keyOf(headers: IncomingHttpHeaders, headerName: string): string | null {
  const named = headers[headerName];
  // `Authorization` may itself be the configured header, with or without a scheme before the key.
  if (typeof named === "string" && named !== "" && headerName !== "authorization") return named;
  const { authorization } = headers;
  if (authorization === undefined) return null;
  const bearer = /^bearer +(\S+) *$/i.exec(authorization)?.[1];
  return bearer ?? (headerName === "authorization" && authorization !== "" ? authorization : null);
}
