/** The tools that change nothing (server.ts, 2). */
import type { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { z } from "zod";
import type { Client } from "../client/client.ts";
import type { List } from "../client/types.ts";
import { answered, deviceView, leaseView } from "./answers.ts";
import { askFields, bodyOf } from "./asks.ts";

const READS = { readOnlyHint: true, openWorldHint: false } as const;

export function readingTools(server: McpServer, client: Client): void {
  server.registerTool(
    "list",
    {
      description: "All GPUs with their state and holders, the leases, and the queue in serving order",
      inputSchema: z.strictObject({}),
      annotations: READS,
    },
    () => answered(async () => listView(await client.list())),
  );
  server.registerTool(
    "plan",
    {
      description:
        "What an allocate would come to now: granted, queued (position, why, when) or refused. Changes nothing",
      inputSchema: z.strictObject(askFields),
      annotations: READS,
    },
    (ask) => answered(() => client.plan(bodyOf(ask))),
  );
  server.registerTool(
    "explain",
    {
      description:
        "Why a GPU is not free, or why a request waits, was granted or has ended. Takes an index or UUID of a GPU, or " +
        "the id of an allocation",
      inputSchema: z.strictObject({ of: z.string().min(1).max(256).describe('such as "3", "GPU-..." or an id') }),
      annotations: READS,
    },
    ({ of }) => answered(() => explain(of, client)),
  );
}

function listView({ gpus, allocations, queue, simulated, drain }: List) {
  return {
    simulated,
    drain,
    gpus: gpus.map(deviceView),
    leases: allocations.map(leaseView),
    queue,
  };
}

async function explain(of: string, client: Client) {
  const { gpus } = await client.list();
  const gpu = gpus.find(({ id, uuid }) => uuid === of || (id !== null && String(id) === of));
  return gpu === undefined ? client.why(of) : client.gpuWhy(gpu.uuid);
}
