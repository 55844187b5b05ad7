/** Tells requests that a web page elsewhere could have caused in a user's browser. */
import { isIP } from "node:net";
import { hostname } from "node:os";

/** With a letter first: what is all digits is an address in another spelling. */
const SINGLE_LABEL = /^[a-z][a-z0-9_-]{0,62}$/;

const AUTHORITY = /^(?:\[([0-9a-f:.]+)\]|([^:/?#@\s[\]]+))(?::\d{1,5})?$/i;

/**
 * Whether `authority` (a `Host`) is one that a foreign page cannot have a browser send: by DNS rebinding it can point
 * a name of its own here, but neither an address nor a name that is not its own.
 */
export function isOwnHost(authority: string, allowedHosts: readonly string[]): boolean {
  const match = AUTHORITY.exec(authority);
  if (match === null) return false;
  const [, v6, given = ""] = match;
  if (v6 !== undefined) return isIP(v6) === 6;
  const name = withoutFinalDot(given.toLowerCase());
  if (name === "localhost" || isIP(name) === 4) return true;
  // A name of one label is of this network: no page elsewhere can be reached by it.
  if (name === hostname().toLowerCase() || SINGLE_LABEL.test(name)) return true;
  return allowedHosts.some((allowed) => withoutFinalDot(allowed.toLowerCase()) === name);
}

/** Authorities that are remembered to be our own: a host has few. */
const MOST_REMEMBERED = 64;

/** {@link isOwnHost}, which remembers: clients send the same one with each request. */
export function ownHosts(allowedHosts: readonly string[]): (authority: string) => boolean {
  const own = new Set<string>();
  return (authority) => {
    if (own.has(authority)) return true;
    if (!isOwnHost(authority, allowedHosts)) return false;
    if (own.size < MOST_REMEMBERED) own.add(authority);
    return true;
  };
}

function withoutFinalDot(name: string): string {
  return name.endsWith(".") ? name.slice(0, -1) : name;
}

/** Whether `origin` is where `authority` is: scheme apart, since TLS may end before the daemon. */
export function isSameOrigin(origin: string, authority: string): boolean {
  // "null" is what a browser sends for a page that it does not trust with its origin.
  if (!/^https?:\/\//i.test(origin) || !URL.canParse(origin)) return false;
  const page = new URL(origin);
  const own = `${page.protocol}//${authority}`;
  return URL.canParse(own) && new URL(own).host === page.host;
}
