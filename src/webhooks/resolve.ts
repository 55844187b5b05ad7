import { isIP } from "node:net";
import { type AllowedHosts, checkAddress, checkWebhookUrl, hostOf, portOf } from "./address-policy.ts";
import type { Lookup, ResolvedAddress } from "./names.ts";

export type { Lookup, ResolvedAddress } from "./names.ts";

/** The receiver's address is one where webhooks may not go. Nothing was sent. */
export class AddressRefusedError extends Error {}

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
