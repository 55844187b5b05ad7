/** Why something waits, was granted, has ended, or is not granted: the daemon says it, in words. */
import { visible } from "../../platform/printable.ts";
import { type CommonOptions, contextOf } from "../context.ts";
import { eitherNamed } from "../names.ts";

export async function why(name: string, options: CommonOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  const list = await client.list();
  const named = await eitherNamed(name, list, client);
  const answer = "gpu" in named ? await client.gpuWhy(named.uuid) : await client.why(named.id);
  if (terminal.json) terminal.data(answer);
  else for (const line of answer.why) terminal.line(visible(line));
}
