import { lookup as systemLookup } from "node:dns/promises";
import { isIP } from "node:net";
import { type AllowedHosts, checkAddress, checkWebhookUrl, hostOf, portOf } from "./address-policy.ts";

export interface ResolvedAddress {
  readonly address: string;
  readonly family: number;
}

/** Turns a host name into addresses; rejects when there are none. */
export type Lookup = (host: string) => Promise<readonly ResolvedAddress[]>;

/** The receiver's address is one where webhooks may not go. Nothing was sent. */
export class AddressRefusedError extends Error {}

/**
 * The system's resolver, which also reads /etc/hosts. Node runs it on two threads, and a dead name server holds one
 * for seconds, so attempts that want the same name share one question.
 */
export function sharedLookup(): Lookup {
  const asked = new Map<string, Promise<readonly ResolvedAddress[]>>();
  return (host) => {
    const running = asked.get(host);
    if (running !== undefined) return running;
    const answer = systemLookup(host, { all: true }).finally(() => asked.delete(host));
    asked.set(host, answer);
    return answer;
  };
}

/**
 * The addresses to connect to for `url`: those of its host, less those that are refused. The caller must connect to
 * these and resolve nothing again, or a name could lead elsewhere the second time (DNS rebinding).
 *
 * @throws {AddressRefusedError} when the URL, or every address of its name, is refused.
 */
export async function allowedAddresses(
  url: string,
  allowed: AllowedHosts,
  lookup: Lookup,
): Promise<readonly ResolvedAddress[]> {
  const refusal = checkWebhookUrl(url, allowed);
  if (refusal !== null) throw new AddressRefusedError(refusal);
  const target = new URL(url);
  const host = hostOf(target);
  const family = isIP(host);
  if (family !== 0) return [{ address: host, family }];

  const refusals: string[] = [];
  const accepted = (await lookup(host)).filter(({ address }) => {
    const reason = checkAddress(address, host, portOf(target), allowed);
    if (reason !== null) refusals.push(reason);
    return reason === null;
  });
  if (accepted.length > 0) return accepted;
  throw new AddressRefusedError(refusals[0] ?? `${host} has no address`);
}
