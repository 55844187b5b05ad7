/** The tools that lease, which there are only if the user said so (server.ts, 3 and 4). */
import { randomUUID } from "node:crypto";
import type { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { z } from "zod";
import type { Client } from "../client/client.ts";
import { answered, heldView, recordView } from "./answers.ts";
import { askFields, bodyOf } from "./asks.ts";

const DEFAULT_TTL = "10m";
/** Less than the minute for which clients wait for an answer. */
const LONGEST_WAIT_S = 50;

const CHANGES = { readOnlyHint: false, openWorldHint: false } as const;

export function allocatingTools(server: McpServer, client: Client): void {
  /** Ids of what this server has asked for, with the fencing token of what it holds. */
  const own = new Map<string, number | undefined>();
  const ofOwn = (id: string) => {
    if (!own.has(id)) throw new Error(`${id} was not allocated through this server`);
    return own.get(id);
  };
  const id = z.string().min(1).max(256).describe("as allocate gave it");

  server.registerTool(
    "allocate",
    {
      description:
        `Leases GPUs, or queues for them. A lease ends after its TTL (default ${DEFAULT_TTL}) unless it is renewed before. ` +
        "Set its env for what is to use the GPUs",
      inputSchema: z.strictObject({
        ...askFields,
        queue: z.boolean().optional().describe("false: refuse rather than wait. Default true"),
      }),
      annotations: { ...CHANGES, destructiveHint: false },
    },
    ({ queue, ...ask }) =>
      answered(async () => {
        const body = { ...bodyOf(ask), ttl: ask.ttl ?? DEFAULT_TTL, ...(queue === undefined ? {} : { queue }) };
        const answer = await client.allocate(body, randomUUID());
        own.set(answer.id, answer.status === "allocated" ? answer.fencing_token : undefined);
        return answer.status === "allocated" ? heldView(answer) : answer;
      }),
  );
  server.registerTool(
    "wait",
    {
      description: "Waits for a queued request, and gives its record: leased, or still queued. To be called again then",
      inputSchema: z.strictObject({
        id,
        seconds: z.number().int().min(0).max(LONGEST_WAIT_S).default(LONGEST_WAIT_S),
      }),
      annotations: { ...CHANGES, destructiveHint: false, idempotentHint: true },
    },
    ({ id, seconds }, { signal }) =>
      answered(async () => {
        ofOwn(id);
        const record = await waited(client, id, seconds * 1_000, signal);
        own.set(id, record.fencing_token);
        return record.status === "queued" || record.status === "ended" ? recordView(record) : heldView(record);
      }),
  );
  server.registerTool(
    "renew",
    {
      description: "Puts the end of a lease off by its TTL",
      inputSchema: z.strictObject({ id }),
      annotations: { ...CHANGES, destructiveHint: false, idempotentHint: true },
    },
    ({ id }) => answered(async () => recordView(await client.renew(id, ofOwn(id)))),
  );
  server.registerTool(
    "release",
    {
      description: "Gives the GPUs of a lease back, or cancels a request that waits",
      inputSchema: z.strictObject({ id }),
      annotations: { ...CHANGES, destructiveHint: true, idempotentHint: true },
    },
    ({ id }) => answered(async () => recordView(await client.remove(id, ofOwn(id)))),
  );
}

/** One long poll is held for no longer than the daemon likes: as many as the time is for. */
async function waited(client: Client, id: string, forMs: number, signal: AbortSignal) {
  const until = performance.now() + forMs;
  for (;;) {
    const record = await client.record(id, { waitMs: Math.max(0, Math.ceil(until - performance.now())), signal });
    if (record.status !== "queued" || performance.now() >= until) return record;
  }
}
