/** Why something waits, was granted, has ended, or is not granted: the daemon says it, in words. */
import { visible } from "../../platform/printable.ts";
import { type CommonOptions, contextOf } from "../context.ts";
import { allocationNamed, gpuNamed } from "../names.ts";
import { looksLikeGpu } from "./look.ts";

export async function why(name: string, options: CommonOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  const list = await client.list();
  const answer = looksLikeGpu(name)
    ? await client.gpuWhy(gpuNamed(name, list.gpus).uuid)
    : await client.why(await allocationNamed(name, client, list));
  if (terminal.json) terminal.data(answer);
  else for (const line of answer.why) terminal.line(visible(line));
}
