/**
 * Where webhooks may go. The same rules are applied twice: to the URL when a request is submitted, and to the
 * address when a connection is about to be opened, because a name may resolve to anything by then.
 *
 * 1. Judged is what the URL parser and the resolver made of a text, never the text: `http://0x7f.1/` is 127.0.0.1.
 * 2. What no rule allows is refused; an address of no known kind is `reserved`, never external.
 * 3. The daemon's own port is no receiver, whatever is allowed: its answers would be those of a caller on this machine.
 * 4. A rule for a name vouches for where that name leads, except to the addresses in {@link NEVER_BY_NAME}.
 */
import { BlockList, isIP } from "node:net";
import { networkInterfaces } from "node:os";

/** Characters in a webhook URL. */
export const MAX_WEBHOOK_URL_LENGTH = 2048;

type AddressKind =
  | "metadata"
  | "unspecified"
  | "loopback"
  | "private"
  | "link-local"
  | "shared"
  | "multicast"
  | "reserved"
  | "external";

const RANGES = ["external", "loopback", "private"] as const;
type Range = (typeof RANGES)[number];

/**
 * The first kind that matches counts. From IANA's special-purpose address registries (RFC 6890); the metadata
 * services of AWS, Azure, Google and Alibaba that are not link-local are from those clouds' manuals.
 */
const BLOCKS: readonly (readonly [AddressKind, readonly string[]])[] = [
  ["metadata", ["168.63.129.16/32", "100.100.100.200/32", "fd00:ec2::254/128", "fd20:ce::254/128"]],
  ["unspecified", ["0.0.0.0/8", "::/128"]],
  ["loopback", ["127.0.0.0/8", "::1/128"]],
  ["private", ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]],
  ["link-local", ["169.254.0.0/16", "fe80::/10"]],
  ["shared", ["100.64.0.0/10"]],
  ["multicast", ["224.0.0.0/4", "ff00::/8"]],
  [
    "reserved",
    [
      // Protocol assignments, documentation, 6to4 relays, benchmarks, class E.
      ...["192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"],
      "240.0.0.0/4",
      // Protocol assignments with Teredo, documentation, 6to4: the tunnels carry an IPv4 address of anybody's choice.
      ...["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"],
    ],
  ],
];

let kinds: readonly (readonly [AddressKind, BlockList])[] | null = null;

/** Made when an address is first looked at: the start does not wait for it. */
function kindsWithBlocks(): NonNullable<typeof kinds> {
  kinds ??= BLOCKS.map(([kind, cidrs]) => {
    const block = new BlockList();
    for (const cidr of cidrs) addCidr(block, cidr);
    return [kind, block];
  });
  return kinds;
}

/** All of IPv6 that is handed out. Not in it: IPv4-mapped addresses, NAT64 (64:ff9b::/96), site-local ones. */
const GLOBAL_UNICAST_V6 = new BlockList();
GLOBAL_UNICAST_V6.addSubnet("2000::", 3, "ipv6");

const IN_WORDS: { readonly [kind in AddressKind]: string } = {
  metadata: "a cloud's metadata service",
  unspecified: "the unspecified address",
  loopback: "loopback",
  private: "private",
  "link-local": "link-local",
  shared: "carrier-grade NAT space",
  multicast: "multicast",
  reserved: "reserved, not a public address",
  external: "external",
};

/** Hardly any receiver listens there on purpose; one that does is allowed by its address. */
const NEVER_BY_NAME: ReadonlySet<AddressKind> = new Set(["metadata", "unspecified", "link-local", "multicast"]);

