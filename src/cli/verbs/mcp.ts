/** `gpuo mcp`: the daemon for programs that act on their own. */
import { serveMcp } from "../../mcp/server.ts";
import { type CommonOptions, contextOf } from "../context.ts";
import { VERSION } from "../version.ts";

const PATIENCE_MS = 10_000;

/** stdout is the protocol's: whatever there is to say goes to stderr. */
export async function mcp(options: CommonOptions & { readonly allowAllocate?: boolean }): Promise<void> {
  const { client } = await contextOf(options, PATIENCE_MS);
  await serveMcp({ client, mayAllocate: options.allowAllocate === true, version: VERSION });
}
