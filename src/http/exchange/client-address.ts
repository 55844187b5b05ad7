/** Where a request comes from: behind proxies that the settings trust, the address that they say. */
import type { IncomingMessage } from "node:http";
import { BlockList, isIP } from "node:net";
import { countedAddress } from "./limits.ts";

/** Addresses in one `X-Forwarded-For` that are looked at. */
const MAX_HOPS = 16;

const IPV6_LOOPBACK = countedAddress("::1");

/** Whether a client's address, as {@link addressOf} tells it, is of this host: its unix socket, or a loopback address. */
export function isOfThisHost(address: string): boolean {
  return address === "local" || address.startsWith("127.") || address === IPV6_LOOPBACK;
}

/** @param trusted addresses and CIDR blocks. */
export function addressOf(trusted: readonly string[]): (req: IncomingMessage) => string {
  const proxies = new BlockList();
  for (const entry of trusted) {
    const [network = "", length] = entry.split("/");
    const family = isIP(network) === 6 ? "ipv6" : "ipv4";
    if (length === undefined) proxies.addAddress(network, family);
    else proxies.addSubnet(network, Number(length), family);
  }
  const isProxy = (address: string) => {
    const family = isIP(address);
    return family !== 0 && proxies.check(address, family === 6 ? "ipv6" : "ipv4");
  };
  return ({ socket, headers }) => {
    const peer = socket.remoteAddress ?? "";
    if (trusted.length === 0 || !isProxy(peer)) return countedAddress(socket.remoteAddress);
    // Each proxy adds whom it heard it from, so the last that is no proxy of ours is the client; before it, anybody wrote.
    const said = String(headers["x-forwarded-for"] ?? "").split(",");
    const hops = said.slice(-MAX_HOPS).map((hop) => hop.trim());
    const client = hops.findLast((hop) => !isProxy(hop));
    return countedAddress(client !== undefined && isIP(client) !== 0 ? client : peer);
  };
}
