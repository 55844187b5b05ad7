/** Whether a request may be served at all: one pass over its headers, before its body is looked at. */

import type { IncomingMessage } from "node:http";
import { ANONYMOUS } from "../../core/model/ids.ts";
import { allows, type Caller, type Stranger } from "./auth.ts";
import type { Endpoint, Method, Operation } from "./endpoint.ts";
import { isSameOrigin, ownHosts } from "./origin.ts";
import { HttpError } from "./problems.ts";

export interface Admitted {
  readonly caller: Caller;
  /** `null` for an OPTIONS, which is answered with what is allowed. */
  readonly operation: Operation | null;
}

/** What of others the settings let in. */
export interface Pages {
  /** Names in `Host`. */
  readonly allowedHosts: readonly string[];
  /** Of pages elsewhere, as browsers write them. */
  readonly allowedOrigins: readonly string[];
}

/** Who reads an open page: no key is asked for. */
const READER: Caller = { actor: { principal: ANONYMOUS, admin: false }, keyId: null, role: "read", keyed: false };

/** What is done about those of whom nobody knows who they are. */
export interface Strangers {
  /** May throw a refusal of its own. */
  readonly onWrongKey: (req: IncomingMessage) => void;
  /** What an unproven one is to prove itself with. */
  readonly nonce: () => string;
}

/**
 * @returns what admits a request, or throws; it tells who calls as soon as that is known.
 */
export function admitter(
  authenticate: (req: IncomingMessage) => Caller | Stranger,
  allowed: Pages,
  { onWrongKey, nonce }: Strangers,
): (req: IncomingMessage, endpoint: Endpoint, onKnown?: (caller: Caller) => void) => Admitted {
  const isOwnHost = ownHosts(allowed.allowedHosts);
  return (req, endpoint, onKnown) => {
    const found = authenticate(req);
    if (typeof found === "object") onKnown?.(found);
    const authority = authorityOf(req);
    // What is open tells nobody whether a key is right, so there is nothing to guess at.
    if (found === "wrong-key" && endpoint.access === "key") onWrongKey(req);
    const keyed = typeof found === "object" && found.keyed;
    if (endpoint.access !== "probe") {
      // A page that has a key has it from its user; what is open tells nothing of value. No browser leaves out the Host.
      const isHostOurs = keyed || endpoint.access === "open" || authority === null || isOwnHost(authority);
      demandOwnPage(authority, req.headers.origin, isHostOurs, allowed.allowedOrigins);
    }
    const { allow } = endpoint;
    const isKnown = allow !== "";
    if (req.method === "OPTIONS" && isKnown) return { caller: READER, operation: null };
    const caller = typeof found === "object" ? found : endpoint.access === "key" ? refuse(found, nonce) : READER;
    if (!isKnown) throw new HttpError("not-found", "there is nothing at this path");
    // The answer to a HEAD is that to a GET; node leaves out the body.
    const method = req.method === "HEAD" ? "GET" : req.method;
    const operation = Object.hasOwn(endpoint.methods, method ?? "") ? endpoint.methods[method as Method] : undefined;
    if (operation === undefined) {
      throw new HttpError("method-not-allowed", `${req.method} is not one of ${allow}`, { headers: ["Allow", allow] });
    }
    if (!allows(caller.role, operation.role)) {
      throw new HttpError("role-too-low", `this needs a key with the role ${operation.role}`);
    }
    return { caller, operation };
  };
}

const CHALLENGE = 'Bearer realm="gpu-orchestrator"';
/** What goes with the refusal of a key (RFC 6750, section 3). */
export const WRONG_KEY = { headers: ["WWW-Authenticate", `${CHALLENGE}, error="invalid_token"`] } as const;

/** Has what an unproven connection is to prove itself with (proofs.ts). */
const PROVE = "GPU-Orchestrator-Prove";

function refuse(stranger: Stranger, nonce: () => string): never {
  switch (stranger) {
    case "no-key":
      throw new HttpError("unauthenticated", "no API key was given", { headers: ["WWW-Authenticate", CHALLENGE] });
    case "wrong-key":
      throw new HttpError("unauthenticated", "nobody has this API key", WRONG_KEY);
    case "unproven":
      throw new HttpError(
        "unauthenticated",
        "this daemon cannot ask the kernel who calls: make the directory that docs/deployment.md describes",
        { headers: [PROVE, nonce()] },
      );
    case "not-now":
      throw new HttpError("not-ready", "who calls cannot be looked up now", { retryAfterSeconds: 1 });
  }
}

/** Whether it only asks who calls, before anything was tried. */
export function isQuestion(error: unknown, hasProof: boolean): boolean {
  return error instanceof HttpError && error.headers[0] === PROVE && !hasProof;
}

/**
 * The host and port that the request was sent to; `null` when an old client does not say.
 *
 * @throws HttpError 400: RFC 9112, section 3.2, wants exactly one `Host` from HTTP/1.1 on.
 */
function authorityOf(req: IncomingMessage): string | null {
  const { rawHeaders, url = "" } = req;
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    if (name.length === 4 && name.toLowerCase() === "host") hosts++;
  }
  if (hosts > 1) throw new HttpError("malformed-request", "there is more than one Host");
  if (hosts === 0 && req.httpVersion !== "1.0") throw new HttpError("malformed-request", "there is no Host");
  // A target in absolute form, as proxies send it, overrides the Host (section 3.2.2).
  if (!url.startsWith("/") && URL.canParse(url)) return new URL(url).host;
  return req.headers.host ?? null;
}

function demandOwnPage(
  authority: string | null,
  origin: string | undefined,
  isHostOurs: boolean,
  allowedOrigins: readonly string[],
): void {
  // A page that the settings name is where it says: no name of a stranger's points here.
  if (origin !== undefined && allowedOrigins.includes(origin)) return;
  if (!isHostOurs) {
    throw new HttpError(
      "foreign-host",
      "this name is not known here: add it to server.allowed_hosts, call by an address, or send a valid key",
    );
  }
  if (origin !== undefined && !isSameOrigin(origin, authority ?? "")) {
    throw new HttpError("foreign-origin", "the Origin is not where the Host is, and not in server.allowed_origins");
  }
}