/** Underscores are no letters of a host name, but container names have them and resolve. */
const HOST_NAME = /^(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/;

interface NameRule {
  readonly name: string;
  /** The rule is for every name under `name`, and not for `name` itself. */
  readonly subdomains: boolean;
  /** `null`: any port. */
  readonly port: number | null;
}

interface AddressRule {
  readonly block: BlockList;
  /** `null`: any port. */
  readonly port: number | null;
}

/** The parsed `webhooks.allowed_hosts`. */
export interface AllowedHosts {
  readonly ranges: ReadonlySet<Range>;
  readonly names: readonly NameRule[];
  readonly addresses: readonly AddressRule[];
  /** Where the daemon itself listens; `null`: not yet. */
  readonly ownPort: number | null;
}

/** Entries of `webhooks.allowed_hosts` that mean nothing, all of them at once. */
export class InvalidAllowedHostsError extends Error {
  readonly problems: readonly { readonly index: number; readonly message: string }[];

  constructor(problems: InvalidAllowedHostsError["problems"]) {
    super(problems.map(({ message }) => message).join("; "));
    this.name = "InvalidAllowedHostsError";
    this.problems = problems;
  }
}

/**
 * Reads the entries of `webhooks.allowed_hosts`: `external` (any public address), `loopback`, `private` (RFC 1918
 * and unique local IPv6), an address, a CIDR block, a host name, or `*.example.org` for every name below it. A name
 * or an address may end in `:port`. No entries: no webhook goes anywhere.
 *
 * @throws {InvalidAllowedHostsError} with every entry that cannot be read.
 */
export function parseAllowedHosts(entries: readonly string[], ownPort: number | null = null): AllowedHosts {
  const ranges = new Set<Range>();
  const names: NameRule[] = [];
  const addresses: AddressRule[] = [];
  const problems: { index: number; message: string }[] = [];
  entries.forEach((entry, index) => {
    const rule = parseEntry(entry.trim().toLowerCase());
    if (typeof rule === "string") problems.push({ index, message: `${JSON.stringify(entry)} ${rule}` });
    else if ("range" in rule) ranges.add(rule.range);
    else if ("name" in rule) names.push(rule);
    else addresses.push(rule);
  });
  if (problems.length > 0) throw new InvalidAllowedHostsError(problems);
  return { ranges, names, addresses, ownPort };
}

/**
 * Whether a webhook may be sent to `url`, as far as can be said without resolving its name. A name that might lead
 * to an allowed address passes here, and is judged by {@link checkAddress} when the webhook leaves.
 *
 * @returns `null` when it may, otherwise the reason in words.
 */
export function checkWebhookUrl(url: string, allowed: AllowedHosts): string | null {
  if (url.length > MAX_WEBHOOK_URL_LENGTH) return `the URL is longer than ${MAX_WEBHOOK_URL_LENGTH} characters`;
  if (!URL.canParse(url)) return "not a URL";
  const target = new URL(url);
  if (target.protocol !== "http:" && target.protocol !== "https:") {
    return `the scheme ${target.protocol.slice(0, -1)} is not http or https`;
  }
  if (target.username !== "" || target.password !== "") return "the URL carries a user name or a password";
  const port = portOf(target);
  if (port === 0) return "nothing can listen on port 0";
  const host = hostOf(target);
  if (isIP(host) !== 0) return checkAddress(host, null, port, allowed);
  if (!HOST_NAME.test(host)) return `${JSON.stringify(host)} is not a host name`;
  return checkName(host, port, allowed);
}

/**
 * Whether a connection to `address` may be opened. `host` is the name that resolved to it, `null` for a literal.
 *
 * @returns `null` when it may, otherwise the reason in words.
 */
export function checkAddress(address: string, host: string | null, port: number, allowed: AllowedHosts): string | null {
  const kind = kindOf(address);
  if (port === allowed.ownPort && isOwnAddress(address, kind)) return "it is the daemon's own port";
  if (host !== null && nameAllowed(host, port, allowed) && !NEVER_BY_NAME.has(kind)) return null;
  if ((allowed.ranges as ReadonlySet<string>).has(kind)) return null;
  if (addressListed(address, port, allowed)) return null;
  return `${address} is ${IN_WORDS[kind]}, which webhooks.allowed_hosts does not allow`;
}

/** The host of a URL as the resolver takes it: no brackets, no final dot. */
export function hostOf(target: URL): string {
  const host = target.hostname;
  if (host.startsWith("[")) return host.slice(1, -1);
  return host.endsWith(".") ? host.slice(0, -1) : host;
}

export function portOf(target: URL): number {
  if (target.port !== "") return Number(target.port);
  return target.protocol === "https:" ? 443 : 80;
}

function isOwnAddress(address: string, kind: AddressKind): boolean {
  if (kind === "loopback" || kind === "unspecified") return true;
  return Object.values(networkInterfaces()).some((own) => own?.some((one) => one.address === address));
}

function checkName(host: string, port: number, allowed: AllowedHosts): string | null {
  if (nameAllowed(host, port, allowed)) return null;
  // RFC 6761, section 6.3: these names are loopback wherever they are resolved.
  if (host === "localhost" || host.endsWith(".localhost")) {
    if (allowed.ranges.has("loopback")) return null;
    if (addressListed("127.0.0.1", port, allowed) || addressListed("::1", port, allowed)) return null;
    return `${host} is loopback, which webhooks.allowed_hosts does not allow`;
  }
  if (allowed.ranges.size > 0 || allowed.addresses.some((rule) => rule.port === null || rule.port === port))
    return null;
  return `${host}:${port} is not in webhooks.allowed_hosts`;
}

function nameAllowed(host: string, port: number, allowed: AllowedHosts): boolean {
  return allowed.names.some(
    (rule) =>
      (rule.port === null || rule.port === port) &&
      (rule.subdomains ? host.endsWith(`.${rule.name}`) : host === rule.name),
  );
}

function addressListed(address: string, port: number, allowed: AllowedHosts): boolean {
  return allowed.addresses.some(
    (rule) => (rule.port === null || rule.port === port) && rule.block.check(address, familyOf(address)),
  );
}

function kindOf(address: string): AddressKind {
  const family = familyOf(address);
  // A block of IPv4 also matches the IPv4-mapped form of its addresses.
  const special = kindsWithBlocks().find(([, block]) => block.check(address, family));
  if (special !== undefined) return special[0];
  return family === "ipv4" || GLOBAL_UNICAST_V6.check(address, "ipv6") ? "external" : "reserved";
}

function familyOf(address: string): "ipv4" | "ipv6" {
  return isIP(address) === 4 ? "ipv4" : "ipv6";
}

/** @returns the rule, or what is wrong with the entry. */
function parseEntry(entry: string): { readonly range: Range } | NameRule | AddressRule | string {
  const range = RANGES.find((word) => word === entry);
  if (range !== undefined) return { range };
  if (entry.includes("/")) return parseCidr(entry);
  if (isIP(entry) !== 0) return addressRule(entry, null);

  const parts = /^(?<host>\[[^\]]*\]|[^:]*)(?::(?<port>\d{1,5}))?$/.exec(entry)?.groups;
  if (parts?.host === undefined || parts.host === "") return "is neither a host, host:port, nor a CIDR block";
  const port = parts.port === undefined ? null : Number(parts.port);
  if (port !== null && (port < 1 || port > 65_535)) return "has a port outside 1 to 65535";
  if (RANGES.some((word) => word === parts.host)) return `cannot have a port: "${parts.host}" is for all of them`;

  const bare = parts.host.replace(/^\[(.*)\]$/, "$1");
  if (isIP(bare) !== 0) return addressRule(bare, port);
  const subdomains = parts.host.startsWith("*.");
  const written = subdomains ? parts.host.slice(2) : parts.host;
  const target = URL.canParse(`http://${written}/`) ? new URL(`http://${written}/`) : null;
  // The parser would take a user name, a query or a fragment along with the host.
  if (target === null || target.href !== `http://${target.hostname}/`) return "is not a host name";
  const name = hostOf(target);
  if (isIP(name) !== 0) return `is a number in disguise: write ${name}`;
  if (!HOST_NAME.test(name)) return "is not a host name";
  return { name, subdomains, port };
}

function parseCidr(entry: string): AddressRule | string {
  const block = new BlockList();
  return addCidr(block, entry) ? { block, port: null } : "is not a CIDR block such as 10.1.0.0/16";
}

function addressRule(address: string, port: number | null): AddressRule | string {
  if (address.includes("%")) return "has a zone, which is no part of a URL";
  const block = new BlockList();
  block.addAddress(address, familyOf(address));
  return { block, port };
}

/** @returns false when `cidr` is not one; nothing was added then. */
function addCidr(block: BlockList, cidr: string): boolean {
  const [network = "", length = "", ...rest] = cidr.split("/");
  const family = isIP(network);
  const bits = Number(length);
  if (family === 0 || network.includes("%") || rest.length > 0) return false;
  if (!/^\d{1,3}$/.test(length) || bits > (family === 4 ? 32 : 128)) return false;
  block.addSubnet(network, bits, familyOf(network));
  return true;
}
