/** Whether the daemon knows whose the caller's leases are. */
import type { Client } from "../client/client.ts";
import type { Me } from "../client/types.ts";
import { UsageError } from "./exits.ts";

/** The principal of those of whom the daemon knows nothing. */
export const ANONYMOUS = "anonymous";

/** @throws UsageError where nobody says who calls: everybody is one principal then, and what it has is everybody's. */
export async function known(client: Client): Promise<Me> {
  const me = await client.me();
  if (me.keyed || me.principal !== ANONYMOUS) return me;
  throw new UsageError("--mine: the daemon asks for no keys, so it does not know what is yours; name what you mean");
}
