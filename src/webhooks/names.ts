/**
 * Names to addresses, for webhooks. Asked by c-ares, not by the system's resolver: Node runs that on its few threads,
 * where names that nobody answers for would keep every other name, and every file, waiting.
 *
 * 1. A question ends by itself within {@link ANSWER_MS}, whatever the name servers do.
 * 2. /etc/hosts comes first, `localhost` is loopback (RFC 6761, section 6.3), and a short name is tried with the search
 *    domains of /etc/resolv.conf, as the system's resolver would. Other sources (mDNS, LDAP) are not asked.
 */
import { Resolver } from "node:dns/promises";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";

export interface ResolvedAddress {
  readonly address: string;
  readonly family: number;
}

/** Turns a host name into addresses; rejects when there are none. */
export type Lookup = (host: string) => Promise<readonly ResolvedAddress[]>;

/** For one name, its search domains included. */
const ANSWER_MS = 8_000;
/** For one name server's first answer; c-ares doubles it at each further try. */
const SERVER_MS = 1_000;
const TRIES = 2;
/** How long what the two files say is taken as read. */
const FILES_KEPT_MS = 5_000;
const MAX_SEARCH_DOMAINS = 6;

export interface NamesOptions {
  /** Name servers instead of the system's. */
  readonly servers?: readonly string[];
  readonly readFile?: (path: string) => string;
}

/** Attempts that want the same name share one question. */
export function sharedLookup(options: NamesOptions = {}): Lookup {
  const asked = new Map<string, Promise<readonly ResolvedAddress[]>>();
  const files = systemFiles(options.readFile ?? ((path) => readFileSync(path, "utf8")));
  return (host) => {
    const running = asked.get(host);
    if (running !== undefined) return running;
    const answer = resolve(host.toLowerCase(), files(), options.servers).finally(() => asked.delete(host));
    asked.set(host, answer);
    return answer;
  };
}

async function resolve(
  host: string,
  { hosts, search, ndots }: SystemFiles,
  servers: readonly string[] | undefined,
): Promise<readonly ResolvedAddress[]> {
  const listed = hosts.get(host);
  if (listed !== undefined) return listed;
  if (host === "localhost" || host.endsWith(".localhost")) return LOOPBACK;
  const resolver = new Resolver({ timeout: SERVER_MS, tries: TRIES });
  if (servers !== undefined) resolver.setServers(servers);
  const ending = setTimeout(() => resolver.cancel(), ANSWER_MS);
  const qualified = search.map((domain) => `${host}.${domain}`);
  const names = host.split(".").length > ndots ? [host, ...qualified] : [...qualified, host];
  try {
    let failure: unknown;
    for (const name of names) {
      try {
        return await ask(resolver, name);
      } catch (error) {
        failure ??= error;
        // Only that there is no such name is a reason to try it elsewhere.
        if (!NOT_THERE.has((error as NodeJS.ErrnoException).code ?? "")) break;
      }
    }
    throw failure;
  } finally {
    clearTimeout(ending);
  }
}

const LOOPBACK: readonly ResolvedAddress[] = [
  { address: "127.0.0.1", family: 4 },
  { address: "::1", family: 6 },
];
const NOT_THERE: ReadonlySet<string> = new Set(["ENOTFOUND", "ENODATA"]);

/** @throws what the IPv4 question failed with, when neither brought an address. */
async function ask(resolver: Resolver, name: string): Promise<readonly ResolvedAddress[]> {
  const [v4, v6] = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
  const found = [
    ...(v4.status === "fulfilled" ? v4.value.map((address) => ({ address, family: 4 })) : []),
    ...(v6.status === "fulfilled" ? v6.value.map((address) => ({ address, family: 6 })) : []),
  ];
  if (found.length > 0) return found;
  throw v4.status === "rejected" ? v4.reason : new Error(`${name} has no address`);
}

interface SystemFiles {
  readonly hosts: ReadonlyMap<string, readonly ResolvedAddress[]>;
  readonly search: readonly string[];
  /** A name with fewer dots is tried with the search domains first. */
  readonly ndots: number;
}

function systemFiles(read: (path: string) => string): () => SystemFiles {
  let kept: { readonly at: number; readonly files: SystemFiles } | null = null;
  const lines = (path: string): string[][] => {
    try {
      return read(path)
        .split("\n")
        .map((line) =>
          line
            .replace(/[#;].*$/, "")
            .trim()
            .split(/\s+/),
        );
    } catch {
      return [];
    }
  };
  return () => {
    if (kept !== null && performance.now() - kept.at < FILES_KEPT_MS) return kept.files;
    const files = { hosts: hostsIn(lines("/etc/hosts")), ...searchIn(lines("/etc/resolv.conf")) };
    kept = { at: performance.now(), files };
    return files;
  };
}

function hostsIn(lines: readonly string[][]): SystemFiles["hosts"] {
  const hosts = new Map<string, ResolvedAddress[]>();
  for (const [address = "", ...names] of lines) {
    const family = isIP(address);
    if (family === 0) continue;
    for (const name of names) {
      const known = hosts.get(name.toLowerCase()) ?? [];
      hosts.set(name.toLowerCase(), [...known, { address, family }]);
    }
  }
  return hosts;
}

function searchIn(lines: readonly string[][]): Pick<SystemFiles, "search" | "ndots"> {
  const search = lines.findLast(([word]) => word === "search" || word === "domain")?.slice(1) ?? [];
  const options = lines.filter(([word]) => word === "options").flat();
  const ndots = Number(options.findLast((option) => /^ndots:\d+$/.test(option))?.slice("ndots:".length) ?? 1);
  return { search: search.slice(0, MAX_SEARCH_DOMAINS), ndots };
}
