/** Whether a request may be served at all: one pass over its headers, before its body is looked at. */
import type { IncomingMessage } from "node:http";
import { allows, type Caller, type Stranger } from "./auth.ts";
import type { Endpoint, Method, Operation } from "./endpoints.ts";
import { isOwnHost, isSameOrigin } from "./origin.ts";
import { HttpError } from "./problems.ts";

export interface Admitted {
  readonly caller: Caller;
  /** `null` for an OPTIONS, which is answered with `allow` alone. */
  readonly operation: Operation | null;
  readonly allow: string;
}

/** Who nobody needs to know: an open page's reader. */
const READER: Caller = { actor: { principal: "anonymous", admin: false }, role: "read", keyed: false };

export function admitter(
  authenticate: (headers: IncomingMessage["headers"]) => Caller | Stranger,
  allowedHosts: readonly string[],
): (req: IncomingMessage, endpoint: Endpoint) => Admitted {
  return (req, endpoint) => {
    const found = authenticate(req.headers);
    const keyed = typeof found === "object" && found.keyed;
    demandHost(req);
    if (endpoint.access !== "probe") demandOwnPage(req, keyed, allowedHosts);
    const allow = allowOf(endpoint);
    if (req.method === "OPTIONS") return { caller: READER, operation: null, allow };
    const caller = typeof found === "object" ? found : endpoint.access === "key" ? refuse(found) : READER;
    // The answer to a HEAD is that to a GET; node leaves out the body.
    const method = req.method === "HEAD" ? "GET" : req.method;
    const operation = Object.hasOwn(endpoint.methods, method ?? "") ? endpoint.methods[method as Method] : undefined;
    if (operation === undefined) {
      throw new HttpError("method-not-allowed", `${req.method} is not one of ${allow}`, { headers: ["Allow", allow] });
    }
    if (!allows(caller.role, operation.role)) {
      throw new HttpError("role-too-low", `this needs a key with the role ${operation.role}`);
    }
    return { caller, operation, allow };
  };
}

function allowOf({ methods }: Endpoint): string {
  const names = Object.keys(methods).flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method]));
  return [...names, "OPTIONS"].join(", ");
}

function refuse(stranger: Stranger): never {
  const challenge = 'Bearer realm="gpu-orchestrator"';
  throw stranger === "no-key"
    ? new HttpError("unauthenticated", "no API key was given", { headers: ["WWW-Authenticate", challenge] })
    : new HttpError("unauthenticated", "nobody has this API key", {
        headers: ["WWW-Authenticate", `${challenge}, error="invalid_token"`],
      });
}

/** RFC 9112, section 3.2: exactly one `Host` from HTTP/1.1 on. */
function demandHost(req: IncomingMessage): void {
  const { rawHeaders } = req;
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    if (name.length === 4 && name.toLowerCase() === "host") hosts++;
  }
  if (hosts === 1 || (hosts === 0 && req.httpVersion === "1.0")) return;
  throw new HttpError("malformed-request", hosts === 0 ? "there is no Host" : "there is more than one Host");
}

function demandOwnPage(req: IncomingMessage, keyed: boolean, allowedHosts: readonly string[]): void {
  const { host, origin } = req.headers;
  // A page that has a key has it from its user. No browser leaves out the Host.
  if (!keyed && host !== undefined && !isOwnHost(host, allowedHosts)) {
    throw new HttpError("foreign-host", "reach the daemon by an address, or name it in server.allowed_hosts");
  }
  if (origin !== undefined && !isSameOrigin(origin, host ?? "")) {
    throw new HttpError("foreign-origin", "the Origin is not where the Host is");
  }
}
